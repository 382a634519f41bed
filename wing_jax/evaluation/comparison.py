"""Compare two evaluations of the same faces, face by face."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wing_jax.evaluation.measurement import Measurement
from wing_jax.values import Value

RESAMPLES = 10_000
LEVEL = 0.95
BLOCK_NUMBERS = 1 << 22  # in one block of resamples


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Comparison(Value):
    """The differences of two evaluations' errors, face by face: negative where the second evaluation is better.

    All numbers are in `unit`, percent for an NME. `low` and `high` are the 95% confidence interval of the mean
    difference. It comes from a bootstrap over photos, because faces of one photo are not independent of each other.
    """

    metric: str
    unit: str
    first: float  # mean
    second: float
    difference: float  # second - first, on the mean
    low: float
    high: float
    differences: Float[np.ndarray, "faces"]  # second - first; NaN where either is NaN
    landmarks: Float[np.ndarray, "points"] | None  # second - first; NaN for a point that is never visible

    @property
    def smaller(self) -> float:
        """The share of the faces, in [0, 1], whose error is smaller in the second evaluation."""
        return float((self.differences[np.isfinite(self.differences)] < 0).mean())

    def __str__(self) -> str:
        faces = int(np.isfinite(self.differences).sum())
        verdict = "which includes 0" if self.low <= 0 <= self.high else "which excludes 0"
        return (
            f"{self.metric}: {self.first:.2f} -> {self.second:.2f} {self.unit}, {self.difference:+.2f} (95 % interval "
            f"{self.low:+.2f} to {self.high:+.2f}, {verdict}); {self.smaller:.0%} of {faces} faces have a smaller error"
        )

    __repr__ = __str__


def compare_measurements(first: Measurement, second: Measurement, *, photos: Sequence[str], seed: int) -> Comparison:
    """Compare `second` to `first`: the same faces of `photos`, measured by the same metric.

    Faces with a NaN in either measurement are left out of both. The numbers are NaN if no face remains.
    """
    scale = first.scale
    differences = scale * (second.values - first.values)
    both = np.isfinite(differences)
    low, high = bootstrap_interval(differences[both], np.asarray(photos)[both], seed=seed)
    landmarks = None
    if first.landmarks is not None and second.landmarks is not None:
        landmarks = scale * (second.landmarks - first.landmarks)
    any_face = both.any()
    return Comparison(
        metric=first.metric,
        unit=first.unit,
        first=scale * float(first.values[both].mean()) if any_face else np.nan,
        second=scale * float(second.values[both].mean()) if any_face else np.nan,
        difference=float(differences[both].mean()) if any_face else np.nan,
        low=low,
        high=high,
        differences=differences,
        landmarks=landmarks,
    )


def bootstrap_interval(
    values: Float[np.ndarray, "faces"], photos: np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `values` by the percentile bootstrap over photos.

    All faces of a photo are sampled as one unit. Both bounds are NaN if `values` is empty.
    """
    if not len(values):
        return np.nan, np.nan
    _, photo = np.unique(photos, return_inverse=True)
    sums, counts = np.bincount(photo, weights=values), np.bincount(photo)
    rng, means = np.random.default_rng(seed), []
    block = max(1, BLOCK_NUMBERS // len(sums))
    for start in range(0, resamples, block):
        sample = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=min(block, resamples - start))
        means.append(sample @ sums / (sample @ counts))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
