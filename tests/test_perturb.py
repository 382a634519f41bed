"""Perturbation: one matrix moves the image and its points, and each change does what it says, by NumPy references."""

import cv2
import numpy as np
import pytest

from wing_jax.config import PerturbConfig
from wing_jax.data.tensorflow_runtime import tensorflow
from wing_jax.schemes import MTFL_5

tf = tensorflow()
from wing_jax.data import perturb as ops  # noqa: E402  (imports TensorFlow, which must be set up first)

SIZE, CHIP = 72, 140
PLACES = np.float32([[52.3, 55.2], [86.7, 54.1], [70.2, 74.4], [55.6, 92.9], [85.1, 91.3]])  # of a chip
HARD = PerturbConfig(
    rotation=40.0, translation=0.1, scale=0.2, stretch=0.15, flip=0.5, blur=0.5, colour=0.3, noise=9.0, occlusion=0.5
)


COLOURS = np.array([[200, 150, 150], [150, 200, 150], [150, 150, 200], [200, 200, 150], [150, 200, 200]])


def dotted(*places, sigma: float = 2.0, side: int = CHIP) -> np.ndarray:
    """A chip with one Gaussian dot for each of `places`, each in a colour of its own."""
    rows, columns = np.mgrid[:side, :side]
    chip = np.zeros((side, side, 3))
    for (x, y), colour in zip(places, COLOURS, strict=True):
        chip += np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))[..., None] * colour
    return np.round(np.clip(chip, 0, 255)).astype(np.uint8)


def dot_near(crop: np.ndarray, place: np.ndarray, *, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Centroid (x, y) of the brightness within `reach` pixels of `place`, and its colour as fractions."""
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]]
    near = np.hypot(columns - place[0], rows - place[1]) < reach
    weight = crop.sum(-1) * near
    colour = (crop * near[..., None]).sum((0, 1))
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum(), colour / colour.sum()


def drawn_for(count: int, perturb: PerturbConfig = HARD, *, seed: int = 3) -> ops.Draw:
    uniforms = tf.function(ops.uniforms)  # many times faster than eagerly
    return ops.draw(uniforms(seed=seed, positions=tf.range(count, dtype=tf.int64)), perturb)


def plain_frames(count: int) -> np.ndarray:
    """The middle of the chip, at 1.25 chip pixels per pixel of the crop."""
    frame = np.float32([[1.25, 0, 25.5], [0, 1.25, 25.5]])
    return np.broadcast_to(frame, (count, 2, 3)).copy()


def test_dots_drawn_at_the_points_are_found_at_the_points_of_the_crop():
    drawn = drawn_for(40)
    frames = ops.perturbed_frames(tf.constant(plain_frames(40)), drawn, size=SIZE)
    crops = ops.warp(tf.constant(dotted(*PLACES)[None].repeat(40, 0)), frames, size=SIZE).numpy()
    points = np.broadcast_to(PLACES, (40, 5, 2)).copy()
    seen = ops.points_in_crop(tf.constant(points), frames, drawn.flip, tf.constant(MTFL_5.flip)).numpy()
    flipped = drawn.flip.numpy()
    assert 5 < flipped.sum() < 35
    for crop, places, mirror in zip(crops, seen, flipped, strict=True):
        for i, place in enumerate(places):
            found, colour = dot_near(crop, place, reach=6)
            np.testing.assert_allclose(found, place, atol=0.1)
            name = MTFL_5.flip[i] if mirror else i  # a mirrored left eye is drawn where the right eye was
            np.testing.assert_allclose(colour, COLOURS[name] / COLOURS[name].sum(), atol=0.01)
    eyes = seen[:, MTFL_5.right_eye[0], 0] - seen[:, MTFL_5.left_eye[0], 0]
    assert (eyes > 0).all()  # left stays left, flipped or not


def test_frames_by_their_meaning():
    def one(**changes) -> np.ndarray:
        still = {"flip": False, "degrees": 0.0, "scale": 1.0, "stretch": 1.0, "translation": (0.0, 0.0)}
        values = dict.fromkeys(ops.Draw._fields, 0.0) | still | changes
        drawn = ops.Draw(**{name: tf.constant([value]) for name, value in values.items()})
        return ops.perturbed_frames(tf.constant(np.eye(2, 3, dtype=np.float32)[None]), drawn, size=101).numpy()[0]

    def seen(frame: np.ndarray, place) -> np.ndarray:
        return np.linalg.solve(frame[:, :2], np.subtract(place, frame[:, 2]))

    np.testing.assert_allclose(one(), np.eye(2, 3), atol=1e-5)
    np.testing.assert_allclose(seen(one(flip=True), (10, 20)), (90, 20), atol=1e-4)
    np.testing.assert_allclose(seen(one(degrees=90.0), (60, 50)), (50, 60), atol=1e-4)  # x towards y
    np.testing.assert_allclose(seen(one(scale=2.0), (60, 50)), (70, 50), atol=1e-4)
    np.testing.assert_allclose(seen(one(translation=(0.1, -0.2)), (60, 50)), (70.1, 29.8), atol=1e-4)
    np.testing.assert_allclose(seen(one(stretch=2.0), (60, 70)), (70, 60), atol=1e-4)  # wider and flatter
    np.testing.assert_allclose(seen(one(stretch=2.0, degrees=90.0), (60, 70)), (40, 70), atol=1e-4)  # as if upright
    together = one(flip=True, degrees=30.0, scale=2.0, translation=(0.1, 0.0))
    x, y = cv2.getRotationMatrix2D((50, 50), -30.0, 2.0) @ (60, 50, 1)  # OpenCV counts y towards x
    np.testing.assert_allclose(seen(together, (60, 50)), (100 - x + 10.1, y), atol=1e-3)


def test_draws_stay_within_their_limits_and_fill_them():
    drawn = ops.Draw(*(value.numpy() for value in drawn_for(4000)))

    def spans(values, low, high):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high >= values.max() > high - 0.05 * (high - low)

    spans(drawn.degrees, -40, 40)
    spans(drawn.scale, 0.8, 1.2)
    spans(drawn.stretch, 0.85, 1.15)
    spans(drawn.translation, -0.1, 0.1)
    spans(drawn.contrast, 0.7, 1.3)
    spans(drawn.noise, 0, 9)
    spans(drawn.shade, 0, 255)
    assert abs(drawn.gain - 1).max() <= 0.3
    assert abs(drawn.flip.mean() - 0.5) < 0.04
    assert abs(drawn.blur.mean() - 0.5) < 0.04
    sides = drawn.occluder[:, 2:] - drawn.occluder[:, :2]
    shown = (sides > 0).all(1)
    assert abs(shown.mean() - 0.5) < 0.04
    spans(sides[shown], 0, 0.4)
    assert drawn.occluder.min() >= 0
    assert drawn.occluder.max() <= 1
    single = (drawn.degrees, drawn.scale, drawn.stretch, drawn.contrast, drawn.noise, drawn.shade)
    numbers = np.stack([*single, *drawn.translation.T])
    off_diagonal = np.corrcoef(numbers) - np.eye(len(numbers))
    assert np.abs(off_diagonal).max() < 0.08  # drawn apart from each other


def test_uniform_numbers_depend_on_seed_and_position_alone():
    together = ops.uniforms(seed=5, positions=tf.constant([0, 7, 7, 9], tf.int64)).numpy()
    alone = ops.uniforms(seed=5, positions=tf.constant([9], tf.int64)).numpy()
    np.testing.assert_array_equal(together[3], alone[0])
    np.testing.assert_array_equal(together[1], together[2])
    assert (together[0] != together[1]).all()
    assert (ops.uniforms(seed=6, positions=tf.constant([9], tf.int64)).numpy() != alone).all()
    assert together.min() >= 0
    assert together.max() < 1


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.3])
def test_the_blur_is_opencvs(sigma):
    images = np.random.default_rng(0).uniform(0, 255, (2, 30, 34, 3)).astype(np.float32)
    width = 2 * int(np.ceil(3 * sigma)) + 1
    expected = [cv2.GaussianBlur(i, (width, width), sigma, borderType=cv2.BORDER_REPLICATE) for i in images]
    np.testing.assert_allclose(ops.gaussian_blur(tf.constant(images), sigma), expected, atol=1e-2)


def photometric(crops: np.ndarray, drawn: ops.Draw, **settings) -> np.ndarray:
    still = {"rotation": 0.0, "translation": 0.0, "scale": 0.0, "flip": 0.0, "blur": 0.0}
    positions = tf.range(len(crops), dtype=tf.int64)
    perturb = PerturbConfig(**(still | settings))
    return ops.photometric(tf.constant(crops), drawn, perturb, positions=positions, seed=4).numpy()


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).uniform(60, 200, (24, 20, 20, 3)).astype(np.float32)


def test_nothing_asked_for_changes_nothing(crops):
    np.testing.assert_array_equal(photometric(crops, drawn_for(24)), crops)


def test_only_the_chosen_crops_are_blurred(crops):
    drawn = drawn_for(24)
    changed = photometric(crops, drawn, blur=0.5, blur_sigma=1.0)
    expected = np.where(drawn.blur.numpy()[:, None, None, None], ops.gaussian_blur(tf.constant(crops), 1.0), crops)
    np.testing.assert_allclose(changed, expected, atol=1e-3)
    assert 4 < (changed != crops).any((1, 2, 3)).sum() < 20


def test_colour_stretches_contrast_about_the_mean_and_scales_channels(crops):
    drawn = drawn_for(24)
    mean = crops.mean((1, 2, 3), keepdims=True)
    contrast, gain = drawn.contrast.numpy()[:, None, None, None], drawn.gain.numpy()[:, None, None]
    expected = np.clip((mean + contrast * (crops - mean)) * gain, 0, 255)
    np.testing.assert_allclose(photometric(crops, drawn, colour=0.3), expected, atol=1e-2)


def test_noise_has_the_deviation_that_was_drawn(crops):
    drawn = drawn_for(24)
    added = photometric(crops, drawn, noise=9.0) - crops
    np.testing.assert_allclose(added.std((1, 2, 3)), drawn.noise.numpy(), rtol=0.12)
    assert abs(added.mean()) < 0.2
    scaled = added / drawn.noise.numpy()[:, None, None, None]
    assert np.abs(np.corrcoef(scaled.reshape(24, -1)) - np.eye(24)).max() < 0.15  # each face has noise of its own


def test_the_occluder_is_one_rectangle_of_one_grey(crops):
    drawn = drawn_for(24)
    changed = photometric(crops, drawn, occlusion=0.5)
    at = (np.arange(20) + 0.5) / 20
    boxes, shades = drawn.occluder.numpy(), drawn.shade.numpy()
    for crop, result, (left, top, right, bottom), shade in zip(crops, changed, boxes, shades, strict=True):
        within = ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))
        np.testing.assert_allclose(result, np.where(within[..., None], shade, crop), atol=1e-3)
    assert 4 < (changed != crops).any((1, 2, 3)).sum() < 20


def test_values_stay_within_0_and_255(crops):
    changed = photometric(crops * 1.27, drawn_for(24), colour=0.3, noise=9.0)
    assert changed.min() >= 0
    assert changed.max() == 255


def test_the_graph_of_tf_data_computes_what_eager_mode_does():
    chips = dotted(*PLACES)[None].repeat(12, 0)

    def make(positions):
        drawn = ops.draw(ops.uniforms(seed=3, positions=positions), HARD)
        frames = ops.perturbed_frames(tf.constant(plain_frames(12)), drawn, size=SIZE)
        warped = ops.warp(tf.constant(chips), frames, size=SIZE, supersample=2)
        seen = ops.points_in_crop(tf.constant(PLACES[None].repeat(12, 0)), frames, drawn.flip, MTFL_5.flip)
        return frames, seen, ops.photometric(warped, drawn, HARD, positions=positions, seed=3)

    positions = tf.range(12, dtype=tf.int64)
    eager = make(positions)
    (graph,) = tf.data.Dataset.from_tensors(positions).map(make)
    for mine, other in zip(graph, eager, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-2)


def test_supersampling_takes_the_aliasing_out_of_a_checkerboard():
    board = np.repeat((255 * (np.indices((CHIP, CHIP)).sum(0) % 2)).astype(np.uint8)[None, ..., None], 3, -1)
    frame = tf.constant(np.float32([[[2.9, 0, 1.2], [0, 2.9, 1.2]]]))
    spread = [ops.warp(tf.constant(board), frame, size=40, supersample=factor).numpy().std() for factor in (1, 3)]
    assert spread[0] > 20
    assert spread[1] < 0.3 * spread[0]


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_supersampling_moves_nothing(supersample):
    frames = tf.constant(plain_frames(1) * np.float32([[[1.6], [1.6]]]) - np.float32([[0, 0, 14]] * 2))
    crop = ops.warp(tf.constant(dotted(*PLACES, sigma=3)[None]), frames, size=SIZE, supersample=supersample)[0].numpy()
    places = ops.points_in_crop(tf.constant(PLACES[None]), frames, tf.constant([False]), MTFL_5.flip)[0].numpy()
    found, _ = dot_near(crop, places[2], reach=5)
    np.testing.assert_allclose(found, places[2], atol=0.1)
