"""3 x 3 convolution, 2 x 2 max-pooling, bias and ReLU as one operation: a kernel on CPUs, pure JAX elsewhere.

Bias and ReLU come after the pooling: relu(maxpool(z) + b) == maxpool(relu(z + b)) exactly, and the array they touch is
four times smaller. Among equal values the first in row order takes the whole gradient, as in `max_pool_2x2`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.models import cpu_kernel
from wing_jax.models.pooling import max_pool_2x2


def conv_pool(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "3 3 inputs outputs"],
    bias: Float[Array, " outputs"] | None = None,
    *,
    relu: bool,
) -> Float[Array, "batch h w outputs"]:
    """`relu(maxpool(conv(x, kernel)) + bias)`, zero-padded so that h = height / 2 and w = width / 2; dtype of `x`.

    On a CPU, in float32, the kernel of `wing_jax.models.cpu_kernel` computes it where there is one. The kernel has
    first derivatives in reverse mode only: for `jax.jvp` trace within `cpu_kernel.switched("off")`.

    Raises:
      ValueError: height or width is odd.
    """
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"conv_pool needs an even height and width, got {height} x {width}")
    kernel = kernel.astype(x.dtype)
    bias = None if bias is None else bias.astype(x.dtype)
    if x.dtype == jnp.float32 and x.size and cpu_kernel.enabled():
        return _fused(x, kernel, jnp.zeros(kernel.shape[-1], x.dtype) if bias is None else bias, relu)
    return _plain(x, kernel, bias, relu)


def _plain(x: Array, kernel: Array, bias: Array | None, relu: bool) -> Array:
    convolved = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    pooled = max_pool_2x2(convolved)
    if bias is not None:
        pooled += jnp.broadcast_to(bias, pooled.shape)
    return jax.nn.relu(pooled) if relu else pooled


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _fused(x: Array, kernel: Array, bias: Array, relu: bool) -> Array:
    return _forward(x, kernel, bias, relu)[0]


def _forward(x: Array, kernel: Array, bias: Array, relu: bool) -> tuple[Array, tuple[Array, Array, Array]]:
    """The pooled map, and what the gradients need: which of the four values each came from, 4 where ReLU gave 0."""
    n, height, width, _ = x.shape
    shape = (n, height // 2, width // 2, kernel.shape[-1])
    outputs = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.uint8)
    pooled, chosen = jax.ffi.ffi_call("wing_jax_conv_pool", outputs, vmap_method="sequential")(
        x, kernel, bias, relu=relu
    )
    return pooled, (x, kernel, chosen)


def _backward(relu: bool, kept: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    """Two calls, so that XLA can leave out the input's gradient where nobody asks for it: in the first layer."""
    del relu  # `chosen` knows
    x, kernel, chosen = kept
    of_input = jax.ffi.ffi_call(
        "wing_jax_conv_pool_input", jax.ShapeDtypeStruct(x.shape, jnp.float32), vmap_method="sequential"
    )(gradient, chosen, kernel)
    of_weights = jax.ShapeDtypeStruct(kernel.shape, jnp.float32), jax.ShapeDtypeStruct(kernel.shape[-1:], jnp.float32)
    of_kernel, of_bias = jax.ffi.ffi_call("wing_jax_conv_pool_weights", of_weights, vmap_method="sequential")(
        x, gradient, chosen
    )
    return of_input, of_kernel, of_bias


_fused.defvjp(_forward, _backward)
