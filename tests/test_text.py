"""Text for messages: one printable line of limited length, whatever the value."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.text import LINE, cut, one_line, printable, quoted, reason


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("été", "'été'"),
        ("a\nb\x1b[31m", "'a\\nb\\x1b[31m'"),
        (os.fsdecode(b"caf\xe9"), "'caf\\xe9'"),
        ("x" * 61, f"'{'x' * 57}...'"),
        (12.5, "12.5"),
        (None, "None"),
        ([1, 2], "[1, 2]"),
        (list(range(9)), "a list of 9 entries"),
        (np.zeros((3, 4)), "an array float64 [3, 4]"),
        (jnp.zeros((2, 2)), "an array float32 [2, 2]"),
        (np.float64(0.5), "0.5"),
        (10**5000, "a int that cannot be shown"),
        (Unprintable(), "a Unprintable that cannot be shown"),
    ],
    ids=range(13),
)
def test_values_are_quoted_short(value, expected):
    assert quoted(value) == expected


@pytest.mark.parametrize(
    "value",
    ["字" * 3_000_000, "\0" * 3_000_000, ["9" * 3_000_000], {"a": "b" * 3_000_000}, b"\xff" * 3_000_000],
    ids=["text", "controls", "list", "dict", "bytes"],
)
def test_enormous_values_are_cut(value):
    assert len(quoted(value)) <= 62
    assert len(reason(ValueError(value))) <= 160
    assert len(str(InputError(f"a.csv:1: {value}"))) <= LINE + 5


def test_a_long_message_keeps_its_start_and_end():
    message = one_line(f"a.csv:1: {'x' * 100_000}: correct it")
    assert message.startswith("a.csv:1: xxx")
    assert message.endswith("xxx: correct it")


def test_the_reason_of_an_error_is_one_line():
    assert reason(ValueError("two\n  lines\tof it")) == "two lines of it"
    assert reason(ValueError("a" * 500)) == "a" * 157 + "..."


def test_control_characters_and_bytes_that_are_not_utf_8_are_escaped():
    assert printable("a\nb\x1b[31m\u2028") == "a\\nb\\x1b[31m\\u2028"
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    printable(os.fsdecode(b"\xff")).encode()  # can be printed


@pytest.mark.parametrize("name", ["plain.jpg", "Bild ä.jpg", "写真.jpg", "a\u202fb\u00a0c\u3000d.jpg", "👩‍🦰.png"])
def test_ordinary_characters_of_all_languages_are_unchanged(name):
    assert printable(name) == name


def test_cut_limits_the_length():
    assert cut("abc", length=3) == "abc"
    assert cut("abcdef", length=5) == "ab..."
