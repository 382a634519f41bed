"""dlib's imglab XML: written files are read, and each fault is reported with its line."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.imglab import write_imglab
from wing_jax.data.readers.imglab import read_imglab
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68, MTFL_5

GOOD = """<?xml version='1.0' encoding='ISO-8859-1'?>
<dataset>
<images>
<image file='a.png'>
<box top='2' left='1' width='10' height='20'>
<part name='0' x='3' y='4'/>
<part name='1' x='5' y='6.5'/>
</box>
</image>
<image file='b.png'>
<box top='3' left='2' width='10' height='20'>
<part name='0' x='7' y='8'/>
</box>
</image>
</images>
</dataset>
"""


@pytest.mark.parametrize("split", ["train", "test"])
def test_written_files_are_read(tmp_path, split):
    faces = write_imglab(tmp_path)[split]
    read = read_imglab(tmp_path / f"{split}.xml", scheme=IBUG_68)
    assert (read.name, read.box_convention, len(read)) == (split, "imglab", len(faces))
    np.testing.assert_array_equal(read.points, [face.points for face in faces])
    np.testing.assert_array_equal(read.boxes, [face.box for face in faces])
    assert read.visible.all()
    assert read.visibility is None
    np.testing.assert_array_equal(read.attributes["occluded"], np.arange(len(faces)) == 1)
    assert read.photos == tuple(f"pictures/{split}_{i}.png" for i in range(len(faces)))
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


@pytest.mark.parametrize(("file", "count", "photos"), [("testing", 25, 5), ("training", 18, 4)])
def test_files_of_dlib(data_root, file, count, photos):
    folder = data_root / "formats" / "dlib_examples_faces"
    read = read_imglab(folder / f"{file}_with_face_landmarks.xml", scheme=IBUG_68)
    assert (len(read), len(set(read.photos))) == (count, photos)
    assert read.visible.all()
    assert read.picture(count - 1).ndim == 3
    with pytest.raises(InputError, match=r":8: this box has no part: annotate its points, or set ignore='1'"):
        read_imglab(folder / f"{file}.xml", scheme=IBUG_68)


def test_the_first_numbers_of_a_real_file(data_root):
    folder = data_root / "formats" / "dlib_examples_faces"
    read = read_imglab(folder / "training_with_face_landmarks.xml", scheme=IBUG_68)
    np.testing.assert_array_equal(read.boxes[0], [194, 90, 194 + 36, 90 + 36])
    np.testing.assert_array_equal(read.points[0, :2], [[201, 107], [201, 110]])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "faces.xml"


def test_parts_that_are_missing_have_no_position(file):
    file.write_text(GOOD)
    read = read_imglab(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible, [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(read.points[0, :2], [[3, 4], [5, 6.5]])
    np.testing.assert_array_equal(read.boxes, [[1, 2, 10, 21], [2, 3, 11, 22]])


def test_part_names_of_the_scheme_are_read(file):
    file.write_text(GOOD.replace("name='1'", "name='nose_tip'").replace("name='0'", "name='Right eye'"))
    read = read_imglab(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.points[0, [1, 2]], [[3, 4], [5, 6.5]])
    np.testing.assert_array_equal(np.flatnonzero(read.visible[0]), [1, 2])


@pytest.mark.parametrize("names", [("nose", "mouth_left"), ("NoseTip", "leftmouth"), ("nose-tip", "left lip corner")])
def test_other_spellings_of_part_names_are_read(file, names):
    file.write_text(GOOD.replace("name='0'", f"name='{names[0]}'").replace("name='1'", f"name='{names[1]}'"))
    np.testing.assert_array_equal(read_imglab(file, scheme=MTFL_5).points[0, [2, 3]], [[3, 4], [5, 6.5]])


def test_parts_named_by_the_persons_left_are_refused(file):
    content = GOOD.replace("name='0'", "name='right_eye'").replace("name='1'", "name='left_eye'")
    assert "in 1 of 1 faces 'left eye' is to the right of 'right eye'" in refusal(file, content)


@pytest.mark.parametrize("place", ["x='-1' y='-1'", "x='' y=''", "x='nan' y='NaN'"])
def test_parts_with_missing_coordinates_have_no_position(file, place):
    file.write_text(GOOD.replace("x='5' y='6.5'", place).replace("x='7'", "x='-1'"))
    read = read_imglab(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible, [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(read.points[1, 0], [-1, 8])


def test_pictures_in_other_folders_are_found(tmp_path):
    """imglab writes names relative to the file; the folder may also be passed."""
    (tmp_path / "images").mkdir()
    (tmp_path / "xml").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.png").write_bytes(b"")
    file = tmp_path / "xml" / "faces.xml"
    for folder, images in (("../images/", ""), ("images/", ""), ("/home/me/", "images"), ("D:\\me\\", "images")):
        file.write_text(GOOD.replace("file='", f"file='{folder}"))
        read = read_imglab(file, scheme=MTFL_5, images=images and str(tmp_path / images))
        assert read.pictures == (tmp_path / "images" / "a.png", tmp_path / "images" / "b.png")
    file.write_text(GOOD.replace("a.png", "a_png.rf.0a1b2c3d.png").replace("b.png", "a_png.rf.99999999.png"))
    assert read_imglab(file, scheme=MTFL_5).photos == ("a.png", "a.png")


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\n\n").encode(),
        GOOD.replace("a.png", ".\\a.png").encode(),
        GOOD.replace("<part", "<label>face</label><part").encode(),
        GOOD.replace("ISO-8859-1", "UTF-16").encode("utf-16"),
        GOOD.replace("<box", "<box top='0' left='0' width='9' height='9' ignore='1'/>\n<box", 1).encode(),
        GOOD.replace("<image ", "<image file='empty.png'/><image ", 1).encode(),
    ],
    ids=["CRLF", "BOM", "blank lines", "backslash", "label", "UTF-16", "ignored box", "no box"],
)
def test_harmless_variants_are_read(file, content):
    file.write_bytes(content)
    read = read_imglab(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.points[:, 0], [[3, 4], [7, 8]])
    assert read.photos == ("a.png", "b.png")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_file_names_are_utf8_if_valid_else_as_declared(file, encoding):
    file.write_bytes(GOOD.replace("a.png", "Jos\u00e9.png").encode(encoding))
    assert read_imglab(file, scheme=MTFL_5).photos[0] == "Jos\u00e9.png"


def refusal(file: Path, content: str | bytes, **keywords) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_imglab(file, scheme=MTFL_5, **keywords)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(str(file))


BROKEN = {  # replaced text in the first box, its replacement, and the message
    "text": ("y='6.5'", "y='six'", ":7: '5 six' is not numbers x, y"),
    "NaN": ("y='6.5'", "y='nan'", ":7: '5 nan' is not finite"),
    "infinite": ("x='5'", "x='inf'", ":7: 'inf 6.5' is not finite"),
    "no y": (" y='6.5'", "", ":7: y='...' is missing"),
    "twice": ("name='1'", "name='00'", ":7: part '00' is in this box twice"),
    "beyond": ("name='1'", "name='5'", ":7: part '5' is not a point of mtfl5: use 0 to 4"),
    "unknown": ("name='1'", "name='ear'", ":7: part 'ear' is not a point of mtfl5"),
    "negative": ("name='1'", "name='-1'", ":7: part '-1' is not a point"),
    "no name": ("name='1' ", "", ":7: part '' is not a point"),
    "huge name": ("name='1'", f"name='{'9' * 6000}'", ":7: part '999"),
    "box upside down": ("width='10'", "width='-4'", ":5: the box 1 2 -4 21 (x0 y0 x1 y1) is empty"),
    "box of one column": ("width='10'", "width='1'", ":5: the box 1 2 1 21 (x0 y0 x1 y1) is empty"),
    "box too large": ("left='1' width='10'", "left='3e38' width='3e38'", ":5: the box 3e+38 2 inf 21"),
    "no width": ("width='10'", "", ":5: width='...' is missing"),
    "ignore": ("width='10'", "width='10' ignore='perhaps'", ":5: ignore='perhaps' is not '0' or '1'"),
    "absolute": ("a.png", "/a.png", ":5: '/a.png' points outside the data folder"),
    "up": ("a.png", "b/../../a.png", ":5: 'b/../../a.png' points outside"),
    "empty name": ("a.png", " ", ":5: a picture's name is missing"),
    "no file": ("<image file='a.png'>", "<image>", ":5: a picture's name is missing"),
    "no part": ("<part name='0' x='3' y='4'/>\n<part name='1' x='5' y='6.5'/>", "", ":5: this box has no part"),
}


@pytest.mark.parametrize(("old", "new", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_box_is_refused_by_its_line_or_listed(file, old, new, expected):
    content = GOOD.replace(old, new, 1)
    assert content != GOOD
    message = refusal(file, content)
    assert message.startswith(expected)
    faults: list[str] = []
    assert read_imglab(file, scheme=MTFL_5, faults=faults).photos == ("b.png",)
    assert faults == [f"{file}{message}"]


BOMB = "<!DOCTYPE d [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]>"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ":1: not XML, or truncated (no element found)"),
        ("a photo", ":1: not XML"),
        (GOOD[:200], "not XML, or truncated"),
        (GOOD.replace("</box>", "", 1), ":9: not XML"),
        (GOOD.replace("a.png", "Tom & Jerry.png"), ":4: not XML"),
        (
            GOOD.replace("dataset>", "svg>"),
            ":2: expected <dataset> of an imglab file, got <svg>: export COCO keypoints",
        ),
        ("<dataset><images><image file='a.png'/></images></dataset>", "no <box> in an <image>"),
        (GOOD.replace("height='20'", "height='20' ignore='1'"), "all 2 boxes have ignore='1'"),
        (GOOD.replace("<dataset>", f"{BOMB}<dataset>").replace("a.png", "&b;"), ":2: a DOCTYPE or entity"),
        (GOOD.replace("<dataset>", "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><dataset>"), ":2: a DOCTYPE or entity"),
        (GOOD.replace("ISO-8859-1", "klingon").encode() + b"\xff", "cannot read this XML"),
    ],
)
def test_a_file_of_another_kind_is_refused(file, content, expected):
    for keywords in ({}, {"faults": []}):
        assert expected in refusal(file, content, **keywords)


def test_unreadable_files_are_refused(file, tmp_path):
    for path in (tmp_path / "missing.xml", tmp_path):
        with pytest.raises(InputError, match=f"{re.escape(str(path))}: cannot read this file"):
            read_imglab(path, scheme=MTFL_5)
    file.write_text(GOOD)
    read = read_imglab(file, scheme=MTFL_5)
    with pytest.raises(InputError, match=r"b\.png: cannot read this image"):
        read.picture(1)


PIECES = st.sampled_from([*GOOD.splitlines(keepends=True), BOMB, "&a;", "<box/>", "<part name='9' x='nan'/>", "<!--"])
MUTATED = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=9) | PIECES).map(
    lambda at: GOOD[: at[0]] + at[2] + GOOD[at[0] + at[1] :]
)
NUMBERS = st.tuples(st.sampled_from(re.findall(r"'([\d.]+)'", GOOD)), st.floats().map(str) | st.text(max_size=4)).map(
    lambda pair: GOOD.replace(f"'{pair[0]}'", f"'{pair[1]}'")
)


@pytest.mark.slow
@settings(max_examples=100)
@given(text=st.one_of(st.text(), st.lists(PIECES, max_size=9).map("".join), MUTATED, NUMBERS))
def test_any_text_gives_finite_points_or_an_input_error(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.xml"
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            read = read_imglab(path, scheme=MTFL_5)
        except InputError:
            return
    assert read.points.shape[1:] == (5, 2)
    assert read.points.dtype == np.float32
    assert np.isfinite(read.points).all()
    assert np.isfinite(read.boxes).all()
