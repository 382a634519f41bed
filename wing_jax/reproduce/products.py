"""The results of a target, and what all targets share: training and measuring models, and the texts of tables."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from wing_jax.evaluation.comparison import bootstrap_interval
from wing_jax.report.canvas import Figure
from wing_jax.report.plots import save_figure
from wing_jax.report.tables import Grid, markdown
from wing_jax.reproduce.published import title_of
from wing_jax.reproduce.rates import rates
from wing_jax.reproduce.recipes import RATES_OF
from wing_jax.reproduce.runner import ExperimentRunner, Method, TrialResult, Variant
from wing_jax.values import Value

Cells: TypeAlias = dict[tuple[str, str], list[TrialResult]]  # by method and loss, a model for each seed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Product(Value):
    """The result of a target: tables, the same as plain values, and figures by the suffix of their file name."""

    title: str
    about: Mapping[str, str]
    grids: tuple[Grid, ...]
    values: dict
    figures: Mapping[str, Figure]

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write NAME.md, NAME.json and a PNG for each figure; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        figures = {
            suffix: save_figure(figure, folder / f"{name}{suffix}.png") for suffix, figure in self.figures.items()
        }
        facts = [f"- {label}: {text}" for label, text in self.about.items()]
        pictures = [f"![{self.title}]({path.name})" for path in figures.values()]
        parts = [f"# {self.title}", "\n".join(facts), *(markdown(grid).rstrip() for grid in self.grids), *pictures]
        text, values = folder / f"{name}.md", folder / f"{name}.json"
        text.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")
        facts = {"title": self.title, **self.about, **self.values}
        values.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return [text, values, *figures.values()]


def train_and_measure(
    runner: ExperimentRunner, methods: Sequence[Method], seeds: Sequence[int], losses: Sequence[str]
) -> tuple[Cells, dict[str, float]]:
    """Train and measure the models of all methods, losses and seeds; also return the learning rate multiples."""
    chosen = rates(runner, losses)
    variants = {
        loss: [Variant(loss=runner.recipe.loss(loss), rate=chosen[loss], seed=seed) for seed in seeds]
        for loss in losses
    }
    runner.train(methods, [variant for row in variants.values() for variant in row])
    cells: Cells = {
        (method.name, loss): [runner.measure(method, variant) for variant in variants[loss]]
        for method in methods
        for loss in losses
    }
    return cells, chosen


def differences(
    runner: ExperimentRunner, measured: Sequence[TrialResult], reference: Sequence[TrialResult]
) -> tuple[float, float, float]:
    """Compare two methods face by face, each face by its mean error over the seeds.

    Returns:
      The mean difference in percent, negative if `measured` is better, and its 95 % interval (bootstrap over photos).
    """
    ours, theirs = (100 * np.mean([result.nmes for result in results], 0) for results in (measured, reference))
    counted = np.isfinite(ours) & np.isfinite(theirs)
    each = (ours - theirs)[counted]
    low, high = bootstrap_interval(each, np.asarray(runner.test.photos)[counted], seed=0)
    return float(each.mean()), low, high


def format_difference(difference: tuple[float, float, float]) -> str:
    """Format a difference with its interval: "+0.12 (+0.05 to +0.19)".

    >>> format_difference((0.124, 0.05, 0.19))
    '+0.12 (+0.05 to +0.19)'
    """
    middle, low, high = difference
    return f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"


def nmes_percent(measured: Sequence[TrialResult], metric: str, *, group: tuple[str, str] | None = None) -> list[float]:
    """Return the mean NMEs in percent, one for each seed."""
    values = [result.nme(metric, group=group) for result in measured]
    return [value for value in values if value is not None]


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN if there are no values."""
    return statistics.fmean(values) if values else math.nan


def spread(values: Sequence[float]) -> str:
    """Format mean ± standard deviation; a dash if there are no values."""
    if not values:
        return "-"
    return f"{mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def describe(runner: ExperimentRunner, seeds: Sequence[int], chosen: Mapping[str, float]) -> dict[str, str]:
    """Return the data, budget, learning rates and seeds of a target, by name."""
    recipe, first = runner.recipe, runner.recipe.config.stage1
    learning_rates = ", ".join(
        f"{title_of(loss)} {rate * first.optimizer.learning_rate:.1e}" for loss, rate in chosen.items()
    )
    source = "tuned by the rule of wing_jax.reproduce.rates" if recipe.tuned else "the paper's"
    if budget := RATES_OF.get(recipe.budget):
        source += f" at the budget {budget}"
    second = recipe.config.stage2
    stages = f"CNN-6 {first.steps:,} steps of {first.batch_size}"
    if second is not None:
        stages += f", CNN-7 {second.model.params['channels']} {second.steps:,} steps of {second.batch_size}"
    return {
        "data": f"{train_name(runner)}; tested on {len(runner.test):,}",
        "budget": f"{recipe.budget}: {stages}; {first.optimizer.name}",
        "learning rates of CNN-6": f"{learning_rates} ({source})",
        "seeds": ", ".join(map(str, seeds)),
    }


def train_name(runner: ExperimentRunner) -> str:
    """Return the name and size of the training set."""
    data = runner.data
    held_out = len(data.validation.images)
    return f"{data.data_name}, {len(data.train.images):,} faces to train and {held_out:,} held out"


def test_name(runner: ExperimentRunner) -> str:
    """Return the name and size of the test set."""
    return f"{runner.test.name}, {len(runner.test):,} test faces"
