"""The registry of metrics: what is measured of each face, by name. Any package can add to it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation.measures import PerFace, nme, point_errors
from wing_jax.runtime.registry import Registry
from wing_jax.schemes import Scheme
from wing_jax.text import quoted


class Eyes(NamedTuple):
    """A scheme's eyes: the points of each, whose mean is taken as the pupil, and the outer corners.

    Args:
      left: indices of the points of the eye that lies left in the image.
      right: those of the other eye.
      left_outer: index of its outer corner.
      right_outer: that of the other eye's.

    >>> from wing_jax.schemes import MTFL_5
    >>> Eyes.of(MTFL_5)
    Eyes(left=(0,), right=(1,), left_outer=0, right_outer=1)
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    left_outer: int
    right_outer: int

    @classmethod
    def of(cls, scheme: Scheme) -> "Eyes":
        """Those of `scheme`."""
        return cls(scheme.left_eye, scheme.right_eye, scheme.left_outer, scheme.right_outer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One number for each face; the smaller, the better.

    `function` has the signature `(predicted, faces) -> values`: `predicted` `[n, points, 2]` and the annotated `faces`
    (a `FaceSet` with `points`, `visible`, `boxes`, `scheme` and more), both in pixels of the images; `values` `[n]` are
    NaN where the face cannot be measured. With the unit "%" they are fractions, which tables show times 100.

    Args:
      name: what tables call it.
      function: see above.
      threshold: of AUC and failure rate, in the unit of the function's values; None: neither.
      unit: "%" for fractions, or what tables write beside the values.
      lengths: of an NME: the pixels that errors are divided by.

    >>> metric = Metric(name="worst", function=lambda predicted, faces: predicted.max((1, 2)), unit="pixels")
    >>> metric.scale
    1.0
    """

    name: str
    function: Callable[[Float[np.ndarray, "n points 2"], FaceSet], Any]
    threshold: float | None = None
    unit: str = "%"
    lengths: Callable[[FaceSet], PerFace] | None = None

    @property
    def scale(self) -> float:
        """What tables multiply the values by."""
        return 100.0 if self.unit == "%" else 1.0

    def __call__(self, predicted: Float[np.ndarray, "n points 2"], faces: FaceSet) -> PerFace:
        """The value of each face `[n]`, float64.

        Raises:
          InputError: the function does not return a number for each face.
        """
        values = self.function(predicted, faces)
        try:
            array = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            array = np.zeros((0, 0))
        if array.shape != (len(faces),):
            raise InputError(
                f"the metric {quoted(self.name)} returned {quoted(values)} for {len(faces)} faces: return one number "
                "for each face, NaN where there is none"
            )
        return array


def _adopt(name: str, found: Any) -> Metric:
    """The metric that an entry point names: a `Metric`, or its function."""
    if isinstance(found, Metric):
        return dataclasses.replace(found, name=name)
    return Metric(name=name, function=_callable(found, name))


METRICS: Registry[Metric] = Registry("metric", group="wing_jax.metrics", adopt=_adopt)


def register_metric(
    function: Any = None, /, *, name: str | None = None, unit: str = "%", threshold: float | None = None
) -> Any:
    """Add a metric, which then stands in the tables, the report and results.json of each evaluation.

    Args:
      function: `(predicted, faces) -> [n]`, see `Metric`. The decorator returns it unchanged.
      name: what tables and `--metrics` call it; None: the function's own name.
      unit: "%", where the function returns fractions, or what tables write beside its values, such as "pixels".
      threshold: of AUC and failure rate, in the unit of the function's values; None: it has neither.

    Returns:
      The function itself; or, where none is given, the decorator that returns it.

    Raises:
      ValueError: the name is no word, or is taken.

    >>> @register_metric(unit="pixels")
    ... def worst_point(predicted, faces):
    ...     from wing_jax.evaluation.metrics import point_errors
    ...     return point_errors(predicted, faces.points, faces.visible).max(1)
    >>> METRICS["worst_point"].unit
    'pixels'
    """

    def add(function: Any) -> Any:
        own = name or getattr(function, "__name__", "")
        metric = Metric(name=own, function=_callable(function, own), unit=unit, threshold=threshold)
        METRICS.add(own, metric, origin=function)
        return function

    return add if function is None else add(function)


def register_normalizer(function: Any = None, /, *, name: str | None = None, threshold: float = 0.1) -> Any:
    """Add the NME by another length as a metric; errors of landmarks are then divided by that length, too.

    Args:
      function: `(points, boxes, eyes, visible) -> [n]`, pixels; NaN where a face has no such length. `points`
        `[n, points, 2]` are the annotated ones, `boxes` `[n, 4]` the data set's, `eyes` the scheme's (`Eyes`),
        `visible` `[n, points]`. The decorator returns it unchanged.
      name: what tables call it; None: the function's own name.
      threshold: of AUC and failure rate, a fraction of the length.

    Returns:
      The function itself; or, where none is given, the decorator that returns it.

    Raises:
      ValueError: the name is no word, or is taken.

    >>> @register_normalizer(name="width_of_the_docs")
    ... def width(points, boxes, eyes, visible):
    ...     return boxes[:, 2] - boxes[:, 0]
    >>> METRICS["width_of_the_docs"].unit
    '%'
    """

    def add(function: Any) -> Any:
        own = name or getattr(function, "__name__", "")
        _callable(function, own)

        def lengths(faces: FaceSet) -> PerFace:
            return np.asarray(function(faces.points, faces.boxes, Eyes.of(faces.scheme), faces.visible), np.float64)

        def errors(predicted: Float[np.ndarray, "n points 2"], faces: FaceSet) -> PerFace:
            return nme(point_errors(predicted, faces.points, faces.visible), lengths(faces), faces.visible)

        METRICS.add(own, Metric(name=own, function=errors, threshold=threshold, lengths=lengths), origin=function)
        return function

    return add if function is None else add(function)


def as_metric(given: Any) -> Metric:
    """The metric of a name, a `Metric`, or a function `(predicted, faces) -> [n]`, which tables call by its name.

    Args:
      given: a key of `METRICS`, a `Metric`, or a function.

    Returns:
      The metric.

    Raises:
      InputError: it is none of them.

    >>> as_metric(lambda predicted, faces: predicted.max((1, 2))).name
    '<lambda>'
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        return METRICS[given]
    return Metric(name=getattr(given, "__name__", "metric"), function=_callable(given, getattr(given, "__name__", "")))


def _callable(function: Any, name: str) -> Any:
    if not callable(function):
        raise InputError(
            f"the metric {quoted(name)} is {quoted(function)}: give a name of METRICS, or a function (predicted, faces)"
        )
    return function
