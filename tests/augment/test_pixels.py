"""Pixels: what host (NumPy and OpenCV) and device (JAX) do with the same parameters, each against plain NumPy."""

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
from wing_jax.augment.operations import gaussian_blur, pixels_left, standard_normal
from wing_jax.errors import InputError
from wing_jax.input.on_host import cut_crops
from wing_jax.schemes import MTFL_5


def on_host(crops: np.ndarray, augmentations, params) -> np.ndarray:
    return augment.apply_pixels_on_host(augmentations, crops.copy(), params)


def on_device(crops: np.ndarray, augmentations, params) -> np.ndarray:
    apply = jax.jit(lambda crops, params: augment.apply_pixels(augmentations, crops, params))
    changed = apply(jnp.asarray(crops, jnp.float32), params)
    assert changed.dtype == jnp.uint8
    return np.asarray(changed)


@pytest.fixture(params=[on_host, on_device], ids=["host", "device"])
def changed(request):
    """`changed(crops, params, *augmentations)`: the crops as the parameters change them, by either implementation."""
    return lambda crops, params, *augmentations: request.param(crops, augmentations, params)


def drawn_for(count: int, *augmentations: Augmentation):
    """NumPy parameters by name."""
    return jax.device_get(augment.sample_params(augmentations, keys_of(count)))


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (24, 20, 20, 3), np.uint8)


def near(mine, expected):
    """Equal but for rounding to whole gray levels."""
    np.testing.assert_allclose(mine.astype(float), np.clip(expected, 0, 255), atol=0.51)


def test_nothing_asked_for_changes_nothing(changed, crops):
    np.testing.assert_array_equal(changed(crops, {}), crops)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.3])
def test_only_the_chosen_crops_are_blurred_and_as_opencv_does(changed, crops, sigma):
    blur = augment.blur(0.5, sigma=sigma)
    drawn = drawn_for(24, blur)
    result = changed(crops, drawn, blur)
    width = 2 * int(np.ceil(3 * sigma)) + 1
    blurred = [
        cv2.GaussianBlur(crop.astype(np.float32), (width, width), sigma, borderType=cv2.BORDER_REPLICATE)
        for crop in crops
    ]
    near(result, np.where(drawn["blur"][:, None, None, None], blurred, crops))
    assert 4 < (result != crops).any((1, 2, 3)).sum() < 20


def test_the_blur_on_the_device_is_exact_also_where_it_is_not_square():
    images = np.random.default_rng(0).uniform(0, 255, (2, 30, 34, 3)).astype(np.float32)
    expected = [cv2.GaussianBlur(i, (7, 7), 1.0, borderType=cv2.BORDER_REPLICATE) for i in images]
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(images), sigma=1.0), expected, atol=1e-2)


def test_colour_stretches_contrast_about_the_mean_and_scales_channels(changed, crops):
    params = drawn_for(24, augment.color(0.3))
    mean, drawn = crops.mean((1, 2, 3), keepdims=True), params["color"]
    contrast, gain = drawn.contrast[:, None, None, None], drawn.gain[:, None, None]
    near(changed(crops, params, augment.color(0.3)), (mean + contrast * (crops - mean)) * gain)


def test_only_the_chosen_crops_are_gray_by_the_luma_that_pillow_has(changed):
    crops = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), np.uint8)
    crops[:3, 0, :3] = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    grayscale = augment.grayscale(0.5)
    drawn = drawn_for(24, grayscale)
    result = changed(crops, drawn, grayscale)
    assert 4 < drawn["grayscale"].sum() < 20
    for crop, mine, gray in zip(crops, result, drawn["grayscale"], strict=True):
        if not gray:
            np.testing.assert_array_equal(mine, crop)
            continue
        assert (np.ptp(mine, axis=-1) == 0).all()
        luma = np.asarray(PIL.Image.fromarray(crop).convert("L"), int)  # of ITU-R 601, rounded otherwise
        assert np.abs(mine[..., 0] - luma).max() <= 1
    pure = changed(crops[:3], {"grayscale": np.ones(3, bool)}, grayscale)[:, 0, :3, 0]
    np.testing.assert_array_equal(pure, [[76, 150, 29]] * 3)


def test_gray_is_always_or_never_and_its_share_lies_between():
    assert drawn_for(50, augment.grayscale(1))["grayscale"].all()
    assert not drawn_for(50, augment.grayscale(0))["grayscale"].any()
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"probability=.* must lie between 0 and 1"):
            augment.grayscale(share)


def test_noise_has_the_deviation_that_was_drawn(changed, crops):
    params = drawn_for(24, augment.noise(9))
    added, drawn = changed(crops, params, augment.noise(9)).astype(float) - crops, params["noise"]
    levels = np.arange(1, 60)
    tails = np.vectorize(math.erfc)((levels - 0.5) / (np.maximum(drawn.deviation, 1e-3)[:, None] * math.sqrt(2)))
    expected = np.sqrt(((2 * levels - 1) * tails).sum(1))  # of noise rounded to whole gray levels
    np.testing.assert_allclose(added.std((1, 2, 3)), expected, rtol=0.12, atol=0.05)
    assert abs(added.mean()) < 0.2
    scaled = added[drawn.deviation > 2] / drawn.deviation[drawn.deviation > 2][:, None, None, None]
    count = len(scaled)
    assert np.abs(np.corrcoef(scaled.reshape(count, -1)) - np.eye(count)).max() < 0.15  # each face has its own


def test_what_is_drawn_on_the_device_is_gaussian_and_independent():
    words = jax.vmap(lambda key: jax.random.bits(key, (2,)))(keys_of(40, seed=0))
    drawn = np.asarray(jax.jit(standard_normal, static_argnums=1)(words, (96, 96, 3)), float)
    by_numpy = standard_normal(np.asarray(words[3:5]), (96, 96, 3))
    assert by_numpy.dtype == np.float32
    np.testing.assert_allclose(by_numpy, drawn[3:5], atol=2e-6)  # the same noise, by the host
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


def test_the_occluder_is_one_rectangle_of_one_grey(changed, crops):
    params = drawn_for(24, augment.occlusion(0.5))
    results, drawn = changed(crops, params, augment.occlusion(0.5)), params["occlusion"]
    at = (np.arange(20) + 0.5) / 20
    for crop, result, box, shade in zip(crops, results, drawn.box, drawn.shade, strict=True):
        left, top, right, bottom = box
        within = ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))
        near(result, np.where(within[..., None], shade, crop))
    assert 4 < (results != crops).any((1, 2, 3)).sum() < 20


def test_values_stay_within_0_and_255(changed):
    bright = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), np.uint8)
    both = (augment.color(0.3), augment.noise(9))
    result = changed(bright, drawn_for(24, *both), *both).astype(int)
    assert result.min() == 0
    assert result.max() == 255
    assert np.abs(result - bright).max() < 150  # nothing has wrapped round


def test_supersampling_takes_the_aliasing_out_of_a_checkerboard():
    board = np.repeat((255 * (np.indices((CROP, CROP)).sum(0) % 2)).astype(np.uint8)[None, ..., None], 3, -1)
    transform = np.float32([[[2.9, 0, 1.2], [0, 2.9, 1.2]]])
    spread = [cut_crops(board, np.array([0]), transform, size=40, supersample=factor).std() for factor in (1, 3)]
    assert spread[0] > 20
    assert spread[1] < 0.3 * spread[0]


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_supersampling_moves_nothing(supersample):
    transforms = plain_transforms(1) * np.float32([[[1.6], [1.6]]]) - np.float32([[0, 0, 14]] * 2)
    crop = cut_crops(dotted(*PLACES, sigma=3)[None], np.array([0]), transforms, size=SIZE, supersample=supersample)[0]
    places, _ = points_in_crop(PLACES[None], np.ones((1, 5), bool), transforms, np.array([False]), MTFL_5.flip)
    found, _ = dot_near(crop, places[0, 2], reach=5)
    np.testing.assert_allclose(found, places[0, 2], atol=0.1)


def natural(count: int, *, seed: int = 0) -> np.ndarray:
    """Images with edges, gradients and texture."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        image = cv2.GaussianBlur(random.integers(0, 256, (CROP, CROP, 3), np.uint8), (0, 0), 6).astype(np.float32)
        image = np.clip((image - 128) * 8 + 128, 0, 255)
        cv2.ellipse(image, (70, 70), (40, 55), 20, 0, 360, random.uniform(0, 255, 3).tolist(), -1, cv2.LINE_AA)
        images.append(image + random.normal(0, 6, image.shape))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_resolution_falls_as_opencv_lets_it(changed, factor):
    crops, downscale = natural(12)[:, 20:84, 20:84], augment.downscale(factor)
    params = drawn_for(12, downscale)
    result = changed(crops, params, downscale).astype(float)
    left = pixels_left(params["downscale"], size=64).astype(int).tolist()
    expected = []
    for crop, pixels in zip(crops.astype(np.float32), left, strict=True):
        small = cv2.resize(crop, (pixels, pixels), interpolation=cv2.INTER_AREA)
        expected.append(cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_allclose(result, expected, atol=1.6)  # the host rounds in between
    assert min(left) < 64 / (1 + 0.8 * factor)
    assert max(left) > 64 / (1 + 0.2 * factor)


@pytest.mark.parametrize("side", [64, 60])
def test_only_the_chosen_crops_are_compressed_and_as_libjpeg_does(changed, side):
    crops, jpeg = natural(24)[:, 20 : 20 + side, 20 : 20 + side], augment.jpeg(0.5)
    params = drawn_for(24, jpeg)
    result = changed(crops, params, jpeg).astype(float)
    for crop, mine, quality in zip(crops, result, params["jpeg"].tolist(), strict=True):
        if quality == 100:
            np.testing.assert_array_equal(mine, crop)
            continue
        color = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _, record = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality), *color])
        apart = np.abs(mine - cv2.imdecode(record, cv2.IMREAD_COLOR)[..., ::-1])
        assert np.abs(mine - crop).mean() > 2  # it is a lossy thing
        assert apart.mean() < 1  # where rounding on the way takes a wave to the next step
    assert 4 < (params["jpeg"] < 100).sum() < 20


def test_quality_costs_what_it_says(changed):
    crops = natural(8)[:, 20:84, 20:84]
    lost = [
        np.abs(changed(crops, {"jpeg": np.full(8, quality, np.float32)}, augment.jpeg(1)).astype(float) - crops).mean()
        for quality in (20, 50, 90)
    ]
    assert lost[0] > 1.1 * lost[1] > 1.1 * 1.1 * lost[2]


def test_an_augmentation_without_a_way_of_its_own_works_on_the_host_too(crops):
    """The host then calls `apply` on the CPU device; rounding after each step and once at the end differ by one."""

    def tint(images, gains):
        return images * gains[:, None, None, None]

    mine = Augmentation("tint", lambda key: jax.random.uniform(key, minval=0.5, maxval=1.5), tint, "pixels")
    augmentations = (augment.blur(0.5), mine, augment.occlusion(0.5))
    params = drawn_for(24, *augmentations)
    host = on_host(crops, augmentations, params)
    assert host.flags.writeable
    apart = np.abs(host.astype(int) - on_device(crops, augmentations, params))
    assert apart.max() <= 1
    assert (host != crops).any((1, 2, 3)).all()
