"""`aflw.sqlite`, written here in the published structure."""

import collections
import contextlib
import csv
import math
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.aflw_sqlite import ROLL_PITCH_YAW, write_aflw_sqlite
from wing_jax.data.readers.aflw_sqlite import read_aflw_sqlite
from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_21
from wing_jax.types import Visibility


def refusal(*arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        read_aflw_sqlite(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "aflw.sqlite")) as database, database:
        database.execute(statement)


@pytest.mark.parametrize("inner", ["", "data"])
def test_written_files_are_read(tmp_path, inner):
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    written = write_aflw_sqlite(folder)["train"]
    before = (folder / "aflw.sqlite").read_bytes()
    read = read_aflw_sqlite(tmp_path, "train")
    assert (folder / "aflw.sqlite").read_bytes() == before
    assert len(read) == 5
    assert read.scheme is AFLW_21
    visible = np.ones((5, 21), bool)
    for i in range(5):
        visible[i, [i, i + 12]] = False
    np.testing.assert_array_equal(read.visible, visible)
    np.testing.assert_array_equal(read.points[visible], np.stack([face.points for face in written])[visible])
    np.testing.assert_array_equal(read.visibility == Visibility.VISIBLE, visible)
    np.testing.assert_array_equal(read.visibility == Visibility.SELF_OCCLUDED, ~visible)
    np.testing.assert_array_equal(read.boxes, [face.box for face in written])
    assert read.photos == tuple(f"aflw/image0000{i}" for i in (0, 0, 1, 2, 3))
    roll, pitch, yaw = (math.degrees(angle) for angle in ROLL_PITCH_YAW)
    np.testing.assert_allclose(read.angles, [(-yaw, pitch, -roll)] * 5, rtol=1e-5)
    expected = {"male": (0, 2, 4), "glasses": (1,), "occluded": (2,), "gray": (3,)}
    assert {name: tuple(np.flatnonzero(values)) for name, values in read.attributes.items()} == expected
    for i in (0, 2, 3, 4):
        assert np.abs(read.picture(i).astype(int) - written[i].image).mean() < 6


def test_the_sign_of_yaw_is_that_of_real_faces(data_root):
    """FacePose and AFLW2000-3D have the same faces: yaw has the same sign, roll the opposite one."""
    with open(data_root / "aflw_shapes" / "aflw_rect_pose.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24_384
    faces = collections.Counter(row["image"] for row in rows)
    poses = {Path(row["image"]).stem: row for row in rows if faces[row["image"]] == 1}
    products = []
    for path in (data_root / "formats" / "aflw2000_16_mat").glob("*.mat"):
        if path.stem in poses:
            pitch, yaw, roll = np.rad2deg(scipy.io.loadmat(path)["Pose_Para"][0, :3])
            row = poses[path.stem]
            angles = [float(row[f"pose{i}_deg"]) for i in range(3)]
            products.append(np.array([yaw, pitch, roll]) * angles)
    agreement = np.mean(products, 0)
    assert len(products) == 14
    assert agreement[0] > 100
    assert agreement[1] > 100
    assert agreement[2] < 0


def test_the_split_for_testing_is_refused(tmp_path):
    write_aflw_sqlite(tmp_path)
    assert "use AFLWinfo_release.mat for the papers' split" in refusal(tmp_path, "test")


FACE = "face_id = 39342"
ONE_FACE = {
    "text": (f"UPDATE FeatureCoords SET x = 'left' WHERE {FACE} AND feature_id = 1", "FeatureCoords: 'left"),
    "inf": (f"UPDATE FeatureCoords SET y = 9e999 WHERE {FACE} AND feature_id = 1", "is not finite"),
    "NULL": (f"UPDATE FeatureCoords SET y = NULL WHERE {FACE} AND feature_id = 1", "is not numbers"),
    "feature 22": (f"UPDATE FeatureCoords SET feature_id = 22 WHERE {FACE} AND feature_id = 1", "is not 1 to 21"),
    "feature x": (f"UPDATE FeatureCoords SET feature_id = 'x' WHERE {FACE} AND feature_id = 1", "is not 1 to 21"),
    "box upside down": (f"UPDATE FaceRect SET w = -3 WHERE {FACE}", "is empty: correct it"),
    "box text": (f"UPDATE FaceRect SET w = 'wide' WHERE {FACE}", "FaceRect: "),
    "pose": (f"UPDATE FacePose SET yaw = 'up' WHERE {FACE}", "FacePose: "),
    "no image": (f"UPDATE Faces SET file_id = 'image99999.jpg' WHERE {FACE}", "FaceImages has no path"),
    "absolute path": (
        f"INSERT INTO FaceImages VALUES (9, 'aflw', 'x', '/etc/x.jpg', 0, 1, 1); UPDATE Faces SET file_id = 'x' "
        f"WHERE {FACE}",
        "points outside the data folder",
    ),
    "way out": (
        f"INSERT INTO FaceImages VALUES (9, 'aflw', 'x', '..\\x.jpg', 0, 1, 1); UPDATE Faces SET file_id = 'x' "
        f"WHERE {FACE}",
        "points outside the data folder",
    ),
    "no name": (
        f"INSERT INTO FaceImages VALUES (9, 'aflw', 'x', ' ', 0, 1, 1); UPDATE Faces SET file_id = 'x' WHERE {FACE}",
        "name is missing",
    ),
}


@pytest.mark.parametrize(("statements", "expected"), ONE_FACE.values(), ids=ONE_FACE)
def test_a_fault_of_one_face_stops_or_is_gathered(tmp_path, statements, expected):
    write_aflw_sqlite(tmp_path)
    for statement in statements.split("; "):
        change(tmp_path, statement)
    message = refusal(tmp_path, "train")
    assert message.startswith(f"{tmp_path / 'aflw.sqlite'}: face 39342")
    assert expected in message
    faults = []
    assert len(read_aflw_sqlite(tmp_path, "train", faults=faults)) == 4
    assert faults == [message]


@pytest.mark.parametrize("table", ["Faces", "FaceImages", "FaceRect", "FeatureCoords", "FacePose", "FaceMetaData"])
def test_missing_tables_and_columns_are_refused(tmp_path, table):
    write_aflw_sqlite(tmp_path)
    change(tmp_path, f"ALTER TABLE {table} RENAME TO Other")
    message = refusal(tmp_path, "train", faults=[])
    assert message.startswith(f"{tmp_path / 'aflw.sqlite'}: not as published")
    assert message.endswith("copy the file again")


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "CREATE VIEW Faces AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
            "SELECT x AS face_id, 1 AS file_id FROM n",  # never ends
            "Faces is not a table",
        ),
        ("CREATE VIRTUAL TABLE Faces USING fts4(face_id, file_id)", "Faces is not a table"),
        (
            "CREATE TABLE Faces (face_id INTEGER, file_id TEXT AS (hex(zeroblob(400000000))))",
            "Faces has computed columns",
        ),
    ],
)
def test_a_database_with_computed_values_is_refused(tmp_path, statement, reason):
    write_aflw_sqlite(tmp_path)
    change(tmp_path, "ALTER TABLE Faces RENAME TO Other")
    change(tmp_path, statement)
    assert reason in refusal(tmp_path, "train")


def test_no_other_file_is_written_beside_the_database(tmp_path):
    write_aflw_sqlite(tmp_path)
    change(tmp_path, "PRAGMA journal_mode = WAL")
    before = sorted(tmp_path.rglob("*"))
    read_aflw_sqlite(tmp_path, "train")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_or_corrupted_database_is_refused(tmp_path):
    assert "pass the folder that contains it" in refusal(tmp_path, "train")
    assert not (tmp_path / "aflw.sqlite").exists()
    (tmp_path / "aflw.sqlite").write_bytes(b"")
    assert "FaceImages is not a table" in refusal(tmp_path, "train")
    (tmp_path / "aflw.sqlite").write_bytes(b"not a data base\n" * 100)
    assert "not as published" in refusal(tmp_path, "train")


def test_a_database_without_faces_is_refused(tmp_path):
    write_aflw_sqlite(tmp_path)
    change(tmp_path, "DELETE FROM FaceRect")
    assert refusal(tmp_path, "train", faults=[]).startswith(f"{tmp_path / 'aflw.sqlite'}: no face has a rectangle")


def test_faces_without_pose_or_metadata_are_read(tmp_path):
    write_aflw_sqlite(tmp_path)
    for table in ("FacePose", "FaceMetaData"):
        change(tmp_path, f"DELETE FROM {table} WHERE {FACE}")
    read = read_aflw_sqlite(tmp_path, "train")
    assert np.isnan(read.angles).all(1).tolist() == [False, True, False, False, False]
    assert not read.attributes["glasses"].any()


@pytest.mark.slow
@settings(max_examples=20)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_corrupted_database_is_read_or_refused(place, byte, cut):
    with tempfile.TemporaryDirectory() as folder:
        write_aflw_sqlite(Path(folder))
        file = Path(folder) / "aflw.sqlite"
        content = bytearray(file.read_bytes())
        position = int(place * len(content))
        content[position] = byte
        file.write_bytes(content[:position] if cut else content)
        message = ""
        try:
            read = read_aflw_sqlite(folder, "train")
        except InputError as error:
            message = str(error)
        if message:
            assert str(file) in message
            return
        assert read.points.shape == (len(read), 21, 2)
        assert np.isfinite(read.points).all()
