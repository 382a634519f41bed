"""Reading of JSON annotation files and of their numbers."""

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
    """Read the JSON file `path`; the error message ends with `hint`.

    Raises:
      InputError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(files.read_text(path, encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON, or truncated ({error.msg}): {hint}") from None
    except (OSError, ValueError, RecursionError) as error:  # not text, extremely long numbers, extremely deep lists
        raise InputError(f"{path}: cannot read this JSON file ({reason(error)}): {hint}") from error


def json_numbers(values: Sequence[Any], *, location: str, expected: str) -> Float[np.ndarray, "values"]:
    """Convert the `values` of a JSON list to float32; a string that contains a number is read as that number.

    Args:
      values: the list.
      location: where it is, for the error message.
      expected: what each value should be, for the error message.

    Raises:
      InputError: a value is not a number, or not finite.
    """
    numbers = [parse_json_number(value) for value in values]
    for value, number in zip(values, numbers, strict=True):
        if number is None or not abs(number) < LARGEST:
            raise InputError(f"{location}: {format_json_value(value)} is not {expected}")
    return np.array(numbers, np.float32)


def parse_json_number(value: Any) -> int | float | None:
    """Return the number that a JSON value is or contains as a string, else None."""
    if type(value) in (int, float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def format_json_value(value: object) -> str:
    """Format a JSON value for a message."""
    if isinstance(value, str):
        return quoted(value).replace("'", '"')
    return "a list or object" if isinstance(value, list | dict) else cut(json.dumps(value))
