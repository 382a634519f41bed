"""Cutting crops out of images on the device: one affine, one bilinear resampling, pure and jitted."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from wing_jax.types import Affine


def warp(
    images: Shaped[Array, "batch height width channels"], frames: Affine, *, size: int, supersample: int = 1
) -> Float[Array, "batch size size channels"]:
    """Crops of `size` pixels whose pixel p shows the image at `frames` p; bilinear, the image's edge repeated.

    `frames` `[batch, 2, 3]` is from crop pixels to image pixels. `supersample` > 1 averages that many samples a side
    for each crop pixel: the antialiasing where the crop shrinks its image. Returns float32 in the images' range.
    """
    at = (jnp.arange(size * supersample, dtype=jnp.float32) + 0.5) / supersample - 0.5
    side = len(at)
    grid = jnp.stack([jnp.tile(at, side), jnp.repeat(at, side), jnp.ones(side * side)])
    # A matrix product is worked out once. XLA repeats cheaper operations for each use, each time rounding its own way,
    # and close to whole numbers would then take the pixel from one floor and its weight from another.
    at_image = jnp.einsum("bij,jp->bip", frames, grid, precision="highest").reshape(-1, 2, side, side)
    x, y = at_image[:, 0], at_image[:, 1]
    height, width = images.shape[1:3]
    x, y = jnp.clip(x, 0, width - 1), jnp.clip(y, 0, height - 1)
    left, top = jnp.floor(x).astype(jnp.int32), jnp.floor(y).astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
    along_x, along_y = (x - left)[..., None], (y - top)[..., None]
    face = jnp.arange(images.shape[0])[:, None, None]
    upper = _mix(images[face, top, left], images[face, top, right], along_x)
    lower = _mix(images[face, bottom, left], images[face, bottom, right], along_x)
    crops = _mix(upper, lower, along_y)
    if supersample > 1:
        crops = crops.reshape(-1, size, supersample, size, supersample, images.shape[-1]).mean((2, 4))
    return crops


def _mix(start: Array, stop: Array, share: Array) -> Array:
    start, stop = start.astype(jnp.float32), stop.astype(jnp.float32)
    return start + (stop - start) * share
