"""The warp on the device against OpenCV, against closed forms, and against the warp of the tf.data pipeline."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.data.tensorflow_runtime import tensorflow
from wing_jax.warp import warp

cut = jax.jit(warp, static_argnames=("size", "supersample"))


def smooth_images(count: int = 3, side: int = 60) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise]).astype(np.float32)
    low, high = blurred.min(), blurred.max()
    return np.round(255 * (blurred - low) / (high - low)).astype(np.uint8)


FRAMES = np.float32(
    [
        [[1.1, 0.3, 4.2], [-0.3, 1.1, 14.9]],  # turned
        [[-0.6, 0.0, 50.3], [0.0, 0.6, 8.1]],  # mirrored and enlarged
        [[1.5, 0.0, -9.4], [0.0, 1.5, -6.2]],  # over the edge
    ]
)


def test_the_identity_gives_the_image():
    images = smooth_images()
    crops = cut(jnp.asarray(images), jnp.tile(jnp.eye(2, 3), (3, 1, 1)), size=60)
    np.testing.assert_array_equal(crops, images)


def reference(image: np.ndarray, frame: np.ndarray, *, size: int, supersample: int) -> np.ndarray:
    """One crop in float64 by NumPy."""
    at = (np.arange(size * supersample) + 0.5) / supersample - 0.5
    (a, b, u), (c, d, v) = frame.astype(np.float64)
    height, width = image.shape[:2]
    x = np.clip(a * at + b * at[:, None] + u, 0, width - 1)
    y = np.clip(c * at + d * at[:, None] + v, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    p, q = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - p) + image[top, right] * p
    lower = image[bottom, left] * (1 - p) + image[bottom, right] * p
    crop = upper * (1 - q) + lower * q
    return crop.reshape(size, supersample, size, supersample, 3).mean((1, 3))


@pytest.mark.parametrize("supersample", [1, 2])
def test_it_is_bilinear_also_where_samples_fall_on_pixel_centres(supersample):
    # The frames' round numbers put samples within a rounding error of whole pixels, where a compiler that works the
    # position out twice may take the pixel from one floor and its weight from another.
    images = smooth_images()
    crops = cut(jnp.asarray(images), jnp.asarray(FRAMES), size=32, supersample=supersample)
    for image, frame, crop in zip(images, FRAMES, crops, strict=True):
        expected = reference(image, frame, size=32, supersample=supersample)
        np.testing.assert_allclose(crop, expected, atol=0.01)


def test_it_agrees_with_opencv():
    images = smooth_images()
    crops = cut(jnp.asarray(images), jnp.asarray(FRAMES), size=40)
    for image, frame, crop in zip(images, FRAMES, crops, strict=True):
        reference = cv2.warpAffine(
            image.astype(np.float32),
            frame,
            (40, 40),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        assert np.abs(crop - reference).mean() < 0.5  # OpenCV rounds positions to 1/32 pixel
        assert np.abs(crop - reference).max() < 6


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_it_agrees_with_the_warp_of_the_pipeline(supersample):
    tf = tensorflow()
    from wing_jax.data import perturb

    images = smooth_images()
    ours = cut(jnp.asarray(images), jnp.asarray(FRAMES), size=40, supersample=supersample)
    theirs = perturb.warp(tf.constant(images), tf.constant(FRAMES), size=40, supersample=supersample).numpy()
    assert np.abs(ours - theirs).mean() < 1
    np.testing.assert_allclose(ours, theirs, atol=0.1)


def test_a_ramp_is_sampled_exactly_and_its_edge_repeated():
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[None, None, :, None], (1, 20, 20, 3))
    frame = np.float32([[[1, 0, 7.25], [0, 1, 0]]])
    crop = cut(jnp.asarray(ramp), jnp.asarray(frame), size=20)
    expected = np.minimum(np.arange(20) + 7.25, 19)
    np.testing.assert_allclose(crop[0, :, :, 1], np.broadcast_to(expected, (20, 20)), atol=1e-5)


def test_supersampling_takes_the_aliasing_out_of_a_checkerboard():
    board = np.float32(255) * (np.indices((120, 120)).sum(0) % 2)
    boards = jnp.asarray(np.broadcast_to(board[None, :, :, None], (1, 120, 120, 3)))
    frame = jnp.float32([[[2.9, 0, 1.2], [0, 2.9, 1.2]]])
    spread = [float(jnp.std(cut(boards, frame, size=36, supersample=factor))) for factor in (1, 3)]
    assert spread[0] > 20
    assert spread[1] < 0.3 * spread[0]


def test_jit_equals_eager_and_one_by_one_equals_batch():
    images, frames = jnp.asarray(smooth_images()), jnp.asarray(FRAMES)
    eager = warp(images, frames, size=32, supersample=2)
    assert eager.shape == (3, 32, 32, 3)
    assert eager.dtype == jnp.float32
    np.testing.assert_allclose(cut(images, frames, size=32, supersample=2), eager, atol=0.01)
    alone = [cut(images[i : i + 1], frames[i : i + 1], size=32, supersample=2)[0] for i in range(3)]
    np.testing.assert_allclose(jnp.stack(alone), eager, atol=0.01)


def test_gradients_by_the_frame_are_finite():
    images = jnp.asarray(smooth_images())
    gradient = jax.jit(jax.grad(lambda frames: warp(images, frames, size=16).sum()))(jnp.asarray(FRAMES))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
