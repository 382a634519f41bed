"""The landmarks of the faces of one image, and how sure they are."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.inference.face_files import FaceRecord
from wing_jax.inference.uncertainty import Calibration, spread
from wing_jax.schemes import Scheme
from wing_jax.values import Value

NEAR = 0.05  # of the inter-ocular distance: `Prediction.confidence` is the probability of a smaller error


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction(Value):
    """The landmarks of the faces of one image, and how sure they are; an immutable value.

    `spread`, `confidence` and `valid` are None if the localizer has no calibration.

    Args:
      points: `[faces, L, 2]`, (x, y) in pixels of the image.
      scheme: the landmark scheme of the points.
      calibration: that of the localizer.
      covariance: of the errors, `[faces, L, 2, 2]`, in squared pixels of the image.
      expected_error: of each face, in sides of the last stage's crop (`wing_jax.inference.uncertainty.expected_error`).

    >>> from wing_jax.schemes import MTFL_5
    >>> Prediction(points=np.zeros((2, 5, 2), np.float32), scheme=MTFL_5).valid is None
    True
    """

    points: Float[np.ndarray, "faces points 2"]
    scheme: Scheme
    calibration: Calibration | None = None
    covariance: Float[np.ndarray, "faces points 2 2"] | None = None
    expected_error: Float[np.ndarray, "faces"] | None = None

    def record(
        self, face: int, *, box: Float[np.ndarray, "4"], number: int = 0, score: float | None = None
    ) -> FaceRecord:
        """Return one face to write; `number` 0: its index, from 1."""
        return FaceRecord(
            number=number or face + 1,
            box=box,
            points=self.points[face],
            score=score,
            spread=None if self.spread is None else self.spread[face],
            confidence=None if self.confidence is None else self.confidence[face],
            valid=None if self.valid is None else bool(self.valid[face]),
        )

    @property
    def spread(self) -> Float[np.ndarray, "faces points"] | None:
        """The expected distance of each landmark from the true one (root mean square), in pixels of the image."""
        return None if self.covariance is None else np.asarray(spread(self.covariance))

    @property
    def confidence(self) -> Float[np.ndarray, "faces points"] | None:
        """The probability that each landmark is within 5 % of the inter-ocular distance of the true one."""
        if self.calibration is None or self.spread is None:
            return None
        eyes = self.points[:, self.scheme.left_outer] - self.points[:, self.scheme.right_outer]
        radius = NEAR * np.linalg.norm(eyes, axis=-1, keepdims=True)
        return self.calibration.probability(radius / self.spread)

    @property
    def valid(self) -> Bool[np.ndarray, "faces"] | None:
        """Whether each face's landmarks can be trusted: false for most failures and for boxes without a face."""
        if self.calibration is None or self.expected_error is None:
            return None
        return self.expected_error <= self.calibration.limit
