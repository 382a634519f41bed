"""Pixel augmentations: host (NumPy and OpenCV) and device (JAX) with the same parameters, each against plain NumPy."""

import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from tests.support.dots import CROP, PLACES, SIZE, dot_near, dotted, keys_of, plain_transforms
from wing_jax import augment
from wing_jax.augment.augmentation import Augmentation
from wing_jax.augment.geometric import points_in_crop
from wing_jax.augment.operations import gaussian_blur, reduced_size, standard_normal
from wing_jax.errors import InputError
from wing_jax.input.on_host import cut_crops
from wing_jax.schemes import MTFL_5


def on_host(crops: np.ndarray, augmentations, params) -> np.ndarray:
    return augment.apply_pixels_on_host(augmentations, crops.copy(), params)


def on_device(crops: np.ndarray, augmentations, params) -> np.ndarray:
    compiled = jax.jit(lambda crops, params: augment.apply_pixels(augmentations, crops, params))
    result = compiled(jnp.asarray(crops, jnp.float32), params)
    assert result.dtype == jnp.uint8
    return np.asarray(result)


@pytest.fixture(params=[on_host, on_device], ids=["host", "device"])
def apply(request):
    """`apply(crops, params, *augmentations)`: apply the augmentations by either implementation."""
    return lambda crops, params, *augmentations: request.param(crops, augmentations, params)


def sample_for(count: int, *augmentations: Augmentation):
    """Sample NumPy parameters by name."""
    return jax.device_get(augment.sample_params(augmentations, keys_of(count)))


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (24, 20, 20, 3), np.uint8)


def assert_near(result, expected):
    """Assert equality up to rounding to whole gray levels."""
    np.testing.assert_allclose(result.astype(float), np.clip(expected, 0, 255), atol=0.51)


def test_no_augmentation_changes_nothing(apply, crops):
    np.testing.assert_array_equal(apply(crops, {}), crops)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.3])
def test_blur_matches_opencv_on_the_chosen_crops(apply, crops, sigma):
    blur = augment.blur(0.5, sigma=sigma)
    drawn = sample_for(24, blur)
    result = apply(crops, drawn, blur)
    width = 2 * int(np.ceil(3 * sigma)) + 1
    blurred = [
        cv2.GaussianBlur(crop.astype(np.float32), (width, width), sigma, borderType=cv2.BORDER_REPLICATE)
        for crop in crops
    ]
    assert_near(result, np.where(drawn["blur"][:, None, None, None], blurred, crops))
    assert 4 < (result != crops).any((1, 2, 3)).sum() < 20


def test_device_blur_matches_opencv_for_non_square_images():
    images = np.random.default_rng(0).uniform(0, 255, (2, 30, 34, 3)).astype(np.float32)
    expected = [cv2.GaussianBlur(i, (7, 7), 1.0, borderType=cv2.BORDER_REPLICATE) for i in images]
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(images), sigma=1.0), expected, atol=1e-2)


def test_color_scales_contrast_about_the_mean_and_channels(apply, crops):
    params = sample_for(24, augment.color(0.3))
    mean, drawn = crops.mean((1, 2, 3), keepdims=True), params["color"]
    contrast, gain = drawn.contrast[:, None, None, None], drawn.gain[:, None, None]
    assert_near(apply(crops, params, augment.color(0.3)), (mean + contrast * (crops - mean)) * gain)


def test_grayscale_matches_pillow_on_the_chosen_crops(apply):
    crops = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), np.uint8)
    crops[:3, 0, :3] = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    grayscale = augment.grayscale(0.5)
    drawn = sample_for(24, grayscale)
    results = apply(crops, drawn, grayscale)
    assert 4 < drawn["grayscale"].sum() < 20
    for crop, result, gray in zip(crops, results, drawn["grayscale"], strict=True):
        if not gray:
            np.testing.assert_array_equal(result, crop)
            continue
        assert (np.ptp(result, axis=-1) == 0).all()
        luma = np.asarray(PIL.Image.fromarray(crop).convert("L"), int)  # ITU-R 601, with another rounding
        assert np.abs(result[..., 0] - luma).max() <= 1
    pure = apply(crops[:3], {"grayscale": np.ones(3, bool)}, grayscale)[:, 0, :3, 0]
    np.testing.assert_array_equal(pure, [[76, 150, 29]] * 3)


def test_grayscale_probability():
    assert sample_for(50, augment.grayscale(1))["grayscale"].all()
    assert not sample_for(50, augment.grayscale(0))["grayscale"].any()
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"probability=.* must be between 0 and 1"):
            augment.grayscale(share)


@pytest.mark.slow
def test_noise_has_the_sampled_deviation(apply, crops):
    params = sample_for(24, augment.noise(9))
    added, drawn = apply(crops, params, augment.noise(9)).astype(float) - crops, params["noise"]
    levels = np.arange(1, 60)
    tails = np.vectorize(math.erfc)((levels - 0.5) / (np.maximum(drawn.deviation, 1e-3)[:, None] * math.sqrt(2)))
    expected = np.sqrt(((2 * levels - 1) * tails).sum(1))  # of noise rounded to whole gray levels
    np.testing.assert_allclose(added.std((1, 2, 3)), expected, rtol=0.12, atol=0.05)
    assert abs(added.mean()) < 0.2
    scaled = added[drawn.deviation > 2] / drawn.deviation[drawn.deviation > 2][:, None, None, None]
    count = len(scaled)
    assert np.abs(np.corrcoef(scaled.reshape(count, -1)) - np.eye(count)).max() < 0.15  # independent for each face


@pytest.mark.slow
def test_standard_normal_is_gaussian_and_independent():
    words = jax.vmap(lambda key: jax.random.bits(key, (2,)))(keys_of(40, seed=0))
    drawn = np.asarray(jax.jit(standard_normal, static_argnums=1)(words, (96, 96, 3)), float)
    by_numpy = standard_normal(np.asarray(words[3:5]), (96, 96, 3))
    assert by_numpy.dtype == np.float32
    np.testing.assert_allclose(by_numpy, drawn[3:5], atol=2e-6)  # the host computes the same noise
    error = 1 / math.sqrt(drawn.size)  # of the mean
    moments = [(drawn**power).mean() for power in range(1, 5)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=50 * error)
    for beyond in (0.5, 1, 2, 3, 3.5):
        share = math.erfc(beyond / math.sqrt(2))
        np.testing.assert_allclose((np.abs(drawn) > beyond).mean(), share, rtol=0.04, atol=4 * error * math.sqrt(share))
    for axis in range(4):  # faces, rows, columns, colors
        for of in (drawn, drawn**2 - 1):
            low, high = (np.take(of, range(n, of.shape[axis] - 1 + n), axis) for n in (0, 1))
            assert abs((low * high).mean()) < 5 * error * of.var()
    assert np.abs(np.corrcoef(drawn.reshape(40, -1)) - np.eye(40)).max() < 5 * error * math.sqrt(40)


def test_occlusion_is_one_rectangle_of_one_gray_level(apply, crops):
    params = sample_for(24, augment.occlusion(0.5))
    results, drawn = apply(crops, params, augment.occlusion(0.5)), params["occlusion"]
    at = (np.arange(20) + 0.5) / 20
    for crop, result, box, shade in zip(crops, results, drawn.box, drawn.shade, strict=True):
        left, top, right, bottom = box
        inside = ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))
        assert_near(result, np.where(inside[..., None], shade, crop))
    assert 4 < (results != crops).any((1, 2, 3)).sum() < 20


def test_values_stay_within_0_and_255(apply):
    bright = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), np.uint8)
    augmentations = (augment.color(0.3), augment.noise(9))
    result = apply(bright, sample_for(24, *augmentations), *augmentations).astype(int)
    assert result.min() == 0
    assert result.max() == 255
    assert np.abs(result - bright).max() < 150  # no overflow


def test_supersampling_removes_the_aliasing_of_a_checkerboard():
    board = np.repeat((255 * (np.indices((CROP, CROP)).sum(0) % 2)).astype(np.uint8)[None, ..., None], 3, -1)
    transform = np.float32([[[2.9, 0, 1.2], [0, 2.9, 1.2]]])
    spread = [cut_crops(board, np.array([0]), transform, size=40, supersample=factor).std() for factor in (1, 3)]
    assert spread[0] > 20
    assert spread[1] < 0.3 * spread[0]


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_supersampling_does_not_move_the_image(supersample):
    transforms = plain_transforms(1) * np.float32([[[1.6], [1.6]]]) - np.float32([[0, 0, 14]] * 2)
    crop = cut_crops(dotted(*PLACES, sigma=3)[None], np.array([0]), transforms, size=SIZE, supersample=supersample)[0]
    places, _ = points_in_crop(PLACES[None], np.ones((1, 5), bool), transforms, np.array([False]), MTFL_5.flip)
    center, _ = dot_near(crop, places[0, 2], reach=5)
    np.testing.assert_allclose(center, places[0, 2], atol=0.1)


def natural_images(count: int, *, seed: int = 0) -> np.ndarray:
    """Make images with edges, gradients and texture."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        image = cv2.GaussianBlur(random.integers(0, 256, (CROP, CROP, 3), np.uint8), (0, 0), 6).astype(np.float32)
        image = np.clip((image - 128) * 8 + 128, 0, 255)
        cv2.ellipse(image, (70, 70), (40, 55), 20, 0, 360, random.uniform(0, 255, 3).tolist(), -1, cv2.LINE_AA)
        images.append(image + random.normal(0, 6, image.shape))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_downscale_matches_opencv(apply, factor):
    crops, downscale = natural_images(12)[:, 20:84, 20:84], augment.downscale(factor)
    params = sample_for(12, downscale)
    result = apply(crops, params, downscale).astype(float)
    sizes = reduced_size(params["downscale"], size=64).astype(int).tolist()
    expected = []
    for crop, pixels in zip(crops.astype(np.float32), sizes, strict=True):
        small = cv2.resize(crop, (pixels, pixels), interpolation=cv2.INTER_AREA)
        expected.append(cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_allclose(result, expected, atol=1.6)  # the host rounds in between
    assert min(sizes) < 64 / (1 + 0.8 * factor)
    assert max(sizes) > 64 / (1 + 0.2 * factor)


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 60])
def test_jpeg_matches_libjpeg_on_the_chosen_crops(apply, side):
    crops, jpeg = natural_images(24)[:, 20 : 20 + side, 20 : 20 + side], augment.jpeg(0.5)
    params = sample_for(24, jpeg)
    results = apply(crops, params, jpeg).astype(float)
    for crop, result, quality in zip(crops, results, params["jpeg"].tolist(), strict=True):
        if quality == 100:
            np.testing.assert_array_equal(result, crop)
            continue
        color = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _, encoded = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality), *color])
        difference = np.abs(result - cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])
        assert np.abs(result - crop).mean() > 2  # compression is lossy
        assert difference.mean() < 1  # intermediate rounding may quantize a coefficient differently
    assert 4 < (params["jpeg"] < 100).sum() < 20


def test_lower_jpeg_quality_loses_more(apply):
    crops = natural_images(8)[:, 20:84, 20:84]
    errors = [
        np.abs(apply(crops, {"jpeg": np.full(8, quality, np.float32)}, augment.jpeg(1)).astype(float) - crops).mean()
        for quality in (20, 50, 90)
    ]
    assert errors[0] > 1.1 * errors[1] > 1.1 * 1.1 * errors[2]


def test_an_augmentation_without_host_works_on_the_host(crops):
    """The host then calls `apply` on the CPU device; rounding after each step and once at the end differ by one."""

    def tint(images, gains):
        return images * gains[:, None, None, None]

    tinting = Augmentation("tint", lambda key: jax.random.uniform(key, minval=0.5, maxval=1.5), tint, "pixels")
    augmentations = (augment.blur(0.5), tinting, augment.occlusion(0.5))
    params = sample_for(24, *augmentations)
    host = on_host(crops, augmentations, params)
    assert host.flags.writeable
    difference = np.abs(host.astype(int) - on_device(crops, augmentations, params))
    assert difference.max() <= 1
    assert (host != crops).any((1, 2, 3)).all()
