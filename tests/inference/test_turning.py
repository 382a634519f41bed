"""Faces in images that are turned on their side or upside down are found in turned copies, and mapped back."""

import dataclasses

import numpy as np
import pytest

from wing_jax.data.boxes import ShapeInBox, overlap
from wing_jax.data.load import load_faces
from wing_jax.geometry import similarity, transform
from wing_jax.inference.detectors import Detector
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.tracking import Tracker, Tracks
from wing_jax.inference.turning import QUARTERS, back_transform, quarters_upright, turn_boxes, turn_image

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


def turned_shapes(degrees):
    """The mean shape of w300, turned clockwise by each of the angles."""
    template = Localizer.load("w300").template
    turns = np.stack([similarity(degrees=float(angle), scale=80.0) for angle in degrees]).astype(np.float32)
    return template, np.asarray(transform(turns, np.broadcast_to(template, (len(degrees), *template.shape))))


@pytest.mark.parametrize(
    ("degrees", "quarters"),
    [((0, 10, -20), 0), ((80, 95), 1), ((180,), 2), ((-170, 170, 5), 2), ((-90, 270, 180, 0), 3), ((44, -44), 0)],
)
def test_the_quarters_that_make_most_faces_upright(degrees, quarters):
    template, points = turned_shapes(degrees)
    assert quarters_upright(points, template) == quarters


class OneSided:
    """Finds the boxes of `upside_down` in an image whose first pixel has the color MARK, else those of `upright`."""

    def __init__(self, upside_down, upright):
        self.boxes = {True: upside_down, False: upright}

    def __call__(self, image):
        boxes = self.boxes[bool((image[0, 0] == MARK).all())]
        return boxes, np.linspace(0.9, 0.8, len(boxes))


@pytest.mark.slow
@pytest.mark.parametrize("found_upright", [2, 1])
def test_an_image_whose_faces_are_upside_down_is_searched_turned_for_more_faces(landmarker, picture, found_upright):
    """In the image as it is, the detector finds one of two faces, which is valid when it is tried again."""
    image, (box,) = picture[0].copy(), picture[1]
    image[0, 0] = 0
    two = np.concatenate([image, image], axis=1)
    turned = np.rot90(two, 2).copy()
    turned[0, 0] = MARK
    upright = np.stack([box, box + np.float32([192, 0, 192, 0])])
    upside_down = turn_boxes(upright, back_transform(turned, 2))
    detector = dataclasses.replace(landmarker.detector, find=OneSided(upside_down[:1], upright[:found_upright]))
    faces = dataclasses.replace(landmarker, detector=detector)(turned)
    assert faces.valid.tolist() == [True] * found_upright
    np.testing.assert_allclose(faces.boxes, upside_down[:found_upright], atol=1e-3)
    assert faces.image is not None
    np.testing.assert_array_equal(faces.image, turned)
    once = dataclasses.replace(landmarker, detector=detector, any_angle=False)(turned)
    assert once.valid.tolist() == [True]


@pytest.mark.slow
def test_a_face_found_beside_its_box_gets_its_own_box_once(landmarker, picture):
    image, box = picture
    side = box[0, 2] - box[0, 0]
    wide = np.concatenate([np.repeat(image[:, :1], 100, axis=1), image, np.repeat(image[:, -1:], 100, axis=1)], axis=1)
    wide[0, 0] = MARK
    box = box + np.float32([100, 0, 100, 0])
    beside = box + 0.55 * side * np.float32([1, 0, 1, 0])
    plain = dataclasses.replace(landmarker.localizer, retry_invalid=False)
    assert not plain.predict_details([wide], [beside])[0].valid[0]
    assert landmarker.localizer.predict_details([wide], [beside])[0].valid[0]
    for boxes, kept in ((beside, 1), (np.concatenate([beside, box]), 1), (np.concatenate([beside, beside]), 1)):
        detector = dataclasses.replace(landmarker.detector, find=OneSided(boxes, boxes))
        faces = dataclasses.replace(landmarker, detector=detector, any_angle=False)(wide)
        assert faces.valid.tolist() == [True] * kept
        assert overlap(faces.boxes, box[0])[0] > 0.7


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
