"""The warp and the cutting of squares on the device, against OpenCV and closed forms."""

import functools
import re

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.augment.warp import cut_squares, warp
from wing_jax.runtime import devices

cut = jax.jit(warp, static_argnames=("size", "supersample"))
squares = jax.jit(cut_squares, static_argnames=("size",))


def smooth_images(count: int = 3, side: int = 60) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise]).astype(np.float32)
    low, high = blurred.min(), blurred.max()
    return np.round(255 * (blurred - low) / (high - low)).astype(np.uint8)


TRANSFORMS = np.float32(
    [
        [[1.1, 0.3, 4.2], [-0.3, 1.1, 14.9]],  # rotated
        [[-0.6, 0.0, 50.3], [0.0, 0.6, 8.1]],  # mirrored and enlarged
        [[1.5, 0.0, -9.4], [0.0, 1.5, -6.2]],  # beyond the edge
    ]
)


def test_the_identity_gives_the_image():
    images = smooth_images()
    crops = cut(jnp.asarray(images), jnp.tile(jnp.eye(2, 3), (3, 1, 1)), size=60)
    np.testing.assert_array_equal(crops, images)


def reference(image: np.ndarray, transform: np.ndarray, *, size: int, supersample: int) -> np.ndarray:
    """Cut one crop in float64 by NumPy."""
    positions = (np.arange(size * supersample) + 0.5) / supersample - 0.5
    (a, b, u), (c, d, v) = transform.astype(np.float64)
    height, width = image.shape[:2]
    x = np.clip(a * positions + b * positions[:, None] + u, 0, width - 1)
    y = np.clip(c * positions + d * positions[:, None] + v, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    p, q = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - p) + image[top, right] * p
    lower = image[bottom, left] * (1 - p) + image[bottom, right] * p
    crop = upper * (1 - q) + lower * q
    return crop.reshape(size, supersample, size, supersample, 3).mean((1, 3))


@pytest.mark.parametrize("supersample", [1, 2])
def test_warp_is_bilinear_also_for_samples_on_pixel_centers(supersample):
    # The round numbers of TRANSFORMS put samples within a rounding error of whole pixels. A compiler that computes the
    # position twice could then take the pixel from one floor and its weight from another.
    images = smooth_images()
    crops = cut(jnp.asarray(images), jnp.asarray(TRANSFORMS), size=32, supersample=supersample)
    for image, transform, crop in zip(images, TRANSFORMS, crops, strict=True):
        expected = reference(image, transform, size=32, supersample=supersample)
        np.testing.assert_allclose(crop, expected, atol=0.01)


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_warp_matches_opencv(supersample):
    images, side = smooth_images(), 40 * supersample
    finer = (
        np.float32([[1, 0, 0.5 - supersample / 2], [0, 1, 0.5 - supersample / 2], [0, 0, supersample]]) / supersample
    )
    crops = cut(jnp.asarray(images), jnp.asarray(TRANSFORMS), size=40, supersample=supersample)
    for image, transform, crop in zip(images, TRANSFORMS, crops, strict=True):
        reference = cv2.warpAffine(
            image.astype(np.float32),
            transform @ finer,
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        reference = reference.reshape(40, supersample, 40, supersample, 3).mean((1, 3))
        assert np.abs(crop - reference).mean() < 0.5  # OpenCV rounds positions to 1/32 pixel
        assert np.abs(crop - reference).max() < 6


def test_warp_of_a_ramp_is_exact_and_repeats_the_edge():
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[None, None, :, None], (1, 20, 20, 3))
    transform = np.float32([[[1, 0, 7.25], [0, 1, 0]]])
    crop = cut(jnp.asarray(ramp), jnp.asarray(transform), size=20)
    expected = np.minimum(np.arange(20) + 7.25, 19)
    np.testing.assert_allclose(crop[0, :, :, 1], np.broadcast_to(expected, (20, 20)), atol=1e-5)


def test_supersampling_removes_the_aliasing_of_a_checkerboard():
    board = np.float32(255) * (np.indices((120, 120)).sum(0) % 2)
    boards = jnp.asarray(np.broadcast_to(board[None, :, :, None], (1, 120, 120, 3)))
    transform = jnp.float32([[[2.9, 0, 1.2], [0, 2.9, 1.2]]])
    spread = [float(jnp.std(cut(boards, transform, size=36, supersample=factor))) for factor in (1, 3)]
    assert spread[0] > 20
    assert spread[1] < 0.3 * spread[0]


@pytest.mark.slow
def test_jit_matches_eager_and_single_images_match_the_batch():
    images, transforms = jnp.asarray(smooth_images()), jnp.asarray(TRANSFORMS)
    eager = warp(images, transforms, size=32, supersample=2)
    assert eager.shape == (3, 32, 32, 3)
    assert eager.dtype == jnp.float32
    np.testing.assert_allclose(cut(images, transforms, size=32, supersample=2), eager, atol=0.01)
    alone = [cut(images[i : i + 1], transforms[i : i + 1], size=32, supersample=2)[0] for i in range(3)]
    np.testing.assert_allclose(jnp.stack(alone), eager, atol=0.01)


def test_gradients_by_the_transform_are_finite():
    images = jnp.asarray(smooth_images())
    gradient = jax.jit(jax.grad(lambda transforms: warp(images, transforms, size=16).sum()))(jnp.asarray(TRANSFORMS))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def complete_squares(images):
    """Return the arguments of `cut_squares` for images that are complete squares."""
    count, side = images.shape[:2]
    return images, np.zeros((count, 2), int), np.full((count, 2), side), np.full(count, side)


@pytest.mark.slow
@pytest.mark.parametrize("size", [60, 59, 40, 31, 20, 7, 2])
def test_shrunk_squares_match_opencv(size):
    images = smooth_images()
    results = squares(*complete_squares(images), size=size)
    assert results.dtype == jnp.float32
    for image, face_crop in zip(images, results, strict=True):
        expected = cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(face_crop, expected, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [61, 100, 137])
def test_enlarged_squares_match_opencv(size):
    images = smooth_images()
    for image, face_crop in zip(images, squares(*complete_squares(images), size=size), strict=True):
        expected = cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(face_crop, expected, atol=2e-3)


@pytest.mark.parametrize("size", [16, 90])
def test_the_edge_is_repeated_and_padding_does_not_count(size):
    """The squares show different parts of the picture: the lower right corner, the upper edge, a column far to the
    left, nothing."""
    first = np.array([[0, 0], [0, 25], [30, 0], [90, -20]])
    length = np.array([[33, 20], [50, 25], [1, 50], [1, 1]])
    picture = smooth_images(1, 50)[0]
    parts = np.full((4, 64, 64, 3), 255, np.uint8)  # the padding
    expected = []
    for part, (x, y), (width, height) in zip(parts, first, length, strict=True):
        part[:height, :width] = picture[:height, :width]
        column, row = np.clip(np.arange(50) - x, 0, width - 1), np.clip(np.arange(50) - y, 0, height - 1)
        square = picture[row[:, None], column].astype(np.float32)
        interpolation = cv2.INTER_AREA if size < 50 else cv2.INTER_LINEAR
        expected.append(cv2.resize(square, (size, size), interpolation=interpolation))
    np.testing.assert_allclose(squares(parts, first, length, np.full(4, 50), size=size), expected, atol=2e-3)


def test_a_shrunk_square_keeps_the_mean_of_its_image():
    noise = np.random.default_rng(0).integers(0, 256, (2, 397, 397, 3), np.uint8)
    face_crops = squares(*complete_squares(noise), size=114)
    np.testing.assert_allclose(face_crops.mean((1, 2)), noise.mean((1, 2)), atol=1e-3)


def test_squares_of_several_sides_do_not_recompile():
    images, first, length, side = complete_squares(smooth_images())
    expected = [squares(image[None], first[:1], length[:1], side[:1], size=24)[0] for image in images]
    squares(images, first, length, side, size=24)
    with jax.no_tracing():
        results = squares(images, first, length, side, size=24)
        squares(images, first + 3, length - 4, side * 2, size=24)
    np.testing.assert_allclose(results, expected, atol=1e-3)


@pytest.mark.parametrize("supersample", [1, 2])
def test_a_tpu_interpolates_by_matrix_products_and_gets_the_same_pixels(supersample):
    sharp = np.random.default_rng(0).choice(np.uint8([0, 255]), (3, 60, 60, 3))
    with devices.compiling_for("tpu"):
        program = jax.jit(functools.partial(warp, size=32, supersample=supersample)).lower(sharp, TRANSFORMS)
    assert "dot_general" in program.as_text()
    assert set(re.findall(r"slice_sizes = array<i64: ([\d, ]*)>", program.as_text())) <= {
        "1, 3, 40, 60",
        "1, 3, 60, 60",
    }
    for images in (sharp, smooth_images()):
        crops = program.compile()(images, TRANSFORMS)
        expected = cut(images, TRANSFORMS, size=32, supersample=supersample)
        assert np.abs(crops - expected).max() <= 0.5  # gray levels: x is rounded to 1/256 pixel
    assert np.abs(crops - expected).max() < 0.1  # of the smooth images


@pytest.mark.parametrize("factor", [0.3, 1.7, 2.5, 2.634, 3.5, 6.0])  # 2.634: half a row more than a window
@pytest.mark.parametrize("angle", [0.0, 0.8, 2.0])
@pytest.mark.parametrize("size", [32, 27])
def test_a_tpu_interpolates_crops_of_any_scale_and_angle(factor, angle, size):
    images = np.random.default_rng(0).integers(0, 256, (2, 150, 170, 3), np.uint8)
    cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
    transforms = np.float32([[[cosine, -sine, 60], [sine, cosine, 40]], [[1, 0, 130], [0, 1, 140]]])
    images, transforms = jnp.asarray(images), jnp.asarray(transforms)
    with devices.compiling_for("tpu"):
        crops = warp(images, transforms, size=size)
    assert np.abs(crops - warp(images, transforms, size=size)).max() <= 0.5
