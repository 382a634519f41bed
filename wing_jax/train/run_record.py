"""What a run's folder was begun with: by it alone the run goes on."""

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
OBJECTS = "objects"  # the key of a record made of objects, which no config file has


def write_record(record: Mapping[str, Any], folder: Path) -> None:
    """Write `record` into the run's `folder` as `config.json`; where there is one, see that it is the same.

    Raises:
      InputError: the run was begun with another, or its record cannot be read or written.
    """
    refuse_another(record, folder)
    path = folder / RECORD
    if path.exists() or not devices.is_first_process():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, json.dumps(dict(record), indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): make room or correct permissions") from error


def refuse_another(record: Mapping[str, Any], folder: Path) -> None:
    """Raises InputError where the run in `folder` was begun with another record. What lies in "free" parts of either
    (`FREE`, `FREE_IN_PARTS`) may differ."""
    path = folder / RECORD
    if path.exists():
        refuse_difference(read_record(path), record, folder)


def refuse_difference(begun: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raises InputError, which names the values, where the record `now` is not that which the run in `folder` was begun
    with."""
    before, after = dict(leaves(begun)), dict(leaves(now))
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if changed:
        first, *others = changed
        more = f" (and {len(others)} more: {', '.join(others[:5])})" if others else ""
        raise InputError(
            f"{folder}: was begun with {first}={quoted(before.get(first))}, and now it is {quoted(after.get(first))}"
            f"{more}: choose another folder (--name) to train anew, or delete {folder / RECORD} to go on with "
            "what it is now"
        )


def read_record(path: Path) -> Any:
    """The record of a run.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> InputError:
    """What is said of a record that cannot be read."""
    return InputError(
        f"{path}: cannot be read ({reason(error, length=300)}): delete it if the run is to go on as it is begun now"
    )


# What may change on the way: how the same training is shared out, and, in every part, where things lie.
FREE = ("name", "output", "devices", "parallel", "processes", "steps_per_call")
FREE_IN_PARTS = ("root", "keep")


def leaves(value: Any, *, name: str = "") -> Iterator[tuple[str, Any]]:
    """Values that must stay, by their dotted names."""
    pairs: Any = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        pairs = enumerate(value)
    else:
        yield name, list(value) if isinstance(value, tuple) else value
    for key, inner in pairs:
        if key not in (FREE_IN_PARTS if name else FREE):
            yield from leaves(inner, name=f"{name}.{key}" if name else str(key))


def with_free(begun: Any, now: Any, *, free: Sequence[str] = FREE) -> Any:
    """The record `begun` with what may change on the way as it is in the record `now`."""
    if isinstance(begun, Mapping) and isinstance(now, Mapping):
        return {
            key: now.get(key, value) if key in free else with_free(value, now.get(key), free=FREE_IN_PARTS)
            for key, value in begun.items()
        }
    if isinstance(begun, list) and isinstance(now, list):
        return [with_free(one, other, free=free) for one, other in zip(begun, now, strict=True)]
    return begun


def describe(recipe: Recipe, sources: Sequence[FaceSource], *, seed: int) -> dict[str, Any]:
    """A record of a training from objects: what can be said of each, which is not all that is in a function."""
    return {
        OBJECTS: {
            "seed": seed,
            "faces": [{"count": len(source.faces), "points": _digest(source.faces.points)} for source in sources],
            "balance": _named(recipe.balance),
            "stages": [
                {
                    field.name: _plain(getattr(stage, field.name))
                    for field in dataclasses.fields(stage)
                    if field.name != "keep"
                }
                for stage in recipe.stages
            ],
        }
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return _named(value)


def _named(value: Any) -> str:
    """A function by its name, another object by its repr without addresses."""
    if isinstance(value, functools.partial):
        return f"{_named(value.func)} {value.args} {sorted(value.keywords.items())}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    said = repr(value)
    return (
        type(value).__qualname__ if " at 0x" in said or " object " in said else cut(" ".join(said.split()), length=500)
    )


def _digest(array: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
