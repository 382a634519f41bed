"""The config that a run's folder was begun with: by it alone the run goes on, and by it the run can be repeated."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wing_jax.config import Config, config_of
from wing_jax.errors import InputError
from wing_jax.losses import LOSSES
from wing_jax.models import MODELS
from wing_jax.runtime import devices, files
from wing_jax.text import quoted, reason

RECORD = "config.json"
# What may change on the way: how the same training is shared out, and, in every part, where things lie.
FREE = ("name", "output", "devices", "parallel", "processes", "steps_per_call")
FREE_IN_PARTS = ("root", "keep")
KEPT = {"name", "reference_size", "reduction", "output_bias", "precision"}  # fields beside `params`


def claim(config: Config, folder: Path) -> None:
    """Write `config` into the run's `folder` as `config.json`, which `wing-jax train` takes; where there is one, see
    that the run was begun with the same but for what is free. A folder without a record is taken as it is.

    Raises:
      InputError: it was begun with another config, or its record cannot be read or written.
    """
    refuse_another(config, folder)
    path = folder / RECORD
    if path.exists() or not devices.is_first_process():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, json.dumps(dataclasses.asdict(config), indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): make room or mend permissions") from error


def refuse_another(config: Config, folder: Path) -> None:
    """Raises InputError where the run in `folder` was begun with another config. Fields that a later version of this
    package added are no difference where they have their defaults, by which all is as it was before them."""
    path = folder / RECORD
    if not path.exists():
        return
    record = _table(path)
    begun, now = (dict(_leaves(dataclasses.asdict(one))) for one in (_config_of(record, path), config))
    changed = [name for name in sorted(begun.keys() | now.keys()) if begun.get(name) != now.get(name)]
    if changed:
        first, *others = changed
        more = f" (and {len(others)} more: {', '.join(others[:5])})" if others else ""
        raise InputError(
            f"{folder}: was begun with {first}={quoted(begun.get(first))}, and the config says {quoted(now.get(first))}"
            f"{more}: give another --name to train anew, or delete {path} to go on with what it says now"
        )


def read_config(path: Path) -> Config:
    """The config in the record `path` of a run.

    Raises:
      InputError: it cannot be read.
    """
    return _config_of(_table(path), path)


def _table(path: Path) -> Any:
    try:
        return json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _config_of(table: Any, path: Path) -> Config:
    if _is_of_before(table):
        raise InputError(
            f"{path}: is of an earlier version of wing_jax, whose losses and networks had other fields: give another "
            "--name to train anew, or train on with that version"
        )
    try:
        return config_of(table, where="its fields")
    except InputError as error:
        raise _unreadable(path, error) from error


def _is_of_before(table: Any) -> bool:
    """Whether a record says the numbers of losses and networks beside their names, and not in `params`."""
    stage = table.get("stage1") if isinstance(table, dict) else None
    parts = [stage.get(name) for name in ("loss", "model")] if isinstance(stage, dict) else []
    return any(isinstance(part, dict) and "params" not in part and not part.keys() <= KEPT for part in parts)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: cannot be read ({reason(error, length=300)}): delete it if the run is to go on as the config says"
    )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Values that must stay, by their dotted names; what a loss or a network has by default is the same said or not."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = _with_defaults(value).items()
    elif isinstance(value, tuple) and any(isinstance(item, dict) for item in value):
        pairs = enumerate(value)
    else:
        yield name, value
    for key, inner in pairs:
        if key not in (FREE_IN_PARTS if name else FREE):
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))


def _with_defaults(part: dict[str, Any]) -> dict[str, Any]:
    """The fields of a part of a config; of a loss and of a network with the defaults of what is not given."""
    if "params" not in part or "name" not in part:
        return part
    if "reference_size" not in part:
        return {**part, "params": {**MODELS[part["name"]].parameters, **part["params"]}}
    loss, size = LOSSES[part["name"]], part["reference_size"]
    size = loss.reference_size if size is None and loss.rescaled else size
    return {**part, "params": {**loss.parameters, **part["params"]}, "reference_size": size}
