"""The command `wing-jax data ACTION PATH`: inspect a data set, and prepare it for training."""

import contextlib
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from wing_jax.choices import Landmarks
from wing_jax.cli.data_check import check
from wing_jax.cli.data_source import PathOptions
from wing_jax.cli.data_stats import stats
from wing_jax.cli.model import find_model, folder_of_copy
from wing_jax.cli.named_config import read_config
from wing_jax.cli.options import parse
from wing_jax.cli.usage import stop_with_usage
from wing_jax.config import LARGEST_SEED
from wing_jax.data.boxes import shape_in_boxes, shape_spread
from wing_jax.data.images import picture_name, write_image
from wing_jax.data.packed import check_new, pack, read_manifest
from wing_jax.data.picture_sizes import find_size_mismatches
from wing_jax.data.readers.synthetic import seed_of_split, synthetic_faces
from wing_jax.data.registry import list_readers
from wing_jax.errors import InputError
from wing_jax.inference.bundle import find_bundle
from wing_jax.inference.detectors import detect_faces, get_detector
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.pseudo_labels import label_faces
from wing_jax.report.draw import write_png
from wing_jax.report.faces import annotation_sheet
from wing_jax.report.schemes import scheme_picture
from wing_jax.report.tables import Grid, rich_table
from wing_jax.runtime.console import make_console
from wing_jax.runtime.parameters import check_above, check_range
from wing_jax.schemes import CONVERSIONS, MTFL_5, SCHEMES, get_conversion
from wing_jax.text import printable

LARGEST_CROP = 8_192  # pixels
ONE_BASED_OFFSET = 0.5  # pixels: points further right than this may count from 1
ACTIONS = {
    "check": "read all faces; list missing and broken files, points outside the picture or box, and duplicates",
    "show": "draw faces with their points, point numbers and boxes on one sheet",
    "stats": "count the attributes; print and plot the poses before and after balancing (HSM)",
    "detect": "run a face detector; print how many faces it finds and how they are placed in its boxes",
    "label": "predict more points on faces annotated with a few, and pack the faces where prediction and "
    "annotation agree",
    "pack": "crop the faces once and store them compactly, so that training starts in seconds",
    "render": "render synthetic faces and store them like pack, to train on",
    "formats": "list the formats of data sets",
    "schemes": "list and draw the landmark schemes, and list their conversions",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowOptions(PathOptions):
    """Draw random faces of PATH with their points and boxes on a contact sheet."""

    split: str = ""  # empty: the first split of the data set
    faces: int = 12  # number of faces
    columns: int = 4  # faces in a row
    seed: int = 0  # random seed for choosing the faces
    numbers: bool = True  # draw the number of each point
    output: str = "runs/faces.png"  # file to write the sheet to


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectOptions(PathOptions):
    """Run a face detector on the pictures of PATH.

    Print how many faces it finds, their mean position in its boxes, and how much that varies. With --model, calibrate
    the model to the detector's boxes; use training faces for this.
    """

    split: str = ""  # empty: the first split of the data set
    faces: int = 0  # use this many faces, chosen at random; 0: all
    detector: str = "auto"  # libfacedetection, mtcnn or another registered detector; auto: the first installed
    model: str = ""  # the model to calibrate to the detector; needed for a landmark scheme of your own
    output: str = ""  # folder for the calibrated model; empty: update it in place (not possible for a pretrained model)
    seed: int = 0  # random seed for choosing the faces


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchemesOptions:
    """List the published landmark schemes and their conversions; draw each scheme with the numbers of its points."""

    output: str = "runs/schemes"  # folder for the drawings


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackOptions(PathOptions):
    """Crop the faces of all splits of PATH to twice the box side, and store them compactly in the folder OUTPUT."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]  # a new folder
    config: str = ""  # recommended: a training config, whose crop size is used instead of --size
    size: int = 256  # side of the crops in pixels, without --config
    quality: int = 60  # JPEG quality, 1 to 100; it matters less than the size; 0: lossless, about 25 times larger
    workers: int = 2  # number of threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """Render synthetic faces with the 68 points of 300-W, and store them in the folder OUTPUT like `data pack`."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]  # a new folder
    faces: int = 20_000  # number of faces of the split "train"
    test_faces: int = 500  # number of faces of the split "test"
    landmarks: Landmarks = "2d"  # points of the jaw: 2d: along the visible outline, as in 300-W; 3d: fixed points
    size: int = 256  # side of the pictures in pixels; the face is about half as wide
    quality: int = 80  # JPEG quality, 1 to 100; 0: lossless
    seed: int = 0  # random seed of the faces
    workers: int = 2  # number of threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions(PathOptions):
    """Predict the points of MODEL, or the mean of several models', on faces that are annotated with other points.

    The boxes are computed from the annotated points. Faces where prediction and annotation agree are packed in the
    folder OUTPUT, to train on.
    """

    # a pretrained model (mtfl, w300) or the folder of a trained model
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]  # a new folder
    others: tuple[str, ...] = ()  # more models of the same scheme: the points are the mean of all models' points
    # average each prediction with that of the mirrored image; not for models that were trained without flips
    flip_average: bool = True
    split: str = "train"  # the split of the data set
    max_distance: float = 4.0  # maximum mean distance of predicted and annotated points, in % of the box side
    size: int = 0  # side of the crops in pixels; 0: the crop size of the model
    quality: int = 80  # JPEG quality, 1 to 100; 0: lossless
    workers: int = 2  # number of threads


def run(arguments: list[str]) -> None:
    """Run one of `ACTIONS`."""
    action, *rest = arguments or [""]
    if action not in ACTIONS:
        rows = "\n".join(f"  {name:8} {about}" for name, about in ACTIONS.items())
        hint = "`wing-jax data ACTION --help` lists the options of an action."
        usage = f"usage: wing-jax data ACTION [PATH] ...\n\n{rows}\n\n{hint}"
        stop_with_usage(arguments, usage, kind="action", known=ACTIONS)
    functions = {"check": check, "show": _show, "stats": stats, "detect": _detect, "label": _label, "pack": _pack,
                 "render": _render, "formats": _formats, "schemes": _schemes}  # fmt: skip
    functions[action](rest)


def _show(arguments: list[str]) -> None:
    options = parse(ShowOptions, arguments, command="data show")
    check_range(options, faces=(1, 10_000), columns=(1, 1_000), seed=(0, LARGEST_SEED))
    faces = options.one_split()
    order = np.random.default_rng(options.seed).permutation(len(faces))[: options.faces]
    shown = faces.take(np.sort(order))
    if mismatches := find_size_mismatches(shown):
        print(f"{len(mismatches)} of these pictures are not of the size in the annotation file, first "
              f"{picture_name(mismatches[0])}: see wing-jax data check", file=sys.stderr)  # fmt: skip
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
    folder = _calibration_folder(options)
    faces, detector = options.one_split(), get_detector(options.detector)
    localizer = Localizer.load(find_bundle(options.model).folder) if options.model else None
    if localizer and localizer.scheme.name != faces.scheme.name:
        raise InputError(
            f"{options.model} predicts {localizer.scheme.name}, {faces.name} has {faces.scheme.name}: pass a "
            f"model with the scheme of the faces, or --scheme"
        )
    if 0 < options.faces < len(faces):
        faces = faces.take(np.sort(np.random.default_rng(options.seed).permutation(len(faces))[: options.faces]))
    detections = detect_faces(detector, faces)
    name = printable(faces.name)
    count = detections.detected.sum()
    print(f"{detector.name} on {name}: {count} of {len(faces)} faces found, {detections.others} other boxes")
    if not detections.detected.any():
        raise InputError(f"{detector.name} finds none of the faces: pass another --detector, or see wing-jax data show")
    boxes, points, visible = (
        detections.boxes[detections.detected],
        faces.points[detections.detected],
        faces.visible[detections.detected],
    )
    positions = {f"all {faces.scheme.points} points": shape_in_boxes(points, visible, boxes)}
    with contextlib.suppress(ValueError):  # the scheme has no conversion to the five points
        five = get_conversion(faces.scheme, MTFL_5)
        positions["eyes, nose, mouth corners"] = shape_in_boxes(five.points(points), five.visible(visible), boxes)
    for name, shape in positions.items():
        print(f"mean shape of {name}: center ({shape.center[0]:+.4f}, {shape.center[1]:+.4f}) box sides off, "
              f"side {shape.side:.4f}")  # fmt: skip
    spread = shape_spread(points, visible, boxes)
    print(f"standard deviations over the faces: center {spread[0]:.3f}, {spread[1]:.3f} sides, size {spread[2]:.1%}")
    if localizer:
        metadata = localizer.metadata
        detectors = {**metadata.detectors, detector.name: next(iter(positions.values()))}
        calibrated = dataclasses.replace(localizer, metadata=dataclasses.replace(metadata, detectors=detectors))
        print(printable(f"Saved the detector calibration to {calibrated.save(folder)}"))


def _calibration_folder(options: DetectOptions) -> Path:
    """Return the folder to write the calibrated model to.

    Raises:
      InputError: there is no such model, or it is a packaged one and no other folder is given.
    """
    if not options.model:
        if options.output:
            raise InputError(f"--output {options.output}: the folder is for the calibrated model: pass --model too")
        return Path()
    return folder_of_copy(find_model(options.model), options.output)


def _label(arguments: list[str]) -> None:
    options = parse(LabelOptions, arguments, command="data label")
    check_range(options, quality=(0, 100), size=(16 if options.size else 0, LARGEST_CROP), workers=(1, 256))
    names = options.model, *options.others
    localizer, *others = (
        dataclasses.replace(Localizer.load(find_model(name).folder), flip_average=options.flip_average)
        for name in names
    )
    faces = options.one_split()
    labeled = label_faces(localizer, faces, others=others, workers=options.workers)
    accepted = labeled.distances <= options.max_distance / 100
    if not accepted.any():
        raise InputError(
            f"{options.model}: no prediction on {faces.name} is within {options.max_distance} % of the box side of "
            f"the annotation; the median is {100 * np.median(labeled.distances):.1f} %: raise --max_distance"
        )
    groups = {"all": np.ones(len(faces), bool)}
    if faces.poses is not None:
        groups = {pose: np.array(faces.poses) == pose for pose in sorted(set(faces.poses))} | groups
    rows = tuple(
        (name, str(chosen.sum()), f"{100 * np.median(labeled.distances[chosen]):.2f}", str((accepted & chosen).sum()))
        for name, chosen in groups.items()
    )
    grid = Grid(title="", header=("pose", "faces", "median distance, % of the box", "accepted"), rows=rows, words=1)
    make_console(width=120).print(rich_table(grid))
    median_offset = float(np.median(labeled.offsets))
    print(f"the annotated points are {median_offset:+.2f} pixels right of the predicted ones (median)", end="")
    print(": do the annotated coordinates count from 1?" if median_offset > ONE_BASED_OFFSET else "")
    size = options.size or max(model.stages[-1].face_crop_size for model in (localizer, *others))
    chosen = labeled.faces.take(np.flatnonzero(accepted))
    settings = {"size": size, "quality": options.quality, "workers": options.workers}
    pack({"train": chosen}, options.output, source=f"{options.resolve().root}, by {', '.join(names)}", **settings)
    output = printable(options.output)
    print(f"{output}: {len(chosen)} faces of {size} x {size} pixels, {localizer.scheme.points} points each")
    print(f'to add them to the training data: extra_data=(DataConfig(name="packed", root="{output}"),)')


def _pack(arguments: list[str]) -> None:
    options = parse(PackOptions, arguments, command="data pack")
    check_range(options, quality=(0, 100), size=(16, LARGEST_CROP), workers=(1, 256))
    splits = {}
    for split, faces, faults in options.splits():
        if faults:
            raise InputError(
                f"{len(faults)} faults in {split}, first {faults[0]}: see wing-jax data check {options.resolve().root}"
            )
        splits[split] = faces
    size = options.size
    if options.config:
        from wing_jax.from_config.train import packed_size  # slow to import

        size = packed_size(read_config(options.config), next(iter(splits.values())))
    source = str(options.resolve().root)
    pack(splits, options.output, size=size, quality=options.quality, source=source, workers=options.workers)
    _print_packed(options.output)


def _render(arguments: list[str]) -> None:
    options = parse(RenderOptions, arguments, command="data render")
    check_range(options, quality=(0, 100), size=(32, LARGEST_CROP), workers=(1, 256), seed=(0, LARGEST_SEED))
    check_above(options, "faces", "test_faces")
    check_new(Path(options.output))
    splits = {
        split: synthetic_faces(
            count,
            seed=seed_of_split(options.seed, split),
            size=options.size,
            landmarks=options.landmarks,
            compress=True,
            workers=options.workers,
        )
        for split, count in (("train", options.faces), ("test", options.test_faces))
    }
    source = f"synthetic faces, {options.landmarks} landmarks, seed {options.seed}"
    pack(splits, options.output, size=options.size, quality=options.quality, source=source, workers=options.workers)
    _print_packed(options.output)


def _print_packed(folder: str) -> None:
    """Print what was packed into `folder`, and how to train on it."""
    manifest, output = read_manifest(Path(folder)), printable(folder)
    total = sum(path.stat().st_size for path in Path(folder).iterdir())
    counts = ", ".join(f"{split} {count}" for split, count in manifest["counts"].items())
    size = manifest["crop"]["size"]
    print(f"{output}: {counts} faces of {size} x {size} pixels, {total / 1e6:.1f} MB")
    print(f"train with --data packed --root {shlex.quote(output)}")


def _schemes(arguments: list[str]) -> None:
    options = parse(SchemesOptions, arguments, command="data schemes")
    folder = Path(options.output)
    for scheme in SCHEMES.values():
        write_image(folder / f"{scheme.name}.jpg", scheme_picture(scheme, size=720))
        print(f"{scheme.name}: {scheme.about}")
    for conversion in CONVERSIONS.values():
        count = f"{int(conversion.available.sum())} of {conversion.target.points} points"
        print(f"{conversion.source.name} -> {conversion.target.name}, {count}; differences: {conversion.approximates}")
    print(printable(f"pictures: {folder}"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatsOptions:
    """List the data sets and annotation formats that can be read."""


def _formats(arguments: list[str]) -> None:
    parse(FormatsOptions, arguments, command="data formats")
    faults: list[str] = []
    rows = [
        (
            name,
            kind.title,
            ", ".join(kind.splits) or "one per file",
            kind.folder or "",
            ", ".join((*kind.extensions, *kind.patterns)[:1]),
        )
        for name, kind in list_readers(faults)
    ]
    grid = Grid(
        title="", header=("name", "contents", "splits", "usual folder", "detected by file"), rows=tuple(rows), words=5
    )
    make_console(width=140).print(rich_table(grid))
    for fault in faults:
        print(fault, file=sys.stderr)
