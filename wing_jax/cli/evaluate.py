"""`wing-jax evaluate MODEL --data NAME`"""

import dataclasses
import functools
import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from wing_jax.cli.data_source import DRAWN, faces_to_draw
from wing_jax.cli.model import find_model, held_out_of
from wing_jax.cli.options import parse
from wing_jax.config import LARGEST_SEED, DataName, check_range
from wing_jax.data.boxes import fitted, shape_in_box
from wing_jax.data.chips import cut_chips
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.evaluation import evaluation
from wing_jax.evaluation.measure import leading_normalisation, lean, measure
from wing_jax.inference.bundle import Place
from wing_jax.inference.localizer import Localizer
from wing_jax.report import tables
from wing_jax.report.origin import commit
from wing_jax.report.page import write_report
from wing_jax.runtime.console import make_console, say
from wing_jax.schemes import get_conversion

HELD_OUT = "held_out"  # the split that the model's training made
FACTOR, SHIFT = 0.05, 0.03  # how much larger, and how far off in sides, boxes may be before it is said


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Measure MODEL on the test split of a data set; print a table, write results.json and an HTML report.

    --split held_out: the training faces that MODEL's own training held out to choose its checkpoint by, as MODEL
    records them. There recipes are compared, so that the test split stays unseen."""

    model: Annotated[str, tyro.conf.Positional]
    data: DataName
    root: str = ""  # the data set's folder or file; empty: below WING_JAX_DATA or ../shared/data
    images: str = ""  # folder of the pictures that a list (COCO, imglab, CSV) names; empty: where the list tells
    split: str = "test"  # or another that the data set has: "train", "private", "val"; "held_out": see above
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    boxes: str = "given"  # or by another rule of `wing_jax.data.boxes`, such as "landmarks"
    fit_boxes: bool = False  # scale and move all boxes alike, to lie about the faces as in training (on the mean)
    hidden: Literal["count", "mask"] = "count"  # points annotated as hidden
    picture_size: Literal["check", "rescale"] = "check"  # pictures of another size than told: refuse, or move points
    faces: int = 0  # synthetic faces to draw (synthetic alone); 0: 500, for held_out as many as the training had
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
    try:
        conversion = get_conversion(localizer.scheme, faces.scheme)
    except ValueError as error:
        raise InputError(
            f"{options.model} marks {localizer.scheme.points} points ({localizer.scheme.name}), {faces.name} has "
            f"{faces.scheme.points} ({faces.scheme.name}): give a model trained on that scheme"
        ) from error
    faces, differ = with_trained_boxes(faces, localizer, fit=options.fit_boxes)
    chips = cut_chips(faces, size=localizer.stages[-1].chip_size, workers=os.cpu_count() or 1)
    predictions, evaluations = measure(
        localizer,
        faces,
        chips,
        conversion,
        jitter=options.jitter,
        seed=options.seed,
        leading=leading_normalisation(options.data),
    )
    console = make_console(width=120)
    say(console, localizer.describe(), soft_wrap=True)
    if conversion.source is not conversion.target:
        say(
            console,
            f"its points are converted to {faces.scheme.name}, which approximates {conversion.approximates}; "
            f"{int(conversion.told.sum())} of {faces.scheme.points} points can be told",
            style="yellow",
            soft_wrap=True,
        )
    if faces.box_convention != localizer.box_convention:
        say(
            console,
            f"the model was trained on boxes by the {localizer.box_convention!r} convention, these are "
            f"{faces.box_convention!r}: expect worse than it can do",
            style="yellow",
            soft_wrap=True,
        )
    for remark in filter(None, (*remarks, differ)):
        say(console, remark, style="yellow", soft_wrap=True)
    summary = evaluation.summarise(evaluations)
    console.print(tables.rich_table(tables.results_grid(summary)))
    counted = faces.visible & conversion.told
    x, y = lean(predictions[-1], faces.points, counted)
    console.print(f"the points lie {x:+.2f} pixels right of the true ones and {y:+.2f} below (median over the faces)")
    given = [entry for entry in summary if entry["condition"] == summary[0]["condition"]]
    for group in evaluations[0].groups:
        console.print(tables.rich_table(tables.group_grid(given, group)))
    last = max(
        i
        for i, entry in enumerate(evaluations)
        if entry.condition == evaluations[0].condition and entry.normalisation == evaluations[0].normalisation
    )
    index = write_report(
        Path(options.output or place.outputs / f"report-{options.data}{'-held-out' * (options.split == HELD_OUT)}"),
        title=f"{localizer.metadata.name or Path(options.model).name} on {faces.name}",
        facts={
            "model": f"{options.model}: {localizer.describe()}",
            "mirror averaging": "yes" if options.flip else "no",
            "commit": commit(),
            "command": f"wing-jax evaluate {shlex.join(arguments)}",
        },
        evaluations=evaluations,
        shown=evaluations[last],
        predicted=predictions[-1],
        points=faces.points,
        boxes=faces.boxes,
        image_of=faces.picture,
        visible=counted,
        lines=faces.scheme.lines,
    )
    say(console, f"report: {index}", soft_wrap=True)


def faces_of(options: EvaluateOptions, localizer: Localizer, place: Place) -> tuple[FaceSet, tuple[str, ...]]:
    """(the faces to measure on, what to say of how they were chosen).

    Raises:
      InputError: the data are not as they must be, or none of their faces was held out.
    """
    read = functools.partial(
        load_faces,
        options.data,
        root=options.root,
        images=options.images,
        scheme=options.scheme,
        boxes=options.boxes,
        hidden=options.hidden,
        picture_size=options.picture_size,
    )
    if options.split != HELD_OUT:
        return read(options.split, count=faces_to_draw(options.data, options.faces)), ()
    held_out, how = held_out_of(localizer, place)
    count = faces_to_draw(options.data, options.faces, usual=held_out.faces or DRAWN)
    faces, remark = held_out.pick(read("train", count=count, seed=held_out.seed), data=options.data)
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
    shift = np.array(given.centre) - trained.centre
    if abs(factor - 1) < FACTOR and np.abs(shift).max() < SHIFT:
        return faces, ""
    return faces, (
        f"these boxes are {factor:.2f} times as large about the faces as in training, and the faces lie "
        f"({shift[0]:+.2f}, {shift[1]:+.2f}) sides from where they lay in those: --fit_boxes brings them there"
    )
