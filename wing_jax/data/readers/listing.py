"""What every reader of lists needs: numbered lines of a text file, numbers, and positions that may be missing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import quoted, reason

LARGEST = float(np.finfo(np.float32).max)
# What a cell or attribute holds that holds nothing, in small letters: empty, or as pandas, R, Excel and JSON write it.
NOTHING = frozenset(("", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"))


def read_lines(path: str | Path, *, hint: str) -> list[tuple[int, str]]:
    """(number from 1, text) of the lines of `path` that are not blank, stripped; UTF-8, with or without BOM, any line
    ending. `hint` ends the message where the file cannot be read.

    Raises:
      InputError: the file cannot be read, or is no text.
    """
    try:
        text = files.read_text(path, encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot read this list ({error.strerror}): {hint}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot read this list ({reason(error)}): {hint}") from error
    return [(i + 1, line.strip()) for i, line in enumerate(text.split("\n")) if line.strip()]


def numbers(words: Sequence[str], *, where: str, expected: str) -> Float[np.ndarray, "words"]:
    """`words` as finite float32 numbers; `expected` says in the message what should stand at `where`.

    Raises:
      InputError: a word is no number, or not finite.
    """
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError:
        raise InputError(f"{where}: {quoted(' '.join(words))} is not {expected}") from None
    if not (np.abs(values) < LARGEST).all():
        raise InputError(f"{where}: {quoted(' '.join(words))} is not finite: it must be {expected}")
    return values.astype(np.float32)


def has_no_position(x: object, y: object) -> bool:
    """Whether the coordinates of a point, text or JSON values as they stand in a file, say that it has no position:
    both are missing (empty, null or NaN), or both are -1. One that is missing alone says nothing."""
    return (_is_nothing(x) and _is_nothing(y)) or (_is_minus_one(x) and _is_minus_one(y))


def _is_nothing(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in NOTHING
    return value is None or (isinstance(value, float) and value != value)


def _is_minus_one(value: object) -> bool:
    if isinstance(value, str):
        try:
            return float(value) == -1
        except ValueError:
            return False
    return isinstance(value, int | float) and value == -1


def rows(path: str | Path, *, hint: str) -> Iterator[tuple[str, str]]:
    """("FILE:LINE", text) of the lines of `path`; see `read_lines`.

    Raises:
      InputError: the file cannot be read, or has no line.
    """
    lines = read_lines(path, hint=hint)
    if not lines:
        raise InputError(f"{path}: the list is empty: is this the published file?")
    return ((f"{path}:{number}", line) for number, line in lines)
