"""HSM, called PDB in the CVPR paper: pose-based data balancing (Feng et al. 2018, arXiv 1711.06753).

Shapes are aligned by Procrustes analysis and projected on the principal axis that controls pose. Then the faces of
bins with few faces are duplicated until all bins match the largest:

    model = pose_axis(points, visible, flip_permutation=scheme.flip)
    copies = duplicated_indices(duplication_counts(np.abs(model.coefficients), bins=9))

If training flips faces at random, use |coefficient|, since a flip turns left into right (the paper's official code
does so). If it does not, use the signed coefficient with 2 * bins - 1 bins.

`wing_jax.procrustes` explains how hidden points are handled.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from wing_jax.balance.duplication import Coefficients, duplication_counts
from wing_jax.procrustes import (
    ShapeGaussian,
    as_complex,
    as_points,
    deviations_from_mean,
    fit_shape_gaussian,
    flat,
)
from wing_jax.values import Value

# `(points [faces, L, 2], visible [faces, L], flip [L]) -> copies [faces]`: how often each face appears in an epoch.
Balance: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def hsm(*, bins: int = 9, cap: int = 20) -> Balance:
    """Return hard sample mining (HSM) as the paper describes it, for `wing_jax.fit(balance=...)`.

    It uses |coefficient|, because training flips faces.

    Args:
      bins: number of bins of |coefficient|.
      cap: largest number of copies of a face.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> shapes = np.array([[0.0, 0.0], [4, 0], [2, 2], [1, 4], [3, 4]]) + random.normal(0, 0.2, (50, 5, 2))
    >>> shapes[:, 2, 0] += random.normal(0, 1, 50)
    >>> copies = hsm(bins=5, cap=4)(shapes, np.ones((50, 5), bool), np.array([1, 0, 2, 4, 3]))
    >>> copies.shape, copies.max() <= 4
    ((50,), np.True_)

    Returns:
      A function `(points, visible, flip) -> copies of each face`; `flip` is the scheme's permutation.
    """

    def copies(points: np.ndarray, visible: np.ndarray, flip: np.ndarray) -> np.ndarray:
        pose = pose_axis(points, visible, flip_permutation=flip)
        return duplication_counts(np.abs(pose.coefficients), bins=bins, cap=cap)

    return copies


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PoseModel(Value):
    """Mean shape and principal axes of aligned shapes. The unit of length is the norm of the mean shape.

    The pose axis is `axes[index]`. Its sign is such that a positive coefficient is yaw > 0: the nose points to the
    right of the image.

    Args:
      mean: shape `[L, 2]`, centered.
      axes: principal axes `[axes, L, 2]`, of length 1.
      variances: variance along each axis, `[axes]`.
      noise: variance in each other direction.
      shares: fraction of the total variance along each axis, `[axes]`.
      correlations: correlation of each axis's coefficients with the shape's left-right asymmetry, `[axes]`.
      index: index of the pose axis.
      coefficients: pose coefficients of the faces passed to `pose_axis`, `[faces]`.

    >>> from wing_jax.schemes import MTFL_5
    >>> mean = np.array([[0, 0], [4, 0], [2, 2], [1, 4], [3, 4]])
    >>> shapes = mean + np.random.default_rng(0).normal(0, 0.2, (50, 5, 2))

    >>> model = pose_axis(shapes, flip_permutation=MTFL_5.flip)
    >>> model.coefficients.shape, model.shape_at(0.1).shape
    ((50,), (5, 2))
    """

    mean: Float[np.ndarray, "points 2"]
    axes: Float[np.ndarray, "axes points 2"]
    variances: Float[np.ndarray, "axes"]
    noise: float
    shares: Float[np.ndarray, "axes"]
    correlations: Float[np.ndarray, "axes"]
    index: int
    coefficients: Coefficients

    @property
    def axis(self) -> Float[np.ndarray, "points 2"]:
        """The pose axis."""
        return self.axes[self.index]

    @property
    def deviation(self) -> float:
        """Standard deviation of the pose coefficient."""
        return float(np.sqrt(self.variances[self.index]))

    def shape_at(self, coefficient: float) -> Float[np.ndarray, "points 2"]:
        """Return the mean shape deformed along the pose axis."""
        return self.mean + coefficient * self.axis


def pose_axis(
    points: Float[np.ndarray, "faces points 2"],
    visible: Bool[np.ndarray, "faces points"] | None = None,
    *,
    flip_permutation: Int[np.ndarray, "_"],
    components: int = 6,
) -> PoseModel:
    """Find the principal axis that represents pose, and each face's coefficient on it.

    Args:
      points: `[faces, points, 2]`, in any unit; the position, scale and rotation of each face do not matter.
      visible: `[faces, points]`; hidden points may have any value. None: all are visible.
      flip_permutation: the scheme's `flip`: `flip_permutation[i]` is the point that i becomes in a mirror image.
      components: number of axes, at least 1; hidden points are estimated from them.

    The pose axis is the one whose coefficients correlate most with an estimate of yaw that needs only the
    permutation. A face is convex, so when it turns, the points near its midline (with a small half-width: half the
    distance of a point to its mirror image) move further than the outer ones: yaw = sum over points of
    (mean half-width - half-width) times the shift in x.

    Returns:
      The mean shape, the axes, and the coefficient of each face.

    Raises:
      ValueError: there are fewer than 3 faces or points, a visible point is not finite, the permutation is not a flip,
        a face has fewer than two visible points, or all of them coincide, a point is never visible, or all faces have
        the same shape.

    >>> from wing_jax.schemes import MTFL_5
    >>> mean = np.array([[0, 0], [4, 0], [2, 2], [1, 4], [3, 4]])
    >>> shapes = mean + np.random.default_rng(0).normal(0, 0.2, (50, 5, 2))

    >>> pose_axis(shapes, flip_permutation=MTFL_5.flip, components=3).axes.shape
    (3, 5, 2)
    """
    flip = _check_flip(flip_permutation, points.shape[1])
    shapes, visible = check_shapes(points, visible)
    if len(shapes) < 3:
        raise ValueError(f"{len(shapes)} faces are too few to find the pose axis: pass 3 or more")
    never_visible = ~(visible | visible[:, flip]).any(0)
    if never_visible.any():
        raise ValueError(f"point {int(np.argmax(never_visible))} is never visible: remove it from the shapes")
    if components < 1:
        raise ValueError(f"components = {components}: pass at least 1")
    gaussian = fit_shape_gaussian(shapes, visible, flip, components=components)
    deviations = deviations_from_mean(gaussian, shapes, visible)
    if np.ptp(deviations, axis=0).max() < 1e-9:
        raise ValueError("all faces have the same shape: add faces in other poses, or do not balance")
    scores = deviations @ gaussian.axes.T
    yaw = deviations @ _yaw_direction(gaussian.mean, flip)
    correlations = np.array([_correlation(column, yaw) for column in scores.T])
    index = int(np.argmax(np.abs(correlations)))
    signs = np.where(correlations < 0, -1.0, 1.0)
    return PoseModel(
        mean=as_points(gaussian.mean),
        axes=np.stack(np.split(signs[:, None] * gaussian.axes, 2, axis=1), axis=-1),
        variances=gaussian.variances,
        noise=gaussian.noise,
        shares=gaussian.variances / gaussian.total,
        correlations=np.abs(correlations),
        index=index,
        coefficients=signs[index] * scores[:, index],
    )


def pose_coefficients(
    model: PoseModel,
    points: Float[np.ndarray, "faces points 2"],
    visible: Bool[np.ndarray, "faces points"] | None = None,
) -> Coefficients:
    """Compute the coefficients `[faces]` of faces on the pose axis of a model that was fitted to other faces.

    Args:
      model: from `pose_axis`.
      points: `[faces, L, 2]`, in any unit.
      visible: bool `[faces, L]`; hidden points may have any value. None: all are visible.

    Returns:
      `[faces]`, in the unit of the model: the norm of the mean shape.

    Raises:
      ValueError: as `pose_axis`, or the shapes and the model have different numbers of points.

    >>> from wing_jax.schemes import MTFL_5
    >>> mean = np.array([[0, 0], [4, 0], [2, 2], [1, 4], [3, 4]])
    >>> shapes = mean + np.random.default_rng(0).normal(0, 0.2, (50, 5, 2))

    >>> model = pose_axis(shapes, flip_permutation=MTFL_5.flip)
    >>> bool(np.allclose(pose_coefficients(model, 3 * shapes), model.coefficients))
    True
    """
    if points.shape[1:] != model.mean.shape:
        raise ValueError(
            f"the model has {len(model.mean)} points, these shapes have {points.shape[1]}: use the same scheme"
        )
    shapes, visible = check_shapes(points, visible)
    axes = flat(as_complex(model.axes))
    gaussian = ShapeGaussian(as_complex(model.mean), axes, model.variances, model.noise, np.nan)
    return deviations_from_mean(gaussian, shapes, visible) @ axes[model.index]


class YawCorrelation(NamedTuple):
    """How well a pose coefficient follows the annotated yaw, in [-1, 1].

    Args:
      pearson: correlation of the values.
      spearman: correlation of the ranks: 1 if the coefficient increases with yaw, linearly or not.

    >>> YawCorrelation(0.9, 1.0).spearman
    1.0
    """

    pearson: float
    spearman: float


def correlation_with_yaw(coefficients: Coefficients, yaw: Float[np.ndarray, "faces"]) -> YawCorrelation:
    """Compute the correlation of pose coefficients with annotated yaw (or pose classes in the order of yaw).

    Args:
      coefficients: `[faces]`.
      yaw: `[faces]`, in degrees or class numbers; not NaN.

    Returns:
      Pearson's and Spearman's correlation, in [-1, 1].

    >>> correlation = correlation_with_yaw(np.array([-1.0, 0.0, 1.0]), np.array([-20.0, -10.0, 30.0]))
    >>> round(correlation.pearson, 3), round(correlation.spearman, 3)
    (0.945, 1.0)
    """
    ranks = [np.unique(values, return_inverse=True, return_counts=True) for values in (coefficients, yaw)]
    mid_ranks = [(np.cumsum(counts) - (counts - 1) / 2)[inverse] for _, inverse, counts in ranks]
    return YawCorrelation(_correlation(coefficients, yaw), _correlation(*mid_ranks))


def _yaw_direction(
    mean: Complex[np.ndarray, "points"], flip_permutation: Int[np.ndarray, "points"]
) -> Float[np.ndarray, "coordinates"]:
    half_width = np.abs((mean - mean[flip_permutation]).real) / 2
    nearness = half_width.mean() - half_width
    if np.abs(nearness).max() < 1e-6:
        raise ValueError(
            "yaw cannot be estimated from these points: add a point on the midline, or pairs of different widths"
        )
    return np.concatenate([nearness, np.zeros_like(nearness)])


def _correlation(first: Float[np.ndarray, "faces"], second: Float[np.ndarray, "faces"]) -> float:
    """Compute Pearson's correlation; 0 if one of the two does not vary."""
    first, second = first - first.mean(), second - second.mean()
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norms) if norms > 0 else 0.0


def _check_flip(flip_permutation: Int[np.ndarray, "flipped"], points: int) -> Int[np.ndarray, "flipped"]:
    flip = np.asarray(flip_permutation)
    if points < 3:
        raise ValueError(f"shapes of {points} points show no pose: pass 3 points or more")
    if flip.shape != (points,) or not np.array_equal(np.sort(flip), np.arange(points)):
        raise ValueError(f"flip_permutation must contain each of 0 to {points - 1} once: use the scheme's `flip`")
    if not np.array_equal(flip[flip], np.arange(points)):
        raise ValueError("flip_permutation must undo itself when applied twice: use the scheme's `flip`")
    return flip


def check_shapes(
    points: Float[np.ndarray, "faces points 2"], visible: Bool[np.ndarray, "faces points"] | None
) -> tuple[Complex[np.ndarray, "faces points"], Bool[np.ndarray, "faces points"]]:
    """Return complex shapes, 0 where hidden, and the visibility; raise for shapes that cannot be aligned."""
    visible = np.ones(points.shape[:2], bool) if visible is None else visible
    bad = ~np.isfinite(points).all(-1) & visible
    if bad.any():
        raise ValueError(
            f"face {int(np.argmax(bad.any(1)))} has a visible point that is not finite: mark the point hidden"
        )
    shapes = np.where(visible, as_complex(np.where(visible[..., None], points, 0)), 0)
    for face in np.flatnonzero(visible.sum(1) < 2)[:1]:
        raise ValueError(f"face {face} has fewer than two visible points: remove the face")
    centers = shapes.sum(1, keepdims=True) / visible.sum(1, keepdims=True)
    extents = (np.abs(shapes - centers) * visible).max(1)
    for face in np.flatnonzero(extents <= 1e-9 * (1 + np.abs(centers[:, 0])))[:1]:
        raise ValueError(f"face {face} has all its visible points at one position: correct or remove the face")
    return shapes, visible
