"""`evaluate` measures a localizer on annotated faces, `evaluate_points` any model's predictions."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_crops import FaceCrops, crop_faces, to_image
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import find_scheme
from wing_jax.errors import InputError
from wing_jax.evaluation.evaluation import Evaluation
from wing_jax.evaluation.groups import groups_of
from wing_jax.evaluation.jitter import jitter_boxes
from wing_jax.evaluation.measurement import Measurement, headline, measure
from wing_jax.evaluation.metrics import METRICS, Metric, as_metric
from wing_jax.evaluation.stress import STRESSES, UNCHANGED, StressResult, stress_points
from wing_jax.schemes import Conversion, Scheme, get_conversion
from wing_jax.text import quoted

IN_PROFILES = (
    "synthetic",
    "synthetic_2d",
    "aflw",
)  # data with full profiles, whose eyes nearly meet: not a length to divide by
# Users' arguments are typed loosely, and checked below with an error of one line.
AnyLocalizer: TypeAlias = Any  # a `LocalizerLike`
AnyFaces: TypeAlias = Any  # a `FaceSet`
PointsLike: TypeAlias = Any  # an array [faces, points, 2]
BoxesLike: TypeAlias = Any  # an array [faces, 4]
VisibleLike: TypeAlias = Any  # booleans [faces, points]


@runtime_checkable
class LocalizerLike(Protocol):
    """An object that can be evaluated: a `wing_jax.Localizer`, or any object with these members."""

    @property
    def scheme(self) -> Scheme:
        """The scheme of the predicted points."""
        ...

    @property
    def stages(self) -> Sequence[Any]:
        """The stages; the last stage's `face_crop_size` is the side of the face crops, in pixels."""
        ...

    def locate(self, face_crops: Any, boxes: Float[np.ndarray, "n 4"]) -> Sequence[Float[np.ndarray, "n points 2"]]:
        """Return the points after each stage for faces already cropped; boxes and points are in pixels of the crops."""
        ...


def leading_metrics(data: str, *, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return `names` (empty: all registered metrics) with the metric that is usual for the data set `data` first."""
    leading = "box-size" if data in IN_PROFILES else "inter-ocular"
    return tuple(sorted(names or METRICS, key=lambda name: name != leading))


def evaluate(
    localizer: AnyLocalizer,
    faces: AnyFaces,
    *,
    jitter: float = 0.0,
    stress: bool = False,
    seed: int = 0,
    metrics: Sequence[str | Metric | Any] = (),
    groups: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, float] | None = None,
    crops: FaceCrops | None = None,
) -> Evaluation:
    """Measure a localizer on annotated faces, after each of its stages.

    Args:
      localizer: a `wing_jax.Localizer`, or an object with its interface (`LocalizerLike`).
      faces: the annotated faces; the localizer's points must be of their scheme or convertible to it.
      jitter: if above 0, measure again with boxes randomly moved and resized by up to this fraction of their side, to
        imitate a detector's boxes.
      stress: whether to measure again with the faces rotated, with wrong boxes, and with small, dark, bright, noisy,
        blurred, compressed, covered and gray pictures (`wing_jax.evaluation.stress.STRESSES`): once for each level.
      seed: the random seed of the jitter, and of `stress`.
      metrics: names in `wing_jax.metrics.METRICS`, `Metric`s, or functions `(predicted, faces) -> [n]`; the first is
        the main one. Empty: all registered metrics.
      groups: additional groups of faces by name: one label for each face, or a mask of the faces of each label
        (`wing_jax.evaluation.groups.groups_of`).
      thresholds: thresholds of AUC and failure rate by metric name, instead of the defaults; fractions for an NME.
      crops: face crops already cut from `faces`, at the size of the localizer's last stage; None: cut them now.

    Returns:
      An `Evaluation`. `print` shows its table.

    Raises:
      InputError: the schemes do not match, a metric is unknown, a group does not have one label for each face, a
        picture cannot be read.

    >>> import wing_jax as wj
    >>> from wing_jax.data.load import load_faces
    >>> evaluation = evaluate(wj.Localizer.load("w300"), load_faces("synthetic", "test", count=4))
    >>> evaluation.metrics[:2], evaluation.stages
    (('inter-ocular', 'inter-pupil'), ('stage 1', 'stage 2'))
    >>> 0 < evaluation.nme["inter-ocular"] < 20  # per cent
    True
    """
    if not isinstance(localizer, LocalizerLike):
        raise InputError(f"the localizer is {quoted(localizer)}: pass a Localizer, such as `Localizer.load(path)`")
    if not isinstance(faces, FaceSet):
        raise InputError(f"the faces are {quoted(faces)}: pass a FaceSet, such as `load_faces(name)`")
    conversion = conversion_to(localizer.scheme, faces)
    crops = crops or crop_faces(faces, size=localizer.stages[-1].face_crop_size, workers=os.cpu_count() or 1)
    conditions = {f"{faces.box_convention} boxes": crops.boxes}
    if jitter != 0:
        conditions[f"boxes jittered by {jitter:.0%}"] = jitter_boxes(crops.boxes, fraction=jitter, seed=seed)
    predicted = {}
    for condition, boxes in conditions.items():
        located = localizer.locate(crops.images, boxes)
        predicted[condition] = {
            f"stage {number}": conversion.points(to_image(crops.crop_to_image, np.asarray(points)))
            for number, points in enumerate(located, 1)
        }
    faces = dataclasses.replace(faces, visible=faces.visible & conversion.available)
    describe = getattr(localizer, "describe", None)
    evaluation = _measure_points(
        predicted,
        faces,
        metrics=metrics,
        groups=groups,
        thresholds=thresholds,
        details={} if describe is None else {"model": describe()},
        remarks=_remarks(localizer, faces, conversion),
    )
    if not stress:
        return evaluation
    first = headline(evaluation.measurements)
    main = [as_metric(metric) for metric in (metrics or METRICS)][:1]
    results = [StressResult(UNCHANGED, None, "", first)]
    for change in STRESSES:
        for level in change.levels:
            points = conversion.points(stress_points(localizer.locate, crops, change, level, seed=seed))
            settings = {"metrics": main, "condition": change.label(level), "thresholds": thresholds or {}}
            (measurement,) = measure({first.stage: points}, faces, groups={}, **settings)
            results.append(StressResult(change.name, level, change.unit.strip(), measurement))
    return dataclasses.replace(evaluation, stress=tuple(results))


def evaluate_points(
    predicted: PointsLike | Mapping[str, PointsLike],
    target: FaceSet | PointsLike,
    *,
    scheme: Scheme | str | None = None,
    boxes: BoxesLike = None,
    visible: VisibleLike = None,
    name: str = "faces",
    condition: str = "given boxes",
    metrics: Sequence[str | Metric | Any] = (),
    groups: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Evaluation:
    """Measure the predictions of any model.

    Args:
      predicted: `[faces, points, 2]`, (x, y) in pixels of the images; or a mapping of stage names to such arrays.
      target: the annotated faces; or only their points, in the same pixels, with the next three arguments.
      scheme: the scheme of the points, which says where the eyes are: a `Scheme`, the name of a published one or a TOML
        file. Only if `target` is points, as are `boxes` and `visible`.
      boxes: `[faces, 4]` x0, y0, x1, y1, which normalize errors; None: the tight boxes of the points.
      visible: `[faces, points]`, the points to include; None for all.
      name: the name of the faces in tables.
      condition: the name in tables of the boxes that the model used.
      metrics: as for `evaluate`.
      groups: as for `evaluate`.
      thresholds: as for `evaluate`.

    Raises:
      InputError: the shapes do not match, a point that counts is not finite, or as for `evaluate`.

    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> evaluation = evaluate_points(true + np.float32([3, 4]), true, scheme="mtfl5")
    >>> evaluation.nme["inter-ocular"]  # 5 of 40 pixels, in per cent
    12.5
    """
    if not isinstance(target, FaceSet):
        target = _faceset_from_points(target, scheme, boxes, visible, name)
    elif not (scheme is None and boxes is None and visible is None):
        raise InputError("scheme, boxes and visible are only for an array of points: a FaceSet already has them")
    stages = predicted if isinstance(predicted, Mapping) else {"predicted": predicted}
    if not stages:
        raise InputError("predicted is empty: give points [faces, points, 2], or a mapping of names to them")
    return _measure_points(
        {condition: {str(stage): np.asarray(points) for stage, points in stages.items()}},
        target,
        metrics=metrics,
        groups=groups,
        thresholds=thresholds,
    )


def conversion_to(scheme: Scheme, faces: FaceSet) -> Conversion:
    """Return the conversion of points of `scheme` to the faces' scheme.

    Raises:
      InputError: no conversion exists.
    """
    try:
        return get_conversion(scheme, faces.scheme)
    except ValueError as error:
        raise InputError(
            f"the localizer predicts {scheme.points} points ({scheme.name}), {faces.name} has "
            f"{faces.scheme.points} ({faces.scheme.name}): use a model of the faces' scheme"
        ) from error


def _measure_points(
    predicted: Mapping[str, Mapping[str, Float[np.ndarray, "n points 2"]]],
    faces: FaceSet,
    *,
    metrics: Sequence[Any],
    groups: Mapping[str, Any] | None,
    thresholds: Mapping[str, float] | None,
    details: Mapping[str, str] | None = None,
    remarks: tuple[str, ...] = (),
) -> Evaluation:
    if isinstance(metrics, str):
        raise InputError(f"metrics={quoted(metrics)} is a single name: give a list, such as [{quoted(metrics)}]")
    chosen = [as_metric(metric) for metric in (metrics or METRICS)]
    if unknown := sorted(set(thresholds or {}) - {metric.name for metric in chosen}):
        raise InputError(f"thresholds names {quoted(unknown[0])}, which is not measured: use the names of the metrics")
    divisions = groups_of(faces, more=groups)
    measurements: list[Measurement] = []
    for condition, stages in predicted.items():
        measurements += measure(
            stages, faces, metrics=chosen, condition=condition, groups=divisions, thresholds=thresholds or {}
        )
    return Evaluation(
        measurements=tuple(measurements), faces=faces, predicted=predicted, details=details or {}, remarks=remarks
    )


def _remarks(localizer: LocalizerLike, faces: FaceSet, conversion: Conversion) -> tuple[str, ...]:
    remarks = []
    if conversion.source.names != conversion.target.names:
        remarks.append(
            f"the model's points are converted to {faces.scheme.name}, which approximates {conversion.approximates}; "
            f"{int(conversion.available.sum())} of {faces.scheme.points} points are available"
        )
    trained = getattr(localizer, "box_convention", faces.box_convention)
    if faces.box_convention != trained:
        remarks.append(
            f"the model was trained on {trained!r} boxes, but these are {faces.box_convention!r}: expect "
            f"larger errors than on {trained!r} boxes"
        )
    return tuple(remarks)


def _faceset_from_points(points: Any, scheme: Scheme | str | None, boxes: Any, visible: Any, name: str) -> FaceSet:
    points = np.asarray(points, np.float32)
    if scheme is None:
        raise InputError("scheme is missing: to measure points without a FaceSet, give their Scheme")
    scheme = find_scheme(scheme) if isinstance(scheme, str) else scheme
    if points.ndim != 3 or points.shape[1:] != (scheme.points, 2) or not len(points):
        raise InputError(
            f"target is {points.shape}: give points [faces, {scheme.points}, 2] of the scheme {scheme.name}, at least "
            "one face"
        )
    visible = np.asarray(np.isfinite(points).all(-1) if visible is None else visible)
    if visible.shape != points.shape[:2] or visible.dtype != bool:
        raise InputError(
            f"visible is {visible.dtype} {visible.shape}: give a boolean for each point {points.shape[:2]}"
        )
    if boxes is None:
        low, high = (np.where(visible[..., None], points, end) for end in (np.inf, -np.inf))
        tight = np.concatenate([low.min(1), high.max(1)], axis=-1)
        boxes = np.where(visible.any(1, keepdims=True), tight, 0)
    boxes = np.asarray(boxes, np.float32)
    if boxes.shape != (len(points), 4):
        raise InputError(f"boxes is {boxes.shape}: give x0, y0, x1, y1 of each of the {len(points)} faces")
    return FaceSet(
        name=name,
        scheme=scheme,
        pictures=np.zeros((len(points), 1, 1, 3), np.uint8),
        points=points,
        visible=visible,
        boxes=boxes,
        box_convention="given",
        photos=tuple(map(str, range(len(points)))),
        subsets=("all",) * len(points),
    )
