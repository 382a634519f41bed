"""The on-device input: the training faces are in device memory, and each step makes its own batch there.

`wing_jax.input.sampling` chooses the faces and samples the augmentations. The functions here are those of one replica:
with `axis`, the name of a mapped axis over devices, each replica stores a part of the images and makes its part of the
batch.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from wing_jax.augment.augmentation import Augmentation, apply_pixels, check_augmentations
from wing_jax.augment.warp import warp
from wing_jax.data.face_crops import FaceCrops
from wing_jax.errors import InputError
from wing_jax.input.sampling import BatchIndices, CutBatch, TrainingFaces, place_faces
from wing_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceInput:
    """The settings of batches made on the device: the arguments of `wing_jax.input.on_host.HostInput` except arrays.

    Args:
      augment: the augmentations, in the order in which they are applied.
      size: side of the crop in pixels.
      batch_size: faces per batch, over all devices.
      supersample: samples per crop pixel and side (`wing_jax.augment.geometric.supersampling`).
      seed: the seed of shuffling and augmentation.

    Raises:
      InputError: two augmentations have the same name.
    """

    augment: tuple[Augmentation, ...]
    size: int
    batch_size: int
    supersample: int
    seed: int

    def __post_init__(self) -> None:
        check_augmentations(self.augment)

    def batch(self, faces: TrainingFaces, indices: BatchIndices, *, axis: str | None = None) -> Batch:
        """Make the batch of one step's `indices` `[batch]`; with `axis`, this replica's equal part of it.

        Returns `images` uint8 `[batch, size, size, 3]`, `points` float32 `[batch, points, 2]` in pixels of the crop
        and `visible` bool `[batch, points]`.
        """
        return self.cut(faces, indices, axis=axis).batch

    def cut(self, faces: TrainingFaces, indices: BatchIndices, *, axis: str | None = None) -> CutBatch:
        """Make the batch as `batch` does, and also return its face indices and crops."""
        images = take_rows(jnp.asarray(faces.images), indices.index, axis=axis)
        local = indices if axis is None else BatchIndices(*(_local_part(values, axis) for values in indices))
        placed = place_faces(faces, local, augment=self.augment, size=self.size, seed=self.seed)
        crops = warp(images, placed.crop_to_image, size=self.size, supersample=self.supersample)
        batch = Batch(
            images=apply_pixels(self.augment, crops, placed.params),
            points=jnp.asarray(placed.points),
            visible=jnp.asarray(placed.visible),
        )
        return CutBatch(batch, local.index, placed.crop_to_image, placed.mirrored)


def training_faces(
    face_crops: FaceCrops,
    crop_to_image: Float[np.ndarray, "n crops_per_face 2 3"],
    *,
    order: Int[np.ndarray, "duplicated"],
    flip: Int[np.ndarray, "points"],
    parts: int = 1,
) -> TrainingFaces:
    """Return the faces as host arrays, the images padded by copies so that they split evenly into `parts`.

    Raises:
      InputError: the face crops are stored as JPEG.
    """
    if not isinstance(face_crops.images, np.ndarray):
        raise InputError('store="jpeg" is decoded by the CPU: set input="tfdata", or store="pixels"')
    padding = -len(face_crops.images) % parts
    images = (
        np.concatenate([face_crops.images, face_crops.images[:1].repeat(padding, 0)]) if padding else face_crops.images
    )
    return TrainingFaces(
        images=images,
        points=face_crops.points.astype(np.float32),
        visible=face_crops.visible,
        crop_to_image=crop_to_image.astype(np.float32),
        order=order.astype(np.int32),
        flip=np.asarray(flip, np.int32),
    )


def take_rows(
    rows: UInt8[Array, "n side side 3"], index: Int[Array | np.ndarray, "batch"], *, axis: str | None = None
) -> UInt8[Array, "part side side 3"]:
    """Return `rows[index]`.

    With `axis`, `rows` is this replica's part of all rows, `index` is that of the complete batch, and the result is
    this replica's part of the batch: each replica contributes the rows that it stores, and the sums are scattered.
    """
    if axis is None or jax.lax.axis_size(axis) == 1:
        return rows[index]
    local = index - jax.lax.axis_index(axis) * len(rows)
    is_local = (local >= 0) & (local < len(rows))
    local_rows = jnp.where(is_local[:, None, None, None], rows[jnp.clip(local, 0, len(rows) - 1)], 0)
    return jax.lax.psum_scatter(local_rows, axis, tiled=True)


def _local_part(values: Array | np.ndarray, axis: str) -> Array:
    size = len(values) // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(axis) * size, size)
