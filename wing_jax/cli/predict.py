"""`wing-jax predict MODEL IMAGE... --box x0 y0 x1 y1`"""

import dataclasses
import functools
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from wing_jax.cli.options import parse
from wing_jax.data.images import read_image, write_image
from wing_jax.data.points_file import write_pts
from wing_jax.errors import InputError
from wing_jax.localizer import Localizer
from wing_jax.report.draw import PREDICTED, draw_points
from wing_jax.types import Image

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # of what a folder is searched for
PHOTOS, BYTES = 64, 300_000_000  # how many photos' faces are located together: until either is passed
READ_AT_ONCE = 8  # photos


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Find the landmarks of the faces in the boxes; for each image, or each image in a folder, write an overlay PNG, a
    JSON and a .pts a face."""

    model: Annotated[str, tyro.conf.Positional]
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    box: tyro.conf.UseAppendAction[tuple[tuple[float, float, float, float], ...]] = ()
    """x0 y0 x1 y1 in pixels; give it once for each face. None: the whole image is taken as the box."""
    output: str = "predictions"  # folder
    flip: bool = False  # average with the mirror image


def run(arguments: list[str]) -> None:
    """Predict, write the files and say where they are."""
    options = parse(PredictOptions, arguments, command="predict")
    if not options.images:
        raise InputError("no image given: wing-jax predict MODEL IMAGE... --box x0 y0 x1 y1")
    localizer = dataclasses.replace(Localizer.load(options.model), flip_average=options.flip)
    console = Console(highlight=False, soft_wrap=True)
    console.print(localizer.describe())
    folder = Path(options.output)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for paths, images in photo_batches(pictures(options.images), pool):
            boxes = [options.box or ((0.0, 0.0, image.shape[1] - 1.0, image.shape[0] - 1.0),) for image in images]
            found = localizer.predict_batch(images, boxes)
            stems = [folder / path.stem for path in paths]
            written = pool.map(functools.partial(write_prediction, localizer=localizer), stems, images, boxes, found)
            for path, points, overlay in zip(paths, found, written, strict=True):
                console.print(f"{path}: {len(points)} face(s) -> {overlay}")


def pictures(names: Sequence[str]) -> list[Path]:
    """The paths `names`, a folder standing for the pictures that lie in it, by name.

    Raises:
      InputError: there is no picture in a folder, or two pictures' results would have one name.
    """
    paths: list[Path] = []
    for path in map(Path, names):
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_ENDINGS) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: no picture in this folder: its pictures must end in {' '.join(PICTURE_ENDINGS)}")
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


def write_prediction(stem: Path, image, boxes, points: np.ndarray, localizer: Localizer) -> Path:
    """Write STEM.png, STEM.json and a `.pts` file a face (STEM.pts, or STEM_1.pts ... for several faces)."""
    overlay = image
    for face in points:
        overlay = draw_points(overlay, face, colour=PREDICTED, lines=localizer.scheme.lines, radius=_radius(face))
    write_image(stem.with_name(f"{stem.name}.png"), overlay)
    faces = [{"box": list(map(float, box)), "points": face.tolist()} for box, face in zip(boxes, points, strict=True)]
    facts = {"scheme": localizer.scheme.name, "coordinates": "x, y in pixels, 0-based pixel centres", "faces": faces}
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    for number, face in enumerate(points, 1):
        name = f"{stem.name}.pts" if len(points) == 1 else f"{stem.name}_{number}.pts"
        write_pts(stem.with_name(name), face)
    return stem.with_name(f"{stem.name}.png")


def _radius(face: np.ndarray) -> float:
    """Dots that suit the face's size in pixels."""
    return float(np.clip(np.ptp(face, axis=0).max() / 120, 1.2, 8))
