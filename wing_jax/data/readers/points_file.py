"""`.pts` files of the iBUG group: `version: 1`, `n_points: N`, then N lines "x y" between braces, counted from 1."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int8

from wing_jax.data.readers.listing import has_no_position, numbers, read_lines
from wing_jax.errors import InputError
from wing_jax.runtime.files import write_atomic
from wing_jax.text import quoted
from wing_jax.types import Visibility

EXPECTED = "two numbers 'x y'"


def read_pts(path: str | Path, *, points: int | None = None) -> Float[np.ndarray, "points 2"]:
    """Read landmarks of a `.pts` file, float32, (x, y), converted to 0-based pixel centers (the file counts from 1).

    A point "-1 -1" or "nan nan" has no position: NaN.

    Raises:
      InputError: the file cannot be read, a line is not two finite numbers, the count differs from the header or
        from `points`. The message names file and line.
    """
    raw = _read_numbers(path, points)
    return np.where((raw == -1).all(-1)[:, None], np.float32(np.nan), raw - 1)


def read_signed_pts(
    path: str | Path, *, points: int | None = None
) -> tuple[Float[np.ndarray, "points 2"], Int8[np.ndarray, "points"]]:
    """Read (landmarks, values of `Visibility`) of a `.pts` file that encodes visibility in signs, as MERL-RAV does.

    "-1 -1" is hidden by the face itself and has no position (NaN). With another negative number the point is hidden by
    another object, at the position without signs. The signs are read first, then the positions are converted to 0-based
    pixel centers as in `read_pts`.

    Raises:
      InputError: as in `read_pts`.
    """
    raw = _read_numbers(path, points)
    absent = (raw == -1).all(-1) | np.isnan(raw).any(-1)
    visibility = np.where((raw < 0).any(-1), Visibility.OCCLUDED, Visibility.VISIBLE).astype(np.int8)
    visibility[absent] = Visibility.SELF_OCCLUDED
    return np.where(absent[:, None], np.float32(np.nan), np.abs(raw) - 1), visibility


def write_pts(path: str | Path, points: Float[np.ndarray, "points 2"]) -> None:
    """Write landmarks (0-based pixel centers) atomically as a `.pts` file, which counts from 1.

    A point at (-2, -2) is moved by 0.0001 pixels, because "-1 -1" means no position. NaN is written as "nan".

    Raises:
      OSError: the file cannot be written.
    """
    counted = (np.asarray(points, np.float64) + 1).round(4)
    counted[(counted == -1).all(-1), 0] -= 1e-4
    rows = "\n".join(f"{x:.4f} {y:.4f}" for x, y in counted)
    write_atomic(Path(path), f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")


def _read_numbers(path: str | Path, points: int | None) -> Float[np.ndarray, "points 2"]:
    """Read the numbers unchanged; NaN for "nan nan"."""
    lines = read_lines(path, hint="pass a .pts file")
    start = next((i for i, (_, line) in enumerate(lines) if line == "{"), None)
    end = next((i for i, (_, line) in enumerate(lines) if line == "}"), None)
    if start is None or end is None or end < start:
        raise InputError(f"{path}: not a .pts file: expected the points between a line '{{' and a line '}}'")
    if second := next((number for number, line in lines[end:] if line == "{"), None):
        raise InputError(f"{path}:{second}: a second face: a .pts file contains one face: use one file for each face")
    result = _parse_positions(path, lines[start + 1 : end])
    for expected, source in ((_parse_count(path, lines[:start]), "in the header"), (points, "in the scheme")):
        if expected is not None and len(result) != expected:
            raise InputError(f"{path}: {len(result)} points, but {expected} {source}: correct or remove the file")
    return result


def _parse_positions(path: str | Path, lines: list[tuple[int, str]]) -> Float[np.ndarray, "points 2"]:
    words = [line.split() for _, line in lines]
    for (number, line), pair in zip(lines, words, strict=True):
        if len(pair) != 2:
            raise InputError(f"{path}:{number}: {quoted(line)} is not {EXPECTED}")
    try:  # all at once, which is fast
        return numbers([word for pair in words for word in pair], location=str(path), expected=EXPECTED).reshape(-1, 2)
    except InputError:  # one by one, to report the line, or because some points have no position
        points = np.full((len(lines), 2), np.nan, np.float32)
        for (number, _), pair, point in zip(lines, words, points, strict=True):
            if not has_no_position(*pair):
                point[:] = numbers(pair, location=f"{path}:{number}", expected=EXPECTED)
        return points


def _parse_count(path: str | Path, header: list[tuple[int, str]]) -> int | None:
    for number, line in header:
        key, _, value = line.partition(":")
        if key.strip() == "n_points":
            try:
                return int(value)
            except ValueError:
                raise InputError(
                    f"{path}:{number}: expected an integer n_points, got {quoted(value.strip()[:60])}"
                ) from None
    return None
