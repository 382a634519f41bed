"""Pose-based data balancing on shapes of known pose: the axis, hidden points, the counts, the official code."""

import dataclasses
import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from wing_jax.balance import (
    correlation_with_yaw,
    duplicated_indices,
    duplication_counts,
    official_duplication,
    pose_axis,
    pose_coefficients,
    pose_histogram,
)
from wing_jax.report.pose import pose_figure
from wing_jax.schemes import AFLW_19, IBUG_68, MTFL_5

FLIPS = {scheme.points: scheme.flip for scheme in (MTFL_5, AFLW_19, IBUG_68)}


# x, y, z (towards the viewer) of a frontal head, y down, in the order of the scheme
_EYES_NOSE_MOUTH = [(-3, -2, 0), (3, -2, 0), (0, 0.5, 2.4), (-2, 3, 0.7), (2, 3, 0.7)]
_NINETEEN = [
    *((-3.2, -2.4, 0), (-2.2, -2.9, 0.7), (-1, -2.6, 1), (1, -2.6, 1), (2.2, -2.9, 0.7), (3.2, -2.4, 0)),
    *((-2.6, -1.6, 0), (-1.8, -1.7, 0.5), (-1, -1.6, 0.4), (1, -1.6, 0.4), (1.8, -1.7, 0.5), (2.6, -1.6, 0)),
    *((-0.9, 0.9, 1.2), (0, 0.6, 2.6), (0.9, 0.9, 1.2)),
    *((-1.5, 2.4, 0.7), (0, 2.4, 1.5), (1.5, 2.4, 0.7), (0, 4.4, 1.1)),
]


def _head_points(flip):
    """Return a head of 5 or 19 points, or else random points, symmetric under `flip`, on a convex surface."""
    if len(flip) in (5, 19):
        return np.array({5: _EYES_NOSE_MOUTH, 19: _NINETEEN}[len(flip)], float)
    draw = np.random.default_rng(3)
    across, down = draw.uniform(0.5, 3, len(flip)), draw.uniform(-3, 3, len(flip))
    pair = np.minimum(np.arange(len(flip)), flip)
    x = np.sign(np.arange(len(flip)) - flip) * across[pair]
    return np.stack([x, down[pair], 2.5 - 0.3 * x**2 - 0.05 * down[pair] ** 2], axis=-1)


def _project_heads(flip, count=400, *, seed=0, noise=0.03, roll=0.6):
    """Return orthographic views `[count, points, 2]`, yaw (> 0: nose to the right), and which points are visible."""
    draw = np.random.default_rng(seed)
    yaw, pitch = draw.uniform(-60, 60, count), np.deg2rad(draw.uniform(-12, 12, count))[:, None]
    x, y, z = np.moveaxis(_head_points(flip) + noise * draw.normal(size=(count, len(flip), 3)), -1, 0)
    angle = np.deg2rad(yaw)[:, None]
    across, depth = x * np.cos(angle) + z * np.sin(angle), z * np.cos(angle) - x * np.sin(angle)
    shapes = across + 1j * (y * np.cos(pitch) + depth * np.sin(pitch))
    turn = draw.uniform(5, 50, (count, 1)) * np.exp(1j * draw.uniform(-roll, roll, (count, 1)))
    shapes = turn * shapes + 200 * draw.normal(size=(count, 1))
    return np.stack([shapes.real, shapes.imag], -1), yaw, x * np.sin(angle) < 1.2


@pytest.mark.parametrize("count", FLIPS)
def test_axis_is_yaw_with_its_sign(count):
    points, yaw, _ = _project_heads(FLIPS[count])
    model = pose_axis(points, flip_permutation=FLIPS[count])
    assert correlation_with_yaw(model.coefficients, yaw).pearson > 0.98
    assert model.correlations[model.index] > 0.98
    assert np.delete(model.correlations, model.index).max() < 0.3
    assert model.coefficients.dtype == np.float64


@pytest.mark.slow
@pytest.mark.parametrize("count", [19, 68])
def test_axis_is_yaw_where_the_far_half_is_hidden(count):
    points, yaw, facing = _project_heads(FLIPS[count])
    hidden = np.where(facing[..., None], points, np.nan)
    assert 0.1 < (~facing).mean() < 0.4
    model = pose_axis(hidden, facing, flip_permutation=FLIPS[count])
    assert correlation_with_yaw(model.coefficients, yaw).pearson > 0.97


def test_pose_axis_may_not_be_the_first():
    points, yaw, _ = _project_heads(FLIPS[19], roll=0)
    points[..., 1] *= np.random.default_rng(1).uniform(0.3, 2.0, (400, 1))  # what varies most is the height
    points = points[np.abs(yaw) < 25]
    model = pose_axis(points, flip_permutation=FLIPS[19])
    assert model.index > 0
    assert correlation_with_yaw(model.coefficients, yaw[np.abs(yaw) < 25]).spearman > 0.9


@pytest.mark.slow
@settings(max_examples=4)
@given(
    angle=st.floats(-1.2, 1.2),
    scale=st.floats(0.01, 100),
    shift=st.floats(-1e4, 1e4),
    some_hidden=st.booleans(),
)
def test_coefficients_ignore_similarities(angle, scale, shift, some_hidden):
    points, _, facing = _project_heads(FLIPS[19], 60)
    visible = facing if some_hidden else None
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    model = pose_axis(points, visible, flip_permutation=FLIPS[19])
    moved = points @ turn + shift
    np.testing.assert_allclose(pose_coefficients(model, moved, visible), model.coefficients, atol=1e-7)
    again = pose_axis(moved, visible, flip_permutation=FLIPS[19])
    assert again.index == model.index
    np.testing.assert_allclose(again.coefficients, model.coefficients, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("some_hidden", [False, True])
def test_a_flip_changes_the_sign(some_hidden):
    flip = FLIPS[68]
    points, _, facing = _project_heads(flip, 80)
    visible = facing if some_hidden else np.ones_like(facing)
    model = pose_axis(points, visible, flip_permutation=flip)
    mirrored = pose_coefficients(model, points[:, flip] * [-1, 1], visible[:, flip])
    np.testing.assert_allclose(mirrored, -model.coefficients, atol=1e-9)


@pytest.mark.slow
def test_pose_coefficients_match_those_of_pose_axis():
    points, _, facing = _project_heads(FLIPS[19], 80)
    model = pose_axis(points, facing, flip_permutation=FLIPS[19])
    np.testing.assert_allclose(pose_coefficients(model, points[:7], facing[:7]), model.coefficients[:7], atol=1e-12)


def test_shape_along_the_axis_turns_the_nose():
    points, _, _ = _project_heads(FLIPS[5])
    model = pose_axis(points, flip_permutation=FLIPS[5])
    left, right = model.shape_at(-2 * model.deviation), model.shape_at(2 * model.deviation)
    assert left[2, 0] < -0.05 < 0.05 < right[2, 0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.index = 0


def test_correlation_by_value_and_by_rank():
    yaw = np.array([-60.0, -5.0, 10.0, 10.0, 70.0])
    cubed = correlation_with_yaw(yaw**3, yaw)
    assert cubed.spearman == pytest.approx(1)
    assert cubed.pearson == pytest.approx(np.corrcoef(yaw**3, yaw)[0, 1])
    assert correlation_with_yaw(np.zeros(5), yaw) == (0.0, 0.0)


@pytest.mark.slow
@given(
    coefficients=st.lists(st.floats(-5, 5), min_size=1, max_size=60),
    bins=st.integers(1, 20),
    cap=st.integers(1, 25),
    seed=st.integers(0, 5),
)
def test_counts_balance_the_bins(coefficients, bins, cap, seed):
    coefficients = np.array(coefficients)
    counts = duplication_counts(coefficients, bins=bins, cap=cap, seed=seed)
    assert counts.min() >= 1
    assert counts.max() <= cap
    edges, before, after = pose_histogram(coefficients, counts, bins=bins)
    np.testing.assert_array_equal(before, np.histogram(coefficients, edges)[0])
    np.testing.assert_allclose(np.diff(edges), np.ptp(coefficients) / bins, atol=1e-12)
    np.testing.assert_array_equal(after, np.where(before > 0, np.minimum(before.max(), cap * before), 0))
    indices = duplicated_indices(counts)
    assert [Counter(indices.tolist())[face] for face in range(len(counts))] == counts.tolist()


def test_the_remainder_is_drawn_by_seed():
    coefficients = np.array([0.0] * 8 + [1.0] * 3)  # 8 = 2 * 3 + 2
    draws = [duplication_counts(coefficients, bins=2, seed=seed) for seed in range(20)]
    for counts in draws:
        assert sorted(counts[8:]) == [2, 3, 3]
    assert len({tuple(counts) for counts in draws}) == 3
    np.testing.assert_array_equal(draws[4], duplication_counts(coefficients, bins=2, seed=4))


def test_a_single_extreme_face_is_copied_up_to_the_cap():
    coefficients = np.append(np.linspace(0, 0.1, 50), 9.0)
    counts = duplication_counts(coefficients, bins=9, cap=20)
    assert counts.tolist() == [1] * 50 + [20]
    histogram = pose_histogram(coefficients, counts, bins=9)
    assert histogram.before.tolist() == [50, *[0] * 7, 1]
    table = histogram.table().splitlines()
    assert table[-2].endswith("| 1 | 20 |")
    assert table[-1] == "| all | 51 | 70 |"


def _literal_pdb(shapes, bins, reflection):
    """Compute `pdb.m` by loops and real matrices instead of complex numbers, from Matlab's documentation."""
    mean = sum(shapes) / len(shapes)
    aligned = []
    for shape in shapes:  # procrustes(mean, shape)
        x0, y0 = mean - mean.mean(0), shape - shape.mean(0)
        x_norm, y_norm = np.sqrt((x0**2).sum()), np.sqrt((y0**2).sum())
        left, singular, right = np.linalg.svd((x0 / x_norm).T @ (y0 / y_norm))
        turn = right.T @ left.T
        if not reflection and np.linalg.det(turn) < 0:
            right[-1] *= -1
            singular[-1] *= -1
            turn = right.T @ left.T
        aligned.append((singular.sum() * x_norm / y_norm * y0 @ turn + mean.mean(0)).T.reshape(-1))
    rows = np.array(aligned) - np.mean(aligned, 0)
    axis = np.linalg.svd(rows, full_matrices=False)[2][1 if shapes.shape[1] == 19 else 0]
    size = [abs(float(axis @ row)) for row in rows]
    step = (max(size) - min(size)) / bins
    fullest = max(
        sum(min(size) + i * step < s <= min(size) + (i + 1) * step or (i == 0 and s == min(size)) for s in size)
        for i in range(bins)
    )
    indices = []
    for i in range(1, bins + 1):
        members = [
            f
            for f, s in enumerate(size)
            if (i - 1) * max(size) / bins <= s and (i == bins or s <= i * max(size) / bins)
        ]
        ratio = fullest / len(members) if members else 0
        indices += members * (int(ratio) + (ratio % 1 >= 0.5))
    return np.array(size), indices


@pytest.mark.slow
@pytest.mark.parametrize("count", FLIPS)
@pytest.mark.parametrize("reflection", [False, True])
def test_official_duplication_matches_a_literal_translation(count, reflection):
    points, _, _ = _project_heads(FLIPS[count], 150, noise=0.2)
    points[:20, :, 0] *= -1  # 20 mirrored faces whose points are not renamed
    size, indices = _literal_pdb(points, 9, reflection)
    official = official_duplication(points, reflection=reflection)
    np.testing.assert_allclose(official.coefficients, size, rtol=1e-6, atol=1e-9 * size.max())
    assert official.indices.tolist() == indices
    sizes = Counter(official.indices.tolist())
    assert len(sizes) == 150


def test_official_reflection_matters_for_mirrored_faces_alone():
    points, _, _ = _project_heads(FLIPS[19], 100)
    allowed, forbidden = (official_duplication(points, reflection=r).coefficients for r in (True, False))
    np.testing.assert_allclose(allowed, forbidden)
    points[:20, :, 0] *= -1
    allowed, forbidden = (official_duplication(points, reflection=r).coefficients for r in (True, False))
    assert np.abs(allowed - forbidden).max() > 0.1 * forbidden.max()


def test_official_axis_can_be_chosen():
    points, yaw, _ = _project_heads(FLIPS[19])
    assert correlation_with_yaw(official_duplication(points, axis=0).coefficients, np.abs(yaw)).spearman > 0.9
    assert correlation_with_yaw(official_duplication(points).coefficients, np.abs(yaw)).spearman < 0.5


def _replace_at(points, index, value):
    result = points.copy()
    result[index] = value
    return result


def test_invalid_shapes_raise_one_line():
    flip = FLIPS[19]
    points, _, visible = _project_heads(flip, 10)
    rotated = np.roll(np.arange(19), 1)
    for message, bad_points, bad_visible, bad_flip in (
        ("too few", points[:2], None, flip),
        ("3 points or more", points[:, :2], None, np.array([1, 0])),
        ("once", points, None, np.zeros(19, int)),
        ("once", points, None, flip[:5]),
        ("undo itself", points, None, rotated),
        ("face 4 .*not finite", _replace_at(points, (4, 7), np.nan), None, flip),
        ("face 3 .*one position", _replace_at(points, 3, 41.0), None, flip),
        ("face 6 .*fewer than two", points, _replace_at(visible, (6, slice(1, None)), False), flip),
        ("point 13 is never visible", points, _replace_at(visible | True, (slice(None), 13), False), flip),
        ("same shape", points[[0, 0, 0]], None, flip),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            pose_axis(bad_points, bad_visible, flip_permutation=bad_flip)
        assert "\n" not in str(raised.value)


def test_invalid_numbers_raise():
    points, _, _ = _project_heads(FLIPS[5], 10)
    model = pose_axis(points, flip_permutation=FLIPS[5])
    with pytest.raises(ValueError, match="model has 5 points"):
        pose_coefficients(model, np.zeros((3, 19, 2)))
    with pytest.raises(ValueError, match="components"):
        pose_axis(points, flip_permutation=FLIPS[5], components=0)
    with pytest.raises(ValueError, match="yaw cannot be estimated"):
        pose_axis(points[:, [0, 1, 0, 1]] + [[0, 0], [0, 0], [0, 9], [0, 9]], flip_permutation=np.array([1, 0, 3, 2]))
    with pytest.raises(ValueError, match="bins = 0"):
        duplication_counts(model.coefficients, bins=0)
    with pytest.raises(ValueError, match="cap = 0"):
        duplication_counts(model.coefficients, bins=3, cap=0)
    with pytest.raises(ValueError, match="finite"):
        duplication_counts(np.array([0.0, np.nan]), bins=3)
    with pytest.raises(ValueError, match="too few"):
        official_duplication(points[:2])
    with pytest.raises(ValueError, match="bins = 0"):
        official_duplication(points, bins=0)


def test_figure_shows_the_histogram_and_three_faces():
    points, _, _ = _project_heads(FLIPS[5], 200)
    model = pose_axis(points, flip_permutation=FLIPS[5])
    counts = duplication_counts(np.abs(model.coefficients), bins=9)
    figure = pose_figure(model, counts, bins=11, lines=MTFL_5.lines)
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert [inset.get_title() for inset in axes.child_axes] == ["-2 sd", "mean", "+2 sd"]
    heights = [bar.get_height() for bar in axes.containers[1]]
    assert heights == pose_histogram(model.coefficients, counts, bins=11).before.tolist()
    figure.savefig(io.BytesIO(), format="png")
