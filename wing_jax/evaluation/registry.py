"""The registry of metrics by name. Any package can add to it."""

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
    """The eyes of a scheme: the points of each eye, whose mean is taken as the pupil, and the outer corners.

    Args:
      left: indices of the points of the eye on the left side of the image.
      right: indices of the points of the eye on the right side.
      left_outer: index of the outer corner of the left eye.
      right_outer: index of the outer corner of the right eye.

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
        """Return the eyes of `scheme`."""
        return cls(scheme.left_eye, scheme.right_eye, scheme.left_outer, scheme.right_outer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: one number for each face; smaller is better.

    `function` has the signature `(predicted, faces) -> values`: `predicted` `[n, points, 2]` and the annotated `faces`
    (a `FaceSet` with `points`, `visible`, `boxes`, `scheme` and more), both in pixels of the images; `values` `[n]` are
    NaN where the face cannot be measured. If the unit is "%", the values are fractions, and tables show them times 100.

    Args:
      name: the name in tables.
      function: see above.
      threshold: the threshold of AUC and failure rate, in the unit of the function's values; None: no AUC and no
        failure rate.
      unit: "%" for fractions, or the unit that tables show.
      lengths: for an NME, the function `(faces) -> [n]` of the lengths in pixels that errors are divided by.

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
        """The factor by which tables multiply the values."""
        return 100.0 if self.unit == "%" else 1.0

    def __call__(self, predicted: Float[np.ndarray, "n points 2"], faces: FaceSet) -> PerFace:
        """Return the value of each face `[n]`, float64.

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
                "for each face, NaN where a face has none"
            )
        return array


def _from_entry_point(name: str, loaded: Any) -> Metric:
    """Return the metric of an entry point, which is a `Metric` or a function."""
    if isinstance(loaded, Metric):
        return dataclasses.replace(loaded, name=name)
    return Metric(name=name, function=_check_callable(loaded, name))


METRICS: Registry[Metric] = Registry("metric", group="wing_jax.metrics", adopt=_from_entry_point)


def register_metric(
    function: Any = None, /, *, name: str | None = None, unit: str = "%", threshold: float | None = None
) -> Any:
    """Register a metric, which then appears in the tables, the report and results.json of every evaluation.

    Args:
      function: `(predicted, faces) -> [n]`, see `Metric`. The decorator returns it unchanged.
      name: the name in tables and for `--metrics`; None: the function's name.
      unit: "%" if the function returns fractions, or the unit that tables show, such as "pixels".
      threshold: the threshold of AUC and failure rate, in the unit of the function's values; None: no AUC and no
        failure rate.

    Returns:
      The function; or, without a function, the decorator.

    Raises:
      ValueError: the name contains characters other than letters, digits and underscores, or is already registered.

    >>> @register_metric(unit="pixels")
    ... def worst_point(predicted, faces):
    ...     from wing_jax.evaluation.metrics import point_errors
    ...     return point_errors(predicted, faces.points, faces.visible).max(1)
    >>> METRICS["worst_point"].unit
    'pixels'
    """

    def add(function: Any) -> Any:
        key = name or getattr(function, "__name__", "")
        metric = Metric(name=key, function=_check_callable(function, key), unit=unit, threshold=threshold)
        METRICS.add(key, metric, origin=function)
        return function

    return add if function is None else add(function)


def register_normalizer(function: Any = None, /, *, name: str | None = None, threshold: float = 0.1) -> Any:
    """Register another length as a normalizer: adds an NME metric, and columns to the tables of landmarks.

    Args:
      function: `(points, boxes, eyes, visible) -> [n]`, pixels; NaN where a face has no such length. `points`
        `[n, points, 2]` are the annotated points, `boxes` `[n, 4]` the data set's, `eyes` the scheme's (`Eyes`),
        `visible` `[n, points]`. The decorator returns it unchanged.
      name: the name in tables; None: the function's name.
      threshold: the threshold of AUC and failure rate, a fraction of the length.

    Returns:
      The function; or, without a function, the decorator.

    Raises:
      ValueError: the name contains characters other than letters, digits and underscores, or is already registered.

    >>> @register_normalizer(name="width_of_the_docs")
    ... def width(points, boxes, eyes, visible):
    ...     return boxes[:, 2] - boxes[:, 0]
    >>> METRICS["width_of_the_docs"].unit
    '%'
    """

    def add(function: Any) -> Any:
        key = name or getattr(function, "__name__", "")
        _check_callable(function, key)

        def lengths(faces: FaceSet) -> PerFace:
            return np.asarray(function(faces.points, faces.boxes, Eyes.of(faces.scheme), faces.visible), np.float64)

        def errors(predicted: Float[np.ndarray, "n points 2"], faces: FaceSet) -> PerFace:
            return nme(point_errors(predicted, faces.points, faces.visible), lengths(faces), faces.visible)

        METRICS.add(key, Metric(name=key, function=errors, threshold=threshold, lengths=lengths), origin=function)
        return function

    return add if function is None else add(function)


def as_metric(given: Any) -> Metric:
    """Return the metric for a name, a `Metric`, or a function `(predicted, faces) -> [n]`.

    Args:
      given: a key of `METRICS`, a `Metric`, or a function. A function that is not registered returns fractions,
        which tables show in per cent; for another unit pass a `Metric`.

    Returns:
      The metric.

    Raises:
      InputError: `given` is none of them.

    >>> as_metric(lambda predicted, faces: predicted.max((1, 2))).name
    '<lambda>'
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        return METRICS[given]
    name = getattr(given, "__name__", "")
    registered = METRICS.registered().get(name)
    if registered is not None and registered.function is given:
        return registered
    return Metric(name=name or "metric", function=_check_callable(given, name))


def _check_callable(function: Any, name: str) -> Any:
    if not callable(function):
        raise InputError(
            f"the metric {quoted(name)} is {quoted(function)}: give a name from METRICS or a function "
            "(predicted, faces)"
        )
    return function
