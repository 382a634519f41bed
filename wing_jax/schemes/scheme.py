"""What a landmark scheme is: the points, which of them swap under a mirror, where the eyes are, what to draw.

One of your own is made by `Scheme.make`, or read from a small TOML file by `Scheme.read`:

    name = "mine3"
    points = ["left eye", "right eye", "nose"]   # the points' names in their order; or their number
    mirrored = [["left eye", "right eye"]]       # change places under a horizontal flip; by name, or counted from 0
    normalization = ["left eye", "right eye"]    # errors are divided by their distance; the first lies image left
    lines = [["left eye", "nose", "right eye"]]  # to draw; may be left out
    eyes = [["left eye"], ["right eye"]]         # for "inter-pupil"; left out: the points of normalization
    about = "what these points are"              # may be left out
"""

import collections
import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int

from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import LONGEST_NAME, quoted, reason

KEYS = ("name", "points", "mirrored", "normalization", "eyes", "lines", "about")
MOST_POINTS = 10_000
# A list of points, each by its name or its index, and a list of such lists; what is wrong with one is said here.
PointList: TypeAlias = Any
PointLists: TypeAlias = Any
SchemeLike: TypeAlias = Any  # a `Scheme`, the name of a published one, or the path of a TOML file
SCHEMES: "dict[str, Scheme]" = {}  # the published ones, put here by `wing_jax.schemes.tables`


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Scheme:
    """One way to mark a face. "Left" is the left of the image for a face that looks at the camera.

    Make one of your own by `Scheme.make`, which checks what it is given.

    >>> Scheme.make("eyes_and_nose", ["left eye", "right eye", "nose"], mirrored=[("left eye", "right eye")],
    ...             normalization=("left eye", "right eye"))
    <Scheme eyes_and_nose: 3 points>

    Args:
      name: what it is called.
      names: of the points, in their order, each once.
      mirrored: pairs that change places under a horizontal flip.
      left_eye: the points whose mean is taken as the pupil.
      right_eye: those of the other eye.
      left_outer: the outer corner of that eye; where a scheme has none, one of the two points whose distance normalizes
        errors.
      right_outer: that of the other eye.
      lines: chains of points to join in drawings.
      about: what these points are.
    """

    name: str
    names: tuple[str, ...]
    mirrored: tuple[tuple[int, int], ...]
    left_eye: tuple[int, ...]
    right_eye: tuple[int, ...]
    left_outer: int
    right_outer: int
    lines: tuple[tuple[int, ...], ...]
    about: str

    @classmethod
    def make(
        cls,
        name: str,
        points: Sequence[str] | int,
        *,
        mirrored: PointLists = (),
        normalization: PointList | None = None,
        eyes: PointLists | None = None,
        lines: PointLists = (),
        about: str = "",
    ) -> "Scheme":
        """A scheme of your own. A point is given by its name, or by its index, counted from 0.

        Args:
          name: what to call it; none of the published schemes.
          points: the names of the points in their order, or how many there are.
          mirrored: the pairs of points that change places when the image is mirrored; every other point stays.
          normalization: two points, the one further left in the image first; errors are divided by their distance. It
            may be left out where each of the `eyes` is one point.
          eyes: the points of the left eye and those of the right eye, whose means are taken as the pupils; left out,
            the points of `normalization`.
          lines: lists of points to join in drawings.
          about: what these points are.

        Returns:
          The scheme; equal schemes are equal, have equal hashes and can be pickled.

        Raises:
          InputError: a point is not there or named twice, a pair is no pair, or the name is taken; the message begins
            with the argument.
        """
        if normalization is None and isinstance(eyes, list | tuple):
            single = [eye[0] for eye in eyes if isinstance(eye, list | tuple) and len(eye) == 1]
            normalization = single if len(single) == 2 else None
        given = {"normalization": normalization, "eyes": eyes}
        table = {"name": name, "points": points, "mirrored": mirrored, "lines": lines, "about": about}
        return cls.from_table(table | {key: value for key, value in given.items() if value is not None})

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Scheme":
        """The scheme that a table describes, with the keys of the TOML file above; "normalisation" is read as well.

        >>> Scheme.from_table({"name": "two", "points": 2, "normalization": [0, 1]}).names
        ('point 1', 'point 2')

        Raises:
          InputError: a key is unknown or missing, or names a point that is not there; the message begins with the key.
        """
        if "normalization" not in table:  # files may have either spelling
            table = {"normalization" if key == "normalisation" else key: value for key, value in table.items()}
        if unknown := sorted(set(table) - set(KEYS)):
            raise InputError(f"unknown key {quoted(unknown[0])}: use {', '.join(KEYS)}")
        name = table.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise InputError(f'name: give the scheme a name of up to {LONGEST_NAME} characters, as name = "mine12"')
        if name in SCHEMES:
            raise InputError(f"name: {quoted(name)} is a published scheme: choose another name")
        names = _names(table.get("points"))
        places = {name: index for index, name in enumerate(names)}
        mirrored = tuple(_pair(places, pair, "mirrored") for pair in _listed(table.get("mirrored", []), "mirrored"))
        if twice := _twice([point for pair in mirrored for point in pair]):
            raise InputError(
                f"mirrored: {quoted(names[twice[0]])} stands in it twice: a point changes places with one other"
            )
        if "normalization" not in table:
            raise InputError("normalization: name the two points whose distance errors are divided by")
        left, right = _pair(places, table["normalization"], "normalization")
        eyes = _listed(table.get("eyes", [[left], [right]]), "eyes")
        if len(eyes) != 2:
            raise InputError("eyes: give the points of the left eye and those of the right eye: two lists")
        left_eye, right_eye = (_indices(places, eye, "eyes") for eye in eyes)
        return cls(
            name=name,
            names=names,
            mirrored=mirrored,
            left_eye=left_eye,
            right_eye=right_eye,
            left_outer=left,
            right_outer=right,
            lines=tuple(_indices(places, line, "lines") for line in _listed(table.get("lines", []), "lines")),
            about=str(table.get("about", "")),
        )

    @classmethod
    def read(cls, path: str | Path) -> "Scheme":
        """The scheme in the TOML file `path`; `wing_jax.schemes.scheme` shows one.

        Raises:
          InputError: the file cannot be read, is no TOML, or does not hold what it must; the message names the key.
        """
        path = Path(path)
        try:
            table = tomllib.loads(files.read_text(path, encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            detail = error.strerror if isinstance(error, OSError) else error
            raise InputError(
                f"{path}: cannot read this scheme ({detail}): give a TOML file that describes it"
            ) from error
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(f"{path}: not valid TOML: {reason(error)}") from error
        try:
            return cls.from_table(table)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_table(self) -> dict[str, Any]:
        """The table of plain values from which `from_table` makes the scheme again."""
        return {
            "name": self.name,
            "points": list(self.names),
            "mirrored": [list(pair) for pair in self.mirrored],
            "normalization": [self.left_outer, self.right_outer],
            "eyes": [list(self.left_eye), list(self.right_eye)],
            "lines": [list(line) for line in self.lines],
            "about": self.about,
        }

    def save(self, path: str | Path) -> Path:
        """Write the TOML file `path`, which `read` reads, and return its path.

        Raises:
          InputError: it cannot be written.
        """
        path = Path(path)
        # Strings and lists of JSON are those of TOML, but for one control character.
        values = {key: json.dumps(value, ensure_ascii=False) for key, value in self.to_table().items()}
        text = "".join(f"{key} = {value}\n" for key, value in values.items()).replace("\x7f", "\\u007f")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, text.encode())
        except OSError as error:
            raise InputError(f"{path}: cannot write this scheme ({error.strerror}): choose another folder") from error
        return path

    def __repr__(self) -> str:
        return f"<Scheme {self.name}: {self.points} points>"

    @property
    def points(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def flip(self) -> Int[np.ndarray, "points"]:
        """The permutation `p` for which `flipped_points = mirrored_image_points[p]`."""
        permutation = np.arange(self.points)
        for left, right in self.mirrored:
            permutation[[left, right]] = right, left
        return permutation


def find_scheme(scheme: SchemeLike) -> Scheme:
    """The scheme itself, the published one of that name, or the one in the TOML file of that path.

    >>> find_scheme("mtfl5")
    <Scheme mtfl5: 5 points>

    Raises:
      InputError: it is none of these.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if not isinstance(scheme, str | Path) or not str(scheme).endswith(".toml"):
        if isinstance(scheme, str) and scheme in SCHEMES:
            return SCHEMES[scheme]
        raise InputError(
            f"scheme {quoted(scheme)}: give a .toml file that describes it, or one of {', '.join(SCHEMES)}"
        )
    return Scheme.read(scheme)


def _names(points: Any) -> tuple[str, ...]:
    if isinstance(points, int) and not isinstance(points, bool) and 2 <= points <= MOST_POINTS:
        return tuple(f"point {number}" for number in range(1, points + 1))
    if (
        not isinstance(points, list | tuple)
        or not 2 <= len(points) <= MOST_POINTS
        or not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in points)
    ):
        raise InputError(
            f"points: list the points' names in their order, at least two and at most {MOST_POINTS:,} of up to "
            f"{LONGEST_NAME} characters, or give their number"
        )
    if twice := _twice(points):
        raise InputError(f"points: {quoted(twice[0])} stands in it twice: give each point a name of its own")
    return tuple(points)


def _twice(values: Sequence) -> list:
    return sorted(value for value, count in collections.Counter(values).items() if count > 1)


def _listed(value: Any, key: str) -> Sequence:
    if not isinstance(value, list | tuple):
        raise InputError(f"{key}: must be a list of lists of points, not {quoted(value)}")
    return value


def _pair(places: Mapping[str, int], points: Any, key: str) -> tuple[int, int]:
    left, right = _indices(places, points, key, length=2)
    return left, right


def _indices(places: Mapping[str, int], points: Any, key: str, *, length: int | None = None) -> tuple[int, ...]:
    if not isinstance(points, list | tuple) or not points or (length is not None and len(points) != length):
        raise InputError(f"{key}: {quoted(points)} must be a list of {length or 'some'} points")
    indices = []
    for point in points:
        if isinstance(point, str) and point in places:
            indices.append(places[point])
        elif isinstance(point, int | np.integer) and not isinstance(point, bool) and 0 <= point < len(places):
            indices.append(int(point))
        else:
            raise InputError(
                f"{key}: there is no point {quoted(point)}: use the names in `points`, or 0 to {len(places) - 1}"
            )
    if length is not None and len(set(indices)) != length:
        raise InputError(f"{key}: {quoted(points)} names one point twice")
    return tuple(indices)
