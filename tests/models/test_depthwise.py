"""Depthwise convolution against Flax's: values and gradients for all strides and paddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.models import cpu_kernel
from wing_jax.models.convolution import Conv
from wing_jax.models.depthwise import DepthwiseConv, depthwise_conv

RANDOM = np.random.default_rng(0)
kernel_needed = pytest.mark.skipif(not cpu_kernel.load(), reason=cpu_kernel.status())


@pytest.mark.slow
@pytest.mark.parametrize("setting", [pytest.param("on", marks=kernel_needed), "off"])
@pytest.mark.parametrize(
    ("size", "side", "stride", "padding"),
    [
        ((7, 9), 3, 1, "SAME"), ((7, 9), 3, 2, "SAME"), ((6, 6), 3, 2, "SAME"), ((6, 6), 5, 2, "SAME"),
        ((7, 9), 5, 1, "SAME"), ((2, 2), 5, 1, "SAME"), ((2, 2), 5, 2, "SAME"), ((1, 1), 5, 2, "SAME"),
        ((7, 9), 3, 1, 1), ((7, 9), 3, 2, 1), ((6, 6), 3, 2, 1), ((6, 8), 5, 3, 2), ((6, 8), 1, 2, 0),
        ((5, 5), 3, 1, 4),
    ],
)  # fmt: skip
def test_value_and_gradients_equal_those_of_flax(size, side, padding, stride, setting):
    x = jnp.asarray(RANDOM.normal(size=(2, *size, 20)), jnp.float32)
    ours = DepthwiseConv(side, stride, padding)
    flax = nn.Conv(20, (side, side), stride, padding=padding, feature_group_count=20, use_bias=False)
    with cpu_kernel.switched(setting):
        assert_equal(ours, flax, x)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [pytest.param("on", marks=kernel_needed), "off"])
@pytest.mark.parametrize(
    ("side", "stride", "padding"),
    [(1, 1, 0), (1, 2, "SAME"), (1, 1, 2), (3, 1, 1), (3, 1, "SAME"), (3, 2, 1), (7, 2, 3)],
)
def test_convolutions_equal_those_of_flax(side, stride, padding, setting):
    x = jnp.asarray(RANDOM.normal(size=(2, 7, 9, 6)), jnp.float32)
    flax = nn.Conv(20, (side, side), stride, padding=padding, use_bias=False)
    with cpu_kernel.switched(setting):
        assert_equal(Conv(20, side, stride, padding), flax, x)


def assert_equal(ours, flax, x):
    """Compare parameters, values and gradients."""
    variables = flax.init(jax.random.key(0), x)
    shapes = jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x))
    assert shapes == jax.tree.map(jnp.shape, variables)

    def run(module):
        result, pull = jax.vjp(module.apply, variables, x)
        return result, pull(jnp.sin(result + 1))

    for a, b in zip(jax.tree.leaves(jax.jit(lambda: run(ours))()),
                    jax.tree.leaves(jax.jit(lambda: run(flax))()), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_summed_in_float32():
    x = jnp.asarray(RANDOM.normal(size=(1, 9, 9, 3)), jnp.bfloat16)
    kernel = jnp.asarray(RANDOM.normal(size=(5, 5, 1, 3)), jnp.float32)
    result = depthwise_conv(x, kernel)
    assert result.dtype == jnp.bfloat16
    exact = depthwise_conv(x.astype(jnp.float32), kernel)
    np.testing.assert_allclose(result.astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)
