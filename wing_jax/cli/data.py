"""`wing-jax data ACTION DIR`: look into a data set before you train on it."""

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console

from wing_jax.balance import pose_axis
from wing_jax.cli.balance import report_poses, yaw_of
from wing_jax.cli.options import parse
from wing_jax.config import DataName, load_config
from wing_jax.data import formats
from wing_jax.data.boxes import shape_in_box, shape_in_boxes, shape_spread
from wing_jax.data.check import SplitCheck, check_split, duplicates, shared_faces
from wing_jax.data.detectors import detected, get_detector
from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces, splits_of
from wing_jax.data.packed import pack
from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.labelling import label
from wing_jax.localizer import Localizer
from wing_jax.report.draw import write_png
from wing_jax.report.faces import annotation_sheet
from wing_jax.report.schemes import scheme_picture
from wing_jax.report.tables import Grid, rich_table
from wing_jax.schemes import CONVERSIONS, MTFL_5, SCHEMES, get_conversion
from wing_jax.train.run import chip_sizes

ACTIONS = {
    "check": "read everything; say what is missing, broken, outside, cut or there twice (status 1 if any is broken)",
    "show": "draw faces with their points, numbers and boxes on one sheet",
    "stats": "print and plot the poses, and what HSM would make of them",
    "detect": "how many faces a detector finds, and where in its boxes they lie",
    "label": "let a model mark all its points on faces annotated with a few, and pack those where both agree",
    "pack": "cut the faces once and write them compactly, so that training starts in seconds",
    "formats": "list the formats that can be read",
    "schemes": "list the landmark schemes and their conversions, and draw them",
}

FEWEST = 20  # faces among which a pose axis means anything


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The data set in DIR, and how to read it."""

    root: Annotated[str, tyro.conf.Positional]  # folder, or an .xml, .json or .csv file
    format: Literal["auto"] | DataName = "auto"  # auto: told by the files
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    boxes: str = "given"  # or by another rule of `wing_jax.data.boxes`


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckOptions(Source):
    """Read everything in DIR and report counts, sizes, faults, duplicates across splits and poses in tables."""

    shown: int = 10  # faults and duplicates to list; the table counts them all
    against: str = ""  # another data set's folder or file: which faces are in both, of the splits of either?
    workers: int = 2  # threads that read pictures


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowOptions(Source):
    """Draw faces of DIR, chosen at random, with their points and boxes on a contact sheet."""

    split: str = ""  # empty: the first there is
    faces: int = 12
    columns: int = 4
    seed: int = 0
    numbers: bool = True  # beside the points
    output: str = "runs/faces.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatsOptions(Source):
    """Find the pose axis of the faces in DIR; print and plot its histogram before and after HSM."""

    split: str = ""  # empty: the first there is
    bins: int = 9  # of |coefficient|
    cap: int = 20  # at most so many copies of a face
    output: str = "runs/poses.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectOptions(Source):
    """Run a face detector on the pictures of DIR: how many faces it finds, where in its boxes they lie, and how much
    that varies. Measure it on training faces; with MODEL, that model learns where to look in this detector's boxes."""

    split: str = ""  # empty: the first there is
    faces: int = 0  # at most so many, chosen at random; 0: all
    detector: str = "auto"
    model: str = ""  # a model's folder to tell; for points of your own, of which nothing is known beforehand
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchemesOptions:
    """List the published schemes and what each can be converted to; draw each with its numbers."""

    output: str = "runs/schemes"  # folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackOptions(Source):
    """Write the faces of all splits of DIR to the folder OUTPUT as encoded crops of two box sides."""

    output: Annotated[str, tyro.conf.Positional]
    config: str = ""  # a training config: the crops get the size that it cuts faces at, which is best
    size: int = 256  # pixels of a crop, where no config is given
    quality: int = 60  # JPEG's, 1 to 100 (of the same bytes, size is worth more); 0: raw, exact, 25 times larger
    workers: int = 2  # threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions(Source):
    """Let MODEL mark all its points on the faces of DIR, of which other points are annotated. Its box is put where
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
        asked = action in ("-h", "--help")
        print(f"usage: wing-jax data ACTION DIR ...\n\n{rows}", file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    works = {"check": _check, "show": _show, "stats": _stats, "detect": _detect, "label": _label, "pack": _pack,
             "formats": _formats, "schemes": _schemes}  # fmt: skip
    works[action](rest)


def _check(arguments: list[str]) -> None:
    options = parse(CheckOptions, arguments, command="data check")
    checks: dict[str, SplitCheck] = {}
    for split, faces, faults in _splits(options):
        checks[split] = check_split(faces, faults, workers=options.workers)
    alike = duplicates(checks)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    first = next(iter(checks.values())).faces
    console.print(f"{first.name}: {first.scheme.points} points ({first.scheme.name}), {first.box_convention!r} boxes")
    console.print(rich_table(_overview(checks, alike)))
    for split, check in checks.items():
        console.print(f"poses, {split}: {_poses(check.faces)}", soft_wrap=True)
    faults = [f"{split}: {fault}" for split, check in checks.items() for fault in check.faults]
    outside = [f"{split}: {name}" for split, check in checks.items() for name in _names(check, check.outside)]
    cut = [f"{split}: {name}" for split, check in checks.items() for name in _names(check, check.cut)]
    pairs = [f"{kind}: {one} = {other}" for kind, one, other in alike]
    for title, lines in (
        ("missing or broken", faults),
        ("pictures with points outside", outside),
        ("pictures with points outside a box", cut),
        ("in two splits", pairs),
    ):
        _list(console, title, lines, options.shown)
    if options.against:
        _compare(console, options, checks)
    if faults:
        sys.exit(1)


def _compare(console: Console, options: CheckOptions, checks: dict[str, SplitCheck]) -> None:
    """Say which faces are in the other set too, each of its splits by itself."""
    for other_split, other, _ in _splits(Source(root=options.against)):
        for split, check in checks.items():
            pairs = shared_faces(check.faces, other, workers=options.workers)
            console.print(f"\n{split} and {other.name}, {other_split}: {len(pairs)} pairs of one face", soft_wrap=True)
            for alike, one, another in pairs[: options.shown]:
                console.print(f"  {alike:.3f}: {one} = {another}", soft_wrap=True, markup=False)


def _splits(options: Source) -> Iterator[tuple[str, FaceSet, list[str]]]:
    """(name, faces, faults) of the splits that are there."""
    name = formats.detect(options.root) if options.format == "auto" else options.format
    complaints: list[str] = []
    found = False
    for split in splits_of(name, options.root):
        faults: list[str] = []
        try:
            faces = load_faces(
                name, split, root=options.root, scheme=options.scheme, boxes=options.boxes, faults=faults
            )
        except InputError as error:
            complaints.append(f"split {split!r}: {error}")
            continue
        found = True
        yield split, faces, faults
    if not found:
        raise InputError(complaints[0])
    for complaint in complaints:
        print(f"not there, or not readable: {complaint}", file=sys.stderr)


def _overview(checks: dict[str, SplitCheck], alike: Sequence[tuple[str, str, str]]) -> Grid:
    """One row a split, and one for each of its subsets where there are several."""
    rows = []
    for split, check in checks.items():
        subsets = Counter(check.faces.subsets)
        rows.append(
            _row(split, check, np.ones(len(check.faces), bool), str(len(check.faults)), str(_pairs(alike, split)))
        )
        for subset in sorted(subsets) if 1 < len(subsets) <= 12 else ():
            rows.append(_row(f"  {subset}", check, np.array(check.faces.subsets) == subset, "", ""))
    header = ("split", "faces", "photos", "widths", "heights", "broken", "outside", "box cuts", "in two splits")
    return Grid(title="", header=header, rows=tuple(rows), words=1)


def _row(name: str, check: SplitCheck, chosen: np.ndarray, broken: str, twice: str) -> tuple[str, ...]:
    sizes = check.sizes[chosen & (check.sizes[:, 0] > 0)]
    photos = len({photo for photo, taken in zip(check.faces.photos, chosen, strict=True) if taken})
    spans = ("-", "-") if not len(sizes) else (_span(sizes[:, 0]), _span(sizes[:, 1]))
    outside, cut = int(check.outside[chosen].sum()), int(check.cut[chosen].sum())
    return (name, str(int(chosen.sum())), str(photos), *spans, broken, str(outside), str(cut), twice)


def _span(values: np.ndarray) -> str:
    low, middle, high = values.min(), np.median(values), values.max()
    return f"{low}" if low == high else f"{low}..{middle:.0f}..{high}"


def _pairs(alike: Sequence[tuple[str, str, str]], split: str) -> int:
    return sum(one.startswith(f"{split}: ") or other.startswith(f"{split}: ") for _, one, other in alike)


def _poses(faces: FaceSet) -> str:
    """A histogram in one line: of the annotated classes, or of the pose axis in standard deviations."""
    if faces.poses is not None:
        counts = Counter(faces.poses)
        return ", ".join(f"{pose} {counts[pose]}" for pose in sorted(counts))
    if len(faces) < FEWEST:
        return f"fewer than {FEWEST} faces: no axis is looked for"
    try:
        model = pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
    except ValueError as error:
        return f"no axis found ({error})"
    edges = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    counts = np.bincount(np.searchsorted(edges, model.coefficients / model.deviation), minlength=7)
    blocks = "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * count / max(counts.max(), 1)))] for count in counts)
    return f"{blocks}  {' '.join(map(str, counts))} from nose left to nose right, in steps of a standard deviation"


def _names(check: SplitCheck, chosen: np.ndarray) -> list[str]:
    faces = Counter(check.faces.picture_name(index) for index in np.flatnonzero(chosen).tolist())
    return [name if count == 1 else f"{name} ({count} faces)" for name, count in faces.items()]


def _list(console: Console, title: str, lines: Sequence[str], shown: int) -> None:
    if lines:
        console.print(f"\n{title}: {len(lines)}")
        for line in lines[:shown]:
            console.print(f"  {line}", soft_wrap=True, markup=False)
        if len(lines) > shown:
            console.print(f"  and {len(lines) - shown} more (--shown {len(lines)} lists all)")


def _chosen(options: ShowOptions | StatsOptions | DetectOptions | LabelOptions) -> FaceSet:
    for split, faces, _ in _splits(options):
        if options.split in ("", split):
            return faces
    raise InputError(f"{options.root}: no split {options.split!r} there")


def _show(arguments: list[str]) -> None:
    options = parse(ShowOptions, arguments, command="data show")
    faces = _chosen(options)
    order = np.random.default_rng(options.seed).permutation(len(faces))[: options.faces]
    sheet = annotation_sheet(faces.take(np.sort(order)), columns=options.columns, numbers=options.numbers)
    path = Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{len(order)} of {len(faces)} faces: {write_png(path, sheet)}")


def _stats(arguments: list[str]) -> None:
    options = parse(StatsOptions, arguments, command="data stats")
    faces = _chosen(options)
    for name, values in faces.attributes.items():
        print(f"{name}: {int(values.sum())} of {len(faces)} faces")
    report_poses(
        faces.points,
        faces.visible,
        faces.scheme,
        yaw_of(faces),
        bins=options.bins,
        cap=options.cap,
        figure=Path(options.output),
    )


def _detect(arguments: list[str]) -> None:
    options = parse(DetectOptions, arguments, command="data detect")
    faces, detector = _chosen(options), get_detector(options.detector)
    localizer = Localizer.load(options.model) if options.model else None
    if localizer and localizer.scheme.name != faces.scheme.name:
        raise InputError(f"{options.model} marks {localizer.scheme.name}, {faces.name} has {faces.scheme.name}")
    if 0 < options.faces < len(faces):
        faces = faces.take(np.sort(np.random.default_rng(options.seed).permutation(len(faces))[: options.faces]))
    made = detected(detector, faces)
    print(f"{detector.name} on {faces.name}: {made.found.sum()} of {len(faces)} faces found, {made.others} other boxes")
    if not made.found.any():
        raise InputError(f"{detector.name} finds none of these faces")
    boxes, points, visible = made.boxes[made.found], faces.points[made.found], faces.visible[made.found]
    placed = {f"all {faces.scheme.points} points": shape_in_boxes(points, visible, boxes)}
    with contextlib.suppress(ValueError):  # a scheme of which the five points are not known
        five = get_conversion(faces.scheme, MTFL_5)
        placed["eyes, nose, mouth corners"] = shape_in_boxes(five.points(points), five.visible(visible), boxes)
    for name, place in placed.items():
        print(f"mean shape of {name}: centre ({place.centre[0]:+.4f}, {place.centre[1]:+.4f}) sides from the box's, "
              f"side {place.side:.4f}")  # fmt: skip
    spread = shape_spread(points, visible, boxes)
    print(f"standard deviations of a face: centre {spread[0]:.3f}, {spread[1]:.3f} sides, size {spread[2]:.1%}")
    if localizer:
        own = dataclasses.asdict(next(iter(placed.values())))
        told = {**localizer.about, "detectors": {**localizer.about.get("detectors", {}), detector.name: own}}
        print(f"told to {dataclasses.replace(localizer, about=told).save(options.model)}")


def _label(arguments: list[str]) -> None:
    options = parse(LabelOptions, arguments, command="data label")
    faces, localizer = _chosen(options), dataclasses.replace(Localizer.load(options.model), flip_average=True)
    labelled = label(localizer, faces, workers=options.workers)
    kept = labelled.apart <= options.most / 100
    if not kept.any():
        raise InputError(
            f"{options.model} finds the annotated points of no face of {faces.name} within {options.most} % of its "
            f"box: the median is {100 * np.median(labelled.apart):.1f} %"
        )
    groups = {"all": np.ones(len(faces), bool)}
    if faces.poses is not None:
        groups = {pose: np.array(faces.poses) == pose for pose in sorted(set(faces.poses))} | groups
    rows = tuple(
        (name, str(chosen.sum()), f"{100 * np.median(labelled.apart[chosen]):.2f}", str((kept & chosen).sum()))
        for name, chosen in groups.items()
    )
    grid = Grid(title="", header=("pose", "faces", "median distance, % of the box", "kept"), rows=rows, words=1)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(rich_table(grid))
    size = options.size or localizer.stages[-1].chip_size
    chosen = labelled.faces.take(np.flatnonzero(kept))
    how = {"size": size, "quality": options.quality, "workers": options.workers}
    pack({"train": chosen}, options.output, source=f"{options.root}, by {options.model}", **how)
    print(f"{options.output}: {len(chosen)} faces of {size} x {size} pixels, {localizer.scheme.points} points each")
    print(f'train on them besides others: more=(DataConfig(name="packed", root="{options.output}"),)')


def _pack(arguments: list[str]) -> None:
    options = parse(PackOptions, arguments, command="data pack")
    if not 0 <= options.quality <= 100 or options.size < 16:
        raise InputError(f"quality={options.quality}, size={options.size}: quality is 0 to 100, size at least 16")
    splits = {}
    for split, faces, faults in _splits(options):
        if faults:
            raise InputError(
                f"{len(faults)} faults in {split}, first {faults[0]}: see wing-jax data check {options.root}"
            )
        splits[split] = faces
    size = options.size
    if options.config:
        size = max(chip_sizes(load_config(options.config), shape_in_box(next(iter(splits.values())))))
    manifest = pack(
        splits, options.output, size=size, quality=options.quality, source=options.root, workers=options.workers
    )
    total = sum(path.stat().st_size for path in Path(options.output).iterdir())
    said = ", ".join(f"{split} {count}" for split, count in manifest["counts"].items())
    print(f"{options.output}: {said} faces of {size} x {size} pixels, {total / 1e6:.1f} MB")
    print(f"train with --data.name packed --data.root {options.output}")


def _schemes(arguments: list[str]) -> None:
    options = parse(SchemesOptions, arguments, command="data schemes")
    folder = Path(options.output)
    for scheme in SCHEMES.values():
        write_image(folder / f"{scheme.name}.jpg", scheme_picture(scheme, size=720))
        print(f"{scheme.name}: {scheme.about}")
    for conversion in CONVERSIONS.values():
        told = f"{int(conversion.told.sum())} of {conversion.target.points} points"
        print(f"{conversion.source.name} -> {conversion.target.name}, {told}; approximates {conversion.approximates}")
    print(f"pictures: {folder}")


def _formats(arguments: list[str]) -> None:
    rows = [
        (name, kind.title, ", ".join(kind.splits) or "a file each", kind.folder or "", (kind.marks or ("",))[0])
        for name, kind in formats.FORMATS.items()
    ]
    grid = Grid(title="", header=("format", "what", "splits", "usual folder", "told by"), rows=tuple(rows), words=5)
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(rich_table(grid))
