"""The command `wing-jax train CONFIG [--field value ...]`."""

import shlex

from wing_jax.cli.options import parse_config
from wing_jax.config import Config, DataConfig
from wing_jax.runtime.console import make_console, say

USAGE = """usage: wing-jax train CONFIG [--data NAME] [--root PATH] [--scheme SCHEME] [--field value ...]

CONFIG is a preset (`wing-jax config` lists them) or a config file. --data, --root and --scheme are short for
--data.name, --data.root and --data.scheme. `wing-jax train CONFIG --help` lists all fields."""


def run(arguments: list[str]) -> None:
    """Train, and print the model's folder and the command that evaluates it."""
    config = parse_config(Config, arguments, command="train", usage=USAGE)
    from wing_jax.from_config.train import train

    if train(config).interrupted:
        raise KeyboardInterrupt
    console, model = make_console(), config.folder / "model"
    say(console, f"model: {model}")
    say(console, f"next:  wing-jax evaluate {shlex.join([str(model), *evaluation_options(config.data)])}")


def evaluation_options(data: DataConfig) -> list[str]:
    """Return the options of `wing-jax evaluate` for the data of a run.

    They select the test split, or the held-out faces if there is none.
    """
    from wing_jax.data.load import draws_faces, find_splits

    default = DataConfig(name=data.name)
    names = [
        name
        for name in ("root", "images", "scheme", "boxes", "occluded", "picture_size")
        if getattr(data, name) != getattr(default, name)
    ]
    options = {name: getattr(data, name) for name in names}
    if not draws_faces(data.name) and "test" not in find_splits(data.name, data.root):
        options["split"] = "held_out"
    return ["--data", data.name, *(word for name, value in options.items() for word in (f"--{name}", value))]
