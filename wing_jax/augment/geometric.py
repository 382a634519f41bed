"""Geometric augmentations, and what their one matrix does to crops and points. Draws are uniform within +- the value.

A face meets them in the order of the list. In a training by a config it is stretched upright (`aspect_jitter`), turned,
scaled, mirrored and shifted, in this order.
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
    """Turns about the crop's center.

    Args:
      degrees: the largest angle, 0 to 360, either way.

    Returns:
      The augmentation.

    Raises:
      InputError: `degrees` lies outside.

    Example:
      >>> rotation(20)
      <Augmentation 'rotation' on geometry>
    """
    degrees = check_between("degrees", degrees, 0, 360)
    return Augmentation("rotation", functools.partial(_signed, largest=degrees), _rotate, "geometry")


@register_augmentation
def translation(fraction: int | float) -> Augmentation:
    """Shifts along x and along y, each by its own draw.

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
    return Augmentation("translation", functools.partial(_signed, largest=fraction, shape=(2,)), _translate, "geometry")


@register_augmentation
def scale(fraction: int | float) -> Augmentation:
    """Enlarges or shrinks the face: the crop's side is divided by 1 +- the draw.

    Args:
      fraction: the largest change, 0 to 0.9.

    Returns:
      The augmentation.

    Raises:
      InputError: `fraction` lies outside.

    Example:
      >>> scale(0.1)
      <Augmentation 'scale' on geometry>
    """
    fraction = check_between("fraction", fraction, 0, 0.9)
    return Augmentation("scale", functools.partial(_factor, fraction=fraction), _scale, "geometry")


@register_augmentation
def aspect_jitter(fraction: int | float) -> Augmentation:
    """Makes the face wider and flatter, or narrower and longer: it grows by 1 +- the draw along x, and shrinks as much
    along y.

    Args:
      fraction: the largest change, 0 to 0.9.

    Returns:
      The augmentation.

    Raises:
      InputError: `fraction` lies outside.

    Example:
      >>> aspect_jitter(0.1)
      <Augmentation 'aspect_jitter' on geometry>
    """
    fraction = check_between("fraction", fraction, 0, 0.9)
    return Augmentation("aspect_jitter", functools.partial(_factor, fraction=fraction), _jitter_aspect, "geometry")


@register_augmentation
def flip(*, probability: int | float = 0.5) -> Augmentation:
    """Mirrors the face left to right; the points' names are swapped by the scheme.

    Args:
      probability: the share of faces mirrored, 0 to 1.

    Returns:
      The augmentation.

    Raises:
      InputError: `probability` lies outside.

    Example:
      >>> flip()
      <Augmentation 'flip' on geometry>
    """
    probability = check_between("probability", probability, 0, 1)
    return Augmentation("flip", functools.partial(chosen, probability=probability), _flip, "geometry")


def chosen(key: Array, *, probability: float) -> Bool[Array, ""]:
    """Whether an augmentation of this probability is done."""
    return jax.random.uniform(key, dtype=jnp.float32) < probability


def signed(key: Array, *, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    """Uniform numbers in [-1, 1)."""
    return 2 * jax.random.uniform(key, shape, jnp.float32) - 1


def _signed(key: Array, *, largest: float, shape: tuple[int, ...] = ()) -> Array:
    return largest * signed(key, shape=shape)


def _factor(key: Array, *, fraction: float) -> Array:
    return 1 + fraction * signed(key)


def _rotate(matrices: Affine, degrees: Float[Array, "n"]) -> Affine:
    radians = degrees * np.float32(np.pi / 180)
    cosine, sine = jnp.cos(radians), jnp.sin(radians)
    return _then(matrices, [[cosine, sine], [-sine, cosine]])  # the inverse: from the turned crop to the upright one


def _translate(matrices: Affine, shifts: Float[Array, "n 2"]) -> Affine:
    one, zero = jnp.ones_like(shifts[:, 0]), jnp.zeros_like(shifts[:, 0])
    return _then(matrices, [[one, zero, -shifts[:, 0]], [zero, one, -shifts[:, 1]]])


def _scale(matrices: Affine, factors: Float[Array, "n"]) -> Affine:
    zero = jnp.zeros_like(factors)
    return _then(matrices, [[1 / factors, zero], [zero, 1 / factors]])


def _jitter_aspect(matrices: Affine, factors: Float[Array, "n"]) -> Affine:
    zero = jnp.zeros_like(factors)
    return _then(matrices, [[1 / factors, zero], [zero, factors]])


def _flip(matrices: Affine, mirror: Bool[Array, "n"]) -> Affine:
    sign = jnp.where(mirror, np.float32(-1), np.float32(1))
    one, zero = jnp.ones_like(sign), jnp.zeros_like(sign)
    return _then(matrices, [[sign, zero], [zero, one]])


def _then(matrices: Affine, rows: list[list[Array]]) -> Affine:
    """`matrices`, and then the affine of these rows of numbers `[n]`; a missing last column is 0."""
    columns = [[*row, jnp.zeros_like(row[0])][:3] for row in rows]
    return geometry.compose(matrices, jnp.stack([jnp.stack(row, 1) for row in columns], 1))


def augmented_transforms(transforms: Affine, matrices: Affine, *, size: int) -> Affine:
    """Affines `[n, 2, 3]` from the pixels of augmented crops of `size` pixels to those of their images.

    `transforms` are those of the crops without augmentation, `matrices` are `apply_geometry`'s.
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
    """Points of the images `[n, points, 2]`, and whether they are visible, seen in the crops of `transforms`; mirrored
    faces get their points' names swapped by the scheme's `permutation`."""
    xp = geometry.namespace(points)
    seen = geometry.transform(geometry.invert(transforms), points)
    seen = xp.where(mirror[:, None, None], seen[:, permutation], seen)
    return seen, xp.where(mirror[:, None], visible[:, permutation], visible)


def supersampling(transforms: Float[np.ndarray, "*n 2 3"]) -> int:
    """How many samples a side each crop pixel needs, so that no crop reads its image coarser than 1.5 pixels."""
    step = float(np.median(np.sqrt(np.abs(np.linalg.det(transforms[..., :2])))))
    return max(1, round(step))
