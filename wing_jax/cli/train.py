"""`wing-jax train CONFIG [--field value ...]`"""

import sys

from rich.console import Console

from wing_jax.cli.options import parse
from wing_jax.config import Config, load_config
from wing_jax.errors import InputError

USAGE = "usage: wing-jax train CONFIG [--field value ...]; CONFIG is a file like configs/builtin.py"


def run(arguments: list[str]) -> None:
    """Train, and say where the model lies and what to do with it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if arguments else 2)
    if arguments[0].startswith("-"):
        raise InputError(f"the first argument must be the config, not {arguments[0]!r}: {USAGE}")
    config = parse(Config, arguments[1:], command=f"train {arguments[0]}", default=load_config(arguments[0]))
    from wing_jax.train.run import train

    model = train(config)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"model: {model}")
    console.print(f"next:  wing-jax evaluate {model} --data {config.data.name}")
