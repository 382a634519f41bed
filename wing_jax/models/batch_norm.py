"""Batch normalization that is fast on CPUs, where XLA's sums over columns are slow.

On CPUs the sum of each channel is a matrix product with a row of ones. The gradient is written explicitly: the backward
pass needs two such sums and one pass over the batch.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.runtime import devices

EPSILON = 1e-5  # added to the variance by default


class BatchNorm(nn.Module):
    """Normalize each channel (the last axis) over the batch, or by running statistics.

    Parameters, statistics and arithmetic are those of `flax.linen.BatchNorm`, in float32 for any `dtype` of the result.
    With `axis`, the name of a mapped axis of replicas, the batch is that of all replicas. Only first derivatives in
    reverse mode are supported.
    """

    momentum: float = 0.9
    epsilon: float = EPSILON
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
            normalized = _scale_and_shift(x32, scale, bias, mean.value, jax.lax.rsqrt(variance.value + self.epsilon))
        else:
            rows = x32.reshape(-1, channels)
            axis = None if self.is_initializing() else self.axis
            normalized, batch_mean, batch_variance = normalize(rows, scale, bias, axis, self.epsilon)
            if not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
                variance.value = self.momentum * variance.value + (1 - self.momentum) * batch_variance
        return normalized.reshape(x.shape).astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    rows: Float[Array, "n channels"],
    scale: Float[Array, "channels"],
    bias: Float[Array, "channels"],
    axis: str | None,
    epsilon: float,
) -> tuple[Float[Array, "n channels"], Float[Array, "channels"], Float[Array, "channels"]]:
    """Return scale * (x - mean) / sqrt(variance + epsilon) + bias, mean and variance, over the rows of all replicas.

    `axis` is the name of the replicas' axis. Mean and variance are for the running statistics and have no gradient.
    """
    return _forward(rows, scale, bias, axis, epsilon)[0]


def _forward(rows: Array, scale: Array, bias: Array, axis: str | None, epsilon: float):
    mean = _mean(rows, axis)
    variance = jnp.maximum(_mean(jnp.square(rows), axis) - jnp.square(mean), 0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return (_scale_and_shift(rows, scale, bias, mean, inverse), mean, variance), (rows, scale, mean, inverse)


def _backward(axis: str | None, epsilon: float, saved: tuple, gradients: tuple) -> tuple[Array, Array, Array]:
    rows, scale, mean, inverse = saved
    upstream = gradients[0]
    bias_gradient = _sums(upstream)
    scale_gradient = (_sums(upstream * rows) - mean * bias_gradient) * inverse
    # dx = s / sd (dy - mean(dy) - n mean(dy n)),  n = (x - mean) / sd
    count = len(rows) * (1 if axis is None else jax.lax.axis_size(axis))
    mean_upstream, mean_product = (_sum_over_replicas(sums, axis) / count for sums in (bias_gradient, scale_gradient))
    gain, slope = scale * inverse, scale * inverse * inverse * mean_product
    shift = slope * mean - gain * mean_upstream
    return upstream * gain[None] - rows * slope[None] + shift[None], scale_gradient, bias_gradient


normalize.defvjp(_forward, _backward)


def _scale_and_shift(x: Array, scale: Array, bias: Array, mean: Array, inverse: Array) -> Array:
    gain, broadcast_shape = scale * inverse, (1,) * (x.ndim - 1) + (-1,)
    return x * gain.reshape(broadcast_shape) + (bias - mean * gain).reshape(broadcast_shape)


def _mean(rows: Array, axis: str | None) -> Float[Array, "channels"]:
    count = len(rows) * (1 if axis is None else jax.lax.axis_size(axis))
    return _sum_over_replicas(_sums(rows), axis) / count


def _sums(rows: Array) -> Float[Array, "channels"]:
    """Sum the columns: on CPUs, XLA multiplies matrices many times faster than it sums columns."""
    if devices.platform() == "cpu":
        return (jnp.ones((1, len(rows)), rows.dtype) @ rows)[0]
    return rows.sum(0)


def _sum_over_replicas(value: Array, axis: str | None) -> Array:
    return value if axis is None else jax.lax.psum(value, axis)
