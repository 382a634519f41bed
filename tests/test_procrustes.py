"""Procrustes alignment and PCA of shapes: against Umeyama's SVD and NumPy's own PCA."""

import numpy as np
import pytest

from wing_jax.procrustes import (
    align,
    as_complex,
    as_points,
    deviations_from_mean,
    fit_shape_gaussian,
    flat,
    mirror,
    symmetric_mean,
)
from wing_jax.schemes import IBUG_68, MTFL_5

FACE = np.array([[-3.0, -2.0], [3.0, -2.0], [0.0, 0.5], [-2.0, 3.0], [2.0, 3.0]])  # upright, symmetric


def _align_by_svd(source, target, weights):
    """Align by a weighted similarity without reflection, by SVD (Umeyama 1991), not by the complex closed form."""
    share = (weights / weights.sum())[:, None]
    s, t = source - (share * source).sum(0), target - (share * target).sum(0)
    left, singular, right = np.linalg.svd((share * t).T @ s)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ np.diag(signs) @ right
    scale = (singular * signs).sum() / (share * s * s).sum()
    return scale * s @ rotation.T + (share * target).sum(0)


@pytest.mark.parametrize("seed", range(4))
def test_align_equals_umeyama(seed):
    random = np.random.default_rng(seed)
    source, target, weights = random.normal(size=(7, 2)), random.normal(size=(7, 2)), random.uniform(0, 1, 7)
    weights[2] = 0
    aligned = align(as_complex(source), as_complex(target), weights)
    np.testing.assert_allclose(as_points(aligned), _align_by_svd(source, target, weights), atol=1e-12)


def test_align_does_not_reflect():
    target = as_complex(np.array([[0.0, 0.0], [1.0, 0.0], [0.3, 2.0]]))
    assert np.abs(align(target.conj(), target) - target).max() > 0.1
    np.testing.assert_allclose(align((2 + 3j) * target + 5, target), target, atol=1e-12)


def test_mirroring_twice_restores_the_shape():
    shapes = as_complex(np.random.default_rng(0).normal(size=(3, 68, 2)))
    np.testing.assert_array_equal(mirror(mirror(shapes, IBUG_68.flip), IBUG_68.flip), shapes)
    assert not np.allclose(mirror(shapes, IBUG_68.flip), shapes)


def _posed_faces(count, seed=0, noise=0.0):
    random = np.random.default_rng(seed)
    turn = random.uniform(0.5, 3, (count, 1)) * np.exp(1j * random.uniform(-1, 1, (count, 1)))
    shapes = as_complex(FACE + noise * random.normal(size=(count, 5, 2)))
    return turn * shapes + random.normal(size=(count, 1)) * (100 + 50j)


def test_symmetric_mean_recovers_the_face_despite_hidden_points_and_poses():
    shapes = _posed_faces(40)
    visible = np.random.default_rng(1).uniform(size=shapes.shape) < 0.8
    visible[:, :2] = True
    expected = as_complex(FACE - FACE.mean(0))
    for mask in (np.ones_like(visible), visible):
        mean = symmetric_mean(np.where(mask, shapes, 9e3), mask, MTFL_5.flip)
        np.testing.assert_allclose(mean, expected / np.linalg.norm(expected), atol=1e-7)


def test_symmetric_mean_is_symmetric_of_norm_one_and_upright():
    mean = symmetric_mean(_posed_faces(50, noise=0.3), np.ones((50, 5), bool), MTFL_5.flip)
    np.testing.assert_allclose(mirror(mean, MTFL_5.flip), mean, atol=1e-12)
    assert np.linalg.norm(mean) == pytest.approx(1)
    assert mean.sum() == pytest.approx(0)
    assert mean[0].imag < mean[3].imag  # eyes above the mouth: y points down


def test_symmetric_mean_needs_left_right_pairs():
    visible = np.zeros((3, 5), bool)
    visible[:, [0, 3]] = True
    with pytest.raises(ValueError, match="mirror points"):
        symmetric_mean(_posed_faces(3), visible, MTFL_5.flip)


def test_axes_equal_the_pca_of_shapes_and_mirror_images():
    shapes = _posed_faces(200, noise=0.3)
    gaussian = fit_shape_gaussian(shapes, np.ones((200, 5), bool), MTFL_5.flip, components=3)
    aligned = np.concatenate([align(shapes, gaussian.mean), align(mirror(shapes, MTFL_5.flip), gaussian.mean)])
    _, singular, axes = np.linalg.svd(flat(aligned - gaussian.mean), full_matrices=False)
    np.testing.assert_allclose(gaussian.variances, singular[:3] ** 2 / 400, rtol=1e-6)
    np.testing.assert_allclose(np.abs(gaussian.axes @ axes[:3].T), np.eye(3), atol=1e-5)
    assert gaussian.total == pytest.approx((singular**2).sum() / 400, rel=1e-6)


def test_hidden_points_are_filled_in_from_the_axes():
    random = np.random.default_rng(2)
    mode = np.array([[0.2, 0.1], [-0.2, 0.1], [0.0, -0.8], [0.5, 0.2], [-0.5, 0.2]])  # one symmetric mode
    shapes = as_complex(FACE + random.normal(size=(300, 1, 1)) * mode)
    visible = random.uniform(size=shapes.shape) < 0.8
    visible[visible.sum(1) < 4] = True
    gaussian = fit_shape_gaussian(shapes, visible, MTFL_5.flip, components=1, rounds=60)
    filled = deviations_from_mean(gaussian, np.where(visible, shapes, 0), visible, refinements=20)
    expected_deviations = deviations_from_mean(gaussian, shapes, np.ones_like(visible))
    error_at_mean = np.abs(flat(np.where(visible, 0, 1 + 1j)) * expected_deviations).max()
    assert np.abs(filled - expected_deviations).max() < 0.1 * error_at_mean
