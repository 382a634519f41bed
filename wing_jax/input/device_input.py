"""The on-device input: the training faces lie in device memory, and each step makes its own batch there.

Everything drawn depends on (seed, epoch, place in the epoch) alone, whatever the batch, the number of steps in one
program or the number of devices. Functions are one replica's: with `axis`, the name of a mapped axis over devices, each
holds a part of the images and makes its part of the batch.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from wing_jax.augment.perturb import CHOICE, UNIFORMS, draw, perturbed_frames, points_in_crop
from wing_jax.augment.photometric import photometric
from wing_jax.augment.warp import warp
from wing_jax.config import PerturbConfig
from wing_jax.data.chips import Chips
from wing_jax.errors import InputError


class DeviceFaces(NamedTuple):
    """The training faces; on several devices `images` are split over them, the rest is on each."""

    images: UInt8[Array | np.ndarray, "n side side 3"]
    points: Float[Array | np.ndarray, "n points 2"]  # pixels of the chip
    visible: Bool[Array | np.ndarray, "n points"]
    frames: Float[Array | np.ndarray, "n draws 2 3"]  # unperturbed crops, from crop pixels to chip pixels
    order: Int[Array | np.ndarray, "duplicated"]  # faces of an epoch, duplicates included
    flip: Int[Array | np.ndarray, "points"]  # the scheme's permutation


class Plan(NamedTuple):
    """Which faces a step shows, and where in the training it stands; with steps as a leading axis for several."""

    index: Int[Array, "*steps batch"]
    epoch: Int[Array, "*steps batch"]
    place: Int[Array, "*steps batch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceInput:
    """How batches are made; the arguments of `wing_jax.input.cutting.BatchCutter` that are no arrays."""

    perturb: PerturbConfig
    size: int  # pixels: the crop's side
    batch_size: int  # faces, on all devices together
    supersample: int
    seed: int

    def shuffled(
        self, order: Int[Array | np.ndarray, "duplicated"], epoch: Int[Array, ""] | np.int32, *, epochs: int
    ) -> Int[Array, "row"]:
        """The faces of so many epochs from `epoch` on, one after the other: each is a permutation of `order`."""
        key = jax.random.key(self.seed)

        def one(number: Array) -> Array:
            return jax.random.permutation(jax.random.fold_in(key, number), order)

        return jax.lax.map(one, epoch + jnp.arange(epochs, dtype=jnp.int32)).reshape(-1)

    def plan(
        self,
        row: Int[Array, "row"],
        epoch: Int[Array, ""] | np.int32,
        place: Int[Array, ""] | np.int32,
        *,
        length: int,
        steps: int,
    ) -> Plan:
        """The plan of `steps` steps `[steps, batch]` that begin at `place` of `epoch`, of `length` faces each; `row`
        holds that epoch and those that follow."""
        count = steps * self.batch_size
        at = place + jnp.arange(count, dtype=jnp.int32)
        shape = (steps, self.batch_size)
        return Plan(
            index=jax.lax.dynamic_slice_in_dim(row, place, count).reshape(shape),
            epoch=(epoch + at // length).reshape(shape),
            place=(at % length).reshape(shape),
        )

    def batch(self, faces: DeviceFaces, plan: Plan, *, axis: str | None = None) -> dict[str, Array]:
        """The batch of one step's plan `[batch]`; with `axis` this replica's equal part of it.

        Returns `images` uint8 `[batch, size, size, 3]`, `points` float32 `[batch, points, 2]` in pixels of the crop
        and `visible` bool `[batch, points]`.
        """
        images = take_rows(jnp.asarray(faces.images), plan.index, axis=axis)
        mine = plan if axis is None else Plan(*(_part(values, axis) for values in plan))
        keys = jax.vmap(self._key)(mine.epoch, mine.place)
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (UNIFORMS,), jnp.float32))(keys)
        drawn = draw(uniform, self.perturb)
        choice = (uniform[:, CHOICE] * faces.frames.shape[1]).astype(jnp.int32)
        placed = perturbed_frames(jnp.asarray(faces.frames)[mine.index, choice], drawn, size=self.size)
        points, visible = points_in_crop(
            jnp.asarray(faces.points)[mine.index],
            jnp.asarray(faces.visible)[mine.index],
            placed,
            drawn.flip,
            jnp.asarray(faces.flip),
        )
        crops = warp(images, placed, size=self.size, supersample=self.supersample)
        noise_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        return {
            "images": photometric(crops, drawn, self.perturb, keys=noise_keys),
            "points": jnp.asarray(points),
            "visible": jnp.asarray(visible),
        }

    def _key(self, epoch: Array, place: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(~self.seed % 2**32), epoch), place)


class Planner:
    """Plans of steps by their numbers. An epoch is shuffled when its first step comes, and not with every step:
    sorting an epoch of many duplicates can take a CPU as long as a small step."""

    def __init__(self, batches: DeviceInput, order: Int[np.ndarray, "duplicated"]):
        self._batch_size, self._length = batches.batch_size, len(order)
        self._shuffle = jax.jit(functools.partial(batches.shuffled, np.asarray(order)), static_argnames="epochs")
        self._plan = jax.jit(functools.partial(batches.plan, length=len(order)), static_argnames="steps")
        self._held: tuple[int, int] | None = None
        self._row: Any = None

    def __call__(self, first: int, steps: int) -> Plan:
        """The plan of `steps` steps from step `first` (from 0) on."""
        epoch, place = divmod(first * self._batch_size, self._length)
        epochs = -(-steps * self._batch_size // self._length) + 1
        if self._held != (epoch, epochs):
            self._held, self._row = (epoch, epochs), self._shuffle(np.int32(epoch), epochs=epochs)
        return self._plan(self._row, np.int32(epoch), np.int32(place), steps=steps)


def device_faces(
    chips: Chips,
    frames: Float[np.ndarray, "n draws 2 3"],
    *,
    order: Int[np.ndarray, "duplicated"],
    flip: Int[np.ndarray, "points"],
    parts: int = 1,
) -> DeviceFaces:
    """The faces as arrays still on the host, the images padded by copies to split evenly in `parts`.

    Raises:
      InputError: the chips are held as JPEG.
    """
    if not isinstance(chips.images, np.ndarray):
        raise InputError('data.held="jpeg" is decoded by the CPU: set input to "tfdata"')
    padding = -len(chips.images) % parts
    images = np.concatenate([chips.images, chips.images[:1].repeat(padding, 0)]) if padding else chips.images
    return DeviceFaces(
        images=images,
        points=chips.points.astype(np.float32),
        visible=chips.visible,
        frames=frames.astype(np.float32),
        order=order.astype(np.int32),
        flip=np.asarray(flip, np.int32),
    )


def take_rows(
    rows: UInt8[Array, "n side side 3"], index: Int[Array, "batch"], *, axis: str | None = None
) -> UInt8[Array, "part side side 3"]:
    """`rows[index]`. With `axis`, `rows` are this replica's part of all rows, `index` is of all replicas' batch, and
    the answer is this replica's part of the batch: each gives what it holds, and the sum goes to where it is used."""
    if axis is None:
        return rows[index]
    local = index - jax.lax.axis_index(axis) * len(rows)
    held = (local >= 0) & (local < len(rows))
    found = jnp.where(held[:, None, None, None], rows[jnp.clip(local, 0, len(rows) - 1)], 0)
    return jax.lax.psum_scatter(found, axis, tiled=True)


def _part(values: Array, axis: str) -> Array:
    size = len(values) // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(axis) * size, size)
