"""`.pts` files: exact round trips, and each fault is reported with file and line."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wing_jax.data.readers.points_file import read_pts, read_signed_pts, write_pts
from wing_jax.errors import InputError
from wing_jax.types import Visibility

ROWS = "1 2\n3.5 4.25\n-5 6e1\n"
GOOD = f"version: 1\nn_points:  3\n{{\n{ROWS}}}\n"
POINTS = np.float32([[0, 1], [2.5, 3.25], [-6, 59]])  # from 0: the numbers of the file minus 1


@pytest.fixture
def file(tmp_path):
    return tmp_path / "face.pts"


def refusal(file, content: str | bytes, **keywords) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_pts(file, **keywords)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(str(file))


def test_points_are_counted_from_zero(file):
    file.write_text(GOOD)
    read = read_pts(file)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, POINTS)


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\n\n").encode(),
        GOOD.replace(" ", "\t").encode(),
        GOOD.replace("{", "  { ").encode(),
        f"{{\n{ROWS}}}".encode(),
    ],
    ids=["CRLF", "BOM", "blank lines", "tabs", "indented brace", "no header"],
)
def test_harmless_variants_are_read(file, content):
    file.write_bytes(content)
    np.testing.assert_array_equal(read_pts(file, points=3), POINTS)


@settings(max_examples=50)
@given(points=hnp.arrays(np.float32, (5, 2), elements=st.floats(-4000, 4000, width=32)))
def test_round_trip(tmp_path_factory, points):
    file = tmp_path_factory.getbasetemp() / "round.pts"
    write_pts(file, points)
    np.testing.assert_allclose(read_pts(file, points=5), points, atol=5e-4)
    assert file.read_text().splitlines()[1] == "n_points: 5"


def test_67_points_are_refused_with_both_counts(file):
    rows = "1 2\n" * 67
    message = refusal(file, f"version: 1\nn_points: 67\n{{\n{rows}}}\n", points=68)
    assert message == ": 67 points, but 68 in the scheme: correct or remove the file"


@pytest.mark.parametrize("keywords", [{}, {"points": 3}])
def test_a_wrong_count_in_the_header_is_refused(file, keywords):
    assert refusal(file, GOOD.replace("3\n", "4\n", 1), **keywords).startswith(": 3 points, but 4 in the header")


@pytest.mark.parametrize("count", ["three", "", "²", "3.0", "9" * 5000])
def test_a_header_without_an_integer_is_refused(file, count):
    assert refusal(file, GOOD.replace("  3\n", f" {count}\n", 1)).startswith(":2: expected an integer n_points")


@pytest.mark.parametrize("number", ["nan", "NaN", "inf", "-inf", "1e39", "1e400"])
def test_a_number_that_is_not_finite_is_refused(file, number):
    message = refusal(file, GOOD.replace("3.5", number))
    assert message == f":5: '{number} 4.25' is not finite: expected two numbers 'x y'"


@pytest.mark.parametrize("line", ["3.5", "3.5 4.25 1", "three four", "3,5 4,25", "3.5;4.25"])
def test_a_line_that_is_not_two_numbers_is_refused(file, line):
    assert refusal(file, GOOD.replace("3.5 4.25", line)) == f":5: {line!r} is not two numbers 'x y'"


@pytest.mark.parametrize("content", [GOOD.replace("{", ""), GOOD.replace("}", ""), "", "}\n1 2\n{\n", "a photo\n"])
def test_missing_braces_are_refused(file, content):
    assert "between a line '{' and a line '}'" in refusal(file, content)


def test_points_of_two_faces_in_one_file_are_refused(file):
    count = len(GOOD.splitlines())
    assert f":{count + GOOD.splitlines().index('{') + 1}: a second face" in refusal(file, GOOD + GOOD)


def test_unreadable_files_are_refused(file, tmp_path):
    assert "cannot read" in refusal(file, b"\xfe\xfe\x00\x80")
    for path in (tmp_path / "missing.pts", tmp_path):
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_pts(path)


PIECES = st.sampled_from([*GOOD.splitlines(keepends=True), "{\n", "}\n", "n_points: ", "nan 1\n", "1e999 0\n"])


@settings(max_examples=200)
@given(text=st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=9)), max_size=12).map("".join)))
def test_any_text_gives_finite_points_or_an_input_error(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "fuzz.pts"
    file.write_bytes(text.encode(errors="surrogatepass"))
    try:
        read = read_pts(file)
    except InputError:
        return
    assert read.shape[1:] == (2,)
    assert np.isfinite(read).all()


def test_signs_encode_visibility(file):
    file.write_text("{\n12.5 7\n-12.5 -7\n-1 -1\n-3 4\n-1 -2\n1 1\n}\n")
    points, visibility = read_signed_pts(file, points=6)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, [[11.5, 6], [11.5, 6], [np.nan, np.nan], [2, 3], [0, 1], [0, 0]])
    visible, hidden, self_occluded = Visibility.VISIBLE, Visibility.OCCLUDED, Visibility.SELF_OCCLUDED
    assert visibility.tolist() == [visible, hidden, self_occluded, hidden, hidden, visible]


def test_faults_of_signed_points_are_refused(file):
    file.write_text(GOOD)
    with pytest.raises(InputError, match="3 points, but 68 in the scheme"):
        read_signed_pts(file, points=68)
    file.write_text(GOOD.replace("3.5", "nan"))
    with pytest.raises(InputError, match="is not finite"):
        read_signed_pts(file)


@pytest.mark.parametrize("missing", ["-1 -1", "-1.0 -1.000", "nan NaN"])
def test_missing_coordinates_are_points_without_a_position(tmp_path, missing):
    path = tmp_path / "a.pts"
    path.write_text(f"n_points: 3\n{{\n{missing}\n-1 5\n0 0\n}}\n")
    np.testing.assert_array_equal(read_pts(path), [[np.nan, np.nan], [-2, 4], [-1, -1]])


def test_written_points_never_read_as_missing(tmp_path):
    points = np.float32([[-2, -2], [np.nan, np.nan], [3, 4]])
    write_pts(tmp_path / "a.pts", points)
    np.testing.assert_allclose(read_pts(tmp_path / "a.pts"), points, atol=5e-4)
