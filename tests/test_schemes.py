"""Landmark schemes: the tables against themselves, and against real faces where there are some."""

import itertools

import numpy as np
import pytest

from wing_jax.data.aflw_shapes import read_aflw_shapes
from wing_jax.data.mtfl import read_mtfl
from wing_jax.data.w300 import read_w300
from wing_jax.schemes import SCHEMES, get_scheme

EVERY = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


@EVERY
def test_flip_is_an_involution_without_repeats(scheme):
    assert scheme.flip.shape == (scheme.points,)
    np.testing.assert_array_equal(scheme.flip[scheme.flip], np.arange(scheme.points))
    named = [point for pair in scheme.mirrored for point in pair]
    assert len(named) == len(set(named))


@EVERY
def test_eyes_mirror_each_other(scheme):
    assert sorted(scheme.flip[list(scheme.left_eye)]) == sorted(scheme.right_eye)
    assert scheme.flip[scheme.left_outer] == scheme.right_outer
    assert scheme.left_outer in scheme.left_eye
    assert scheme.right_outer in scheme.right_eye


@EVERY
def test_lines_join_points_of_the_scheme(scheme):
    assert {point for line in scheme.lines for point in line} <= set(range(scheme.points))


@EVERY
def test_lines_are_mirrored_onto_lines(scheme):
    edges = {frozenset(pair) for line in scheme.lines for pair in itertools.pairwise(line)}
    assert {frozenset(int(scheme.flip[point]) for point in edge) for edge in edges} == edges


def test_a_scheme_is_found_by_name_and_an_unknown_one_is_refused():
    assert get_scheme("mtfl5").points == 5
    with pytest.raises(ValueError, match=r"no landmark scheme is called 'ibug': use one of ibug68, mtfl5"):
        get_scheme("ibug")


def normalised(shapes: np.ndarray) -> np.ndarray:
    """Each shape centred and brought to unit root mean square radius."""
    centred = shapes - shapes.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).sum(-1).mean(-1))[:, None, None]


@pytest.fixture(scope="module")
def frontal(data_root):
    """Real frontal faces for each scheme: (scheme, shapes [n, points, 2])."""
    w300 = read_w300(data_root / "300w", "train")
    mtfl = read_mtfl(data_root / "mtfl", "train")
    points, visible, _, yaw = read_aflw_shapes(data_root / "aflw_shapes")
    shown = visible.all(1) & (np.abs(yaw) < 10)
    without_ears = [i for i in range(21) if i not in (12, 16)]
    return {
        "ibug68": w300.points,
        "mtfl5": mtfl.points[np.array(mtfl.poses) == "3 frontal"],
        "aflw21": points[shown],
        "aflw19": points[visible[:, without_ears].all(1) & (np.abs(yaw) < 10)][:, without_ears],
    }


@EVERY
def test_the_mean_of_flipped_real_faces_is_the_mean_face(scheme, frontal):
    shapes = normalised(frontal[scheme.name])
    assert len(shapes) > 100
    mean = shapes.mean(0)
    flipped = (shapes * (-1, 1)).mean(0)[scheme.flip]
    distance = np.linalg.norm(flipped - mean, axis=-1).max()
    assert distance < 0.1
    for left, right in scheme.mirrored:  # and each pair is needed: without it the face is torn
        torn = scheme.flip
        torn[[left, right]] = left, right
        assert np.linalg.norm((shapes * (-1, 1)).mean(0)[torn] - mean, axis=-1).max() > 2 * distance


@EVERY
def test_the_left_eye_lies_left_of_the_right_and_above_the_middle_on_real_faces(scheme, frontal):
    shapes = frontal[scheme.name]
    left, right = (shapes[:, list(eye)].mean(1) for eye in (scheme.left_eye, scheme.right_eye))
    assert (left[:, 0] < right[:, 0]).mean() > 0.99
    outer = shapes[:, scheme.right_outer, 0] - shapes[:, scheme.left_outer, 0]
    assert (outer >= (right - left)[:, 0] - 1e-3).mean() > 0.99
    assert (((left + right) / 2)[:, 1] < shapes.mean(1)[:, 1]).mean() > 0.97
