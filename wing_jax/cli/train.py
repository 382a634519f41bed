"""`wing-jax train CONFIG [--field value ...]`"""

from rich.console import Console

from wing_jax.cli.options import parse_config
from wing_jax.config import Config

USAGE = "usage: wing-jax train CONFIG [--field value ...]; CONFIG is a file like configs/builtin.py"


def run(arguments: list[str]) -> None:
    """Train, and say where the model lies and what to do with it."""
    config = parse_config(Config, arguments, command="train", usage=USAGE)
    from wing_jax.train.run import train

    model = train(config)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"model: {model}")
    console.print(f"next:  wing-jax evaluate {model} --data {config.data.name}")
