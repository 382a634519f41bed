"""Reshaped faces: the points follow the warped picture, shapes are new, and the pose is kept."""

import dataclasses

import numpy as np
import pytest

from tests.support.dots import CROP, PLACES, dot_near, dotted
from wing_jax import balance
from wing_jax.augment.reshaping import reshaped, warp_face
from wing_jax.config import BalanceConfig
from wing_jax.config_files import load_config
from wing_jax.data.encoded import JpegImages
from wing_jax.data.face_crops import FaceCrops, crop_faces
from wing_jax.data.readers.synthetic import synthetic_faces
from wing_jax.errors import InputError
from wing_jax.from_config.train import training_data
from wing_jax.geometry import tight_box
from wing_jax.schemes import IBUG_68

ALL = np.ones(5, bool)
RAMPS = np.stack([*np.mgrid[:CROP, :CROP][::-1], np.zeros((CROP, CROP))], -1).astype(np.uint8)  # color is (x, y, 0)


def some_moves(seed: int, size: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, (5, 2))


@pytest.fixture(scope="module")
def face_crops() -> FaceCrops:
    return crop_faces(synthetic_faces(60, seed=5, size=96), size=64)


@pytest.mark.parametrize("seed", range(6))
def test_points_stay_on_the_dots_drawn_at_them(seed):
    image, points = warp_face(dotted(*PLACES, sigma=1.0), PLACES, some_moves(seed, 1.5), ALL)
    assert np.linalg.norm(points - PLACES, axis=1).max() > 1
    for point in points:
        center, _ = dot_near(image, point, reach=3)
        np.testing.assert_allclose(center, point, atol=0.35)


@pytest.mark.parametrize("size", [0.5, 3.0, 40.0])
def test_the_warp_does_not_fold(size):
    image, points = warp_face(RAMPS, PLACES, some_moves(1, size), ALL)
    x, y = image[..., 0].astype(int), image[..., 1].astype(int)
    assert (np.diff(x, axis=1) >= 0).all()
    assert (np.diff(y, axis=0) >= 0).all()
    for (before_x, before_y), (column, row) in zip(PLACES, np.round(points).astype(int), strict=True):
        assert abs(x[row, column] - before_x) < 1.5
        assert abs(y[row, column] - before_y) < 1.5


def test_points_move_by_about_the_requested_moves():
    moves = some_moves(2, 1)
    _, points = warp_face(RAMPS, PLACES, moves, ALL)
    assert np.abs(points - PLACES - moves).max() < 0.15 * np.abs(moves).max()
    image, points = warp_face(RAMPS, PLACES, np.zeros((5, 2)), ALL)
    np.testing.assert_array_equal(image, RAMPS)
    np.testing.assert_array_equal(points, PLACES)


def test_hidden_points_do_not_influence_the_warp_and_move_with_it():
    known, moves = np.array([True, True, False, True, True]), some_moves(3, 1.5)
    image, points = warp_face(dotted(*PLACES, sigma=1.0), PLACES, moves, known)
    moves[2] = 1e6
    _, unchanged = warp_face(dotted(*PLACES, sigma=1.0), PLACES, moves, known)
    np.testing.assert_array_equal(points, unchanged)
    center, _ = dot_near(image, points[2], reach=3)
    np.testing.assert_allclose(center, points[2], atol=0.35)


@pytest.mark.slow
def test_shapes_are_new_and_the_pose_is_kept(face_crops):
    more = reshaped(face_crops, copies=3, flip=IBUG_68.flip, seed=0)
    assert more.images.shape == (180, 64, 64, 3)
    model = balance.pose_axis(np.concatenate([face_crops.points, more.points]), flip_permutation=IBUG_68.flip)
    before, after = model.coefficients[:60], model.coefficients[60:].reshape(3, 60)
    assert min(np.corrcoef(before, copy)[0, 1] for copy in after) > 0.98
    side = np.ptp(face_crops.points, axis=1).max(1)
    moved = np.linalg.norm(more.points.reshape(3, 60, 68, 2) - face_crops.points, axis=-1).mean(-1) / side
    assert 0.005 < np.median(moved) < 0.04
    assert moved.max() < 0.12
    distance = np.linalg.norm(more.points[:60] - more.points[60:120], axis=-1).mean(-1) / side
    assert np.median(distance) > 0.005  # the copies differ
    np.testing.assert_allclose(more.boxes, tight_box(more.points, more.visible), atol=1e-3)


@pytest.mark.slow
def test_a_copy_depends_only_on_its_seed_face_and_number(face_crops):
    more, fewer = (reshaped(face_crops, copies=n, flip=IBUG_68.flip, seed=0) for n in (2, 1))
    np.testing.assert_array_equal(more.images[:60], fewer.images)
    np.testing.assert_array_equal(more.points[:60], fewer.points)
    other = reshaped(face_crops, copies=1, flip=IBUG_68.flip, seed=1)
    assert (np.abs(other.points - fewer.points).max((1, 2)) > 0.1).mean() > 0.9


@pytest.mark.slow
def test_too_few_faces_and_jpeg_images_raise(face_crops):
    few = dataclasses.replace(
        face_crops, **{f: getattr(face_crops, f)[:4] for f in ("images", "points", "boxes", "crop_to_image", "visible")}
    )
    with pytest.raises(InputError, match="4 faces are too few"):
        reshaped(few, copies=1, flip=IBUG_68.flip, seed=0)
    with pytest.raises(InputError, match="stored as pixels"):
        reshaped(dataclasses.replace(face_crops, images=JpegImages([], 64, 64)), copies=1, flip=IBUG_68.flip, seed=0)


@pytest.mark.slow
def test_copies_appear_in_an_epoch_as_often_as_their_faces():
    config = load_config("configs/synthetic.py")
    data = dataclasses.replace(config.data, train_faces=40, test_faces=10, reshaped=2)
    config = dataclasses.replace(config, data=data, balance=BalanceConfig(method="hsm"))
    training = training_data(config)
    faces = len(training.train.images) // 3
    assert len(training.train.images) == 3 * faces
    times = np.bincount(training.order, minlength=3 * faces).reshape(3, faces)
    assert times.max() > 1
    np.testing.assert_array_equal(times[0], times[1])
    np.testing.assert_array_equal(times[0], times[2])
    with pytest.raises(InputError, match="reshaped=-1"):
        dataclasses.replace(data, reshaped=-1)
