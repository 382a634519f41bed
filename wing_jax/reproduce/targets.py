"""The paper's tables and figures: each is a function that trains and measures models, and adds the paper's numbers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from wing_jax import balance
from wing_jax.errors import InputError
from wing_jax.evaluation import metrics
from wing_jax.report.grids import heat_figure, seeds_figure
from wing_jax.report.plots import ced_figure
from wing_jax.report.pose import pose_figure
from wing_jax.report.tables import Grid, number
from wing_jax.reproduce import published, studies
from wing_jax.reproduce.products import (
    Cells,
    Product,
    describe,
    differences,
    format_difference,
    mean,
    nmes_percent,
    spread,
    test_name,
    train_and_measure,
    train_name,
)
from wing_jax.reproduce.published import title_of
from wing_jax.reproduce.rates import rates
from wing_jax.reproduce.runner import METHODS, ExperimentRunner, Method, Variant


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
        (epsilon, width): nmes_percent([runner.measure(method, variant(width, epsilon, seed)) for seed in seeds], name)
        for epsilon, width in pairs
    }
    ours = np.array([[mean(nmes[e, w]) for w in published.WIDTHS] for e in published.EPSILONS])
    paper = np.array([published.TABLE2[e] for e in published.EPSILONS])
    header = ("epsilon", *(f"width {width:g}" for width in published.WIDTHS))
    rows = [(f"{e:g}", *(spread(nmes[e, w]) for w in published.WIDTHS)) for e in published.EPSILONS]
    paper_rows = [(f"{e:g}", *(number(value) for value in published.TABLE2[e])) for e in published.EPSILONS]
    return Product(
        title="Table 2: width and epsilon of the Wing loss, CNN-6",
        about=describe(runner, seeds, {"wing": rate}),
        grids=(
            Grid(f"NME by {name} (%) on {test_name(runner)}", header, tuple(rows), 1),
            Grid("The paper's, AFLW, by face size (%)", header, tuple(paper_rows), 1),
        ),
        values={
            "nme_percent": [{"epsilon": e, "width": w, "seeds": values} for (e, w), values in nmes.items()],
            "spread_over_the_grid": float(np.ptp(ours)),
        },
        figures={
            "": heat_figure(
                {f"{test_name(runner)}, NME by {name} (%)": ours, "the paper, AFLW, by face size (%)": paper},
                rows=published.EPSILONS,
                columns=published.WIDTHS,
                row_label="epsilon (pixels)",
                column_label="width (pixels)",
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
    cells, chosen = train_and_measure(runner, [method], seeds, losses)
    name = runner.recipe.metric
    parts: dict[str, tuple[str, str] | None] = {
        "common": ("attribute", "common"),
        "challenging": ("attribute", "challenging"),
        "full": None,
    }
    rows, values = [], {}
    for loss in losses:
        measured = cells[method.name, loss]
        nmes = {part: nmes_percent(measured, name, group=group) for part, group in parts.items()}
        if not nmes["challenging"]:  # iBUG is missing, so all faces are common ones
            nmes["full"] = []
        values[loss] = nmes
        rows.append((f"{method.name} ({title_of(loss)}), here", *(spread(nmes[part]) for part in parts)))
    rows += [(f"{row}, paper", *(number(value) for value in numbers)) for row, numbers in published.TABLE4.items()]
    return Product(
        title="Table 4: 300-W",
        about=describe(runner, seeds, chosen),
        grids=(Grid(f"NME by {name} (%)", ("method", *parts), tuple(rows), 1),),
        values={"nme_percent": values},
        figures={},
    )


def ced(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Plot the cumulative error distribution of CNN-6 for each loss, over the faces of all seeds."""
    method, name = METHODS[0], runner.recipe.metric
    cells, chosen = train_and_measure(runner, [method], seeds, losses)
    curves = {title_of(loss): np.concatenate([m.nmes for m in cells[method.name, loss]]) for loss in losses}
    threshold = metrics.METRICS[name].threshold
    assert threshold is not None  # every NME has one
    limits = np.linspace(0, threshold, 6)[1:]
    shares = {title: metrics.ced(nmes[np.isfinite(nmes)], limits) for title, nmes in curves.items()}
    rows = tuple((title, *(f"{100 * share:.1f}" for share in values)) for title, values in shares.items())
    header = ("loss", *(f"{100 * limit:g} %" for limit in limits))
    return Product(
        title="CED of CNN-6 by loss",
        about=describe(runner, seeds, chosen),
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
            "data": train_name(runner),
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
    "ced": ced,
    "pose-histogram": pose_histogram,
    "length": studies.length,
    "curves": studies.curves,
    "learning-rates": studies.learning_rates,
    "wing-parameters": studies.wing_parameters,
    "annotation-noise": studies.annotation_noise,
}


def _losses_table(
    runner: ExperimentRunner, methods: Sequence[Method], seeds: Sequence[int], losses: Sequence[str], *, title: str
) -> Product:
    cells, chosen = train_and_measure(runner, methods, seeds, losses)
    name = runner.recipe.metric
    nmes = {key: nmes_percent(measured, name) for key, measured in cells.items()}
    header = ("method", *(title_of(loss) for loss in losses))
    ours = [(m.name, *(spread(nmes[m.name, loss]) for loss in losses)) for m in methods]
    paper = [(m.name, *(number(published.TABLE3[m.name].get(loss)) for loss in losses)) for m in methods]
    grids = [
        Grid(f"NME by {name} (%) on {test_name(runner)}: mean ± standard deviation over the seeds", header,
             tuple(ours), 1),
        Grid("The paper's, AFLW-Full, by face size (%)", header, tuple(paper), 1),
    ]  # fmt: skip
    if "l2" in losses:
        grids.append(_ratios(methods, losses, nmes))
    if "wing" in losses:
        grids.append(_differences(runner, methods, losses, cells))
    if len(methods) > 1:
        grids.append(_gains(methods, losses, nmes))
    return Product(
        title=title,
        about=describe(runner, seeds, chosen),
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
        ours = [mean(nmes[method.name, loss]) / mean(nmes[method.name, "l2"]) for loss in losses]
        paper = [printed[loss] / printed["l2"] if loss in printed else None for loss in losses]
        rows.append((method.name, *(f"{a:.2f} ({number(b)})" for a, b in zip(ours, paper, strict=True))))
    return Grid(
        "Ratio to L2 (the paper's in parentheses)", ("method", *(title_of(loss) for loss in losses)), tuple(rows), 1
    )


def _differences(runner: ExperimentRunner, methods: Sequence[Method], losses: Sequence[str], cells: Cells) -> Grid:
    """Return how much more each loss's error is than Wing's with the same method, face by face."""
    others = [loss for loss in losses if loss != "wing"]
    rows = [
        (
            method.name,
            *(
                format_difference(differences(runner, cells[method.name, loss], cells[method.name, "wing"]))
                for loss in others
            ),
        )
        for method in methods
    ]
    return Grid(
        "NME (%) minus that of Wing, face by face: mean (95 % interval of the mean, over the test photos)",
        ("method", *(title_of(loss) for loss in others)),
        tuple(rows),
        1,
    )


def _gains(methods: Sequence[Method], losses: Sequence[str], nmes: Mapping) -> Grid:
    """Return the ratio of each method to CNN-6 with the same loss, followed by the paper's ratio."""
    rows, first = [], methods[0].name
    for method in methods[1:]:
        ours = [mean(nmes[method.name, loss]) / mean(nmes[first, loss]) for loss in losses]
        printed, base = published.TABLE3[method.name], published.TABLE3[first]
        paper = [printed[loss] / base[loss] if loss in printed else None for loss in losses]
        rows.append((method.name, *(f"{a:.2f} ({number(b)})" for a, b in zip(ours, paper, strict=True))))
    header = ("method", *(title_of(loss) for loss in losses))
    return Grid(f"Ratio to {first} (the paper's in parentheses)", header, tuple(rows), 1)
