"""AFLW2000-3D and 300W-LP: files written here in the published format, and the sixteen published faces."""

import io
import math
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers import aflw2000, w300lp
from tests.support.writers.aflw2000 import write_aflw2000
from tests.support.writers.w300lp import write_w300lp
from wing_jax.data.readers.aflw2000 import read_300wlp, read_aflw2000
from wing_jax.data.readers.mat_file import check_structure
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def degrees(pitch: float, yaw: float, roll: float) -> tuple[float, float, float]:
    return -math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def check(read, written) -> None:
    points = np.stack([face.points for face in written])
    np.testing.assert_allclose(read.points, points, atol=1e-5)
    np.testing.assert_allclose(read.boxes, np.concatenate([points.min(1), points.max(1)], 1), atol=1e-5)
    assert read.scheme is IBUG_68
    assert read.box_convention == "landmarks"
    assert read.visible.all()
    assert read.visibility is None
    for i, face in enumerate(written):
        assert np.abs(read.picture(i).astype(int) - face.image).mean() < 6


@pytest.mark.parametrize("inner", ["", "AFLW2000"])
def test_aflw2000_as_written(tmp_path, inner):
    (tmp_path / inner).mkdir(exist_ok=True)
    written = write_aflw2000(tmp_path / inner)["test"]
    read = read_aflw2000(tmp_path, "test")
    check(read, written)
    assert read.photos == ("aflw/image00002", "aflw/image00004", "aflw/image00006")
    np.testing.assert_allclose(read.angles, [degrees(*aflw2000.PITCH_YAW_ROLL)] * 3, rtol=1e-5)


@pytest.mark.parametrize("inner", ["", "300W_LP"])
def test_300wlp_as_written(tmp_path, inner):
    (tmp_path / inner).mkdir(exist_ok=True)
    written = write_w300lp(tmp_path / inner)["train"]
    read = read_300wlp(tmp_path, "train")
    check(read, written)
    assert read.photos == ("afw/134212", "afw/134212", "lfpw/image_train_0001")
    assert read.subsets == ("AFW", "AFW", "LFPW")
    np.testing.assert_allclose(read.angles, [degrees(*w300lp.PITCH_YAW_ROLL)] * 3, rtol=1e-5)
    np.testing.assert_allclose(read_300wlp(tmp_path, "train", landmarks="2d").points, read.points + 2, atol=1e-5)


def test_real_faces_turn_as_their_angles_say(data_root):
    read = read_aflw2000(data_root / "formats" / "aflw2000_16_mat", "test")
    assert len(read) == 16
    assert read.picture(0).shape == (450, 450, 3)
    assert (read.points > 0).all()
    assert (read.points < 450).all()
    yaw, _, roll = read.angles.T
    nose = read.points[:, 30, 0] - read.points[:, 36:48, 0].mean(1)
    is_turned = np.abs(yaw) > 10
    assert is_turned.sum() == 12
    assert (np.sign(nose) == np.sign(yaw))[is_turned].all()
    eyes = read.points[:, 42:48].mean(1) - read.points[:, 36:42].mean(1)
    level = np.rad2deg(np.arctan2(eyes[:, 1], eyes[:, 0]))
    is_rolled = (np.abs(roll) > 5) & (np.abs(yaw) < 40)
    assert is_rolled.sum() == 7
    assert (np.sign(level) == np.sign(roll))[is_rolled].all()


def test_other_splits_and_empty_folders_are_refused(tmp_path):
    assert "no split 'train'" in refusal(read_aflw2000, tmp_path, "train")
    assert "no split 'test'" in refusal(read_300wlp, tmp_path, "test")
    assert "no landmarks '4d'" in refusal(read_300wlp, tmp_path, "train", landmarks="4d")
    assert "pass the folder of AFLW2000-3D" in refusal(read_aflw2000, tmp_path, "test")
    assert "pass the folder of 300W-LP" in refusal(read_300wlp, tmp_path, "train")


def array_with(shape: tuple[int, ...], value: float) -> np.ndarray:
    array = np.ones(shape)
    array.flat[1] = value
    return array


POSE, GOOD_POSE = "Pose_Para", np.zeros((1, 7))
DAMAGE = {
    "no points": ({POSE: GOOD_POSE}, "not as published"),
    "no pose": ({"pt3d_68": np.ones((3, 68))}, "not as published"),
    "67 points": ({"pt3d_68": np.ones((3, 67)), POSE: GOOD_POSE}, "expected points of shape (3, 68), got (3, 67)"),
    "transposed": ({"pt3d_68": np.ones((68, 3)), POSE: GOOD_POSE}, "expected points of shape (3, 68), got (68, 3)"),
    "text": ({"pt3d_68": "a face", POSE: GOOD_POSE}, "not as published"),
    "complex": ({"pt3d_68": np.full((3, 68), 1j), POSE: GOOD_POSE}, "not as published"),
    "NaN": ({"pt3d_68": array_with((3, 68), np.nan), POSE: GOOD_POSE}, "not finite"),
    "inf": ({"pt3d_68": array_with((3, 68), np.inf), POSE: GOOD_POSE}, "not finite"),
    "too large": ({"pt3d_68": array_with((3, 68), 1e200), POSE: GOOD_POSE}, "not finite"),
    "pose NaN": ({"pt3d_68": np.ones((3, 68)), POSE: array_with((1, 7), np.nan)}, "Pose_Para is not finite"),
    "pose short": ({"pt3d_68": np.ones((3, 68)), POSE: np.zeros((1, 2))}, "not as published"),
    "empty file": (b"", "not as published"),
    "text file": (b"version: 1\n" * 40, "not as published"),
}


@pytest.mark.parametrize(("content", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_a_fault_of_one_face_stops_or_is_gathered(tmp_path, content, expected):
    write_aflw2000(tmp_path)
    file = tmp_path / "image00004.mat"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        scipy.io.savemat(file, content)
    message = refusal(read_aflw2000, tmp_path, "test")
    assert message.startswith(f"{file}: ")
    assert expected in message
    faults = []
    assert read_aflw2000(tmp_path, "test", faults=faults).photos == ("aflw/image00002", "aflw/image00006")
    assert faults == [message]


@pytest.mark.parametrize("number", range(8))
def test_damage_that_would_end_the_process_is_refused(tmp_path, number):
    """SciPy's compiled reader follows a wrong type or a wrong "complex" flag out of its tables."""
    write_aflw2000(tmp_path)
    file = tmp_path / "image00002.mat"
    content = bytearray(file.read_bytes())
    matrix = 128  # flags are 8 bytes after the tag, after their own tag of 8 bytes; the data at 56
    if number < 2:
        content[matrix + 17] |= 0x08  # complex, but there is no imaginary part
        content[matrix + 16] = (7, 13)[number]
    else:
        content[matrix + 56] = (0, 8, 10, 14, 15, 200)[number - 2]
    file.write_bytes(content)
    faults = []
    assert len(read_aflw2000(tmp_path, "test", faults=faults)) == 2
    assert faults[0].startswith(f"{file}: not as published")


def test_published_and_packed_files_pass_the_check(data_root):
    for path in sorted((data_root / "formats" / "aflw2000_16_mat").glob("*.mat")):
        check_structure(path.read_bytes())
    compressed = io.BytesIO()
    cells = np.empty((2, 1), object)
    cells[:, 0] = ["0/image00002.jpg", ""]
    content = {"cells": cells, "s": {"a": np.ones((2, 3)), "b": cells}, "c": np.ones(2) * 1j, "none": np.zeros((0, 3))}
    scipy.io.savemat(compressed, content, do_compression=True)
    check_structure(compressed.getvalue())
    with pytest.raises(zlib.error):
        check_structure(compressed.getvalue()[:140] + b"x" * (len(compressed.getvalue()) - 140))


def test_missing_files_are_named(tmp_path):
    write_aflw2000(tmp_path)
    (tmp_path / "image00002.jpg").unlink()
    assert str(tmp_path / "image00002.jpg") in refusal(read_aflw2000(tmp_path, "test").picture, 0)
    root = tmp_path / "lp"
    write_w300lp(root)
    shutil.rmtree(root / "LFPW")
    assert "copy the folders of pictures too" in refusal(read_300wlp, root, "train")
    faults = []
    assert read_300wlp(root, "train", faults=faults).subsets == ("AFW", "AFW")
    assert faults[0].startswith(str(root / "LFPW" / "LFPW_image_train_0001_3.mat"))


@settings(max_examples=20)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_read_or_refused(place, byte, cut):
    with tempfile.TemporaryDirectory() as folder:
        write_aflw2000(Path(folder))
        file = Path(folder) / "image00002.mat"
        content = bytearray(file.read_bytes())
        position = int(place * len(content))
        content[position] = byte
        file.write_bytes(content[:position] if cut else content)
        faults = []
        read = read_aflw2000(folder, "test", faults=faults)
        assert len(read) + len(faults) == 3
        assert all(str(file) in fault for fault in faults)
        assert np.isfinite(read.points).all()
