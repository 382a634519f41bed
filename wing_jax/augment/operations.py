"""Operations on batches of crops, pure: normal noise, blur, lower resolution, rectangles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from wing_jax import geometry

BYTES_DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)  # of the sum of four uniform bytes
# Fitted to its quantiles, by least squares, and scaled to variance 1; for x^7, x^5, x^3, x, of the standardised sum.
TO_NORMAL = tuple(map(np.float32, (3.17702513e-04, -2.03201070e-03, 1.66711925e-02, 9.58845204e-01)))


def standard_normal(
    words: UInt32[Array | np.ndarray, "n 2"], shape: tuple[int, ...]
) -> Float[Array | np.ndarray, "n ..."]:
    """Numbers of the standard normal distribution, of `shape` for each two of `words`; none is beyond 4.9.

    Each is a hash of its place and of the two words, which a CPU computes faster than `jax.random.normal`; NumPy gives
    the same. The sum of the hash's four bytes is nearly normal, and a polynomial corrects it. The shares beyond 1, 2, 3
    and 3.5 deviations are right to 4 % (`tests/augment/test_pixels.py`).
    """
    xp = geometry.namespace(words)
    first, second = (words[:, i].reshape(-1, *(1,) * len(shape)) for i in (0, 1))
    place = xp.arange(math.prod(shape), dtype=np.uint32).reshape(1, *shape)
    hashed = _scrambled(_scrambled(place + first) + second)
    pairs = (hashed & 0x00FF00FF) + (hashed >> 8 & 0x00FF00FF)
    total = ((pairs & 0xFFFF) + (pairs >> 16)).astype(np.int32).astype(np.float32)
    x = (total - 510) / np.float32(BYTES_DEVIATION)
    square = x * x
    return x * (((TO_NORMAL[0] * square + TO_NORMAL[1]) * square + TO_NORMAL[2]) * square + TO_NORMAL[3])


def _scrambled(words: UInt32[Array | np.ndarray, "..."]) -> UInt32[Array | np.ndarray, "..."]:
    """Each word as another that tells nothing of it: one to one (the "lowbias32" of C. Wellons)."""
    words = (words ^ words >> 16) * np.uint32(0x7FEB352D)
    words = (words ^ words >> 15) * np.uint32(0x846CA68B)
    return words ^ words >> 16


def gaussian_taps(sigma: float) -> Float[np.ndarray, "taps"]:
    """Weights of the blur along one axis, over 3 sigma (pixels) to both sides; they sum to 1."""
    radius = max(1, int(np.ceil(3 * sigma)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def gaussian_blur(
    crops: Float[Array, "n height width channels"], *, sigma: float
) -> Float[Array, "n height width channels"]:
    """Separable Gaussian blur, `sigma` in pixels, over 3 sigma, the edge repeated.

    As two small matrix products, which both CPUs and GPUs do faster than a sum of shifted images.
    """
    rows, columns = (_blur_matrix(crops.shape[axis], sigma) for axis in (1, 2))
    crops = jnp.einsum("ij,njwc->niwc", rows, crops, precision="highest")
    return jnp.einsum("ij,nhjc->nhic", columns, crops, precision="highest")


def _blur_matrix(size: int, sigma: float) -> Float[np.ndarray, "size size"]:
    """Row i holds what each pixel of a line adds to the blurred pixel i."""
    taps = gaussian_taps(sigma)
    reach = len(taps) // 2
    matrix = np.zeros((size, size), np.float32)
    for offset, weight in enumerate(taps, -reach):
        np.add.at(matrix, (np.arange(size), np.clip(np.arange(size) + offset, 0, size - 1)), weight)
    return matrix


def pixels_left(share: Float[Array | np.ndarray, "n"], *, size: int) -> Float[Array | np.ndarray, "n"]:
    """How many pixels a side are left of crops of `size` at these shares of their resolution; whole numbers."""
    xp = geometry.namespace(share)
    return xp.maximum(xp.round(share * size), np.float32(1))


def downscaled(
    crops: Float[Array, "n size size channels"], pixels: Float[Array, "n"]
) -> Float[Array, "n size size channels"]:
    """Square crops brought to so many `pixels` a side by area averaging, and back by bilinear interpolation."""
    size = crops.shape[1]
    small, large = jnp.arange(size, dtype=jnp.float32)[:, None], jnp.arange(size, dtype=jnp.float32)[None]

    def there_and_back(pixels: Array) -> Array:
        step = size / pixels  # small pixel i covers [i, i + 1) steps
        covered = jnp.minimum((small + 1) * step, large + 1) - jnp.maximum(small * step, large)
        down = jnp.where(small < pixels, jnp.maximum(covered, 0) / step, 0)
        place = jnp.clip(geometry.rescale_points(large, 1 / step), 0, pixels - 1)
        up = jnp.maximum(1 - jnp.abs(place - small), 0)
        return up.T @ down

    matrices = jax.vmap(there_and_back)(pixels)
    crops = jnp.einsum("nij,njwc->niwc", matrices, crops, precision="highest")
    return jnp.einsum("nij,nhjc->nhic", matrices, crops, precision="highest")


def inside(boxes: Float[Array | np.ndarray, "n 4"], *, size: int) -> Bool[Array, "n size size 1"]:
    """Mask of the pixels whose centers lie inside boxes given in fractions of the crop."""
    at = jnp.asarray(geometry.crop_fractions(jnp.arange(size, dtype=jnp.float32), size=size))[None]
    columns = (at >= boxes[:, :1]) & (at < boxes[:, 2:3])
    rows = (at >= boxes[:, 1:2]) & (at < boxes[:, 3:4])
    return (rows[:, :, None] & columns[:, None, :])[..., None]
