"""`wing-jax sweep CONFIG --grid.FIELD value ... [--field value ...]`"""

import dataclasses
import sys

from rich.console import Console

from wing_jax.cli.options import parse
from wing_jax.config import SweepConfig, load_config
from wing_jax.errors import InputError

USAGE = (
    "usage: wing-jax sweep CONFIG --grid.losses wing l1 --grid.widths 8 10 12 --grid.epsilons 1 2 --grid.seeds 0 1 2 "
    "--grid.learning_rates 1e-3 3e-4 [--field value ...]"
)


def run(arguments: list[str]) -> None:
    """Train the first stage once for each combination, and print the table."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if arguments else 2)
    if arguments[0].startswith("-"):
        raise InputError(f"the first argument must be the config, not {arguments[0]!r}: {USAGE}")
    loaded = load_config(arguments[0])
    fields = {field.name: getattr(loaded, field.name) for field in dataclasses.fields(loaded)}
    config = parse(SweepConfig, arguments[1:], command=f"sweep {arguments[0]}", default=SweepConfig(**fields))
    from wing_jax.train.sweep_run import sweep, table

    rows = sweep(config)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table(rows), end="")
    console.print(f"models: {config.folder / 'cells'}")
