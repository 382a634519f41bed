"""AFLW, 21 points: `aflw.sqlite`, as TU Graz publishes it.

Köstinger et al., "Annotated Facial Landmarks in the Wild", 2011; on request from
https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw/. Expected: `aflw.sqlite` and the images
under `flickr/` or beside it, as `0/image00002.jpg`; or all of that in `data/`, as in the archive. These tables and
columns are read: Faces (face_id, file_id), FaceImages (file_id, filepath, and if they exist width, which some files
spell widht, and height of the picture), FaceRect (face_id, x, y, w, h), FeatureCoords (face_id, feature_id 1 to 21, x,
y), FacePose (face_id, roll, pitch, yaw in radians) and FaceMetaData (face_id, sex "m" or "f", occluded, glasses, bw).
The list follows public readers such as https://github.com/mpatacchiola/deepgaze.

FeatureCoords contains only the visible points. For the others the database gives neither a position nor a reason: they
are NaN and SELF_OCCLUDED, because the pose of the head is the usual reason. The tools of TU Graz use OpenCV, so points
and rectangles are taken as 0-based. Signs of FacePose, measured against AFLW2000-3D on the same faces: with yaw > 0 the
nose points to image left, and roll > 0 turns counterclockwise, so both change their sign; with pitch > 0 it points up.
"""

import contextlib
import functools
import math
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import PictureFinder, finder_below
from wing_jax.data.picture_sizes import parse_size
from wing_jax.data.readers.aflw import aflw_photo, image_folder
from wing_jax.data.readers.listing import numbers
from wing_jax.data.readers.mat_file import not_as_published
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.schemes import AFLW_21
from wing_jax.text import quoted
from wing_jax.types import Visibility

DATABASE = "aflw.sqlite"
FLAGS = ("occluded", "glasses", "gray")  # columns occluded, glasses, bw
WIDTHS = ("width", "widht")
TABLES = {
    "FaceRect": "face_id, x, y, w, h",
    "FeatureCoords": "face_id, feature_id, x, y",
    "FacePose": "face_id, yaw, pitch, roll",
    "FaceMetaData": "face_id, sex, occluded, glasses, bw",
}
Rows = Mapping[Any, Sequence[Sequence[Any]]]


@register_reader(
    name="aflw_sqlite",
    title="AFLW, 21 points",
    splits=("train",),
    folder="aflw",
    patterns=("aflw.sqlite", "data/aflw.sqlite"),
)
def read_aflw_sqlite(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read all faces of `aflw.sqlite` below `root` that have a rectangle and a point, as the split "train".

    There is no "test": the split of the papers is that of `AFLWinfo_release.mat`, see `aflw.read_aflw`. If a table has
    several rows of one face, the first is used. Attributes: "male", "occluded", "glasses", "gray". `faults` as in
    `face_set.build_face_set`.

    Raises:
      InputError: the split has another name, or the database is missing or not as published.
    """
    folder = Path(root) / "data" if (Path(root) / "data" / DATABASE).is_file() else Path(root)
    path = folder / DATABASE
    if split != "train":
        raise InputError(
            f"{path}: no split {quoted(split)}, only 'train' (all faces): use AFLWinfo_release.mat for the "
            "papers' split"
        )
    if not path.is_file():
        raise NoFacesError(f"{path}: no such file: pass the folder that contains it")
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"  # opens no other file and takes no locks
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            for table in ("FaceImages", "Faces", *TABLES):
                _reject_computed_values(database, table)
            sizes = _read_sizes(database)
            names = dict(database.execute("SELECT file_id, filepath FROM FaceImages ORDER BY rowid DESC"))
            faces = database.execute("SELECT face_id, file_id FROM Faces ORDER BY face_id").fetchall()
            tables = {table: _read_rows(database, table) for table in TABLES}
    except Exception as error:  # sqlite3 raises its own errors and those of text and numbers
        raise not_as_published(path, error) from error
    finder = finder_below(image_folder(folder))
    face_readers = [
        functools.partial(_face, f"{path}: face {face}", finder, names.get(file), face, tables, sizes.get(file))
        for face, file in faces
        if face in tables["FaceRect"] and face in tables["FeatureCoords"]
    ]
    if not face_readers:
        raise InputError(f"{path}: no face has a rectangle and a point: copy the file again")
    return build_face_set(face_readers, name="AFLW-21", scheme=AFLW_21, box_convention="aflw", faults=faults)


def _reject_computed_values(database: sqlite3.Connection, table: str) -> None:
    """Reject views, virtual tables and generated columns: they run code of the file, for an unlimited time."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND name = ? COLLATE NOCASE"
    if database.execute(query, (table,)).fetchone() is None:
        raise ValueError(f"{table} is not a table")
    if any(hidden for *_, hidden in database.execute(f"PRAGMA table_xinfo({table})")):
        raise ValueError(f"{table} has computed columns")


def _read_rows(database: sqlite3.Connection, table: str) -> Rows:
    rows: dict[Any, list[Sequence[Any]]] = {}
    for face, *values in database.execute(f"SELECT {TABLES[table]} FROM {table} ORDER BY rowid"):
        rows.setdefault(face, []).append(values)
    return rows


def _read_sizes(database: sqlite3.Connection) -> dict[Any, tuple[int, int] | None]:
    """Read the picture sizes by file id; empty if the table has no columns for them."""
    columns = {name.lower() for _, name, *_ in database.execute("PRAGMA table_xinfo(FaceImages)")}
    width = next((name for name in WIDTHS if name in columns), None)
    if width is None or "height" not in columns:
        return {}
    rows = database.execute(f"SELECT file_id, {width}, height FROM FaceImages ORDER BY rowid DESC")
    return {file: parse_size(*size) for file, *size in rows}


def _face(
    location: str,
    finder: PictureFinder,
    name: Any,
    face: Any,
    tables: Mapping[str, Rows],
    size: tuple[int, int] | None,
) -> Face:
    if not isinstance(name, str):
        raise InputError(f"{location}: FaceImages has no path for its picture: correct or remove the face")
    picture, photo = finder.find(name, location=location)
    left, top, width, height = _numbers(tables["FaceRect"][face][0], location=f"{location}: FaceRect")
    points = _points(tables["FeatureCoords"][face], location=f"{location}: FeatureCoords")
    visible = np.isfinite(points).all(-1)
    return Face(
        location=location,
        picture=picture,
        points=points,
        visibility=np.where(visible, Visibility.VISIBLE, Visibility.SELF_OCCLUDED).astype(np.int8),
        box=np.array([left, top, left + width, top + height], np.float32),
        photo=aflw_photo(Path(photo).stem),
        subset="aflw",
        attributes=_attributes(*tables["FaceMetaData"].get(face, [[None] * 4])[0]),
        angles=_angles(tables["FacePose"].get(face, []), location=f"{location}: FacePose"),
        picture_size=size,
    )


def _points(rows: Sequence[Sequence[Any]], *, location: str) -> Float[np.ndarray, "21 2"]:
    points = np.full((AFLW_21.points, 2), np.nan, np.float32)
    for feature, *position in rows:
        if feature not in range(1, AFLW_21.points + 1):
            raise InputError(
                f"{location}: feature_id {quoted(feature)} is not 1 to {AFLW_21.points}: copy the file again"
            )
        if np.isnan(points[feature - 1]).all():
            points[feature - 1] = _numbers(position, location=location)
    return points


def _attributes(sex: Any, *flags: Any) -> dict[str, bool]:
    attributes = {name: bool(flag) for name, flag in zip(FLAGS, flags, strict=True) if flag in (0, 1)}
    return attributes | ({"male": sex == "m"} if sex in ("m", "f") else {})


def _angles(rows: Sequence[Sequence[Any]], *, location: str) -> tuple[float, float, float] | None:
    if not rows:
        return None
    yaw, pitch, roll = (math.degrees(angle) for angle in _numbers(rows[0], location=location))
    return -yaw, pitch, -roll


def _numbers(values: Sequence[Any], *, location: str) -> Float[np.ndarray, "values"]:
    return numbers([str(value) for value in values], location=location, expected="numbers")
