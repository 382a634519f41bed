"""The photos that a training held out to choose its checkpoint by, as the model records them, to be found again."""

import dataclasses
import hashlib
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import numpy as np

from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.text import quoted, reason

Plain = TypeVar("Plain")
LARGEST = 5_000  # photos that are recorded by name; of more, the rule that held them out and a digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The photos that a training held out. Either their names are known, or the rule that chose them."""

    data: str  # the data set's name, as in `DataConfig`; empty: not known
    validation: float  # share of the photos
    photos: tuple[str, ...] | None = None  # their names; None: as `validation` and `without` say
    without: tuple[str, ...] = ()  # photos that are not among them, whatever the share says
    digest: str = ""  # of the names, where those are too many to be recorded
    count: int = 0  # photos, where a digest stands for the names
    faces: int = 0  # synthetic faces that were drawn
    seed: int = 0  # of the synthetic faces

    def of_faces(self, held_out: FaceSet, *, trained: Collection[str], most: int = LARGEST) -> "HeldOut":
        """This rule with the photos of the faces `held_out`, by a training on photos of the names `trained`, those of
        other data sets too. A name that stands among both is left out of the record. Of more than `most` photos the
        names are not recorded, but a digest."""
        both = set(held_out.photos) & set(trained)
        photos = tuple(sorted(set(held_out.photos) - both))
        if len(photos) <= most:
            return dataclasses.replace(self, photos=photos, without=())
        without = tuple(sorted({*self.without, *both}))
        return dataclasses.replace(self, without=without, digest=_digest(photos), count=len(photos))

    @classmethod
    def from_table(cls, table: Any) -> "HeldOut":
        """The record that `to_table` gave.

        Raises:
          InputError: it is not as it was written.
        """
        try:
            return cls(
                data=_right(str, table.get("data", "")),
                validation=_right(float, table.get("validation", 0.0)),
                photos=_names(table["photos"]) if table["photos"] is not None else None,
                without=_names(table.get("without", [])),
                digest=_right(str, table.get("digest", "")),
                count=_right(int, table.get("count", 0)),
                faces=_right(int, table.get("faces", 0)),
                seed=_right(int, table.get("seed", 0)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"model.json: held_out is no record of photos ({reason(error)}): copy the bundle again"
            ) from error

    def to_table(self) -> dict[str, Any]:
        """The record as JSON holds it, without what is not known."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        kept = {name: value for name, value in facts.items() if value not in (None, (), "", 0) or name == "photos"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    def pick(self, faces: FaceSet, *, data: str) -> tuple[FaceSet, str]:
        """(those of `faces`, which are of the set called `data`, whose photos were held out; what to say of them, or
        nothing). Where the names are recorded, only they count: a photo that was not there in training was neither
        trained on nor held out.

        Raises:
          InputError: there is none, or nothing but the rule is known and the data set is another.
        """
        if self.photos is None:
            return self._pick_by_rule(faces, data)
        there = set(self.photos) & set(faces.photos)
        if not there:
            raise InputError(
                f"{faces.name}: none of the {len(self.photos)} photos is here that the model's training held out of "
                f"{self.data!r}: give that data set, as it was trained on"
            )
        missing = len(self.photos) - len(there)
        remark = f"{missing} of the {len(self.photos)} held-out photos are not here" if missing else ""
        return faces.take(np.flatnonzero([photo in there for photo in faces.photos])), remark

    def _pick_by_rule(self, faces: FaceSet, data: str) -> tuple[FaceSet, str]:
        kept = faces.held_out(self.validation) & np.array([photo not in self.without for photo in faces.photos])
        if not kept.any():
            raise InputError(f"{faces.name}: none of its photos is among those that the model's training held out")
        held_out = faces.take(np.flatnonzero(kept))
        if self.digest and self.digest == _digest(held_out.photos):
            return held_out, ""
        if self.data not in ("", data):
            raise InputError(f"{faces.name}: the model's training held out photos of {self.data!r}: give that data set")
        if not self.digest:
            return held_out, ""
        return held_out, (
            f"these are {len(set(held_out.photos))} held-out photos, by the rule of the training, which had "
            f"{self.count}: the data set is not as it was then"
        )


def _right(kind: type[Plain], value: Any) -> Plain:
    if type(value) is not kind:
        raise ValueError(f"{quoted(value)} is no {kind.__name__}")
    return value


def _names(value: Any) -> tuple[str, ...]:
    return tuple(_right(str, name) for name in _right(list, value))


def _digest(photos: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(sorted(set(photos))).encode(errors="surrogateescape")).hexdigest()
