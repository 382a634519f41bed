"""Configs on the command line, as the name of a preset or a file, and short names for their data options."""

import dataclasses
import sys
from pathlib import Path

from wing_jax import presets
from wing_jax.config import Config, DataConfig
from wing_jax.config_files import load_config
from wing_jax.data.registry import READERS
from wing_jax.errors import InputError
from wing_jax.text import quoted

# Fields of the data that are not fields of the config: `--root` is `--data.root`. `--data` is `--data.name`.
SHORT_OPTIONS = {field.name for field in dataclasses.fields(DataConfig)} - {
    field.name for field in dataclasses.fields(Config)
}


def read_config(name: str) -> Config:
    """Read the config file at the path `name`, or the preset of that name.

    If there are both, use the file and say so on stderr.

    Raises:
      InputError: there is neither, or the file is not a config.
    """
    is_preset = name in presets.names()
    try:
        is_file = Path(name).is_file()
    except (OSError, ValueError):
        is_file = False
    if is_preset and not is_file:
        return presets.load(name)
    if is_preset:
        print(f"wing-jax: using the file {name}, not the preset of the same name", file=sys.stderr)
    elif not is_file and Path(name).name == name and not Path(name).suffix:
        hint = f"use one of {', '.join(presets.names())}, or a file"
        if name in READERS:
            hint = f"{quoted(name)} is a data set: use wing-jax train own --data {name}, or one of the presets: {hint}"
        raise InputError(f"no preset or file is called {quoted(name)}: {hint}")
    return load_config(name)


def with_full_names(options: list[str]) -> list[str]:
    """Replace `--data NAME`, `--root FOLDER` and the other short names of data options by their full names.

    >>> with_full_names(["--data", "pts", "--root=faces", "--seed", "1"])
    ['--data.name', 'pts', '--data.root=faces', '--seed', '1']
    """
    return [_full_name(word) for word in options]


def _full_name(word: str) -> str:
    option, equals, value = word.partition("=")
    name = option.removeprefix("--").replace("-", "_")
    if option == "--data":
        return f"--data.name{equals}{value}"
    return f"--data.{name}{equals}{value}" if option.startswith("--") and name in SHORT_OPTIONS else word
