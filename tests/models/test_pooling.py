"""2 x 2 max-pooling against Flax's: values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wing_jax.models import max_pool_2x2

# Few distinct values, so that most windows have ties.
tied = arrays.arrays(np.float32, (2, 4, 6, 2), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0]))


def flax_pool(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def normals(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def gradient_of(pool, x, weights):
    return jax.grad(lambda x: (pool(x) * weights).sum())(x)


@pytest.mark.slow
@given(tied)
@settings(max_examples=30)
def test_value_and_gradient_equal_flax_with_ties(x):
    x, weights = jnp.asarray(x), normals(2, 2, 3, 2)
    np.testing.assert_array_equal(max_pool_2x2(x), flax_pool(x))
    np.testing.assert_array_equal(gradient_of(max_pool_2x2, x, weights), gradient_of(flax_pool, x, weights))


@pytest.mark.slow
def test_first_of_equal_values_takes_the_whole_gradient():
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])


@pytest.mark.slow
def test_forward_and_reverse_derivatives_agree():
    x, direction, weights = normals(2, 4, 4, 3), normals(2, 4, 4, 3, seed=1), normals(2, 2, 2, 3, seed=2)
    _, tangent = jax.jvp(max_pool_2x2, (x,), (direction,))
    np.testing.assert_allclose(
        (tangent * weights).sum(), (gradient_of(max_pool_2x2, x, weights) * direction).sum(), rtol=1e-5
    )


@pytest.mark.slow
def test_gradient_agrees_with_differences_in_float64():
    with jax.enable_x64():
        # A shuffled range: no two values are so close that a step of the differences changes their order.
        x = jnp.asarray(np.random.default_rng(0).permutation(32.0 * np.arange(1, 33)).reshape(1, 4, 8, 1) / 64)
        jax.test_util.check_grads(lambda x: jnp.sin(max_pool_2x2(jnp.asarray(x))), (x,), order=2, eps=1e-4)


@pytest.mark.slow
def test_second_derivatives_work():
    x = normals(1, 4, 4, 1)

    def cubes(pool):
        return lambda x: (pool(x) ** 3).sum()

    def hessian_diagonal(pool):
        ones = jnp.ones_like(x)
        return jax.jvp(jax.grad(cubes(pool)), (x,), (ones,))[1]

    largest = np.asarray(max_pool_2x2(x)).repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(hessian_diagonal(max_pool_2x2), np.where(x == largest, 6 * x, 0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 3, 1)])
def test_odd_size_raises(shape):
    for function in (max_pool_2x2, jax.grad(lambda x: max_pool_2x2(x).sum())):
        with pytest.raises(ValueError, match=f"even height and width, got {shape[1]} x {shape[2]}"):
            function(jnp.zeros(shape))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_kept_in_value_and_gradient(dtype):
    x = normals(1, 4, 4, 2).astype(dtype)
    assert max_pool_2x2(x).dtype == dtype
    assert jax.grad(lambda x: max_pool_2x2(x).sum())(x).dtype == dtype


def test_jit_and_vmap_match_the_plain_call():
    x = normals(3, 2, 4, 4, 2)
    expected = np.stack([max_pool_2x2(image) for image in x])
    np.testing.assert_array_equal(jax.jit(jax.vmap(max_pool_2x2))(x), expected)


def test_second_call_is_not_traced_again():
    pool = jax.jit(jax.grad(lambda x: max_pool_2x2(x).sum()))
    pool(normals(1, 4, 4, 2))
    with jax.no_tracing():
        pool(normals(1, 4, 4, 2, seed=1))
