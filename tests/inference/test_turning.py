"""Faces in images that are turned on their side or upside down are found in turned copies, and mapped back."""

import dataclasses

import numpy as np
import pytest

from wing_jax.data.boxes import ShapeInBox
from wing_jax.data.load import load_faces
from wing_jax.inference.detectors import Detector
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.tracking import Tracker, Tracks
from wing_jax.inference.turning import QUARTERS, back_transform, turn_boxes, turn_image

MARK = (255, 0, 255)
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4, -1])
def test_points_and_boxes_are_mapped_back(quarters):
    image = RANDOM.integers(0, 255, (5, 8, 3), dtype=np.uint8)
    turned = turn_image(image, quarters)
    affine = back_transform(image, quarters)
    for y, x in np.ndindex(turned.shape[:2]):
        column, row = (affine @ [x, y, 1]).astype(int)
        assert (image[row, column] == turned[y, x]).all()
    (box,) = turn_boxes(np.float32([[0, 0, 2, 1]]), affine)
    left, top, right, bottom = box.astype(int)
    part = image[top : bottom + 1, left : right + 1]
    np.testing.assert_array_equal(turn_image(part, quarters), turned[:2, :3])


class MarkDetector:
    """Finds one box, in images whose first pixel has the color MARK; counts its calls."""

    def __init__(self, box):
        self.box, self.calls = box, 0

    def __call__(self, image):
        self.calls += 1
        found = (image[0, 0] == MARK).all()
        return (self.box, np.full(1, 0.9)) if found else (np.zeros((0, 4)), np.zeros(0))


@pytest.fixture(scope="module")
def picture():
    """A face with 20 pixels above it, so that the image is not square, and its box."""
    faces = load_faces("synthetic", "test", count=1)
    image = np.concatenate([np.full((20, 192, 3), 90, np.uint8), faces.picture(0)])
    image[0, 0] = MARK
    return image, faces.boxes + np.float32([0, 20, 0, 20])


@pytest.fixture(scope="module")
def localizer():
    return Localizer.load("w300")


@pytest.fixture
def landmarker(picture, localizer):
    position = localizer.metadata.shape_in_box
    detectors = {"mark": position}  # the detector has the model's convention
    localizer = dataclasses.replace(localizer, metadata=dataclasses.replace(localizer.metadata, detectors=detectors))
    find = MarkDetector(picture[1])
    detector = Detector(
        name="mark", find=find, five_point_box=ShapeInBox(center=(0.0, 0.0), side=0.4), score_threshold=0.5
    )
    return FaceLandmarker(localizer=localizer, detector=detector)


@pytest.mark.slow
@pytest.mark.parametrize("quarters", QUARTERS)
def test_the_faces_of_a_turned_image_are_those_of_the_image_turned(landmarker, picture, quarters):
    image, _ = picture
    upright = landmarker(image)
    assert upright.valid.tolist() == [True]
    turned = np.rot90(image, -quarters)
    assert len(dataclasses.replace(landmarker, any_angle=False)(turned)) == 0
    faces = landmarker(turned)
    affine = back_transform(turned, quarters)
    np.testing.assert_allclose(faces.points[0], upright.points[0] @ affine[:, :2].T + affine[:, 2], atol=1e-3)
    np.testing.assert_allclose(faces.boxes, turn_boxes(upright.boxes, affine), atol=1e-3)
    linear = affine[:, :2]
    np.testing.assert_allclose(faces.covariance[0], linear @ upright.covariance[0] @ linear.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(faces.spread, upright.spread, rtol=1e-5)
    assert (faces.valid == upright.valid).all()
    assert faces.image is not None
    assert faces.image.shape == turned.shape


@pytest.mark.slow
def test_without_faces_the_arrays_are_empty(landmarker, picture):
    blank = np.zeros_like(picture[0])
    alone, beside = landmarker(blank), landmarker.batch([picture[0], blank])[1]
    for faces in (alone, beside):
        assert faces.covariance.shape == (0, 68, 2, 2)
        assert faces.spread.shape == faces.confidence.shape == (0, 68)
        assert faces.valid.shape == (0,)


@pytest.mark.slow
def test_an_image_with_a_valid_face_is_searched_once_others_four_times(landmarker, picture):
    image, _ = picture
    landmarker.batch([image, np.zeros_like(image)])
    assert landmarker.detector.find.calls == 1 + 4


@pytest.mark.slow
def test_an_image_with_only_an_invalid_face_is_searched_turned_and_keeps_it_if_no_other_is_found(landmarker, picture):
    image, box = picture
    noise = RANDOM.integers(0, 255, image.shape, dtype=np.uint8)
    noise[0, 0] = MARK
    faces = landmarker(noise)
    assert landmarker.detector.find.calls == 4
    assert faces.valid.tolist() == [False]
    np.testing.assert_allclose(faces.boxes, box, atol=1e-3)
    both = image.copy()
    both[0, 0] = 0
    sideways = np.rot90(both, -1).copy()  # the face is found in the copy that is turned back ...
    sideways[0, 0], sideways[0, -1] = MARK, MARK  # ... and a box without a face in the image as it is
    found = landmarker(sideways)
    assert found.valid.tolist() == [True]


@pytest.mark.slow
def test_an_invalid_face_is_tried_again_in_photos_but_not_in_videos(landmarker, picture):
    image, box = picture
    turned = np.rot90(image, 2).copy()
    turned[0, 0] = MARK
    (box,) = turn_boxes(box, back_transform(turned, 2))
    find = MarkDetector(box[None])
    detector = dataclasses.replace(landmarker.detector, find=find)
    landmarker = dataclasses.replace(landmarker, detector=detector, any_angle=False)
    (upright,) = landmarker.localizer.predict(image, picture[1])
    found = landmarker(turned)
    assert found.valid.tolist() == [True]
    distances = np.linalg.norm(found.points[0] - (np.array(image.shape[1::-1]) - 1 - upright), axis=1)
    assert distances.mean() < 0.04 * np.ptp(upright, axis=0).max()
    tracks = Tracker(landmarker=landmarker)(Tracks(), turned, seconds=0.0)
    assert [face.valid for face in tracks.faces] == [False]


@pytest.mark.slow
def test_a_face_in_turned_frames_is_tracked_and_the_angle_is_kept(landmarker, picture):
    image, _ = picture
    frame = np.rot90(image, -2)
    tracker, tracks, found = Tracker(landmarker=landmarker, every=2), Tracks(), []
    for number in range(8):
        tracks = tracker(tracks, frame, seconds=number / 30)
        found.append(len(tracks.faces))
    first = found.index(1)
    assert first <= len(QUARTERS) - 1
    assert found[first:] == [1] * (8 - first)
    assert tracks.quarters == 2
    assert {face.number for face in tracks.faces} == {1}


@pytest.mark.slow
@pytest.mark.parametrize(("any_angle", "calls"), [(True, 2), (False, 1)])
def test_a_frame_without_faces_is_searched_at_one_more_angle_if_any_angle_is_wanted(
    landmarker, picture, any_angle, calls
):
    frame = np.rot90(picture[0], -2)  # found at the third of QUARTERS
    tracker = Tracker(landmarker=dataclasses.replace(landmarker, any_angle=any_angle))
    tracks = tracker(Tracks(frame=2), frame, seconds=0.0)
    assert len(tracks.faces) == any_angle
    assert landmarker.detector.find.calls == calls
