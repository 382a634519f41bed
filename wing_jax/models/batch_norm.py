"""Batch normalisation that is fast on CPUs, where XLA adds up columns slowly.

There the sums for each channel are matrix products with a row of ones. The gradient is written out, so that the
backward pass needs two such sums and one pass over the batch.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-5  # added to the variance


class BatchNorm(nn.Module):
    """Normalises each channel (the last axis) over the batch, or by running statistics; parameters, statistics and
    arithmetic are those of `flax.linen.BatchNorm`, in float32 whatever `dtype` the result has.

    With `axis`, the name of a mapped axis of replicas, the batch is that of all replicas. It has first derivatives in
    reverse mode only.
    """

    momentum: float = 0.9
    dtype: Any = jnp.float32
    axis: str | None = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"], *, use_running_average: bool) -> Array:
        channels = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        x32 = x.astype(jnp.float32)
        if use_running_average:
            normal = _scaled(x32, scale, bias, mean.value, jax.lax.rsqrt(variance.value + EPSILON))
        else:
            rows = x32.reshape(-1, channels)
            axis = None if self.is_initializing() else self.axis
            normal, seen_mean, seen_variance = normalise(rows, scale, bias, axis)
            if not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * seen_mean
                variance.value = self.momentum * variance.value + (1 - self.momentum) * seen_variance
        return normal.reshape(x.shape).astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    rows: Float[Array, "n channels"], scale: Float[Array, "channels"], bias: Float[Array, "channels"], axis: str | None
) -> tuple[Float[Array, "n channels"], Float[Array, "channels"], Float[Array, "channels"]]:
    """(scale * (x - mean) / sqrt(variance + 1e-5) + bias, mean, variance), over the rows of all replicas of `axis`.

    Mean and variance, which are for the running statistics, pass no gradient on.
    """
    return _forward(rows, scale, bias, axis)[0]


def _forward(rows: Array, scale: Array, bias: Array, axis: str | None):
    mean = _mean(rows, axis)
    variance = jnp.maximum(_mean(jnp.square(rows), axis) - jnp.square(mean), 0)
    inverse = jax.lax.rsqrt(variance + EPSILON)
    return (_scaled(rows, scale, bias, mean, inverse), mean, variance), (rows, scale, mean, inverse)


def _backward(axis: str | None, kept: tuple, gradients: tuple) -> tuple[Array, Array, Array]:
    rows, scale, mean, inverse = kept
    above = gradients[0]
    of_bias = _sums(above)
    of_scale = (_sums(above * rows) - mean * of_bias) * inverse
    # dx = s / sd (dy - mean(dy) - n mean(dy n)),  n = (x - mean) / sd
    count = len(rows) * (1 if axis is None else jax.lax.axis_size(axis))
    mean_above, mean_product = (_everywhere(sums, axis) / count for sums in (of_bias, of_scale))
    gain, slope = scale * inverse, scale * inverse * inverse * mean_product
    shift = slope * mean - gain * mean_above
    return above * gain[None] - rows * slope[None] + shift[None], of_scale, of_bias


normalise.defvjp(_forward, _backward)


def _scaled(x: Array, scale: Array, bias: Array, mean: Array, inverse: Array) -> Array:
    gain, wide = scale * inverse, (1,) * (x.ndim - 1) + (-1,)
    return x * gain.reshape(wide) + (bias - mean * gain).reshape(wide)


def _mean(rows: Array, axis: str | None) -> Float[Array, "channels"]:
    count = len(rows) * (1 if axis is None else jax.lax.axis_size(axis))
    return _everywhere(_sums(rows), axis) / count


def _sums(rows: Array) -> Float[Array, "channels"]:
    """Sums of the columns: on CPUs XLA multiplies matrices many times faster than it adds up columns."""
    if jax.default_backend() == "cpu":
        return (jnp.ones((1, len(rows)), rows.dtype) @ rows)[0]
    return rows.sum(0)


def _everywhere(value: Array, axis: str | None) -> Array:
    return value if axis is None else jax.lax.psum(value, axis)
