"""`wing-jax data ACTION PATH`: look into a data set before you train on it."""

import contextlib
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from wing_jax.cli.data_check import check
from wing_jax.cli.data_source import PathOptions
from wing_jax.cli.data_stats import stats
from wing_jax.cli.model import find_model, refuse_hiding
from wing_jax.cli.named_config import read_config
from wing_jax.cli.options import parse
from wing_jax.cli.usage import stop_with_usage
from wing_jax.config import LARGEST_SEED, check_range
from wing_jax.data.boxes import shape_in_box, shape_in_boxes, shape_spread
from wing_jax.data.images import picture_name, write_image
from wing_jax.data.packed import pack
from wing_jax.data.picture_sizes import other_sizes
from wing_jax.data.registry import listed
from wing_jax.errors import InputError
from wing_jax.inference.bundle import find_bundle
from wing_jax.inference.detectors import detected, get_detector
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.pseudo_labels import label_faces
from wing_jax.report.draw import write_png
from wing_jax.report.faces import annotation_sheet
from wing_jax.report.schemes import scheme_picture
from wing_jax.report.tables import Grid, rich_table
from wing_jax.runtime.console import make_console
from wing_jax.schemes import CONVERSIONS, MTFL_5, SCHEMES, get_conversion
from wing_jax.text import printable

LARGEST_CROP = 8_192  # pixels
FROM_1 = 0.5  # pixels that points lean to the right
ACTIONS = {
    "check": "read everything; say what is missing, broken, outside, cut or there twice (status 1 if any is broken)",
    "show": "draw faces with their points, numbers and boxes on one sheet",
    "stats": "count the attributes, print and plot the poses before and after HSM",
    "detect": "how many faces a detector finds, and where in its boxes they lie",
    "label": "let a model mark all its points on faces annotated with a few, and pack those where both agree",
    "pack": "cut the faces once and write them compactly, so that training starts in seconds",
    "formats": "list the formats that can be read",
    "schemes": "list the landmark schemes and their conversions, and draw them",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowOptions(PathOptions):
    """Draw faces of PATH, chosen at random, with their points and boxes on a contact sheet."""

    split: str = ""  # empty: the first there is
    faces: int = 12
    columns: int = 4
    seed: int = 0
    numbers: bool = True  # beside the points
    output: str = "runs/faces.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectOptions(PathOptions):
    """Run a face detector on the images of PATH: how many faces it finds, where in its boxes they lie, and how much
    that varies. Measure it on training faces; with MODEL, that model learns where to look in this detector's boxes."""

    split: str = ""  # empty: the first there is
    faces: int = 0  # at most so many, chosen at random; 0: all
    detector: str = "auto"
    model: str = ""  # a model to be told; for points of your own, of which nothing is known beforehand
    output: str = ""  # folder for MODEL with what it was told; empty: MODEL's own, where it is none of the package
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchemesOptions:
    """List the published schemes and what each can be converted to; draw each with its numbers."""

    output: str = "runs/schemes"  # folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackOptions(PathOptions):
    """Write the faces of all splits of PATH to the folder OUTPUT as encoded crops of two box sides."""

    output: Annotated[str, tyro.conf.Positional]
    config: str = ""  # a training config: the crops get the size that it cuts faces at, which is best
    size: int = 256  # pixels of a crop, where no config is given
    quality: int = 60  # JPEG's, 1 to 100 (of the same bytes, size is worth more); 0: raw, exact, 25 times larger
    workers: int = 2  # threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions(PathOptions):
    """Let MODEL mark all its points on the faces of PATH, of which other points are annotated. Its box is put where
    those say; the faces whose annotated points it finds again are written to the folder OUTPUT, packed, to train on."""

    model: Annotated[str, tyro.conf.Positional]
    output: Annotated[str, tyro.conf.Positional]
    split: str = "train"
    most: float = 4.0  # mean distance, in % of the box's side, between annotated points and those found, at most
    size: int = 0  # pixels of a crop; 0: what the model cuts faces at
    quality: int = 80  # JPEG's, 1 to 100; 0: raw
    workers: int = 2  # threads


def run(arguments: list[str]) -> None:
    """Do one of `ACTIONS`."""
    action, *rest = arguments or [""]
    if action not in ACTIONS:
        rows = "\n".join(f"  {name:8} {about}" for name, about in ACTIONS.items())
        stop_with_usage(arguments, f"usage: wing-jax data ACTION PATH ...\n\n{rows}", kind="action", known=ACTIONS)
    works = {"check": check, "show": _show, "stats": stats, "detect": _detect, "label": _label, "pack": _pack,
             "formats": _formats, "schemes": _schemes}  # fmt: skip
    works[action](rest)


def _show(arguments: list[str]) -> None:
    options = parse(ShowOptions, arguments, command="data show")
    check_range(options, faces=(1, 10_000), columns=(1, 1_000), seed=(0, LARGEST_SEED))
    faces = options.one_split()
    order = np.random.default_rng(options.seed).permutation(len(faces))[: options.faces]
    shown = faces.take(np.sort(order))
    if other := other_sizes(shown):
        print(f"{len(other)} of these pictures are not of the size that their annotation file says, first "
              f"{picture_name(other[0])}: see wing-jax data check", file=sys.stderr)  # fmt: skip
    try:
        sheet = annotation_sheet(shown, columns=options.columns, numbers=options.numbers)
    except ValueError as error:
        raise InputError(str(error)) from error
    path = Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    print(printable(f"{len(order)} of {len(faces)} faces: {write_png(path, sheet)}"))


def _detect(arguments: list[str]) -> None:
    options = parse(DetectOptions, arguments, command="data detect")
    check_range(options, faces=(0, 10**9), seed=(0, LARGEST_SEED))
    folder = _to_be_told(options)
    faces, detector = options.one_split(), get_detector(options.detector)
    localizer = Localizer.load(find_bundle(options.model).folder) if options.model else None
    if localizer and localizer.scheme.name != faces.scheme.name:
        raise InputError(f"{options.model} marks {localizer.scheme.name}, {faces.name} has {faces.scheme.name}")
    if 0 < options.faces < len(faces):
        faces = faces.take(np.sort(np.random.default_rng(options.seed).permutation(len(faces))[: options.faces]))
    made = detected(detector, faces)
    name = printable(faces.name)
    print(f"{detector.name} on {name}: {made.found.sum()} of {len(faces)} faces found, {made.others} other boxes")
    if not made.found.any():
        raise InputError(f"{detector.name} finds none of these faces")
    boxes, points, visible = made.boxes[made.found], faces.points[made.found], faces.visible[made.found]
    placed = {f"all {faces.scheme.points} points": shape_in_boxes(points, visible, boxes)}
    with contextlib.suppress(ValueError):  # a scheme of which the five points are not known
        five = get_conversion(faces.scheme, MTFL_5)
        placed["eyes, nose, mouth corners"] = shape_in_boxes(five.points(points), five.visible(visible), boxes)
    for name, place in placed.items():
        print(f"mean shape of {name}: center ({place.center[0]:+.4f}, {place.center[1]:+.4f}) sides from the box's, "
              f"side {place.side:.4f}")  # fmt: skip
    spread = shape_spread(points, visible, boxes)
    print(f"standard deviations of a face: center {spread[0]:.3f}, {spread[1]:.3f} sides, size {spread[2]:.1%}")
    if localizer:
        known = localizer.metadata
        detectors = {**known.detectors, detector.name: next(iter(placed.values()))}
        calibrated = dataclasses.replace(localizer, metadata=dataclasses.replace(known, detectors=detectors))
        print(printable(f"Saved the detector calibration to {calibrated.save(folder)}"))


def _to_be_told(options: DetectOptions) -> Path:
    """The folder that the model is written to with what it was told.

    Raises:
      InputError: there is no model, or it is one of the package and no other folder is given.
    """
    if not options.model:
        if options.output:
            raise InputError(f"--output {options.output} is a folder for the model that is told: give --model, too")
        return Path()
    place = find_model(options.model)
    if place.packaged and not options.output:
        raise InputError(
            f"{place.packaged!r} is a model of the package, which is never written to: give --output FOLDER for a copy "
            "with what it is told, and use that folder as MODEL"
        )
    refuse_hiding(options.output)
    return Path(options.output or place.folder)


def _label(arguments: list[str]) -> None:
    options = parse(LabelOptions, arguments, command="data label")
    check_range(options, quality=(0, 100), size=(16 if options.size else 0, LARGEST_CROP), workers=(1, 256))
    localizer = dataclasses.replace(Localizer.load(find_model(options.model).folder), flip_average=True)
    faces = options.one_split()
    labeled = label_faces(localizer, faces, workers=options.workers)
    kept = labeled.distances <= options.most / 100
    if not kept.any():
        raise InputError(
            f"{options.model} finds the annotated points of no face of {faces.name} within {options.most} % of its "
            f"box: the median is {100 * np.median(labeled.distances):.1f} %"
        )
    groups = {"all": np.ones(len(faces), bool)}
    if faces.poses is not None:
        groups = {pose: np.array(faces.poses) == pose for pose in sorted(set(faces.poses))} | groups
    rows = tuple(
        (name, str(chosen.sum()), f"{100 * np.median(labeled.distances[chosen]):.2f}", str((kept & chosen).sum()))
        for name, chosen in groups.items()
    )
    grid = Grid(title="", header=("pose", "faces", "median distance, % of the box", "kept"), rows=rows, words=1)
    make_console(width=120).print(rich_table(grid))
    mean_offset = float(np.median(labeled.offsets))
    print(f"the annotated points lie {mean_offset:+.2f} pixels to the right of the model's (median)", end="")
    print(": do they count from 1?" if mean_offset > FROM_1 else "")
    size = options.size or localizer.stages[-1].face_crop_size
    chosen = labeled.faces.take(np.flatnonzero(kept))
    how = {"size": size, "quality": options.quality, "workers": options.workers}
    pack({"train": chosen}, options.output, source=f"{options.found().root}, by {options.model}", **how)
    output = printable(options.output)
    print(f"{output}: {len(chosen)} faces of {size} x {size} pixels, {localizer.scheme.points} points each")
    print(f'train on them besides others: more=(DataConfig(name="packed", root="{output}"),)')


def _pack(arguments: list[str]) -> None:
    options = parse(PackOptions, arguments, command="data pack")
    check_range(options, quality=(0, 100), size=(16, LARGEST_CROP), workers=(1, 256))
    splits = {}
    for split, faces, faults in options.splits():
        if faults:
            raise InputError(
                f"{len(faults)} faults in {split}, first {faults[0]}: see wing-jax data check {options.found().root}"
            )
        splits[split] = faces
    size = options.size
    if options.config:
        from wing_jax.from_config.train import packed_size  # which trains: not for the other actions to import

        size = packed_size(read_config(options.config), shape_in_box(next(iter(splits.values()))))
    manifest = pack(
        splits, options.output, size=size, quality=options.quality, source=options.found().root, workers=options.workers
    )
    total = sum(path.stat().st_size for path in Path(options.output).iterdir())
    said = ", ".join(f"{split} {count}" for split, count in manifest["counts"].items())
    output = printable(options.output)
    print(f"{output}: {said} faces of {size} x {size} pixels, {total / 1e6:.1f} MB")
    print(f"train with --data packed --root {shlex.quote(output)}")


def _schemes(arguments: list[str]) -> None:
    options = parse(SchemesOptions, arguments, command="data schemes")
    folder = Path(options.output)
    for scheme in SCHEMES.values():
        write_image(folder / f"{scheme.name}.jpg", scheme_picture(scheme, size=720))
        print(f"{scheme.name}: {scheme.about}")
    for conversion in CONVERSIONS.values():
        told = f"{int(conversion.told.sum())} of {conversion.target.points} points"
        print(f"{conversion.source.name} -> {conversion.target.name}, {told}; approximates {conversion.approximates}")
    print(printable(f"pictures: {folder}"))


def _formats(arguments: list[str]) -> None:
    faults: list[str] = []
    rows = [
        (
            name,
            kind.title,
            ", ".join(kind.splits) or "a file each",
            kind.folder or "",
            ", ".join((*kind.endings, *kind.marks)[:1]),
        )
        for name, kind in listed(faults)
    ]
    grid = Grid(title="", header=("name", "what", "splits", "usual folder", "detected by"), rows=tuple(rows), words=5)
    make_console(width=140).print(rich_table(grid))
    for fault in faults:
        print(fault, file=sys.stderr)
