"""Faces followed through frames, on pictures of three dots that a perfect network locates; and the One-Euro filter."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.data.boxes import ShapeInBox, boxes_about
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


def at(x, y):
    """The shape, moved."""
    return SHAPE + np.array([x, y], np.float32)


class FindsDots:
    """Answers the center of gravity of each color channel."""

    def init(self, key, images):
        return {}

    def apply(self, params, crops):
        at = jnp.arange(crops.shape[1], dtype=jnp.float32)
        mass = jnp.maximum(crops.sum((1, 2)), 1)
        x = (crops.sum(1) * at[None, :, None]).sum(1) / mass
        y = (crops.sum(2) * at[None, :, None]).sum(1) / mass
        return jnp.stack([x, y], axis=-1)


class Looks:
    """A detector that sees the shapes it is given, and counts how often it looks."""

    def __init__(self):
        self.shapes, self.count = [], 0

    def find(self, image):
        self.count += 1
        boxes = boxes_about(np.float32(self.shapes), IN_DETECTION) if self.shapes else np.zeros((0, 4))
        return boxes, np.ones(len(boxes)) * 0.9


@pytest.fixture
def looks():
    return Looks()


@pytest.fixture
def tracker(looks):
    stage = Stage(model=FindsDots(), variables={"params": {}}, input_size=48, face_crop_size=96, margin=1.2)
    localizer = Localizer(
        scheme=THREE,
        box_convention="landmarks",
        stages=(stage,),
        template=TEMPLATE,
        metadata=Metadata(shape_in_box=IN_BOX, detectors={"looks": IN_DETECTION}),
    )
    detector = Detector(name="looks", find=looks.find, five_point_box=IN_DETECTION, score_threshold=0.5)
    return Tracker(landmarker=FaceLandmarker(localizer=localizer, detector=detector), every=5, smooth=None)


def picture(*shapes):
    """Soft dots at the places of each shape, 200 pixels wide and 160 high."""
    rows, columns = np.mgrid[:160, :200]
    canvas = np.zeros((160, 200, 3))
    for shape in shapes:
        for channel, (x, y) in enumerate(shape):
            canvas[..., channel] += 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def follow(tracker, looks, frames, *, seen=None):
    """The tracks of each frame; `seen` are the shapes that the detector sees in each, all by default."""
    tracks, every = Tracks(), []
    for number, shapes in enumerate(frames):
        looks.shapes = list(shapes if seen is None else seen[number])
        tracks = tracker(tracks, picture(*shapes), seconds=number / 25)
        every.append(tracks)
    return every


def test_a_moving_face_is_followed_between_looks_and_keeps_its_number(tracker, looks):
    frames = [[at(20 + 3 * n, 30 + n)] for n in range(20)]
    every = follow(tracker, looks, frames)
    assert looks.count == 4  # at frames 0, 5, 10 and 15
    for tracks, (shape,) in zip(every, frames, strict=True):
        (face,) = tracks.faces
        assert face.number == 1
        np.testing.assert_allclose(face.points, shape, atol=0.7)
    assert every[-1].numbers == 1


def test_a_jump_makes_the_detector_look_at_the_next_frame(tracker, looks):
    places = [(20, 30), (20, 30), (36, 30), (36, 30), (36, 30)]
    follow(tracker, looks, [[at(*place)] for place in places])
    assert looks.count == 2


def test_a_face_that_leaves_is_dropped_after_some_looks_and_another_gets_a_new_number(tracker, looks):
    here, there = at(20, 30), at(120, 80)
    frames = [[here]] * 6 + [[there]] * 30
    every = follow(tracker, looks, frames)
    assert [face.number for face in every[5].faces] == [1]
    assert [face.number for face in every[-1].faces] == [2]
    np.testing.assert_allclose(every[-1].faces[0].points, there, atol=0.5)


def test_a_face_that_the_detector_misses_once_is_kept(tracker, looks):
    frames = [[at(20, 30)]] * 16
    every = follow(tracker, looks, frames, seen=[[] if n == 5 else frames[n] for n in range(16)])
    assert [[face.number for face in tracks.faces] for tracks in every] == [[1]] * 16
    assert every[5].faces[0].missed == 1
    assert every[10].faces[0].missed == 0


def test_what_the_detector_misses_three_times_is_dropped_however_well_it_is_located(tracker, looks):
    frames = [[at(20, 30)]] * 17
    every = follow(tracker, looks, frames, seen=[frames[n] if n == 0 else [] for n in range(17)])
    assert [len(tracks.faces) for tracks in every] == [1] * 15 + [0, 0]
    assert looks.count == 5  # at frames 0, 5, 10 and 15, and at the next, for there is no face


def test_two_faces_and_one_that_comes_later(tracker, looks):
    left, right = at(10, 20), at(120, 60)
    every = follow(tracker, looks, [[left]] * 3 + [[left, right]] * 10)
    assert [face.number for face in every[-1].faces] == [1, 2]
    np.testing.assert_allclose(every[-1].faces[1].points, right, atol=0.5)


def test_a_frame_without_faces_is_looked_at_again_and_again(tracker, looks):
    every = follow(tracker, looks, [[]] * 4)
    assert [tracks.faces for tracks in every] == [()] * 4
    assert looks.count == 4
    assert [tracks.frame for tracks in every] == [1, 2, 3, 4]


def test_a_face_that_walks_out_of_the_picture(tracker, looks):
    frames = [[at(90 + 12 * n, 30)] if n < 9 else [] for n in range(14)]
    every = follow(tracker, looks, frames)
    assert every[0].faces
    assert every[-1].faces == ()


def test_smoothing_is_of_what_is_shown_and_not_of_where_is_looked(tracker, looks):
    frames = [[at(20 + 3 * n, 30)] for n in range(12)]
    plain = follow(tracker, looks, frames)
    smooth = follow(dataclasses.replace(tracker, smooth=OneEuro(min_cutoff=0.5, beta=1.0)), looks, frames)
    for one, other in zip(plain, smooth, strict=True):
        np.testing.assert_array_equal(one.faces[0].located, other.faces[0].located)
        np.testing.assert_array_equal(one.faces[0].box, other.faces[0].box)
    lag = (smooth[-1].faces[0].points - plain[-1].faces[0].points).mean(0)
    assert lag[0] < -1  # it follows behind
    assert abs(lag[1]) < 0.1


def reference_one_euro(values, times, *, min_cutoff, beta, speed, size):
    """Casiez et al., one coordinate pair at a time, as their pseudo-code has it."""

    def alpha(cutoff, step):
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau / step)

    shown, derivative, out = values[0], (0.0, 0.0), [values[0]]
    for value, now, before in zip(values[1:], times[1:], times[:-1], strict=True):
        step = now - before
        a = alpha(speed, step)
        derivative = tuple(a * (v - s) / step + (1 - a) * d for v, s, d in zip(value, shown, derivative, strict=True))
        b = alpha(min_cutoff + beta * math.hypot(*derivative) / size, step)
        shown = tuple(b * v + (1 - b) * s for v, s in zip(value, shown, strict=True))
        out.append(shown)
    return np.array(out)


def filtered(euro, shapes, times):
    state, out = None, []
    for shape, now in zip(shapes, times, strict=True):
        state = euro(state, shape, seconds=now)
        out.append(state.points)
    return np.array(out)


def test_one_euro_is_the_published_filter():
    random = np.random.default_rng(0)
    times = np.cumsum(random.uniform(0.02, 0.06, 30))
    corner = np.array([[0.0, 0.0], [100.0, 100.0]])  # keeps the face's size at 100 pixels
    walk = np.cumsum(random.normal(0, 2, (30, 1, 2)), axis=0) + 50
    shapes = np.concatenate([np.broadcast_to(corner, (30, 2, 2)), walk], axis=1)
    euro = OneEuro(min_cutoff=1.2, beta=7.0, speed=0.8)
    expected = reference_one_euro([tuple(p[0]) for p in walk], times, min_cutoff=1.2, beta=7.0, speed=0.8, size=100)
    np.testing.assert_allclose(filtered(euro, shapes, times)[:, 2], expected, rtol=1e-9)


def test_one_euro_is_steady_at_rest_and_quick_in_motion():
    random, times = np.random.default_rng(1), np.arange(100) / 25
    still = np.broadcast_to(SHAPE, (100, 3, 2)) + random.normal(0, 0.07, (100, 3, 2))  # 0.3 % of the face
    shown = filtered(OneEuro(), still, times)
    assert shown[20:].std(0).mean() < 0.5 * still[20:].std(0).mean()
    moving = SHAPE + np.stack([40 * times, 0 * times], axis=1)[:, None]  # a face's size and a half in a second
    behind = (moving - filtered(OneEuro(), moving, times))[-1, :, 0]
    assert (behind < 40 / 25).all()  # less than a frame
    assert (behind > 0).all()


def test_one_euro_lags_as_little_in_videos_of_variable_rate():
    """A face that moves at one speed, seen at the frames of a phone in bad light: given the frames' own times it lags
    as it does at a constant rate; given the number of the frame over a rate of 1,000 it would lag far more."""
    gaps = np.array([33, 33, 34, 100, 33, 167, 33, 34, 66, 33] * 8) / 1000
    variable, constant = np.cumsum(gaps), np.arange(1, 81) * gaps.mean()
    speed = 60  # pixels a second, of a face of 100 pixels

    def lag(times, told):
        places = np.array([[0.0, 0], [100, 0], [50, 80]]) + (speed * times)[:, None, None] * [1, 0]
        return np.abs(places - filtered(OneEuro(), places, told))[-40:, :, 0].mean()

    assert lag(variable, variable) < 1.3 * lag(constant, constant)
    assert lag(variable, np.arange(80) / 1000) > 2 * lag(variable, variable)


def test_one_euro_knows_no_size():
    random, times = np.random.default_rng(2), np.arange(20) / 25
    shapes = SHAPE + random.normal(0, 2, (20, 3, 2))
    np.testing.assert_allclose(
        filtered(OneEuro(), 10 * shapes, times), 10 * filtered(OneEuro(), shapes, times), rtol=1e-9
    )


def test_one_euro_begins_anew_where_time_stands_still():
    euro = OneEuro()
    first = euro(None, SHAPE, seconds=1.0)
    np.testing.assert_array_equal(euro(first, SHAPE + 9, seconds=1.0).points, SHAPE + 9)
