"""The command `wing-jax reproduce TARGET --data NAME --budget BUDGET`."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from wing_jax.cli.options import parse
from wing_jax.errors import InputError
from wing_jax.runtime.console import make_console, say

if TYPE_CHECKING:
    from wing_jax.reproduce import ExperimentRunner


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Repeat an experiment of the paper; write its table as Markdown and JSON, and its figure as PNG.

    Finished training runs are saved: the same command resumes where it stopped, and targets share trained models.
    """

    # a table or figure of the paper, or a study beyond it: length, curves, learning-rates, wing-parameters,
    # annotation-noise
    target: Annotated[
        Literal[
            "table1", "table2", "table3", "table3-cnn6", "table4", "ced", "pose-histogram", "length", "curves",
            "learning-rates", "wing-parameters", "annotation-noise",
        ],
        tyro.conf.Positional,
    ]  # fmt: skip
    data: Literal["mtfl", "w300", "aflw", "synthetic"] = "mtfl"  # the data set to train and test on
    root: str = ""  # the data set's folder; empty: below WING_JAX_DATA or ../shared/data
    # length of each training run: trial (one or two minutes, only to check that everything runs), short, long (4 x
    # short), paper (120,000 steps a stage)
    budget: Literal["trial", "short", "long", "paper"] = "short"
    seeds: int = 3  # training runs of each method, each with a different seed
    losses: tuple[str, ...] = ("l2", "l1", "smooth_l1", "wing")  # losses to compare
    output: str = "runs/reproduce"  # folder of the results


def run(arguments: list[str]) -> None:
    """Run the experiment, print its tables and their files."""
    options = parse(ReproduceOptions, arguments, command="reproduce")
    if options.seeds < 1:
        raise InputError(f"seeds={options.seeds} must be 1 or more")
    from wing_jax.reproduce import ExperimentRunner, recipe

    runner = ExperimentRunner(recipe(options.data, options.budget, root=options.root), output=options.output)
    make(options, runner, command=f"wing-jax reproduce {shlex.join(arguments)}")


def make(options: ReproduceOptions, runner: "ExperimentRunner", *, command: str) -> None:
    """Run the experiment with `runner`, whose recipe may differ from the one that `options` name."""
    from wing_jax.report.origin import commit, machine
    from wing_jax.report.tables import rich_table
    from wing_jax.reproduce import TARGETS
    from wing_jax.runtime import devices

    with devices.only_trainer(runner.folder):
        product = TARGETS[options.target](runner, seeds=range(options.seeds), losses=options.losses)
    origin = {"command": command, "commit": commit(), "machine": machine()}
    product = dataclasses.replace(product, about={**product.about, **origin})
    console = make_console()
    for grid in product.grids:
        console.print(rich_table(grid))
    for path in product.write(Path(runner.folder), options.target):
        say(console, f"saved: {path}")
