"""Landmark schemes: the points, which of them swap under a horizontal flip, where the eyes are, what to draw.

`Scheme.make` makes a custom scheme, and `Scheme.read` reads one from a small TOML file:

    name = "mine3"
    points = ["left eye", "right eye", "nose"]   # names of the points in order, or their number
    mirrored = [["left eye", "right eye"]]       # swap under a horizontal flip; by name, or by index from 0
    normalization = ["left eye", "right eye"]    # errors are divided by their distance; the image-left point first
    lines = [["left eye", "nose", "right eye"]]  # to draw; optional
    eyes = [["left eye"], ["right eye"]]         # for "inter-pupil"; default: the points of normalization
    about = "what these points are"              # optional
"""

import collections
import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int

from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import LONGEST_NAME, quoted, reason

SIDES = {"left": "right", "right": "left"}
KEYS = ("name", "points", "mirrored", "normalization", "eyes", "lines", "about")
MOST_POINTS = 10_000
# A list of points, each by name or index, and a list of such lists. This module checks them.
PointList: TypeAlias = Any
PointLists: TypeAlias = Any
SchemeLike: TypeAlias = Any  # a `Scheme`, the name of a published one, or the path of a TOML file
SCHEMES: "dict[str, Scheme]" = {}  # the published ones, added by `wing_jax.schemes.tables`


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Scheme:
    """A landmark scheme. "Left" means the left side of the image, for a face that looks at the camera.

    Use `Scheme.make` for a custom scheme: it checks its arguments.

    >>> Scheme.make("eyes_and_nose", ["left eye", "right eye", "nose"], mirrored=[("left eye", "right eye")],
    ...             normalization=("left eye", "right eye"))
    <Scheme eyes_and_nose: 3 points>

    Args:
      name: the name of the scheme.
      names: unique names of the points, in order.
      mirrored: pairs of points that swap under a horizontal flip.
      left_eye: the points whose mean is taken as the left pupil.
      right_eye: the points whose mean is taken as the right pupil.
      left_outer: the outer corner of the left eye; if a scheme has none, one of the two points whose distance
        normalizes errors.
      right_outer: the same for the right eye.
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
        """Make a custom scheme. A point is given by its name, or by its index from 0.

        Args:
          name: the name of the scheme; not that of a published scheme.
          points: the names of the points in order, or their number.
          mirrored: pairs of points that swap when the image is flipped horizontally; every other point stays.
          normalization: two points, the image-left one first; errors are divided by their distance. Optional if each
            of the `eyes` is one point.
          eyes: the points of the left eye and those of the right eye, whose means are taken as the pupils; default:
            the points of `normalization`.
          lines: lists of points to join in drawings.
          about: what these points are.

        Returns:
          The scheme. Schemes with the same fields compare equal and have equal hashes; schemes can be pickled.

        Raises:
          InputError: a point is unknown or named twice, a pair is not two points, or the name is taken; the message
            starts with the argument.
        """
        if normalization is None and isinstance(eyes, list | tuple):
            single = [eye[0] for eye in eyes if isinstance(eye, list | tuple) and len(eye) == 1]
            normalization = single if len(single) == 2 else None
        optional = {"normalization": normalization, "eyes": eyes}
        table = {"name": name, "points": points, "mirrored": mirrored, "lines": lines, "about": about}
        return cls.from_table(table | {key: value for key, value in optional.items() if value is not None})

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Scheme":
        """Make the scheme that a table describes, with the keys of the TOML file in `wing_jax.schemes.scheme`.

        >>> Scheme.from_table({"name": "two", "points": 2, "normalization": [0, 1]}).names
        ('point 1', 'point 2')

        Raises:
          InputError: a key is unknown or missing, or names an unknown point; the message starts with the key.
        """
        if "normalization" not in table:  # files may use either spelling
            table = {"normalization" if key == "normalisation" else key: value for key, value in table.items()}
        if unknown := sorted(set(table) - set(KEYS)):
            raise InputError(f"unknown key {quoted(unknown[0])}: use {', '.join(KEYS)}")
        name = table.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise InputError(f'name: name the scheme with up to {LONGEST_NAME} characters, such as name = "mine12"')
        if name in SCHEMES:
            raise InputError(f"name: {quoted(name)} is a published scheme: choose another name")
        names = _parse_names(table.get("points"))
        indices_by_name = {name: index for index, name in enumerate(names)}
        mirrored = tuple(
            _parse_pair(indices_by_name, pair, "mirrored")
            for pair in _check_list(table.get("mirrored", []), "mirrored")
        )
        if duplicates := _find_duplicates([point for pair in mirrored for point in pair]):
            raise InputError(
                f"mirrored: {quoted(names[duplicates[0]])} is in two pairs: list each point in one pair only"
            )
        if unpaired := _find_unpaired(names, mirrored):
            left, right = map(quoted, unpaired)
            raise InputError(f"mirrored: {left} and {right} are in no pair: add [{left}, {right}]")
        if "normalization" not in table:
            raise InputError("normalization: missing: name the two points whose distance normalizes the errors")
        left, right = _parse_pair(indices_by_name, table["normalization"], "normalization")
        eyes = _check_list(table.get("eyes", [[left], [right]]), "eyes")
        if len(eyes) != 2:
            raise InputError("eyes: expected two lists: the points of the left eye and those of the right eye")
        left_eye, right_eye = (_parse_indices(indices_by_name, eye, "eyes") for eye in eyes)
        return cls(
            name=name,
            names=names,
            mirrored=mirrored,
            left_eye=left_eye,
            right_eye=right_eye,
            left_outer=left,
            right_outer=right,
            lines=tuple(
                _parse_indices(indices_by_name, line, "lines") for line in _check_list(table.get("lines", []), "lines")
            ),
            about=str(table.get("about", "")),
        )

    @classmethod
    def read(cls, path: str | Path) -> "Scheme":
        """Read the scheme in the TOML file `path`; `wing_jax.schemes.scheme` shows an example.

        Raises:
          InputError: the file cannot be read, is not TOML, or a key is not valid; the message names the key.
        """
        path = Path(path)
        try:
            table = tomllib.loads(files.read_text(path, encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            detail = error.strerror if isinstance(error, OSError) else error
            raise InputError(
                f"{path}: cannot read this scheme ({detail}): pass a TOML file that describes it"
            ) from error
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(f"{path}: not valid TOML: {reason(error)}: correct the file") from error
        try:
            return cls.from_table(table)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_table(self) -> dict[str, Any]:
        """Return the table of plain values from which `from_table` makes this scheme again."""
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
        """Write this scheme to the TOML file `path`, which `read` reads, and return the path.

        Raises:
          InputError: the file cannot be written.
        """
        path = Path(path)
        # JSON strings and lists are valid TOML except for one control character.
        values = {key: json.dumps(value, ensure_ascii=False) for key, value in self.to_table().items()}
        text = "".join(f"{key} = {value}\n" for key, value in values.items()).replace("\x7f", "\\u007f")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(path, text.encode())
        except OSError as error:
            raise InputError(f"{path}: cannot write this scheme ({error.strerror}): choose another folder") from error
        return path

    def __repr__(self) -> str:
        return f"<Scheme {self.name}: {self.points} points>"

    @property
    def points(self) -> int:
        """The number of points."""
        return len(self.names)

    @property
    def flip(self) -> Int[np.ndarray, "points"]:
        """The permutation `p` that restores the order of the points after a flip: `points = mirrored_points[p]`."""
        permutation = np.arange(self.points)
        for left, right in self.mirrored:
            permutation[[left, right]] = right, left
        return permutation


def find_scheme(scheme: SchemeLike) -> Scheme:
    """Return the scheme itself, the published scheme of that name, or the scheme in that TOML file.

    >>> find_scheme("mtfl5")
    <Scheme mtfl5: 5 points>

    Raises:
      InputError: `scheme` is none of these.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if not isinstance(scheme, str | Path) or not str(scheme).endswith(".toml"):
        if isinstance(scheme, str) and scheme in SCHEMES:
            return SCHEMES[scheme]
        raise InputError(
            f"scheme {quoted(scheme)}: pass a .toml file that describes it, or one of {', '.join(SCHEMES)}"
        )
    return Scheme.read(scheme)


def _parse_names(points: Any) -> tuple[str, ...]:
    if isinstance(points, int) and not isinstance(points, bool) and 2 <= points <= MOST_POINTS:
        return tuple(f"point {number}" for number in range(1, points + 1))
    if (
        not isinstance(points, list | tuple)
        or not 2 <= len(points) <= MOST_POINTS
        or not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in points)
    ):
        raise InputError(
            f"points: list the names of the points in order (2 to {MOST_POINTS:,} names of up to {LONGEST_NAME} "
            "characters), or pass their number"
        )
    if duplicates := _find_duplicates(points):
        raise InputError(f"points: {quoted(duplicates[0])} is listed twice: give each point a unique name")
    return tuple(points)


def _find_duplicates(values: Sequence) -> list:
    return sorted(value for value, count in collections.Counter(values).items() if count > 1)


def _check_list(value: Any, key: str) -> Sequence:
    if not isinstance(value, list | tuple):
        raise InputError(f"{key}: expected a list of lists of points, got {quoted(value)}")
    return value


def _find_unpaired(names: Sequence[str], mirrored: Sequence[tuple[int, int]]) -> tuple[str, str] | None:
    """Return two points, neither in a pair, whose names differ only by "left" and "right"; None if there are none.

    Training mirrors half of the faces: a missing pair would make the model worse without any message.
    """
    paired = {names[index] for pair in mirrored for index in pair}
    unpaired = {name.lower(): name for name in names if name not in paired}
    for lower, name in unpaired.items():
        other = unpaired.get(re.sub(r"left|right", lambda side: SIDES[side[0]], lower))
        if other is not None and other != name:
            return name, other
    return None


def _parse_pair(indices_by_name: Mapping[str, int], points: Any, key: str) -> tuple[int, int]:
    left, right = _parse_indices(indices_by_name, points, key, length=2)
    return left, right


def _parse_indices(
    indices_by_name: Mapping[str, int], points: Any, key: str, *, length: int | None = None
) -> tuple[int, ...]:
    if not isinstance(points, list | tuple) or not points or (length is not None and len(points) != length):
        expected = "a list of points" if length is None else f"a list of {length} points"
        raise InputError(f"{key}: expected {expected}, got {quoted(points)}")
    indices = []
    for point in points:
        if isinstance(point, str) and point in indices_by_name:
            indices.append(indices_by_name[point])
        elif isinstance(point, int | np.integer) and not isinstance(point, bool) and 0 <= point < len(indices_by_name):
            indices.append(int(point))
        else:
            raise InputError(
                f"{key}: unknown point {quoted(point)}: use the names in `points`, or 0 to {len(indices_by_name) - 1}"
            )
    if length is not None and len(set(indices)) != length:
        raise InputError(f"{key}: {quoted(points)} names one point twice")
    return tuple(indices)
