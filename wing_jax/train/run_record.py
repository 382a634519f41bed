"""The record of a run: the arguments it was started with. A run resumes only with the same arguments."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wing_jax.errors import InputError
from wing_jax.runtime import devices, files
from wing_jax.text import cut, quoted, reason
from wing_jax.train.data import FaceSource
from wing_jax.train.spec import Recipe

RECORD = "config.json"
OBJECTS = "objects"  # key of a record that describes objects; no config file has it


def write_record(record: Mapping[str, Any], folder: Path) -> None:
    """Write `record` into the run's `folder` as `config.json`, or check that the existing one is the same.

    Raises:
      InputError: the run was started with a different record, or its record cannot be read or written.
    """
    check_same_record(record, folder)
    path = folder / RECORD
    if path.exists() or not devices.is_first_process():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, json.dumps(dict(record), indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): free disk space or fix permissions") from error


def check_same_record(record: Mapping[str, Any], folder: Path) -> None:
    """Check that the run in `folder`, if there is one, was started with the same record.

    Raises:
      InputError: it was started with a different one, or its record cannot be read. The fields of `FREE` and
        `FREE_IN_PARTS` may differ.
    """
    path = folder / RECORD
    if path.exists():
        check_same_values(read_record(path), record, folder)


def check_same_values(original: Mapping[str, Any], current: Mapping[str, Any], folder: Path) -> None:
    """Check that the record `current` equals `original`, with which the run in `folder` was started.

    Raises:
      InputError: values differ; the message names them.
    """
    before, after = dict(fixed_leaves(original)), dict(fixed_leaves(current))
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if changed:
        first, *others = changed
        more = f" (and {len(others)} more: {', '.join(others[:5])})" if others else ""
        raise InputError(
            f"{folder}: was started with {first}={quoted(before.get(first))}, but is now {quoted(after.get(first))}"
            f"{more}: pass another folder (--name) to train from scratch, or delete {folder / RECORD} to resume with "
            "the new values"
        )


def read_record(path: Path) -> Any:
    """Read the record of a run.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable_record(path, error) from error


def unreadable_record(path: Path, error: Exception) -> InputError:
    """Return the error for a record that cannot be read."""
    return InputError(
        f"{path}: cannot be read ({reason(error, length=300)}): delete it to resume the run with the current arguments"
    )


# Fields that may change between runs: names and how the work is distributed, and in every section the paths.
FREE = ("name", "output", "devices", "parallel", "processes", "steps_per_call")
FREE_IN_PARTS = ("root", "keep_checkpoints")


def fixed_leaves(value: Any, *, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values that must not change, by their dotted names."""
    pairs: Any = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        pairs = enumerate(value)
    else:
        yield name, list(value) if isinstance(value, tuple) else value
    for key, inner in pairs:
        if key not in (FREE_IN_PARTS if name else FREE):
            yield from fixed_leaves(inner, name=f"{name}.{key}" if name else str(key))


def update_free(original: Any, current: Any, *, free: Sequence[str] = FREE) -> Any:
    """Return the record `original` with the fields that may change taken from `current`."""
    if isinstance(original, Mapping) and isinstance(current, Mapping):
        return {
            key: current.get(key, value) if key in free else update_free(value, current.get(key), free=FREE_IN_PARTS)
            for key, value in original.items()
        }
    if isinstance(original, list) and isinstance(current, list):
        return [update_free(before, after, free=free) for before, after in zip(original, current, strict=True)]
    return original


def describe(recipe: Recipe, sources: Sequence[FaceSource], *, seed: int) -> dict[str, Any]:
    """Return the record of a training run from objects. A function is described by its name, not by its code."""
    return {
        OBJECTS: {
            "seed": seed,
            "faces": [{"count": len(source.faces), "points": _digest(source.faces.points)} for source in sources],
            "balance": _describe_object(recipe.balance),
            "stages": [
                {
                    field.name: _to_json(getattr(stage, field.name))
                    for field in dataclasses.fields(stage)
                    if field.name != "keep_checkpoints"
                }
                for stage in recipe.stages
            ],
        }
    }


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Sequence):
        return [_to_json(item) for item in value]
    return _describe_object(value)


def _describe_object(value: Any) -> str:
    """Return a function's name, or another object's repr if it has no address in it."""
    if isinstance(value, functools.partial):
        return f"{_describe_object(value.func)} {value.args} {sorted(value.keywords.items())}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    text = repr(value)
    return (
        type(value).__qualname__ if " at 0x" in text or " object " in text else cut(" ".join(text.split()), length=500)
    )


def _digest(array: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
