"""Helpers for all readers of lists: numbered lines of a text file, numbers, and missing positions."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import quoted, reason

LARGEST = float(np.finfo(np.float32).max)
# Missing values of cells and attributes in lower case, as pandas, R, Excel and JSON write them.
MISSING_VALUES = frozenset(("", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"))


def read_lines(path: str | Path, *, hint: str) -> list[tuple[int, str]]:
    """Read the lines of `path` that are not blank as (number from 1, stripped text).

    The file is UTF-8, with or without BOM, with any line endings. The error message ends with `hint`.

    Raises:
      InputError: the file cannot be read, or is not text.
    """
    try:
        text = files.read_text(path, encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot read this list ({error.strerror}): {hint}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot read this list ({reason(error)}): {hint}") from error
    return [(i + 1, line.strip()) for i, line in enumerate(text.split("\n")) if line.strip()]


def numbers(words: Sequence[str], *, location: str, expected: str) -> Float[np.ndarray, "words"]:
    """Convert `words` to finite float32 numbers; the error message contains what is `expected` at `location`.

    Raises:
      InputError: a word is not a number, or not finite.
    """
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError:
        raise InputError(f"{location}: {quoted(' '.join(words))} is not {expected}") from None
    if not (np.abs(values) < LARGEST).all():
        raise InputError(f"{location}: {quoted(' '.join(words))} is not finite: expected {expected}")
    return values.astype(np.float32)


def has_no_position(x: object, y: object) -> bool:
    """Return whether a point has no position: both of its coordinates are missing (empty, null or NaN), or both are -1.

    `x` and `y` are text or JSON values, as read from a file. If only one of them is missing, the result is False.
    """
    return (_is_missing(x) and _is_missing(y)) or (_is_minus_one(x) and _is_minus_one(y))


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in MISSING_VALUES
    return value is None or (isinstance(value, float) and value != value)


def _is_minus_one(value: object) -> bool:
    if isinstance(value, str):
        try:
            return float(value) == -1
        except ValueError:
            return False
    return isinstance(value, int | float) and value == -1


def read_rows(path: str | Path, *, hint: str) -> Iterator[tuple[str, str]]:
    """Read the lines of `path` as ("FILE:LINE", text); see `read_lines`.

    Raises:
      InputError: the file cannot be read, or is empty.
    """
    lines = read_lines(path, hint=hint)
    if not lines:
        raise InputError(f"{path}: the list is empty: copy the published file again")
    return ((f"{path}:{number}", line) for number, line in lines)
