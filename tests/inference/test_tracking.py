"""Tracking on pictures of three dots, which an exact model locates; and the One-Euro filter."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.data.boxes import ShapeInBox, boxes_of_shapes
from wing_jax.inference.detectors import Detector
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.tracking import OneEuro, Tracker, Tracks
from wing_jax.schemes import Scheme

THREE = Scheme(
    name="three", names=("red", "green", "blue"), mirrored=((0, 1),), left_eye=(0,), right_eye=(1,),
    left_outer=0, right_outer=1, lines=((0, 1, 2),), about="a red, a green and a blue dot",
)  # fmt: skip
TEMPLATE = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.7]], np.float32)
SHAPE = TEMPLATE * 60  # pixels
IN_BOX = ShapeInBox(center=(0.0, 0.0), side=0.6)
IN_DETECTION = ShapeInBox(center=(0.0, 0.1), side=0.4)


def shape_at(x, y):
    """Return the shape moved to (x, y)."""
    return SHAPE + np.array([x, y], np.float32)


class FindsDots:
    """Returns the center of gravity of each color channel."""

    def init(self, key, images):
        return {}

    def apply(self, params, crops):
        positions = jnp.arange(crops.shape[1], dtype=jnp.float32)
        mass = jnp.maximum(crops.sum((1, 2)), 1)
        x = (crops.sum(1) * positions[None, :, None]).sum(1) / mass
        y = (crops.sum(2) * positions[None, :, None]).sum(1) / mass
        return jnp.stack([x, y], axis=-1)


class StubDetector:
    """A detector that returns the boxes of `shapes`, and counts its runs."""

    def __init__(self):
        self.shapes, self.count = [], 0

    def find(self, image):
        self.count += 1
        boxes = boxes_of_shapes(np.float32(self.shapes), IN_DETECTION) if self.shapes else np.zeros((0, 4))
        return boxes, np.ones(len(boxes)) * 0.9


@pytest.fixture
def stub():
    return StubDetector()


@pytest.fixture
def tracker(stub):
    stage = Stage(model=FindsDots(), variables={"params": {}}, input_size=48, face_crop_size=96, margin=1.2)
    localizer = Localizer(
        scheme=THREE,
        box_convention="landmarks",
        stages=(stage,),
        template=TEMPLATE,
        metadata=Metadata(shape_in_box=IN_BOX, detectors={"stub": IN_DETECTION}),
    )
    detector = Detector(name="stub", find=stub.find, five_point_box=IN_DETECTION, score_threshold=0.5)
    landmarker = FaceLandmarker(localizer=localizer, detector=detector, any_angle=False)  # any: test_turning.py
    return Tracker(landmarker=landmarker, every=5, smooth=None)


def picture(*shapes):
    """Return a picture with soft dots at the points of each shape, 200 pixels wide and 160 high."""
    rows, columns = np.mgrid[:160, :200]
    canvas = np.zeros((160, 200, 3))
    for shape in shapes:
        for channel, (x, y) in enumerate(shape):
            canvas[..., channel] += 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def track(tracker, stub, frames, *, detected=None):
    """Return the tracks of each frame; `detected` has the shapes that the detector finds in each, by default all."""
    tracks, results = Tracks(), []
    for number, shapes in enumerate(frames):
        stub.shapes = list(shapes if detected is None else detected[number])
        tracks = tracker(tracks, picture(*shapes), seconds=number / 25)
        results.append(tracks)
    return results


def test_a_moving_face_is_tracked_between_detections_and_keeps_its_number(tracker, stub):
    frames = [[shape_at(20 + 3 * n, 30 + n)] for n in range(20)]
    results = track(tracker, stub, frames)
    assert stub.count == 4  # at frames 0, 5, 10 and 15
    for tracks, (shape,) in zip(results, frames, strict=True):
        (face,) = tracks.faces
        assert face.number == 1
        np.testing.assert_allclose(face.points, shape, atol=0.7)
    assert results[-1].last_number == 1


def test_the_detector_runs_on_the_frame_after_a_jump(tracker, stub):
    positions = [(20, 30), (20, 30), (36, 30), (36, 30), (36, 30)]
    track(tracker, stub, [[shape_at(*position)] for position in positions])
    assert stub.count == 2


def test_a_face_that_disappears_is_dropped_and_the_next_gets_a_new_number(tracker, stub):
    first, second = shape_at(20, 30), shape_at(120, 80)
    frames = [[first]] * 6 + [[second]] * 30
    results = track(tracker, stub, frames)
    assert [face.number for face in results[5].faces] == [1]
    assert [face.number for face in results[-1].faces] == [2]
    np.testing.assert_allclose(results[-1].faces[0].points, second, atol=0.5)


def test_a_face_that_the_detector_misses_once_is_kept(tracker, stub):
    frames = [[shape_at(20, 30)]] * 16
    results = track(tracker, stub, frames, detected=[[] if n == 5 else frames[n] for n in range(16)])
    assert [[face.number for face in tracks.faces] for tracks in results] == [[1]] * 16
    assert results[5].faces[0].missed == 1
    assert results[10].faces[0].missed == 0


def test_a_face_that_the_detector_misses_three_times_is_dropped_even_if_located_well(tracker, stub):
    frames = [[shape_at(20, 30)]] * 17
    results = track(tracker, stub, frames, detected=[frames[n] if n == 0 else [] for n in range(17)])
    assert [len(tracks.faces) for tracks in results] == [1] * 15 + [0, 0]
    assert stub.count == 5  # at frames 0, 5, 10, 15 and 16, because there is no face then


@pytest.mark.slow
def test_a_second_face_appears_later(tracker, stub):
    left, right = shape_at(10, 20), shape_at(120, 60)
    results = track(tracker, stub, [[left]] * 3 + [[left, right]] * 10)
    assert [face.number for face in results[-1].faces] == [1, 2]
    np.testing.assert_allclose(results[-1].faces[1].points, right, atol=0.5)


def test_the_detector_runs_on_each_frame_without_faces(tracker, stub):
    results = track(tracker, stub, [[]] * 4)
    assert [tracks.faces for tracks in results] == [()] * 4
    assert stub.count == 4
    assert [tracks.frame for tracks in results] == [1, 2, 3, 4]


def test_a_face_that_leaves_the_picture(tracker, stub):
    frames = [[shape_at(90 + 12 * n, 30)] if n < 9 else [] for n in range(14)]
    results = track(tracker, stub, frames)
    assert results[0].faces
    assert results[-1].faces == ()


def test_smoothing_changes_the_points_and_not_the_boxes(tracker, stub):
    frames = [[shape_at(20 + 3 * n, 30)] for n in range(12)]
    plain = track(tracker, stub, frames)
    smoothed = track(dataclasses.replace(tracker, smooth=OneEuro(min_cutoff=0.5, beta=1.0)), stub, frames)
    for expected, actual in zip(plain, smoothed, strict=True):
        np.testing.assert_array_equal(expected.faces[0].located, actual.faces[0].located)
        np.testing.assert_array_equal(expected.faces[0].box, actual.faces[0].box)
    lag = (smoothed[-1].faces[0].points - plain[-1].faces[0].points).mean(0)
    assert lag[0] < -1  # the smoothed points lag
    assert abs(lag[1]) < 0.1


def reference_one_euro(values, times, *, min_cutoff, beta, speed, size):
    """The pseudo-code of Casiez et al., for one point."""

    def alpha(cutoff, step):
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau / step)

    smoothed, derivative, results = values[0], (0.0, 0.0), [values[0]]
    for value, now, before in zip(values[1:], times[1:], times[:-1], strict=True):
        step = now - before
        a = alpha(speed, step)
        derivative = tuple(
            a * (v - s) / step + (1 - a) * d for v, s, d in zip(value, smoothed, derivative, strict=True)
        )
        b = alpha(min_cutoff + beta * math.hypot(*derivative) / size, step)
        smoothed = tuple(b * v + (1 - b) * s for v, s in zip(value, smoothed, strict=True))
        results.append(smoothed)
    return np.array(results)


def smooth(euro, shapes, times):
    state, results = None, []
    for shape, now in zip(shapes, times, strict=True):
        state = euro(state, shape, seconds=now)
        results.append(state.points)
    return np.array(results)


def test_one_euro_is_the_published_filter():
    random = np.random.default_rng(0)
    times = np.cumsum(random.uniform(0.02, 0.06, 30))
    corner = np.array([[0.0, 0.0], [100.0, 100.0]])  # keeps the face's size at 100 pixels
    walk = np.cumsum(random.normal(0, 2, (30, 1, 2)), axis=0) + 50
    shapes = np.concatenate([np.broadcast_to(corner, (30, 2, 2)), walk], axis=1)
    euro = OneEuro(min_cutoff=1.2, beta=7.0, speed=0.8)
    expected = reference_one_euro([tuple(p[0]) for p in walk], times, min_cutoff=1.2, beta=7.0, speed=0.8, size=100)
    np.testing.assert_allclose(smooth(euro, shapes, times)[:, 2], expected, rtol=1e-9)


def test_one_euro_is_steady_at_rest_and_quick_in_motion():
    random, times = np.random.default_rng(1), np.arange(100) / 25
    still = np.broadcast_to(SHAPE, (100, 3, 2)) + random.normal(0, 0.07, (100, 3, 2))  # 0.3 % of the face
    smoothed = smooth(OneEuro(), still, times)
    assert smoothed[20:].std(0).mean() < 0.5 * still[20:].std(0).mean()
    moving = SHAPE + np.stack([40 * times, 0 * times], axis=1)[:, None]  # one and a half face sizes per second
    lag = (moving - smooth(OneEuro(), moving, times))[-1, :, 0]
    assert (lag < 40 / 25).all()  # less than a frame
    assert (lag > 0).all()


def test_one_euro_has_no_larger_lag_in_videos_of_variable_rate():
    """A face moves at constant speed in a video with the frame times of a phone in bad light. With these times the lag
    is that of a constant rate; with times from the frame numbers and a rate of 1,000 it is far larger."""
    gaps = np.array([33, 33, 34, 100, 33, 167, 33, 34, 66, 33] * 8) / 1000
    variable, constant = np.cumsum(gaps), np.arange(1, 81) * gaps.mean()
    speed = 60  # pixels a second, of a face of 100 pixels

    def lag(times, filter_times):
        shapes = np.array([[0.0, 0], [100, 0], [50, 80]]) + (speed * times)[:, None, None] * [1, 0]
        return np.abs(shapes - smooth(OneEuro(), shapes, filter_times))[-40:, :, 0].mean()

    assert lag(variable, variable) < 1.3 * lag(constant, constant)
    assert lag(variable, np.arange(80) / 1000) > 2 * lag(variable, variable)


def test_one_euro_is_independent_of_the_size():
    random, times = np.random.default_rng(2), np.arange(20) / 25
    shapes = SHAPE + random.normal(0, 2, (20, 3, 2))
    np.testing.assert_allclose(smooth(OneEuro(), 10 * shapes, times), 10 * smooth(OneEuro(), shapes, times), rtol=1e-9)


def test_one_euro_starts_anew_if_the_time_does_not_increase():
    euro = OneEuro()
    first = euro(None, SHAPE, seconds=1.0)
    np.testing.assert_array_equal(euro(first, SHAPE + 9, seconds=1.0).points, SHAPE + 9)
