"""Text that is shown is one printable line of bounded length, whatever a file or a name holds."""

import os

import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.text import LINE, QUOTED, cut, one_line, printable, quoted


def test_text_is_quoted_and_cut():
    assert quoted("a b") == "'a b'"
    assert quoted("a" * 100, length=10) == "'aaaaaaa...'"
    assert len(quoted("0 128 255 " * 10_000)) == QUOTED + 2  # a cell of pixels in a CSV file


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (12, "12"),
        (None, "None"),
        (np.zeros((2, 3), np.uint8), "an array uint8 [2, 3]"),
        (list(range(9)), "a list of 9 entries"),
        ((1, 2), "(1, 2)"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_other_values_are_named_or_repeated(value, said):
    assert quoted(value) == said


def test_no_quote_is_long():
    for value in ("x" * 999, ["x" * 999], {"x" * 999: 1}, b"x" * 999, 10**999, np.zeros(999), list(range(999))):
        assert len(quoted(value)) <= QUOTED + 2


def test_control_characters_and_bytes_that_are_not_utf_8_are_escaped():
    assert printable("a\nb\x1b[31m\u2028") == "a\\nb\\x1b[31m\\u2028"
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    printable(os.fsdecode(b"\xff")).encode()  # can be printed


@pytest.mark.parametrize("name", ["plain.jpg", "Bild ä.jpg", "写真.jpg", "a\u202fb\u00a0c\u3000d.jpg", "👩‍🦰.png"])
def test_ordinary_characters_of_all_languages_stay(name):
    assert printable(name) == name


def test_a_long_message_keeps_both_ends():
    message = one_line("begin " + "x" * 10_000 + " end")
    assert message.startswith("begin")
    assert message.endswith("end")
    assert len(message) <= LINE + 10


def test_cut():
    assert cut("abc", length=3) == "abc"
    assert cut("abcdef", length=5) == "ab..."


def test_an_input_error_is_one_line():
    assert str(InputError("a\nb")) == "a\\nb"
    assert len(str(InputError("x" * 10_000))) <= LINE + 10
