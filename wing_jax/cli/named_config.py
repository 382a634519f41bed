"""Configs on the command line: a preset by its name or a file, and short names for the options of its data."""

import dataclasses
import sys
from pathlib import Path

from wing_jax import presets
from wing_jax.config import Config, DataConfig, load_config
from wing_jax.errors import InputError
from wing_jax.text import quoted

# `--root` is `--data.root`, and so on: what is a field of the data and not of the config. `--data` is `--data.name`.
SHORT = {field.name for field in dataclasses.fields(DataConfig)} - {field.name for field in dataclasses.fields(Config)}


def read_config(name: str) -> Config:
    """The preset called `name`, or the config in the file of that path, which comes first, with a remark on stderr.

    Raises:
      InputError: there is neither, or the file is no config.
    """
    is_preset = name in presets.names()
    try:
        is_file = Path(name).is_file()
    except (OSError, ValueError):
        is_file = False
    if is_preset and not is_file:
        return presets.load(name)
    if is_preset:
        print(f"wing-jax: {name} is a file here, which is taken, and not the preset of that name", file=sys.stderr)
    elif not is_file and Path(name).name == name and not Path(name).suffix:
        raise InputError(
            f"no preset and no file is called {quoted(name)}: use one of {', '.join(presets.names())}, or a file"
        )
    return load_config(name)


def with_full_names(options: list[str]) -> list[str]:
    """`options` with `--data NAME`, `--root FOLDER` and the other short names of the data's fields written out.

    >>> with_full_names(["--data", "pts", "--root=faces", "--seed", "1"])
    ['--data.name', 'pts', '--data.root=faces', '--seed', '1']
    """
    return [_full_name(word) for word in options]


def _full_name(word: str) -> str:
    option, equals, value = word.partition("=")
    name = option.removeprefix("--").replace("-", "_")
    if option == "--data":
        return f"--data.name{equals}{value}"
    return f"--data.{name}{equals}{value}" if option.startswith("--") and name in SHORT else word
