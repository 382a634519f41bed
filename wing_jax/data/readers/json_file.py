"""JSON files of annotations: read, and their numbers checked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.readers.listing import LARGEST
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import cut, quoted, reason


def read_json(path: Path, *, hint: str) -> Any:
    """What the JSON file `path` holds; `hint` ends the message where it cannot be read.

    Raises:
      InputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(files.read_text(path, encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON, or cut short ({error.msg}): {hint}") from None
    except (OSError, ValueError, RecursionError) as error:  # no text, absurdly long numbers, absurdly deep lists
        raise InputError(f"{path}: cannot read this JSON file ({reason(error)}): {hint}") from error


def json_numbers(values: Sequence[Any], *, where: str, expected: str) -> Float[np.ndarray, "values"]:
    """`values` of a JSON list as float32 numbers; a string that holds a number is that number. `expected` says in the
    message what each should be.

    Raises:
      InputError: a value is no number, or not finite.
    """
    found = [number_of(value) for value in values]
    for value, number in zip(values, found, strict=True):
        if number is None or not abs(number) < LARGEST:
            raise InputError(f"{where}: {json_said(value)} is not {expected}")
    return np.array(found, np.float32)


def number_of(value: Any) -> int | float | None:
    """The number that a JSON value is, or holds as a string; None where it is another thing."""
    if type(value) in (int, float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def json_said(value: object) -> str:
    """A JSON value as a message repeats it."""
    if isinstance(value, str):
        return quoted(value).replace("'", '"')
    return "a list or object" if isinstance(value, list | dict) else cut(json.dumps(value))
