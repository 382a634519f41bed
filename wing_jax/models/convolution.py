"""Convolution without a bias, computed in the way that is fastest for its shape."""

from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.models.conv3x3 import conv3x3
from wing_jax.models.plain import he_normal

Padding: TypeAlias = Literal["SAME"] | int  # as of TensorFlow; or pixels on each side, as of PyTorch


class Conv(nn.Module):
    """A convolution with the parameter and the result of `flax.linen.Conv(..., use_bias=False)`.

    A kernel of one position is a matrix product: on CPUs, XLA computes its gradients several times faster than those of
    a convolution. A 3 x 3 kernel that keeps the size is `conv3x3`, which uses the CPU kernel.
    """

    channels: int
    side: int = 3
    stride: int = 1
    padding: Padding = "SAME"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch h w channels"]:
        shape = (self.side, self.side, x.shape[-1], self.channels)
        kernel = self.param("kernel", he_normal, shape, jnp.float32)
        x = x.astype(self.dtype)
        if self.side == 1 and self.padding in ("SAME", 0):
            x = jax.lax.slice(x, (0,) * 4, x.shape, (1, self.stride, self.stride, 1))
            return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0].astype(x.dtype)).reshape(*x.shape[:3], -1)
        if self.side == 3 and self.stride == 1 and self.padding in ("SAME", 1):
            return conv3x3(x, kernel)
        sides = self.padding if self.padding == "SAME" else 2 * ((self.padding, self.padding),)
        strides, numbers = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel.astype(x.dtype), strides, sides, dimension_numbers=numbers)
