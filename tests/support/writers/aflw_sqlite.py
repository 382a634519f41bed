"""AFLW-21: `aflw.sqlite` and the images below `flickr/`."""

import contextlib
import sqlite3
from pathlib import Path

import cv2
import numpy as np

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import AFLW_21

TABLES = """
CREATE TABLE Databases (db_id TEXT PRIMARY KEY, path TEXT, description TEXT);
CREATE TABLE AnnotationType (annot_type_id INTEGER PRIMARY KEY, descr TEXT);
CREATE TABLE FaceImages (image_id INTEGER PRIMARY KEY, db_id TEXT, file_id TEXT, filepath TEXT, bw INTEGER,
  width INTEGER, height INTEGER);
CREATE TABLE Faces (face_id INTEGER PRIMARY KEY, file_id TEXT, db_id TEXT);
CREATE TABLE FaceRect (face_id INTEGER, x INTEGER, y INTEGER, w INTEGER, h INTEGER, annot_type_id INTEGER);
CREATE TABLE FacePose (face_id INTEGER, roll REAL, pitch REAL, yaw REAL, annot_type_id INTEGER);
CREATE TABLE FaceMetaData (face_id INTEGER, sex TEXT, occluded INTEGER, glasses INTEGER, bw INTEGER,
  annot_type_id INTEGER);
CREATE TABLE FeatureCoordTypes (feature_id INTEGER PRIMARY KEY, descr TEXT, code TEXT, x REAL, y REAL, z REAL);
CREATE TABLE FeatureCoords (face_id INTEGER, feature_id INTEGER, x REAL, y REAL);
"""
ROLL_PITCH_YAW = (0.1, 0.2, -0.3)


def write_aflw_sqlite(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write five faces, ids from 39341, two in the first image and one in each of the others, in one split.

    The boxes are integers. Face i has no features i + 1 and i + 13; the even ones are men; face 1 wears glasses,
    face 2 is occluded, face 3 gray. A sixth face has no rectangle.
    """
    faces = small_faces(AFLW_21, 5, seed=seed)
    faces = [SmallFace(face.image, face.points, np.round(face.box)) for face in faces]
    with contextlib.closing(sqlite3.connect(folder / "aflw.sqlite")) as database, database:
        database.executescript(TABLES)
        for i, face in enumerate(faces):
            _write_face(database, folder, i, face)
        database.execute("INSERT INTO Faces VALUES (39399, 'image00000.jpg', 'aflw')")
        database.execute("INSERT INTO FeatureCoords VALUES (39399, 1, 5, 5)")
    return {"train": faces}


def _write_face(database: sqlite3.Connection, folder: Path, i: int, face: SmallFace) -> None:
    image, identity = f"image{max(i - 1, 0):05}.jpg", 39341 + i
    x, y, right, bottom = (int(value) for value in face.box)
    if i != 1:
        path = folder / "flickr" / "0" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), face.image[:, :, ::-1])
        database.execute("INSERT INTO FaceImages VALUES (?, 'aflw', ?, ?, 0, 96, 80)", (i, image, f"0/{image}"))
    database.execute("INSERT INTO Faces VALUES (?, ?, 'aflw')", (identity, image))
    database.execute("INSERT INTO FaceRect VALUES (?, ?, ?, ?, ?, 4)", (identity, x, y, right - x, bottom - y))
    database.execute("INSERT INTO FacePose VALUES (?, ?, ?, ?, 5)", (identity, *ROLL_PITCH_YAW))
    metadata = (identity, "mf"[i % 2], int(i == 2), int(i == 1), int(i == 3))
    database.execute("INSERT INTO FaceMetaData VALUES (?, ?, ?, ?, ?, 3)", metadata)
    for feature, (px, py) in enumerate(face.points.astype(float), start=1):
        if feature not in (i + 1, i + 13):
            database.execute("INSERT INTO FeatureCoords VALUES (?, ?, ?, ?)", (identity, feature, px, py))
