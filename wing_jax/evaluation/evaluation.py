"""Predictions on a test set, measured: by normaliser, by stage, by group of faces and by landmark.

An `Evaluation` never parts from the name of its normaliser. Its errors are fractions; `summarise` gives per
cent where its keys say so. Faces whose NME is NaN (see `wing_jax.evaluation.metrics`) are left out and counted.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.evaluation import metrics
from wing_jax.evaluation.metrics import Boxes, Eyes, Points, Visible
from wing_jax.text import quoted
from wing_jax.values import Value

Division: TypeAlias = Mapping[str, Bool[np.ndarray, "faces"]]  # the members of each label


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation(Value):
    """One set of predictions measured by one normaliser."""

    dataset: str
    stage: str  # which output of the model
    condition: str  # the boxes that the model was given
    normalisation: str
    threshold: float  # of AUC and failure rate, a fraction of the normaliser
    nmes: Float[np.ndarray, "faces"]  # NaN = counted apart
    landmarks: Float[np.ndarray, "points"]  # each point's mean normalised error; NaN = never visible
    groups: Mapping[str, Division]  # of the faces

    @property
    def counted(self) -> Bool[np.ndarray, "faces"]:
        """The faces whose NME is a number."""
        return np.isfinite(self.nmes)


def evaluate(
    predictions: Mapping[str, Points],
    points: Points,
    visible: Visible | None,
    boxes: Boxes,
    *,
    eyes: Eyes | tuple[tuple[int, ...], tuple[int, ...], int, int],
    groups: Mapping[str, Sequence[str] | Mapping[str, Bool[np.ndarray, "faces"]]] | None = None,
    dataset: str = "",
    condition: str = "ground-truth boxes",
    normalisations: Sequence[str] = ("inter-ocular", "inter-pupil", "box size"),
    thresholds: Mapping[str, float] | None = None,
) -> tuple[Evaluation, ...]:
    """Measure each stage's predictions by each normaliser; the order is normaliser by normaliser.

    Args:
      predictions: of each stage by its name, in the order to be shown.
      points: the truth, in pixels of the same images.
      visible: the points that count; None for all.
      boxes: the data set's *own* boxes, which normalise. Boxes that a model was given instead, e.g. jittered
        ones, are named by `condition`; add the results for several conditions together, they are tuples.
      eyes: left points, right points, left outer corner, right outer corner.
      groups: of the faces, each a label for every face, e.g. `{"pose": ["left", ...]}`, or the members of each label,
        which may overlap, e.g. `{"attribute": {"blur": [True, ...], "occlusion": [True, ...]}}`.
      dataset: its name.
      condition: what boxes the model was given.
      normalisations: keys of `NORMALISERS`; the first leads in reports.
      thresholds: of AUC and failure rate, by normalisation, where `THRESHOLDS` is not wanted.

    Raises:
      ValueError: a normalisation is unknown, a group has not one label a face, or the points do not fit.
    """
    divisions = {name: _members(labels, name, len(points)) for name, labels in (groups or {}).items()}
    if unknown := sorted(set(normalisations) - set(metrics.NORMALISERS)):
        raise ValueError(
            f"no normalisation is called {quoted(unknown[0])}: use one of {', '.join(metrics.NORMALISERS)}"
        )
    limits = {**metrics.THRESHOLDS, **(thresholds or {})}
    shown = metrics.all_or(visible, points)
    errors = {stage: metrics.point_errors(predicted, points, shown) for stage, predicted in predictions.items()}
    evaluations = []
    for normalisation in normalisations:
        normaliser = metrics.NORMALISERS[normalisation](points, boxes, Eyes(*eyes), shown)
        for stage in predictions:
            nmes = metrics.nme(errors[stage], normaliser, shown)
            evaluation = Evaluation(
                dataset=dataset,
                stage=stage,
                condition=condition,
                normalisation=normalisation,
                threshold=limits[normalisation],
                nmes=nmes,
                landmarks=_landmark_means(errors[stage], normaliser, shown & np.isfinite(nmes)[:, None]),
                groups=divisions,
            )
            evaluations.append(evaluation)
    return tuple(evaluations)


def summarise(evaluations: Sequence[Evaluation]) -> list[dict]:
    """For each evaluation one plain dict, ready for JSON: its names, its numbers in all, by group, by point.

    NME, median and failure rate are in per cent, AUC is in [0, 1]; None where there is no face to count.
    """
    return [
        {
            "dataset": evaluation.dataset,
            "stage": evaluation.stage,
            "condition": evaluation.condition,
            "normalisation": evaluation.normalisation,
            "threshold": evaluation.threshold,
            **statistics(evaluation.nmes, evaluation.threshold),
            "groups": {name: by_group(evaluation, name) for name in evaluation.groups},
            "landmarks_percent": [None if np.isnan(m) else 100 * float(m) for m in evaluation.landmarks],
        }
        for evaluation in evaluations
    ]


def statistics(nmes: Float[np.ndarray, "faces"], threshold: float) -> dict[str, float | int | None]:
    """Numbers of faces used and left out (NaN), mean and median NME, AUC and failure rate at `threshold`."""
    counted = nmes[np.isfinite(nmes)]
    some = len(counted) > 0
    return {
        "faces": len(counted),
        "left_out": len(nmes) - len(counted),
        "nme_percent": 100 * float(counted.mean()) if some else None,
        "median_percent": 100 * float(np.median(counted)) if some else None,
        "auc": metrics.auc(counted, threshold) if some else None,
        "failure_percent": 100 * metrics.failure_rate(counted, threshold) if some else None,
    }


def by_group(evaluation: Evaluation, name: str) -> dict[str, dict]:
    """The statistics of each label of the group `name`: labels with a number by number, then the others."""
    members = evaluation.groups[name]
    return {
        label: statistics(evaluation.nmes[members[label]], evaluation.threshold)
        for label in sorted(members, key=_label_order)
    }


def _members(labels: Sequence[str] | Mapping[str, Bool[np.ndarray, "faces"]], name: str, faces: int) -> Division:
    """The faces of each label."""
    if isinstance(labels, Mapping):
        members = {label: np.asarray(mask, bool) for label, mask in labels.items()}
    else:
        column = np.asarray(labels)
        members = {label: column == label for label in dict.fromkeys(labels)}
    if wrong := [len(mask) for mask in members.values() if len(mask) != faces]:
        raise ValueError(f"group {quoted(name)} has {wrong[0]} labels for {faces} faces: make them equal")
    return members


def bin_labels(degrees: Float[Array | np.ndarray, "faces"], edges: Sequence[float | int]) -> list[str]:
    """Names like "-30° to 30°" of the bins [edge, next edge) of angles; "other" outside them and for NaN.

    Raises:
      ValueError: the edges do not rise.
    """
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges must be two or more rising numbers, not {list(edges)}")
    inner = [f"{low:g}° to {high:g}°" for low, high in itertools.pairwise(edges)]
    names = ["other", *inner, "other"]  # np.searchsorted puts NaN past the last edge
    return [names[i] for i in np.searchsorted(edges, np.asarray(degrees), side="right")]


def _landmark_means(errors: np.ndarray, normaliser: np.ndarray, counted: np.ndarray) -> np.ndarray:
    divisor = np.where(counted.any(-1), normaliser, 1.0)[:, None]
    count = counted.sum(0)
    return metrics.or_nan(np.where(counted, errors / divisor, 0.0).sum(0) / np.maximum(count, 1), count > 0)


def _label_order(label: str) -> tuple[float, str]:
    number = re.match(r"[^\w-]*(-?\d+(?:\.\d+)?)", label)
    return (float(number[1]) if number else np.inf, label)
