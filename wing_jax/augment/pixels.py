"""Pixel augmentations, on the device by JAX and on the host by OpenCV: the same parameters, nearly the same pixels.

Training from a config applies them in the order in which they occur in a camera: blur, lower resolution, color, noise,
occlusion and JPEG compression. `wing_jax.augment.operations` implements them.
"""

import functools
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8, UInt32

from wing_jax.augment.augmentation import UNBOUNDED, Augmentation, check_between, register_augmentation
from wing_jax.augment.geometric import sample_bool, sample_signed
from wing_jax.augment.jpeg_codec import simulate_jpeg
from wing_jax.augment.operations import (
    box_mask,
    gaussian_blur,
    gaussian_taps,
    reduce_resolution,
    reduced_size,
    standard_normal,
)
from wing_jax.geometry import crop_pixels

LOSSLESS = 100.0  # the quality of crops that are not compressed
LUMA = np.array([[[[0.299, 0.587, 0.114]]]], np.float32)  # of red, green and blue: ITU-R BT.601
Crops = UInt8[np.ndarray, "n size size 3"]


class ColorParams(NamedTuple):
    """Parameters of `color`: the factors of the channels, and the contrast about the crop's mean."""

    gain: Float[Array | np.ndarray, "*n 3"]
    contrast: Float[Array | np.ndarray, "*n"]


class NoiseParams(NamedTuple):
    """Parameters of `noise`: its standard deviation in gray levels, and the random words that seed its hash."""

    deviation: Float[Array | np.ndarray, "*n"]
    words: UInt32[Array | np.ndarray, "*n 2"]


class OcclusionParams(NamedTuple):
    """Parameters of `occlusion`: x0, y0, x1, y1 in fractions of the crop, an empty box for none, and the gray level."""

    box: Float[Array | np.ndarray, "*n 4"]
    shade: Float[Array | np.ndarray, "*n"]


@register_augmentation
def blur(probability: int | float, *, sigma: int | float = 1.0) -> Augmentation:
    """Blur with a Gaussian.

    Args:
      probability: the share of blurred crops, 0 to 1.
      sigma: the Gaussian's standard deviation in pixels of the crop, above 0.

    Returns:
      The augmentation.

    Raises:
      InputError: a number is out of range.

    Example:
      >>> blur(0.5)
      <Augmentation 'blur' on pixels>
    """
    probability = check_between("probability", probability, 0, 1)
    sigma = check_between("sigma", sigma, 1e-3, 1e3)
    return Augmentation(
        "blur",
        functools.partial(sample_bool, probability=probability),
        functools.partial(_blur, sigma=sigma),
        "pixels",
        functools.partial(_blur_on_host, sigma=sigma),
    )


@register_augmentation
def downscale(factor: int | float) -> Augmentation:
    """Lower the resolution by a random factor from 1 to 1 + `factor`; the crop's size does not change.

    Args:
      factor: the largest reduction factor minus 1, at least 0: with 1.0, the resolution is reduced by a random factor
        of up to 2.

    Returns:
      The augmentation.

    Raises:
      InputError: `factor` is below 0 or not finite.

    Example:
      >>> downscale(1.0)
      <Augmentation 'downscale' on pixels>
    """
    factor = check_between("factor", factor, 0, UNBOUNDED)
    return Augmentation(
        "downscale", functools.partial(_sample_share, factor=factor), _downscale, "pixels", _downscale_on_host
    )


@register_augmentation
def color(fraction: int | float) -> Augmentation:
    """Vary brightness, contrast and the gain of each color channel.

    Args:
      fraction: the largest change of each, 0 to 1.

    Returns:
      The augmentation.

    Raises:
      InputError: `fraction` is out of range.

    Example:
      >>> color(0.2)
      <Augmentation 'color' on pixels>
    """
    fraction = check_between("fraction", fraction, 0, 1)
    return Augmentation(
        "color", functools.partial(_sample_color, fraction=fraction), _recolor, "pixels", _recolor_on_host
    )


@register_augmentation
def grayscale(probability: int | float) -> Augmentation:
    """Convert to gray: all three channels show the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B.

    Args:
      probability: the share of gray crops, 0 to 1.

    Returns:
      The augmentation.

    Raises:
      InputError: `probability` is out of range.

    Example:
      >>> grayscale(0.1)
      <Augmentation 'grayscale' on pixels>
    """
    probability = check_between("probability", probability, 0, 1)
    return Augmentation(
        "grayscale", functools.partial(sample_bool, probability=probability), _gray, "pixels", _gray_on_host
    )


@register_augmentation
def noise(deviation: int | float) -> Augmentation:
    """Add Gaussian noise, whose standard deviation is sampled for each crop.

    Args:
      deviation: the largest standard deviation in gray levels, 0 to 255.

    Returns:
      The augmentation.

    Raises:
      InputError: `deviation` is out of range.

    Example:
      >>> noise(8.0)
      <Augmentation 'noise' on pixels>
    """
    deviation = check_between("deviation", deviation, 0, 255)
    return Augmentation(
        "noise", functools.partial(_sample_noise, deviation=deviation), _add_noise, "pixels", _add_noise_on_host
    )


@register_augmentation
def occlusion(probability: int | float, *, side: int | float = 0.4) -> Augmentation:
    """Cover a random rectangle of the crop with one gray level.

    Args:
      probability: the share of crops with a rectangle, 0 to 1.
      side: the rectangle's largest width and height, as fractions of the crop's side, 0 to 1.

    Returns:
      The augmentation.

    Raises:
      InputError: a number is out of range.

    Example:
      >>> occlusion(0.3)
      <Augmentation 'occlusion' on pixels>
    """
    probability = check_between("probability", probability, 0, 1)
    side = check_between("side", side, 0, 1)
    sample = functools.partial(_sample_occlusion, probability=probability, side=side)
    return Augmentation("occlusion", sample, _occlude, "pixels", _occlude_on_host)


@register_augmentation
def jpeg(probability: int | float) -> Augmentation:
    """Compress as JPEG at a random quality from 20 to 90.

    Args:
      probability: the share of compressed crops, 0 to 1.

    Returns:
      The augmentation.

    Raises:
      InputError: `probability` is out of range.

    Example:
      >>> jpeg(0.5)
      <Augmentation 'jpeg' on pixels>
    """
    probability = check_between("probability", probability, 0, 1)
    return Augmentation(
        "jpeg", functools.partial(_sample_quality, probability=probability), _compress, "pixels", _compress_on_host
    )


def _sample_share(key: Array, *, factor: float) -> Array:
    return 1 / (1 + factor * jax.random.uniform(key, dtype=jnp.float32))


def _sample_color(key: Array, *, fraction: float) -> ColorParams:
    uniform = sample_signed(key, shape=(5,))
    return ColorParams(gain=1 + fraction * (0.7 * uniform[:1] + 0.3 * uniform[1:4]), contrast=1 + fraction * uniform[4])


def _sample_noise(key: Array, *, deviation: float) -> NoiseParams:
    words = jax.random.bits(key, (3,))
    return NoiseParams(deviation=deviation * (words[2] >> 8).astype(jnp.float32) * np.float32(2**-24), words=words[:2])


def _sample_occlusion(key: Array, *, probability: float, side: float) -> OcclusionParams:
    uniform = jax.random.uniform(key, (6,), jnp.float32)
    sides = jnp.where(uniform[0] < probability, side * uniform[1:3], 0)
    corner = uniform[3:5] * (1 - sides)
    return OcclusionParams(box=jnp.concatenate([corner, corner + sides]), shade=255 * uniform[5])


def _sample_quality(key: Array, *, probability: float) -> Array:
    uniform = jax.random.uniform(key, (2,), jnp.float32)
    return jnp.where(uniform[0] < probability, jnp.floor(20 + 71 * uniform[1]), np.float32(LOSSLESS))


def _blur(images: Array, blurred: Array, *, sigma: float) -> Array:
    return jnp.where(_per_face(blurred), gaussian_blur(images, sigma=sigma), images)


def _blur_on_host(crops: Crops, blurred: np.ndarray, *, sigma: float) -> Crops:
    taps = gaussian_taps(sigma)
    for face in np.flatnonzero(blurred).tolist():
        cv2.sepFilter2D(crops[face], -1, taps, taps, crops[face], borderType=cv2.BORDER_REPLICATE)
    return crops


def _downscale(images: Array, share: Array) -> Array:
    return reduce_resolution(images, jnp.asarray(reduced_size(share, size=images.shape[1])))


def _downscale_on_host(crops: Crops, share: np.ndarray) -> Crops:
    size = crops.shape[1]
    for crop, pixels in zip(crops, reduced_size(share, size=size).astype(int).tolist(), strict=True):
        small = cv2.resize(crop, (pixels, pixels), interpolation=cv2.INTER_AREA)
        cv2.resize(small, (size, size), crop, interpolation=cv2.INTER_LINEAR)
    return crops


def _recolor(images: Array, params: ColorParams) -> Array:
    mean = images.mean((1, 2, 3), keepdims=True)
    return ((images - mean) * _per_face(params.contrast) + mean) * params.gain[:, None, None, :]


def _recolor_on_host(crops: Crops, params: ColorParams) -> Crops:
    """Apply the contrast about the crop's mean, then the channels' gains, by a table of the 256 values."""
    means = np.array([sum(cv2.mean(crop)) / 3 for crop in crops], np.float32)[:, None, None]
    values = np.arange(256, dtype=np.float32)[:, None]
    stretched = (values - means) * params.contrast[:, None, None] + means
    tables = np.clip(np.rint(stretched * params.gain[:, None, :]), 0, 255).astype(np.uint8)
    for crop, table in zip(crops, tables, strict=True):
        cv2.LUT(crop, table[:, None], crop)
    return crops


def _gray(images: Array, gray: Array) -> Array:
    return jnp.where(_per_face(gray), (images * LUMA).sum(-1, keepdims=True), images)


def _gray_on_host(crops: Crops, gray: np.ndarray) -> Crops:
    for face in np.flatnonzero(gray).tolist():
        crops[face] = cv2.cvtColor(crops[face], cv2.COLOR_RGB2GRAY)[..., None]
    return crops


def _add_noise(images: Array, params: NoiseParams) -> Array:
    return images + _per_face(params.deviation) * standard_normal(params.words, images.shape[1:])


def _add_noise_on_host(crops: Crops, params: NoiseParams) -> Crops:
    for crop, deviation, words in zip(crops, params.deviation, params.words, strict=True):
        noisy = crop + deviation * standard_normal(words[None], crop.shape)[0]
        crop[:] = np.clip(np.rint(noisy), 0, 255)
    return crops


def _occlude(images: Array, params: OcclusionParams) -> Array:
    return jnp.where(box_mask(params.box, size=images.shape[1]), _per_face(params.shade), images)


def _occlude_on_host(crops: Crops, params: OcclusionParams) -> Crops:
    corners = np.ceil(crop_pixels(params.box, size=crops.shape[1])).astype(int).tolist()
    for crop, (left, top, right, bottom), shade in zip(crops, corners, np.rint(params.shade), strict=True):
        crop[top:bottom, left:right] = shade
    return crops


def _compress(images: Array, quality: Array) -> Array:
    rounded = jnp.clip(jnp.round(images), 0, 255)
    return jnp.where(_per_face(quality) < LOSSLESS, simulate_jpeg(rounded, quality), rounded)


def _compress_on_host(crops: Crops, quality: np.ndarray) -> Crops:
    full_color = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    for face in np.flatnonzero(quality < LOSSLESS).tolist():
        options = [cv2.IMWRITE_JPEG_QUALITY, int(quality[face]), *full_color]
        _, encoded = cv2.imencode(".jpg", crops[face][..., ::-1], options)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        crops[face] = decoded[..., ::-1]
    return crops


def _per_face(values: Array | np.ndarray) -> Array | np.ndarray:
    """Add axes so that the value of each face broadcasts to all its pixels."""
    return values[:, None, None, None]
