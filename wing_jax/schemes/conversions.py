"""Conversions between schemes: each target point is a mean of source points, or unavailable."""

import dataclasses
import itertools
from collections import deque

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.schemes.scheme import Scheme
from wing_jax.schemes.tables import SCHEMES
from wing_jax.text import quoted
from wing_jax.values import Value

Means = tuple[tuple[int, ...] | int | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conversion(Value):
    """Computes points of scheme `target` from points of scheme `source`; `approximates` describes the differences."""

    source: Scheme
    target: Scheme
    weights: Float[np.ndarray, "target_points source_points"]  # rows sum to 1, or to 0 for unavailable points
    approximates: str

    @property
    def available(self) -> Bool[np.ndarray, "target_points"]:
        """Which target points are available from the source."""
        return np.asarray(self.weights.any(1))

    def points(self, points: Float[np.ndarray, "*n source_points 2"]) -> Float[np.ndarray, "*n target_points 2"]:
        """Return the target points, in the units of `points`; unavailable ones are 0."""
        return (self.weights @ points).astype(np.float32)

    def visible(self, visible: Bool[np.ndarray, "*n source_points"]) -> Bool[np.ndarray, "*n target_points"]:
        """Return which target points count: those that are available and average only source points that count."""
        hidden = (~visible).astype(np.float32) @ (self.weights > 0).T.astype(np.float32)
        return (hidden == 0) & self.available


def get_conversion(source: Scheme, target: Scheme) -> Conversion:
    """Return the conversion from `source` to `target` with the fewest published steps, such as 98 -> 68 -> 19.

    Raises:
      ValueError: there is no such conversion.
    """
    if source.name == target.name:
        identity = np.eye(source.points, dtype=np.float32)
        return Conversion(source=source, target=target, weights=identity, approximates="nothing")
    paths: deque[tuple[str, ...]] = deque([(source.name,)])
    visited = {source.name}
    while paths:
        path = paths.popleft()
        for start, end in CONVERSIONS:
            if start == path[-1] and end not in visited:
                if end == target.name:
                    return _compose((*path, end))
                visited.add(end)
                paths.append((*path, end))
    steps = ", ".join(f"{start} -> {end}" for start, end in CONVERSIONS)
    raise ValueError(
        f"no conversion from {quoted(source.name)} to {quoted(target.name)}: the available steps are {steps}"
    )


def _compose(path: tuple[str, ...]) -> Conversion:
    steps = [CONVERSIONS[pair] for pair in itertools.pairwise(path)]
    weights = steps[0].weights
    for step in steps[1:]:
        # A target point is unavailable if any source point it averages is unavailable.
        unavailable = (step.weights > 0) @ ~weights.any(1)
        weights = np.where(unavailable[:, None], 0, step.weights @ weights)
    approximates = "; ".join(step.approximates for step in steps)
    return Conversion(source=steps[0].source, target=steps[-1].target, weights=weights, approximates=approximates)


def _conversion(source: str, target: str, means: Means, approximates: str) -> tuple[tuple[str, str], Conversion]:
    """Build a conversion; `means` lists the source point or points of each target point, None if there is none."""
    start, end = SCHEMES[source], SCHEMES[target]
    if len(means) != end.points:
        raise ValueError(f"{source} -> {target}: {len(means)} means for {end.points} points")
    weights = np.zeros((end.points, start.points), np.float32)
    for row, mean in zip(weights, means, strict=True):
        if mean is not None:
            indices = list(mean) if isinstance(mean, tuple) else [mean]
            row[indices] = 1 / len(indices)
    return (source, target), Conversion(source=start, target=end, weights=weights, approximates=approximates)


_LEFT_EYE, _RIGHT_EYE = tuple(range(36, 42)), tuple(range(42, 48))

CONVERSIONS: dict[tuple[str, str], Conversion] = dict((
    _conversion(
        "wflw98", "ibug68",
        (*range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 60), 60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73,
         75, *range(76, 96)),
        "brows: WFLW marks their upper edge, 300-W their ridge; eyelids: WFLW marks quarters of a lid, 300-W thirds",
    ),
    _conversion(
        "lapa106", "ibug68",
        (*range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 55), *range(58, 63), 66, 67, 69, 70, 71, 73,
         75, 76, 78, 79, 80, 82, *range(84, 104)),
        "brows: LaPa marks their upper edge, 300-W their ridge; eyelids: LaPa marks quarters of a lid, 300-W thirds",
    ),
    _conversion(
        "wflw98", "cofw29",
        (33, 46, 37, 42, 35, (39, 40), 44, (48, 49), 60, 72, 64, 68, 62, 66, 70, 74, 96, 97, 55, 59, 54, 57, 76, 82, 79,
         90, 94, 85, 16),
        "brow ends: WFLW's inner end is the upper corner; nose: WFLW's outermost points lie under the wings",
    ),
    _conversion(
        "ibug68", "cofw29",
        (17, 26, 21, 22, 19, None, 24, None, 36, 45, 39, 42, (37, 38), (40, 41), (43, 44), (46, 47), _LEFT_EYE,
         _RIGHT_EYE, 31, 35, 30, 33, 48, 54, 51, 62, 66, 57, 8),
        "pupils: the mean of the eye's outline, wherever it looks; lids: the middle of two points; nose: 300-W's "
        "outermost points lie under the wings; brows have no lower edge in 300-W",
    ),
    _conversion(
        "ibug68", "aflw19",
        (17, 19, 21, 22, 24, 26, 36, _LEFT_EYE, 39, 42, _RIGHT_EYE, 45, 31, 30, 35, 48, (62, 66), 54, 8),
        "eye middles: the mean of the eye's outline; mouth middle: halfway between the lips",
    ),
    _conversion("fgnet68", "mtfl5", (31, 36, 67, 48, 54), "eye centers: the pupils"),
    _conversion(
        "scut86", "mtfl5", (58, 59, (63, 66, 69), 79, 73),
        "eye centers: the pupils; nose tip: the mean of the nose's bottom and sides, as the tip is not annotated",
    ),
    _conversion(
        "ibug68", "mtfl5", (_LEFT_EYE, _RIGHT_EYE, 30, 48, 54), "eye centers: the mean of the eye's outline"
    ),
    _conversion("cofw29", "mtfl5", (16, 17, 20, 22, 23), "eye centers: the pupils"),
    _conversion("aflw21", "aflw19", (*range(12), 13, 14, 15, 17, 18, 19, 20), "none; the ears are left out"),
    _conversion("aflw19", "mtfl5", (7, 10, 13, 15, 17), "none; the same five points"),
))  # fmt: skip
