"""Cutting crops out of images on the device: one affine, one bilinear resampling, pure and jitted."""

import jax
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
    across, down = at[None, None, :], at[None, :, None]
    x, y = (
        frames[:, i, 0, None, None] * across + frames[:, i, 1, None, None] * down + frames[:, i, 2, None, None]
        for i in (0, 1)
    )
    height, width = images.shape[1:3]
    # Computed once: XLA may else work x out twice with other roundings, and so mix pixel n with a share of pixel n - 1.
    x, y = jax.lax.optimization_barrier((jnp.clip(x, 0, width - 1), jnp.clip(y, 0, height - 1)))
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
