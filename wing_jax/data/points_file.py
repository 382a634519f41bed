"""`.pts` files of the iBUG group: `version: 1`, `n_points: N`, then N lines "x y" between braces, counted from 1."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.errors import InputError

LARGEST = float(np.finfo(np.float32).max)


def read_pts(path: str | Path, *, points: int | None = None) -> Float[np.ndarray, "points 2"]:
    """Landmarks of a `.pts` file, float32, (x, y), moved to 0-based pixel centres (the file counts from 1).

    Raises:
      InputError: the file cannot be read, a line is not two finite numbers, the count differs from the header or
        from `points`. The message names file and line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this .pts file: {error}") from error
    opened = next((i for i, line in enumerate(lines) if line.strip() == "{"), None)
    closed = next((i for i, line in enumerate(lines) if line.strip() == "}"), None)
    if opened is None or closed is None or closed < opened:
        raise InputError(f"{path}: not a .pts file: the points must stand between a line '{{' and a line '}}'")
    rows = [(i + 1, line) for i, line in enumerate(lines) if opened < i < closed and line.strip()]
    found = np.array([_numbers(path, number, line) for number, line in rows], np.float32).reshape(-1, 2)
    for expected, place in ((_header_count(path, lines[:opened]), "announced"), (points, "needed")):
        if expected is not None and len(found) != expected:
            raise InputError(f"{path}: {len(found)} points where {expected} are {place}: correct or remove the file")
    return found - 1


def write_pts(path: str | Path, points: Float[np.ndarray, "points 2"]) -> None:
    """Write landmarks (0-based pixel centres) as a `.pts` file, counted from 1 as the format asks."""
    rows = "\n".join(f"{x:.4f} {y:.4f}" for x, y in np.asarray(points, np.float64) + 1)
    Path(path).write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")


def _numbers(path: Path, number: int, line: str) -> tuple[float, float]:
    fields = line.split()
    try:
        x, y = map(float, fields)
    except ValueError:
        raise InputError(f"{path}:{number}: {line.strip()[:60]!r} is not two numbers 'x y'") from None
    if not (abs(x) < LARGEST and abs(y) < LARGEST):
        raise InputError(f"{path}:{number}: {line.strip()[:60]!r} is not finite: annotate this point again")
    return x, y


def _header_count(path: Path, header: list[str]) -> int | None:
    for i, line in enumerate(header):
        key, _, value = line.partition(":")
        if key.strip() == "n_points":
            try:
                return int(value)
            except ValueError:
                said = value.strip()[:60]
                raise InputError(f"{path}:{i + 1}: n_points must be a whole number, not {said!r}") from None
    return None
