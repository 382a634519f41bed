"""Blur, colour, noise and occlusion of crops on the device: pure, batched, the same as `wing_jax.data.cutting` does."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from wing_jax.config import PerturbConfig
from wing_jax.perturb import Draw, gaussian_taps


def photometric(
    crops: Float[Array, "n size size 3"], drawn: Draw, perturb: PerturbConfig, *, keys: Array
) -> UInt8[Array, "n size size 3"]:
    """Crops in 0..255 as the draw changes them, rounded; what the config leaves at 0 costs nothing. `keys` `[n]` are
    the faces' own, for the noise."""
    if perturb.blur > 0:
        blurred = gaussian_blur(crops, sigma=perturb.blur_sigma)
        crops = jnp.where(_each(drawn.blur), blurred, crops)
    if perturb.colour > 0:
        mean, contrast = crops.mean((1, 2, 3), keepdims=True), _each(drawn.contrast)
        crops = ((crops - mean) * contrast + mean) * drawn.gain[:, None, None, :]
    if perturb.noise > 0:
        normal = jax.vmap(lambda key: jax.random.normal(key, crops.shape[1:]))(keys)
        crops = crops + _each(drawn.noise) * normal
    if perturb.occlusion > 0:
        crops = jnp.where(inside(drawn.occluder, size=crops.shape[1]), _each(drawn.shade), crops)
    return jnp.clip(jnp.round(crops), 0, 255).astype(jnp.uint8)


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


def inside(boxes: Float[Array, "n 4"], *, size: int) -> Bool[Array, "n size size 1"]:
    """Mask of the pixels whose centres lie inside boxes given in fractions of the crop."""
    at = ((jnp.arange(size, dtype=jnp.float32) + 0.5) / size)[None]
    columns = (at >= boxes[:, :1]) & (at < boxes[:, 2:3])
    rows = (at >= boxes[:, 1:2]) & (at < boxes[:, 3:4])
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _each(values: Array) -> Array:
    """One value a face, to be used for all its pixels."""
    return values[:, None, None, None]
