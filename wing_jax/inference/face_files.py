"""Found faces on disk: overlays, `.pts`, JSON and CSV."""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float

from wing_jax.data.images import write_overlay
from wing_jax.data.readers.points_file import write_pts
from wing_jax.errors import InputError
from wing_jax.inference.drawing import PREDICTED, draw_points
from wing_jax.runtime.files import write_whole
from wing_jax.schemes import Scheme
from wing_jax.types import Image
from wing_jax.values import Value

COORDINATES = "x, y in pixels, 0-based pixel centers"
NAMED = 4  # files that a message names; of more it gives the number


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FoundFace(Value):
    """One face as it is written; coordinates in pixels of its picture."""

    number: int  # from 1 on; in a video a face keeps its own
    box: Float[np.ndarray, "4"]
    points: Float[np.ndarray, "points 2"]
    score: float | None = None  # the detector's; None: the box was given

    def table(self) -> dict:
        """As it stands in the JSON."""
        scored = {} if self.score is None else {"score": round(self.score, 4)}
        return {"box": [float(value) for value in self.box], **scored, "points": self.points.tolist()}


def overlaid(image: Image, faces: list[FoundFace], scheme: Scheme) -> Image:
    """A copy of `image` with the faces' landmarks."""
    for face in faces:
        extent = np.ptp(face.points, axis=0).max()  # dots that suit the face's size, and how many there are
        radius = float(np.clip(extent / (15 * len(face.points) ** 0.5), 1.2, 8))
        image = draw_points(image, face.points, color=PREDICTED, lines=scheme.lines, radius=radius)
    return image


def write_photo(stem: Path, image: Image, faces: list[FoundFace], scheme: Scheme, *, name: str) -> Path:
    """Write STEM.png, STEM.json and a `.pts` file a face (STEM.pts, or STEM_1.pts ... for several faces), each whole or
    not at all. `name` is what the JSON calls the photo. Returns the overlay's path.

    Raises:
      InputError: one of them cannot be written; its cause is the system's error.
    """
    overlay = stem.with_name(f"{stem.name}.png")
    write_overlay(overlay, overlaid(image, faces, scheme))
    tables = [face.table() for face in faces]
    facts = {"image": name, "scheme": scheme.name, "coordinates": COORDINATES, "faces": tables}
    path = stem.with_name(f"{stem.name}.json")
    try:
        write_whole(path, json.dumps(facts, indent=1) + "\n")
        for face in faces:
            path = stem.with_name(f"{stem.name}.pts" if len(faces) == 1 else f"{stem.name}_{face.number}.pts")
            write_pts(path, face.points)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}): make room, or choose another folder"
        ) from error
    return overlay


class FaceTable:
    """A CSV file with a row for each face, written as they come: the picture's name (or the frame and its time), the
    face's number, the score, the box, then x_0, x_1 ... and y_0, y_1 ..., the columns of OpenFace's files.

    It is UTF-8; the bytes of a name that is not are written as they are. There is no half a row in it at any time.

    Raises:
      InputError: the file cannot be written; its cause is the system's error.
    """

    def __init__(self, path: Path, scheme: Scheme, *, of: tuple[str, ...]):
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._refusal(error) from error
        try:
            self._append([[*of, *columns(scheme)]])
        except InputError:
            self._file.close()
            raise

    def __enter__(self) -> "FaceTable":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, where: tuple[str | int | float, ...], faces: list[FoundFace]) -> None:
        """Append the faces of one picture or frame."""
        rows = []
        for face in faces:
            numbers = [*face.box.tolist(), *face.points[:, 0].tolist(), *face.points[:, 1].tolist()]
            score = "" if face.score is None else f"{face.score:.4f}"
            rows.append([*where, face.number, score, *(f"{value:.3f}" for value in numbers)])
        self._append(rows)

    def _append(self, rows: list[list]) -> None:
        content = "".join(map(_line, rows)).encode(errors=sys.getfilesystemencodeerrors())
        end = self._file.tell()
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> InputError:
        return InputError(f"{self._path}: cannot write here ({error.strerror}): choose another --output")


def columns(scheme: Scheme) -> list[str]:
    """The columns of a face: its number, the score, the box and the points."""
    axes = [f"{axis}_{point}" for axis in "xy" for point in range(scheme.points)]
    return ["face_id", "confidence", "left", "top", "right", "bottom", *axes]


def refuse_place(paths: Sequence[Path], folder: Path, *, name: str) -> None:
    """Raise InputError, which calls the folder `name`, where `folder` holds one of `paths`: results could take the
    place of inputs, or of annotations beside them. Both count: where a link lies, and where it leads."""
    places = {parent: _is_same_folder(parent, folder) for parent in itertools.chain(*map(_parents, paths))}
    held = [path.name for path in paths if any(places[parent] for parent in _parents(path))]
    if held:
        named = ", ".join(held[:NAMED]) + (f" and {len(held) - NAMED} more" if len(held) > NAMED else "")
        raise InputError(f"{name} holds {named} itself: give a folder of its own, so that nothing is lost")


def _parents(path: Path) -> tuple[str, str]:
    return os.path.dirname(os.path.realpath(path)), os.path.realpath(path.parent)


def _is_same_folder(one: str, another: Path) -> bool:
    try:
        return os.path.samefile(one, another)
    except OSError:  # one of them is not there
        return one == os.path.realpath(another)


def _line(row: list) -> str:
    """The row with cells that hold a line's end, of any kind, in quotes."""
    box = io.StringIO(newline="")
    csv.writer(box, lineterminator="\r\n").writerow(row)
    return f"{box.getvalue()[:-2]}\n"
