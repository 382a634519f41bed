"""The faces of each step and their random augmentations: the same jitted functions for both inputs.

Everything depends on (seed, epoch, place in the epoch) only, not on the batch size, the number of steps in one program,
the number of devices or the input.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from wing_jax.augment.augmentation import (
    Augmentation,
    AugmentParams,
    apply_geometry,
    mirrored,
    name_hash,
    sample_params,
)
from wing_jax.augment.geometric import augmented_transforms, points_in_crop
from wing_jax.types import Affine, Batch, Points, Visible

CHOICE = name_hash("")  # folded into a face's key to draw one of its crops; no augmentation has an empty name


class FaceRows(NamedTuple):
    """The annotation of the faces of a batch, before augmentation."""

    points: Float[Array | np.ndarray, "batch points 2"]  # pixels of the image
    visible: Bool[Array | np.ndarray, "batch points"]
    crop_to_image: Float[Array | np.ndarray, "batch crops_per_face 2 3"]  # crops, of which one is chosen


class BatchIndices(NamedTuple):
    """The faces of a step, with their epochs and places in the epoch. Several steps have a leading axis."""

    index: Int[Array | np.ndarray, "*steps batch"]
    epoch: Int[Array | np.ndarray, "*steps batch"]
    place: Int[Array | np.ndarray, "*steps batch"]


class PlacedFaces(NamedTuple):
    """The augmented faces of a batch, except their pixels."""

    points: Points  # pixels of the augmented crop
    visible: Visible
    crop_to_image: Affine  # from pixels of the augmented crops, `[batch, 2, 3]`
    mirrored: Bool[Array | np.ndarray, "batch"]
    params: AugmentParams


class CutBatch(NamedTuple):
    """A batch, with the faces and crops it was cut from."""

    batch: Batch
    index: Int[Array | np.ndarray, "batch"]  # face indices
    crop_to_image: Affine  # `[batch, 2, 3]`
    mirrored: Bool[Array | np.ndarray, "batch"]


def shuffled_epochs(
    order: Int[Array | np.ndarray, "duplicated"],
    epoch: Int[Array | np.ndarray, ""] | np.int32,
    *,
    seed: int,
    epochs: int,
) -> Int[Array, "row"]:
    """Return the faces of `epochs` epochs from `epoch` on, concatenated; each epoch is a permutation of `order`."""
    key = jax.random.key(seed)

    def shuffle(number: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, number), order)

    return jax.lax.map(shuffle, epoch + jnp.arange(epochs, dtype=jnp.int32)).reshape(-1)


def batch_indices(
    row: Int[Array, "row"],
    epoch: Int[Array, ""] | np.int32,
    place: Int[Array, ""] | np.int32,
    *,
    batch_size: int,
    length: int,
    steps: int,
) -> BatchIndices:
    """Return the faces `[steps, batch]` of `steps` steps, from `place` of `epoch` on.

    Epochs have `length` faces. `row` contains the faces of that epoch and the following ones.
    """
    count = steps * batch_size
    positions = place + jnp.arange(count, dtype=jnp.int32)
    shape = (steps, batch_size)
    return BatchIndices(
        index=jax.lax.dynamic_slice_in_dim(row, place, count).reshape(shape),
        epoch=(epoch + positions // length).reshape(shape),
        place=(positions % length).reshape(shape),
    )


class EpochSampler:
    """Returns the faces of any steps. Threads may share a sampler.

    An epoch is shuffled once, not in every step: for an epoch with many duplicates, shuffling on a CPU can take as long
    as a small step.

    Args:
      order: face indices of an epoch, with duplicates, `[duplicated]`.
      batch_size: faces per step.
      seed: the seed of the shuffling.
    """

    def __init__(self, order: Int[np.ndarray, "duplicated"], *, batch_size: int, seed: int):
        self._batch_size, self._length = batch_size, len(order)
        shuffle = jax.jit(functools.partial(shuffled_epochs, np.asarray(order), seed=seed), static_argnames="epochs")
        self._row = functools.lru_cache(maxsize=2)(lambda epoch, epochs: shuffle(np.int32(epoch), epochs=epochs))
        indices = functools.partial(batch_indices, batch_size=batch_size, length=self._length)
        self._indices = jax.jit(indices, static_argnames="steps")

    def __call__(self, first: int, steps: int) -> BatchIndices:
        """Return the faces of `steps` steps from step `first` (counted from 0) on."""
        epoch, place = divmod(first * self._batch_size, self._length)
        epochs = -(-steps * self._batch_size // self._length) + 1
        return self._indices(self._row(epoch, epochs), np.int32(epoch), np.int32(place), steps=steps)


def face_keys(epoch: Int[Array | np.ndarray, "batch"], place: Int[Array | np.ndarray, "batch"], *, seed: int) -> Array:
    """Return the random keys `[batch]` of the faces at these places."""
    key = jax.random.key(~seed % 2**32)
    return jax.vmap(lambda epoch, place: jax.random.fold_in(jax.random.fold_in(key, epoch), place))(epoch, place)


def place_faces(
    rows: FaceRows,
    indices: BatchIndices,
    *,
    flip: Int[Array | np.ndarray, "points"],
    augment: Sequence[Augmentation],
    size: int,
    seed: int,
) -> PlacedFaces:
    """Sample the augmentations of the faces at `indices` `[batch]`, whose annotation is `rows`.

    Also compute their crops of `size` pixels and their points. `flip` is the scheme's permutation.
    """
    keys = face_keys(indices.epoch, indices.place, seed=seed)
    transforms = jnp.asarray(rows.crop_to_image)
    count, crops_per_face = transforms.shape[:2]
    if crops_per_face > 1:
        uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, CHOICE), dtype=jnp.float32))(keys)
        transforms = transforms[jnp.arange(count), (uniform * crops_per_face).astype(jnp.int32)]
    else:
        transforms = transforms[:, 0]
    params = sample_params(augment, keys)
    matrices = apply_geometry(augment, params, count=len(keys))
    is_mirrored = mirrored(matrices)
    crop_to_image = augmented_transforms(transforms, matrices, size=size)
    points, visible = points_in_crop(
        jnp.asarray(rows.points), jnp.asarray(rows.visible), crop_to_image, is_mirrored, jnp.asarray(flip)
    )
    return PlacedFaces(points=points, visible=visible, crop_to_image=crop_to_image, mirrored=is_mirrored, params=params)
