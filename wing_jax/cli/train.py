"""`wing-jax train CONFIG [--field value ...]`"""

import shlex

from wing_jax.cli.options import parse_config
from wing_jax.config import Config
from wing_jax.console import make_console, say

USAGE = "usage: wing-jax train CONFIG [--field value ...]; CONFIG is a file like configs/builtin.py"


def run(arguments: list[str]) -> None:
    """Train, and say where the model lies and what to do with it."""
    config = parse_config(Config, arguments, command="train", usage=USAGE)
    from wing_jax.train.run import train

    model = train(config)
    console = make_console()
    say(console, f"model: {model}")
    say(console, f"next:  wing-jax evaluate {shlex.quote(str(model))} --data {config.data.name}")
