"""A scheme of your own as a small TOML file (or, the same table, inside a model's bundle)."""

import collections
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.schemes.scheme import Scheme
from wing_jax.schemes.tables import SCHEMES
from wing_jax.text import LONGEST_NAME, quoted, reason

KEYS = ("name", "points", "mirrored", "normalisation", "eyes", "lines", "about")
MOST_POINTS = 10_000


def read_scheme(path: str | Path) -> Scheme:
    """The scheme in the TOML file `path`:

        name = "mine3"
        points = ["left eye", "right eye", "nose"]   # the points' names in their order; or their number
        mirrored = [["left eye", "right eye"]]       # change places under a horizontal flip; by name, or counted from 0
        normalisation = ["left eye", "right eye"]    # errors are divided by their distance; the first lies image left
        lines = [["left eye", "nose", "right eye"]]  # to draw; may be left out
        eyes = [["left eye"], ["right eye"]]         # for "inter-pupil"; left out: the points of normalisation
        about = "what these points are"              # may be left out

    Raises:
      InputError: the file cannot be read, is no TOML, or does not hold what it must; the message names the key.
    """
    path = Path(path)
    try:
        table = tomllib.loads(files.read_text(path, encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot read this scheme ({said}): give a TOML file that describes it") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {reason(error)}") from error
    try:
        return scheme_from_table(table)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def scheme_from_table(table: Mapping[str, Any]) -> Scheme:
    """The scheme that a TOML table (see `read_scheme`) or a bundle describes.

    Raises:
      ValueError: a key is unknown or missing, or names a point that is not there; the message names the key.
    """
    if unknown := sorted(set(table) - set(KEYS)):
        raise ValueError(f"unknown key {quoted(unknown[0])}: use {', '.join(KEYS)}")
    name = table.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f'name: give the scheme a name of up to {LONGEST_NAME} characters, as name = "mine12"')
    if name in SCHEMES:
        raise ValueError(f"name: {quoted(name)} is a published scheme: choose another name")
    names = _names(table.get("points"))
    places = {name: index for index, name in enumerate(names)}
    mirrored = tuple(_pair(places, pair, "mirrored") for pair in _listed(table.get("mirrored", []), "mirrored"))
    flat = [point for pair in mirrored for point in pair]
    if twice := _twice(flat):
        raise ValueError(
            f"mirrored: {quoted(names[twice[0]])} stands in it twice: a point changes places with one other"
        )
    if "normalisation" not in table:
        raise ValueError("normalisation: name the two points whose distance errors are divided by")
    left, right = _pair(places, table["normalisation"], "normalisation")
    eyes = _listed(table.get("eyes", [[left], [right]]), "eyes")
    if len(eyes) != 2:
        raise ValueError("eyes: give the points of the left eye and those of the right eye: two lists")
    left_eye, right_eye = (_indices(places, eye, "eyes") for eye in eyes)
    return Scheme(
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


def scheme_to_table(scheme: Scheme) -> dict[str, Any]:
    """The table from which `scheme_from_table` makes `scheme` again."""
    return {
        "name": scheme.name,
        "points": list(scheme.names),
        "mirrored": [list(pair) for pair in scheme.mirrored],
        "normalisation": [scheme.left_outer, scheme.right_outer],
        "eyes": [list(scheme.left_eye), list(scheme.right_eye)],
        "lines": [list(line) for line in scheme.lines],
        "about": scheme.about,
    }


def _names(points: Any) -> tuple[str, ...]:
    if isinstance(points, int) and not isinstance(points, bool) and 2 <= points <= MOST_POINTS:
        return tuple(f"point {number}" for number in range(1, points + 1))
    if (
        not isinstance(points, list)
        or not 2 <= len(points) <= MOST_POINTS
        or not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in points)
    ):
        raise ValueError(
            f"points: list the points' names in their order, at least two and at most {MOST_POINTS:,} of up to "
            f"{LONGEST_NAME} characters, or give their number"
        )
    if twice := _twice(points):
        raise ValueError(f"points: {quoted(twice[0])} stands in it twice: give each point a name of its own")
    return tuple(points)


def _twice(values: list) -> list:
    return sorted(value for value, count in collections.Counter(values).items() if count > 1)


def _listed(value: Any, key: str) -> list:
    if not isinstance(value, list):
        raise ValueError(f"{key}: must be a list of lists of points, not {quoted(value)}")
    return value


def _pair(places: Mapping[str, int], points: Any, key: str) -> tuple[int, int]:
    left, right = _indices(places, points, key, length=2)
    return left, right


def _indices(places: Mapping[str, int], points: Any, key: str, *, length: int | None = None) -> tuple[int, ...]:
    if not isinstance(points, list) or not points or (length is not None and len(points) != length):
        raise ValueError(f"{key}: {quoted(points)} must be a list of {length or 'some'} points")
    indices = []
    for point in points:
        if isinstance(point, str) and point in places:
            indices.append(places[point])
        elif isinstance(point, int) and not isinstance(point, bool) and 0 <= point < len(places):
            indices.append(point)
        else:
            raise ValueError(
                f"{key}: there is no point {quoted(point)}: use the names in `points`, or 0 to {len(places) - 1}"
            )
    if length is not None and len(set(indices)) != length:
        raise ValueError(f"{key}: {quoted(points)} names one point twice")
    return tuple(indices)
