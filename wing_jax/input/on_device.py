"""The on-device input: the training faces are in device memory, and each step makes its own batch there.

`wing_jax.input.sampling` chooses the faces and samples the augmentations. The functions here are those of one replica:
with `axis`, the name of a mapped axis over devices, each replica stores a part of the images and makes its part of the
batch.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from wing_jax.augment.augmentation import Augmentation, apply_pixels, check_augmentations
from wing_jax.augment.warp import warp
from wing_jax.data.face_crops import FaceCrops
from wing_jax.errors import InputError
from wing_jax.input.sampling import BatchIndices, CutBatch, FaceRows, place_faces
from wing_jax.runtime import devices
from wing_jax.types import Batch

LANES, TILE_ROWS = 128, 32  # a TPU stores uint8 arrays in tiles of 32 x 128
COPIED_BYTES = 5 * 2**30  # up to this size, each chip of a TPU has all images: a third of the memory of a v5e


class TrainingFaces(NamedTuple):
    """The training faces as arrays of one row per face.

    Several devices store parts of the images, or each stores all (`DeviceInput.split`); each stores the rest. No array
    but that of the images has more than two axes: a TPU pads the last two axes to tiles of 8 x 128.
    """

    images: UInt8[Array | np.ndarray, "n ..."]  # `pack_images`
    points: Float[Array | np.ndarray, "n coordinates"]  # x and y of each point, pixels of the image
    visible: Bool[Array | np.ndarray, "n points"]
    crop_to_image: Float[Array | np.ndarray, "n numbers"]  # 6 for each crop before augmentation, of which one is chosen
    order: Int[Array | np.ndarray, "duplicated"]  # face indices of an epoch, with duplicates
    flip: Int[Array | np.ndarray, "points"]  # the scheme's permutation

    def rows(self, index: Int[Array | np.ndarray, "batch"]) -> FaceRows:
        """Return the annotation of the faces at `index`."""
        count = len(index)
        return FaceRows(
            points=jnp.asarray(self.points)[index].reshape(count, -1, 2),
            visible=jnp.asarray(self.visible)[index],
            crop_to_image=jnp.asarray(self.crop_to_image)[index].reshape(count, -1, 2, 3),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceInput:
    """The settings of batches made on the device: the arguments of `wing_jax.input.on_host.HostInput` except arrays.

    Args:
      augment: the augmentations, in the order in which they are applied.
      size: side of the crop in pixels.
      image_size: side of the faces' images in pixels.
      batch_size: faces per batch, over all devices.
      supersample: samples per crop pixel and side (`wing_jax.augment.geometric.supersampling`).
      seed: the seed of shuffling and augmentation.
      split: whether each of several devices stores a part of the images (`splits_images`); else each stores all.

    Raises:
      InputError: two augmentations have the same name.
    """

    augment: tuple[Augmentation, ...]
    size: int
    image_size: int
    batch_size: int
    supersample: int
    seed: int
    split: bool = True

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
        local = indices if axis is None else BatchIndices(*(_local_part(values, axis) for values in indices))
        rows = jnp.asarray(faces.images)
        images = take_rows(rows, indices.index, axis=axis) if self.split else rows[local.index]
        images = unpack_images(images, size=self.image_size)
        placed = place_faces(
            faces.rows(local.index), local, flip=faces.flip, augment=self.augment, size=self.size, seed=self.seed
        )
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
    count = len(face_crops.points)
    return TrainingFaces(
        images=pack_images(images),
        points=face_crops.points.astype(np.float32).reshape(count, -1),
        visible=face_crops.visible,
        crop_to_image=crop_to_image.astype(np.float32).reshape(count, -1),
        order=order.astype(np.int32),
        flip=np.asarray(flip, np.int32),
    )


def pack_images(images: UInt8[np.ndarray, "n side side 3"]) -> UInt8[np.ndarray, "n ..."]:
    """Return images in the layout in which they are kept in device memory: unchanged, or for a TPU `[n, rows, 128]`.

    An image is then a whole number of tiles, so that a TPU reads it where it lies. Of images as they are, it makes a
    copy in another layout at the start of each program.
    """
    if devices.platform() != "tpu":
        return images
    shape = packed_shape(images.shape[1])
    packed = np.zeros((len(images), *shape), np.uint8)
    packed.reshape(len(images), -1)[:, : np.prod(images.shape[1:])] = images.reshape(len(images), -1)
    return packed


def splits_images(images_bytes: int) -> bool:
    """Return whether several devices should store parts of the images, which they exchange in each step.

    On a TPU, each chip stores a small data set as a whole, which saves the exchange.
    """
    return devices.platform() != "tpu" or images_bytes > COPIED_BYTES


def packed_shape(size: int) -> tuple[int, int]:
    """Return the shape of a packed image of `size` pixels a side."""
    tiles = -(-3 * size * size // (LANES * TILE_ROWS))
    return tiles * TILE_ROWS, LANES


def unpack_images(images: UInt8[Array, "n ..."], *, size: int) -> UInt8[Array, "n size size 3"]:
    """Return the images of `pack_images`, of `size` pixels a side, as they were."""
    if images.ndim == 4:
        return images
    return images.reshape(len(images), -1)[:, : 3 * size * size].reshape(-1, size, size, 3)


def take_rows(
    rows: UInt8[Array, "n ..."], index: Int[Array | np.ndarray, "batch"], *, axis: str | None = None
) -> UInt8[Array, "part ..."]:
    """Return `rows[index]`.

    With `axis`, `rows` is this replica's part of all rows, `index` is that of the complete batch, and the result is
    this replica's part of the batch: each replica contributes the rows that it stores, and the sums are scattered.
    """
    if axis is None or jax.lax.axis_size(axis) == 1:
        return rows[index]
    local = index - jax.lax.axis_index(axis) * len(rows)
    is_local = (local >= 0) & (local < len(rows))
    is_local = is_local.reshape(-1, *(1,) * (rows.ndim - 1))
    local_rows = jnp.where(is_local, rows[jnp.clip(local, 0, len(rows) - 1)], 0)
    return jax.lax.psum_scatter(local_rows, axis, tiled=True)


def _local_part(values: Array | np.ndarray, axis: str) -> Array:
    size = len(values) // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(axis) * size, size)
