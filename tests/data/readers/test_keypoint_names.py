"""Keypoint names: each spelling of a name matches its point and no other."""

import numpy as np
import pytest

from wing_jax.data.readers.keypoint_names import find_point_order, match_names, parse_indices, reject_swapped_sides
from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_19, AFLW_21, COFW_29, MTFL_5, SCHEMES, WFLW_98, Scheme

SPELLINGS = {  # by the name of the point: its scheme, and other spellings
    "left eye": (MTFL_5, "left_eye LeftEye lefteye eye_left l_eye leftEyeCenter left-pupil eyeLeft left_eye_centre le"),
    "nose tip": (MTFL_5, "nose Nose nose_tip noseTip NOSE-TIP n tip_of_nose pronasale nosetip"),
    "left mouth corner": (MTFL_5, "mouth_left leftmouth left_mouth mouth_left_corner LeftMouthCorner lm mouthLeft "
                          "left_lip_corner mouth_l mouthleft left_corner_of_the_mouth"),
    "left eye outer corner": (COFW_29, "left_eye_outer outer_left_eye_corner left_outer_canthus leftEyeOuterCorner"),
    "left brow inner end": (COFW_29, "left_eyebrow_inner left_inner_brow leftEyebrowInnerEnd inner_end_of_left_brow"),
    "upper lip bottom": (COFW_29, "top_lip_bottom bottom_of_upper_lip"),
    "left eye right corner": (AFLW_19, "left_eye_right right_corner_of_the_left_eye LeftEyeRightCorner"),
    "left ear": (AFLW_21, "ear_left left_ear_tragion l_ear"),
    "right pupil": (WFLW_98, "right_eye_center pupil_right right_eye"),
}  # fmt: skip


@pytest.mark.parametrize("point", SPELLINGS)
def test_spellings_of_one_point(point):
    scheme, names = SPELLINGS[point]
    for name in names.split():
        assert match_names([name], scheme) == [scheme.names.index(point)], name


@pytest.mark.parametrize(
    "name", ["left", "eye", "mouth", "left ear", "left brow", "nose bridge", "right left eye", "", "_", "2"]
)
def test_names_of_other_points_match_none(name):
    assert match_names([name], MTFL_5) == [None]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_the_names_of_a_scheme_are_its_points(scheme):
    order = np.random.default_rng(0).permutation(scheme.points)
    for change in (str, str.title, lambda name: name.replace(" ", "_"), lambda name: name.replace(" ", "-")):
        names = [change(scheme.names[index]) for index in order]
        assert match_names(names, scheme) == order.tolist()
        assert find_point_order(names, scheme, location="f", hint="m") == np.argsort(order).tolist()


def test_exact_names_of_the_scheme_are_matched_first():
    scheme = Scheme.from_table(
        {"name": "own", "points": ["left eye", "left pupil", "nose", "nose tip"], "normalization": [0, 1]}
    )
    assert match_names(["nose tip", "nose", "left_pupil", "left_eye"], scheme) == [3, 2, 1, 0]
    assert match_names(["nose tip", "Nose", "eye left", "left_eye"], scheme) == [3, 2, None, 0]  # "left pupil" or not?


def test_two_names_of_one_point_match_none():
    assert match_names(["nose", "tip of nose"], MTFL_5) == [None, None]
    with pytest.raises(
        InputError, match="f: unknown order of keypoints: cannot match its names 'nose', 'noseTip' to"
    ) as caught:
        find_point_order(
            ["left eye", "right eye", "nose", "noseTip", "left mouth"], MTFL_5, location="f", hint="rename"
        )
    assert "of the scheme: 'left eye', 'right eye', 'nose tip'" in str(caught.value)
    assert str(caught.value).endswith(": rename")


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        ("0 1 2", [0, 1, 2]), ("1 2 3", [1, 2, 3]), ("kp_0 kp_1", [0, 1]), ("Face-2 face-1", [2, 1]), ("01 02", [1, 2]),
        ("point3 point1 point2", [3, 1, 2]), ("0 2", None), ("2 3", None), ("a1 b2", None), ("1 1", None),
    ],
)  # fmt: skip
def test_names_that_are_numbers_are_parsed(names, numbers):
    assert parse_indices(names.split()) == numbers


def test_a_scheme_without_names_uses_the_order_of_the_file():
    scheme = Scheme.from_table({"name": "own", "points": 3, "normalization": [0, 1]})
    assert find_point_order(["nose", "chin", "brow"], scheme, location="f", hint="m") is None
    assert find_point_order(["2", "0", "1"], scheme, location="f", hint="m") == [1, 2, 0]


def test_swapped_sides_are_refused_if_most_faces_have_them():
    points = np.tile(np.float32([[1, 1], [3, 1], [2, 2], [1, 3], [3, 3]]), (5, 1, 1))
    visible = np.ones((5, 5), bool)
    reject_swapped_sides(points, visible, MTFL_5, location="f")
    points[:2, :, 0] *= -1  # two of five are upside down
    reject_swapped_sides(points, visible, MTFL_5, location="f")
    points[2, :, 0] *= -1
    with pytest.raises(InputError, match="f: in 3 of 5 faces 'left eye' is to the right of 'right eye'"):
        reject_swapped_sides(points, visible, MTFL_5, location="f")
    visible[:, [0, 3]] = False
    reject_swapped_sides(points, visible, MTFL_5, location="f")
