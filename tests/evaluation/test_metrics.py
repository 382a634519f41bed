"""Errors, NME, CED, AUC, failure rate and the normalizers, against values computed by hand or in other ways."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wing_jax.data.face_set import FaceSet
from wing_jax.evaluation import evaluate_points, metrics
from wing_jax.evaluation.measures import all_or
from wing_jax.evaluation.metrics import Eyes
from wing_jax.schemes import IBUG_68

# Two faces of six points: eyes of two points each (outer corner first), nose, mouth.
EYES = Eyes(left=(0, 1), right=(2, 3), left_outer=0, right_outer=3)
FACE = np.array([[0, 0], [4, 0], [8, 0], [12, 0], [6, 6], [6, 10]], np.float32)
POINTS = np.stack([FACE, 2 * FACE + 5])
BOXES = np.array([[0, 0, 30, 40], [10, 10, 70, 90]], np.float32)
HIDDEN_CORNER = np.ones((2, 6), bool)
HIDDEN_CORNER[1, 3] = False

nme_lists = arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1, allow_subnormal=False, width=32))
thresholds = st.floats(0.01, 1)


def offsets(seed=0, faces=2):
    return np.random.default_rng(seed).normal(size=(faces, 6, 2)).astype(np.float32)


def loop_nme(predicted, target, divisor, visible):
    """Plain Python reference of the per-face NME."""
    means = []
    for face in range(len(target)):
        errors = [
            math.dist(predicted[face][point].tolist(), target[face][point].tolist())
            for point in range(target.shape[1])
            if visible[face][point]
        ]
        means.append(sum(errors) / len(errors) / divisor[face])
    return means


def normalizer_of(name):
    """Return the normalizer function of that name."""
    return getattr(metrics, name.replace("-", "_"))


def test_point_errors_by_hand():
    predicted = POINTS + np.array([3, 4], np.float32)
    errors = metrics.point_errors(predicted, POINTS)
    assert errors.dtype == np.float64
    np.testing.assert_array_equal(errors, np.full((2, 6), 5.0))


def test_jax_arrays_give_the_same_errors():
    predicted = POINTS + offsets()
    ours = metrics.point_errors(jnp.asarray(predicted), jnp.asarray(POINTS), jnp.asarray(HIDDEN_CORNER))
    np.testing.assert_array_equal(ours, metrics.point_errors(predicted, POINTS, HIDDEN_CORNER))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_hidden_points_are_ignored(value):
    target = np.where(HIDDEN_CORNER[..., None], POINTS, np.float32(value))
    predicted = POINTS + offsets()
    errors = metrics.point_errors(predicted, target, HIDDEN_CORNER)
    assert errors[1, 3] == 0
    ours = metrics.nme(errors, np.array([2.0, 3.0]), HIDDEN_CORNER)
    np.testing.assert_allclose(ours, loop_nme(predicted, POINTS, [2, 3], HIDDEN_CORNER), rtol=1e-6)


def test_visible_prediction_that_is_not_finite_raises():
    predicted = POINTS.copy()
    predicted[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"1 faces \(the first: number 1\)"):
        metrics.point_errors(predicted, POINTS)


def test_different_shapes_raise():
    with pytest.raises(ValueError, match="pass arrays of the same shape"):
        metrics.point_errors(POINTS[:, :5], POINTS)
    with pytest.raises(ValueError, match="one value for each point"):
        all_or(HIDDEN_CORNER[:, :5], POINTS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inter-ocular", [12, 24]),
        ("inter-pupil", [8, 16]),
        ("box-diagonal", [50, 100]),
        ("box-size", [math.sqrt(1200), math.sqrt(4800)]),
        ("landmark-box-size", [math.sqrt(120), 2 * math.sqrt(120)]),
    ],
)
def test_normalizers_by_hand(name, expected):
    ours = normalizer_of(name)(POINTS, BOXES, EYES)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_inter_pupil_of_single_points_is_the_distance_of_the_eye_centers():
    eyes = Eyes(left=(0,), right=(3,), left_outer=0, right_outer=3)
    np.testing.assert_allclose(metrics.inter_pupil(POINTS, BOXES, eyes), [12, 24])


def test_normalizer_is_nan_if_an_eye_is_hidden():
    for name in ("inter-ocular", "inter-pupil"):
        normalizer = normalizer_of(name)(POINTS, BOXES, EYES, HIDDEN_CORNER)
        assert np.isnan(normalizer).tolist() == [False, True], name


def test_landmark_box_is_of_the_visible_points_only():
    assert metrics.landmark_box_size(POINTS, BOXES, EYES, HIDDEN_CORNER)[1] == pytest.approx(math.sqrt(16 * 20))
    assert np.isnan(metrics.landmark_box_size(POINTS, BOXES, EYES, np.zeros((2, 6), bool))).all()


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 9, 1, 1], [np.nan, 0, 1, 1]])
def test_box_without_area_has_no_size(box):
    boxes = np.array([box, [0, 0, 1, 1]], np.float32)
    for name in ("box_size", "box_diagonal"):
        assert np.isnan(normalizer_of(name)(POINTS, boxes, EYES)).tolist() == [True, False], name


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -1.0])
def test_bad_normalizer_makes_the_nme_nan(bad):
    assert np.isnan(metrics.nme(np.ones((2, 6)), np.array([bad, 2.0]))).tolist() == [True, False]


def test_face_without_a_visible_point_has_no_nme():
    visible = np.ones((2, 6), bool)
    visible[0] = False
    np.testing.assert_array_equal(metrics.nme(np.ones((2, 6)), np.array([2.0, 2.0]), visible), [np.nan, 0.5])


@given(
    scale=st.floats(0.1, 20),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    name=st.sampled_from(sorted(metrics.NORMALIZERS)),
)
def test_nme_does_not_change_with_joint_scale_and_shift(scale, shift, name):
    def nmes(target, predicted, boxes):
        return metrics.nme(metrics.point_errors(predicted, target), normalizer_of(name)(target, boxes, EYES))

    target, boxes, offset = POINTS.astype(np.float64), BOXES.astype(np.float64), np.array(shift)
    predicted = target + offsets()
    moved = (scale * target + offset, scale * predicted + offset, scale * boxes + np.tile(offset, 2))
    np.testing.assert_allclose(nmes(*moved), nmes(target, predicted, boxes), rtol=1e-9)


def make_faces(seed=0):
    """Return four faces of 68 points: all visible; a hidden point; a hidden eye corner; coinciding eye corners."""
    points = np.random.default_rng(seed).uniform(10, 90, (4, 68, 2)).astype(np.float32)
    points[3, IBUG_68.left_outer] = points[3, IBUG_68.right_outer]
    visible = np.ones((4, 68), bool)
    visible[1, 30] = visible[2, IBUG_68.left_outer] = False
    return FaceSet.from_arrays(np.zeros((4, 100, 100, 3), np.uint8), points, scheme="ibug68", visible=visible)


@pytest.mark.slow
def test_worst_landmark_is_the_largest_error_by_the_distance_of_the_eye_corners():
    faces = make_faces()
    predicted = faces.points + np.random.default_rng(1).normal(0, 3, faces.points.shape).astype(np.float32)
    predicted[0, 12] += 40
    predicted[1, 30] += 500  # hidden: does not count
    matrices = [scipy.spatial.distance.cdist(p, t) for p, t in zip(predicted, faces.points, strict=True)]
    worst = [np.diag(matrix)[shown].max() for matrix, shown in zip(matrices, faces.visible, strict=True)]
    corners = faces.points[:2, [36, 45]].astype(np.float64)
    expected = worst[:2] / np.hypot(*(corners[:, 1] - corners[:, 0]).T)
    ours = metrics.worst_landmark(predicted, faces)
    np.testing.assert_allclose(ours, [*expected, np.nan, np.nan], rtol=1e-6)
    evaluation = evaluate_points(predicted, faces)
    assert evaluation.metrics == (*metrics.NORMALIZERS, "worst-landmark")
    assert evaluation.mean["worst-landmark"] == pytest.approx(100 * expected.mean())
    assert "worst-landmark (%)\nmetric" in str(evaluation)
    assert "worst-landmark" not in evaluation.nme
    assert set(evaluation.landmarks) == set(metrics.NORMALIZERS)


def test_worst_landmark_rejects_nan():
    faces = make_faces()
    predicted = faces.points.copy()
    predicted[1, 30] = np.nan  # hidden
    assert metrics.worst_landmark(predicted, faces)[1] == 0
    predicted[0, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 faces \(the first: number 0\)"):
        metrics.worst_landmark(predicted, faces)


def test_ced_auc_and_failures_by_hand():
    # Steps of 1/4 at 1, 2, 2 and 5 per cent: area to 4 % is (0 + 1/4 + 3/4 + 3/4) / 4.
    nmes = np.array([0.05, 0.02, 0.01, 0.02])
    np.testing.assert_array_equal(
        metrics.ced(nmes, np.array([0.0, 0.009, 0.01, 0.02, 0.049, 0.05, 1.0])), [0, 0, 0.25, 0.75, 0.75, 1, 1]
    )
    assert metrics.auc(nmes, 0.04) == pytest.approx(7 / 16, abs=1e-15)
    assert metrics.failure_rate(nmes, 0.04) == 0.25
    assert metrics.failure_rate(nmes, 0.05) == 0.0
    assert metrics.failure_rate(nmes, 0.005) == 1.0


def test_auc_at_its_limits():
    assert metrics.auc(np.zeros(3), 0.1) == 1.0
    assert metrics.auc(np.full(3, 0.1), 0.1) == 0.0
    assert metrics.auc(np.full(3, 7.0), 0.1) == 0.0


@pytest.mark.slow
@given(nmes=nme_lists, threshold=thresholds)
def test_auc_is_the_area_under_the_steps(nmes, threshold):
    edges = np.unique(np.concatenate([[0.0, threshold], nmes[nmes < threshold]]))
    area = (np.diff(edges) * metrics.ced(nmes, edges[:-1])).sum() / threshold
    assert metrics.auc(nmes, threshold) == pytest.approx(area, abs=1e-9)
    assert 0 <= metrics.auc(nmes, threshold) <= 1


@given(nmes=nme_lists)
def test_auc_by_simpsons_rule_differs_by_about_one_step_at_most(nmes):
    threshold, step = 0.1, 1e-4
    heights = metrics.ced(nmes, np.linspace(0, threshold, 1001))
    simpson = step / 3 * (heights[0] + heights[-1] + 4 * heights[1::2].sum() + 2 * heights[2:-1:2].sum()) / threshold
    assert abs(metrics.auc(nmes, threshold) - simpson) <= 1.5 * step / threshold


@given(nmes=nme_lists, threshold=thresholds, worse=st.floats(0, 1))
def test_larger_errors_are_never_better(nmes, threshold, worse):
    limits = np.linspace(0, 1, 21)
    assert metrics.auc(nmes + worse, threshold) <= metrics.auc(nmes, threshold)
    assert metrics.failure_rate(nmes + worse, threshold) >= metrics.failure_rate(nmes, threshold)
    assert (np.diff(metrics.ced(nmes, limits)) >= 0).all()
    assert metrics.failure_rate(nmes, threshold) == pytest.approx(1 - metrics.ced(nmes, np.array([threshold]))[0])


@pytest.mark.parametrize("nmes", [[], [0.1, np.nan]])
def test_curves_reject_nan_and_empty_lists(nmes):
    for measure in (metrics.auc, metrics.failure_rate, lambda n, t: metrics.ced(n, np.array([t]))):
        with pytest.raises(ValueError, match=r"no faces to measure|1 NMEs are NaN"):
            measure(np.array(nmes, np.float64), 0.1)


def test_threshold_must_be_positive():
    for measure in (metrics.auc, metrics.failure_rate):
        with pytest.raises(ValueError, match="must be positive"):
            measure(np.array([0.1]), 0.0)
