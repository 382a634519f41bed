"""The command `wing-jax sweep CONFIG --grid.FIELD value ... [--field value ...]`."""

from wing_jax.cli.options import parse_config
from wing_jax.config import SweepConfig
from wing_jax.runtime.console import make_console, say

USAGE = (
    "usage: wing-jax sweep CONFIG --grid.losses wing l1 --grid.params.width 8 10 12 --grid.params.epsilon 1 2 "
    "--grid.seeds 0 1 2 --grid.learning_rates 1e-3 3e-4 [--field value ...]"
)


def run(arguments: list[str]) -> None:
    """Train the first stage for each combination, and print a table of the results."""
    config = parse_config(SweepConfig, arguments, command="sweep", usage=USAGE)
    from wing_jax.from_config.sweep import sweep, table

    rows = sweep(config)
    console = make_console()
    console.print(table(rows), end="")
    say(console, f"models: {config.folder / 'trials'}")
