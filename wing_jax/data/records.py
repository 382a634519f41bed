"""A set of annotated faces, whatever data set they come from."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from wing_jax.data.images import read_image
from wing_jax.errors import InputError
from wing_jax.schemes import Scheme


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceSet:
    """`n` annotated faces. Coordinates are pixels of each face's own picture (`wing_jax.types`)."""

    name: str
    scheme: Scheme
    pictures: tuple[Path, ...] | UInt8[np.ndarray, "n height width 3"]
    points: Float[np.ndarray, "n points 2"]
    visible: Bool[np.ndarray, "n points"]
    boxes: Float[np.ndarray, "n 4"]
    box_convention: str
    photos: tuple[str, ...]  # faces of one photo share a name, and are never split apart
    subsets: tuple[str, ...]
    poses: tuple[str, ...] | None = None  # annotated pose class, in order of yaw when sorted

    def __len__(self) -> int:
        return len(self.photos)

    def picture(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The whole picture of face `index`, RGB."""
        source = self.pictures[index]
        return read_image(source) if isinstance(source, Path) else source

    def picture_name(self, index: int) -> str:
        source = self.pictures[index]
        return str(source) if isinstance(source, Path) else f"{self.name} face {index}"

    def take(self, indices: Int[np.ndarray, "m"]) -> "FaceSet":
        """The faces at `indices`, in that order."""

        def pick(values: tuple) -> tuple:
            return tuple(values[i] for i in indices)

        return dataclasses.replace(
            self,
            pictures=pick(self.pictures) if isinstance(self.pictures, tuple) else self.pictures[indices],
            points=self.points[indices],
            visible=self.visible[indices],
            boxes=self.boxes[indices],
            photos=pick(self.photos),
            subsets=pick(self.subsets),
            poses=None if self.poses is None else pick(self.poses),
        )

    def split(self, fraction: float) -> tuple["FaceSet", "FaceSet"]:
        """(the rest, about `fraction` of the faces), whole photos apart, the same for ever: by a hash of names.

        Raises:
          InputError: one of the two would be empty.
        """
        shares = np.array([_share(photo) for photo in self.photos])
        held_out = shares < fraction
        if held_out.all() or not held_out.any():
            raise InputError(
                f"{self.name}: {len(self)} faces are too few to hold out {fraction:.0%} for validation: "
                "add faces or change data.validation"
            )
        return self.take(np.flatnonzero(~held_out)), self.take(np.flatnonzero(held_out))


def _share(photo: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(photo.encode()).digest()[:6], "big") / 2**48
