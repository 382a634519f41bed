"""The result of measuring a localizer on annotated faces: `evaluate(localizer, faces) -> Evaluation`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation.comparison import Comparison, compare_measurements
from wing_jax.evaluation.measurement import Measurement, headline
from wing_jax.evaluation.stress import StressResult
from wing_jax.evaluation.table import Table
from wing_jax.report import tables
from wing_jax.text import quoted
from wing_jax.values import Value

COLUMNS = {"mean": "mean", "median": "median", "auc": "auc", "failure_percent": "failure_rate"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation(Value):
    """The results of a model on a set of faces: for each metric, stage and condition (given or jittered boxes).

    Numbers have the units that tables show: NMEs and failure rates in percent, AUC in [0, 1], other metrics in their
    own units. The properties return the results of the last stage with the first kind of boxes; use `select` for
    others. Faces that a metric cannot measure (such as one with an invisible eye corner) are NaN in `errors` and are
    excluded from the means.

    `print` shows the table that `wing-jax evaluate` prints.

    Args:
      measurements: ordered by condition, then by metric.
      faces: the annotated faces; `visible` marks the points that were measured.
      predicted: the points `[n, L, 2]` by condition and stage, (x, y) in pixels of the images.
      details: details of the model, shown in the report, by name.
      remarks: warnings to show with the numbers.
      stress: the results of the last stage by the main metric on changed faces, if `evaluate(..., stress=True)`.

    >>> from wing_jax.evaluation import evaluate_points
    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> evaluation = evaluate_points(true + np.float32([3, 4]), true, scheme="mtfl5")
    >>> evaluation.nme["inter-ocular"], evaluation.auc["inter-ocular"]
    (12.5, 0.0)
    """

    measurements: tuple[Measurement, ...]
    faces: FaceSet
    predicted: Mapping[str, Mapping[str, Float[np.ndarray, "n points 2"]]]
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    stress: tuple[StressResult, ...] = ()

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.faces)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics, the main metric first."""
        return tuple(dict.fromkeys(m.metric for m in self.measurements))

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the model's outputs, in order."""
        return tuple(dict.fromkeys(m.stage for m in self.measurements))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The kinds of boxes that the model was run with, such as given and jittered."""
        return tuple(dict.fromkeys(m.condition for m in self.measurements))

    @property
    def nme(self) -> dict[str, float]:
        """The normalized mean error with each normalizer, in percent, by metric name."""
        return self._all("mean", nme=True)

    @property
    def mean(self) -> dict[str, float]:
        """The mean of every metric, in its unit, by metric name."""
        return self._all("mean")

    @property
    def median(self) -> dict[str, float]:
        """The median of every metric, in its unit."""
        return self._all("median")

    @property
    def auc(self) -> dict[str, float]:
        """The area under the cumulative error distribution up to the metric's threshold, in [0, 1]."""
        return self._all("auc")

    @property
    def failure_rate(self) -> dict[str, float]:
        """The percentage of faces whose value is above the metric's threshold, by metric name."""
        return self._all("failure_percent")

    @property
    def errors(self) -> dict[str, Float[np.ndarray, "n"]]:
        """Each face's value by every metric, in its unit; NaN where it cannot be measured."""
        return {name: entry.scale * entry.values for name, entry in self._headlines().items()}

    @property
    def landmarks(self) -> dict[str, Float[np.ndarray, "points"]]:
        """Each landmark's mean error with each normalizer `[L]`, in percent.

        It is NaN for a landmark that is never visible.
        """
        by_metric = {name: entry.landmarks for name, entry in self._headlines().items()}
        return {name: 100 * means for name, means in by_metric.items() if means is not None}

    @property
    def points(self) -> Float[np.ndarray, "n points 2"]:
        """The predicted points, (x, y) in pixels of the images."""
        first = headline(self.measurements)
        return self.predicted[first.condition][first.stage]

    @property
    def median_offset(self) -> tuple[float, float]:
        """The median (x, y) shift of the predicted points from the true ones, in pixels of the images."""
        return median_offset(self.points, self.faces.points, self.faces.visible)

    def by(self, group: str, *, metric: str = "") -> Table:
        """Return the results for each label of a group, such as each pose.

        Args:
          group: "pose", "subset", "attribute" or a name from `groups=`; `Measurement.groups` has all of them.
          metric: the metric's name; empty for the main metric.

        Returns:
          A row for each label: its number of faces, mean, median, AUC and failure rate.

        Raises:
          InputError: the group or metric does not exist.
        """
        measurement = headline(self.measurements, metric=self._metric(metric))
        if group not in measurement.groups:
            raise InputError(f"no group is called {quoted(group)}: use one of {', '.join(measurement.groups)}")
        rows = [
            {group: label, "faces": numbers["faces"], **{name: numbers[key] for key, name in COLUMNS.items()}}
            for label, numbers in measurement.by(group).items()
        ]
        kind = f"{measurement.metric} ({measurement.unit}), {measurement.stage}"
        return Table(rows, title=f"{self.faces.name} by {group}: {kind}")

    def select(self, *, stage: str = "", condition: str = "") -> "Evaluation":
        """Return the results of one stage, one condition (kind of boxes), or both; an empty name keeps all.

        Raises:
          InputError: the stage or condition does not exist.
        """
        for kind, name, known in (("stage", stage, self.stages), ("condition", condition, self.conditions)):
            if name and name not in known:
                raise InputError(f"no {kind} is called {quoted(name)}: use one of {', '.join(known)}")
        chosen = tuple(m for m in self.measurements if stage in ("", m.stage) and condition in ("", m.condition))
        return dataclasses.replace(self, measurements=chosen)

    def compare(self, other: "Evaluation", *, metric: str = "", seed: int = 0) -> Comparison:
        """Compare this evaluation to another model's on the same faces, face by face.

        Args:
          other: an evaluation of the same faces.
          metric: the metric's name; empty for the main metric.
          seed: the random seed of the bootstrap.

        Returns:
          The mean of (other - this) with its 95% confidence interval, and the differences for each face and landmark.

        Raises:
          InputError: the faces differ, or one of the evaluations lacks the metric.
        """
        if len(self) != len(other) or self.faces.photos != other.faces.photos:
            raise InputError(
                f"the two evaluations have different faces ({len(self)} and {len(other)}): "
                "evaluate both on the same FaceSet"
            )
        if self.faces.points.shape != other.faces.points.shape or not np.array_equal(
            np.where(self.faces.visible[..., None], self.faces.points, 0),
            np.where(other.faces.visible[..., None], other.faces.points, 0),
        ):
            raise InputError("the two evaluations have different annotated points: evaluate both on the same FaceSet")
        name = self._metric(metric)
        other._metric(name)
        first, second = (headline(evaluation.measurements, metric=name) for evaluation in (self, other))
        return compare_measurements(first, second, photos=self.faces.photos, seed=seed)

    def plot(self, *, metric: str = "") -> Any:
        """Plot the cumulative error distribution of each stage and condition, as a Matplotlib figure.

        Raises:
          InputError: the metric does not exist, or has no threshold.
        """
        from wing_jax.report import plots

        name = self._metric(metric)
        chosen = [m for m in self.measurements if m.metric == name]
        first = chosen[0]
        if first.threshold is None:
            raise InputError(f"the metric {quoted(name)} has no threshold: register it with one to plot it")
        return plots.ced_figure(
            {tables.series(m, self.measurements): m.values for m in chosen},
            threshold=first.threshold,
            label=tables.label({"nme": first.is_nme, "metric": name, "unit": first.unit}),
            scale=first.scale,
        )

    def plot_stress(self) -> Any:
        """Plot mean and failures at each level of each change, as a Matplotlib figure.

        Raises:
          InputError: the evaluation was made without `stress=True`.
        """
        from wing_jax.report import plots

        if not self.stress:
            raise InputError("no changed faces were measured: use evaluate(..., stress=True)")
        unchanged, *changed = ((result, result.measurement.statistics()) for result in self.stress)
        panels: dict[str, dict[str, tuple[Any, Any]]] = {}
        for result, numbers in changed:
            levels = panels.setdefault(f"{result.name} ({result.unit})" if result.unit else result.name, {})
            levels[f"{result.level:g}"] = numbers["mean"], numbers["failure_percent"]
        first = self.stress[0].measurement
        return plots.stress_figure(
            panels,
            unchanged=(unchanged[1]["mean"], unchanged[1]["failure_percent"]),
            label=tables.label({"nme": first.is_nme, "metric": first.metric, "unit": first.unit}),
        )

    def report(self, folder: str | Path, *, title: str = "", details: Mapping[str, str] | None = None) -> Path:
        """Write a report: a page with plots, tables and the best and worst faces, and results.json.

        Args:
          folder: created if it does not exist; files of an earlier report are overwritten.
          title: the page's heading; empty for the data set's name.
          details: more details of the model to show on the page, by name, such as the command.

        Returns:
          The path of its index.html.
        """
        from wing_jax.report.page import StressSection, write_report

        first = headline(self.measurements)
        return write_report(
            Path(folder),
            title=title or f"Evaluation on {self.faces.name}",
            details={**self.details, **(details or {})},
            measurements=self.measurements,
            faces=self.faces,
            predicted=self.predicted[first.condition][first.stage],
            stress=StressSection(tables.stress_grid(self.stress), self.plot_stress, self._stress_entries())
            if self.stress
            else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON-serializable values; the key "results" has the content of results.json."""
        return {
            "dataset": self.faces.name,
            "faces": len(self.faces),
            "scheme": self.faces.scheme.name,
            "median_offset_pixels": list(self.median_offset),
            "details": dict(self.details),
            "remarks": list(self.remarks),
            "results": [m.to_dict() for m in self.measurements],
            **({"stress": self._stress_entries()} if self.stress else {}),
        }

    def __str__(self) -> str:
        summary = [m.to_dict() for m in self.measurements]
        grids = [grid for grid in (tables.results_grid(summary), *tables.other_grids(summary)) if grid.rows]
        x, y = self.median_offset
        scheme = self.faces.scheme
        lines = [f"{self.faces.name}: {len(self.faces)} faces, {scheme.points} points ({scheme.name})", *self.remarks]
        if self.stress:
            grids.append(tables.stress_grid(self.stress))
        for grid in grids:
            lines += ["", tables.text(grid)]
        lines += ["", f"median offset: {x:+.2f} pixels to the right of the true points, {y:+.2f} below"]
        return "\n".join(lines)

    __repr__ = __str__

    def _stress_entries(self) -> list[dict[str, Any]]:
        return [result.to_dict() for result in self.stress]

    def _headlines(self) -> dict[str, Measurement]:
        return {name: headline(self.measurements, metric=name) for name in self.metrics}

    def _all(self, key: str, *, nme: bool = False) -> dict[str, float]:
        entries = {name: entry for name, entry in self._headlines().items() if entry.is_nme or not nme}
        values = {name: entry.statistics()[key] for name, entry in entries.items()}
        return {name: float("nan") if value is None else float(value) for name, value in values.items()}

    def _metric(self, name: str) -> str:
        if name and name not in self.metrics:
            raise InputError(f"{quoted(name)} was not measured: use one of {', '.join(self.metrics)}")
        return name or self.metrics[0]


def median_offset(
    predicted: Float[np.ndarray, "n points 2"],
    target: Float[np.ndarray, "n points 2"],
    visible: Bool[np.ndarray, "n points"],
) -> tuple[float, float]:
    """Return the median (x, y) shift of the predicted points from the true ones, in the units of the points.

    Positive x is to the right of the true points, positive y below them. It is the mean over a face's visible points
    and the median over the faces. Random errors average out, but a shift of the annotation does not: coordinates that
    count from 1 but are read as counting from 0 are off by one pixel at every face size.

    >>> target = np.zeros((2, 5, 2), np.float32)
    >>> median_offset(target + np.float32([1.0, -0.5]), target, np.ones((2, 5), bool))
    (1.0, -0.5)
    """
    difference = np.ma.masked_array(predicted - target, np.broadcast_to(~visible[..., None], predicted.shape)).mean(1)
    x, y = np.ma.median(difference, axis=0).tolist()
    return x, y
