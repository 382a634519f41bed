"""Pure operations on batches of crops: normal noise, blur, lower resolution, rectangles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from wing_jax import geometry

BYTES_DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)  # standard deviation of the sum of four uniform bytes
# Coefficients of x^7, x^5, x^3 and x, x the standardized sum: fitted to the quantiles by least squares, and
# scaled to variance 1.
TO_NORMAL = tuple(map(np.float32, (3.17702513e-04, -2.03201070e-03, 1.66711925e-02, 9.58845204e-01)))


def standard_normal(
    words: UInt32[Array | np.ndarray, "n 2"], shape: tuple[int, ...]
) -> Float[Array | np.ndarray, "n ..."]:
    """Sample the standard normal distribution: an array of `shape` for each pair of `words`, within +-4.9.

    Each number is a hash of its index and of the two words. A CPU computes this faster than `jax.random.normal`, and
    NumPy gives the same numbers. The sum of the hash's four bytes is nearly normal, and a polynomial corrects it. The
    shares beyond 1, 2, 3 and 3.5 deviations are within 4 % of the exact ones (`tests/augment/test_pixels.py`).
    """
    xp = geometry.namespace(words)
    first, second = (words[:, i].reshape(-1, *(1,) * len(shape)) for i in (0, 1))
    index = xp.arange(math.prod(shape), dtype=np.uint32).reshape(1, *shape)
    hashed = _hash(_hash(index + first) + second)
    pairs = (hashed & 0x00FF00FF) + (hashed >> 8 & 0x00FF00FF)
    total = ((pairs & 0xFFFF) + (pairs >> 16)).astype(np.int32).astype(np.float32)
    x = (total - 510) / np.float32(BYTES_DEVIATION)
    square = x * x
    return x * (((TO_NORMAL[0] * square + TO_NORMAL[1]) * square + TO_NORMAL[2]) * square + TO_NORMAL[3])


def _hash(words: UInt32[Array | np.ndarray, "..."]) -> UInt32[Array | np.ndarray, "..."]:
    """Hash each word, one to one (the "lowbias32" of C. Wellons)."""
    words = (words ^ words >> 16) * np.uint32(0x7FEB352D)
    words = (words ^ words >> 15) * np.uint32(0x846CA68B)
    return words ^ words >> 16


def gaussian_taps(sigma: float) -> Float[np.ndarray, "taps"]:
    """Return the weights of the blur along one axis, over 3 sigma (pixels) to both sides; they sum to 1."""
    radius = max(1, int(np.ceil(3 * sigma)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def gaussian_blur(
    crops: Float[Array, "n height width channels"], *, sigma: float
) -> Float[Array, "n height width channels"]:
    """Blur by a separable Gaussian, `sigma` in pixels, over 3 sigma, with the edge repeated.

    Two small matrix products are faster than a sum of shifted images, on CPUs and GPUs.
    """
    rows, columns = (_blur_matrix(crops.shape[axis], sigma) for axis in (1, 2))
    crops = jnp.einsum("ij,njwc->niwc", rows, crops, precision="highest")
    return jnp.einsum("ij,nhjc->nhic", columns, crops, precision="highest")


def _blur_matrix(size: int, sigma: float) -> Float[np.ndarray, "size size"]:
    """Return the matrix whose row i holds the weight of each pixel of a line in the blurred pixel i."""
    taps = gaussian_taps(sigma)
    reach = len(taps) // 2
    matrix = np.zeros((size, size), np.float32)
    for offset, weight in enumerate(taps, -reach):
        np.add.at(matrix, (np.arange(size), np.clip(np.arange(size) + offset, 0, size - 1)), weight)
    return matrix


def reduced_size(share: Float[Array | np.ndarray, "n"], *, size: int) -> Float[Array | np.ndarray, "n"]:
    """Return the side in pixels, whole numbers, of crops of `size` reduced to these shares of their resolution."""
    xp = geometry.namespace(share)
    return xp.maximum(xp.round(share * size), np.float32(1))


def reduce_resolution(
    crops: Float[Array, "n size size channels"], pixels: Float[Array, "n"]
) -> Float[Array, "n size size channels"]:
    """Shrink square crops to `pixels` a side by area averaging, and enlarge them again by bilinear interpolation."""
    size = crops.shape[1]
    small, large = jnp.arange(size, dtype=jnp.float32)[:, None], jnp.arange(size, dtype=jnp.float32)[None]

    def resampling_matrix(pixels: Array) -> Array:
        step = size / pixels  # small pixel i covers [i, i + 1) steps
        covered = jnp.minimum((small + 1) * step, large + 1) - jnp.maximum(small * step, large)
        down = jnp.where(small < pixels, jnp.maximum(covered, 0) / step, 0)
        place = jnp.clip(geometry.rescale_points(large, 1 / step), 0, pixels - 1)
        up = jnp.maximum(1 - jnp.abs(place - small), 0)
        return up.T @ down

    matrices = jax.vmap(resampling_matrix)(pixels)
    crops = jnp.einsum("nij,njwc->niwc", matrices, crops, precision="highest")
    return jnp.einsum("nij,nhjc->nhic", matrices, crops, precision="highest")


def box_mask(boxes: Float[Array | np.ndarray, "n 4"], *, size: int) -> Bool[Array, "n size size 1"]:
    """Return the mask of the pixels whose centers are inside boxes in fractions of the crop."""
    positions = jnp.asarray(geometry.crop_fractions(jnp.arange(size, dtype=jnp.float32), size=size))[None]
    columns = (positions >= boxes[:, :1]) & (positions < boxes[:, 2:3])
    rows = (positions >= boxes[:, 1:2]) & (positions < boxes[:, 3:4])
    return (rows[:, :, None] & columns[:, None, :])[..., None]
