"""FG-NET: written files are read, each kind of corruption is reported, and the scheme fits real faces."""

import dataclasses

import numpy as np
import pytest

from tests.support.writers.fgnet import text, write_fgnet
from wing_jax.data.boxes import boxes_of_shapes
from wing_jax.data.face_crops import crop_faces, to_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.fgnet import read_fgnet
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import FGNET_68, IBUG_68, MTFL_5

CORNERS = ([27, 29, 34, 32, 48, 54], [36, 39, 42, 45, 48, 54])  # of eyes and mouth: FG-NET's, and 300-W's


def refusal(root, split="train") -> str:
    with pytest.raises(InputError) as caught:
        read_fgnet(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("split", "people"), [("train", ("001", "001", "006")), ("test", ("005", "080"))], ids=["train", "test"]
)
def test_written_files_are_read(tmp_path, split, people):
    faces = write_fgnet(tmp_path)[split]
    read = read_fgnet(tmp_path, split)
    assert (read.name, read.scheme, read.box_convention) == ("FG-NET", FGNET_68, "landmarks")
    np.testing.assert_allclose(read.points, [face.points for face in faces], atol=1e-4)  # unchanged
    tight = [[*face.points.min(0), *face.points.max(0)] for face in faces]
    np.testing.assert_allclose(read.boxes, tight, atol=1e-4)
    assert read.photos == tuple(f"fgnet/{person}" for person in people)
    assert read.visible.all()
    for index, face in enumerate(faces):
        assert np.abs(read.picture(index).astype(int) - face.image).mean() < 3  # JPEG


def test_the_case_of_names_does_not_matter(tmp_path):
    write_fgnet(tmp_path)
    before = read_fgnet(tmp_path, "train")
    (tmp_path / "images" / "001A02.JPG").rename(tmp_path / "images" / "001a02.jpg")
    (tmp_path / "points" / "006a11.pts").rename(tmp_path / "points" / "006A11.pts")
    after = read_fgnet(tmp_path, "train")
    np.testing.assert_array_equal(np.sort(after.points, 0), np.sort(before.points, 0))
    for index in range(3):
        after.picture(index)


FAULTS = {
    "a point less": (lambda good: good.replace("_points: 68", "_points: 67").rsplit("\n", 3)[0] + "\n}\n", "67 points"),
    "another count": (lambda good: good.replace("68", "60", 1), "68 points, but 60 in the header"),
    "no braces": (lambda good: good.replace("{", ""), "not a .pts file"),
    "one number": (lambda good: good.replace("{\n", "{\n5\n", 1), ":4: '5' is not two numbers"),
    "text": (lambda good: good.replace("{\n", "{\nfive 5\n", 1), ":4: 'five 5' is not two numbers"),
    "empty": (lambda good: "", "not a .pts file"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_one_face(tmp_path, change, reason):
    write_fgnet(tmp_path)
    path = tmp_path / "points" / "001a02.pts"
    path.write_text(change(path.read_text()))
    message = refusal(tmp_path)
    assert message.startswith(str(path))
    assert reason in message
    faults = []
    assert len(read_fgnet(tmp_path, "train", faults=faults)) == 2
    assert faults == [message]


def test_a_fault_of_the_folder(tmp_path):
    assert refusal(tmp_path).startswith(f"{tmp_path}: no points/*.pts here")
    assert refusal(tmp_path, "val").startswith(f"{tmp_path}: FG-NET has no split 'val'")
    write_fgnet(tmp_path)
    (tmp_path / "points" / "anna.pts").write_text(text(np.zeros((68, 2))))
    matches = [name for split in ("train", "test") for name in _faults(tmp_path, split) if "anna.pts" in name]
    assert len(matches) == 1
    assert "not a file name of FG-NET" in matches[0]
    (tmp_path / "images" / "001A02.JPG").unlink()
    faults = []
    read = read_fgnet(tmp_path, "train", faults=faults)
    with pytest.raises(InputError, match=r"001A02\.JPG: cannot read this image"):
        read.picture(0)


def _faults(root, split) -> list[str]:
    faults: list[str] = []
    read_fgnet(root, split, faults=faults)
    return faults


@pytest.fixture(scope="module")
def real(data_root):
    if not (data_root / "fgnet" / "points").is_dir():
        pytest.skip(f"no fgnet/ in {data_root}: FG-NET was not found")
    return {split: load_faces("fgnet", split, root=str(data_root / "fgnet")) for split in ("train", "test")}


@pytest.mark.slow
def test_fgnet_as_published(real):
    assert {split: len(faces) for split, faces in real.items()} == {"train": 811, "test": 191}
    people = {split: set(faces.photos) for split, faces in real.items()}
    assert {split: len(some) for split, some in people.items()} == {"train": 66, "test": 16}
    assert not people["train"] & people["test"]


def test_the_mean_of_flipped_real_faces_is_the_mean_face(real):
    shapes = real["train"].points
    centered = shapes - shapes.mean(1, keepdims=True)
    shapes = centered / np.sqrt((centered**2).sum(-1).mean(-1))[:, None, None]
    mean, mirrored = shapes.mean(0), (shapes * np.float32([-1, 1])).mean(0)
    assert np.linalg.norm(mirrored[FGNET_68.flip] - mean, axis=-1).max() < 0.06
    for left, right in FGNET_68.mirrored:
        distorted = FGNET_68.flip
        distorted[[left, right]] = left, right
        assert np.linalg.norm(mirrored[distorted] - mean, axis=-1).max() > 0.12
    middle = [point for point in range(68) if FGNET_68.flip[point] == point]
    assert np.abs(mean[middle, 0] - mean[middle, 0].mean()).max() < 0.06
    eyes = (mean[list(eye)].mean(0) for eye in (FGNET_68.left_eye, FGNET_68.right_eye))
    assert next(eyes)[0] < 0 < next(eyes)[0]


@pytest.mark.slow
def test_the_points_of_real_faces_agree_with_a_model_of_300w_and_count_from_0(real):
    """A model averaged with the mirror image is not shifted to a side. These pictures were downscaled to about 0.6,
    which moves points that count from 0 by 0.2 pixels to the right, and points that count from 1 by 0.8."""
    faces, model = real["test"], dataclasses.replace(Localizer.load("w300"), flip_average=True)
    faces_with_boxes = dataclasses.replace(faces, boxes=boxes_of_shapes(faces.points, model.metadata.shape_in_box))
    face_crops = crop_faces(faces_with_boxes, size=model.stages[-1].face_crop_size, workers=2)
    predicted = to_image(face_crops.crop_to_image, model.locate(face_crops.images, face_crops.boxes)[-1])
    offsets = faces.points[:, CORNERS[0]] - predicted[:, CORNERS[1]]
    eye_distance = np.linalg.norm(faces.points[:, FGNET_68.right_outer] - faces.points[:, FGNET_68.left_outer], axis=-1)
    assert np.median(np.linalg.norm(offsets, axis=-1).mean(1) / eye_distance) < 0.05
    mean_offset = offsets[..., 0].mean(1)
    assert abs(np.median(mean_offset) - 0.2) < 0.25
    assert IBUG_68.points == FGNET_68.points  # as many, but not the same


def test_eyes_nose_and_mouth_as_mtfl_has_them(real):
    converted = load_faces("fgnet", "test", root=str(_root(real["test"])), scheme="mtfl5")
    assert converted.scheme is MTFL_5
    np.testing.assert_allclose(converted.points, real["test"].points[:, [31, 36, 67, 48, 54]])


def _root(faces):
    return faces.pictures[0].parents[1]
