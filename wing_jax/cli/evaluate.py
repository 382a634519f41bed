"""The command `wing-jax evaluate MODEL --data NAME`."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from wing_jax.cli.data_source import DEFAULT_FACES, DataOptions, faces_to_draw
from wing_jax.cli.model import find_model, held_out_of
from wing_jax.cli.options import parse
from wing_jax.config import LARGEST_SEED
from wing_jax.data.boxes import convert_boxes, shape_in_box
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation import Evaluation, evaluate, leading_metrics
from wing_jax.inference.bundle import BundleLocation
from wing_jax.inference.localizer import Localizer
from wing_jax.report import canvas, tables
from wing_jax.report.origin import commit
from wing_jax.runtime.console import make_console, say
from wing_jax.runtime.parameters import check_range

HELD_OUT = "held_out"  # the faces that the model's training held out
# Warn if boxes differ from those of training by more than this, in size and in position (in sides).
SIZE_TOLERANCE, SHIFT_TOLERANCE = 0.05, 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions(DataOptions):
    """Measure MODEL on the test split of a data set; print a table, write results.json and an HTML report.

    --split held_out evaluates on the faces that were held out in MODEL's training to choose its best checkpoint.
    Compare training recipes on these, and keep the test split for the final result.
    """

    # a pretrained model (mtfl, w300) or the folder of a trained model
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    # scale and shift all boxes alike, so that faces have the same mean size and position in them as in training
    fit_boxes: bool = False
    faces: int = 0  # number of faces (only --data synthetic); 0: 500, or with --split held_out as many as in training
    metrics: tuple[str, ...] = ()  # metrics to report, the main one first; default: all
    output: str = ""  # the report's folder; empty: report-DATA in MODEL (in runs/packaged/NAME for a pretrained model)
    flip_average: bool = False  # average the prediction with that of the mirrored image
    # try faces that are not valid again, with the crop turned, moved and resized
    retry_invalid: bool = True
    # measure again with boxes randomly shifted and resized by up to this fraction of their side; 0: do not
    jitter: float = 0.1
    # measure again with the faces rotated, with wrong boxes, and with degraded pictures, once for each level
    stress: bool = False
    seed: int = 0  # random seed of the jitter and the stress


def run(arguments: list[str]) -> None:
    """Evaluate, print the tables and the report's path."""
    options = parse(EvaluateOptions, arguments, command="evaluate")
    check_range(options, jitter=(0, 1), seed=(0, LARGEST_SEED))
    place = find_model(options.model)
    localizer = dataclasses.replace(
        Localizer.load(place.folder), flip_average=options.flip_average, retry_invalid=options.retry_invalid
    )
    faces, remarks = faces_of(options, localizer, place)
    faces, box_remark = with_trained_boxes(faces, localizer, fit=options.fit_boxes)
    evaluation = evaluate(
        localizer,
        faces,
        jitter=options.jitter,
        stress=options.stress,
        seed=options.seed,
        metrics=options.metrics or leading_metrics(options.data),
    )
    console = make_console(width=120)
    say(console, localizer.describe(), soft_wrap=True)
    for remark in filter(None, (*evaluation.remarks, *remarks, box_remark)):
        say(console, remark, style="yellow", soft_wrap=True)
    for grid in grids_of(evaluation):
        console.print(tables.rich_table(grid))
    x, y = evaluation.median_offset
    console.print(
        f"the predicted points are {x:+.2f} pixels right of the true ones and {y:+.2f} below (median over the faces)"
    )
    index = evaluation.report(
        options.output or place.outputs / f"report-{options.data}{'-held-out' * (options.split == HELD_OUT)}",
        title=f"{localizer.metadata.name or Path(options.model).name} on {faces.name}",
        details={
            "model": f"{options.model}: {localizer.describe()}",
            "averaged with mirror image": "yes" if options.flip_average else "no",
            "invalid faces tried again": "yes" if options.retry_invalid and localizer.calibration else "no",
            "commit": commit(),
            "command": f"wing-jax evaluate {shlex.join(arguments)}",
        },
    )
    if reason := canvas.missing_message():
        say(console, f"the report has no plots: {reason}", style="yellow", soft_wrap=True)
    say(console, f"report: {index}", soft_wrap=True)


def grids_of(evaluation: Evaluation) -> list[tables.Grid]:
    """Return the tables of all results, and of those of the first condition (boxes without jitter) by group."""
    summary = evaluation.to_dict()["results"]
    first = [entry for entry in summary if entry["condition"] == summary[0]["condition"]]
    errors = [grid for grid in (tables.results_grid(summary), *tables.other_grids(summary)) if grid.rows]
    stress = [tables.stress_grid(evaluation.stress)] if evaluation.stress else []
    return [*errors, *stress, *(tables.group_grid(first, group) for group in summary[0]["groups"])]


def faces_of(options: EvaluateOptions, localizer: Localizer, place: BundleLocation) -> tuple[FaceSet, tuple[str, ...]]:
    """Return (the faces to measure on, remarks on how they were chosen).

    Raises:
      InputError: the data are invalid, or none of their faces was held out.
    """
    if options.split != HELD_OUT:
        return options.load(count=faces_to_draw(options.data, options.faces)), ()
    held_out, source = held_out_of(localizer, place)
    count = faces_to_draw(options.data, options.faces, default=held_out.faces or DEFAULT_FACES)
    faces, remark = held_out.pick(options.load(split="train", count=count, seed=held_out.seed), data=options.data)
    return faces, tuple(filter(None, (source, remark)))


def with_trained_boxes(faces: FaceSet, localizer: Localizer, *, fit: bool) -> tuple[FaceSet, str]:
    """Return (the faces, a remark if their boxes differ from those of training). If `fit`, fit the boxes instead.

    Raises:
      InputError: `fit`, and the model does not record its boxes, or its scheme is not that of the faces.
    """
    trained = localizer.metadata.shape_in_box
    if trained is None or faces.scheme.name != localizer.scheme.name:
        if fit:
            raise InputError(
                "--fit_boxes needs a model that records the boxes of its training, and faces with the same points"
            )
        return faces, ""
    current = shape_in_box(faces)
    if fit:
        boxes = convert_boxes(faces.boxes, source=current, target=trained)
        return dataclasses.replace(faces, boxes=boxes, box_convention=f"{faces.box_convention}, fitted"), ""
    factor = trained.side / current.side
    shift = np.array(current.center) - trained.center
    if abs(factor - 1) < SIZE_TOLERANCE and np.abs(shift).max() < SHIFT_TOLERANCE:
        return faces, ""
    return faces, (
        f"relative to the faces, these boxes are {factor:.2f} times as large as in training, and the faces are shifted "
        f"by ({shift[0]:+.2f}, {shift[1]:+.2f}) box sides: --fit_boxes corrects this"
    )
