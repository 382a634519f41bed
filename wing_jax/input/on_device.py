"""The on-device input: the training faces lie in device memory, and each step makes its own batch there.

What is shown and drawn is `wing_jax.input.sampling`'s. Functions are one replica's: with `axis`, the name of a mapped
axis over devices, each holds a part of the images and makes its part of the batch.
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
    """How batches are made on the device; the arguments of `wing_jax.input.on_host.HostInput` that are no arrays.

    Args:
      augment: the augmentations, in the order in which they are applied.
      size: the crop's side in pixels.
      batch_size: faces, on all devices together.
      supersample: samples a side for each pixel of the crop (`wing_jax.augment.geometric.supersampling`).
      seed: of all that is drawn.

    Raises:
      InputError: two augmentations have one name.
    """

    augment: tuple[Augmentation, ...]
    size: int
    batch_size: int
    supersample: int
    seed: int

    def __post_init__(self) -> None:
        check_augmentations(self.augment)

    def batch(self, faces: TrainingFaces, indices: BatchIndices, *, axis: str | None = None) -> Batch:
        """The batch of one step's `indices` `[batch]`; with `axis` this replica's equal part of it.

        Returns `images` uint8 `[batch, size, size, 3]`, `points` float32 `[batch, points, 2]` in pixels of the crop
        and `visible` bool `[batch, points]`.
        """
        return self.cut(faces, indices, axis=axis).batch

    def cut(self, faces: TrainingFaces, indices: BatchIndices, *, axis: str | None = None) -> CutBatch:
        """`batch`, with the faces and the crops it shows."""
        images = take_rows(jnp.asarray(faces.images), indices.index, axis=axis)
        mine = indices if axis is None else BatchIndices(*(_part(values, axis) for values in indices))
        placed = place_faces(faces, mine, augment=self.augment, size=self.size, seed=self.seed)
        crops = warp(images, placed.crop_to_image, size=self.size, supersample=self.supersample)
        batch = Batch(
            images=apply_pixels(self.augment, crops, placed.params),
            points=jnp.asarray(placed.points),
            visible=jnp.asarray(placed.visible),
        )
        return CutBatch(batch, mine.index, placed.crop_to_image, placed.mirrored)


def training_faces(
    face_crops: FaceCrops,
    crop_to_image: Float[np.ndarray, "n draws 2 3"],
    *,
    order: Int[np.ndarray, "duplicated"],
    flip: Int[np.ndarray, "points"],
    parts: int = 1,
) -> TrainingFaces:
    """The faces as arrays still on the host, the images padded by copies to split evenly in `parts`.

    Raises:
      InputError: the face crops are held as JPEG.
    """
    if not isinstance(face_crops.images, np.ndarray):
        raise InputError('data.store="jpeg" is decoded by the CPU: set input to "tfdata"')
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
    """`rows[index]`. With `axis`, `rows` are this replica's part of all rows, `index` is of all replicas' batch, and
    the answer is this replica's part of the batch: each gives what it holds, and the sum goes to where it is used."""
    if axis is None or jax.lax.axis_size(axis) == 1:
        return rows[index]
    local = index - jax.lax.axis_index(axis) * len(rows)
    held = (local >= 0) & (local < len(rows))
    found = jnp.where(held[:, None, None, None], rows[jnp.clip(local, 0, len(rows) - 1)], 0)
    return jax.lax.psum_scatter(found, axis, tiled=True)


def _part(values: Array | np.ndarray, axis: str) -> Array:
    size = len(values) // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(axis) * size, size)
