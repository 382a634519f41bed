"""Pixels: what the host (NumPy and OpenCV) and the device (JAX) do with one draw, each against plain NumPy."""

import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_perturb import CHIP, HARD, PLACES, SIZE, dot_near, dotted, drawn_for, plain_frames

from wing_jax.augment import perturb as ops
from wing_jax.augment.photometric import gaussian, gaussian_blur, photometric
from wing_jax.augment.warp import warp
from wing_jax.config import PerturbConfig
from wing_jax.input.cutting import change_pixels, cut_crops, uniforms
from wing_jax.schemes import MTFL_5

STILL = {"rotation": 0.0, "translation": 0.0, "scale": 0.0, "flip": 0.0, "blur": 0.0}


def on_host(crops: np.ndarray, drawn: ops.Draw, perturb: PerturbConfig) -> np.ndarray:
    changed = crops.copy()
    change_pixels(changed, drawn, perturb, positions=np.arange(len(crops)), seed=4)
    return changed


def on_device(crops: np.ndarray, drawn: ops.Draw, perturb: PerturbConfig) -> np.ndarray:
    keys = jax.random.split(jax.random.key(4), len(crops))
    changed = jax.jit(photometric, static_argnames="perturb")(
        jnp.asarray(crops, jnp.float32), ops.Draw(*map(jnp.asarray, drawn)), perturb=perturb, keys=keys
    )
    assert changed.dtype == jnp.uint8
    return np.asarray(changed)


@pytest.fixture(params=[on_host, on_device], ids=["host", "device"])
def changed(request):
    """`changed(crops, drawn, **settings)`: the crops as the draw changes them, by either implementation."""
    return lambda crops, drawn, **settings: request.param(crops, drawn, PerturbConfig(**(STILL | settings)))


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (24, 20, 20, 3), np.uint8)


def near(mine, expected):
    """Equal but for rounding to whole grey levels."""
    np.testing.assert_allclose(mine.astype(float), np.clip(expected, 0, 255), atol=0.51)


def test_nothing_asked_for_changes_nothing(changed, crops):
    np.testing.assert_array_equal(changed(crops, drawn_for(24)), crops)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.3])
def test_only_the_chosen_crops_are_blurred_and_as_opencv_does(changed, crops, sigma):
    drawn = drawn_for(24)
    result = changed(crops, drawn, blur=0.5, blur_sigma=sigma)
    width = 2 * int(np.ceil(3 * sigma)) + 1
    blurred = [
        cv2.GaussianBlur(crop.astype(np.float32), (width, width), sigma, borderType=cv2.BORDER_REPLICATE)
        for crop in crops
    ]
    near(result, np.where(drawn.blur[:, None, None, None], blurred, crops))
    assert 4 < (result != crops).any((1, 2, 3)).sum() < 20


def test_the_blur_on_the_device_is_exact_also_where_it_is_not_square():
    images = np.random.default_rng(0).uniform(0, 255, (2, 30, 34, 3)).astype(np.float32)
    expected = [cv2.GaussianBlur(i, (7, 7), 1.0, borderType=cv2.BORDER_REPLICATE) for i in images]
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(images), sigma=1.0), expected, atol=1e-2)


def test_colour_stretches_contrast_about_the_mean_and_scales_channels(changed, crops):
    drawn = drawn_for(24)
    mean = crops.mean((1, 2, 3), keepdims=True)
    contrast, gain = drawn.contrast[:, None, None, None], drawn.gain[:, None, None]
    near(changed(crops, drawn, colour=0.3), (mean + contrast * (crops - mean)) * gain)


def test_noise_has_the_deviation_that_was_drawn(changed, crops):
    drawn = drawn_for(24)
    added = changed(crops, drawn, noise=9.0).astype(float) - crops
    levels = np.arange(1, 60)
    tails = np.vectorize(math.erfc)((levels - 0.5) / (np.maximum(drawn.noise, 1e-3)[:, None] * math.sqrt(2)))
    expected = np.sqrt(((2 * levels - 1) * tails).sum(1))  # of noise rounded to whole grey levels
    np.testing.assert_allclose(added.std((1, 2, 3)), expected, rtol=0.12, atol=0.05)
    assert abs(added.mean()) < 0.2
    scaled = added[drawn.noise > 2] / drawn.noise[drawn.noise > 2][:, None, None, None]
    count = len(scaled)
    assert np.abs(np.corrcoef(scaled.reshape(count, -1)) - np.eye(count)).max() < 0.15  # each face has its own


def test_what_is_drawn_on_the_device_is_gaussian_and_independent():
    keys = jax.random.split(jax.random.key(0), 40)
    drawn = np.asarray(jax.jit(gaussian, static_argnums=1)(keys, (96, 96, 3)), float)
    np.testing.assert_array_equal(gaussian(keys[3:5], (96, 96, 3)), drawn[3:5].astype(np.float32))
    error = 1 / math.sqrt(drawn.size)  # of the mean
    moments = [(drawn**power).mean() for power in range(1, 5)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=50 * error)
    for beyond in (0.5, 1, 2, 3, 3.5):
        share = math.erfc(beyond / math.sqrt(2))
        np.testing.assert_allclose((np.abs(drawn) > beyond).mean(), share, rtol=0.04, atol=4 * error * math.sqrt(share))
    for axis in range(4):  # faces, rows, columns, colours
        for of in (drawn, drawn**2 - 1):
            low, high = (np.take(of, range(n, of.shape[axis] - 1 + n), axis) for n in (0, 1))
            assert abs((low * high).mean()) < 5 * error * of.var()
    assert np.abs(np.corrcoef(drawn.reshape(40, -1)) - np.eye(40)).max() < 5 * error * math.sqrt(40)


def test_the_occluder_is_one_rectangle_of_one_grey(changed, crops):
    drawn = drawn_for(24)
    results = changed(crops, drawn, occlusion=0.5)
    at = (np.arange(20) + 0.5) / 20
    for crop, result, box, shade in zip(crops, results, drawn.occluder, drawn.shade, strict=True):
        left, top, right, bottom = box
        within = ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))
        near(result, np.where(within[..., None], shade, crop))
    assert 4 < (results != crops).any((1, 2, 3)).sum() < 20


def test_values_stay_within_0_and_255(changed):
    bright = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), np.uint8)
    result = changed(bright, drawn_for(24), colour=0.3, noise=9.0).astype(int)
    assert result.min() == 0
    assert result.max() == 255
    assert np.abs(result - bright).max() < 150  # nothing has wrapped round


def test_supersampling_takes_the_aliasing_out_of_a_checkerboard():
    board = np.repeat((255 * (np.indices((CHIP, CHIP)).sum(0) % 2)).astype(np.uint8)[None, ..., None], 3, -1)
    frame = np.float32([[[2.9, 0, 1.2], [0, 2.9, 1.2]]])
    spread = [cut_crops(board, np.array([0]), frame, size=40, supersample=factor).std() for factor in (1, 3)]
    assert spread[0] > 20
    assert spread[1] < 0.3 * spread[0]


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_supersampling_moves_nothing(supersample):
    frames = plain_frames(1) * np.float32([[[1.6], [1.6]]]) - np.float32([[0, 0, 14]] * 2)
    crop = cut_crops(dotted(*PLACES, sigma=3)[None], np.array([0]), frames, size=SIZE, supersample=supersample)[0]
    places, _ = ops.points_in_crop(PLACES[None], np.ones((1, 5), bool), frames, np.array([False]), MTFL_5.flip)
    found, _ = dot_near(crop, places[0, 2], reach=5)
    np.testing.assert_allclose(found, places[0, 2], atol=0.1)


def natural(count: int, *, seed: int = 0) -> np.ndarray:
    """Images with edges, gradients and texture."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        image = cv2.GaussianBlur(random.integers(0, 256, (CHIP, CHIP, 3), np.uint8), (0, 0), 6).astype(np.float32)
        image = np.clip((image - 128) * 8 + 128, 0, 255)
        cv2.ellipse(image, (70, 70), (40, 55), 20, 0, 360, random.uniform(0, 255, 3).tolist(), -1, cv2.LINE_AA)
        images.append(image + random.normal(0, 6, image.shape))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("supersample", [1, 2])
def test_of_one_draw_host_and_device_make_the_same_points_and_the_same_image(supersample):
    count = 32
    perturb = PerturbConfig(rotation=40.0, translation=0.1, scale=0.2, stretch=0.1, flip=0.5, colour=0.3, occlusion=0.5)
    chips, points = natural(count), PLACES[None].repeat(count, 0)
    visible = np.random.default_rng(1).uniform(size=(count, 5)) < 0.8
    frames = plain_frames(count) * np.float32([[[supersample, supersample, 1]] * 2])
    uniform = uniforms(seed=7, first=0, count=count)

    drawn = ops.draw(uniform, perturb)
    placed = ops.perturbed_frames(frames, drawn, size=SIZE)
    host = cut_crops(chips, np.arange(count), placed, size=SIZE, supersample=supersample)
    change_pixels(host, drawn, perturb, positions=np.arange(count), seed=0)
    host_points, host_visible = ops.points_in_crop(points, visible, placed, drawn.flip, MTFL_5.flip)

    @jax.jit
    def device(uniform, frames):
        drawn = ops.draw(uniform, perturb)
        placed = ops.perturbed_frames(frames, drawn, size=SIZE)
        crops = warp(jnp.asarray(chips), placed, size=SIZE, supersample=supersample)
        crops = photometric(crops, drawn, perturb, keys=jax.random.split(jax.random.key(0), count))
        permutation = jnp.asarray(MTFL_5.flip)
        return crops, *ops.points_in_crop(jnp.asarray(points), jnp.asarray(visible), placed, drawn.flip, permutation)

    crops, device_points, device_visible = device(jnp.asarray(uniform), jnp.asarray(frames))
    np.testing.assert_allclose(device_points, host_points, atol=1e-3)
    np.testing.assert_array_equal(device_visible, host_visible)
    apart = np.abs(np.asarray(crops, float) - host)
    assert apart.mean() < 1  # grey levels: 1 / 255
    assert apart.mean((1, 2, 3)).max() < 1
    assert drawn.flip.any()
    assert HARD.flip == 0.5


@pytest.mark.parametrize("shrink", [1.0, 3.0])
def test_resolution_falls_as_opencv_lets_it(changed, shrink):
    crops, drawn = natural(12)[:, 20:84, 20:84], drawn_for(12, PerturbConfig(**(STILL | {"shrink": shrink})))
    result = changed(crops, drawn, shrink=shrink).astype(float)
    expected, left = [], []
    for crop, share in zip(crops.astype(np.float32), drawn.pixels, strict=True):
        left.append(round(64 * float(share)))
        small = cv2.resize(crop, (left[-1], left[-1]), interpolation=cv2.INTER_AREA)
        expected.append(cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_allclose(result, expected, atol=1.6)  # the host rounds in between
    assert min(left) < 64 / (1 + 0.8 * shrink)
    assert max(left) > 64 / (1 + 0.2 * shrink)


@pytest.mark.parametrize("side", [64, 60])
def test_only_the_chosen_crops_are_compressed_and_as_libjpeg_does(changed, side):
    crops, drawn = natural(24)[:, 20 : 20 + side, 20 : 20 + side], drawn_for(24, PerturbConfig(**STILL, jpeg=0.5))
    result = changed(crops, drawn, jpeg=0.5).astype(float)
    for crop, mine, quality in zip(crops, result, drawn.quality.tolist(), strict=True):
        if quality == 100:
            np.testing.assert_array_equal(mine, crop)
            continue
        colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _, record = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality), *colour])
        apart = np.abs(mine - cv2.imdecode(record, cv2.IMREAD_COLOR)[..., ::-1])
        assert np.abs(mine - crop).mean() > 2  # it is a lossy thing
        assert apart.mean() < 1  # where rounding on the way takes a wave to the next step
    assert 4 < (drawn.quality < 100).sum() < 20
    assert drawn.quality.min() >= 20
    assert np.sort(drawn.quality)[-12] <= 90


def test_quality_costs_what_it_says(changed):
    crops = natural(8)[:, 20:84, 20:84]
    drawn = drawn_for(8, PerturbConfig(**STILL, jpeg=1.0))
    lost = [
        np.abs(changed(crops, drawn._replace(quality=np.full(8, q, np.float32)), jpeg=1.0).astype(float) - crops).mean()
        for q in (20, 50, 90)
    ]
    assert lost[0] > 1.1 * lost[1] > 1.1 * 1.1 * lost[2]
