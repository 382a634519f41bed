"""SCUT-FBP5500: written files are read, each kind of corruption is reported, and the scheme fits real faces."""

import collections
import dataclasses

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from tests.support.writers.scut import NAMES, content, write_scut
from wing_jax.data.load import load_faces
from wing_jax.data.readers.scut import read_scut
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.pseudo_labels import label_faces
from wing_jax.schemes import MTFL_5, SCUT_86, get_conversion


def refusal(root, split="train") -> str:
    with pytest.raises(InputError) as caught:
        read_scut(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def faults_of(root, split) -> list[str]:
    faults: list[str] = []
    read_scut(root, split, faults=faults)
    return faults


@pytest.mark.parametrize("split", ["train", "test"])
def test_written_files_are_read(tmp_path, split):
    faces = write_scut(tmp_path)[split]
    read = read_scut(tmp_path, split)
    assert (read.name, read.scheme, read.box_convention) == ("SCUT-FBP5500", SCUT_86, "landmarks")
    np.testing.assert_array_equal(read.points, [face.points for face in faces])  # unchanged
    np.testing.assert_array_equal(read.boxes, [[*face.points.min(0), *face.points.max(0)] for face in faces])
    assert read.photos == tuple(f"scut/{name}" for name in NAMES[split])
    assert read.subsets == tuple(name[:2] for name in NAMES[split])
    assert read.visible.all()
    for index, face in enumerate(faces):
        assert np.abs(read.picture(index).astype(int) - face.image).mean() < 3  # JPEG


def test_the_face_published_without_points_is_skipped_and_read_if_it_has_points(tmp_path):
    written = write_scut(tmp_path)
    assert faults_of(tmp_path, "train") == []
    path = tmp_path / "facial landmark" / "CM152.pts"
    path.write_bytes(content(written["test"][0].points))
    read = read_scut(tmp_path, "train")
    assert read.photos == ("scut/AF1", "scut/AM1999", "scut/CF12", "scut/CM152")
    np.testing.assert_array_equal(read.points[3], written["test"][0].points)
    path.write_bytes(bytes(3))
    assert refusal(tmp_path).startswith(f"{path}: 3 bytes")
    path.unlink()
    path.mkdir()
    assert refusal(tmp_path).startswith(f"{path}: cannot read these points (")


def replaced(good: bytes, index: int, value: float) -> bytes:
    start = 4 + 4 * index
    return good[:start] + np.float32(value).astype("<f4").tobytes() + good[start + 4 :]


SIZE = "but an int32 and 86 points of two float32 are 692"
FAULTS = {
    "truncated": (lambda good: good[:-4], f"688 bytes, {SIZE}"),
    "a point less": (lambda good: (85).to_bytes(4, "little") + good[4:-8], f"684 bytes, {SIZE}"),
    "longer": (lambda good: good + b"\0", f"693 bytes, {SIZE}"),
    "without points": (lambda good: bytes(4), f"4 bytes, {SIZE}"),
    "empty": (lambda good: b"", f"0 bytes, {SIZE}"),
    "text": (lambda good: b"version: 1\nn_points: 86\n{\n", f"26 bytes, {SIZE}"),
    "another count": (lambda good: (85).to_bytes(4, "little") + good[4:], "85 points in the header, but 86"),
    "big-endian": (lambda good: good[3::-1] + good[4:], "1442840576 points in the header, but 86"),
    "nan": (lambda good: replaced(good, 0, np.nan), "point 1 at nan "),
    "inf": (lambda good: replaced(good, 171, -np.inf), " -inf is not finite"),
    "huge": (lambda good: replaced(good, 20, 1e30), "point 11 at 1e+30 "),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_one_face(tmp_path, change, reason):
    write_scut(tmp_path)
    path = tmp_path / "facial landmark" / "AF1.pts"
    path.write_bytes(change(path.read_bytes()))
    message = refusal(tmp_path)
    assert message.startswith(f"{path}: ")
    assert reason in message
    faults = []
    assert len(read_scut(tmp_path, "train", faults=faults)) == 2
    assert faults == [message]


@pytest.mark.parametrize("name", ["anna", "ftw1", "AF01", "af7", "AF", "AB3", "CM152 (2)"])
def test_another_file_name_is_a_fault_of_one_split(tmp_path, name):
    write_scut(tmp_path)
    (tmp_path / "facial landmark" / f"{name}.pts").write_bytes(content(np.zeros((86, 2))))
    (fault,) = [fault for split in ("train", "test") for fault in faults_of(tmp_path, split)]
    assert f"{name}.pts: not a file name of SCUT-FBP5500 v2" in fault


def test_a_fault_of_the_folder(tmp_path):
    assert refusal(tmp_path).startswith(f"{tmp_path}: no facial landmark/*.pts here")
    assert refusal(tmp_path, "val").startswith(f"{tmp_path}: SCUT-FBP5500 has no split 'val'")
    write_scut(tmp_path)
    (tmp_path / "Images" / "AF1.jpg").unlink()
    with pytest.raises(InputError, match=r"AF1\.jpg: cannot read this image"):
        read_scut(tmp_path, "train").picture(0)


def test_eyes_nose_and_mouth_as_mtfl_has_them():
    conversion = get_conversion(SCUT_86, MTFL_5)
    sources = {
        name: [SCUT_86.names[i] for i in np.flatnonzero(row)]
        for name, row in zip(MTFL_5.names, conversion.weights, strict=True)
    }
    assert sources == {
        "left eye": ["left pupil"],
        "right eye": ["right pupil"],
        "nose tip": ["nose left side 2", "nose bottom", "nose right side 2"],
        "left mouth corner": ["outer lip left corner"],
        "right mouth corner": ["outer lip right corner"],
    }


@pytest.fixture(scope="module")
def real(data_root):
    if not (data_root / "scut_fbp5500" / "facial landmark").is_dir():
        pytest.skip(f"no scut_fbp5500/ in {data_root}: SCUT-FBP5500 was not found")
    return {split: read_scut(data_root / "scut_fbp5500", split) for split in ("train", "test")}


@pytest.mark.slow
def test_scut_as_published(real):
    assert {split: len(faces) for split, faces in real.items()} == {"train": 4399, "test": 1100}
    assert collections.Counter(real["train"].subsets) == {"AF": 1600, "AM": 1600, "CF": 600, "CM": 599}
    assert collections.Counter(real["test"].subsets) == {"AF": 400, "AM": 400, "CF": 150, "CM": 150}
    assert "scut/CM152" not in {*real["train"].photos, *real["test"].photos}
    assert not set(real["train"].photos) & set(real["test"].photos)


@pytest.mark.slow
def test_the_mean_of_flipped_real_faces_is_the_mean_face(real):
    shapes = real["train"].points
    centered = shapes - shapes.mean(1, keepdims=True)
    shapes = centered / np.sqrt((centered**2).sum(-1).mean(-1))[:, None, None]
    mean, mirrored = shapes.mean(0), (shapes * np.float32([-1, 1])).mean(0)
    assert np.linalg.norm(mirrored[SCUT_86.flip] - mean, axis=-1).max() < 0.06
    # Each point's mirror image is the nearest one, and no other pairs are nearer in total.
    distances = np.linalg.norm(mean[:, None] - mirrored[None], axis=-1)
    np.testing.assert_array_equal(distances.argmin(1), SCUT_86.flip)
    np.testing.assert_array_equal(linear_sum_assignment(distances)[1], SCUT_86.flip)
    middle = [point for point in range(86) if SCUT_86.flip[point] == point]
    assert [SCUT_86.names[point] for point in middle] == [
        "forehead middle",
        "chin",
        "nose bottom",
        "outer lip top middle",
    ]
    assert np.abs(mean[middle, 0] - mean[middle, 0].mean()).max() < 0.06
    left, right = (mean[list(eye)].mean(0) for eye in (SCUT_86.left_eye, SCUT_86.right_eye))
    assert left[0] < 0 < right[0]


@pytest.mark.slow
def test_the_points_of_real_faces_agree_with_a_model_of_300w_and_count_from_0(real):
    """A model averaged with the mirror image is not shifted to a side. In these pictures, downscaled from 350 to 176
    pixels, points that count from 1 would be 0.5 pixels right of it."""
    faces = load_faces("scut", "test", root=str(real["test"].pictures[0].parents[1]), scheme="mtfl5")
    labeled = label_faces(
        dataclasses.replace(Localizer.load("w300"), flip_average=True), faces.take(np.arange(0, len(faces), 20))
    )
    assert np.median(labeled.distances) < 0.02
    assert abs(np.median(labeled.offsets)) < 0.25
