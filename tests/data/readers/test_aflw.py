"""The readers of AFLW, on a list written here in the published format and on the published head shapes."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.aflw import write_aflw
from wing_jax.data.readers.aflw import read_aflw
from wing_jax.data.readers.aflw_shapes import read_aflw_shapes
from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_19
from wing_jax.types import Visibility

LIST = "AFLWinfo_release.mat"


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("split", "numbers"), [("train", (2, 0, 4)), ("test", (1, 3))])
def test_written_files_are_read(tmp_path, split, numbers):
    written = write_aflw(tmp_path)[split]
    read = read_aflw(tmp_path, split, training_faces=3)
    assert read.scheme is AFLW_19
    assert [path.relative_to(tmp_path).as_posix() for path in read.pictures] == [
        f"flickr/{i % 2}/image{i:05}.jpg" for i in numbers
    ]
    np.testing.assert_array_equal(read.points, [face.points for face in written])
    np.testing.assert_array_equal(read.boxes, [face.box for face in written])
    assert read.visible.all()
    assert read.photos == tuple(f"aflw/image{i:05}" for i in numbers)
    hidden = np.zeros((len(numbers), 19), bool)
    hidden[[i in (0, 2) for i in numbers], 4] = True
    np.testing.assert_array_equal(read.visibility == Visibility.OCCLUDED, hidden)
    np.testing.assert_array_equal(read.visibility == Visibility.VISIBLE, ~hidden)
    for i, face in enumerate(written):
        assert np.abs(read.picture(i).astype(int) - face.image).mean() < 6


def test_frontal_faces_are_visible_and_in_their_box(tmp_path):
    points = np.full((5, 38), 50.0)
    points[1, 3] = 120  # outside its box
    visible = np.ones((5, 19))
    visible[2, 4] = 0
    write_aflw(
        tmp_path,
        changes={
            "data": points,
            "mask_new": visible,
            "bbox": np.array([[10.0, 90, 11, 91]] * 5),
            "ra": np.array([[5, 1, 2, 3, 4]]),
        },
    )
    train, test = (read_aflw(tmp_path, split, training_faces=4) for split in ("train", "test"))
    assert train.subsets == ("frontal", "frontal", "not frontal", "not frontal")
    np.testing.assert_array_equal(train.attributes["frontal"], [True, True, False, False])
    assert test.subsets == ("frontal",)
    np.testing.assert_array_equal(train.boxes[0], [10, 11, 90, 91])


def test_images_may_be_beside_the_list(tmp_path):
    write_aflw(tmp_path)
    (tmp_path / "flickr").rename(tmp_path / "elsewhere")
    assert read_aflw(tmp_path, "train").pictures[0].parent == tmp_path / "0"


@pytest.mark.parametrize(
    "changes",
    [
        {"data": None},
        {"data": np.zeros((5, 37))},
        {"data": np.full((5, 38), 1j)},
        {"data": np.full((5, 38), "a")},
        {"bbox": np.zeros((5, 3))},
        {"nameList": np.zeros((5, 1))},
        {"nameList": np.zeros((0, 1))},
        {"ra": np.array([[7, 1]])},
        {"ra": np.array([[0, 1]])},
        {"ra": np.array([[np.nan, 1]])},
        {"mask_new": np.ones((4, 19))},
    ],
    ids=str,
)
@pytest.mark.parametrize("faults", [None, []], ids=["stop", "gather"])
def test_aflw_refuses_what_is_not_as_published(tmp_path, changes, faults):
    write_aflw(tmp_path, changes=changes)
    message = refusal(read_aflw, tmp_path, "train", faults=faults)
    assert message.startswith(f"{tmp_path / LIST}: ")
    assert message.endswith("copy the file again")


def names(first: str) -> np.ndarray:
    cells = np.empty((5, 1), object)
    cells[:, 0] = [first, *(f"0/image{i:05}.jpg" for i in range(1, 5))]
    return cells


def first(shape: tuple[int, int], *values: float) -> np.ndarray:
    rows = np.tile(np.array([[10.0, 90, 11, 91]]), (5, 1)) if shape[1] == 4 else np.full(shape, 50.0)
    rows[0, : len(values)] = values
    return rows


ONE_FACE = {
    "NaN": ({"data": first((5, 38), np.nan)}, "not finite"),
    "inf": ({"data": first((5, 38), np.inf)}, "not finite"),
    "too large for float32": ({"data": first((5, 38), 1e300)}, "not finite"),
    "NaN box": ({"bbox": first((5, 4), np.nan)}, "not finite"),
    "box upside down": ({"bbox": first((5, 4), 90, 10)}, "is empty: correct it"),
    "absolute path": ({"nameList": names("/etc/passwd.jpg")}, "points outside the data folder"),
    "drive": ({"nameList": names("C:\\photo.jpg")}, "points outside the data folder"),
    "way out": ({"nameList": names("..\\0/image.jpg")}, "points outside the data folder"),
    "no name": ({"nameList": names("")}, "name is missing"),
}


@pytest.mark.parametrize(("changes", "expected"), ONE_FACE.values(), ids=ONE_FACE)
def test_a_fault_of_one_face_stops_or_is_gathered(tmp_path, changes, expected):
    write_aflw(tmp_path, changes=changes)
    message = refusal(read_aflw, tmp_path, "train", training_faces=5)
    assert message.startswith(f"{tmp_path / LIST}: face 1")
    assert expected in message
    faults = []
    read = read_aflw(tmp_path, "train", training_faces=5, faults=faults)
    assert faults == [message]
    assert read.photos == tuple(f"aflw/image{i:05}" for i in (2, 4, 1, 3))


def test_an_empty_split_is_refused(tmp_path):
    write_aflw(tmp_path)
    message = refusal(read_aflw, tmp_path, "test")
    assert message.startswith(f"{tmp_path / LIST}: no face for 'test' among its 5 faces")


def test_backslashes_are_slashes_and_a_missing_picture_is_named_when_read(tmp_path):
    write_aflw(tmp_path, changes={"nameList": names("7\\image00070.jpg"), "ra": np.array([[1]])})
    read = read_aflw(tmp_path, "train")
    picture = tmp_path / "flickr" / "7" / "image00070.jpg"
    assert read.pictures == (picture,)
    assert str(picture) in refusal(read.picture, 0)


@pytest.mark.parametrize("size", [0, 50, 200, 700])
def test_aflw_refuses_a_truncated_or_missing_list(tmp_path, size):
    assert "pass the folder that contains it" in refusal(read_aflw, tmp_path, "train")
    write_aflw(tmp_path)
    file = tmp_path / LIST
    file.write_bytes(file.read_bytes()[:size])
    assert refusal(read_aflw, tmp_path, "train").startswith(f"{file}: ")


@settings(max_examples=20)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_list_is_read_or_refused(place, byte, cut):
    with tempfile.TemporaryDirectory() as folder:
        write_aflw(Path(folder))
        content = bytearray((Path(folder) / LIST).read_bytes())
        position = int(place * len(content))
        content[position] = byte
        (Path(folder) / LIST).write_bytes(content[:position] if cut else content)
        message = ""
        try:
            read = read_aflw(folder, "train", training_faces=3)
        except InputError as error:
            message = str(error)
        if message:
            assert str(Path(folder) / LIST) in message
            return
        assert read.points.shape == (len(read), 19, 2)
        assert np.isfinite(read.points).all()


def test_aflw_shapes_as_published(data_root):
    points, visible, scheme, yaw = read_aflw_shapes(data_root / "aflw_shapes")
    assert len(points) == len(visible) == len(yaw) > 20_000
    assert visible.sum(1).min() >= 3
    visible = visible[:, [scheme.left_outer, scheme.right_outer]]
    assert yaw[visible[:, 0] & ~visible[:, 1]].mean() > 20  # the nose to image right hides the eye at image right
    assert yaw[visible[:, 1] & ~visible[:, 0]].mean() < -20


def test_aflw_shapes_refuses_missing_empty_and_other_files(tmp_path):
    assert "pass their folder" in refusal(read_aflw_shapes, tmp_path)
    np.save(tmp_path / "AFLW_GT_pts21.npy", np.zeros((4, 21, 2), np.float32))
    np.save(tmp_path / "AFLW_GT_crop_yaws.npy", np.zeros(4, np.float32))
    assert "copy the published files again" in refusal(read_aflw_shapes, tmp_path)
    (tmp_path / "AFLW_GT_pts21.npy").write_bytes(b"")
    assert "cannot read" in refusal(read_aflw_shapes, tmp_path)
