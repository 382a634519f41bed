"""Which faces a step shows, and what is drawn for each: the same jitted functions for both inputs.

Everything depends on (seed, epoch, place in the epoch) alone, whatever the batch, the number of steps in one program,
the number of devices or the input.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

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

CHOICE = name_hash("")  # what is folded into a face's key to choose among its crops: no augmentation has this name


class TrainingFaces(NamedTuple):
    """The training faces; on several devices `images` are split over them, the rest is on each."""

    images: UInt8[Array | np.ndarray, "n side side 3"]
    points: Float[Array | np.ndarray, "n points 2"]  # pixels of the image
    visible: Bool[Array | np.ndarray, "n points"]
    crop_to_image: Float[Array | np.ndarray, "n draws 2 3"]  # crops without augmentation; one is drawn where several
    order: Int[Array | np.ndarray, "duplicated"]  # faces of an epoch, duplicates included
    flip: Int[Array | np.ndarray, "points"]  # the scheme's permutation


class BatchIndices(NamedTuple):
    """Which faces a step shows, and where in the training it stands; with steps as a leading axis for several."""

    index: Int[Array | np.ndarray, "*steps batch"]
    epoch: Int[Array | np.ndarray, "*steps batch"]
    place: Int[Array | np.ndarray, "*steps batch"]


class PlacedFaces(NamedTuple):
    """What is drawn for the faces of a batch: all of it but the pixels."""

    points: Points  # pixels of the augmented crop
    visible: Visible
    crop_to_image: Affine  # from pixels of the augmented crops, `[batch, 2, 3]`
    mirrored: Bool[Array | np.ndarray, "batch"]
    params: AugmentParams


class CutBatch(NamedTuple):
    """A batch, and what it was cut from."""

    batch: Batch
    index: Int[Array | np.ndarray, "batch"]  # of the faces
    crop_to_image: Affine  # `[batch, 2, 3]`
    mirrored: Bool[Array | np.ndarray, "batch"]


def shuffled_epochs(
    order: Int[Array | np.ndarray, "duplicated"],
    epoch: Int[Array | np.ndarray, ""] | np.int32,
    *,
    seed: int,
    epochs: int,
) -> Int[Array, "row"]:
    """The faces of so many epochs from `epoch` on, one after the other: each is a permutation of `order`."""
    key = jax.random.key(seed)

    def one(number: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, number), order)

    return jax.lax.map(one, epoch + jnp.arange(epochs, dtype=jnp.int32)).reshape(-1)


def batch_indices(
    row: Int[Array, "row"],
    epoch: Int[Array, ""] | np.int32,
    place: Int[Array, ""] | np.int32,
    *,
    batch_size: int,
    length: int,
    steps: int,
) -> BatchIndices:
    """The faces of `steps` steps `[steps, batch]` that begin at `place` of `epoch`, of `length` faces each; `row` holds
    that epoch and those that follow."""
    count = steps * batch_size
    at = place + jnp.arange(count, dtype=jnp.int32)
    shape = (steps, batch_size)
    return BatchIndices(
        index=jax.lax.dynamic_slice_in_dim(row, place, count).reshape(shape),
        epoch=(epoch + at // length).reshape(shape),
        place=(at % length).reshape(shape),
    )


class EpochSampler:
    """The faces of steps by their numbers. An epoch is shuffled when its first step comes, and not with every step:
    sorting an epoch of many duplicates can take a CPU as long as a small step. Threads may share a sampler.

    Args:
      order: the faces of an epoch `[duplicated]`, each as often as it comes.
      batch_size: faces in a step.
      seed: of the shuffling.
    """

    def __init__(self, order: Int[np.ndarray, "duplicated"], *, batch_size: int, seed: int):
        self._batch_size, self._length = batch_size, len(order)
        shuffle = jax.jit(functools.partial(shuffled_epochs, np.asarray(order), seed=seed), static_argnames="epochs")
        self._row = functools.lru_cache(maxsize=2)(lambda epoch, epochs: shuffle(np.int32(epoch), epochs=epochs))
        indices = functools.partial(batch_indices, batch_size=batch_size, length=self._length)
        self._indices = jax.jit(indices, static_argnames="steps")

    def __call__(self, first: int, steps: int) -> BatchIndices:
        """The faces of `steps` steps from step `first` (from 0) on."""
        epoch, place = divmod(first * self._batch_size, self._length)
        epochs = -(-steps * self._batch_size // self._length) + 1
        return self._indices(self._row(epoch, epochs), np.int32(epoch), np.int32(place), steps=steps)


def face_keys(epoch: Int[Array | np.ndarray, "batch"], place: Int[Array | np.ndarray, "batch"], *, seed: int) -> Array:
    """The keys `[batch]` of all that is drawn for the faces at these places."""
    key = jax.random.key(~seed % 2**32)
    return jax.vmap(lambda epoch, place: jax.random.fold_in(jax.random.fold_in(key, epoch), place))(epoch, place)


def place_faces(
    faces: TrainingFaces, indices: BatchIndices, *, augment: Sequence[Augmentation], size: int, seed: int
) -> PlacedFaces:
    """Draw for the faces at `indices` `[batch]`, and place their crops of `size` pixels and their points."""
    keys = face_keys(indices.epoch, indices.place, seed=seed)
    transforms = jnp.asarray(faces.crop_to_image)
    draws = transforms.shape[1]
    if draws > 1:
        uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, CHOICE), dtype=jnp.float32))(keys)
        transforms = transforms[indices.index, (uniform * draws).astype(jnp.int32)]
    else:
        transforms = transforms[indices.index, 0]
    params = sample_params(augment, keys)
    matrices = apply_geometry(augment, params, count=len(keys))
    mirror = mirrored(matrices)
    placed = augmented_transforms(transforms, matrices, size=size)
    points, visible = points_in_crop(
        jnp.asarray(faces.points)[indices.index],
        jnp.asarray(faces.visible)[indices.index],
        placed,
        mirror,
        jnp.asarray(faces.flip),
    )
    return PlacedFaces(points=points, visible=visible, crop_to_image=placed, mirrored=mirror, params=params)
