"""3 x 3 convolution, alone and fused with 2 x 2 max-pooling, bias and ReLU: a kernel on CPUs, pure JAX elsewhere.

The kernel of `wing_jax.models.cpu_kernel`, if it is loaded, computes float32, and bfloat16 on processors with AMX. In
bfloat16 it multiplies in bfloat16 and adds in float32. It supports only first derivatives in reverse mode: for
`jax.jvp`, trace within `cpu_kernel.switched("off")`.

Bias and ReLU come after the pooling: relu(maxpool(z) + b) == maxpool(relu(z + b)) exactly, and their array is four
times smaller. Among equal values the first in row order gets all of the gradient, as in `max_pool_2x2`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.models import cpu_kernel
from wing_jax.models.pooling import max_pool_2x2


def conv3x3(
    x: Float[Array, "batch height width inputs"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "batch height width outputs"]:
    """Convolve `x`, zero-padded to keep height and width; the result has the dtype of `x`."""
    instructions = _instructions(x)
    if instructions:
        return _conv_by_kernel(x, kernel.astype(jnp.float32), instructions)
    return _conv(x, kernel.astype(x.dtype))


def conv_pool(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "3 3 inputs outputs"],
    bias: Float[Array, " outputs"] | None = None,
    *,
    relu: bool,
) -> Float[Array, "batch h w outputs"]:
    """Compute `relu(maxpool(conv(x, kernel)) + bias)`, zero-padded: h = height / 2, w = width / 2; dtype of `x`.

    Raises:
      ValueError: height or width is odd.
    """
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"conv_pool needs an even height and width, got {height} x {width}")
    instructions = _instructions(x)
    if instructions:
        shift = jnp.zeros(kernel.shape[-1], jnp.float32) if bias is None else bias.astype(jnp.float32)
        return _conv_pool_by_kernel(x, kernel.astype(jnp.float32), shift, relu, instructions)
    pooled = max_pool_2x2(_conv(x, kernel.astype(x.dtype)))
    if bias is not None:
        pooled += jnp.broadcast_to(bias.astype(x.dtype), pooled.shape)
    return jax.nn.relu(pooled) if relu else pooled


def _instructions(x: Array) -> str | None:
    return cpu_kernel.instructions(dtype=x.dtype) if x.size else None


def _conv(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _call(name: str, results: Any, *arrays: Array, **attributes: Any) -> Any:
    """Run one pass of the kernel in the precision of the first array; `results` have the result's shapes and dtypes."""
    name += "_bf16" * (arrays[0].dtype == jnp.bfloat16)
    results = jax.tree.map(lambda result: jax.ShapeDtypeStruct(result.shape, result.dtype), results)
    return jax.ffi.ffi_call(f"wing_jax_{name}", results, vmap_method="sequential")(*arrays, **attributes)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_by_kernel(x: Array, kernel: Array, instructions: str) -> Array:
    y = jax.ShapeDtypeStruct((*x.shape[:3], kernel.shape[3]), x.dtype)
    return _call("conv", y, x, kernel, instructions=instructions)


def _conv_forward(x: Array, kernel: Array, instructions: str) -> tuple[Array, tuple[Array, Array]]:
    return _conv_by_kernel(x, kernel, instructions), (x, kernel)


def _conv_backward(instructions: str, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    input_gradient = _call("conv_input", x, gradient, kernel, instructions=instructions)
    return input_gradient, _call("conv_weights", kernel, x, gradient, instructions=instructions)


_conv_by_kernel.defvjp(_conv_forward, _conv_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _conv_pool_by_kernel(x: Array, kernel: Array, bias: Array, relu: bool, instructions: str) -> Array:
    return _conv_pool_forward(x, kernel, bias, relu, instructions)[0]


def _conv_pool_forward(
    x: Array, kernel: Array, bias: Array, relu: bool, instructions: str
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Return the pooled map and the residuals; `selection` is the index of the largest of 4 values, 4 if ReLU is 0."""
    n, height, width, _ = x.shape
    pooled = jax.ShapeDtypeStruct((n, height // 2, width // 2, kernel.shape[3]), x.dtype)
    results = pooled, pooled.update(dtype=jnp.uint8)
    pooled, selection = _call("conv_pool", results, x, kernel, bias, relu=relu, instructions=instructions)
    return pooled, (x, kernel, selection)


def _conv_pool_backward(
    relu: bool, instructions: str, saved: tuple[Array, Array, Array], gradient: Array
) -> tuple[Array, Array, Array]:
    """Use two calls, so that XLA can drop the input's gradient if it is not needed: in the first layer."""
    del relu  # `selection` contains it
    x, kernel, selection = saved
    input_gradient = _call("conv_pool_input", x, gradient, selection, kernel, instructions=instructions)
    results = kernel, _float32(kernel.shape[3])
    return input_gradient, *_call("conv_pool_weights", results, x, gradient, selection, instructions=instructions)


_conv_pool_by_kernel.defvjp(_conv_pool_forward, _conv_pool_backward)
