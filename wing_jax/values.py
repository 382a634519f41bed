"""Base of dataclasses that hold arrays: comparable, hashable, printed in one line, and small when pickled."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wing_jax.text import cut

LINE = 200  # characters of a repr


class Value:
    """Base of frozen dataclasses that hold arrays; declare them with `eq=False, repr=False`.

    Two values are equal if they have the same type and all their fields are equal: arrays by dtype, shape and content
    (NaN equals NaN), including in nested lists, tuples and dicts. Equal values have equal hashes. Only fields are
    pickled; the results of `functools.cached_property` are computed again.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or all(map(equal, _compared_fields(self), _compared_fields(other)))

    def __hash__(self) -> int:
        return hash((type(self), *map(_hash_key, _compared_fields(self))))

    def __repr__(self) -> str:
        names = [field.name for field in dataclasses.fields(self) if field.repr]
        fields = ", ".join(f"{name}={_format_field(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({cut(fields, length=LINE)})"

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def equal(left: Any, right: Any) -> bool:
    """Compare two fields; see `Value`."""
    if left is right:
        return True
    if _is_array(left) or _is_array(right):
        if not (_is_array(left) and _is_array(right)) or left.dtype != right.dtype or left.shape != right.shape:
            return False
        left, right = np.asarray(left), np.asarray(right)
        return np.array_equal(left, right, equal_nan=left.dtype.kind in "fc")
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def _format_field(value: Any) -> str:
    """Format a field for a repr: an array as its dtype and shape, a large container as its length."""
    if _is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping):
        return f"{{{len(value)} entries}}" if value else "{}"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"{type(value).__name__} of {len(value)}"
    return " ".join(cut(repr(value), length=100).split())


def _compared_fields(value: Value) -> list[Any]:
    return [getattr(value, field.name) for field in dataclasses.fields(value) if field.compare]


def _hash_key(value: Any) -> Any:
    """Return what to hash for a field; contents of arrays and containers are left out, for speed."""
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
