"""`check`: duplicates by content, points outside pictures and boxes, and faults, each on a small example."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from wing_jax.data.check import (
    SAME_FACE_CORRELATION,
    SAME_PHOTO_BITS,
    check_split,
    duplicates,
    find_renamed_duplicates,
    shared_faces,
)
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import Embedded, read_image, write_image
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68, MTFL_5


def noise(seed: int, *, width: int = 64, height: int = 48) -> np.ndarray:
    grain = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)


def faces_of(paths: list[Path], **changes) -> FaceSet:
    count = len(paths)
    points = np.tile(np.float32([[20, 10], [40, 10], [30, 20], [22, 30], [38, 30]]), (count, 1, 1))
    faces = FaceSet(
        name="made", scheme=MTFL_5, pictures=tuple(paths), points=points, visible=np.ones((count, 5), bool),
        boxes=np.tile(np.float32([15, 5, 45, 35]), (count, 1)), box_convention="mine",
        photos=tuple(map(str, paths)), subsets=("",) * count,
    )  # fmt: skip
    return dataclasses.replace(faces, **changes)


def write_pictures(folder: Path, **pictures: np.ndarray) -> list[Path]:
    for name, image in pictures.items():
        write_image(folder / f"{name}.png", image)
    return [folder / f"{name}.png" for name in pictures]


def test_sizes_faults_and_points_outside(tmp_path):
    paths = write_pictures(tmp_path, a=noise(1), b=noise(2, width=80), c=noise(3), d=noise(4))
    paths[2].write_bytes(b"no picture")
    points = faces_of(paths).points.copy()
    points[0, 0] = (5, 10)  # outside the box
    points[1, 1] = (79.6, 10)  # outside both
    points[3, 4] = (900, 900)  # does not count
    visible = np.ones((4, 5), bool)
    visible[3, 4] = False
    check = check_split(faces_of(paths, points=points, visible=visible), ["list.txt:3: bad"])
    np.testing.assert_array_equal(check.sizes, [[64, 48], [80, 48], [0, 0], [64, 48]])
    np.testing.assert_array_equal(check.outside, [False, True, False, False])
    np.testing.assert_array_equal(check.cut, [True, True, False, False])
    assert check.faults[0] == "list.txt:3: bad"
    assert check.faults[1].startswith(f"{paths[2]}: not an image")
    assert len(check.faults) == 2


def test_one_picture_under_two_names_is_reported(tmp_path):
    paths = write_pictures(tmp_path, a=noise(1), b=noise(2), c=noise(1), d=noise(1))
    faces = faces_of(paths)
    assert find_renamed_duplicates(check_split(faces, [])) == [
        (str(paths[0]), str(paths[2])),
        (str(paths[0]), str(paths[3])),
    ]
    one_photo = dataclasses.replace(faces, photos=("a", "b", "a", "a"))
    assert find_renamed_duplicates(check_split(one_photo, [])) == []


def test_a_point_on_the_last_pixel_is_inside(tmp_path):
    paths = write_pictures(tmp_path, a=noise(1))
    points = faces_of(paths).points.copy()
    points[0, :2] = (63.5, 47.5), (-0.5, -0.5)
    assert not check_split(faces_of(paths, points=points), []).outside.any()


def test_a_photo_with_several_faces_is_read_and_reported_once(tmp_path):
    reads = []

    def picture():
        reads.append(1)
        return noise(1)

    shared = Embedded("frame", picture)
    check = check_split(faces_of([tmp_path], pictures=(shared,) * 3, **three_faces()), [])
    assert reads == [1]
    assert check.sizes.tolist() == [[64, 48]] * 3
    missing = check_split(faces_of([tmp_path / "none.png"] * 3), [])
    assert len(missing.faults) == 1


def three_faces() -> dict:
    face = faces_of([Path("x")])
    return {
        "points": np.repeat(face.points, 3, 0), "visible": np.repeat(face.visible, 3, 0),
        "boxes": np.repeat(face.boxes, 3, 0), "photos": ("x",) * 3, "subsets": ("",) * 3,
    }  # fmt: skip


def test_duplicates_are_found_by_content_and_only_across_splits(tmp_path):
    train = write_pictures(tmp_path / "train", a=noise(1), b=noise(2), c=noise(3), again=noise(1))
    test = write_pictures(tmp_path / "test", copied=noise(2), other=noise(9), blank=np.full((48, 64, 3), 90, np.uint8))
    train += write_pictures(tmp_path / "train", white=np.full((40, 64, 3), 250, np.uint8))
    cv2.imwrite(str(tmp_path / "test" / "smaller.jpg"), cv2.resize(noise(3), (48, 36))[:, :, ::-1])
    test.append(tmp_path / "test" / "smaller.jpg")
    matches = duplicates({"train": check_split(faces_of(train), []), "test": check_split(faces_of(test), [])})
    assert sorted(matches) == [
        ("probably the same photo", f"train: {train[2]}", f"test: {test[3]}"),
        ("the same file", f"train: {train[1]}", f"test: {test[0]}"),
    ]


@pytest.mark.parametrize("quality", [95, 60, 40])
def test_a_picture_with_another_encoding_is_a_duplicate(tmp_path, quality):
    names = [f"p{seed}" for seed in range(20)]
    train = write_pictures(tmp_path, **{name: noise(seed) for seed, name in enumerate(names)})
    test = []
    for path in train:
        test.append(path.with_suffix(".jpg"))
        cv2.imwrite(str(test[-1]), read_image(path)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    matches = duplicates({"train": check_split(faces_of(train), []), "test": check_split(faces_of(test), [])})
    assert {(left.split("/")[-1][:-4], right.split("/")[-1][:-4]) for _, left, right in matches} == set(
        zip(names, names, strict=True)
    )
    assert SAME_PHOTO_BITS < 64  # different noise differs in about half of 256 bits


def test_the_number_of_threads_changes_nothing(tmp_path):
    paths = write_pictures(tmp_path, **{f"p{seed}": noise(seed) for seed in range(8)})
    serial, parallel = (check_split(faces_of(paths), [], workers=workers) for workers in (1, 4))
    assert serial.digests == parallel.digests
    np.testing.assert_array_equal(serial.patterns, parallel.patterns)


@pytest.mark.slow
def test_shared_faces_are_found_in_any_crop():
    """Synthetic faces with another scale, crop and brightness are found; other synthetic faces are not."""
    faces = load_faces("synthetic", "train", count=24)
    scale, left, top = 0.7, 9, 5
    changed = [
        cv2.convertScaleAbs(cv2.resize(faces.picture(i), None, fx=scale, fy=scale), alpha=0.8, beta=20)[top:, left:]
        for i in range(12)
    ]
    half = faces.take(np.arange(12))
    points = (half.points + 0.5) * scale - 0.5 - np.array([left, top], np.float32)
    moved = dataclasses.replace(half, pictures=np.stack(changed), points=points.astype(np.float32))
    matches = shared_faces(faces, moved)
    assert {match[1:] for match in matches} == {(faces.picture_name(i), moved.picture_name(i)) for i in range(12)}
    assert all(SAME_FACE_CORRELATION <= correlation <= 1 + 1e-5 for correlation, _, _ in matches)
    assert shared_faces(faces.take(np.arange(12, 24)), moved) == []
    with pytest.raises(InputError, match="cannot be compared with others"):
        shared_faces(dataclasses.replace(faces, scheme=dataclasses.replace(IBUG_68, name="mine")), moved)


def test_the_duplicates_in_lfpw_are_found(data_root):
    """Three photos of LFPW's training set are in its test set too; in one of them the colors differ a lot."""
    folder = data_root / "300w" / "lfpw"
    numbers = (("0828", "0096"), ("0215", "0066"), ("0862", "0007"))
    train = [folder / f"trainset/image_{number}.jpg" for number, _ in (*numbers, ("0001", ""))]
    test = [folder / f"testset/image_{number}.jpg" for _, number in (*numbers, ("", "0001"))]
    matches = duplicates({"train": check_split(faces_of(train), []), "test": check_split(faces_of(test), [])})
    pairs = zip(train[:3], test[:3], strict=True)
    assert set(matches) == {("probably the same photo", f"train: {left}", f"test: {right}") for left, right in pairs}
