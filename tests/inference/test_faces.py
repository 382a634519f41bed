"""The faces of an image: overlay, table, files."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from wing_jax.data.images import read_image, write_image
from wing_jax.data.readers.points_file import read_pts
from wing_jax.errors import InputError
from wing_jax.inference.drawing import PREDICTED
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.faces import Faces
from wing_jax.schemes import MTFL_5

IMAGE = np.full((80, 100, 3), 90, np.uint8)
SHAPE = np.float32([[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]])


def make_faces(count=2, **changes):
    shift = np.float32([45, 20]) * np.arange(count, dtype=np.float32)[:, None]
    points = SHAPE + shift[:, None]
    boxes = np.concatenate([points.min(1) - 5, points.max(1) + 5], axis=1)
    values = {"scores": np.float32([0.9, 0.7])[:count], "scheme": MTFL_5, "image": IMAGE}
    return Faces(**{"boxes": boxes, "points": points, **values, **changes})


def test_the_overlay_has_the_points_and_the_boxes():
    faces = make_faces()
    overlay, without = faces.draw(), faces.draw(boxes=False)
    assert overlay.shape == IMAGE.shape
    assert overlay.dtype == np.uint8
    assert (IMAGE == 90).all()  # a copy
    for x, y in faces.points.reshape(-1, 2).astype(int):
        assert np.abs(without[y, x].astype(int) - PREDICTED).max() < 60
    left, top = faces.boxes[0, :2].astype(int)
    assert np.abs(overlay[top + 15, left].astype(int) - PREDICTED).max() < 60
    np.testing.assert_array_equal(without[top + 15, left], 90)
    np.testing.assert_array_equal(make_faces(0, image=IMAGE).draw(), IMAGE)


def test_columns_are_those_of_the_csv_file(tmp_path):
    faces = make_faces(source="photos/two.jpg")
    columns = faces.to_columns()
    assert columns["face_id"].tolist() == [1, 2]
    np.testing.assert_allclose(columns["confidence"], [0.9, 0.7])
    np.testing.assert_array_equal(columns["y_3"], faces.points[:, 3, 1])
    faces.save(tmp_path / "out")
    with (tmp_path / "out" / "two.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", *columns]
    for name, values in columns.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], values, atol=1e-3)
    assert {row["image"] for row in rows} == {"two.jpg"}


def test_save_writes_the_files_of_predict(tmp_path):
    overlay = make_faces(source="photos/two.jpg").save(tmp_path / "out")
    assert overlay == tmp_path / "out" / "two.png"
    names = {path.name for path in overlay.parent.iterdir()}
    assert names == {"two.png", "two.json", "two_1.pts", "two_2.pts", "two.csv"}
    table = json.loads((tmp_path / "out" / "two.json").read_text())
    assert (table["image"], table["scheme"], len(table["faces"])) == ("two.jpg", "mtfl5", 2)
    np.testing.assert_allclose(read_pts(tmp_path / "out" / "two_2.pts"), make_faces().points[1], atol=1e-3)
    np.testing.assert_array_equal(read_image(overlay), make_faces().draw(boxes=False))
    make_faces(1).save(str(tmp_path / "one"))
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"image.png", "image.json", "image.pts", "image.csv"}


def test_save_never_overwrites_the_image(tmp_path):
    write_image(tmp_path / "photo.png", IMAGE)
    with pytest.raises(InputError, match=r"contains the input photo\.png: choose another folder"):
        make_faces(source=str(tmp_path / "photo.png")).save(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), IMAGE)
    with pytest.raises(InputError, match="folder='': pass the path of a folder to save the faces in"):
        make_faces().save("")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write here"):
        make_faces().save(tmp_path / "file")


def test_a_data_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="needs pandas: pip install pandas, or use to_columns"):
        make_faces().to_dataframe()


def test_a_data_frame_has_a_row_for_each_face():
    pandas = pytest.importorskip("pandas")
    frame = make_faces().to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(make_faces().to_columns())
    assert len(frame) == 2


def test_comparison_ignores_the_image():
    assert make_faces() == make_faces(image=IMAGE + 1)
    assert make_faces() != make_faces(1)


@pytest.mark.slow
def test_the_snippet_of_the_docs(data_root, tmp_path):
    """From a path to arrays, an overlay and files."""
    photo = sorted((data_root / "300w" / "helen" / "testset").glob("*.jpg"))[0]
    faces = FaceLandmarker.load("w300")(str(photo))
    assert faces.points.shape == (len(faces), 68, 2)
    assert faces.boxes.shape == (len(faces), 4)
    assert faces.scores.shape == (len(faces),)
    assert faces.source == str(photo)
    assert faces.draw().shape == faces.image.shape
    assert faces.save(tmp_path / "out").name == f"{photo.stem}.png"
    results = FaceLandmarker.load("w300").batch([Path(photo), faces.image])
    assert [result.source for result in results] == [str(photo), ""]
    np.testing.assert_allclose(results[1].points, faces.points, atol=5e-3)
