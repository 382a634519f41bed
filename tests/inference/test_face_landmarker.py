"""Landmarks of all faces of a photo: the boxes of the detector converted to the model's convention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.data.boxes import ShapeInBox, boxes_of_shapes, overlap, shape_in_box, square_boxes
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.inference.detectors import Detector, get_detector
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.metadata import Metadata
from wing_jax.models import make_model
from wing_jax.schemes import AFLW_19, IBUG_68, MTFL_5, Scheme, get_conversion

THREE = Scheme(
    name="three", names=("a", "b", "c"), mirrored=((0, 1),), left_eye=(0,), right_eye=(1,), left_outer=0,
    right_outer=1, lines=(), about="three dots",
)  # fmt: skip


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "test", count=12)


def localizer_for(scheme, template, shape=None):
    """Return a localizer of one stage with random weights; `shape` is the position of the mean shape in its boxes."""
    network = {"name": "plain", "points": scheme.points, "channels": (4,), "hidden": 4}
    variables = make_model(**network).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3), jnp.uint8))
    stage = Stage(
        model=make_model(**network),
        variables={"batch_stats": {}, **variables},
        input_size=16,
        face_crop_size=32,
        margin=1.2,
    )
    metadata = Metadata(shape_in_box=shape)
    return Localizer(scheme=scheme, box_convention="landmarks", stages=(stage,), template=template, metadata=metadata)


def template_of(points):
    """Return the mean of shapes, each scaled to the unit square."""
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    return (((points - low) / (high - low).max(2, keepdims=True)).mean(0) * 0.7 + 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def landmarker(faces):
    localizer = localizer_for(IBUG_68, template_of(faces.points), shape_in_box(faces))
    return FaceLandmarker(localizer=localizer, detector=get_detector("auto"))


@pytest.mark.slow
def test_detections_are_converted_to_the_box_convention_of_the_model(landmarker, faces):
    """The boxes of these faces are those of the landmarks; unconverted detections overlap them less."""
    expected = square_boxes(faces.boxes)
    converted = [
        overlap(square_boxes(landmarker.boxes(faces.picture(i))[0]), expected[i]).max() for i in range(len(faces))
    ]
    raw = [
        overlap(square_boxes(landmarker.detector(faces.picture(i))[0]), expected[i]).max() for i in range(len(faces))
    ]
    assert np.mean(converted) > 0.75
    assert np.mean(converted) > np.mean(raw) + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [IBUG_68, AFLW_19, MTFL_5])
def test_conversion_of_boxes_for_every_scheme_with_eyes_nose_and_mouth(faces, scheme):
    """The detector returns boxes at a fixed position of the five points; expected are boxes around all points."""
    points = get_conversion(IBUG_68, scheme).points(faces.points)
    five, target = get_conversion(IBUG_68, MTFL_5).points(faces.points), ShapeInBox(center=(0.05, -0.1), side=0.6)
    convention, indices = ShapeInBox(center=(0.0, 0.1), side=0.4), np.arange(len(faces))
    detections = boxes_of_shapes(five, convention)
    blank = np.zeros((192, 192, 3), np.uint8)
    next_face = iter(indices)
    detector = Detector(
        name="by rule",
        find=lambda image: (detections[[next(next_face)]], np.ones(1)),
        five_point_box=convention,
        score_threshold=0.5,
    )
    landmarker = FaceLandmarker(localizer=localizer_for(scheme, template_of(points), target), detector=detector)
    boxes = np.concatenate([landmarker.boxes(blank)[0] for _ in indices])
    expected = boxes_of_shapes(points, target)
    sides, expected_sides = (np.ptp(values.reshape(-1, 2, 2), axis=1).max(1) for values in (boxes, expected))
    assert np.median(sides / expected_sides) == pytest.approx(1, abs=0.1)  # faces differ from their mean
    shift = (boxes.reshape(-1, 2, 2) - expected.reshape(-1, 2, 2)).mean(1) / expected_sides[:, None]
    np.testing.assert_allclose(np.median(shift, 0), 0, atol=0.06)


def test_a_calibration_for_the_detector_is_used(landmarker, faces):
    calibration = ShapeInBox(center=(0.2, 0.0), side=0.5)
    metadata = dataclasses.replace(landmarker.localizer.metadata, detectors={landmarker.detector.name: calibration})
    calibrated = dataclasses.replace(landmarker, localizer=dataclasses.replace(landmarker.localizer, metadata=metadata))
    image = faces.picture(0)
    raw, converted = landmarker.detector(image)[0][0], calibrated.boxes(image)[0][0]
    raw_side, side = ((box[2:] - box[:2]).max() for box in (raw, converted))
    assert side / raw_side == pytest.approx(0.5 / shape_in_box(faces).side, rel=1e-3)


@pytest.mark.slow
def test_photos_with_many_faces_one_and_none(landmarker, faces):
    single = faces.picture(0)
    double = np.concatenate([single, faces.picture(1)], axis=1)
    results = landmarker.batch([double, np.zeros((50, 70, 3), np.uint8), single])
    assert [len(result) for result in results] == [2, 0, 1]
    assert [result.points.shape for result in results] == [(2, 68, 2), (0, 68, 2), (1, 68, 2)]
    assert (np.diff(results[0].scores) <= 0).all()
    np.testing.assert_allclose(results[2].points, landmarker(single).points, atol=1e-3)
    np.testing.assert_allclose(results[2].points, landmarker.localizer.predict(single, results[2].boxes), atol=1e-3)
    assert not results[0].tiny.any()


def test_tiny_faces_are_flagged(landmarker, faces):
    detector = Detector(
        name="small", find=lambda image: ([[5, 5, 30, 30], [5, 5, 130, 130]], [0.9, 0.8]),
        five_point_box=landmarker.detector.five_point_box, score_threshold=0.5,
    )  # fmt: skip
    result = dataclasses.replace(landmarker, detector=detector)(faces.picture(0))
    assert result.tiny.tolist() == [True, False]


def test_a_box_that_becomes_smaller_than_two_pixels_is_dropped(faces):
    larger = ShapeInBox(center=(0.0, 0.0), side=0.9)  # the model's boxes are tighter than the detector's
    detector = Detector(
        name="specks", find=lambda image: ([[9, 9, 11.5, 11.5], [60, 60, 120, 120]], [0.9, 0.8]),
        five_point_box=ShapeInBox(center=(0.0, 0.0), side=0.2), score_threshold=0.5,
    )  # fmt: skip
    landmarker = FaceLandmarker(localizer=localizer_for(IBUG_68, template_of(faces.points), larger), detector=detector)
    assert len(landmarker(faces.picture(0))) == 1


def test_a_box_that_moves_out_of_the_picture_is_dropped(faces):
    above = ShapeInBox(center=(0.0, 0.9), side=0.5)  # the model's boxes are above the faces
    detector = Detector(
        name="at the top", find=lambda image: ([[0, 0, 40, 40], [60, 120, 100, 160]], [0.9, 0.8]),
        five_point_box=ShapeInBox(center=(0.0, 0.0), side=0.5), score_threshold=0.5,
    )  # fmt: skip
    landmarker = FaceLandmarker(localizer=localizer_for(IBUG_68, template_of(faces.points), above), detector=detector)
    assert len(landmarker(faces.picture(0))) == 1


def test_models_without_a_known_position_in_their_boxes_are_refused(faces, tmp_path):
    mean = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]], np.float32)
    custom = localizer_for(THREE, mean, ShapeInBox(center=(0.0, 0.0), side=0.6)).save(tmp_path / "custom")
    with pytest.raises(
        InputError, match=r"the scheme 'three' .*wing-jax data detect DIR --scheme SCHEME --model MODEL"
    ):
        FaceLandmarker.load(custom)
    unknown = localizer_for(IBUG_68, template_of(faces.points)).save(tmp_path / "unknown")
    with pytest.raises(InputError, match="does not record the position of faces in its boxes"):
        FaceLandmarker.load(unknown)
    with pytest.raises(InputError, match="no model here"):
        FaceLandmarker.load(tmp_path / "nothing")


def test_an_image_must_be_rgb_bytes(landmarker):
    with pytest.raises(InputError, match="must be RGB uint8"):
        landmarker(np.zeros((40, 40), np.uint8))


def test_load_from_a_folder(landmarker, faces, tmp_path):
    folder = landmarker.localizer.save(tmp_path / "model")
    loaded = FaceLandmarker.load(folder, flip_average=True)
    assert loaded.localizer.flip_average
    np.testing.assert_array_equal(loaded(faces.picture(0)).boxes, landmarker(faces.picture(0)).boxes)
