"""Lists of text: numbered lines, numbers, and paths that stay inside the data folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wing_jax.data.listing import numbers, read_lines, rows, within
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
    assert read_lines(tmp_path / "list.txt", mend="") == [(1, "one"), (3, "two")]
    assert [where for where, _ in rows(tmp_path / "list.txt", mend="")] == [
        f"{tmp_path / 'list.txt'}:{n}" for n in (1, 3)
    ]


def test_lists_that_cannot_be_read(tmp_path):
    assert refusal(read_lines, tmp_path / "none.txt", mend="give it").endswith("give it")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xd8\xff\xe0")
    assert "cannot read this list" in refusal(read_lines, tmp_path / "binary.txt", mend="give it")
    (tmp_path / "empty.txt").write_bytes(b"\n \n")
    assert "the list is empty" in refusal(rows, tmp_path / "empty.txt", mend="")


@pytest.mark.parametrize("name", ["a/b.jpg", "a\\b.jpg", "./a/b.jpg", "a//b.jpg"])
def test_names_below_the_root(name):
    assert within("/data", name, where="l:1") == Path("/data/a/b.jpg")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/etc/passwd", "leads out of the data folder"),
        ("\\etc\\passwd", "leads out of the data folder"),
        ("C:\\a.jpg", "leads out of the data folder"),
        ("C:a.jpg", "leads out of the data folder"),
        ("\\\\server\\share\\a.jpg", "leads out of the data folder"),
        ("../a.jpg", "leads out of the data folder"),
        ("a/../../b.jpg", "leads out of the data folder"),
        ("a\\..\\..\\b.jpg", "leads out of the data folder"),
        ("", "name is missing"),
        ("  ", "name is missing"),
        ("a\nb.jpg", "is no picture's name"),
        ("a\0b.jpg", "is no picture's name"),
        ("a\ud800.jpg", "is no picture's name"),
    ],
)
def test_names_that_lead_elsewhere(name, said):
    assert refusal(within, "/data", name, where="l:1").startswith("l:1: ")
    assert said in refusal(within, "/data", name, where="l:1")


@given(st.text(max_size=30))
def test_no_name_leads_out(name):
    try:
        path = within("/data/set", name, where="l:1")
    except InputError:
        return
    assert os.path.normpath(path).startswith("/data/set")


def test_numbers_are_finite_float32():
    values = numbers(["1", "-2.5", "3e2"], where="l:1", expected="three")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [1, -2.5, 300])
    for words in (["1", "x"], ["nan"], ["inf"], ["1e39"], ["1e400"], ["0x10"]):
        complaint = refusal(numbers, words, where="l:7", expected="'x y'")
        assert complaint.startswith("l:7: ")
        assert complaint.endswith("'x y'")
