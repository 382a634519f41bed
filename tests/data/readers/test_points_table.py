"""Tables of points: each style of columns is read, and each fault is reported with its line."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.points_table import write_points_table
from wing_jax.data.readers.points_table import read_points_csv
from wing_jax.errors import InputError
from wing_jax.inference.face_files import FaceRecord, FaceTable
from wing_jax.schemes import IBUG_68, MTFL_5, WFLW_98

HEADER = "image,x0,y0,x1,y1,x2,y2,x3,y3,x4,y4"
ROW = "a.png,1,2,3.5,4.25,-5,6e1,7,8,9,10"
OTHER = "b.png,2,2,3.5,4.25,-5,6e1,7,8,9,10"
GOOD = f"{HEADER}\n{ROW}\n{OTHER}\n"
POINTS = np.float32([[1, 2], [3.5, 4.25], [-5, 60], [7, 8], [9, 10]])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("style", ["numbers", "names", "hrnet"])
def test_written_files_are_read(tmp_path, style, delimiter, split):
    faces = write_points_table(tmp_path, style=style, delimiter=delimiter)[split]
    read = read_points_csv(tmp_path / f"{split}.csv", scheme=MTFL_5)
    has_all_columns = style == "numbers"
    assert (read.name, read.box_convention, len(read)) == (split, "csv" if has_all_columns else "landmarks", len(faces))
    np.testing.assert_array_equal(read.points, [face.points for face in faces])
    tight = [[*face.points.min(0), *face.points.max(0)] for face in faces]
    np.testing.assert_array_equal(read.boxes, [face.box for face in faces] if has_all_columns else tight)
    assert read.visible.all()
    if has_all_columns:
        np.testing.assert_array_equal(read.visibility, [[2, 1, 1, 1, 1]] * len(faces))
    else:
        assert read.visibility is None
    names = [f"pictures/{split}_{i}.png" for i in range(len(faces))]
    assert list(read.photos) == ([f"photo {i}" for i in range(len(faces))] if has_all_columns else names)
    assert set(read.subsets) == {"indoor" if has_all_columns else "pictures"}
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


def test_any_scheme_is_read(tmp_path):
    faces = write_points_table(tmp_path, scheme=WFLW_98, style="names")["test"]
    read = read_points_csv(tmp_path / "test.csv", scheme=WFLW_98)
    np.testing.assert_array_equal(read.points, [face.points for face in faces])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "faces.csv"


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\n\n,,,,,,,,,,\n").encode(),
        GOOD.replace("a.png", ".\\a.png").encode(),
        GOOD.replace("image", '"Image"').replace("a.png", '"a.png"').replace(",", ", ").encode(),
        GOOD.replace("image", "path").replace("\n", ",note\n").encode(),
        b"sep=,\r\n" + GOOD.encode(),
        b"\xef\xbb\xbf" + b"sep=;\r\n" + GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode("utf-16"),
        GOOD.replace("image", "image_id").encode(),
        GOOD.replace("image", "img_path").encode(),
        GOOD.replace("\n", ",c.png\n").replace("c.png", "file_path", 1).encode(),
        GOOD.replace("\n", ",7\n").replace("7", "image_id", 1).encode(),
    ],
    ids=[
        "CRLF",
        "BOM",
        "blank lines",
        "backslash",
        "quotes and spaces",
        "another column",
        "sep=,",
        "sep=;",
        "UTF-16",
        "image_id",
        "img_path",
        "two paths",
        "a number beside it",
    ],
)
def test_harmless_variants_are_read(file, content):
    file.write_bytes(content)
    read = read_points_csv(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.points[0], POINTS)
    assert read.photos == ("a.png", "b.png")


def test_names_with_underscores_and_capitals_are_the_schemes(file):
    header = ",".join(f"{name.replace(' ', '_').title()}_{axis}" for name in MTFL_5.names for axis in "XY")
    file.write_text(GOOD.replace(HEADER, f"File,{header}"))
    np.testing.assert_array_equal(read_points_csv(file, scheme=MTFL_5).points[0], POINTS)


def test_a_name_may_hold_the_delimiter(file):
    file.write_text(GOOD.replace("a.png", '"a,b.png"'))
    assert read_points_csv(file, scheme=MTFL_5).photos[0] == "a,b.png"


def test_empty_cells_are_points_without_a_position(file):
    file.write_text(GOOD.replace("3.5,4.25", ",", 1))
    read = read_points_csv(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible, [[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(read.boxes[0], [-5, 2, 9, 60])


WITH_STATES = f"{HEADER},v0,v1,v2,v3,v4\n{ROW},{{}}\n{OTHER},1,1,1,1,1\n"


@pytest.mark.parametrize(
    ("states", "visible", "visibility"),
    [
        ("0,1,2,2,", [0, 1, 1, 1, 1], [0, 2, 1, 1, 0]),
        ("0.0,1.0,2.0,2.0,", [0, 1, 1, 1, 1], [0, 2, 1, 1, 0]),
        ("0,1,1,1,1", [0, 1, 1, 1, 1], None),
    ],
)
def test_visibility_is_read_as_in_coco(file, states, visible, visibility):
    file.write_text(WITH_STATES.format(states))
    read = read_points_csv(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible[0], visible)
    if visibility is None:
        assert read.visibility is None
    else:
        np.testing.assert_array_equal(read.visibility, [visibility, [2] * 5])


def refusal(file: Path, content: str | bytes, **keywords) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_points_csv(file, scheme=MTFL_5, **keywords)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(str(file))


BOXED = f"{HEADER},box_x0,box_y0,box_x1,box_y1\n{ROW},{{}}\n{OTHER},0,0,9,9\n"
BROKEN = {
    "too few": (GOOD.replace(",10\n", "\n", 1), ":2: 10 columns, but 11 in the header"),
    "too many": (GOOD.replace(",10\n", ",10,11\n", 1), ":2: 12 columns, but 11 in the header"),
    "text": (GOOD.replace("3.5", "three", 1), ":2: point 1: 'three 4.25' is not numbers 'x', 'y'"),
    "NaN": (GOOD.replace("3.5", "nan", 1), ":2: point 1: 'nan 4.25' is not finite"),
    "infinite": (GOOD.replace("3.5", "1e999", 1), ":2: point 1: '1e999 4.25' is not finite"),
    "half a point": (GOOD.replace("3.5,", ",", 1), ":2: point 1 has only one coordinate"),
    "no point": (GOOD.replace(ROW, f"a.png{',' * 10}"), ":2: no point of this face has a position"),
    "absolute": (GOOD.replace("a.png", "/a.png"), ":2: '/a.png' points outside the data folder"),
    "up": (GOOD.replace("a.png", "..\\a.png"), ":2: '..\\a.png' points outside the data folder"),
    "empty name": (GOOD.replace("a.png", ""), ":2: a picture's name is missing"),
    "state": (WITH_STATES.format("2,3,2,2,2"), ":2: visibility '3' is not 0, 1 or 2"),
    "box upside down": (BOXED.format("9,9,0,0"), ":2: the box 9 9 0 0 (x0 y0 x1 y1) is empty"),
    "half a box": (BOXED.format("9,9,,"), ":2: '9 9  ' is not a box"),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_refused_by_its_line_or_listed(file, content, expected):
    message = refusal(file, content)
    assert message.startswith(expected)
    faults: list[str] = []
    assert read_points_csv(file, scheme=MTFL_5, faults=faults).photos == ("b.png",)
    assert faults == [f"{file}{message}"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no row below the header"),
        (f"{HEADER}\n", "no row below the header"),
        (f"{ROW}\n{OTHER}\n", "must have one column for the picture (image, image_name"),
        (GOOD.replace("image", "picture"), "must have one column for the picture"),
        (GOOD.replace("image", "photo"), "must have one column for the picture"),
        (GOOD.replace("\n", ",path\n"), "must have one column for the picture"),
        (GOOD.replace("x0,y0,", ""), "x0, y0 to x4, y4, or original_0_x, original_0_y ..., or left_eye_x"),
        (GOOD.replace(",x4,", ",x5,"), "x0, y0 to x4, y4"),
        (GOOD.replace("\n", ",x5,y5\n", 1), "column 'x5', but mtfl5 has only 5 points: pass the scheme"),
        (GOOD.replace("\n", ",x0\n", 1), "two columns of the header are named 'x0'"),
        (GOOD.replace("\n", ",box_x0\n", 1), "the header has no column 'box_y0', but others like it"),
        (GOOD.replace("\n", ",v0\n", 1), "the header has no column 'v1', but others like it"),
        (GOOD.replace("a.png", '"a.png'), "not CSV"),
        (GOOD.replace("a.png", "a" * 200_000), ":2: not CSV (field larger than field limit"),
        (b"\xfe\xfe\x00\x80", "cannot read this table"),
    ],
)
def test_a_table_of_another_kind_is_refused(file, content, expected):
    for keywords in ({}, {"faults": []}):
        assert expected in refusal(file, content, **keywords)


def test_unreadable_files_are_refused(file, tmp_path):
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(InputError, match=f"{re.escape(str(path))}: cannot read this table"):
            read_points_csv(path, scheme=MTFL_5)
    file.write_text(GOOD)
    with pytest.raises(InputError, match=r"x0, y0 to x67, y67"):
        read_points_csv(file, scheme=IBUG_68)
    read = read_points_csv(file, scheme=MTFL_5)
    with pytest.raises(InputError, match=r"b\.png: cannot read this image"):
        read.picture(1)


# What other programs write


PREDICTED = "image,face_id,confidence,success,left,top,right,bottom,x_0,x_1,x_2,x_3,x_4,y_0,y_1,y_2,y_3,y_4"


@pytest.mark.parametrize("change", [("", ""), (",", ", "), (",", ";"), ("image", "Image")], ids=str)
def test_the_table_that_predict_writes_is_read(tmp_path, change):
    """The table can be corrected and used for training: points and boxes are read back."""
    boxes = np.float32([[1, 2, 90, 80], [10.25, 12, 50, 70.5], [3, 3, 30, 33]])
    points = np.random.default_rng(0).uniform(0, 90, (3, 5, 2)).astype(np.float32).round(3)
    faces = [
        FaceRecord(number=number, box=box, points=face, score=score)
        for number, score, box, face in zip((1, 2, 1), (0.9, None, 1.0), boxes, points, strict=True)
    ]
    with FaceTable(tmp_path / "predictions.csv", MTFL_5, of=("image",)) as table:
        table.write(("a.jpg",), faces[:2])
        table.write(("b.jpg",), faces[2:])
    text = (tmp_path / "predictions.csv").read_text()
    assert text.startswith(PREDICTED)
    (tmp_path / "predictions.csv").write_text(text.replace(*change) if change[0] else text)
    read = read_points_csv(tmp_path / "predictions.csv", scheme=MTFL_5)
    np.testing.assert_allclose(read.points, points, atol=1e-3)
    np.testing.assert_allclose(read.boxes, boxes, atol=1e-3)
    assert read.photos == ("a.jpg", "a.jpg", "b.jpg")
    with pytest.raises(InputError, match="the header 'image, face_id"):
        read_points_csv(tmp_path / "predictions.csv", scheme=IBUG_68)


def test_the_table_of_a_video_names_no_pictures(tmp_path, file):
    with FaceTable(tmp_path / "video.csv", MTFL_5, of=("frame", "timestamp")) as table:
        table.write((0, 0.0), [FaceRecord(number=1, box=np.zeros(4), points=np.zeros((5, 2)))])
    for content in ((tmp_path / "video.csv").read_text(), f"{PREDICTED.replace('image', 'frame')}\n1\n"):
        assert "a table of a video (its columns are frame, " in refusal(file, content)


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace(",", ", ").replace("a.png", '"a.png"'),
        GOOD.replace(",", ", ").replace(" x0", ' "x0"'),
        GOOD.replace(",", ";").replace("3.5", "3,5").replace("4.25", "4,25"),
        GOOD.replace(",", "\t").replace("3.5", '"3,5"'),
        "".join(f"{cell}{line}\n" for cell, line in zip((",", "0,", "1,"), GOOD.splitlines(), strict=True)),
    ],
    ids=["spaces before quotes", "quoted header", "decimal comma", "decimal comma, tab", "index of pandas"],
)
def test_tables_as_other_programs_write_them_are_read(file, content):
    file.write_text(content)
    read = read_points_csv(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.points[0], POINTS)
    assert read.photos == ("a.png", "b.png")


NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
NAMED = "1,2,9,3,5,5,2,8,8,9"


@pytest.mark.parametrize("names", [NAMES, ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")])
@pytest.mark.parametrize("style", ["{}_x", "x_{}", "{}.x", "{} X"])
def test_other_spellings_of_column_names_are_read_in_the_order_of_the_scheme(file, names, style):
    order = [2, 1, 0, 4, 3]
    header = ",".join(
        style.format(names[i]).replace("x", axis) if "x" in style else style.format(names[i]).replace("X", axis.upper())
        for i in order
        for axis in "xy"
    )
    points = np.float32(NAMED.split(",")).reshape(5, 2)
    file.write_text(f"image,pose,{header}\na.png,3,{','.join(map(str, points[order].ravel()))}\n")
    np.testing.assert_array_equal(read_points_csv(file, scheme=MTFL_5).points[0], points)


def test_columns_that_mean_the_persons_left_are_refused(file):
    header = ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")
    content = f"image,{header}\na.png,9,2,1,3,5,5,8,8,2,9\n"
    assert "swap left and right in the keypoint names of the file" in refusal(file, content)
    text = refusal(file, content.replace("mouth_left", "ear"))
    assert (
        "no x and y columns for 'left mouth corner' of mtfl5 (names in the header that match no point: 'ear')" in text
    )


@pytest.mark.parametrize("empty", ["-1,-1", "-1.0,-1", "nan,NaN", "null,", "NA,NA"])
def test_missing_values_are_points_without_a_position(file, empty):
    file.write_text(GOOD.replace("3.5,4.25", empty, 1).replace("2,2,3.5", "-1,2,3.5", 1))
    read = read_points_csv(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible, [[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    assert read.points[1, 0, 0] == -1
    file.write_text(WITH_STATES.format("2,2,2,2,2").replace("3.5,4.25", empty, 1))
    np.testing.assert_array_equal(read_points_csv(file, scheme=MTFL_5).visible[0], [1, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("states", "visibility"),
    [("0.0,0.3,0.5,0.99,1", [0, 2, 1, 1, 1]), ("False,true,TRUE,True,", [0, 1, 1, 1, 0])],
)
def test_visibility_may_be_a_probability_or_a_boolean(file, states, visibility):
    file.write_text(WITH_STATES.format(states))
    read = read_points_csv(file, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visibility[0], visibility)
    np.testing.assert_array_equal(read.visible[0], [0, 1, 1, 1, 1])


def test_copies_of_one_photo_and_pictures_elsewhere(file, tmp_path):
    file.write_text(GOOD.replace("a.png", "x/one_jpg.rf.0a1b2c3d.jpg").replace("b.png", "x/one_jpg.rf.4e5f6a7b.jpg"))
    assert read_points_csv(file, scheme=MTFL_5).photos == ("x/one.jpg",) * 2
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.PNG").write_bytes(b"")
    file.write_text(GOOD.replace("b.png", "/home/b.png"))
    read = read_points_csv(file, scheme=MTFL_5, images=str(tmp_path / "images"))
    assert read.pictures[0] == tmp_path / "images" / "a.PNG"


LINES = st.sampled_from([*GOOD.splitlines(keepends=True), '"', ",", "nan,", "\r", "\0"])
FULL = WITH_STATES.format("2,2,1,0,2")
MUTATED = st.tuples(st.integers(0, len(FULL)), st.integers(0, 9), st.text(max_size=5)).map(
    lambda at: FULL[: at[0]] + at[2] + FULL[at[0] + at[1] :]
)


@settings(max_examples=100)
@given(text=st.one_of(st.text(), MUTATED, st.lists(LINES, max_size=9).map(lambda lines: GOOD + "".join(lines))))
def test_any_text_gives_finite_points_or_an_input_error(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.csv"
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            read = read_points_csv(path, scheme=MTFL_5)
        except InputError:
            return
    assert read.points.shape[1:] == (5, 2)
    assert read.points.dtype == np.float32
    assert np.isfinite(read.points).all()
