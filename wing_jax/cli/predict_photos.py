"""The photos of `wing-jax predict`: read and written by threads, predicted in batches."""

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
from rich.console import Console
from rich.progress import Progress

from wing_jax.cli.predict_names import CSV, Photo
from wing_jax.cli.predict_options import PredictOptions, landmarker_of
from wing_jax.cli.predict_tally import Tally
from wing_jax.data.images import read_image
from wing_jax.errors import InputError
from wing_jax.inference.face_files import FaceRecord, FaceTable, write_photo
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.faces import TINY, tiny
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime.console import is_terminal, say
from wing_jax.schemes import Scheme
from wing_jax.text import counted
from wing_jax.types import Image

MAX_PHOTOS, MAX_BYTES = 64, 300_000_000  # a batch of photos is complete when it reaches either
READ_AT_ONCE = 8  # photos

Boxes: TypeAlias = tuple[tuple[float, float, float, float], ...]
Images: TypeAlias = Sequence[np.ndarray]  # `Image`s of any sizes
Batches: TypeAlias = Iterator[tuple[list[Photo], Images]]
Locate: TypeAlias = Callable[[Images], list[list[FaceRecord]]]
Result: TypeAlias = tuple[Photo, list[FaceRecord], Path]  # with the path of the overlay


def predict_photos(
    photos: Sequence[Photo], localizer: Localizer, options: PredictOptions, console: Console, tally: Tally
) -> None:
    """Write the results of `photos`, and a row for each face to OUTPUT/predictions.csv.

    A photo that cannot be read, predicted or written is reported and counted in `tally`.

    Raises:
      InputError: the detector cannot be used with the model, or nothing can be written to the folder.
    """
    locate, path = _make_locate(localizer, options), Path(options.output) / CSV
    # The bar may only capture lines on standard error if they go to a terminal too.
    bar = Progress(
        console=console, transient=True, disable=not console.is_terminal, redirect_stderr=is_terminal(sys.stderr)
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        batches = photo_batches(photos, pool, tally)
        first = next(batches, None)
        if first:  # otherwise the table of an earlier run is not replaced
            with FaceTable(path, localizer.scheme, of=("image",)) as table, bar:
                task = bar.add_task("predicting", total=len(photos))
                results = _results(itertools.chain([first], batches), locate, localizer.scheme, pool)
                del first  # frees its pixels
                for result in results:
                    if isinstance(result, InputError):
                        tally.fail(result, read=True)
                        continue
                    photo, faces, overlay = result
                    table.write((photo.name,), faces)
                    say(console, f"{photo.path}: {_summary(faces)} -> {overlay}")
                    tally.add(faces=len(faces))
                    bar.update(task, completed=tally.inputs)
    if tally.inputs > 1:
        say(console, tally.photos() + (f"; all in {path}" if tally.done else ""))


def photo_batches(
    photos: Sequence[Photo],
    pool: ThreadPoolExecutor,
    tally: Tally,
    *,
    most_photos: int = MAX_PHOTOS,
    most_bytes: int = MAX_BYTES,
    at_once: int = READ_AT_ONCE,
) -> Batches:
    """Yield batches of (photos, their pixels), of `most_photos` or `most_bytes` or slightly more.

    The threads of `pool` read `at_once` photos together. A photo that cannot be read is reported and counted in
    `tally`.
    """
    batch: list[tuple[Photo, np.ndarray]] = []
    for start in range(0, len(photos), at_once):
        chunk = photos[start : start + at_once]
        for photo, image in zip(chunk, pool.map(_read, chunk), strict=True):
            if isinstance(image, InputError):
                tally.fail(image)
            else:
                batch.append((photo, image))
        if len(batch) >= most_photos or sum(image.size for _, image in batch) >= most_bytes:
            yield [photo for photo, _ in batch], [image for _, image in batch]
            batch = []
    if batch:
        yield [photo for photo, _ in batch], [image for _, image in batch]


def _read(photo: Photo) -> Image | InputError:
    try:
        return read_image(photo.path)
    except InputError as error:
        return error


def _results(
    batches: Batches, locate: Locate, scheme: Scheme, pool: ThreadPoolExecutor
) -> Iterator[Result | InputError]:
    """Write the results of each photo; yield them, or the error."""
    for photos, images in batches:
        faces = _locate_or_error(photos, images, locate)
        yield from pool.map(functools.partial(_write, scheme=scheme), photos, images, faces)


def _locate_or_error(
    photos: Sequence[Photo], images: Images, locate: Locate
) -> Sequence[list[FaceRecord] | InputError]:
    """Locate the faces of all photos at once, or photo by photo if one of them fails."""
    try:
        return locate(images)
    except InputError as error:
        if len(images) == 1:
            return [InputError(f"{photos[0].path}: {error}")]
        return [_locate_or_error([photo], [image], locate)[0] for photo, image in zip(photos, images, strict=True)]


def _write(photo: Photo, image: Image, faces: list[FaceRecord] | InputError, *, scheme: Scheme) -> Result | InputError:
    if isinstance(faces, InputError):
        return faces
    try:
        return photo, faces, write_photo(photo.stem, image, faces, scheme, name=photo.name)
    except InputError as error:
        error_with_path = InputError(f"{photo.path}: {error}")
        error_with_path.__cause__ = error.__cause__
        return error_with_path


def _make_locate(localizer: Localizer, options: PredictOptions) -> Locate:
    if options.box or options.detector == "none":
        return functools.partial(_locate_in_boxes, localizer=localizer, boxes=options.box)
    return functools.partial(_detect_and_locate, landmarker=landmarker_of(localizer, options))


def _locate_in_boxes(images: Images, *, localizer: Localizer, boxes: Boxes) -> list[list[FaceRecord]]:
    """Locate the faces in `boxes`, or, without boxes, in the complete picture."""
    all_boxes = [boxes or ((0.0, 0.0, image.shape[1] - 1.0, image.shape[0] - 1.0),) for image in images]
    predictions = localizer.predict_details(images, all_boxes)
    return [
        [prediction.record(face, box=np.array(box)) for face, box in enumerate(boxes)]
        for boxes, prediction in zip(all_boxes, predictions, strict=True)
    ]


def _detect_and_locate(images: Images, *, landmarker: FaceLandmarker) -> list[list[FaceRecord]]:
    return [faces.to_records() for faces in landmarker.batch(images)]


def _summary(faces: list[FaceRecord]) -> str:
    if not faces:
        return "no face found"
    small = int(tiny(np.stack([face.box for face in faces])).sum())
    warning = f", {small} below {TINY} pixels: too small for reliable landmarks" if small else ""
    return f"{counted(len(faces), 'face')}{warning}"
