"""Depthwise convolution, faster on CPUs than `flax.linen.Conv`: each channel has its own kernel.

On CPUs, XLA convolves grouped channels one by one. There, the library of `wing_jax.models.cpu_kernel` computes float32
and kernels of 3 x 3 and 5 x 5, if it is loaded; as in `conv3x3`, only with first derivatives in reverse mode. In other
cases, the result is computed as a sum over the positions of the kernel: the shifted input times a vector with the
weight of each channel. XLA fuses the sum, and its gradient, into loops over all channels.

A training step at batch 32, in milliseconds, on two cores of an AMD EPYC (`python benchmarks/depthwise.py --print-only
--rounds 3`, commit 3db47cd, JAX 0.10.2):

| network | pixels | XLA's convolution | sum of products | CPU kernel |
|---|---:|---:|---:|---:|
| `mobilenet_v2` | 64 | 1,240 | 331 | 154 |
| `mobilenet_v2` | 112 | 3,605 | 981 | 550 |
| `efficientnet_lite0` | 64 | 2,054 | 615 | 223 |
| `efficientnet_lite0` | 112 | 5,783 | 1,705 | 628 |
"""

import functools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wing_jax.models import cpu_kernel
from wing_jax.models.convolution import Padding
from wing_jax.runtime import devices

Sides: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # zeros before and after, of rows and of columns
KERNEL_SIDES = (3, 5)  # of the CPU kernel


def depthwise_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "side side 1 channels"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
) -> Float[Array, "batch h w channels"]:
    """Convolve each channel of `x` with its own kernel.

    Args:
      x: `[batch, height, width, channels]`.
      kernel: `[side, side, 1, channels]`.
      stride: step between positions.
      padding: "SAME", or zeros on each side.

    Returns:
      `[batch, h, w, channels]`, in the dtype of `x`, as of `flax.linen.Conv` with `feature_group_count=channels`.

    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> depthwise_conv(x, jnp.ones((3, 3, 1, 1)), padding=0).item()
    36.0
    """
    side = kernel.shape[0]
    sides = _padding(x.shape[1], side, stride, padding), _padding(x.shape[2], side, stride, padding)
    instructions = cpu_kernel.instructions(dtype=x.dtype) if x.dtype == jnp.float32 and x.size else None
    if instructions and side in KERNEL_SIDES and max(sides[0] + sides[1]) < side:
        return _by_kernel(x, kernel[:, :, 0].astype(jnp.float32), _Pass(stride, sides, instructions))
    if backend() == "cpu":
        return sum_of_products(x, kernel, stride, sides)
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        sides,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def backend() -> str:
    """Return the kind of device that the convolution is computed on."""
    return devices.platform()


def sum_of_products(x: Array, kernel: Array, stride: int, sides: Sides) -> Array:
    """Compute `depthwise_conv` as a sum of shifted products in float32; `sides` are the zeros before and after."""
    padded = jnp.pad(x.astype(jnp.float32), ((0, 0), *sides, (0, 0)))
    side, (batch, height, width, channels) = kernel.shape[0], padded.shape
    steps = [(size - side) // stride * stride + 1 for size in (height, width)]  # from first to last position

    def product(row: int, column: int) -> Array:
        end = (batch, row + steps[0], column + steps[1], channels)
        shifted = jax.lax.slice(padded, (0, row, column, 0), end, (1, stride, stride, 1))
        return shifted * kernel[row, column, 0].astype(jnp.float32)[None, None, None]

    products = (product(row, column) for row in range(side) for column in range(side))
    return functools.reduce(jnp.add, products).astype(x.dtype)


class _Pass(NamedTuple):
    """The options of the CPU kernel."""

    stride: int
    sides: Sides
    instructions: str

    def run(self, name: str, shape: Sequence[int], first: Array, second: Array) -> Array:
        """Return the result, of this shape."""
        call = jax.ffi.ffi_call(
            f"wing_jax_{name}", jax.ShapeDtypeStruct(tuple(shape), jnp.float32), vmap_method="sequential"
        )
        stride, top, left = map(np.int64, (self.stride, self.sides[0][0], self.sides[1][0]))
        return call(first, second, stride=stride, top=top, left=left, instructions=self.instructions)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_kernel(x: Array, kernel: Array, options: _Pass) -> Array:
    side, (batch, height, width, channels) = len(kernel), x.shape
    rows, columns = (
        (size + sum(zeros) - side) // options.stride + 1
        for size, zeros in zip((height, width), options.sides, strict=True)
    )
    return options.run("depthwise_conv", (batch, rows, columns, channels), x, kernel)


def _forward(x: Array, kernel: Array, options: _Pass) -> tuple[Array, tuple[Array, Array]]:
    return _by_kernel(x, kernel, options), (x, kernel)


def _backward(options: _Pass, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    input_gradient = options.run("depthwise_input", x.shape, gradient, kernel)
    return input_gradient, options.run("depthwise_weights", kernel.shape, x, gradient)


_by_kernel.defvjp(_forward, _backward)


def _padding(size: int, side: int, stride: int, padding: Padding) -> tuple[int, int]:
    if padding != "SAME":
        return padding, padding
    total = max(0, (-(-size // stride) - 1) * stride + side - size)
    return total // 2, total - total // 2


class DepthwiseConv(nn.Module):
    """`depthwise_conv` with the parameter of `flax.linen.Conv`, and without a bias."""

    side: int = 3
    stride: int = 1
    padding: Padding = "SAME"
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
        kernel = self.param("kernel", self.kernel_init, (self.side, self.side, 1, x.shape[-1]), jnp.float32)
        return depthwise_conv(x.astype(self.dtype), kernel, stride=self.stride, padding=self.padding)
