"""Dataclasses that hold arrays are comparable and hashable, print in one line and pickle small."""

import copy
import dataclasses
import importlib
import pickle
import pkgutil
import typing
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import wing_jax
from wing_jax import FaceLandmarker, Localizer
from wing_jax.config import AugmentConfig, LossConfig
from wing_jax.data.load import load_faces
from wing_jax.evaluation.comparison import Comparison
from wing_jax.evaluation.evaluation import Evaluation
from wing_jax.inference.face_landmarker import Faces
from wing_jax.inference.tracking import Tracker, Tracks
from wing_jax.presets import load
from wing_jax.runtime.parameters import hash_with_dicts
from wing_jax.schemes import IBUG_68, MTFL_5, get_conversion
from wing_jax.train.state import TrainState
from wing_jax.values import Value, equal

EXCLUDED = (TrainState, nn.Module)  # pytrees and networks
MUTABLE = {"Canvas"}  # drawn on, so equal only to itself
CUSTOM_REPR = (Localizer, Evaluation, Comparison)  # a line or a table of their results


def test_equal_configs_have_equal_hashes():
    first, second = (AugmentConfig(rotation=1.0, translation=0.0, scale=0.0, extra=extra) for extra in ({}, {"a": {}}))
    assert first != second
    assert len({first, second, dataclasses.replace(second, extra={"a": {}})}) == 2
    reordered = [LossConfig(params=dict(pairs)) for pairs in ((("a", 1.0), ("b", 2.0)), (("b", 2.0), ("a", 1.0)))]
    assert len(set(reordered)) == 1
    assert hash(load("w300")) == hash(load("w300"))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Pair(Value):
    array: object
    more: object = None
    hidden: object = dataclasses.field(default=None, repr=False, compare=False)


def dataclasses_of_the_package():
    for module in pkgutil.walk_packages(wing_jax.__path__, "wing_jax."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.name:
                yield kind


def holds_arrays(hint):
    """Return whether a field of this type may hold an array, or a dict, which has no hash either."""
    if isinstance(hint, type) and (
        issubclass(hint, np.ndarray | jaxtyping.AbstractArray | dict | Mapping | Value) or hint.__name__ == "Array"
    ):
        return True
    origin = typing.get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, dict | Mapping):
        return True
    is_container = origin is not None and "Callable" not in str(origin)
    return is_container and any(holds_arrays(argument) for argument in typing.get_args(hint))


def test_every_dataclass_that_holds_arrays_is_a_value():
    checked, wrong = 0, []
    for kind in dataclasses_of_the_package():
        if issubclass(kind, EXCLUDED) or kind.__name__ in MUTABLE or not kind.__dataclass_params__.frozen:
            continue
        hints = typing.get_type_hints(kind)
        if any(holds_arrays(hints[field.name]) for field in dataclasses.fields(kind)):
            checked += 1
            if kind.__module__ == "wing_jax.config":  # its dicts hold plain values
                wrong += [kind.__name__] * (kind.__hash__ is not hash_with_dicts)
                continue
            inherited = kind.__eq__ is Value.__eq__ and kind.__hash__ is Value.__hash__
            if not (issubclass(kind, Value) and inherited and ("__repr__" not in vars(kind) or kind in CUSTOM_REPR)):
                wrong.append(kind.__name__)
    assert checked > 25
    assert not wrong


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (np.arange(3), np.arange(3), True),
        (np.arange(3), np.arange(4), False),
        (np.arange(3), np.arange(3.0), False),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array([1.0, np.nan]), np.array([np.nan, 1.0]), False),
        (jnp.arange(3), jnp.arange(3), True),
        (np.arange(3), [0, 1, 2], False),
        ({"a": np.zeros(2)}, {"a": np.zeros(2)}, True),
        ({"a": np.zeros(2)}, {"b": np.zeros(2)}, False),
        ([np.zeros(2), {"a": (np.ones(1),)}], [np.zeros(2), {"a": (np.ones(1),)}], True),
        ((np.zeros(2),), [np.zeros(2)], False),
        ((np.zeros(2),), (np.zeros(2), np.zeros(2)), False),
        (None, np.zeros(2), False),
    ],
)
def test_equality_compares_types_dtypes_shapes_and_contents(left, right, expected):
    assert equal(left, right) is expected
    first, second = Pair(array=left), Pair(array=right)
    assert (first == second) is expected
    assert (first != second) is not expected
    if expected:
        assert hash(first) == hash(second)
    assert first != "second"


def test_fields_that_are_not_compared_or_shown_are_left_out():
    assert Pair(array=1, hidden=2) == Pair(array=1, hidden=3)
    assert "hidden" not in repr(Pair(array=1, hidden=2))


def test_a_repr_is_one_short_line():
    pair = Pair(array=np.zeros((2, 3), np.float32), more={"a": 1})
    assert repr(pair) == "Pair(array=float32[2, 3], more={1 entries})"
    long = Pair(array=["a\nb" * 100], more=tuple(range(1000)))
    assert len(repr(long)) <= 300
    assert "\n" not in repr(long)


@pytest.fixture(scope="module")
def localizer():
    return Localizer.load("mtfl")


@pytest.fixture(scope="module")
def samples(localizer):
    """Name: (a value, an equal one made separately, a different one)."""
    faces = load_faces("synthetic", "test", count=2)
    points = np.zeros((1, 5, 2), np.float32)
    fields = {"boxes": np.zeros((1, 4), np.float32), "scores": np.ones(1, np.float32)}
    fields |= {"scheme": MTFL_5, "image": np.zeros((9, 9, 3), np.uint8)}
    landmarker = FaceLandmarker.load("mtfl", detector="libfacedetection")
    flipped = dataclasses.replace(localizer, flip_average=True)
    return {
        "Localizer": (localizer, Localizer.load("mtfl"), flipped),
        "Stage": (localizer.stages[0], Localizer.load("mtfl").stages[0], localizer.stages[1]),
        "FaceLandmarker": (landmarker, FaceLandmarker.load("mtfl"), FaceLandmarker.load("w300")),
        "Tracker": (
            Tracker(landmarker=landmarker),
            Tracker(landmarker=landmarker),
            Tracker(landmarker=landmarker, every=3),
        ),
        "Tracks": (Tracks(), Tracks(), Tracks(frame=1)),
        "Faces": (Faces(points=points, **fields), Faces(points=points, **fields), Faces(points=points + 1, **fields)),
        "FaceSet": (faces, copy.copy(faces), faces.take([1, 0])),
        "Conversion": (
            get_conversion(IBUG_68, MTFL_5),
            copy.deepcopy(get_conversion(IBUG_68, MTFL_5)),
            get_conversion(MTFL_5, MTFL_5),
        ),
    }


NAMES = ("Localizer", "Stage", "FaceLandmarker", "Tracker", "Tracks", "Faces", "FaceSet", "Conversion")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_values_compare_hash_and_print(samples, name):
    value, same, different = samples[name]
    assert value == same
    assert (value == different) is False
    assert value != name
    assert hash(value) == hash(same)
    assert len({value, same, different}) == 2
    assert len(repr(value)) <= 300
    assert "\n" not in repr(value)
    assert name in repr(value)


@pytest.mark.parametrize("name", NAMES)
def test_values_pickle_and_copy(samples, name):
    value = samples[name][0]
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value


@pytest.mark.slow
def test_a_used_localizer_pickles_no_more_than_a_fresh_one(localizer):
    """Arrays on the device are not pickled; they are transferred again."""
    fresh = len(pickle.dumps(Localizer.load("mtfl")))
    image, boxes = np.full((90, 90, 3), 77, np.uint8), [[20, 20, 60, 60]]
    points = localizer.predict(image, boxes)
    used = pickle.dumps(localizer)
    assert len(used) == fresh
    np.testing.assert_array_equal(pickle.loads(used).predict(image, boxes), points)


def test_the_repr_of_a_localizer_is_its_description(localizer):
    assert repr(localizer) == f"<Localizer: {localizer.describe()}>"
