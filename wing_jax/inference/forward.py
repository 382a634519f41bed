"""The part of a localizer that runs on the device: pure functions, compiled once per architecture, not per model."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wing_jax import geometry
from wing_jax.augment.warp import cut_squares, warp
from wing_jax.inference.uncertainty import Evidence, expected_error
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

    `mirrored` is the index of each point's mirror image; None: no averaging with the mirror image. `covariance`:
    whether the last network estimates covariances, and they are wanted.
    """

    stages: tuple[StageForward, ...]
    mirrored: tuple[int, ...] | None = None
    covariance: bool = False

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        """Cached: every call of a compiled program hashes the spec, and hashing a Flax module is slow."""
        return hash((self.stages, self.mirrored, self.covariance))


class Located(NamedTuple):
    """The result of a localizer.

    Args:
      points: after each stage, `[stages, n, points, 2]`, in pixels of the last stage's face crop.
      evidence: of how sure the last stage is; None if it was not requested, or the network has none.
    """

    points: Float[Array | np.ndarray, "stages n points 2"]
    evidence: Evidence | None = None

    @property
    def expected_error(self) -> Float[np.ndarray, "k"]:
        """The expected error of each face; without evidence of it, of no face."""
        errors = None if self.evidence is None else self.evidence.expected_error
        return np.zeros(0, np.float32) if errors is None else np.asarray(errors)

    def read(self, faces: int) -> "Located":
        """Return the first `faces` faces, as NumPy arrays."""
        with jax.transfer_guard_device_to_host("allow"):
            points, evidence = jax.tree.map(np.asarray, (self.points, self.evidence))
        return Located(points[:, :faces], jax.tree.map(lambda values: values[:faces], evidence))

    @classmethod
    def concatenate(cls, parts: Sequence["Located"]) -> "Located":
        """Concatenate results in NumPy arrays; those without evidence must have no faces, or all lack it."""
        evidence = [part.evidence for part in parts if part.evidence is not None]
        return cls(
            np.concatenate([part.points for part in parts], axis=1),
            jax.tree.map(lambda *values: np.concatenate(values), *evidence) if evidence else None,
        )


@functools.partial(jax.jit, static_argnums=0)
def locate(
    spec: ForwardSpec,
    weights: tuple[Mapping[str, Any], ...],
    template: Float[Array, "points 2"],
    calibration: Float[Array, "points features 3"] | None,
    levels: tuple[Array, ...],
    boxes: Float[Array, "n 4"],
    degrees: Float[Array, "n"],
) -> Located:
    """Return the points after each stage and, if the spec says so, their covariances.

    `weights` are the variables of each stage, `template` the mean shape in fractions of the second stage's crop,
    `calibration` the coefficients for the expected errors (`wing_jax.inference.uncertainty`), `levels` the faces at the
    face crop size of each stage `[n, size, size, 3]`, `boxes` x0, y0, x1, y1 in pixels of the last stage's face crop,
    `degrees` by which the first stage's crop is turned clockwise.
    """
    unit = spec.stages[-1].face_crop_size
    results: list[Array] = []
    evidence = None
    for stage, variables, face_crops in zip(spec.stages, weights, levels, strict=True):
        if results:
            transforms = geometry.crop_of_shape(results[-1], template, size=stage.input_size)
        else:
            transforms = geometry.crop_of_box(
                boxes, size=stage.input_size, margin=stage.margin, center=stage.center, degrees=degrees
            )
        to_unit = jnp.broadcast_to(_between_sizes(stage.face_crop_size, unit), transforms.shape)
        local = geometry.compose(geometry.invert(to_unit), transforms)
        crops = jnp.round(warp(face_crops, local, size=stage.input_size))
        points, covariance = _predict_crops(spec, stage, variables, crops)
        results.append(jnp.asarray(geometry.transform(transforms, points)))
        if covariance is not None:
            before = results[-2] if len(results) > 1 else results[-1]
            moved = points - geometry.transform(geometry.invert(transforms), before)
            evidence = Evidence(covariance, moved, jnp.asarray(transforms))
            if calibration is not None:
                errors = expected_error(evidence, calibration, size=stage.input_size)
                evidence = evidence._replace(expected_error=errors)
    return Located(jnp.stack(results), evidence)


@functools.partial(jax.jit, static_argnums=0)
def crop_and_predict(
    spec: ForwardSpec,
    weights: tuple[Mapping[str, Any], ...],
    template: Float[Array, "points 2"],
    calibration: Float[Array, "points features 3"] | None,
    parts: Array,
    first: Array,
    length: Array,
    side: Array,
    boxes: Float[Array, "n 4"],
    degrees: Float[Array, "n"],
) -> Located:
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
    return locate(spec, weights, template, calibration, levels, boxes, degrees)


def _predict_crops(
    spec: ForwardSpec, stage: StageForward, variables: Mapping[str, Any], crops: Array
) -> tuple[Array, Array | None]:
    """Return points and, for the last stage of a spec that says so, covariances, in pixels of the crops."""
    wanted = spec.covariance and stage is spec.stages[-1]
    if spec.mirrored is None:
        return _apply(stage, variables, crops, covariance=wanted)
    points, covariance = _apply(stage, variables, jnp.concatenate([crops, crops[:, :, ::-1]]), covariance=wanted)
    points, mirrored = jnp.split(points, 2)
    mirrored = mirrored[:, jnp.array(spec.mirrored)]
    mirrored = jnp.stack([stage.input_size - 1 - mirrored[..., 0], mirrored[..., 1]], axis=-1)
    if covariance is not None:
        covariance, other = jnp.split(covariance, 2)
        signs = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
        half = (points - mirrored) / 2
        covariance = (covariance + other[:, jnp.array(spec.mirrored)] * signs[None, None]) / 2
        covariance += half[..., :, None] * half[..., None, :]  # of the mixture of both
    return (points + mirrored) / 2, covariance


def _apply(
    stage: StageForward, variables: Mapping[str, Any], crops: Array, *, covariance: bool
) -> tuple[Array, Array | None]:
    if covariance:
        points, estimated = stage.network.predict(variables, crops)
        return jnp.asarray(points, jnp.float32), None if estimated is None else jnp.asarray(estimated, jnp.float32)
    points, _ = stage.network.apply(variables, crops, train=False)
    return jnp.asarray(points, jnp.float32), None


def _between_sizes(source: int, target: int) -> Affine:
    """Return the transform from pixels of a face crop of side `source` to pixels of the same crop of side `target`."""
    return geometry.rescaling(target / source)
