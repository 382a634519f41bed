"""Whole photos to landmarks: the detector's boxes brought to the model's convention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.data.boxes import ShapeInBox, boxes_about, overlap, shape_in_box, squared
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
    """One stage of drawn weights; `shape` is where the mean shape lies in its boxes."""

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
    """The mean of shapes, each brought into the unit square."""
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    return (((points - low) / (high - low).max(2, keepdims=True)).mean(0) * 0.7 + 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def landmarker(faces):
    localizer = localizer_for(IBUG_68, template_of(faces.points), shape_in_box(faces))
    return FaceLandmarker(localizer=localizer, detector=get_detector("auto"))


def test_the_detectors_boxes_come_as_the_model_knows_them(landmarker, faces):
    """Of drawn faces, whose boxes are the landmarks' here; a detector's own boxes overlap them by less."""
    wanted = squared(faces.boxes)
    ours = [overlap(squared(landmarker.boxes(faces.picture(i))[0]), wanted[i]).max() for i in range(len(faces))]
    raw = [overlap(squared(landmarker.detector(faces.picture(i))[0]), wanted[i]).max() for i in range(len(faces))]
    assert np.mean(ours) > 0.75
    assert np.mean(ours) > np.mean(raw) + 0.05


@pytest.mark.parametrize("scheme", [IBUG_68, AFLW_19, MTFL_5])
def test_every_scheme_with_eyes_nose_and_mouth_gets_the_box_about_the_same_face(faces, scheme):
    """A detector whose boxes lie by the five points as told: the map must bring back the convention of any scheme."""
    points = get_conversion(IBUG_68, scheme).points(faces.points)
    five, wanted = get_conversion(IBUG_68, MTFL_5).points(faces.points), ShapeInBox(center=(0.05, -0.1), side=0.6)
    convention, mean = ShapeInBox(center=(0.0, 0.1), side=0.4), np.arange(len(faces))
    answers = boxes_about(five, convention)
    blank = np.zeros((192, 192, 3), np.uint8)
    at = iter(mean)
    detector = Detector(
        name="by rule",
        find=lambda image: (answers[[next(at)]], np.ones(1)),
        five_point_box=convention,
        score_threshold=0.5,
    )
    landmarker = FaceLandmarker(localizer=localizer_for(scheme, template_of(points), wanted), detector=detector)
    found = np.concatenate([landmarker.boxes(blank)[0] for _ in mean])
    expected = boxes_about(points, wanted)
    sides, wide = (np.ptp(boxes.reshape(-1, 2, 2), axis=1).max(1) for boxes in (found, expected))
    assert np.median(sides / wide) == pytest.approx(1, abs=0.1)  # faces differ from their mean
    shift = (found.reshape(-1, 2, 2) - expected.reshape(-1, 2, 2)).mean(1) / wide[:, None]
    np.testing.assert_allclose(np.median(shift, 0), 0, atol=0.06)


def test_a_model_that_was_told_of_the_detector_takes_that(landmarker, faces):
    told = ShapeInBox(center=(0.2, 0.0), side=0.5)
    metadata = dataclasses.replace(landmarker.localizer.metadata, detectors={landmarker.detector.name: told})
    taught = dataclasses.replace(landmarker, localizer=dataclasses.replace(landmarker.localizer, metadata=metadata))
    image = faces.picture(0)
    raw, found = landmarker.detector(image)[0][0], taught.boxes(image)[0][0]
    raw_side, side = ((box[2:] - box[:2]).max() for box in (raw, found))
    assert side / raw_side == pytest.approx(0.5 / shape_in_box(faces).side, rel=1e-3)


def test_photos_with_many_faces_one_and_none(landmarker, faces):
    one = faces.picture(0)
    beside = np.concatenate([one, faces.picture(1)], axis=1)
    found = landmarker.batch([beside, np.zeros((50, 70, 3), np.uint8), one])
    assert [len(each) for each in found] == [2, 0, 1]
    assert [each.points.shape for each in found] == [(2, 68, 2), (0, 68, 2), (1, 68, 2)]
    assert (np.diff(found[0].scores) <= 0).all()
    np.testing.assert_allclose(found[2].points, landmarker(one).points, atol=1e-3)
    np.testing.assert_allclose(found[2].points, landmarker.localizer.predict(one, found[2].boxes), atol=1e-3)
    assert not found[0].tiny.any()


def test_tiny_faces_are_told(landmarker, faces):
    detector = Detector(
        name="small", find=lambda image: ([[5, 5, 30, 30], [5, 5, 130, 130]], [0.9, 0.8]),
        five_point_box=landmarker.detector.five_point_box, score_threshold=0.5,
    )  # fmt: skip
    found = dataclasses.replace(landmarker, detector=detector)(faces.picture(0))
    assert found.tiny.tolist() == [True, False]


def test_a_speck_that_the_map_makes_smaller_than_two_pixels_is_left_out(faces):
    larger = ShapeInBox(center=(0.0, 0.0), side=0.9)  # the model's boxes are tighter than the detector's
    detector = Detector(
        name="specks", find=lambda image: ([[9, 9, 11.5, 11.5], [60, 60, 120, 120]], [0.9, 0.8]),
        five_point_box=ShapeInBox(center=(0.0, 0.0), side=0.2), score_threshold=0.5,
    )  # fmt: skip
    landmarker = FaceLandmarker(localizer=localizer_for(IBUG_68, template_of(faces.points), larger), detector=detector)
    assert len(landmarker(faces.picture(0))) == 1


def test_a_face_that_the_map_pushes_out_of_the_picture_is_left_out(faces):
    away = ShapeInBox(center=(0.0, 0.9), side=0.5)  # the model's boxes lie above the faces
    detector = Detector(
        name="at the top", find=lambda image: ([[0, 0, 40, 40], [60, 120, 100, 160]], [0.9, 0.8]),
        five_point_box=ShapeInBox(center=(0.0, 0.0), side=0.5), score_threshold=0.5,
    )  # fmt: skip
    landmarker = FaceLandmarker(localizer=localizer_for(IBUG_68, template_of(faces.points), away), detector=detector)
    assert len(landmarker(faces.picture(0))) == 1


def test_what_cannot_be_brought_together_is_refused(faces, tmp_path):
    mean = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]], np.float32)
    own = localizer_for(THREE, mean, ShapeInBox(center=(0.0, 0.0), side=0.6)).save(tmp_path / "own")
    with pytest.raises(InputError, match=r"the scheme 'three' .*wing-jax data detect DIR --model MODEL"):
        FaceLandmarker.load(own)
    silent = localizer_for(IBUG_68, template_of(faces.points)).save(tmp_path / "silent")
    with pytest.raises(InputError, match="does not record how its boxes lay"):
        FaceLandmarker.load(silent)
    with pytest.raises(InputError, match="no model here"):
        FaceLandmarker.load(tmp_path / "nothing")


def test_an_image_must_be_rgb_bytes(landmarker):
    with pytest.raises(InputError, match="must be RGB uint8"):
        landmarker(np.zeros((40, 40), np.uint8))


def test_loaded_from_a_folder(landmarker, faces, tmp_path):
    folder = landmarker.localizer.save(tmp_path / "model")
    loaded = FaceLandmarker.load(folder, flip_average=True)
    assert loaded.localizer.flip_average
    np.testing.assert_array_equal(loaded(faces.picture(0)).boxes, landmarker(faces.picture(0)).boxes)
