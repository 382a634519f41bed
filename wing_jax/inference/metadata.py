"""The metadata of a model: its name, its training data, and the position of faces in its boxes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from wing_jax.data.boxes import ShapeInBox
from wing_jax.data.held_out import HeldOut
from wing_jax.errors import InputError
from wing_jax.text import quoted, reason
from wing_jax.values import Value

Plain = TypeVar("Plain", str, int)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Metadata(Value):
    """The metadata of a `Localizer`; an immutable value.

    >>> Metadata(name="mine", faces=300, extra={"author": "me"}).to_table()
    {'name': 'mine', 'faces': 300, 'extra': {'author': 'me'}}
    """

    name: str = ""
    data: str = ""  # the training data sets
    faces: int = 0  # the number of training faces
    shape_in_box: ShapeInBox | None = None  # the position of faces in the training boxes; None: unknown
    detectors: Mapping[str, ShapeInBox] = dataclasses.field(default_factory=dict)  # the same for the boxes of detectors
    held_out: HeldOut | None = None  # the photos held out from training; None: not recorded
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # other JSON-serializable entries

    def to_table(self) -> dict[str, Any]:
        """Convert to a JSON-serializable dict, without unknown entries."""
        table: dict[str, Any] = {"name": self.name, "data": self.data, "faces": self.faces}
        table["shape_in_box"] = None if self.shape_in_box is None else _shape_to_table(self.shape_in_box)
        table["detectors"] = {name: _shape_to_table(shape) for name, shape in self.detectors.items()}
        table["held_out"] = None if self.held_out is None else self.held_out.to_table()
        table["extra"] = dict(self.extra)
        return {name: value for name, value in table.items() if value not in (None, "", 0, {})}

    @classmethod
    def from_table(cls, table: Any) -> "Metadata":
        """Create from the result of `to_table`.

        Raises:
          InputError: an entry is invalid or unknown; the message names it.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(table, Mapping) or not table.keys() <= names:
            raise InputError(f"the metadata is {quoted(table)}, not a table with the keys {', '.join(sorted(names))}")
        shape, held_out = table.get("shape_in_box"), table.get("held_out")
        return cls(
            name=_plain(table, "name", ""),
            data=_plain(table, "data", ""),
            faces=_plain(table, "faces", 0),
            shape_in_box=None if shape is None else _shape_from_table(shape, "shape_in_box"),
            detectors={
                name: _shape_from_table(entry, f"detectors: {quoted(name)}")
                for name, entry in _mapping(table, "detectors").items()
            },
            held_out=None if held_out is None else HeldOut.from_table(held_out),
            extra=dict(_mapping(table, "extra")),
        )


def _plain(table: Mapping[str, Any], name: str, default: Plain) -> Plain:
    value = table.get(name, default)
    if type(value) is not type(default):
        raise InputError(f"{name}={quoted(value)} of the metadata is not of type {type(default).__name__}")
    return value


def _mapping(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, Mapping):
        raise InputError(
            f"{name}={quoted(value)} of the metadata is not a table: correct model.json, or copy the bundle again"
        )
    return value


def _shape_to_table(shape: ShapeInBox) -> dict[str, Any]:
    return {"center": [float(value) for value in shape.center], "side": float(shape.side)}


def _shape_from_table(table: Any, name: str) -> ShapeInBox:
    try:
        x, y = (float(value) for value in table["center"])
        return ShapeInBox(center=(x, y), side=float(table["side"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} of the metadata is not a center (x, y) and side, in sides of the box ({reason(error)})"
        ) from error
