"""Text lists: numbered lines, numbers, and points without a position."""

import numpy as np
import pytest

from wing_jax.data.readers.listing import has_no_position, numbers, read_lines, read_rows
from wing_jax.errors import InputError


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"one\n\n two \n", b"one\r\n\r\n two\r\n", b"\xef\xbb\xbfone\n\n\ttwo", "one\n\n\u00a0two\u2003".encode()],
    ids=["LF", "CRLF", "BOM", "odd spaces"],
)
def test_lines_are_numbered_as_an_editor_counts_them(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    assert read_lines(tmp_path / "list.txt", hint="") == [(1, "one"), (3, "two")]
    assert [location for location, _ in read_rows(tmp_path / "list.txt", hint="")] == [
        f"{tmp_path / 'list.txt'}:{n}" for n in (1, 3)
    ]


def test_lists_that_cannot_be_read(tmp_path):
    assert refusal(read_lines, tmp_path / "none.txt", hint="give it").endswith("give it")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xd8\xff\xe0")
    assert "cannot read this list" in refusal(read_lines, tmp_path / "binary.txt", hint="give it")
    (tmp_path / "empty.txt").write_bytes(b"\n \n")
    assert "the list is empty" in refusal(read_rows, tmp_path / "empty.txt", hint="")


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ("", "", True), ("nan", "NaN", True), ("null", " NA ", True), ("-1", "-1.0", True), (None, None, True),
        (-1, -1.0, True), (float("nan"), None, True), ("", None, True),
        ("-1", "5", False), (-1.0, 5, False), ("", "5", False), (None, 5, False), ("nan", "-1", False), (0, 0, False),
        ("x", "-1", False), ([], [], False),
    ],
)  # fmt: skip
def test_has_no_position(x, y, expected):
    assert has_no_position(x, y) is expected
    assert has_no_position(y, x) is expected


def test_numbers_are_finite_float32():
    values = numbers(["1", "-2.5", "3e2"], location="l:1", expected="three")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [1, -2.5, 300])
    for words in (["1", "x"], ["nan"], ["inf"], ["1e39"], ["1e400"], ["0x10"]):
        message = refusal(numbers, words, location="l:7", expected="'x y'")
        assert message.startswith("l:7: ")
        assert message.endswith("'x y'")
