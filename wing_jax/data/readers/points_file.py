"""`.pts` files of the iBUG group: `version: 1`, `n_points: N`, then N lines "x y" between braces, counted from 1."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int8

from wing_jax.data.readers.listing import has_no_position, numbers, read_lines
from wing_jax.errors import InputError
from wing_jax.runtime.files import write_whole
from wing_jax.text import quoted
from wing_jax.types import Visibility

EXPECTED = "two numbers 'x y'"


def read_pts(path: str | Path, *, points: int | None = None) -> Float[np.ndarray, "points 2"]:
    """Landmarks of a `.pts` file, float32, (x, y), moved to 0-based pixel centers (the file counts from 1). A point
    "-1 -1" or "nan nan" has no position: NaN.

    Raises:
      InputError: the file cannot be read, a line is not two finite numbers, the count differs from the header or
        from `points`. The message names file and line.
    """
    raw = _raw(path, points)
    return np.where((raw == -1).all(-1)[:, None], np.float32(np.nan), raw - 1)


def read_signed_pts(
    path: str | Path, *, points: int | None = None
) -> tuple[Float[np.ndarray, "points 2"], Int8[np.ndarray, "points"]]:
    """(landmarks, values of `Visibility`) of a `.pts` file that says by signs what hides a point, as MERL-RAV does.

    "-1 -1" is hidden by the face itself and has no position (NaN); another negative number says that something else
    hides the point, at the position without signs. The signs are read first, then the positions are moved to 0-based
    pixel centers as in `read_pts`.

    Raises:
      InputError: as `read_pts`.
    """
    raw = _raw(path, points)
    absent = (raw == -1).all(-1) | np.isnan(raw).any(-1)
    visibility = np.where((raw < 0).any(-1), Visibility.OCCLUDED, Visibility.VISIBLE).astype(np.int8)
    visibility[absent] = Visibility.SELF_OCCLUDED
    return np.where(absent[:, None], np.float32(np.nan), np.abs(raw) - 1), visibility


def write_pts(path: str | Path, points: Float[np.ndarray, "points 2"]) -> None:
    """Write landmarks (0-based pixel centers) as a `.pts` file, counted from 1 as the format asks, whole or not at all.

    A point at (-2, -2) is moved by 0.0001 pixels, for "-1 -1" means that there is no position; NaN is written as such.

    Raises:
      OSError: it cannot be written.
    """
    counted = (np.asarray(points, np.float64) + 1).round(4)
    counted[(counted == -1).all(-1), 0] -= 1e-4
    rows = "\n".join(f"{x:.4f} {y:.4f}" for x, y in counted)
    write_whole(Path(path), f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")


def _raw(path: str | Path, points: int | None) -> Float[np.ndarray, "points 2"]:
    """The numbers as they stand in the file; NaN for "nan nan"."""
    lines = read_lines(path, hint="give a .pts file")
    opened = next((i for i, (_, line) in enumerate(lines) if line == "{"), None)
    closed = next((i for i, (_, line) in enumerate(lines) if line == "}"), None)
    if opened is None or closed is None or closed < opened:
        raise InputError(f"{path}: not a .pts file: the points must stand between a line '{{' and a line '}}'")
    if again := next((number for number, line in lines[closed:] if line == "{"), None):
        raise InputError(
            f"{path}:{again}: the points of a second face: a .pts file holds those of one: give each its own"
        )
    found = _positions(path, lines[opened + 1 : closed])
    for expected, place in ((_header_count(path, lines[:opened]), "announced"), (points, "needed")):
        if expected is not None and len(found) != expected:
            raise InputError(f"{path}: {len(found)} points where {expected} are {place}: correct or remove the file")
    return found


def _positions(path: str | Path, lines: list[tuple[int, str]]) -> Float[np.ndarray, "points 2"]:
    words = [line.split() for _, line in lines]
    for (number, line), pair in zip(lines, words, strict=True):
        if len(pair) != 2:
            raise InputError(f"{path}:{number}: {quoted(line)} is not {EXPECTED}")
    try:  # all at once, which is quick
        return numbers([word for pair in words for word in pair], where=str(path), expected=EXPECTED).reshape(-1, 2)
    except InputError:  # one by one, to name the line, or because some have no position
        found = np.full((len(lines), 2), np.nan, np.float32)
        for (number, _), pair, point in zip(lines, words, found, strict=True):
            if not has_no_position(*pair):
                point[:] = numbers(pair, where=f"{path}:{number}", expected=EXPECTED)
        return found


def _header_count(path: str | Path, header: list[tuple[int, str]]) -> int | None:
    for number, line in header:
        key, _, value = line.partition(":")
        if key.strip() == "n_points":
            try:
                return int(value)
            except ValueError:
                said = value.strip()[:60]
                raise InputError(f"{path}:{number}: n_points must be a whole number, not {quoted(said)}") from None
    return None
