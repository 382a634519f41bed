"""The photos of `wing-jax predict`: read and written by threads, their faces located in groups."""

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
from wing_jax.inference.face_files import FaceTable, FoundFace, write_photo
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.faces import TINY, tiny
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime.console import is_terminal, say
from wing_jax.schemes import Scheme
from wing_jax.types import Image

PHOTOS, BYTES = 64, 300_000_000  # how many photos' faces are located together: until either is passed
READ_AT_ONCE = 8  # photos

Boxes: TypeAlias = tuple[tuple[float, float, float, float], ...]
Images: TypeAlias = Sequence[np.ndarray]  # `Image`s of any sizes
Groups: TypeAlias = Iterator[tuple[list[Photo], Images]]
Locate: TypeAlias = Callable[[Images], list[list[FoundFace]]]
Result: TypeAlias = tuple[Photo, list[FoundFace], Path]  # with the overlay


def predict_photos(
    photos: Sequence[Photo], localizer: Localizer, options: PredictOptions, console: Console, tally: Tally
) -> None:
    """Write the results of `photos`, and a row for each face to OUTPUT/predictions.csv. A photo that cannot be read,
    located or written is named and counted in `tally`.

    Raises:
      InputError: the detector or the model does not serve, or nothing can be written to the folder.
    """
    locate, path = _locate_by(localizer, options), Path(options.output) / CSV
    # Lines on standard error pass through the bar's console only where they go to a terminal too.
    bar = Progress(
        console=console, transient=True, disable=not console.is_terminal, redirect_stderr=is_terminal(sys.stderr)
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        groups = photo_batches(photos, pool, tally)
        first = next(groups, None)
        if first:  # else an earlier run's table stays
            with FaceTable(path, localizer.scheme, of=("image",)) as table, bar:
                task = bar.add_task("predicting", total=len(photos))
                results = _results(itertools.chain([first], groups), locate, localizer.scheme, pool)
                del first  # its pixels, which would stay in memory
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
    most_photos: int = PHOTOS,
    most_bytes: int = BYTES,
    at_once: int = READ_AT_ONCE,
) -> Groups:
    """(photos, their pixels) of a group after the other, read by the threads of `pool`, `at_once` together, until the
    group has `most_photos` or `most_bytes`; what cannot be read is named and counted in `tally`."""
    group: list[tuple[Photo, np.ndarray]] = []
    for start in range(0, len(photos), at_once):
        some = photos[start : start + at_once]
        for photo, image in zip(some, pool.map(_read, some), strict=True):
            if isinstance(image, InputError):
                tally.fail(image)
            else:
                group.append((photo, image))
        if len(group) >= most_photos or sum(image.size for _, image in group) >= most_bytes:
            yield [photo for photo, _ in group], [image for _, image in group]
            group = []
    if group:
        yield [photo for photo, _ in group], [image for _, image in group]


def _read(photo: Photo) -> Image | InputError:
    try:
        return read_image(photo.path)
    except InputError as error:
        return error


def _results(groups: Groups, locate: Locate, scheme: Scheme, pool: ThreadPoolExecutor) -> Iterator[Result | InputError]:
    """What is written for each photo, or why it is not."""
    for photos, images in groups:
        found = _located(photos, images, locate)
        yield from pool.map(functools.partial(_written, scheme=scheme), photos, images, found)


def _located(photos: Sequence[Photo], images: Images, locate: Locate) -> Sequence[list[FoundFace] | InputError]:
    """The faces of each photo: all at once, or photo by photo where one of them cannot be done."""
    try:
        return locate(images)
    except InputError as error:
        if len(images) == 1:
            return [InputError(f"{photos[0].path}: {error}")]
        return [_located([photo], [image], locate)[0] for photo, image in zip(photos, images, strict=True)]


def _written(photo: Photo, image: Image, faces: list[FoundFace] | InputError, *, scheme: Scheme) -> Result | InputError:
    if isinstance(faces, InputError):
        return faces
    try:
        return photo, faces, write_photo(photo.stem, image, faces, scheme, name=photo.name)
    except InputError as error:
        named = InputError(f"{photo.path}: {error}")
        named.__cause__ = error.__cause__
        return named


def _locate_by(localizer: Localizer, options: PredictOptions) -> Locate:
    if options.box or options.detector == "none":
        return functools.partial(_with_boxes, localizer=localizer, given=options.box)
    return functools.partial(_detected, landmarker=landmarker_of(localizer, options))


def _with_boxes(images: Images, *, localizer: Localizer, given: Boxes) -> list[list[FoundFace]]:
    """Faces in the boxes `given`, or else in the whole picture's."""
    boxes = [given or ((0.0, 0.0, image.shape[1] - 1.0, image.shape[0] - 1.0),) for image in images]
    located = localizer.predict_batch(images, boxes)
    return [
        [
            FoundFace(number=number, box=np.array(box), points=points)
            for number, (box, points) in enumerate(zip(own, found, strict=True), 1)
        ]
        for own, found in zip(boxes, located, strict=True)
    ]


def _detected(images: Images, *, landmarker: FaceLandmarker) -> list[list[FoundFace]]:
    return [faces.found() for faces in landmarker.batch(images)]


def _summary(faces: list[FoundFace]) -> str:
    if not faces:
        return "no face found"
    small = int(tiny(np.stack([face.box for face in faces])).sum())
    warning = f", {small} below {TINY} pixels: too small for more than a guess" if small else ""
    return f"{len(faces)} face(s){warning}"
