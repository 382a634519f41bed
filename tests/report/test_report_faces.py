"""Sheets of annotated faces and pictures of schemes: positions and colors."""

import dataclasses

import numpy as np
import pytest

from wing_jax.data.face_set import FaceSet
from wing_jax.data.readers.synthetic import synthetic_faces
from wing_jax.inference.drawing import TARGET
from wing_jax.report.faces import COLORS, annotation_sheet
from wing_jax.report.schemes import scheme_picture, scheme_points
from wing_jax.schemes import IBUG_68, MTFL_5, SCHEMES
from wing_jax.types import Visibility


def gray_face(**changes) -> FaceSet:
    """Return one face on plain gray: a point for each kind of visibility, one without position, and the box."""
    faces = FaceSet(
        name="gray", scheme=dataclasses.replace(MTFL_5, lines=()), pictures=np.full((1, 200, 200, 3), 128, np.uint8),
        points=np.float32([[[60, 60], [140, 60], [100, 100], [70, 140], [130, 140]]]),
        visible=np.array([[True, True, True, True, False]]), boxes=np.float32([[40, 40, 160, 160]]),
        box_convention="mine", photos=("a",), subsets=("part",), visibility=np.int8([[0, 1, 2, 3, 3]]),
    )  # fmt: skip
    return dataclasses.replace(faces, **changes)


def count_pixels(image: np.ndarray, color) -> int:
    return int((np.abs(image.astype(int) - color).max(-1) < 12).sum())


def test_points_are_colored_by_visibility_and_missing_ones_left_out():
    sheet = annotation_sheet(gray_face(), numbers=False)
    for kind in (Visibility.OCCLUDED, Visibility.SELF_OCCLUDED):
        assert 4 < count_pixels(sheet, COLORS[kind]) < 60
    pink = COLORS[Visibility.SELF_OCCLUDED]
    both = annotation_sheet(gray_face(visible=np.ones((1, 5), bool)), numbers=False)
    assert count_pixels(both, pink) == pytest.approx(2 * count_pixels(sheet, pink), rel=0.3)
    two_points = count_pixels(sheet, TARGET)
    one_point = count_pixels(
        annotation_sheet(gray_face(visible=np.array([[True, False, True, True, False]])), numbers=False), TARGET
    )
    assert two_points == pytest.approx(2 * one_point, rel=0.3)
    plain = annotation_sheet(gray_face(visibility=None), numbers=False)
    assert count_pixels(plain, COLORS[Visibility.OCCLUDED]) == 0


def test_points_are_drawn_where_the_picture_is_marked():
    picture = np.full((1, 200, 200, 3), 128, np.uint8)
    for x, y in ((60, 60), (140, 60), (100, 100), (70, 140)):
        picture[0, y - 6 : y + 7, x - 6 : x + 7] = 0
    sheet = annotation_sheet(gray_face(pictures=picture, visibility=None), numbers=False)
    rows, columns = np.nonzero(np.abs(sheet.astype(int) - TARGET).max(-1) < 12)
    assert len(rows) > 20
    for row, column in zip(rows, columns, strict=True):  # every dot is on a dark square
        around = sheet[max(row - 14, 0) : row + 15, max(column - 14, 0) : column + 15].max(-1)
        assert (around < 40).sum() > 150


def test_numbers_can_be_left_out_and_tiles_fill_the_columns():
    faces = synthetic_faces(5, seed=1, size=64)
    with_numbers, without = (annotation_sheet(faces, columns=3, size=200, numbers=n) for n in (True, False))
    assert with_numbers.shape == without.shape
    assert (with_numbers != without).any()
    assert with_numbers.shape[1] > 3 * 200


@pytest.mark.parametrize("name", SCHEMES)
def test_each_published_scheme_has_a_picture(name):
    scheme = SCHEMES[name]
    picture = scheme_picture(scheme, size=240)
    assert picture.shape[0] > picture.shape[1] > 240
    points68 = synthetic_faces(1, seed=1, size=128).points[0]
    points = scheme_points(scheme, points68)
    assert points.shape == (scheme.points, 2)
    low, high = points68.min(0), points68.max(0)
    above = 0.6 if "forehead middle" in scheme.names else 0.2
    assert ((points > low - (0.2, above) * (high - low)) & (points < high + 0.2 * (high - low))).all()
    # In two schemes a pupil is the center of an eye.
    assert len(np.unique(points.round(3), axis=0)) >= scheme.points - 2


def test_the_pictures_points_mirror_each_other():
    """On a symmetric face every scheme's points are symmetric, so no point is on the wrong side."""
    symmetric = synthetic_faces(1, seed=1, size=128).points[0]
    mirrored = (symmetric * (-1, 1))[IBUG_68.flip]
    symmetric = ((symmetric - symmetric.mean(0)) + (mirrored - mirrored.mean(0))).astype(np.float32) / 2
    for scheme in SCHEMES.values():
        points = scheme_points(scheme, symmetric)
        np.testing.assert_allclose((points * (-1, 1))[scheme.flip], points, atol=1e-3, err_msg=scheme.name)
