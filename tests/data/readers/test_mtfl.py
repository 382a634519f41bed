"""Corrupted lists of MTFL: each fault is reported in one line, and the other faces are read."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.mtfl import write_mtfl
from wing_jax.data.readers.mtfl import read_mtfl
from wing_jax.errors import InputError

GOOD = "net_7876\\0_1_face.jpg 1 2 3 4 5 6 7 8 9 10 1 2 1 3"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("net_7876/0_1_face.jpg 1 2 3 4 5 6 7 8 9 1 1 1 3", "is not 'image x1..x5"),
        (f"{GOOD} 7", "expected a pose from 1 to 5, got '7'"),  # one number more
        (GOOD.replace(" 5 ", " nan "), "not finite"),
        (GOOD.replace(" 5 ", " -inf "), "not finite"),
        (GOOD.replace(" 5 ", " 1e60 "), "not finite"),
        (GOOD.replace(" 5 ", " five "), "is not 'image x1..x5"),
        (GOOD.removesuffix("3") + "6", "expected a pose from 1 to 5, got '6'"),
        (GOOD.removesuffix("3") + "2.5", "expected a pose from 1 to 5, got '2.5'"),
        (GOOD.replace("net_7876\\", "/data/"), "points outside the data folder"),
        (GOOD.replace("net_7876\\", "..\\..\\"), "points outside the data folder"),
        (GOOD.replace("net_7876\\", "C:\\"), "points outside the data folder"),
        ("<html>404</html>", "is not 'image x1..x5"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path, line, expected):
    write_mtfl(tmp_path)
    listing = tmp_path / "training.txt"
    listing.write_text(f"{listing.read_text()}{line}\n")
    faults: list[str] = []
    with pytest.raises(InputError) as caught:
        read_mtfl(tmp_path, "train")
    assert str(caught.value).startswith(f"{listing}:4: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(read_mtfl(tmp_path, "train", faults=faults)) == 3
    assert faults == [str(caught.value)]


@pytest.mark.parametrize("change", ["CRLF", "BOM", "blank lines", "slashes"])
def test_lists_as_other_systems_write_them(tmp_path, change):
    faces = write_mtfl(tmp_path)["train"]
    listing = tmp_path / "training.txt"
    text = listing.read_text()
    changed = {
        "CRLF": text.replace("\n", "\r\n"),
        "BOM": "\ufeff" + text,
        "blank lines": "\n \n" + text.replace("\n", "\n\n"),
        "slashes": text.replace("\\", "/"),
    }[change]
    listing.write_bytes(changed.encode())
    read = read_mtfl(tmp_path, "train")
    np.testing.assert_allclose(read.points, [face.points for face in faces], rtol=1e-6)
    np.testing.assert_array_equal(read.attributes["male"], [True, False, True])
    np.testing.assert_array_equal(read.attributes["smiling"], [True, True, False])
    np.testing.assert_array_equal(read.attributes["glasses"], [False, True, True])
    assert all(picture.exists() for picture in read.pictures)


@settings(max_examples=60)
@given(st.text(max_size=60), st.integers(0, len(GOOD)), st.integers(0, 20), st.booleans())
def test_any_text_is_read_or_refused_in_one_line(text, place, removed, boxes):
    for line in (text, GOOD[:place] + text + GOOD[place + removed :]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            corrupted, valid = (
                ("AFLW_boundingbox.txt", "testing.txt") if boxes else ("testing.txt", "AFLW_boundingbox.txt")
            )
            (folder / valid).write_text("1 9 1 9\n" if valid.startswith("AFLW") else f"{GOOD}\n")
            (folder / corrupted).write_text(line, encoding="utf-8", errors="replace")
            (folder / "AFLW_image_list.txt").write_text("0_1_face.jpg\n")
            message = ""
            try:
                faces = read_mtfl(folder, "test", boxes=folder)
            except InputError as error:
                message = str(error)
            assert "\n" not in message
            if not message:
                assert np.isfinite(faces.points).all()
                assert (faces.boxes[:, 2:] > faces.boxes[:, :2]).all()
