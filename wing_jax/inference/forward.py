"""The part of a localizer that runs on the device: pure functions, compiled once per architecture, not per model."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax import geometry
from wing_jax.augment.warp import cut_squares, warp
from wing_jax.models.networks import Network
from wing_jax.types import Affine


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageForward:
    """A network and the crop it works on, as in `wing_jax.inference.stage.Stage`."""

    network: Network
    input_size: int
    face_crop_size: int
    margin: float
    center: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardSpec:
    """A localizer without its weights. It is hashable, so that models with equal specs share a compiled program.

    `mirrored` is the index of each point's mirror image; None: no averaging with the mirror image.
    """

    stages: tuple[StageForward, ...]
    mirrored: tuple[int, ...] | None = None

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        """Cached: every call of a compiled program hashes the spec, and hashing a Flax module is slow."""
        return hash((self.stages, self.mirrored))


@functools.partial(jax.jit, static_argnums=0)
def locate(
    spec: ForwardSpec,
    weights: tuple[Mapping[str, Any], ...],
    template: Float[Array, "points 2"],
    levels: tuple[Array, ...],
    boxes: Float[Array, "n 4"],
) -> Float[Array, "stages n points 2"]:
    """Return the points after each stage, in pixels of the last stage's face crop.

    `weights` are the variables of each stage, `template` the mean shape in fractions of the second stage's crop,
    `levels` the faces at the face crop size of each stage `[n, size, size, 3]`, `boxes` x0, y0, x1, y1 in pixels of the
    last stage's face crop.
    """
    unit = spec.stages[-1].face_crop_size
    results: list[Array] = []
    for stage, variables, face_crops in zip(spec.stages, weights, levels, strict=True):
        if results:
            transforms = geometry.crop_of_shape(results[-1], template, size=stage.input_size)
        else:
            transforms = geometry.crop_of_box(boxes, size=stage.input_size, margin=stage.margin, center=stage.center)
        to_unit = jnp.broadcast_to(_between_sizes(stage.face_crop_size, unit), transforms.shape)
        local = geometry.compose(geometry.invert(to_unit), transforms)
        crops = jnp.round(warp(face_crops, local, size=stage.input_size))
        results.append(jnp.asarray(geometry.transform(transforms, _predict_crops(spec, stage, variables, crops))))
    return jnp.stack(results)


@functools.partial(jax.jit, static_argnums=0)
def crop_and_predict(
    spec: ForwardSpec,
    weights: tuple[Mapping[str, Any], ...],
    template: Float[Array, "points 2"],
    parts: Array,
    first: Array,
    length: Array,
    side: Array,
    boxes: Float[Array, "n 4"],
) -> Float[Array, "stages n points 2"]:
    """Cut face crops from parts of photos (`wing_jax.augment.warp.cut_squares`), then `locate` the points."""
    unit = spec.stages[-1].face_crop_size
    face_crops = jnp.round(cut_squares(parts, first, length, side, size=unit))
    origin, full_side = jnp.zeros_like(first), jnp.full_like(side, unit)
    levels = tuple(
        jnp.round(cut_squares(face_crops, origin, jnp.full_like(length, unit), full_side, size=stage.face_crop_size))
        if stage.face_crop_size != unit
        else face_crops
        for stage in spec.stages
    )
    return locate(spec, weights, template, levels, boxes)


def _predict_crops(spec: ForwardSpec, stage: StageForward, variables: Mapping[str, Any], crops: Array) -> Array:
    if spec.mirrored is None:
        return _apply(stage, variables, crops)
    both = jnp.concatenate([crops, crops[:, :, ::-1]])
    points, mirrored = jnp.split(_apply(stage, variables, both), 2)
    mirrored = mirrored[:, jnp.array(spec.mirrored)]
    mirrored = jnp.stack([stage.input_size - 1 - mirrored[..., 0], mirrored[..., 1]], axis=-1)
    return (points + mirrored) / 2


def _apply(stage: StageForward, variables: Mapping[str, Any], crops: Array) -> Array:
    points, _ = stage.network.apply(variables, crops, train=False)
    return jnp.asarray(points, jnp.float32)


def _between_sizes(source: int, target: int) -> Affine:
    """Return the transform from pixels of a face crop of side `source` to pixels of the same crop of side `target`."""
    return geometry.rescaling(target / source)
