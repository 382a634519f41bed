"""Rules for face boxes, checked against values computed by hand and as properties."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wing_jax.data.boxes import RULES, ShapeInBox, convert_boxes, scale_boxes, shape_in_box, square_boxes, with_boxes
from wing_jax.data.face_set import FaceSet
from wing_jax.data.readers.mtfl import box_of_five_points
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.schemes import AFLW_21, MTFL_5


def two_faces(**changes) -> FaceSet:
    points = np.float32(
        [[[30, 40], [70, 40], [50, 60], [38, 80], [62, 80]], [[10, 10], [30, 12], [20, 20], [12, 30], [0, 0]]]
    )
    visible = np.ones((2, 5), bool)
    visible[1, 4] = False  # has no position
    faces = FaceSet(
        name="two", scheme=MTFL_5, pictures=(Path("a.png"), Path("b.png")), points=points, visible=visible,
        boxes=np.float32([[20, 30, 80, 100], [0, 0, 40, 36]]), box_convention="mine",
        photos=("a", "b"), subsets=("", ""),
    )  # fmt: skip
    return dataclasses.replace(faces, **changes)


@pytest.mark.parametrize(
    ("rule", "first", "second", "convention"),
    [
        ("given", [20, 30, 80, 100], [0, 0, 40, 36], "mine"),
        ("landmarks", [30, 40, 70, 80], [10, 10, 30, 30], "landmarks"),
        ("square", [15, 30, 85, 100], [0, -2, 40, 38], "mine square"),
        ("square landmarks", [30, 40, 70, 80], [10, 10, 30, 30], "square landmarks"),
        ("enlarged", [12.5, 21.25, 87.5, 108.75], [-5, -4.5, 45, 40.5], "mine enlarged"),
    ],
)
def test_rules_by_hand(rule, first, second, convention):
    faces = with_boxes(two_faces(), rule)
    np.testing.assert_allclose(faces.boxes, [first, second])
    assert faces.boxes.dtype == np.float32
    assert faces.box_convention == convention


def test_mtfl_boxes_work_for_any_scheme_with_the_five_points():
    all_visible = two_faces(visible=np.ones((2, 5), bool))
    np.testing.assert_array_equal(with_boxes(all_visible, "mtfl").boxes, box_of_five_points(all_visible.points))
    with pytest.raises(InputError, match=r"^b.png: boxes='mtfl' needs all five points, but some are hidden"):
        with_boxes(two_faces(), "mtfl")
    points = np.random.default_rng(0).uniform(0, 100, (2, 21, 2)).astype(np.float32)
    faces = two_faces(scheme=AFLW_21, points=points, visible=np.ones((2, 21), bool))
    np.testing.assert_allclose(
        with_boxes(faces, "mtfl").boxes, box_of_five_points(points[:, [7, 10, 14, 17, 19]]), atol=1e-4
    )


def test_an_unknown_rule_is_rejected():
    with pytest.raises(InputError, match="boxes='tight': use one of given, landmarks"):
        with_boxes(two_faces(), "tight")
    assert all(RULES.values())


BOXES = arrays.arrays(np.float32, (3, 2), elements=st.floats(-500, 500, width=32)).flatmap(
    lambda low: arrays.arrays(np.float32, (3, 2), elements=st.floats(2, 300, width=32)).map(
        lambda size: np.concatenate([low, low + size], axis=1)
    )
)


@given(BOXES)
def test_squares_contain_the_box_and_keep_its_center(boxes):
    squares = square_boxes(boxes)
    side = squares[:, 2:] - squares[:, :2]
    np.testing.assert_allclose(side[:, 0], side[:, 1], rtol=1e-3)
    np.testing.assert_allclose(side.max(1), (boxes[:, 2:] - boxes[:, :2]).max(1), rtol=1e-3)
    np.testing.assert_allclose(squares[:, :2] + squares[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-2)
    np.testing.assert_allclose(square_boxes(squares), squares, atol=1e-2)


@given(BOXES, st.floats(0.25, 4))
def test_scaling_and_scaling_back_changes_nothing(boxes, factor):
    np.testing.assert_allclose(scale_boxes(scale_boxes(boxes, factor=factor), factor=1 / factor), boxes, atol=1e-2)


@pytest.mark.slow
@given(st.floats(0.5, 1.5), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_fitted_boxes_have_the_target_convention(side, x, y):
    faces = two_faces(boxes=np.float32([[20, 30, 80, 90], [0, -2, 40, 38]]))
    target = ShapeInBox(center=(x, y), side=side)
    boxes = convert_boxes(faces.boxes, source=shape_in_box(faces), target=target)
    measured = shape_in_box(two_faces(boxes=boxes))
    assert measured.side == pytest.approx(side, abs=2e-3)
    assert measured.center == pytest.approx((x, y), abs=2e-3)
    ratios = (boxes[:, 2:] - boxes[:, :2]) / (faces.boxes[:, 2:] - faces.boxes[:, :2])
    np.testing.assert_allclose(ratios, np.full_like(ratios, ratios[0, 0]), rtol=1e-4)  # one factor for all


def test_the_tight_box_ignores_points_without_a_position():
    points = np.float32([[1, 5], [np.nan, np.nan], [3, 2]])
    np.testing.assert_array_equal(tight_box(points), [1, 2, 3, 5])
