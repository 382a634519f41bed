"""`wing-jax evaluate MODEL --data NAME`"""

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Float
from rich.console import Console

from wing_jax import balance, evaluation
from wing_jax.cli.options import parse
from wing_jax.config import DataName
from wing_jax.data.boxes import ShapeInBox, fitted, shape_in_box
from wing_jax.data.chips import MARGIN, Chips, cut_chips
from wing_jax.data.load import load_faces
from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.localizer import Localizer
from wing_jax.report import tables
from wing_jax.report.page import write_report
from wing_jax.schemes import Conversion, get_conversion

NORMALISATIONS = ("inter-ocular", "inter-pupil", "box diagonal", "box size", "landmark box size")
FACTOR, SHIFT = 0.05, 0.03  # how much larger, and how far off in sides, boxes may be before it is said
YAWS = (-90, -60, -30, 30, 60, 90)  # degrees
LEADING = {
    "builtin": "box size",
    "aflw": "box size",
}  # in full profiles the eyes nearly meet: not a length to divide by


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Measure MODEL on the test split of a data set; print a table, write results.json and an HTML report."""

    model: Annotated[str, tyro.conf.Positional]
    data: DataName
    root: str = ""  # the data set's folder or file; empty: below WING_JAX_DATA or ../shared/data
    split: str = "test"  # or another that the data set has: "train", "private", "val"
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    boxes: str = "given"  # or by another rule of `wing_jax.data.boxes`, such as "landmarks"
    fit_boxes: bool = False  # scale and move all boxes alike, to lie about the faces as in training (on the mean)
    hidden: Literal["count", "mask"] = "count"  # points annotated as hidden
    faces: int = 500  # built-in faces to draw (builtin alone)
    output: str = ""  # the report's folder; empty: MODEL/report-DATA
    flip: bool = False  # average with the mirror image
    jitter: float = 0.1  # second condition: boxes moved and resized by up to this fraction of their side
    seed: int = 0  # of the jitter


def run(arguments: list[str]) -> None:
    """Evaluate, print the table and the report's place."""
    options = parse(EvaluateOptions, arguments, command="evaluate")
    localizer = dataclasses.replace(Localizer.load(options.model), flip_average=options.flip)
    faces = load_faces(
        options.data,
        options.split,
        root=options.root,
        scheme=options.scheme,
        boxes=options.boxes,
        hidden=options.hidden,
        count=options.faces,
    )
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
        leading=LEADING.get(options.data, NORMALISATIONS[0]),
    )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(localizer.describe(), soft_wrap=True)
    if conversion.source is not conversion.target:
        console.print(
            f"[yellow]its points are converted to {faces.scheme.name}, which approximates {conversion.approximates}; "
            f"{int(conversion.told.sum())} of {faces.scheme.points} points can be told[/yellow]",
            soft_wrap=True,
        )
    if faces.box_convention != localizer.box_convention:
        console.print(
            f"[yellow]the model was trained on boxes by the {localizer.box_convention!r} convention, these are "
            f"{faces.box_convention!r}: expect worse than it can do[/yellow]",
            soft_wrap=True,
        )
    if differ:
        console.print(f"[yellow]{differ}[/yellow]", soft_wrap=True)
    summary = evaluation.summarise(evaluations)
    console.print(tables.rich_table(tables.results_grid(summary)))
    given = [entry for entry in summary if entry["condition"] == summary[0]["condition"]]
    for group in evaluations[0].groups:
        console.print(tables.rich_table(tables.group_grid(given, group)))
    last = max(
        i
        for i, entry in enumerate(evaluations)
        if entry.condition == evaluations[0].condition and entry.normalisation == evaluations[0].normalisation
    )
    index = write_report(
        Path(options.output or Path(options.model) / f"report-{options.data}"),
        title=f"{localizer.about.get('name', Path(options.model).name)} on {faces.name}",
        facts={
            "model": f"{options.model}: {localizer.describe()}",
            "mirror averaging": "yes" if options.flip else "no",
            "commit": _commit(),
            "command": f"wing-jax evaluate {shlex.join(arguments)}",
        },
        evaluations=evaluations,
        shown=evaluations[last],
        predicted=predictions[-1],
        points=faces.points,
        boxes=faces.boxes,
        image_of=faces.picture,
        visible=faces.visible & conversion.told,
        lines=faces.scheme.lines,
    )
    console.print(f"report: {index}", soft_wrap=True)


def measure(
    localizer: Localizer,
    faces: FaceSet,
    chips: Chips,
    conversion: Conversion,
    *,
    jitter: float,
    seed: int,
    leading: str = NORMALISATIONS[0],
) -> tuple[list[Float[np.ndarray, "n points 2"]], tuple[evaluation.Evaluation, ...]]:
    """(each stage's points in picture pixels with the given boxes, the evaluations with given and jittered boxes);
    `conversion` leads from the model's points to the faces'."""
    scheme = faces.scheme
    groups: dict[str, Any] = {"subset": faces.subsets, "pose": faces.poses or pose_labels(faces)}
    if faces.attributes:
        groups["attribute"] = faces.attributes
    conditions = {f"{faces.box_convention} boxes": chips.boxes}
    if jitter > 0:
        conditions[f"boxes jittered by {jitter:.0%}"] = jittered(chips.boxes, fraction=jitter, seed=seed)
    given: list[np.ndarray] = []
    evaluations: list[evaluation.Evaluation] = []
    for condition, boxes in conditions.items():
        located = localizer.locate(chips.images, boxes)
        points = [conversion.points(p * chips.frames[:, :1, None, 0] + chips.frames[:, None, :, 2]) for p in located]
        given = given or points
        evaluations += evaluation.evaluate(
            {f"stage {i + 1}": stage for i, stage in enumerate(points)},
            faces.points,
            faces.visible & conversion.told,
            faces.boxes,
            eyes=(scheme.left_eye, scheme.right_eye, scheme.left_outer, scheme.right_outer),
            groups=groups,
            dataset=faces.name,
            condition=condition,
            normalisations=(leading, *(name for name in NORMALISATIONS if name != leading)),
        )
    return given, tuple(evaluations)


def with_trained_boxes(faces: FaceSet, localizer: Localizer, *, fit: bool) -> tuple[FaceSet, str]:
    """(the faces, with their boxes brought to those of training if `fit`, what to say of the difference).

    Raises:
      InputError: `fit` is asked for and the model does not tell its boxes, or its points are others.
    """
    told = localizer.about.get("shape_in_box")
    if not told or faces.scheme.name != localizer.scheme.name:
        if fit:
            raise InputError("--fit_boxes needs a model that tells how its boxes lay, and faces with the same points")
        return faces, ""
    trained, given = ShapeInBox(centre=tuple(told["centre"]), side=told["side"]), shape_in_box(faces)
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


def pose_labels(faces: FaceSet) -> tuple[str, ...]:
    """For faces without annotated pose classes: bins of the annotated yaw, or else of the pose axis found on their own
    true points, where "far" is beyond 1.5 standard deviations and "frontal" within 0.5."""
    if faces.angles is not None:
        return tuple(evaluation.bin_labels(faces.angles[:, 0], YAWS))
    try:
        model = balance.pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
    except ValueError:  # too few faces, or too few points
        return ("no axis found",) * len(faces)
    names = ("1 far left", "2 left", "3 frontal", "4 right", "5 far right")
    place = np.searchsorted((-1.5, -0.5, 0.5, 1.5), model.coefficients / model.deviation)
    return tuple(names[i] for i in place)


def jittered(boxes: Float[np.ndarray, "n 4"], *, fraction: float, seed: int) -> Float[np.ndarray, "n 4"]:
    """Boxes whose centre moves by up to `fraction` of their larger side along x and y, and whose size changes by up
    to that fraction; uniform, from `seed`."""
    if fraction > (MARGIN - 1) / 2:
        raise InputError(f"jitter={fraction} would leave the cut-out around the face: use at most {(MARGIN - 1) / 2}")
    random = np.random.default_rng(seed)
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + random.uniform(-fraction, fraction, (len(boxes), 2)) * side
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * (1 + random.uniform(-fraction, fraction, (len(boxes), 1)))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def _commit() -> str:
    """The commit of the working tree that is the current folder, if there is one."""
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
