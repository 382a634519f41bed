"""The paper's tables and figures: each is a function that trains and measures models, and adds the paper's numbers."""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from wing_jax import balance
from wing_jax.errors import InputError
from wing_jax.evaluation import metrics
from wing_jax.report.canvas import Figure
from wing_jax.report.grids import heat_figure, seeds_figure
from wing_jax.report.plots import ced_figure, save_figure
from wing_jax.report.pose import pose_figure
from wing_jax.report.tables import Grid, markdown, number
from wing_jax.reproduce import published
from wing_jax.reproduce.published import title_of
from wing_jax.reproduce.rates import rates
from wing_jax.reproduce.recipes import RATES_OF
from wing_jax.reproduce.runner import METHODS, ExperimentRunner, Method, TrialResult, Variant
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


def table1(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare the losses with CNN-6."""
    return _losses_table(runner, METHODS[:1], seeds, losses, title="Table 1: the losses with CNN-6")


def table3(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare the losses with and without HSM, with one stage and with two."""
    return _losses_table(runner, METHODS, seeds, losses, title="Table 3: losses, HSM and the second stage")


def cnn6(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Make the first two rows of table 3."""
    return _losses_table(runner, METHODS[:2], seeds, losses, title="Table 3, CNN-6 alone: losses and HSM")


def table2(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare Wing's widths and epsilons with CNN-6, all at the learning rate tuned for width 10 and epsilon 2."""
    rate, method = rates(runner, losses if "wing" in losses else ["wing"])["wing"], METHODS[0]
    wing = runner.recipe.loss("wing")

    def variant(width: float, epsilon: float, seed: int) -> Variant:
        loss = dataclasses.replace(wing, params={"width": width, "epsilon": epsilon})
        return Variant(loss=loss, rate=rate, seed=seed)

    pairs = [(epsilon, width) for epsilon in published.EPSILONS for width in published.WIDTHS]
    runner.train([method], [variant(width, epsilon, seed) for epsilon, width in pairs for seed in seeds])
    name = runner.recipe.metric
    nmes: dict[tuple[float, float], list[float]] = {
        (epsilon, width): _nmes([runner.measure(method, variant(width, epsilon, seed)) for seed in seeds], name)
        for epsilon, width in pairs
    }
    ours = np.array([[_mean(nmes[e, w]) for w in published.WIDTHS] for e in published.EPSILONS])
    paper = np.array([published.TABLE2[e] for e in published.EPSILONS])
    header = ("epsilon", *(f"width {width:g}" for width in published.WIDTHS))
    rows = [(f"{e:g}", *(_spread(nmes[e, w]) for w in published.WIDTHS)) for e in published.EPSILONS]
    paper_rows = [(f"{e:g}", *(number(value) for value in published.TABLE2[e])) for e in published.EPSILONS]
    return Product(
        title="Table 2: width and epsilon of the Wing loss, CNN-6",
        about=_about(runner, seeds, {"wing": rate}),
        grids=(
            Grid(f"NME by {name} (%) on {_test_name(runner)}", header, tuple(rows), 1),
            Grid("The paper's, AFLW, by face size (%)", header, tuple(paper_rows), 1),
        ),
        values={
            "nme_percent": [{"epsilon": e, "width": w, "seeds": values} for (e, w), values in nmes.items()],
            "spread_over_the_grid": float(np.ptp(ours)),
        },
        figures={
            "": heat_figure(
                {f"{_test_name(runner)}, NME by {name} (%)": ours, "the paper, AFLW, by face size (%)": paper},
                rows=published.EPSILONS,
                columns=published.WIDTHS,
                row_label="epsilon (pixels)",
                column_label="width (pixels)",
            )
        },
    )


def length(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare the losses with CNN-6 at the budgets "short" and "long", with the same learning rates.

    Raises:
      InputError: the budget is not "long".
    """
    if runner.recipe.budget != "long":
        raise InputError("length compares the budgets short and long: pass --budget long")
    name, method, nmes = runner.recipe.metric, METHODS[0], {}
    for budget_runner in (runner.at("short"), runner):
        cells, chosen = _train_and_measure(budget_runner, [method], seeds, losses)
        stage = budget_runner.recipe.config.stage1
        nmes[f"{stage.steps * stage.batch_size:,} faces"] = {
            loss: _nmes(cells[method.name, loss], name) for loss in losses
        }
    header = ("trained on", *(title_of(loss) for loss in losses))
    title = f"NME by {name} (%) on {_test_name(runner)}: mean ± standard deviation over the seeds"
    grids = [
        Grid(title, header, tuple((row, *(_spread(cells[loss]) for loss in losses)) for row, cells in nmes.items()), 1)
    ]
    if "l2" in losses:
        ratios = tuple(
            (row, *(f"{_mean(cells[loss]) / _mean(cells['l2']):.3f}" for loss in losses)) for row, cells in nmes.items()
        )
        grids.append(Grid("Ratio to L2", header, ratios, 1))
    return Product(
        title="The losses by length of training, CNN-6",
        about=_about(runner, seeds, chosen),
        grids=tuple(grids),
        values={"nme_percent": nmes},
        figures={
            "": seeds_figure(
                {row: {title_of(loss): cells[loss] for loss in losses} for row, cells in nmes.items()},
                label=f"NME by {name} (%)",
            )
        },
    )


def table4(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Measure both stages with HSM on 300-W, and list the paper's numbers of other methods.

    Raises:
      InputError: the data set is not 300-W.
    """
    if runner.recipe.config.data.name != "w300":
        raise InputError("table4 needs 300-W: pass --data w300")
    method = METHODS[3]
    cells, chosen = _train_and_measure(runner, [method], seeds, losses)
    name = runner.recipe.metric
    parts: dict[str, tuple[str, str] | None] = {
        "common": ("attribute", "common"),
        "challenging": ("attribute", "challenging"),
        "full": None,
    }
    rows, values = [], {}
    for loss in losses:
        measured = cells[method.name, loss]
        nmes = {part: _nmes(measured, name, group=group) for part, group in parts.items()}
        if not nmes["challenging"]:  # iBUG is missing, so all faces are common ones
            nmes["full"] = []
        values[loss] = nmes
        rows.append((f"{method.name} ({title_of(loss)}), here", *(_spread(nmes[part]) for part in parts)))
    rows += [(f"{row}, paper", *(number(value) for value in numbers)) for row, numbers in published.TABLE4.items()]
    return Product(
        title="Table 4: 300-W",
        about=_about(runner, seeds, chosen),
        grids=(Grid(f"NME by {name} (%)", ("method", *parts), tuple(rows), 1),),
        values={"nme_percent": values},
        figures={},
    )


def ced(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Plot the cumulative error distribution of CNN-6 for each loss, over the faces of all seeds."""
    method, name = METHODS[0], runner.recipe.metric
    cells, chosen = _train_and_measure(runner, [method], seeds, losses)
    curves = {title_of(loss): np.concatenate([m.nmes for m in cells[method.name, loss]]) for loss in losses}
    threshold = metrics.METRICS[name].threshold
    assert threshold is not None  # every NME has one
    limits = np.linspace(0, threshold, 6)[1:]
    shares = {title: metrics.ced(nmes[np.isfinite(nmes)], limits) for title, nmes in curves.items()}
    rows = tuple((title, *(f"{100 * share:.1f}" for share in values)) for title, values in shares.items())
    header = ("loss", *(f"{100 * limit:g} %" for limit in limits))
    return Product(
        title="CED of CNN-6 by loss",
        about=_about(runner, seeds, chosen),
        grids=(Grid(f"Faces (%) with an NME by {name} of at most", header, rows, 1),),
        values={"limits": limits.tolist(), "shares": {title: values.tolist() for title, values in shares.items()}},
        figures={"": ced_figure(curves, threshold=threshold, label=f"NME by {name} (%)")},
    )


def pose_histogram(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Plot the poses of the training faces before and after HSM, without any training."""
    data, setting = runner.data, runner.recipe.config.balance
    points, visible = data.train.points, data.train.visible
    try:
        model = balance.pose_axis(points, visible, flip_permutation=data.scheme.flip)
    except ValueError as error:
        raise InputError(f"the pose axis cannot be computed: {error}") from error
    counts = np.bincount(data.order, minlength=len(points))
    histogram = balance.pose_histogram(np.abs(model.coefficients), counts, bins=setting.bins)
    rows = tuple(
        (f"{low:.3f} to {high:.3f}", str(before), str(after))
        for low, high, before, after in zip(
            histogram.edges[:-1], histogram.edges[1:], histogram.before, histogram.after, strict=True
        )
    )
    return Product(
        title="Poses before and after HSM",
        about={
            "data": _train_name(runner),
            "pose axis": f"{model.index + 1}, {model.shares[model.index]:.0%} of the variance",
        },
        grids=(Grid("Faces by |pose coefficient|", ("bin", "before", "after"), rows, 1),),
        values={"before": histogram.before.tolist(), "after": histogram.after.tolist()},
        figures={"": pose_figure(model, counts, lines=data.scheme.lines)},
    )


Target: TypeAlias = Callable[..., Product]
TARGETS: dict[str, Target] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table3-cnn6": cnn6,
    "table4": table4,
    "length": length,
    "ced": ced,
    "pose-histogram": pose_histogram,
}


def _train_and_measure(
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


def _losses_table(
    runner: ExperimentRunner, methods: Sequence[Method], seeds: Sequence[int], losses: Sequence[str], *, title: str
) -> Product:
    cells, chosen = _train_and_measure(runner, methods, seeds, losses)
    name = runner.recipe.metric
    nmes = {key: _nmes(measured, name) for key, measured in cells.items()}
    header = ("method", *(title_of(loss) for loss in losses))
    ours = [(m.name, *(_spread(nmes[m.name, loss]) for loss in losses)) for m in methods]
    paper = [(m.name, *(number(published.TABLE3[m.name].get(loss)) for loss in losses)) for m in methods]
    grids = [
        Grid(f"NME by {name} (%) on {_test_name(runner)}: mean ± standard deviation over the seeds", header,
             tuple(ours), 1),
        Grid("The paper's, AFLW-Full, by face size (%)", header, tuple(paper), 1),
    ]  # fmt: skip
    if "l2" in losses:
        grids.append(_ratios(methods, losses, nmes))
    if len(methods) > 1:
        grids.append(_gains(methods, losses, nmes))
    return Product(
        title=title,
        about=_about(runner, seeds, chosen),
        grids=tuple(grids),
        values={"nme_percent": {m.name: {loss: nmes[m.name, loss] for loss in losses} for m in methods}},
        figures={
            "": seeds_figure(
                {m.name: {title_of(loss): nmes[m.name, loss] for loss in losses} for m in methods},
                label=f"NME by {name} (%)",
            )
        },
    )


def _ratios(methods: Sequence[Method], losses: Sequence[str], nmes: Mapping) -> Grid:
    """Return the ratio of each loss to L2 with the same method, followed by the paper's ratio."""
    rows = []
    for method in methods:
        printed = published.TABLE3[method.name]
        ours = [_mean(nmes[method.name, loss]) / _mean(nmes[method.name, "l2"]) for loss in losses]
        paper = [printed[loss] / printed["l2"] if loss in printed else None for loss in losses]
        rows.append((method.name, *(f"{a:.2f} ({number(b)})" for a, b in zip(ours, paper, strict=True))))
    return Grid(
        "Ratio to L2, in brackets the paper's", ("method", *(title_of(loss) for loss in losses)), tuple(rows), 1
    )


def _gains(methods: Sequence[Method], losses: Sequence[str], nmes: Mapping) -> Grid:
    """Return the ratio of each method to CNN-6 with the same loss, followed by the paper's ratio."""
    rows, first = [], methods[0].name
    for method in methods[1:]:
        ours = [_mean(nmes[method.name, loss]) / _mean(nmes[first, loss]) for loss in losses]
        printed, base = published.TABLE3[method.name], published.TABLE3[first]
        paper = [printed[loss] / base[loss] if loss in printed else None for loss in losses]
        rows.append((method.name, *(f"{a:.2f} ({number(b)})" for a, b in zip(ours, paper, strict=True))))
    header = ("method", *(title_of(loss) for loss in losses))
    return Grid(f"Ratio to {first}, in brackets the paper's", header, tuple(rows), 1)


def _nmes(measured: Sequence[TrialResult], metric: str, *, group: tuple[str, str] | None = None) -> list[float]:
    """Return the mean NMEs in percent, one for each seed."""
    values = [result.nme(metric, group=group) for result in measured]
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _spread(values: Sequence[float]) -> str:
    """Format mean ± standard deviation; a dash if there are no values."""
    if not values:
        return "-"
    return f"{_mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def _about(runner: ExperimentRunner, seeds: Sequence[int], chosen: Mapping[str, float]) -> dict[str, str]:
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
        "data": f"{_train_name(runner)}; tested on {len(runner.test):,}",
        "budget": f"{recipe.budget}: {stages}; {first.optimizer.name}",
        "learning rates of CNN-6": f"{learning_rates} ({source})",
        "seeds": ", ".join(map(str, seeds)),
    }


def _train_name(runner: ExperimentRunner) -> str:
    data = runner.data
    held_out = len(data.validation.images)
    return f"{data.data_name}, {len(data.train.images):,} faces to train and {held_out:,} held out"


def _test_name(runner: ExperimentRunner) -> str:
    return f"{runner.test.name}, {len(runner.test):,} test faces"
