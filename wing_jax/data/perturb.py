"""Random perturbation in TensorFlow ops, a batch at a time: draw numbers first, then apply them.

`draw` turns uniform numbers into a `Draw`; `perturbed_frames` makes ONE frame of flip, rotation, scale and translation,
and that frame moves both the image and its points. Only `wing_jax.data` imports TensorFlow.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from wing_jax.config import PerturbConfig

Tensor = Any  # tf.Tensor, without making readers import TensorFlow's typing
UNIFORMS = 20  # uniform numbers used for one face


class Draw(NamedTuple):
    """The perturbation of a batch `[n]` of faces; units as in `PerturbConfig`."""

    flip: Tensor  # bool
    degrees: Tensor
    scale: Tensor  # factor by which the face grows
    stretch: Tensor  # factor by which the upright face grows along x and shrinks along y
    translation: Tensor  # [n, 2], fractions of the crop
    blur: Tensor  # bool
    gain: Tensor  # [n, 3]
    contrast: Tensor
    noise: Tensor  # grey levels
    occluder: Tensor  # [n, 4]: x0, y0, x1, y1 in fractions of the crop; empty where there is none
    shade: Tensor  # grey level of the occluder


def uniforms(*, seed: int, positions: Tensor) -> Tensor:
    """Numbers in [0, 1) `[n, UNIFORMS]`, by `seed` and the faces' `positions` `[n]` (epoch x faces + place) alone."""

    def one(position: Tensor) -> Tensor:
        return tf.random.stateless_uniform([UNIFORMS], [tf.constant(seed, tf.int64), position], alg="philox")

    return tf.map_fn(one, positions, fn_output_signature=tf.TensorSpec([UNIFORMS], tf.float32))


def draw(uniform: Tensor, perturb: PerturbConfig) -> Draw:
    """Uniform numbers `[n, UNIFORMS]` to a `Draw`."""
    signed = 2 * uniform - 1
    sides = perturb.occlusion_side * uniform[:, 11:13] * tf.cast(uniform[:, 10:11] < perturb.occlusion, tf.float32)
    corner = uniform[:, 13:15] * (1 - sides)
    return Draw(
        flip=uniform[:, 0] < perturb.flip,
        degrees=perturb.rotation * signed[:, 1],
        scale=1 + perturb.scale * signed[:, 2],
        stretch=1 + perturb.stretch * signed[:, 19],
        translation=perturb.translation * signed[:, 3:5],
        blur=uniform[:, 5] < perturb.blur,
        gain=1 + perturb.colour * (0.7 * signed[:, 6:7] + 0.3 * signed[:, 7:10]),
        contrast=1 + perturb.colour * signed[:, 15],
        noise=perturb.noise * uniform[:, 16],
        occluder=tf.concat([corner, corner + sides], 1),
        shade=255 * uniform[:, 18],
    )


def perturbed_frames(frames: Tensor, drawn: Draw, *, size: int) -> Tensor:
    """Frames `[n, 2, 3]` of the perturbed crops: the face stretches, turns and grows about the crop's centre,
    flips, shifts."""
    radians = drawn.degrees * (np.pi / 180)
    cosine, sine = tf.cos(radians) / drawn.scale, tf.sin(radians) / drawn.scale
    mirror = tf.where(drawn.flip, -1.0, 1.0)
    # M is the mirror, R the inverse of turn and scale, S that of the stretch:
    # crop pixel p shows the unperturbed S R M (p - c - t) + c.
    linear = tf.stack([tf.stack([cosine * mirror, sine], 1), tf.stack([-sine * mirror, cosine], 1)], 1)
    linear *= tf.stack([1 / drawn.stretch, drawn.stretch], 1)[:, :, None]
    centre = (size - 1) / 2
    shift = centre - tf.reduce_sum(linear, 2) * centre - tf.linalg.matvec(linear, drawn.translation * size)
    return compose(frames, tf.concat([linear, shift[:, :, None]], 2))


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine that applies `inner` first, `[n, 2, 3]`."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    return tf.concat([linear, outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], 2)


def points_in_crop(points: Tensor, frames: Tensor, flip: Tensor, permutation: Tensor) -> Tensor:
    """Points of the chip `[n, points, 2]` seen in the crops of `frames`; mirrored faces get their names swapped."""
    seen = tf.einsum("nij,npj->npi", tf.linalg.inv(frames[:, :, :2]), points - frames[:, None, :, 2])
    return tf.where(flip[:, None, None], tf.gather(seen, permutation, axis=1), seen)


def warp(images: Tensor, frames: Tensor, *, size: int, supersample: int = 1) -> Tensor:
    """Crops `[n, size, size, 3]` float32 in 0..255, bilinear, the edge repeated.

    `supersample` > 1 samples a finer grid and averages it: the antialiasing for crops that shrink their image.
    """
    if supersample > 1:
        finer = np.array([[1, 0, 0.5], [0, 1, 0.5]], np.float32) / supersample - np.array([[0, 0, 0.5]] * 2, np.float32)
        frames = compose(frames, tf.broadcast_to(finer, tf.shape(frames)))
    rows = tf.reshape(frames, [-1, 6])
    crops = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.concat([rows, tf.zeros([tf.shape(rows)[0], 2])], 1),
        output_shape=tf.constant([size * supersample] * 2),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    return tf.nn.avg_pool2d(crops, supersample, supersample, "VALID") if supersample > 1 else crops


def photometric(crops: Tensor, drawn: Draw, perturb: PerturbConfig, *, positions: Tensor, seed: int) -> Tensor:
    """Blur, colour, noise and occlusion of crops `[n, size, size, 3]`; what the config leaves at 0 costs nothing."""
    if perturb.blur > 0:
        crops = tf.where(drawn.blur[:, None, None, None], gaussian_blur(crops, perturb.blur_sigma), crops)
    if perturb.colour > 0:
        mean = tf.reduce_mean(crops, [1, 2, 3], keepdims=True)
        contrast = drawn.contrast[:, None, None, None]
        crops = ((crops - mean) * contrast + mean) * drawn.gain[:, None, None, :]
    if perturb.noise > 0:
        crops += drawn.noise[:, None, None, None] * _normals(tf.shape(crops)[1:], positions, seed)
    if perturb.occlusion > 0:
        crops = tf.where(_inside(drawn.occluder, crops.shape[1]), drawn.shade[:, None, None, None], crops)
    return tf.clip_by_value(crops, 0, 255)


def gaussian_blur(crops: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur over 3 sigma, the edge repeated."""
    radius = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (1, 2):
        size = crops.shape[axis]
        reach = np.clip(np.arange(-radius, size + radius), 0, size - 1)
        padded = tf.gather(crops, reach, axis=axis)
        taps = [weight * _window(padded, axis, i, size) for i, weight in enumerate(kernel)]
        crops = tf.add_n(taps)
    return crops


def _window(images: Tensor, axis: int, start: int, size: int) -> Tensor:
    return images[:, start : start + size] if axis == 1 else images[:, :, start : start + size]


def _normals(shape: Tensor, positions: Tensor, seed: int) -> Tensor:
    def one(position: Tensor) -> Tensor:
        return tf.random.stateless_normal(shape, [tf.constant(~seed, tf.int64), position], alg="philox")

    return tf.map_fn(one, positions, fn_output_signature=tf.TensorSpec([None, None, 3], tf.float32))


def _inside(boxes: Tensor, size: int) -> Tensor:
    """Mask `[n, size, size, 1]` of the pixels inside boxes given in fractions of the crop."""
    at = (tf.range(size, dtype=tf.float32) + 0.5) / size
    columns = (at >= boxes[:, :1]) & (at < boxes[:, 2:3])
    rows = (at >= boxes[:, 1:2]) & (at < boxes[:, 3:4])
    return (rows[:, :, None] & columns[:, None, :])[..., None]
