"""Pose-based balancing on real faces, if the data sets are present."""

import numpy as np
import pytest

from wing_jax.balance import (
    correlation_with_yaw,
    duplication_counts,
    official_duplication,
    pose_axis,
    pose_coefficients,
    pose_histogram,
)
from wing_jax.schemes import AFLW_19, IBUG_68, MTFL_5

# AFLW's 21 points: brows 3 + 3, eyes 3 + 3, left ear, nose 3, right ear, mouth 3, chin
_AFLW_PAIRS = [(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 16), (13, 15), (17, 19)]
AFLW_21 = np.arange(21)
for _i, _j in _AFLW_PAIRS:
    AFLW_21[[_i, _j]] = _j, _i


def _require(path):
    if not path.exists():
        pytest.skip(f"{path} not found: set WING_JAX_DATA to the folder of the data sets")
    return path


@pytest.fixture(scope="module")
def ibug(data_root):
    files = sorted(_require(data_root / "300w").rglob("*.pts"))
    bodies = [file.read_text().split("{")[1].split("}")[0] for file in files]
    return np.array([np.array(body.split(), float).reshape(68, 2) for body in bodies])


@pytest.fixture(scope="module")
def aflw(data_root):
    folder = _require(data_root / "aflw_shapes")
    points = np.load(folder / "AFLW_GT_pts21.npy").transpose(0, 2, 1)
    return points, points[..., 0] >= 0, np.load(folder / "AFLW_GT_crop_yaws.npy")


@pytest.fixture(scope="module")
def mtfl(data_root):
    lines = _require(data_root / "mtfl" / "training.txt").read_text().split("\n")
    rows = [line.split() for line in lines if line.strip()]
    points = np.array([row[1:11] for row in rows], float).reshape(-1, 2, 5).transpose(0, 2, 1)
    return points, np.array([row[14] for row in rows], float)


@pytest.mark.slow
def test_300w_first_axis_is_pose_and_agrees_with_the_official_code(ibug):
    model = pose_axis(ibug, flip_permutation=IBUG_68.flip)
    assert model.index == 0
    assert model.correlations[0] > 0.98  # published: 0.99 on 1,796 other shapes
    assert model.correlations[1:].max() < 0.15
    jaw = ibug[:, [0, 16], 0] - ibug[:, 30:31, 0]
    nose_to_jaw = (-jaw[:, 0] - jaw[:, 1]) / (jaw[:, 1] - jaw[:, 0])  # > 0: the nose is nearer to the right
    assert correlation_with_yaw(model.coefficients, nose_to_jaw).spearman > 0.95
    official = official_duplication(ibug)
    assert np.corrcoef(official.coefficients, np.abs(model.coefficients))[0, 1] > 0.99
    no_reflection = official_duplication(ibug, reflection=False)
    np.testing.assert_array_equal(official.indices, no_reflection.indices)


@pytest.mark.slow
def test_300w_halves_of_the_data_agree(ibug):
    model = pose_axis(ibug[::2], flip_permutation=IBUG_68.flip)
    other = pose_axis(ibug[1::2], flip_permutation=IBUG_68.flip)
    assert np.corrcoef(pose_coefficients(model, ibug[1::2]), other.coefficients)[0, 1] > 0.99


@pytest.mark.slow
def test_300w_hidden_far_half_changes_little(ibug):
    model = pose_axis(ibug, flip_permutation=IBUG_68.flip)
    visible = np.ones(ibug.shape[:2], bool)
    visible[model.coefficients > 0.15] = ~np.isin(np.arange(68), range(9, 17))  # jaw on the side turned away
    coefficients = pose_coefficients(model, ibug, visible)
    assert np.corrcoef(coefficients, model.coefficients)[0, 1] > 0.98


@pytest.mark.slow
def test_aflw_axis_is_yaw_with_a_quarter_of_the_points_missing(aflw):
    points, visible, yaw = aflw
    model = pose_axis(points, visible, flip_permutation=AFLW_21)
    annotated = correlation_with_yaw(model.coefficients, -yaw)  # AFLW: yaw > 0 turns the nose to the left
    assert annotated.pearson > 0.88
    assert annotated.spearman > 0.94
    nearly_frontal = (visible.sum(1) >= 14) & (np.abs(yaw) < 60)
    assert correlation_with_yaw(model.coefficients[nearly_frontal], -yaw[nearly_frontal]).pearson > 0.91


@pytest.mark.slow
def test_aflw_without_ears_has_pose_on_its_second_axis_as_the_official_code_says(aflw):
    points, visible, yaw = (array[::4] for array in aflw)
    without_ears = np.delete(np.arange(21), [12, 16])
    model = pose_axis(points[:, without_ears], visible[:, without_ears], flip_permutation=AFLW_19.flip)
    assert model.index == 1
    assert correlation_with_yaw(model.coefficients, -yaw).spearman > 0.92


def test_aflw_permutation_maps_points_to_mirror_images(aflw):
    points, visible, _ = aflw
    mean = points[visible.all(1)].mean(0)
    mirrored = mean[AFLW_21] * [-1, 1]
    np.testing.assert_allclose(mirrored - mirrored.mean(0), mean - mean.mean(0), atol=4)  # of 450 pixels


def test_mtfl_axis_orders_the_pose_classes_and_hsm_balances_them(mtfl):
    points, pose = mtfl
    model = pose_axis(points, flip_permutation=MTFL_5.flip)
    assert correlation_with_yaw(model.coefficients, pose).pearson > 0.82
    means = [model.coefficients[pose == label].mean() for label in range(1, 6)]
    assert means == sorted(means)
    counts = duplication_counts(np.abs(model.coefficients), bins=9)
    histogram = pose_histogram(np.abs(model.coefficients), counts, bins=9)
    large = histogram.before * 20 >= histogram.before.max()
    assert large.sum() >= 7
    assert set(histogram.after[large]) == {histogram.before.max()}
    profiles = np.isin(pose, (1, 5))
    assert counts[profiles].sum() / counts.sum() > 2 * profiles.mean()
