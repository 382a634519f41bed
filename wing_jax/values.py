"""Dataclasses that hold arrays, as values: comparable, hashable, printable in one line, and small when pickled."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wing_jax.text import cut

LINE = 200  # characters of a repr


class Value:
    """Base of frozen dataclasses that hold arrays; declare them with `eq=False, repr=False`.

    Two are equal where they are of one type and all fields are: arrays of one dtype, shape and content (NaN equals
    NaN), nested lists, tuples and dicts of such. Equal values have equal hashes. Only fields are pickled: what
    `functools.cached_property` has computed is computed again.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or all(equal(one, another) for one, another in zip(_of(self), _of(other), strict=True))

    def __hash__(self) -> int:
        return hash((type(self), *map(_outline, _of(self))))

    def __repr__(self) -> str:
        names = [field.name for field in dataclasses.fields(self) if field.repr]
        said = ", ".join(f"{name}={shown(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({cut(said, length=LINE)})"

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def equal(one: Any, another: Any) -> bool:
    """Whether two fields hold the same; see `Value`."""
    if one is another:
        return True
    if _is_array(one) or _is_array(another):
        if not (_is_array(one) and _is_array(another)) or one.dtype != another.dtype or one.shape != another.shape:
            return False
        one, another = np.asarray(one), np.asarray(another)
        return np.array_equal(one, another, equal_nan=one.dtype.kind in "fc")
    if isinstance(one, Mapping) and isinstance(another, Mapping):
        return one.keys() == another.keys() and all(equal(value, another[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and type(one) is type(another):
        return len(one) == len(another) and all(map(equal, one, another))
    return bool(one == another)


def shown(value: Any) -> str:
    """A field in a repr: of an array its dtype and shape, of what holds many things how many."""
    if _is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping):
        return f"{{{len(value)} entries}}" if value else "{}"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"{type(value).__name__} of {len(value)}"
    return " ".join(cut(repr(value), length=100).split())


def _of(value: Value) -> list[Any]:
    return [getattr(value, field.name) for field in dataclasses.fields(value) if field.compare]


def _outline(value: Any) -> Any:
    """What is hashed of a field: nothing that it would take long to read."""
    if _is_array(value):
        return value.shape, str(value.dtype)
    if isinstance(value, Mapping | list | tuple):
        return len(value)
    try:
        return hash(value)
    except TypeError:
        return type(value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
