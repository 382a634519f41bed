"""LaPa and JD-landmark: written files are read, and each fault is reported with file and line."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.lapa import text, write_jd_landmark, write_lapa
from wing_jax.data.readers.lapa import read_jd_landmark, read_lapa
from wing_jax.errors import InputError


def refusal(root, read=read_lapa, split="train") -> str:
    with pytest.raises(InputError) as caught:
        read(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("parent", [True, False])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_written_files_are_read(tmp_path, split, parent):
    faces = write_lapa(tmp_path, parent=parent)[split]
    read = read_lapa(tmp_path, split)
    assert (read.name, read.scheme.name, read.box_convention, len(read)) == ("LaPa", "lapa106", "landmarks", len(faces))
    np.testing.assert_allclose(read.points, [face.points for face in faces], atol=1e-6)
    tight = [[*face.points.min(0), *face.points.max(0)] for face in faces]
    np.testing.assert_allclose(read.boxes, tight, atol=1e-6)
    assert read.visible.all()
    assert read.visibility is None
    for index, face in enumerate(faces):
        assert np.abs(read.picture(index).astype(int) - face.image).mean() < 3  # JPEG


def test_photos_of_300w_have_the_names_of_300w(tmp_path):
    write_lapa(tmp_path)
    assert read_lapa(tmp_path, "train").photos == ("lapa/1001", "lapa/1001", "helen/232194")
    assert read_lapa(tmp_path, "test").photos == ("lapa/1003", "lfpw/image_0007")


def test_real_faces_in_the_published_form(tmp_path, data_root):
    source = data_root / "formats" / "mmpose_tests_data" / "lapa"
    content = json.loads((source / "test_lapa.json").read_text())
    expected = np.float64([annotation["keypoints"] for annotation in content["annotations"]]).reshape(2, 106, 3)[
        ..., :2
    ]
    (tmp_path / "test" / "landmarks").mkdir(parents=True)
    (tmp_path / "test" / "images").symlink_to(source)
    for image, points in zip(content["images"], expected, strict=True):
        path = tmp_path / "test" / "landmarks" / f"{Path(image['file_name']).stem}.txt"
        path.write_text("106\n" + "".join(f"{x} {y}\n" for x, y in points))
    read = read_lapa(tmp_path, "test")
    np.testing.assert_array_equal(read.points, expected)
    x, y, width, height = np.transpose([annotation["bbox"] for annotation in content["annotations"]])
    np.testing.assert_array_equal(read.boxes, np.transpose([x, y, x + width, y + height]))
    assert read.photos == ("lapa/10773046825", "lapa/13609937564")
    assert [read.picture(i).shape for i in range(2)] == [(1494, 1424, 3), (496, 486, 3)]


FAULTS = {
    "a point less": (
        lambda good: good[: good.rstrip().rindex("\n") + 1],
        "expected 106 lines 'x y' after '106', got 105",
    ),
    "a point more": (lambda good: good + "1 2\n", "expected 106 lines 'x y' after '106', got 107"),
    "no count": (lambda good: good.removeprefix("106\n"), "got 105 after"),
    "count of 68": (lambda good: good.replace("106", "68", 1), "got 106 after '68'"),
    "empty": (lambda good: "", "the list is empty"),
    "truncated": (lambda good: good[: len(good) // 2], "expected 106 lines 'x y' after '106'"),
    "one number": (lambda good: "106\n5\n" + good.split("\n", 2)[2], ":2: '5' is not two numbers"),
    "NaN": (lambda good: "106\nnan 5\n" + good.split("\n", 2)[2], ":2: 'nan 5' is not finite"),
    "infinite": (lambda good: "106\n5 1e39\n" + good.split("\n", 2)[2], ":2: '5 1e39' is not finite"),
    "text": (lambda good: "106\nfive 5\n" + good.split("\n", 2)[2], ":2: 'five 5' is not two numbers"),
    "no text": (lambda good: b"\xfe\xfe\x00\x80", "cannot read this list"),
}


@pytest.mark.parametrize(("change", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_one_face(tmp_path, change, reason):
    write_lapa(tmp_path)
    path = tmp_path / "LaPa" / "train" / "landmarks" / "1001_1.txt"
    content = change(path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(tmp_path)
    assert message.startswith(str(path))
    assert reason in message
    faults = []
    assert len(read_lapa(tmp_path, "train", faults=faults)) == 2
    assert faults == [message]


def test_a_fault_of_the_folder(tmp_path):
    assert refusal(tmp_path).startswith(f"{tmp_path / 'train'}: no landmarks/*.txt here")
    assert refusal(tmp_path, split="private").startswith(f"{tmp_path}: LaPa has no split 'private'")
    assert refusal(tmp_path, read_jd_landmark).startswith(f"{tmp_path}: no Training_data/AFW/landmark/*.txt here")
    assert refusal(tmp_path, read_jd_landmark, "val").startswith(f"{tmp_path}: JD-landmark has no split 'val'")


def test_a_missing_picture_is_named_when_it_is_read(tmp_path):
    write_lapa(tmp_path)
    (tmp_path / "LaPa" / "train" / "images" / "1001_0.jpg").unlink()
    read = read_lapa(tmp_path, "train")
    with pytest.raises(InputError, match=r"1001_0\.jpg: cannot read this image"):
        read.picture(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\n\n \n"),
        lambda content: content.replace(b" ", b"\t "),
        lambda content: content.rstrip(),
    ],
    ids=["CRLF", "BOM", "blank lines", "tabs", "no newline at the end"],
)
def test_harmless_variants_are_read(tmp_path, change):
    write_lapa(tmp_path)
    before = read_lapa(tmp_path, "train").points
    for path in (tmp_path / "LaPa" / "train" / "landmarks").iterdir():
        path.write_bytes(change(path.read_bytes()))
    np.testing.assert_array_equal(read_lapa(tmp_path, "train").points, before)


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_jd_landmark_is_read(tmp_path, split, boxes):
    faces = write_jd_landmark(tmp_path, boxes=boxes)[split]
    read = read_jd_landmark(tmp_path, split)
    assert (read.name, read.scheme.name, len(read)) == ("JD-landmark", "lapa106", len(faces))
    np.testing.assert_allclose(read.points, [face.points for face in faces], atol=1e-6)
    assert read.box_convention == ("jd-landmark" if boxes else "landmarks")
    tight = [[*face.points.min(0), *face.points.max(0)] for face in faces]
    np.testing.assert_allclose(read.boxes, [face.box for face in faces] if boxes else tight, atol=1e-3)
    expected = {"train": ("afw/134212", "afw/134212", "ibug/image_003"), "test": ("jd/1", "jd/2")}
    assert read.photos == expected[split]
    assert read.subsets == {"train": ("AFW", "AFW", "IBUG"), "test": ("Test_data1",) * 2}[split]
    for index, face in enumerate(faces):
        assert np.abs(read.picture(index).astype(int) - face.image).mean() < 3  # JPEG


def test_corrected_landmarks_are_preferred(tmp_path):
    faces = write_jd_landmark(tmp_path)["test"]
    corrected = tmp_path / "Corrected_landmark" / "2.jpg.txt"
    corrected.parent.mkdir()
    corrected.write_text(text(faces[1].points + 3))
    expected = [faces[0].points, faces[1].points + 3]
    np.testing.assert_allclose(read_jd_landmark(tmp_path, "test").points, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1 2 3", ":1: '1 2 3' is not a box"),
        ("1 2 3 four", ":1: '1 2 3 four' is not a box"),
        ("", "the list is empty"),
        ("1 2 3 nan", "is not finite"),
        ("5 5 1 9", "the box 5 5 1 9 (x0 y0 x1 y1) is empty"),
        (None, "cannot read this list"),
    ],
)
def test_a_fault_of_one_box(tmp_path, content, reason):
    write_jd_landmark(tmp_path)
    path = tmp_path / "Test_data1" / "rect" / "1.jpg.rect"
    path.unlink() if content is None else path.write_text(content)
    message = refusal(tmp_path, read_jd_landmark, "test")
    assert message.startswith(str(tmp_path / "Test_data1"))
    assert "1.jpg" in message
    assert reason in message
    faults = []
    assert len(read_jd_landmark(tmp_path, "test", faults=faults)) == 1
    assert faults == [message]


GOOD = text(np.float32([[i, i / 2] for i in range(106)])).splitlines()
LINES = st.one_of(st.sampled_from(["nan 1", "1e999 0", "1", "", "106", "1 2\n3 4", "1,2"]), st.text(max_size=6))


@settings(max_examples=50)
@given(st.one_of(st.text(), st.lists(st.tuples(st.integers(0, 106), LINES), max_size=3)))
def test_any_text_gives_finite_points_or_an_input_error(change):
    lines = list(GOOD)
    if isinstance(change, list):
        for place, line in change:
            lines[place] = line
    content = change if isinstance(change, str) else "\n".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "val" / "landmarks" / "face.txt"
        path.parent.mkdir(parents=True)
        path.write_bytes(content.encode(errors="surrogatepass"))
        try:
            read, message = read_lapa(folder, "val"), ""
        except InputError as error:
            read, message = None, str(error)
    assert "\n" not in message
    if read is not None:
        assert read.points.shape == (1, 106, 2)
        assert read.points.dtype == np.float32
        assert np.isfinite(read.points).all()
