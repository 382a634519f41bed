"""2 x 2 max-pooling that is faster than `flax.linen.max_pool`, with equal values and gradients.

The gradient of `nn.max_pool` is a `select_and_scatter`, which uses only one CPU core and took 40 % of a training step.
Here it is four comparisons, of slices, which a TPU reads in any layout of the array. Among equal values the first in
row order gets all of the gradient, as in cuDNN, PyTorch and `nn.max_pool`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _corners(x: Array) -> list[Array]:
    """Return the four values of each window, in row order."""
    return [jax.lax.slice(x, (0, row, column, 0), x.shape, (1, 2, 2, 1)) for row in (0, 1) for column in (0, 1)]


@jax.custom_jvp
def max_pool_2x2(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
    """Take the maximum over 2 x 2 windows with stride 2.

    Args:
      x: `[batch, height, width, channels]`; height and width are even.

    Returns:
      `[batch, height / 2, width / 2, channels]`, of the same dtype.

    Raises:
      ValueError: height or width is odd.

    >>> float(max_pool_2x2(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, 0, 0, 0])
    5.0
    """
    _check_even(x)
    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@max_pool_2x2.defjvp
def _max_pool_2x2_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    _check_even(x)
    corners = _corners(x)
    pooled = functools.reduce(jnp.maximum, corners)
    taken = jnp.zeros(pooled.shape, bool)
    pooled_tangent = jnp.zeros(pooled.shape, tangent.dtype)
    for corner, corner_tangent in zip(corners, _corners(jnp.asarray(tangent)), strict=True):
        first = (corner == pooled) & ~taken
        pooled_tangent += jnp.where(first, corner_tangent, 0)
        taken |= first
    return pooled, pooled_tangent


def _check_even(x: Array) -> None:
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"max_pool_2x2 needs an even height and width, got {height} x {width}")
