"""Geometric augmentations, and the effect of their composed matrix on crops and points. Samples are uniform in +-value.

They apply in the order of the list. Training from a config stretches the upright face (`aspect_jitter`), then rotates,
scales, mirrors and shifts it, in this order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from wing_jax import geometry
from wing_jax.augment.augmentation import UNBOUNDED, Augmentation, check_between, register_augmentation
from wing_jax.types import Affine, Points, Visible


@register_augmentation
def rotation(degrees: int | float) -> Augmentation:
    """Rotate about the crop's center.

    Args:
      degrees: the largest angle in either direction, 0 to 360.

    Returns:
      The augmentation.

    Raises:
      InputError: `degrees` is out of range.

    Example:
      >>> rotation(20)
      <Augmentation 'rotation' on geometry>
    """
    degrees = check_between("degrees", degrees, 0, 360)
    return Augmentation("rotation", functools.partial(_sample_scaled, largest=degrees), _rotate, "geometry")


@register_augmentation
def translation(fraction: int | float) -> Augmentation:
    """Shift along x and along y, by independent samples.

    Args:
      fraction: the largest shift, in fractions of the crop's side, at least 0.

    Returns:
      The augmentation.

    Raises:
      InputError: `fraction` is below 0 or not finite.

    Example:
      >>> translation(0.05)
      <Augmentation 'translation' on geometry>
    """
    fraction = check_between("fraction", fraction, 0, UNBOUNDED)
    return Augmentation(
        "translation", functools.partial(_sample_scaled, largest=fraction, shape=(2,)), _translate, "geometry"
    )


@register_augmentation
def scale(fraction: int | float) -> Augmentation:
    """Enlarge or shrink the face: the crop's side is divided by 1 +- the sample.

    Args:
      fraction: the largest change, 0 to 0.9.

    Returns:
      The augmentation.

    Raises:
      InputError: `fraction` is out of range.

    Example:
      >>> scale(0.1)
      <Augmentation 'scale' on geometry>
    """
    fraction = check_between("fraction", fraction, 0, 0.9)
    return Augmentation("scale", functools.partial(_sample_factor, fraction=fraction), _scale, "geometry")


@register_augmentation
def aspect_jitter(fraction: int | float) -> Augmentation:
    """Make the face wider and shorter, or narrower and longer.

    Its width is multiplied by 1 + s and its height divided by it, with s uniform in [-fraction, fraction].

    Args:
      fraction: the largest change, 0 to 0.9.

    Returns:
      The augmentation.

    Raises:
      InputError: `fraction` is out of range.

    Example:
      >>> aspect_jitter(0.1)
      <Augmentation 'aspect_jitter' on geometry>
    """
    fraction = check_between("fraction", fraction, 0, 0.9)
    return Augmentation(
        "aspect_jitter", functools.partial(_sample_factor, fraction=fraction), _jitter_aspect, "geometry"
    )


@register_augmentation
def flip(*, probability: int | float = 0.5) -> Augmentation:
    """Mirror the face left to right; left and right points are swapped by the scheme's permutation.

    Args:
      probability: the share of mirrored faces, 0 to 1.

    Returns:
      The augmentation.

    Raises:
      InputError: `probability` is out of range.

    Example:
      >>> flip()
      <Augmentation 'flip' on geometry>
    """
    probability = check_between("probability", probability, 0, 1)
    return Augmentation("flip", functools.partial(sample_bool, probability=probability), _flip, "geometry")


def sample_bool(key: Array, *, probability: float) -> Bool[Array, ""]:
    """Sample whether to apply an augmentation of this probability."""
    return jax.random.uniform(key, dtype=jnp.float32) < probability


def sample_signed(key: Array, *, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    """Sample uniform numbers in [-1, 1)."""
    return 2 * jax.random.uniform(key, shape, jnp.float32) - 1


def _sample_scaled(key: Array, *, largest: float, shape: tuple[int, ...] = ()) -> Array:
    return largest * sample_signed(key, shape=shape)


def _sample_factor(key: Array, *, fraction: float) -> Array:
    return 1 + fraction * sample_signed(key)


def _rotate(matrices: Affine, degrees: Float[Array, "n"]) -> Affine:
    radians = degrees * np.float32(np.pi / 180)
    cosine, sine = jnp.cos(radians), jnp.sin(radians)
    # The inverse rotation: from the rotated crop to the upright one.
    return _compose_rows(matrices, [[cosine, sine], [-sine, cosine]])


def _translate(matrices: Affine, shifts: Float[Array, "n 2"]) -> Affine:
    one, zero = jnp.ones_like(shifts[:, 0]), jnp.zeros_like(shifts[:, 0])
    return _compose_rows(matrices, [[one, zero, -shifts[:, 0]], [zero, one, -shifts[:, 1]]])


def _scale(matrices: Affine, factors: Float[Array, "n"]) -> Affine:
    zero = jnp.zeros_like(factors)
    return _compose_rows(matrices, [[1 / factors, zero], [zero, 1 / factors]])


def _jitter_aspect(matrices: Affine, factors: Float[Array, "n"]) -> Affine:
    zero = jnp.zeros_like(factors)
    return _compose_rows(matrices, [[1 / factors, zero], [zero, factors]])


def _flip(matrices: Affine, mirror: Bool[Array, "n"]) -> Affine:
    sign = jnp.where(mirror, np.float32(-1), np.float32(1))
    one, zero = jnp.ones_like(sign), jnp.zeros_like(sign)
    return _compose_rows(matrices, [[sign, zero], [zero, one]])


def _compose_rows(matrices: Affine, rows: list[list[Array]]) -> Affine:
    """Compose `matrices` with the affine of these rows of numbers `[n]`; a missing last column is 0."""
    columns = [[*row, jnp.zeros_like(row[0])][:3] for row in rows]
    return geometry.compose(matrices, jnp.stack([jnp.stack(row, 1) for row in columns], 1))


def augmented_transforms(transforms: Affine, matrices: Affine, *, size: int) -> Affine:
    """Return affines `[n, 2, 3]` from the pixels of augmented crops of `size` pixels to those of their images.

    `transforms` are those of the crops without augmentation, `matrices` are from `apply_geometry`.
    """
    xp = geometry.namespace(transforms, matrices)
    center = np.float32((size - 1) / 2)
    linear, shift = matrices[..., :2], matrices[..., 2] * size
    shift = shift + center - center * linear.sum(-1)
    return geometry.compose(transforms, xp.concatenate([linear, shift[..., None]], axis=-1))


def points_in_crop(
    points: Points,
    visible: Visible,
    transforms: Affine,
    mirror: Bool[Array | np.ndarray, "n"],
    permutation: Int[Array | np.ndarray, "points"],
) -> tuple[Points, Visible]:
    """Map points of the images `[n, points, 2]` and their visibility to the crops of `transforms`.

    In mirrored faces, the scheme's `permutation` swaps the names of the points.
    """
    xp = geometry.namespace(points)
    in_crop = geometry.transform(geometry.invert(transforms), points)
    in_crop = xp.where(mirror[:, None, None], in_crop[:, permutation], in_crop)
    return in_crop, xp.where(mirror[:, None], visible[:, permutation], visible)


def supersampling(transforms: Float[np.ndarray, "*n 2 3"]) -> int:
    """Return the samples per side of each crop pixel that keep the sampling step at most 1.5 image pixels."""
    step = float(np.median(np.sqrt(np.abs(np.linalg.det(transforms[..., :2])))))
    return max(1, round(step))
