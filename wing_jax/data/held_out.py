"""The photos that a training run held out to choose its checkpoint, as recorded in the model."""

import dataclasses
import hashlib
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import numpy as np

from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.text import quoted, reason

Plain = TypeVar("Plain")
MAX_NAMES = 5_000  # photos that are recorded by name; beyond that, the rule that chose them and a digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The photos that a training run held out: their names, or the rule that chose them."""

    data: str  # the data set's name, as in `DataConfig`; empty: unknown
    validation: float  # share of the photos
    photos: tuple[str, ...] | None = None  # their names; None: chosen by `validation` and `without`
    without: tuple[str, ...] = ()  # photos that are never held out
    digest: str = ""  # of the names, if they are too many to record
    count: int = 0  # number of photos, if only a digest is recorded
    faces: int = 0  # number of synthetic faces
    seed: int = 0  # seed of the synthetic faces

    def of_faces(self, held_out: FaceSet, *, trained: Collection[str], most: int = MAX_NAMES) -> "HeldOut":
        """Return this rule with the photos of the faces `held_out` added.

        `trained` are the names of all photos that the training used, of other data sets too. A name that is in both is
        not recorded. For more than `most` photos a digest is recorded instead of the names.
        """
        both = set(held_out.photos) & set(trained)
        photos = tuple(sorted(set(held_out.photos) - both))
        if len(photos) <= most:
            return dataclasses.replace(self, photos=photos, without=())
        without = tuple(sorted({*self.without, *both}))
        return dataclasses.replace(self, without=without, digest=_digest(photos), count=len(photos))

    @classmethod
    def from_table(cls, table: Any) -> "HeldOut":
        """Read the record that `to_table` returned.

        Raises:
          InputError: the record is invalid.
        """
        try:
            return cls(
                data=_check_type(str, table.get("data", "")),
                validation=_check_type(float, table.get("validation", 0.0)),
                photos=_parse_names(table["photos"]) if table["photos"] is not None else None,
                without=_parse_names(table.get("without", [])),
                digest=_check_type(str, table.get("digest", "")),
                count=_check_type(int, table.get("count", 0)),
                faces=_check_type(int, table.get("faces", 0)),
                seed=_check_type(int, table.get("seed", 0)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"model.json: held_out is not a valid record of photos ({reason(error)}): copy the bundle again"
            ) from error

    def to_table(self) -> dict[str, Any]:
        """Return the record as a JSON table, without unknown fields."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        known = {name: value for name, value in fields.items() if value not in (None, (), "", 0) or name == "photos"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}

    def pick(self, faces: FaceSet, *, data: str) -> tuple[FaceSet, str]:
        """Return (the faces whose photos were held out, a remark about them or "").

        `data` is the name of the data set of `faces`. If the names are recorded, only they count: a photo that was
        added after training was neither trained on nor held out.

        Raises:
          InputError: there are no such faces, or only the rule is recorded and it belongs to another data set.
        """
        if self.photos is None:
            return self._pick_by_rule(faces, data)
        present = set(self.photos) & set(faces.photos)
        if not present:
            raise InputError(
                f"{faces.name}: has none of the {len(self.photos)} photos of {self.data!r} that the model's training "
                "held out: pass the data set that the model was trained on"
            )
        missing = len(self.photos) - len(present)
        remark = f"{missing} of the {len(self.photos)} held-out photos are missing" if missing else ""
        return faces.take(np.flatnonzero([photo in present for photo in faces.photos])), remark

    def _pick_by_rule(self, faces: FaceSet, data: str) -> tuple[FaceSet, str]:
        chosen = faces.held_out(self.validation) & np.array([photo not in self.without for photo in faces.photos])
        if not chosen.any():
            raise InputError(f"{faces.name}: has none of the photos that the model's training held out")
        held_out = faces.take(np.flatnonzero(chosen))
        if self.digest and self.digest == _digest(held_out.photos):
            return held_out, ""
        if self.data not in ("", data):
            raise InputError(f"{faces.name}: the model's training held out photos of {self.data!r}: pass that data set")
        if not self.digest:
            return held_out, ""
        return held_out, (
            f"the training's rule selects {len(set(held_out.photos))} held-out photos, but the training run had "
            f"{self.count}: the data set has changed since"
        )


def _check_type(kind: type[Plain], value: Any) -> Plain:
    if type(value) is not kind:
        raise ValueError(f"{quoted(value)} is not a {kind.__name__}")
    return value


def _parse_names(value: Any) -> tuple[str, ...]:
    return tuple(_check_type(str, name) for name in _check_type(list, value))


def _digest(photos: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(sorted(set(photos))).encode(errors="surrogateescape")).hexdigest()
