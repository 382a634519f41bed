"""`wing-jax evaluate MODEL --data NAME`"""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from wing_jax.cli.data_source import DRAWN, DataOptions, faces_to_draw
from wing_jax.cli.model import find_model, held_out_of
from wing_jax.cli.options import parse
from wing_jax.config import LARGEST_SEED, check_range
from wing_jax.data.boxes import fitted, shape_in_box
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation import Evaluation, evaluate, leading_metrics
from wing_jax.inference.bundle import Place
from wing_jax.inference.localizer import Localizer
from wing_jax.report import canvas, tables
from wing_jax.report.origin import commit
from wing_jax.runtime.console import make_console, say

HELD_OUT = "held_out"  # the split that the model's training made
FACTOR, SHIFT = 0.05, 0.03  # how much larger, and how far off in sides, boxes may be before it is said


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions(DataOptions):
    """Measure MODEL on the test split of a data set; print a table, write results.json and an HTML report.

    --split held_out: the training faces that MODEL's own training held out to choose its checkpoint by, as MODEL
    records them. There recipes are compared, so that the test split stays unseen."""

    model: Annotated[str, tyro.conf.Positional]
    fit_boxes: bool = False  # scale and move all boxes alike, to lie about the faces as in training (on the mean)
    faces: int = 0  # synthetic faces to draw (synthetic alone); 0: 500, for held_out as many as the training had
    metrics: tuple[str, ...] = ()  # which to measure, the first leads; none: all, those of installed packages too
    output: str = ""  # the report's folder; empty: report-DATA in MODEL's own (runs/packaged/NAME for the package's)
    flip: bool = False  # average with the mirror image
    jitter: float = 0.1  # second condition: boxes moved and resized by up to this fraction of their side
    seed: int = 0  # of the jitter


def run(arguments: list[str]) -> None:
    """Evaluate, print the table and the report's place."""
    options = parse(EvaluateOptions, arguments, command="evaluate")
    check_range(options, jitter=(0, 1), seed=(0, LARGEST_SEED))
    place = find_model(options.model)
    localizer = dataclasses.replace(Localizer.load(place.folder), flip_average=options.flip)
    faces, remarks = faces_of(options, localizer, place)
    faces, differ = with_trained_boxes(faces, localizer, fit=options.fit_boxes)
    evaluation = evaluate(
        localizer,
        faces,
        jitter=options.jitter,
        seed=options.seed,
        metrics=options.metrics or leading_metrics(options.data),
    )
    console = make_console(width=120)
    say(console, localizer.describe(), soft_wrap=True)
    for remark in filter(None, (*evaluation.remarks, *remarks, differ)):
        say(console, remark, style="yellow", soft_wrap=True)
    for grid in grids_of(evaluation):
        console.print(tables.rich_table(grid))
    x, y = evaluation.mean_offset
    console.print(f"the points lie {x:+.2f} pixels right of the true ones and {y:+.2f} below (median over the faces)")
    index = evaluation.report(
        options.output or place.outputs / f"report-{options.data}{'-held-out' * (options.split == HELD_OUT)}",
        title=f"{localizer.metadata.name or Path(options.model).name} on {faces.name}",
        facts={
            "model": f"{options.model}: {localizer.describe()}",
            "mirror averaging": "yes" if options.flip else "no",
            "commit": commit(),
            "command": f"wing-jax evaluate {shlex.join(arguments)}",
        },
    )
    if absence := canvas.absence():
        say(console, f"the report has no plots: {absence}", style="yellow", soft_wrap=True)
    say(console, f"report: {index}", soft_wrap=True)


def grids_of(evaluation: Evaluation) -> list[tables.Grid]:
    """All numbers of the evaluation, and by group those with the boxes as they are given."""
    summary = evaluation.to_dict()["results"]
    given = [entry for entry in summary if entry["condition"] == summary[0]["condition"]]
    errors = [grid for grid in (tables.results_grid(summary), *tables.other_grids(summary)) if grid.rows]
    return [*errors, *(tables.group_grid(given, group) for group in summary[0]["groups"])]


def faces_of(options: EvaluateOptions, localizer: Localizer, place: Place) -> tuple[FaceSet, tuple[str, ...]]:
    """(the faces to measure on, what to say of how they were chosen).

    Raises:
      InputError: the data are not as they must be, or none of their faces was held out.
    """
    if options.split != HELD_OUT:
        return options.load(count=faces_to_draw(options.data, options.faces)), ()
    held_out, how = held_out_of(localizer, place)
    count = faces_to_draw(options.data, options.faces, usual=held_out.faces or DRAWN)
    faces, remark = held_out.pick(options.load(split="train", count=count, seed=held_out.seed), data=options.data)
    return faces, tuple(filter(None, (how, remark)))


def with_trained_boxes(faces: FaceSet, localizer: Localizer, *, fit: bool) -> tuple[FaceSet, str]:
    """(the faces, with their boxes brought to those of training if `fit`, what to say of the difference).

    Raises:
      InputError: `fit` is asked for and the model does not tell its boxes, or its points are others.
    """
    trained = localizer.metadata.shape_in_box
    if trained is None or faces.scheme.name != localizer.scheme.name:
        if fit:
            raise InputError("--fit_boxes needs a model that tells how its boxes lay, and faces with the same points")
        return faces, ""
    given = shape_in_box(faces)
    if fit:
        boxes = fitted(faces.boxes, given=given, wanted=trained)
        return dataclasses.replace(faces, boxes=boxes, box_convention=f"{faces.box_convention}, fitted"), ""
    factor = trained.side / given.side
    shift = np.array(given.center) - trained.center
    if abs(factor - 1) < FACTOR and np.abs(shift).max() < SHIFT:
        return faces, ""
    return faces, (
        f"these boxes are {factor:.2f} times as large about the faces as in training, and the faces lie "
        f"({shift[0]:+.2f}, {shift[1]:+.2f}) sides from where they lay in those: --fit_boxes brings them there"
    )
