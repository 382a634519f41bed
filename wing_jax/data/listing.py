"""What every reader of lists needs: numbered lines of a text file, and paths that stay inside the data folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from jaxtyping import Float

from wing_jax import files
from wing_jax.errors import InputError

LARGEST = float(np.finfo(np.float32).max)


def read_lines(path: str | Path, *, mend: str) -> list[tuple[int, str]]:
    """(number from 1, text) of the lines of `path` that are not blank, stripped; UTF-8, with or without BOM, any line
    ending. `mend` ends the message where the file cannot be read.

    Raises:
      InputError: the file cannot be read, or is no text.
    """
    try:
        text = files.read_text(path, encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot read this list ({error.strerror}): {mend}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot read this list ({error}): {mend}") from error
    return [(i + 1, line.strip()) for i, line in enumerate(text.split("\n")) if line.strip()]


def within(root: str | Path, name: str, *, where: str) -> Path:
    """`root / name`, where `name` stands in a data set's file at `where`; backslashes are taken as slashes.

    Raises:
      InputError: `name` is empty, absolute, leads out of `root` by "..", or holds characters that no file's name has.
    """
    posix = PurePosixPath(name.replace("\\", "/"))
    if not name.strip():
        raise InputError(f"{where}: a picture's name is missing: correct this entry")
    if not name.isprintable():  # a line break would also make two lines of a message
        raise InputError(f"{where}: {name[:60]!a} is no picture's name: correct this entry")
    if posix.is_absolute() or PureWindowsPath(name).drive or ".." in posix.parts:
        raise InputError(f"{where}: {name[:80]!r} leads out of the data folder {root}: give paths relative to it")
    return Path(root) / posix


def numbers(words: Sequence[str], *, where: str, expected: str) -> Float[np.ndarray, "words"]:
    """`words` as finite float32 numbers; `expected` says in the message what should stand at `where`.

    Raises:
      InputError: a word is no number, or not finite.
    """
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError:
        raise InputError(f"{where}: {_excerpt(words)!r} is not {expected}") from None
    if not (np.abs(values) < LARGEST).all():
        raise InputError(f"{where}: {_excerpt(words)!r} is not finite: it must be {expected}")
    return values.astype(np.float32)


def rows(path: str | Path, *, mend: str) -> Iterator[tuple[str, str]]:
    """("FILE:LINE", text) of the lines of `path`; see `read_lines`.

    Raises:
      InputError: the file cannot be read, or has no line.
    """
    lines = read_lines(path, mend=mend)
    if not lines:
        raise InputError(f"{path}: the list is empty: is this the published file?")
    return ((f"{path}:{number}", line) for number, line in lines)


def _excerpt(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 60 else f"{text[:57]}..."
