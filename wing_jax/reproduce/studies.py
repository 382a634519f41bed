"""Experiments beyond the paper's tables: length of training, learning rates, Wing's parameters, noise."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from wing_jax.errors import InputError
from wing_jax.report.grids import seeds_figure
from wing_jax.report.lines import Curve, lines_figure
from wing_jax.report.tables import Grid
from wing_jax.reproduce.curves import CurvePoint
from wing_jax.reproduce.products import (
    Product,
    describe,
    differences,
    format_difference,
    mean,
    nmes_percent,
    spread,
    test_name,
    train_and_measure,
)
from wing_jax.reproduce.published import title_of
from wing_jax.reproduce.rates import rates
from wing_jax.reproduce.runner import METHODS, ExperimentRunner, TrialResult, Variant

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the training, at which the table of `curves` has columns
RATES = {"l2": (0.1, 1.0)}  # multiples of the recipe's rate: the paper's for L2, and that of the other losses
OTHER_RATES = (1 / 3, 1.0, 10 / 3)
WING_PARAMETERS = ((10.0, 2.0), (10.0, 0.5), (10.0, 1.0), (10.0, 4.0), (4.0, 2.0), (20.0, 2.0))  # (width, epsilon)
SUCCESSORS = ("rectified_wing", "soft_wing")
NOISE = (0.0, 0.5, 1.0, 2.0, 4.0)  # standard deviation of the annotation noise, in percent of the box side


def length(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare the losses with CNN-6 at the budgets "short" and "long", with the same learning rates.

    Raises:
      InputError: the budget is not "long".
    """
    if runner.recipe.budget != "long":
        raise InputError("length compares the budgets short and long: pass --budget long")
    name, method, nmes = runner.recipe.metric, METHODS[0], {}
    for budget_runner in (runner.at("short"), runner):
        cells, chosen = train_and_measure(budget_runner, [method], seeds, losses)
        stage = budget_runner.recipe.config.stage1
        nmes[f"{stage.steps * stage.batch_size:,} faces"] = {
            loss: nmes_percent(cells[method.name, loss], name) for loss in losses
        }
    header = ("trained on", *(title_of(loss) for loss in losses))
    title = f"NME by {name} (%) on {test_name(runner)}: mean ± standard deviation over the seeds"
    grids = [
        Grid(title, header, tuple((row, *(spread(cells[loss]) for loss in losses)) for row, cells in nmes.items()), 1)
    ]
    if "l2" in losses:
        ratios = tuple(
            (row, *(f"{mean(cells[loss]) / mean(cells['l2']):.3f}" for loss in losses)) for row, cells in nmes.items()
        )
        grids.append(Grid("Ratio to L2", header, ratios, 1))
    return Product(
        title="The losses by length of training, CNN-6",
        about=describe(runner, seeds, chosen),
        grids=tuple(grids),
        values={"nme_percent": nmes},
        figures={
            "": seeds_figure(
                {row: {title_of(loss): cells[loss] for loss in losses} for row, cells in nmes.items()},
                label=f"NME by {name} (%)",
            )
        },
    )


def curves(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare the losses with CNN-6 in the course of their training: errors and noise of the gradient.

    Raises:
      InputError: the budget records no curves.
    """
    if not runner.recipe.records_curves:
        raise InputError("curves are recorded at the budgets long and paper: pass --budget paper")
    method, name = METHODS[0], runner.recipe.metric
    _, chosen = train_and_measure(runner, [method], seeds, losses)
    recorded = {
        loss: [
            runner.curve(1, False, Variant(loss=runner.recipe.loss(loss), rate=chosen[loss], seed=seed))
            for seed in seeds
        ]
        for loss in losses
    }
    faces = np.array([point.faces for point in recorded[losses[0]][0]])
    tests = {loss: _means(of_loss, "test_nme", scale=100.0) for loss, of_loss in recorded.items()}
    places = [int(np.searchsorted(faces, share * faces[-1])) for share in SHARES]
    header = ("loss", *(f"{faces[place]:,} faces" for place in places))
    rows = tuple((title_of(loss), *(f"{tests[loss][place]:.2f}" for place in places)) for loss in losses)
    cosines = {loss: _means(of_loss, "gradient_cosine") for loss, of_loss in recorded.items()}
    noise_rows = tuple((title_of(loss), *(f"{cosines[loss][place]:.3f}" for place in places)) for loss in losses)
    grids = [
        Grid(f"NME by {name} (%) on {test_name(runner)}, after training on", header, rows, 1),
        Grid("Cosine between the gradients of two batches, after training on", header, noise_rows, 1),
    ]
    ahead = {
        loss: ahead_from(tests["wing"], tests[loss], faces) for loss in losses if loss != "wing" and "wing" in losses
    }
    if ahead:
        text = {loss: "never" if count is None else f"{count:,} faces" for loss, count in ahead.items()}
        grids.append(
            Grid(
                "From where on Wing's test NME stays below that of the other loss",
                ("loss", "from"),
                tuple((title_of(loss), text[loss]) for loss in ahead),
                1,
            )
        )
    panels = {
        f"test NME by {name} (%)": {title_of(loss): Curve(faces, values) for loss, values in tests.items()},
        "validation NME by inter-ocular (%)": {
            title_of(loss): Curve(faces, _means(of_loss, "validation_nme", scale=100.0))
            for loss, of_loss in recorded.items()
        },
        "cosine between the gradients of two batches": {
            title_of(loss): Curve(faces, values) for loss, values in cosines.items()
        },
    }
    return Product(
        title="The losses in the course of the training, CNN-6",
        about=describe(runner, seeds, chosen),
        grids=tuple(grids),
        values={
            "faces": faces.tolist(),
            "test_nme_percent": {loss: values.tolist() for loss, values in tests.items()},
            "gradient_cosine": {loss: values.tolist() for loss, values in cosines.items()},
            "wing_ahead_from": ahead,
        },
        figures={"": lines_figure(panels, label="training faces seen", log_x=True, log_y=list(panels)[:2])},
    )


def ahead_from(ours: np.ndarray, theirs: np.ndarray, faces: np.ndarray) -> int | None:
    """Return the number of faces from which on `ours` stays below `theirs`; None if it is not below at the end.

    >>> ahead_from(np.array([3.0, 1.0, 3.0, 1.0]), np.array([2.0, 2.0, 2.0, 2.0]), np.array([10, 20, 30, 40]))
    40
    """
    behind = np.flatnonzero(ours >= theirs)
    first = 0 if not len(behind) else int(behind[-1]) + 1
    return int(faces[first]) if first < len(faces) else None


def _means(recorded: Sequence[Sequence[CurvePoint]], field: str, *, scale: float = 1.0) -> np.ndarray:
    """Return the mean over the seeds of a field of the curves."""
    return scale * np.mean([[getattr(point, field) for point in curve] for curve in recorded], 0)


def learning_rates(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare the losses with CNN-6 at several learning rates."""
    rate = runner.recipe.config.stage1.optimizer.learning_rate
    variants = {
        f"{title_of(loss)}, {multiple * rate:.3g}": [
            Variant(loss=runner.recipe.loss(loss), rate=multiple, seed=seed) for seed in seeds
        ]
        for loss in losses
        for multiple in RATES.get(loss, OTHER_RATES)
    }
    return _variants_table(
        runner, variants, seeds, title="The losses at other learning rates, CNN-6", column="loss, learning rate"
    )


def wing_parameters(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare Wing's widths and epsilons around (10, 2), and its successors, with CNN-6 at the rate of Wing."""
    rate, wing = rates(runner, ["wing"])["wing"], runner.recipe.loss("wing")
    settings = {
        f"Wing, width {width:g}, epsilon {epsilon:g}": dataclasses.replace(
            wing, params={"width": width, "epsilon": epsilon}
        )
        for width, epsilon in WING_PARAMETERS
    }
    settings |= {title_of(name): runner.recipe.loss(name) for name in SUCCESSORS}
    variants = {name: [Variant(loss=loss, rate=rate, seed=seed) for seed in seeds] for name, loss in settings.items()}
    return _variants_table(
        runner, variants, seeds, title="Wing's parameters and successors, CNN-6", column="loss, pixels of 64"
    )


def _variants_table(
    runner: ExperimentRunner,
    variants: Mapping[str, Sequence[Variant]],
    seeds: Sequence[int],
    *,
    title: str,
    column: str,
) -> Product:
    """Train and measure CNN-6 by each of the `variants`; compare them with the first."""
    method, name = METHODS[0], runner.recipe.metric
    runner.train([method], [variant for row in variants.values() for variant in row])
    measured = {label: [runner.measure(method, variant) for variant in row] for label, row in variants.items()}
    nmes = {label: nmes_percent(results, name) for label, results in measured.items()}
    first = next(iter(measured))
    rows = tuple(
        (
            label,
            spread(nmes[label]),
            "" if label == first else format_difference(differences(runner, results, measured[first])),
        )
        for label, results in measured.items()
    )
    header = (column, f"NME by {name} (%)", f"minus that of {first}: mean (95 % interval)")
    return Product(
        title=title,
        about=describe(runner, seeds, {}),
        grids=(Grid(f"On {test_name(runner)}: mean ± standard deviation over the seeds", header, rows, 1),),
        values={"nme_percent": nmes},
        figures={"": seeds_figure({"CNN-6": nmes}, label=f"NME by {name} (%)")},
    )


def annotation_noise(runner: ExperimentRunner, *, seeds: Sequence[int], losses: Sequence[str]) -> Product:
    """Compare the losses with CNN-6 on training points with added noise; the test points are exact.

    Each coordinate of each training face gets independent normal noise, the same for all losses.

    Raises:
      InputError: the data are not the synthetic faces, whose points are exact.
    """
    if runner.recipe.config.data.name != "synthetic":
        raise InputError("annotation-noise needs faces with exact points: pass --data synthetic")
    method, name = METHODS[0], runner.recipe.metric
    chosen = rates(runner, losses)
    nmes: dict[str, dict[str, list[float]]] = {loss: {} for loss in losses}
    rows: dict[str, list[str]] = {loss: [] for loss in losses}
    for percent in NOISE:
        noisy = runner.with_noise(percent / 100)
        variants = {
            loss: [Variant(loss=runner.recipe.loss(loss), rate=chosen[loss], seed=seed) for seed in seeds]
            for loss in losses
        }
        noisy.train([method], [variant for row in variants.values() for variant in row])
        measured: dict[str, list[TrialResult]] = {
            loss: [noisy.measure(method, variant) for variant in row] for loss, row in variants.items()
        }
        for loss, results in measured.items():
            nmes[loss][f"{percent:g}"] = nmes_percent(results, name)
            rows[loss].append(spread(nmes[loss][f"{percent:g}"]))
    header = ("loss", *(f"noise {percent:g} %" for percent in NOISE))
    panels = {
        f"NME by {name} (%)": {
            title_of(loss): Curve(np.array(NOISE), np.array([mean(nmes[loss][f"{p:g}"]) for p in NOISE]))
            for loss in losses
        }
    }
    return Product(
        title="The losses with noise in the training points, CNN-6",
        about=describe(runner, seeds, chosen),
        grids=(
            Grid(
                f"NME by {name} (%) on {test_name(runner)}; noise: its standard deviation in percent of the box side",
                header,
                tuple((title_of(loss), *cells) for loss, cells in rows.items()),
                1,
            ),
        ),
        values={"nme_percent": nmes},
        figures={"": lines_figure(panels, label="noise in the training points (% of the box side)")},
    )
