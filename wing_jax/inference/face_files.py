"""Write detected faces to disk: overlays, `.pts`, JSON and CSV."""

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
from wing_jax.inference.drawing import INVALID, PREDICTED, draw_points
from wing_jax.runtime.files import write_atomic
from wing_jax.schemes import Scheme
from wing_jax.types import Image
from wing_jax.values import Value

COORDINATES = "x, y in pixels, 0-based pixel centers"
FAINTEST = 0.25  # opacity of the least sure landmarks in overlays
MAX_LISTED = 4  # files that a message lists; the others are counted


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceRecord(Value):
    """One face to write; coordinates in pixels of its picture."""

    number: int  # from 1; in a video the number of the track
    box: Float[np.ndarray, "4"]
    points: Float[np.ndarray, "points 2"]
    score: float | None = None  # the detector's score; None: the box was passed by the user
    # As in `wing_jax.inference.prediction.Prediction`; None: the model has no calibration.
    spread: Float[np.ndarray, "points"] | None = None  # pixels
    confidence: Float[np.ndarray, "points"] | None = None
    valid: bool | None = None

    def table(self) -> dict:
        """Convert to the form of the JSON file."""
        values = {
            "box": [float(value) for value in self.box],
            "score": None if self.score is None else round(self.score, 4),
            "valid": self.valid,
            "points": self.points.tolist(),
            "spread": None if self.spread is None else np.round(self.spread, 3).tolist(),
            "confidence": None if self.confidence is None else np.round(self.confidence, 4).tolist(),
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def mean_confidence(self) -> float | None:
        """The mean confidence of the landmarks; without a calibration the detector's score."""
        return self.score if self.confidence is None else float(self.confidence.mean())


def draw_overlay(image: Image, faces: list[FaceRecord], scheme: Scheme) -> Image:
    """Return a copy of `image` with the faces' landmarks: fainter where they are less sure, gray if not valid."""
    for face in faces:
        extent = np.ptp(face.points, axis=0).max()  # larger faces get larger dots, more points smaller ones
        radius = float(np.clip(extent / (15 * len(face.points) ** 0.5), 1.2, 8))
        color = INVALID if face.valid is False else PREDICTED
        strength = None if face.confidence is None else np.maximum(face.confidence, FAINTEST)
        image = draw_points(image, face.points, color=color, lines=scheme.lines, radius=radius, strength=strength)
    return image


def write_photo(stem: Path, image: Image, faces: list[FaceRecord], scheme: Scheme, *, name: str) -> Path:
    """Write STEM.png, STEM.json and one `.pts` file per face (STEM.pts, or STEM_1.pts ... for several faces).

    Each file is written atomically. `name` is the name of the photo in the JSON file. Returns the path of the overlay.

    Raises:
      InputError: a file cannot be written; its cause is the system's error.
    """
    overlay = stem.with_name(f"{stem.name}.png")
    write_overlay(overlay, draw_overlay(image, faces, scheme))
    tables = [face.table() for face in faces]
    content = {"image": name, "scheme": scheme.name, "coordinates": COORDINATES, "faces": tables}
    path = stem.with_name(f"{stem.name}.json")
    try:
        write_atomic(path, json.dumps(content, indent=1) + "\n")
        for face in faces:
            path = stem.with_name(f"{stem.name}.pts" if len(faces) == 1 else f"{stem.name}_{face.number}.pts")
            write_pts(path, face.points)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}): free disk space, or choose another folder"
        ) from error
    return overlay


class FaceTable:
    """A CSV file with one row per face, written row by row.

    The columns are the picture's name (or the frame and its time), the face's number, its confidence, whether it is
    valid, the box, then x_0, x_1 ... and y_0, y_1 ..., as in the files of OpenFace. The file is UTF-8; names with other
    bytes are written unchanged. It never contains an incomplete row.

    Raises:
      InputError: the file cannot be written; its cause is the system's error.
    """

    def __init__(self, path: Path, scheme: Scheme, *, of: tuple[str, ...]):
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._write_error(error) from error
        try:
            self._append([[*of, *columns(scheme)]])
        except InputError:
            self._file.close()
            raise

    def __enter__(self) -> "FaceTable":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, source: tuple[str | int | float, ...], faces: list[FaceRecord]) -> None:
        """Append the faces of one picture or frame; `source` has the values of the first columns."""
        rows = []
        for face in faces:
            numbers = [*face.box.tolist(), *face.points[:, 0].tolist(), *face.points[:, 1].tolist()]
            confidence = "" if face.mean_confidence is None else f"{face.mean_confidence:.4f}"
            success = int(face.valid is not False)
            rows.append([*source, face.number, confidence, success, *(f"{value:.3f}" for value in numbers)])
        self._append(rows)

    def _append(self, rows: list[list]) -> None:
        content = "".join(map(_format_row, rows)).encode(errors=sys.getfilesystemencodeerrors())
        end = self._file.tell()
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> InputError:
        return InputError(f"{self._path}: cannot write here ({error.strerror}): choose another --output")


def columns(scheme: Scheme) -> list[str]:
    """Return the column names of a face: its number, the confidence, whether it is valid, the box and the points."""
    axes = [f"{axis}_{point}" for axis in "xy" for point in range(scheme.points)]
    return ["face_id", "confidence", "success", "left", "top", "right", "bottom", *axes]


def check_output_folder(paths: Sequence[Path], folder: Path, *, name: str) -> None:
    """Raise InputError if `folder` contains one of `paths`: results could overwrite inputs or their annotations.

    `name` is the name of the folder in the message. For a symbolic link both the folder of the link and the folder of
    its target count.
    """
    is_output = {parent: _is_same_folder(parent, folder) for parent in itertools.chain(*map(_parents, paths))}
    inputs = [path.name for path in paths if any(is_output[parent] for parent in _parents(path))]
    if inputs:
        rest = f" and {len(inputs) - MAX_LISTED} more" if len(inputs) > MAX_LISTED else ""
        raise InputError(
            f"{name} contains the input {', '.join(inputs[:MAX_LISTED])}{rest}: choose another folder, so that no file "
            "is overwritten"
        )


def _parents(path: Path) -> tuple[str, str]:
    return os.path.dirname(os.path.realpath(path)), os.path.realpath(path.parent)


def _is_same_folder(parent: str, folder: Path) -> bool:
    try:
        return os.path.samefile(parent, folder)
    except OSError:  # one of them does not exist
        return parent == os.path.realpath(folder)


def _format_row(row: list) -> str:
    """Format a CSV row; cells that contain a line break, of any kind, are quoted."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerow(row)
    return f"{buffer.getvalue()[:-2]}\n"
