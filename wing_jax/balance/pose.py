"""HSM, called PDB in the CVPR paper: pose-based data balancing (Feng et al. 2018, arXiv 1711.06753).

Shapes are aligned by Procrustes analysis, projected on the principal axis that controls pose, and the faces of
scarce bins are duplicated until all bins match the largest:

    model = pose_axis(points, visible, flip_permutation=scheme.flip)
    copies = duplicated_indices(duplication_counts(np.abs(model.coefficients), bins=9))

Give |coefficient| where training flips faces at random, since a flip turns left into right (the paper's official
code does so); give the signed coefficient, with twice the bins less one, where it does not.

How hidden points are dealt with is told in `wing_jax.procrustes`.
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

# `(points [faces, L, 2], visible [faces, L], flip [L]) -> copies [faces]`: how often each face comes in an epoch.
Balance: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def hsm(*, bins: int = 9, cap: int = 20) -> Balance:
    """HSM as an argument of `wing_jax.fit`: by the paper's text, on |coefficient|, for training flips faces.

    Args:
      bins: bins of |coefficient|.
      cap: at most so many copies of one face.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> shapes = np.array([[0.0, 0.0], [4, 0], [2, 2], [1, 4], [3, 4]]) + random.normal(0, 0.2, (50, 5, 2))
    >>> shapes[:, 2, 0] += random.normal(0, 1, 50)
    >>> copies = hsm(bins=5, cap=4)(shapes, np.ones((50, 5), bool), np.array([1, 0, 2, 4, 3]))
    >>> copies.shape, copies.max() <= 4
    ((50,), np.True_)

    Returns:
      A function of the points, which are visible, and the scheme's flip, that answers the copies of each face.
    """

    def copies(points: np.ndarray, visible: np.ndarray, flip: np.ndarray) -> np.ndarray:
        pose = pose_axis(points, visible, flip_permutation=flip)
        return duplication_counts(np.abs(pose.coefficients), bins=bins, cap=cap)

    return copies


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PoseModel(Value):
    """Mean shape and principal axes of aligned shapes. The unit of length is the norm of the mean shape.

    The axis found to be pose is `axes[index]`, turned so that a positive coefficient is yaw > 0: the nose to the
    right of the image.

    Args:
      mean: shape `[L, 2]`, centered.
      axes: principal axes `[axes, L, 2]`, of length 1.
      variances: along each axis.
      noise: variance in each direction that is no axis.
      shares: of the total variance.
      correlations: of each axis' coefficients with the shape's asymmetry.
      index: of the axis that is pose.
      coefficients: of the faces given to `pose_axis`.

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
        return self.axes[self.index]

    @property
    def deviation(self) -> float:
        """Standard deviation of the pose coefficient."""
        return float(np.sqrt(self.variances[self.index]))

    def shape_at(self, coefficient: float) -> Float[np.ndarray, "points 2"]:
        """The mean shape deformed along the pose axis."""
        return self.mean + coefficient * self.axis


def pose_axis(
    points: Float[np.ndarray, "faces points 2"],
    visible: Bool[np.ndarray, "faces points"] | None = None,
    *,
    flip_permutation: Int[np.ndarray, "_"],
    components: int = 6,
) -> PoseModel:
    """Find the principal axis that is pose and each face's coefficient on it.

    Args:
      points: `[faces, points, 2]`, in any unit; position, scale and rotation of each face do not matter.
      visible: `[faces, points]`; hidden points may hold anything. None: all are visible.
      flip_permutation: the scheme's: `flip_permutation[i]` is the point that i becomes in a mirror.
      components: axes to keep, at least 1; hidden points are filled in from these.

    Which axis is pose: the one whose coefficients correlate most with a yaw that needs the permutation alone. A
    face bulges, so when it turns, the points near its midline (small half-width, half the distance of a point
    to its mirror image) run ahead of the outer ones: yaw = sum over points of (mean half-width - half-width) times
    the shift in x.

    Returns:
      The mean shape, the axes, and the coefficient of each face.

    Raises:
      ValueError: fewer than 3 faces or points, a visible point is not finite, the permutation is no flip, a face's
        visible points are fewer than two or all in one place, a point is never visible, all faces have one shape.

    >>> from wing_jax.schemes import MTFL_5
    >>> mean = np.array([[0, 0], [4, 0], [2, 2], [1, 4], [3, 4]])
    >>> shapes = mean + np.random.default_rng(0).normal(0, 0.2, (50, 5, 2))

    >>> pose_axis(shapes, flip_permutation=MTFL_5.flip, components=3).axes.shape
    (3, 5, 2)
    """
    flip = _checked_flip(flip_permutation, points.shape[1])
    shapes, visible = checked_shapes(points, visible)
    if len(shapes) < 3:
        raise ValueError(f"{len(shapes)} faces are too few to find the axis of pose: give 3 or more")
    unseen = ~(visible | visible[:, flip]).any(0)
    if unseen.any():
        raise ValueError(f"point {int(np.argmax(unseen))} is never visible: leave it out of the shapes")
    if components < 1:
        raise ValueError(f"components = {components}: the axis of pose needs at least 1")
    gaussian = fit_shape_gaussian(shapes, visible, flip, components=components)
    deviations = deviations_from_mean(gaussian, shapes, visible)
    if np.ptp(deviations, axis=0).max() < 1e-9:
        raise ValueError("all faces have the same shape: there is no pose to balance")
    along = deviations @ gaussian.axes.T
    yaw = deviations @ _yaw_direction(gaussian.mean, flip)
    correlations = np.array([_correlation(column, yaw) for column in along.T])
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
        coefficients=signs[index] * along[:, index],
    )


def pose_coefficients(
    model: PoseModel,
    points: Float[np.ndarray, "faces points 2"],
    visible: Bool[np.ndarray, "faces points"] | None = None,
) -> Coefficients:
    """Coefficient of each face `[faces]` on the pose axis of a model that was found on other faces.

    Args:
      model: of `pose_axis`.
      points: `[faces, L, 2]`, in any unit.
      visible: bool `[faces, L]`; hidden points may hold anything. None: all are visible.

    Returns:
      `[faces]`, in the unit of the model: the norm of the mean shape.

    Raises:
      ValueError: as `pose_axis`, or the shapes have another number of points than the model.

    >>> from wing_jax.schemes import MTFL_5
    >>> mean = np.array([[0, 0], [4, 0], [2, 2], [1, 4], [3, 4]])
    >>> shapes = mean + np.random.default_rng(0).normal(0, 0.2, (50, 5, 2))

    >>> model = pose_axis(shapes, flip_permutation=MTFL_5.flip)
    >>> bool(np.allclose(pose_coefficients(model, 3 * shapes), model.coefficients))
    True
    """
    if points.shape[1:] != model.mean.shape:
        raise ValueError(f"the model has {len(model.mean)} points, these shapes have {points.shape[1]}")
    shapes, visible = checked_shapes(points, visible)
    axes = flat(as_complex(model.axes))
    gaussian = ShapeGaussian(as_complex(model.mean), axes, model.variances, model.noise, np.nan)
    return deviations_from_mean(gaussian, shapes, visible) @ axes[model.index]


class YawCorrelation(NamedTuple):
    """How well a pose coefficient follows the annotated yaw, in [-1, 1].

    Args:
      pearson: of the values.
      spearman: of ranks: 1 where the coefficient rises with yaw, in whatever way.

    >>> YawCorrelation(0.9, 1.0).spearman
    1.0
    """

    pearson: float
    spearman: float


def correlation_with_yaw(coefficients: Coefficients, yaw: Float[np.ndarray, "faces"]) -> YawCorrelation:
    """Correlation of pose coefficients with annotated yaw (or pose classes in the order of yaw).

    Args:
      coefficients: `[faces]`.
      yaw: `[faces]`, in degrees or numbers of classes; none NaN.

    Returns:
      Pearson's and Spearman's correlation, in [-1, 1].

    >>> found = correlation_with_yaw(np.array([-1.0, 0.0, 1.0]), np.array([-20.0, -10.0, 30.0]))
    >>> round(found.pearson, 3), round(found.spearman, 3)
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
        raise ValueError("these points show no yaw: give a point on the midline, or pairs of several widths")
    return np.concatenate([nearness, np.zeros_like(nearness)])


def _correlation(first: Float[np.ndarray, "faces"], second: Float[np.ndarray, "faces"]) -> float:
    """Pearson's correlation; 0 where one of the two does not vary."""
    first, second = first - first.mean(), second - second.mean()
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norms) if norms > 0 else 0.0


def _checked_flip(flip_permutation: Int[np.ndarray, "flipped"], points: int) -> Int[np.ndarray, "flipped"]:
    flip = np.asarray(flip_permutation)
    if points < 3:
        raise ValueError(f"shapes of {points} points show no pose: give 3 points or more")
    if flip.shape != (points,) or not np.array_equal(np.sort(flip), np.arange(points)):
        raise ValueError(f"flip_permutation must hold each of 0 to {points - 1} once: use the scheme's own `flip`")
    if not np.array_equal(flip[flip], np.arange(points)):
        raise ValueError("flip_permutation must undo itself when applied twice: use the scheme's own `flip`")
    return flip


def checked_shapes(
    points: Float[np.ndarray, "faces points 2"], visible: Bool[np.ndarray, "faces points"] | None
) -> tuple[Complex[np.ndarray, "faces points"], Bool[np.ndarray, "faces points"]]:
    """Complex shapes, 0 where hidden, and who is visible; shapes that cannot be aligned are refused."""
    visible = np.ones(points.shape[:2], bool) if visible is None else visible
    bad = ~np.isfinite(points).all(-1) & visible
    if bad.any():
        raise ValueError(f"face {int(np.argmax(bad.any(1)))} has a visible point that is not finite: mark it hidden")
    shapes = np.where(visible, as_complex(np.where(visible[..., None], points, 0)), 0)
    for face in np.flatnonzero(visible.sum(1) < 2)[:1]:
        raise ValueError(f"face {face} has fewer than two visible points: leave it out")
    centers = shapes.sum(1, keepdims=True) / visible.sum(1, keepdims=True)
    extents = (np.abs(shapes - centers) * visible).max(1)
    for face in np.flatnonzero(extents <= 1e-9 * (1 + np.abs(centers[:, 0])))[:1]:
        raise ValueError(f"face {face} has all its visible points in one place: leave it out")
    return shapes, visible
