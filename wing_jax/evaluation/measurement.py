"""One metric of one output of a model under one condition: for each face, overall, by group and by landmark."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.data.face_set import FaceSet
from wing_jax.evaluation import measures
from wing_jax.evaluation.groups import Division, label_order
from wing_jax.evaluation.registry import Metric
from wing_jax.values import Value


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Measurement(Value):
    """One metric of one output of a model under one condition. Faces whose value is NaN are left out and counted.

    `values` and `threshold` are in the unit of the metric's function (fractions for an NME). The methods return numbers
    in `unit`, as tables show them (percent for an NME).
    """

    dataset: str
    stage: str  # the model's output
    condition: str  # the kind of boxes
    metric: str
    unit: str = "%"
    threshold: float | None  # for AUC and failure rate
    values: Float[np.ndarray, "faces"]  # NaN = left out
    landmarks: Float[np.ndarray, "points"] | None  # for an NME: each point's mean error; NaN = never visible
    groups: Mapping[str, Division]  # of the faces

    @property
    def counted(self) -> Bool[np.ndarray, "faces"]:
        """The faces whose value is a number."""
        return np.isfinite(self.values)

    @property
    def is_nme(self) -> bool:
        """Whether the values are errors divided by a length; these exist for each landmark, too."""
        return self.landmarks is not None

    @property
    def scale(self) -> float:
        """The factor that converts `values` to `unit`."""
        return 100.0 if self.unit == "%" else 1.0

    def statistics(self, chosen: Bool[np.ndarray, "faces"] | None = None) -> dict[str, float | int | None]:
        """Return the counts of faces used and left out, mean, median, AUC and failures of the `chosen` faces.

        Mean and median are in `unit`, AUC is in [0, 1], failures are in percent. A number is None if no face is used
        or it needs a threshold and there is none.
        """
        values = self.values if chosen is None else self.values[chosen]
        counted = values[np.isfinite(values)]
        any_face, threshold = len(counted) > 0, self.threshold
        return {
            "faces": len(counted),
            "left_out": len(values) - len(counted),
            "mean": self.scale * float(counted.mean()) if any_face else None,
            "median": self.scale * float(np.median(counted)) if any_face else None,
            "auc": None if threshold is None or not any_face else measures.auc(counted, threshold),
            "failure_percent": (
                None if threshold is None or not any_face else 100 * measures.failure_rate(counted, threshold)
            ),
        }

    def by(self, group: str) -> dict[str, dict]:
        """Return the statistics of each label of `group`: labels with a number first, by that number."""
        members = self.groups[group]
        return {label: self.statistics(members[label]) for label in sorted(members, key=label_order)}

    def to_dict(self) -> dict:
        """Return plain values, ready for JSON: names, and numbers overall, by group and by landmark."""
        means = None if self.landmarks is None else [None if np.isnan(m) else 100 * float(m) for m in self.landmarks]
        return {
            "dataset": self.dataset,
            "stage": self.stage,
            "condition": self.condition,
            "metric": self.metric,
            "unit": self.unit,
            "nme": self.is_nme,
            "threshold": self.threshold,
            **self.statistics(),
            "groups": {name: self.by(name) for name in self.groups},
            "landmarks": means,
        }


def measure(
    predicted: Mapping[str, Float[np.ndarray, "n points 2"]],
    faces: FaceSet,
    *,
    metrics: Sequence[Metric],
    condition: str,
    groups: Mapping[str, Division],
    thresholds: Mapping[str, float],
) -> list[Measurement]:
    """Measure each stage's predictions by each metric; the result is ordered by metric, then by stage.

    Raises:
      InputError: the points do not fit the faces, or a metric does not return a number for each face.
    """
    errors = {stage: measures.point_errors(points, faces.points, faces.visible) for stage, points in predicted.items()}
    measurements = []
    for metric in metrics:
        lengths = None if metric.lengths is None else metric.lengths(faces)
        for stage, points in predicted.items():
            values, means = metric(points, faces), None
            if lengths is not None:
                means = _landmark_means(errors[stage], lengths, faces.visible & np.isfinite(values)[:, None])
            measurements.append(
                Measurement(
                    dataset=faces.name,
                    stage=stage,
                    condition=condition,
                    metric=metric.name,
                    unit=metric.unit,
                    threshold=thresholds.get(metric.name, metric.threshold),
                    values=values,
                    landmarks=means,
                    groups=groups,
                )
            )
    return measurements


def headline(measurements: Sequence[Measurement], *, metric: str = "") -> Measurement:
    """Return the measurement of the last stage under the first condition, by `metric` (empty: the first metric)."""
    first = measurements[0]
    name = metric or first.metric
    return [m for m in measurements if m.metric == name and m.condition == first.condition][-1]


def _landmark_means(errors: np.ndarray, lengths: np.ndarray, counted: np.ndarray) -> np.ndarray:
    divisor = np.where(counted.any(-1), lengths, 1.0)[:, None]
    count = counted.sum(0)
    return measures.or_nan(np.where(counted, errors / divisor, 0.0).sum(0) / np.maximum(count, 1), count > 0)
