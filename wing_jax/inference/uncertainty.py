"""How far predicted landmarks may be from the true ones: the calibration of a network's covariances.

A voting network has a distribution of votes for each landmark (`wing_jax.models.VotingRegressor`). Its covariance says
where the network is less sure, but not by how much: it is not trained to match the errors. `Calibration` maps it, and
how far the last stage moved the landmarks, to the covariance of the errors. It is fitted on held-out faces and on
changed copies of them (`wing_jax.evaluation.calibration`).

Covariances are mapped by their matrix logarithms, so that every result is positive definite. The logarithm of a
covariance is m I + [[a, b], [b, -a]], written as (m, a, b). It is linear in `features`, with its own coefficients for
each landmark: along the jaw, errors are larger than across it.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from wing_jax.errors import InputError
from wing_jax.geometry import namespace
from wing_jax.text import quoted
from wing_jax.types import Affine
from wing_jax.values import Value

FEATURES = 7  # of `features`
NEAR = 1e-3  # crop sides: shorter movements count as this
SMALLEST = 1e-9  # squared crop sides: smaller variances count as this
LOST = 0.15  # sides of the crop: larger errors count as this, because a lost landmark can be anywhere
LARGEST = float(np.log(LOST**2 / 2))  # of the mean logarithm of both variances, in squared crop sides


class Evidence(NamedTuple):
    """How sure the last stage is of its results, before the calibration and after it.

    Args:
      covariance: by which the network says how sure it is, `[n, points, 2, 2]`, in squared pixels of its crop.
      moved: from the points of the stage before to the last ones, `[n, points, 2]`, in pixels of the crop; 0 with one
        stage.
      crop_to_unit: the transforms `[n, 2, 3]` from pixels of the crop to pixels of the stage's face crop.
      expected_error: `expected_error` by the localizer's calibration; None if it has none.
    """

    covariance: Float[Array | np.ndarray, "n points 2 2"]
    moved: Float[Array | np.ndarray, "n points 2"]
    crop_to_unit: Affine
    expected_error: Float[Array | np.ndarray, "n"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Calibration(Value):
    """The calibration of a localizer's last stage.

    Args:
      weights: the coefficients of `features` for each landmark, `[points, FEATURES, 3]`.
      within: scale and shape of the distribution of the errors, in spreads: the probability of an error below r is
        1 / (1 + (scale spread / r)^shape), a log-logistic distribution.
      limit: the largest expected error of a face that is valid, in sides of the face (`Prediction.expected_error`).

    Raises:
      InputError: the weights have another shape.
    """

    weights: Float[np.ndarray, "points features 3"]
    within: tuple[float, float]
    limit: float

    def __post_init__(self) -> None:
        if self.weights.ndim != 3 or self.weights.shape[1:] != (FEATURES, 3):
            raise InputError(f"the weights of the calibration are {self.weights.shape}, not [points, {FEATURES}, 3]")

    def covariance(self, evidence: Evidence, *, size: int) -> Float[np.ndarray, "n points 2 2"]:
        """Return the covariances of the errors, in squared pixels of the face crop of the last stage.

        `size`: the side of the last stage's crop in pixels.
        """
        in_crop = np.asarray(calibrated_covariance(features(evidence, size=size), self.weights, size=size))
        linear = np.asarray(evidence.crop_to_unit)[:, None, :, :2]
        return (linear @ in_crop @ linear.swapaxes(-1, -2)).astype(np.float32)

    def probability(self, radii: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return the probability that an error is below each of the `radii`, which are in spreads."""
        scale, shape = self.within
        return radii**shape / (radii**shape + scale**shape)

    def to_table(self) -> dict[str, Any]:
        """Convert to a JSON-serializable dict, without the weights."""
        return {"within": [float(value) for value in self.within], "limit": float(self.limit)}

    @classmethod
    def from_table(cls, table: Any, weights: Any) -> "Calibration":
        """Create from the result of `to_table` and the weights.

        Raises:
          InputError: an entry is missing or not a number.
        """
        try:
            scale, shape = (float(value) for value in table["within"])
            return cls(weights=np.asarray(weights, np.float32), within=(scale, shape), limit=float(table["limit"]))
        except (KeyError, TypeError, ValueError) as error:
            names = "within (scale and shape) and limit"
            raise InputError(f"the calibration is {quoted(table)}, not a table with {names}") from error


def features(evidence: Evidence, *, size: int) -> Float[Array | np.ndarray, "n points features"]:
    """Return what the logarithm of the calibrated covariance is a linear function of, for each landmark.

    `size` is the side of the crop in pixels. These are: the three numbers of the logarithm of the network's covariance,
    the mean of the first one over the landmarks, the logarithm of the distance that the landmark moved, its mean over
    the landmarks, and 1: `[n, points, FEATURES]`.
    """
    covariance, moved = evidence.covariance, evidence.moved
    xp = namespace(covariance, moved)
    logarithm = log_covariance(covariance / size**2)
    distance = xp.log(xp.sqrt((moved * moved).sum(-1)) / size + NEAR)
    means = [xp.broadcast_to(values.mean(1, keepdims=True), values.shape) for values in (logarithm[..., 0], distance)]
    columns = [logarithm[..., 0], logarithm[..., 1], logarithm[..., 2], means[0], distance, means[1]]
    return xp.stack([*columns, xp.ones_like(distance)], axis=-1)


def calibrated_covariance(
    features: Float[Array | np.ndarray, "n points features"],
    weights: Float[Array | np.ndarray, "points features 3"],
    *,
    size: int,
) -> Float[Array | np.ndarray, "n points 2 2"]:
    """Return the covariances of the errors, in squared pixels of the crop, from the `features`.

    Spreads approach `LOST` from below, except for elongated distributions.
    """
    xp = namespace(features, weights)
    logarithm = (features[..., None] * weights[None]).sum(-2)  # written out: in full precision on every device
    m, a, b = (xp.clip(logarithm[..., i], -30, 30) for i in range(3))
    m = LARGEST - xp.logaddexp(LARGEST - m, 0.0)  # min(m, LARGEST), smoothly
    return exp_covariance(xp.stack([m, a, b], axis=-1)) * size**2


def expected_error(
    evidence: Evidence, weights: Float[Array | np.ndarray, "points features 3"], *, size: int
) -> Float[Array | np.ndarray, "n"]:
    """Return the mean of the spreads of each face's landmarks, in sides of the last stage's crop of `size` pixels.

    It tells failures from good predictions even if the predicted face has no plausible size.
    """
    return spread(calibrated_covariance(features(evidence, size=size), weights, size=size)).mean(1) / size


def log_covariance(covariance: Float[Array | np.ndarray, "*batch 2 2"]) -> Float[Array | np.ndarray, "*batch 3"]:
    """Return (m, a, b) of the matrix logarithm m I + [[a, b], [b, -a]].

    >>> log_covariance(np.diag([np.e**3, np.e])).round(4).tolist()
    [2.0, 1.0, 0.0]
    """
    xp = namespace(covariance)
    mean = (covariance[..., 0, 0] + covariance[..., 1, 1]) / 2
    a, b = (covariance[..., 0, 0] - covariance[..., 1, 1]) / 2, covariance[..., 0, 1]
    radius = xp.sqrt(a * a + b * b) + 1e-6 * xp.maximum(mean, SMALLEST)
    high, low = (xp.log(xp.maximum(mean + sign * radius, SMALLEST)) for sign in (1, -1))
    factor = (high - low) / (2 * radius)
    return xp.stack([(high + low) / 2, factor * a, factor * b], axis=-1)


def exp_covariance(logarithm: Float[Array | np.ndarray, "*batch 3"]) -> Float[Array | np.ndarray, "*batch 2 2"]:
    """Return the covariance whose matrix logarithm is m I + [[a, b], [b, -a]], from (m, a, b).

    >>> exp_covariance(np.array([2.0, 1.0, 0.0])).round(3).tolist()
    [[20.086, 0.0], [0.0, 2.718]]
    """
    xp = namespace(logarithm)
    m, a, b = (logarithm[..., i] for i in range(3))
    radius = xp.sqrt(a * a + b * b + 1e-12)  # whose gradient is finite
    high, low = xp.exp(m + radius), xp.exp(m - radius)
    mean, factor = (high + low) / 2, (high - low) / (2 * radius)
    rows = [xp.stack([mean + factor * a, factor * b], axis=-1), xp.stack([factor * b, mean - factor * a], axis=-1)]
    return xp.stack(rows, axis=-2)


def spread(covariance: Float[Array | np.ndarray, "*batch 2 2"]) -> Float[Array | np.ndarray, "*batch"]:
    """Return the root mean square distance from the true points, in pixels: the root of the sum of both variances.

    >>> spread(np.array([[9.0, 0.0], [0.0, 16.0]])).item()
    5.0
    """
    xp = namespace(covariance)
    return xp.sqrt(covariance[..., 0, 0] + covariance[..., 1, 1])
