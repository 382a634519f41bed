"""`wing-jax predict MODEL IMAGE|FOLDER|VIDEO...`, or `--camera 0`"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from wing_jax.cli.model import find_model
from wing_jax.cli.options import parse
from wing_jax.cli.predict_options import PredictOptions, finder_of
from wing_jax.cli.predict_video import follow
from wing_jax.data.images import read_image
from wing_jax.data.video import VIDEO_ENDINGS
from wing_jax.errors import InputError
from wing_jax.files import refuse_way_out
from wing_jax.finder import TINY, Finder, tiny
from wing_jax.localizer import Localizer
from wing_jax.report.predictions import FaceTable, FoundFace, write_photo
from wing_jax.types import Image

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # of what a folder is searched for
PHOTOS, BYTES = 64, 300_000_000  # how many photos' faces are located together: until either is passed
READ_AT_ONCE = 8  # photos
CSV = "predictions.csv"  # of all photos


def run(arguments: list[str]) -> None:
    """Predict, write the files and say where they are."""
    options = parse(PredictOptions, arguments, command="predict")
    if not options.images and options.camera < 0:
        raise InputError("no image given: wing-jax predict MODEL IMAGE|FOLDER|VIDEO..., or --camera 0")
    videos = [Path(name) for name in options.images if Path(name).suffix.lower() in VIDEO_ENDINGS]
    paths = pictures([name for name in options.images if Path(name) not in videos])
    check_places(paths, videos, Path(options.output))
    localizer = dataclasses.replace(Localizer.load(find_model(options.model).folder), flip_average=options.flip)
    console = Console(highlight=False, soft_wrap=True)
    console.print(localizer.describe())
    if paths:
        _photos(paths, localizer, options, console)
    for source in (*videos, *([options.camera] if options.camera >= 0 else [])):
        follow(source, localizer, options, console)


def _photos(paths: Sequence[Path], localizer: Localizer, options: PredictOptions, console: Console) -> None:
    folder, without, faces = Path(options.output), 0, 0
    finder = None if options.box or options.detector == "none" else finder_of(localizer, options)
    with (
        FaceTable(folder / CSV, localizer.scheme, of=("image",)) as table,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        groups = photo_batches(paths, pool)
        for names, images in track(groups, description="predicting", transient=True, disable=not console.is_terminal):
            found = _with_boxes(images, localizer, options) if finder is None else _detected(images, finder)
            stems = [folder / path.stem for path in names]
            written = pool.map(functools.partial(write_photo, scheme=localizer.scheme), stems, images, found)
            for path, own, overlay in zip(names, found, written, strict=True):
                table.write((path.name,), own)
                console.print(f"{path}: {_told(own)} -> {overlay}")
                without, faces = without + (not own), faces + len(own)
    if len(paths) > 1:
        missing = f", no face found in {without}" if without else ""
        console.print(f"{len(paths)} pictures, {faces} faces{missing}; all in {folder / CSV}")


def _with_boxes(images: list[np.ndarray], localizer: Localizer, options: PredictOptions) -> list[list[FoundFace]]:
    boxes = [options.box or ((0.0, 0.0, image.shape[1] - 1.0, image.shape[0] - 1.0),) for image in images]
    located = localizer.predict_batch(images, boxes)
    return [
        [
            FoundFace(number=number, box=np.array(box), points=points)
            for number, (box, points) in enumerate(zip(own, found, strict=True), 1)
        ]
        for own, found in zip(boxes, located, strict=True)
    ]


def _detected(images: list[np.ndarray], finder: Finder) -> list[list[FoundFace]]:
    return [
        [
            FoundFace(number=i + 1, box=faces.boxes[i], points=faces.points[i], score=float(faces.scores[i]))
            for i in range(len(faces))
        ]
        for faces in finder.batch(images)
    ]


def _told(faces: list[FoundFace]) -> str:
    if not faces:
        return "no face found"
    small = int(tiny(np.stack([face.box for face in faces])).sum())
    warning = f", {small} below {TINY} pixels: too small for more than a guess" if small else ""
    return f"{len(faces)} face(s){warning}"


def pictures(names: Sequence[str]) -> list[Path]:
    """The paths `names`, a folder standing for the pictures that lie in it, by name.

    Raises:
      InputError: there is no picture in a folder, a link leads out of it, or two pictures' results would have one name.
    """
    paths: list[Path] = []
    for path in map(Path, names):
        if not path.is_dir():
            paths.append(path)
            continue
        inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in PICTURE_ENDINGS)
        if not inside:
            raise InputError(f"{path}: no picture in this folder: its pictures must end in {' '.join(PICTURE_ENDINGS)}")
        for entry in inside:
            refuse_way_out(entry, path.resolve())
        paths += inside
    named: dict[str, Path] = {}
    for path in paths:
        if path.stem in named:
            raise InputError(
                f"{named[path.stem]} and {path} would both be written to {path.stem}.png: predict them in two runs "
                "with different --output"
            )
        named[path.stem] = path
    return paths


def check_places(photos: Sequence[Path], videos: Sequence[Path], folder: Path) -> None:
    """Raises InputError where what is written to `folder` would take the place of an input, of an annotation beside it,
    or of another input's results."""
    for path in (*photos, *videos):
        if path.resolve().parent == folder.resolve():
            raise InputError(
                f"--output {folder} holds {path.name} itself: give a folder of its own, so that nothing is lost"
            )
    stems = [path.stem for path in videos]
    for stem in stems:
        if stems.count(stem) > 1 or (stem == CSV.removesuffix(".csv") and photos):
            raise InputError(
                f"two results would be written to {stem}.csv: predict them in two runs with different --output"
            )


def photo_batches(paths: Sequence[Path], pool: ThreadPoolExecutor) -> Iterator[tuple[Sequence[Path], list[Image]]]:
    """(paths, photos) of a group of photos after the other, read by the threads of `pool`.

    Raises:
      InputError: a photo cannot be read.
    """
    group: list[Image] = []
    done = 0
    for start in range(0, len(paths), READ_AT_ONCE):
        group += pool.map(read_image, paths[start : start + READ_AT_ONCE])
        if len(group) >= PHOTOS or sum(image.size for image in group) >= BYTES:
            yield paths[done : done + len(group)], group
            done, group = done + len(group), []
    if group:
        yield paths[done:], group
