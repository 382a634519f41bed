"""Batch normalization against Flax's: values, gradients, statistics and replicas."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.models import batch_norm
from wing_jax.models.batch_norm import BatchNorm

RANDOM = np.random.default_rng(0)
X = jnp.asarray(RANDOM.normal(3, 2, (8, 4, 6, 5)), jnp.float32)
WEIGHT = jnp.asarray(RANDOM.normal(0, 1, X.shape), jnp.float32)
VARIABLES = {
    "params": {name: jnp.asarray(RANDOM.normal(1, 1, 5), jnp.float32) for name in ("scale", "bias")},
    "batch_stats": {name: jnp.asarray(RANDOM.uniform(1, 2, 5), jnp.float32) for name in ("mean", "var")},
}


def ours(variables, x, *, running=False, axis=None, dtype=jnp.float32):
    return BatchNorm(axis=axis, dtype=dtype).apply(variables, x, use_running_average=running, mutable=["batch_stats"])


def flax(variables, x, *, running=False, axis=None, dtype=jnp.float32):
    module = nn.BatchNorm(momentum=0.9, axis_name=axis, dtype=dtype)
    return module.apply(variables, x, use_running_average=running, mutable=["batch_stats"])


@pytest.fixture(params=["cpu", "elsewhere"], autouse=True)
def sums(request, monkeypatch):
    """Run each test with the sums for CPUs and with those for other devices."""
    if request.param == "elsewhere":
        monkeypatch.setattr(batch_norm, "_sums", lambda rows: rows.sum(0))


def assert_close(ours_result, flax_result, **tolerance):
    for (path, a), b in zip(jax.tree.leaves_with_path(ours_result), jax.tree.leaves(flax_result), strict=True):
        np.testing.assert_allclose(a, b, err_msg=str(path), **{"rtol": 2e-4, "atol": 2e-5, **tolerance})


@pytest.mark.slow
@pytest.mark.parametrize("running", [False, True])
def test_value_and_statistics(running):
    assert_close(ours(VARIABLES, X, running=running), flax(VARIABLES, X, running=running))


@pytest.mark.slow
def test_gradients_of_input_scale_and_bias():
    def total(module, params, x):
        variables = {**VARIABLES, "params": params}
        return (jnp.sin(module(variables, x)[0]) * WEIGHT).sum()

    results = [jax.grad(total, (1, 2))(module, VARIABLES["params"], X) for module in (ours, flax)]
    assert_close(*results, atol=2e-4)


def test_gradients_with_running_statistics():
    def total(module, x):
        return (jnp.sin(module(VARIABLES, x, running=True)[0]) * WEIGHT).sum()

    assert_close(jax.grad(total, 1)(ours, X), jax.grad(total, 1)(flax, X))


@pytest.mark.slow
def test_gradients_against_finite_differences():
    rows = X.reshape(-1, 5)[:12]
    weight = WEIGHT.reshape(-1, 5)[:12]

    def total(x):
        return (
            batch_norm.normalize(x, VARIABLES["params"]["scale"], VARIABLES["params"]["bias"], None, 1e-5)[0] * weight
        ).sum()

    step, slope = 1e-2, jax.grad(total)(rows)
    for index in ((0, 0), (5, 3), (11, 4)):
        numeric = (total(rows.at[index].add(step)) - total(rows.at[index].add(-step))) / (2 * step)
        np.testing.assert_allclose(slope[index], numeric, rtol=2e-2, atol=2e-3)


@pytest.mark.slow
def test_a_constant_channel_is_finite():
    x = jnp.full((4, 2, 2, 5), 7.0)
    value, pull = jax.vjp(lambda x: ours(VARIABLES, x)[0], x)
    assert np.isfinite(value).all()
    assert np.isfinite(pull(jnp.ones_like(value))[0]).all()


@pytest.mark.slow
def test_replicas_share_one_batch():
    def step(variables, x, weight):
        def total(params):
            value, new = ours({**variables, "params": params}, x, axis="faces")
            return (jnp.sin(value) * weight).sum(), new

        gradient, new = jax.grad(total, has_aux=True)(variables["params"])
        return jax.lax.psum(gradient, "faces"), new

    def total(params):
        value, new = flax({**VARIABLES, "params": params}, X)
        return (jnp.sin(value) * WEIGHT).sum(), new

    split = [part.reshape(4, 2, *part.shape[1:]) for part in (X, WEIGHT)]
    results = jax.pmap(step, axis_name="faces", in_axes=(None, 0, 0))(VARIABLES, *split)
    assert_close(
        jax.tree.map(lambda leaf: leaf[0], results), jax.grad(total, has_aux=True)(VARIABLES["params"]), atol=2e-4
    )


@pytest.mark.slow
def test_input_gradient_over_replicas():
    def input_gradient(x, weight):
        return jax.grad(lambda x: (jnp.sin(ours(VARIABLES, x, axis="faces")[0]) * weight).sum())(x)

    split = [part.reshape(2, 4, *part.shape[1:]) for part in (X, WEIGHT)]
    results = jax.pmap(input_gradient, axis_name="faces")(*split).reshape(X.shape)
    assert_close(results, jax.grad(lambda x: (jnp.sin(flax(VARIABLES, x)[0]) * WEIGHT).sum())(X), atol=2e-4)


def test_names_and_initial_values_match_flax():
    ours_result, flax_result = (
        BatchNorm().init(jax.random.key(0), X, use_running_average=False),
        nn.BatchNorm().init(jax.random.key(0), X, use_running_average=False),
    )
    assert jax.tree.structure(ours_result) == jax.tree.structure(flax_result)
    assert_close(ours_result, flax_result)


def test_bfloat16_is_computed_in_float32():
    x = X.astype(jnp.bfloat16)
    ours_result, flax_result = (module(VARIABLES, x, dtype=jnp.bfloat16) for module in (ours, flax))
    assert ours_result[0].dtype == jnp.bfloat16
    assert_close(ours_result[0].astype(jnp.float32), flax_result[0].astype(jnp.float32), rtol=2e-2, atol=3e-2)
    assert_close(ours_result[1], flax_result[1])


@pytest.mark.slow
def test_vmap_matches_a_loop():
    many = jnp.stack([X, 2 * X + 1])
    assert_close(jax.vmap(lambda x: ours(VARIABLES, x)[0])(many), jnp.stack([ours(VARIABLES, x)[0] for x in many]))
