"""`wing-jax sweep CONFIG --grid.FIELD value ... [--field value ...]`"""

from rich.console import Console

from wing_jax.cli.options import parse_config
from wing_jax.config import SweepConfig

USAGE = (
    "usage: wing-jax sweep CONFIG --grid.losses wing l1 --grid.widths 8 10 12 --grid.epsilons 1 2 --grid.seeds 0 1 2 "
    "--grid.learning_rates 1e-3 3e-4 [--field value ...]"
)


def run(arguments: list[str]) -> None:
    """Train the first stage once for each combination, and print the table."""
    config = parse_config(SweepConfig, arguments, command="sweep", usage=USAGE)
    from wing_jax.train.sweep_run import sweep, table

    rows = sweep(config)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table(rows), end="")
    console.print(f"models: {config.folder / 'cells'}")
