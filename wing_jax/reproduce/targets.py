"""The paper's tables and figures, each a function of a workshop: what it trains, measures and sets beside the print."""

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
    """What a target makes: tables, the same as plain values, and figures by the end of their file's name."""

    title: str
    about: Mapping[str, str]
    grids: tuple[Grid, ...]
    values: dict
    figures: Mapping[str, Figure]

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write NAME.md, NAME.json and a PNG for each figure; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        drawn = {ending: save_figure(figure, folder / f"{name}{ending}.png") for ending, figure in self.figures.items()}
        facts = [f"- {label}: {text}" for label, text in self.about.items()]
        pictures = [f"![{self.title}]({path.name})" for path in drawn.values()]
        parts = [f"# {self.title}", "\n".join(facts), *(markdown(grid).rstrip() for grid in self.grids), *pictures]
        text, told = folder / f"{name}.md", folder / f"{name}.json"
        text.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")
        facts = {"title": self.title, **self.about, **self.values}
        told.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return [text, told, *drawn.values()]


def table1(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """The losses with CNN-6."""
    return _losses_table(runner, METHODS[:1], seeds, losses, title="Table 1: the losses with CNN-6")


def table3(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """The losses with and without HSM, by one stage and by two."""
    return _losses_table(runner, METHODS, seeds, losses, title="Table 3: losses, HSM and the second stage")


def cnn6(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """The first two rows of table 3."""
    return _losses_table(runner, METHODS[:2], seeds, losses, title="Table 3, CNN-6 alone: losses and HSM")


def table2(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Wing's width and epsilon with CNN-6, at one learning rate: that which the rule finds for width 10, epsilon 2."""
    rate, method = rates(runner, losses if "wing" in losses else ["wing"])["wing"], METHODS[0]
    own = runner.recipe.loss("wing")

    def variant(width: float, epsilon: float, seed: int) -> Variant:
        loss = dataclasses.replace(own, params={"width": width, "epsilon": epsilon})
        return Variant(loss=loss, rate=rate, seed=seed)

    pairs = [(epsilon, width) for epsilon in published.EPSILONS for width in published.WIDTHS]
    runner.train([method], [variant(width, epsilon, seed) for epsilon, width in pairs for seed in seeds])
    name = runner.recipe.metric
    found: dict[tuple[float, float], list[float]] = {
        (epsilon, width): _nmes([runner.measure(method, variant(width, epsilon, seed)) for seed in seeds], name)
        for epsilon, width in pairs
    }
    ours = np.array([[_mean(found[e, w]) for w in published.WIDTHS] for e in published.EPSILONS])
    theirs = np.array([published.TABLE2[e] for e in published.EPSILONS])
    header = ("epsilon", *(f"width {width:g}" for width in published.WIDTHS))
    rows = [(f"{e:g}", *(_spread(found[e, w]) for w in published.WIDTHS)) for e in published.EPSILONS]
    printed = [(f"{e:g}", *(number(value) for value in published.TABLE2[e])) for e in published.EPSILONS]
    return Product(
        title="Table 2: width and epsilon of the Wing loss, CNN-6",
        about=_about(runner, seeds, {"wing": rate}),
        grids=(
            Grid(f"NME by {name} (%) on {_test_name(runner)}", header, tuple(rows), 1),
            Grid("The paper's, AFLW, by face size (%)", header, tuple(printed), 1),
        ),
        values={
            "nme_percent": [{"epsilon": e, "width": w, "seeds": values} for (e, w), values in found.items()],
            "spread_over_the_grid": float(np.ptp(ours)),
        },
        figures={
            "": heat_figure(
                {f"{_test_name(runner)}, NME by {name} (%)": ours, "the paper, AFLW, by face size (%)": theirs},
                rows=published.EPSILONS,
                columns=published.WIDTHS,
                row_label="epsilon (pixels)",
                column_label="width (pixels)",
            )
        },
    )


def length(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """The losses with CNN-6 by how long they train: at the budget "short" and at "long", by the same learning rates.

    Raises:
      InputError: the budget is another one.
    """
    if runner.recipe.budget != "long":
        raise InputError("length compares the budgets short and long: give --budget long")
    name, method, found = runner.recipe.metric, METHODS[0], {}
    for shop in (runner.at("short"), runner):
        cells, chosen = _measured(shop, [method], seeds, losses)
        stage = shop.recipe.config.stage1
        found[f"{stage.steps * stage.batch_size:,} faces"] = {
            loss: _nmes(cells[method.name, loss], name) for loss in losses
        }
    header = ("trained on", *(title_of(loss) for loss in losses))
    title = f"NME by {name} (%) on {_test_name(runner)}: mean ± standard deviation over the seeds"
    grids = [
        Grid(title, header, tuple((row, *(_spread(cells[loss]) for loss in losses)) for row, cells in found.items()), 1)
    ]
    if "l2" in losses:
        ratios = tuple(
            (row, *(f"{_mean(cells[loss]) / _mean(cells['l2']):.3f}" for loss in losses))
            for row, cells in found.items()
        )
        grids.append(Grid("Ratio to L2", header, ratios, 1))
    return Product(
        title="The losses by length of training, CNN-6",
        about=_about(runner, seeds, chosen),
        grids=tuple(grids),
        values={"nme_percent": found},
        figures={
            "": seeds_figure(
                {row: {title_of(loss): cells[loss] for loss in losses} for row, cells in found.items()},
                label=f"NME by {name} (%)",
            )
        },
    )


def table4(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """300-W by both stages with HSM, beside what the paper prints of others.

    Raises:
      InputError: the data are not 300-W.
    """
    if runner.recipe.config.data.name != "w300":
        raise InputError("table4 is of 300-W: give --data w300")
    method = METHODS[3]
    cells, chosen = _measured(runner, [method], seeds, losses)
    name = runner.recipe.metric
    parts: dict[str, tuple[str, str] | None] = {
        "common": ("attribute", "common"),
        "challenging": ("attribute", "challenging"),
        "full": None,
    }
    rows, values = [], {}
    for loss in losses:
        measured = cells[method.name, loss]
        found = {part: _nmes(measured, name, group=group) for part, group in parts.items()}
        if not found["challenging"]:  # the faces of iBUG are not there, so that all faces are the common ones
            found["full"] = []
        values[loss] = found
        rows.append((f"{method.name} ({title_of(loss)}), here", *(_spread(found[part]) for part in parts)))
    rows += [(f"{row}, paper", *(number(value) for value in numbers)) for row, numbers in published.TABLE4.items()]
    return Product(
        title="Table 4: 300-W",
        about=_about(runner, seeds, chosen),
        grids=(Grid(f"NME by {name} (%)", ("method", *parts), tuple(rows), 1),),
        values={"nme_percent": values},
        figures={},
    )


def ced(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """The cumulative error distribution of CNN-6 by each loss, the faces of all seeds together."""
    method, name = METHODS[0], runner.recipe.metric
    cells, chosen = _measured(runner, [method], seeds, losses)
    curves = {title_of(loss): np.concatenate([m.nmes for m in cells[method.name, loss]]) for loss in losses}
    threshold = metrics.METRICS[name].threshold
    assert threshold is not None  # of an NME
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
    """The poses of the training faces before and after HSM. Nothing is trained."""
    data, setting = runner.data, runner.recipe.config.balance
    points, visible = data.train.points, data.train.visible
    try:
        model = balance.pose_axis(points, visible, flip_permutation=data.scheme.flip)
    except ValueError as error:
        raise InputError(f"no pose axis can be found: {error}") from error
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


def _measured(
    runner: ExperimentRunner, methods: Sequence[Method], seeds: Sequence[int], losses: Sequence[str]
) -> tuple[Cells, dict[str, float]]:
    """The models of every method, loss and seed, trained and measured; the multiples of the learning rates."""
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
    cells, chosen = _measured(runner, methods, seeds, losses)
    name = runner.recipe.metric
    found = {key: _nmes(measured, name) for key, measured in cells.items()}
    header = ("method", *(title_of(loss) for loss in losses))
    ours = [(m.name, *(_spread(found[m.name, loss]) for loss in losses)) for m in methods]
    theirs = [(m.name, *(number(published.TABLE3[m.name].get(loss)) for loss in losses)) for m in methods]
    grids = [
        Grid(f"NME by {name} (%) on {_test_name(runner)}: mean ± standard deviation over the seeds", header,
             tuple(ours), 1),
        Grid("The paper's, AFLW-Full, by face size (%)", header, tuple(theirs), 1),
    ]  # fmt: skip
    if "l2" in losses:
        grids.append(_ratios(methods, losses, found))
    if len(methods) > 1:
        grids.append(_gains(methods, losses, found))
    return Product(
        title=title,
        about=_about(runner, seeds, chosen),
        grids=tuple(grids),
        values={"nme_percent": {m.name: {loss: found[m.name, loss] for loss in losses} for m in methods}},
        figures={
            "": seeds_figure(
                {m.name: {title_of(loss): found[m.name, loss] for loss in losses} for m in methods},
                label=f"NME by {name} (%)",
            )
        },
    )


def _ratios(methods: Sequence[Method], losses: Sequence[str], found: Mapping) -> Grid:
    """Each loss against L2 with the same method, the paper's ratio behind it."""
    rows = []
    for method in methods:
        printed = published.TABLE3[method.name]
        own = [_mean(found[method.name, loss]) / _mean(found[method.name, "l2"]) for loss in losses]
        paper = [printed[loss] / printed["l2"] if loss in printed else None for loss in losses]
        rows.append((method.name, *(f"{a:.2f} ({number(b)})" for a, b in zip(own, paper, strict=True))))
    return Grid(
        "Ratio to L2, in brackets the paper's", ("method", *(title_of(loss) for loss in losses)), tuple(rows), 1
    )


def _gains(methods: Sequence[Method], losses: Sequence[str], found: Mapping) -> Grid:
    """Each method against CNN-6 with the same loss, the paper's ratio behind it."""
    rows, first = [], methods[0].name
    for method in methods[1:]:
        own = [_mean(found[method.name, loss]) / _mean(found[first, loss]) for loss in losses]
        printed, base = published.TABLE3[method.name], published.TABLE3[first]
        paper = [printed[loss] / base[loss] if loss in printed else None for loss in losses]
        rows.append((method.name, *(f"{a:.2f} ({number(b)})" for a, b in zip(own, paper, strict=True))))
    header = ("method", *(title_of(loss) for loss in losses))
    return Grid(f"Ratio to {first}, in brackets the paper's", header, tuple(rows), 1)


def _nmes(measured: Sequence[TrialResult], metric: str, *, group: tuple[str, str] | None = None) -> list[float]:
    """Mean NMEs in per cent, one a seed."""
    found = [one.nme(metric, group=group) for one in measured]
    return [value for value in found if value is not None]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; a dash for none."""
    if not values:
        return "-"
    return f"{_mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def _about(runner: ExperimentRunner, seeds: Sequence[int], chosen: Mapping[str, float]) -> dict[str, str]:
    recipe, first = runner.recipe, runner.recipe.config.stage1
    rated = ", ".join(f"{title_of(loss)} {rate * first.optimizer.learning_rate:.1e}" for loss, rate in chosen.items())
    how = "tuned by the rule of wing_jax.reproduce.rates" if recipe.tuned else "the paper's"
    if source := RATES_OF.get(recipe.budget):
        how += f" at the budget {source}"
    second = recipe.config.stage2
    stages = f"CNN-6 {first.steps:,} steps of {first.batch_size}"
    if second is not None:
        stages += f", CNN-7 {second.model.params['channels']} {second.steps:,} steps of {second.batch_size}"
    return {
        "data": f"{_train_name(runner)}; tested on {len(runner.test):,}",
        "budget": f"{recipe.budget}: {stages}; {first.optimizer.name}",
        "learning rates of CNN-6": f"{rated} ({how})",
        "seeds": ", ".join(map(str, seeds)),
    }


def _train_name(runner: ExperimentRunner) -> str:
    data = runner.data
    held = len(data.validation.images)
    return f"{data.data_name}, {len(data.train.images):,} faces to train and {held:,} held out"


def _test_name(runner: ExperimentRunner) -> str:
    return f"{runner.test.name}, {len(runner.test):,} test faces"
