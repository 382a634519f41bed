"""Affine algebra on points and boxes: pure, differentiable, batched by leading axes.

See `wing_jax.types` for the conventions. Everything is closed form, so it runs inside `jit` on any device. If all
arguments are NumPy arrays, the functions compute with NumPy, which starts much faster for a few thousand faces on the
host. Products are written out as sums: GPUs and TPUs would round a matrix product to TF32 or bfloat16, which is an
error of pixels.
"""

from collections.abc import Sequence
from types import ModuleType

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wing_jax.types import Affine, Boxes, Points, Visible


def namespace(*arrays: Array | np.ndarray | np.generic) -> ModuleType:
    """Return the module that computes with `arrays`: `numpy` if all are NumPy arrays, otherwise `jax.numpy`."""
    return np if all(isinstance(array, np.ndarray | np.generic) for array in arrays) else jnp


def similarity(
    *,
    scale: Float[Array, "*batch"] | float = 1.0,
    degrees: Float[Array, "*batch"] | float = 0.0,
    translation: Float[Array, "*batch 2"] | tuple[float, float] = (0.0, 0.0),
) -> Affine:
    """Return the affine that scales, rotates by `degrees` (x toward y), then adds `translation` (in output units).

    The result is `[*batch, 2, 3]`; the batch is the broadcast shape of the arguments.
    """
    radians = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    real, imaginary = scale * jnp.cos(radians), scale * jnp.sin(radians)
    shift = jnp.asarray(translation, jnp.float32)
    return _from_complex(real, imaginary, shift)


def _from_complex(
    real: Array | np.ndarray | np.generic, imaginary: Array | np.ndarray | np.generic, shift: Array | np.ndarray
) -> Array | np.ndarray:
    """Return the matrix of z -> (real + i imaginary) z + shift, with z = x + i y."""
    xp = namespace(real, imaginary, shift)
    batch = np.broadcast_shapes(real.shape, imaginary.shape, shift.shape[:-1])
    real, imaginary = xp.broadcast_to(real, batch), xp.broadcast_to(imaginary, batch)
    shift = xp.broadcast_to(shift, (*batch, 2))
    top = xp.stack([real, -imaginary, shift[..., 0]], axis=-1)
    bottom = xp.stack([imaginary, real, shift[..., 1]], axis=-1)
    return xp.stack([top, bottom], axis=-2)


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return the affine that applies `inner` first and `outer` to its result; `[*batch, 2, 3]`."""
    product = _product(outer[..., :2], inner)
    xp = namespace(product)
    return xp.concatenate([product[..., :2], product[..., 2:] + outer[..., 2:]], axis=-1)


def invert(affine: Affine) -> Affine:
    """Return the inverse affine, `[*batch, 2, 3]`; infinite where `affine` is singular."""
    (a, b), (c, d) = (
        (affine[..., 0, 0], affine[..., 0, 1]),
        (affine[..., 1, 0], affine[..., 1, 1]),
    )
    xp = namespace(affine)
    adjugate = xp.stack([xp.stack([d, -b], axis=-1), xp.stack([-c, a], axis=-1)], axis=-2)
    linear = adjugate / (a * d - b * c)[..., None, None]
    return xp.concatenate([linear, -_product(linear, affine[..., 2:])], axis=-1)


def transform(affine: Affine, points: Points) -> Points:
    """Apply `affine` `[*batch, 2, 3]` to `points` `[*batch, points, 2]`."""
    x, y = points[..., 0, None], points[..., 1, None]
    return x * affine[..., None, :, 0] + y * affine[..., None, :, 1] + affine[..., None, :, 2]


def _product(left: Array | np.ndarray, right: Array | np.ndarray) -> Array | np.ndarray:
    """Return the matrix product of `[*batch, 2, 2]` and `[*batch, 2, columns]`, in full precision."""
    return left[..., :, 0, None] * right[..., None, 0, :] + left[..., :, 1, None] * right[..., None, 1, :]


def fit_similarity(
    source: Points, target: Points, weights: Float[Array | np.ndarray, "*batch points"] | None = None
) -> Affine:
    """Fit the least-squares similarity, never a reflection, from `source` to `target` (both `[*batch, points, 2]`).

    With z = x + i y and centered shapes, rotation and scale are the complex number
    <source, target> / <source, source> (Umeyama 1991 in two dimensions). `weights` >= 0 weight the points.
    """
    weights = np.ones(source.shape[:-1], source.dtype) if weights is None else weights
    xp = namespace(source, target, weights)
    weights = (weights / xp.maximum(weights.sum(-1, keepdims=True), 1e-12))[..., None]
    source_mean = (weights * source).sum(-2, keepdims=True)
    target_mean = (weights * target).sum(-2, keepdims=True)
    s, t = source - source_mean, target - target_mean
    norm = xp.maximum((weights * s * s).sum((-2, -1)), 1e-12)
    real = (weights * s * t).sum((-2, -1)) / norm
    cross = s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]
    imaginary = (weights[..., 0] * cross).sum(-1) / norm
    linear = _from_complex(real, imaginary, np.zeros((*real.shape, 2), real.dtype))
    shift = target_mean[..., 0, :] - transform(linear, source_mean)[..., 0, :]
    return xp.concatenate([linear[..., :2], shift[..., None]], axis=-1)


def tight_box(points: Points, visible: Visible | None = None) -> Boxes:
    """Return the smallest box around the (visible) points that are not NaN: the "landmarks" convention of boxes.

    >>> tight_box(np.array([[3.0, 1.0], [np.nan, np.nan], [2.0, 7.0]])).tolist()
    [2.0, 1.0, 3.0, 7.0]

    Args:
      points: `[*batch, points, 2]`, (x, y) in any unit; NaN for a point without a position.
      visible: bool `[*batch, points]`, the points to include; None: all.

    Returns:
      `[*batch, 4]`, x0 y0 x1 y1 in the unit of the points; (inf, inf, -inf, -inf) if there are no points.
    """
    xp = namespace(points) if visible is None else namespace(points, visible)
    included = ~xp.isnan(points).any(-1)
    included = included if visible is None else included & visible
    low = xp.where(included[..., None], points, xp.inf).min(-2)
    high = xp.where(included[..., None], points, -xp.inf).max(-2)
    return xp.concatenate([low, high], axis=-1)


def larger_side(boxes: Boxes) -> Float[Array | np.ndarray, "*batch 1"]:
    """Return the larger of width and height of `boxes` `[*batch, 4]`, in their unit; `[*batch, 1]`."""
    return (boxes[..., 2:] - boxes[..., :2]).max(-1, keepdims=True)


def box_center(boxes: Boxes) -> Float[Array | np.ndarray, "*batch 2"]:
    """Return the centers (x, y) of `boxes` `[*batch, 4]`; `[*batch, 2]`."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def box_around(center: Float[Array | np.ndarray, "*batch 2"], size: Float[Array | np.ndarray, "*batch _"]) -> Boxes:
    """Return boxes around `center`; `size` is width and height `[*batch, 2]`, or the side of squares `[*batch, 1]`.

    >>> box_around(np.array([4.0, 4.0]), np.array([2.0])).tolist()
    [3.0, 3.0, 5.0, 5.0]
    """
    return namespace(center, size).concatenate([center - size / 2, center + size / 2], axis=-1)


def place_shape(
    shape: Float[np.ndarray, "points 2"], *, center: Sequence[float], side: float
) -> Float[np.ndarray, "points 2"]:
    """Move and scale `shape` so that its tight box has this center (x, y) and `side` as its larger side."""
    box = np.asarray(tight_box(shape))
    return (shape - box_center(box)) * (side / larger_side(box)) + np.asarray(center)


def rescale_points(
    points: Float[Array | np.ndarray, "*shape"], ratio: float | Array | np.ndarray
) -> Float[Array | np.ndarray, "*shape"]:
    """Convert pixels of an image to pixels of the same image at `ratio` times its size (a number, or one for x and y).

    The corner of the image, half a pixel before the center of its first pixel, does not move.

    >>> rescale_points(np.array([-0.5, 9.5]), 0.5).tolist()
    [-0.5, 4.5]
    """
    return (points + 0.5) * ratio - 0.5


def rescaling(ratio: float | np.ndarray) -> Float[np.ndarray, "2 3"]:
    """Return the affine of `rescale_points`, from pixels of an image to pixels of it at `ratio` times its size."""
    ratios = np.broadcast_to(np.asarray(ratio, np.float64), (2,))
    return np.concatenate([np.diag(ratios), (0.5 * ratios - 0.5)[:, None]], axis=1).astype(np.float32)


def crop_of_box(
    boxes: Boxes,
    *,
    size: int,
    margin: float = 1.0,
    center: Sequence[float] = (0.0, 0.0),
    degrees: Float[Array | np.ndarray, "*batch"] | None = None,
) -> Affine:
    """Return the square crop of `size` pixels around `boxes`: its side is `margin` times the larger box side.

    `center` (x, y) is the offset of the crop's center from the box's, in fractions of the larger box side: (0, 0) for
    boxes with the face in the middle. `degrees`: the crop, with this offset, is turned clockwise around the box's
    center, so that a face which is turned as much is upright in it. The result is `[*batch, 2, 3]`, from crop pixels to
    image pixels.
    """
    xp = namespace(boxes)
    side = larger_side(boxes)
    scale = margin * side[..., 0] / size
    offset = xp.concatenate([fraction * side for fraction in center], axis=-1) - scale[..., None] * (size - 1) / 2
    if degrees is None:
        return _from_complex(scale, xp.zeros_like(scale), box_center(boxes) + offset)
    cosine, sine = xp.cos(xp.deg2rad(degrees)), xp.sin(xp.deg2rad(degrees))
    turn = _from_complex(cosine, sine, box_center(boxes))
    return _from_complex(scale * cosine, scale * sine, transform(turn, offset[..., None, :])[..., 0, :])


def crop_of_shape(points: Points, template: Float[Array | np.ndarray, "points 2"], *, size: int) -> Affine:
    """Return the crop in which `points` `[*batch, points, 2]` match `template` (in fractions of the crop) best.

    The crop removes in-plane rotation and corrects position and scale. It is the second stage's crop, made from the
    first stage's landmarks (the paper's section on the two-stage framework; Procrustes to the mean shape).
    The result is `[*batch, 2, 3]`, from crop pixels to the points' pixels.
    """
    in_crop = namespace(points, template).broadcast_to(crop_pixels(template, size=size), points.shape)
    in_crop = in_crop.astype(points.dtype)
    return fit_similarity(in_crop, points)


def crop_fractions(points: Float[Array | np.ndarray, "*shape"], *, size: int) -> Float[Array | np.ndarray, "*shape"]:
    """Convert crop pixels to fractions of the crop's side: the left edge (-0.5 px) is 0, the right edge 1."""
    return (points + 0.5) / size


def crop_pixels(fractions: Float[Array | np.ndarray, "*shape"], *, size: int) -> Float[Array | np.ndarray, "*shape"]:
    """Convert fractions of the crop's side to crop pixels: the inverse of `crop_fractions`."""
    return fractions * size - 0.5
