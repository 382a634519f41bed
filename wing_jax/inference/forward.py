"""The device's part of a localiser: pure functions, compiled once for all models that differ only in their weights."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax import geometry
from wing_jax.augment.warp import cut_squares, warp
from wing_jax.types import Affine


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A network and the crop it works on, as in `wing_jax.inference.localizer.Stage`."""

    model: Any  # a Flax module, or what has an `apply` like its
    input_size: int
    chip_size: int
    margin: float
    centre: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a localiser does, without what it has learned: hashable, so that models of one plan share a program.

    `mirrored` says which point each becomes in the mirror, where answers are averaged with those of the mirror image.
    """

    stages: tuple[StagePlan, ...]
    mirrored: tuple[int, ...] | None = None


@functools.partial(jax.jit, static_argnums=0)
def locate(
    plan: Plan,
    weights: tuple[dict, ...],
    template: Float[Array, "points 2"],
    levels: tuple[Array, ...],
    boxes: Float[Array, "n 4"],
) -> Float[Array, "stages n points 2"]:
    """Points after each stage, in pixels of the last stage's chip.

    `weights` are each stage's variables, `template` the mean shape in fractions of the second stage's crop, `levels`
    the faces at each stage's chip size `[n, size, size, 3]`, `boxes` x0, y0, x1, y1 in pixels of the last chip.
    """
    unit = plan.stages[-1].chip_size
    answers: list[Array] = []
    for stage, variables, chips in zip(plan.stages, weights, levels, strict=True):
        if answers:
            frames = geometry.frame_of_shape(answers[-1], template, size=stage.input_size)
        else:
            frames = geometry.frame_of_box(boxes, size=stage.input_size, margin=stage.margin, centre=stage.centre)
        to_unit = jnp.broadcast_to(_between_sizes(stage.chip_size, unit), frames.shape)
        local = geometry.compose(geometry.invert(to_unit), frames)
        crops = jnp.round(warp(chips, local, size=stage.input_size))
        answers.append(jnp.asarray(geometry.transform(frames, _on_crops(plan, stage, variables, crops))))
    return jnp.stack(answers)


@functools.partial(jax.jit, static_argnums=0)
def cut_and_locate(
    plan: Plan,
    weights: tuple[dict, ...],
    template: Float[Array, "points 2"],
    parts: Array,
    first: Array,
    length: Array,
    side: Array,
    boxes: Float[Array, "n 4"],
) -> Float[Array, "stages n points 2"]:
    """`locate` in parts of photos, as `wing_jax.augment.warp.cut_squares` takes them."""
    unit = plan.stages[-1].chip_size
    chips = jnp.round(cut_squares(parts, first, length, side, size=unit))
    none, all_of = jnp.zeros_like(first), jnp.full_like(side, unit)
    levels = tuple(
        jnp.round(cut_squares(chips, none, jnp.full_like(length, unit), all_of, size=stage.chip_size))
        if stage.chip_size != unit
        else chips
        for stage in plan.stages
    )
    return locate(plan, weights, template, levels, boxes)


def _on_crops(plan: Plan, stage: StagePlan, variables: dict, crops: Array) -> Array:
    if plan.mirrored is None:
        return jnp.asarray(stage.model.apply(variables, crops, train=False))
    both = jnp.concatenate([crops, crops[:, :, ::-1]])
    points, mirrored = jnp.split(jnp.asarray(stage.model.apply(variables, both, train=False)), 2)
    mirrored = mirrored[:, jnp.array(plan.mirrored)]
    mirrored = jnp.stack([stage.input_size - 1 - mirrored[..., 0], mirrored[..., 1]], axis=-1)
    return (points + mirrored) / 2


def _between_sizes(source: int, target: int) -> Affine:
    """Affine from pixels of a chip of side `source` to pixels of the same chip at side `target`."""
    ratio = target / source
    return geometry.similarity(scale=ratio, translation=(0.5 * ratio - 0.5, 0.5 * ratio - 0.5))
