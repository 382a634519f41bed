"""Schedules against closed forms, and each optimizer against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax.config import AugmentConfig, LossConfig, ModelConfig, OptimizerConfig, StageConfig
from wing_jax.from_config.recipe import scaled_to_batch
from wing_jax.train.optimizer import default_optimizer, learning_rates, make_optimizer


def apply_gradients(optimizer, params, gradients):
    """Return the parameters after updates by `gradients`, in order."""
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def make_params():
    random = np.random.default_rng(0)
    return {"kernel": jnp.asarray(random.normal(size=(3, 2)), jnp.float32), "bias": jnp.ones(2)}


def make_gradients(count=4):
    random = np.random.default_rng(1)
    params = make_params()
    return [jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), x.dtype), params) for _ in range(count)]


def test_exponential_decay_is_linear_in_the_logarithm():
    rates = learning_rates(first=3e-5, last=3e-7, steps=100, decay="exponential")
    for step in (0, 25, 50, 100):
        np.testing.assert_allclose(rates(step), 3e-5 * (3e-7 / 3e-5) ** (step / 100), rtol=1e-5)
    np.testing.assert_allclose(rates(150), 3e-7, rtol=1e-5)  # constant after the last step


def test_cosine_decay_equals_its_closed_form():
    rates = learning_rates(first=1e-3, last=1e-5, steps=100, decay="cosine")
    for step in (0, 25, 50, 100, 150):
        share = (1 + np.cos(np.pi * min(step, 100) / 100)) / 2
        np.testing.assert_allclose(rates(step), 1e-5 + (1e-3 - 1e-5) * share, rtol=1e-5)


@pytest.mark.parametrize("decay", ["exponential", "cosine"])
def test_warm_up_is_linear_and_counts_within_the_steps(decay):
    rates = learning_rates(first=1e-2, last=1e-4, steps=60, decay=decay, warmup=10)
    warmup_rates = [float(rates(step)) for step in range(11)]
    np.testing.assert_allclose(warmup_rates, np.linspace(1e-3, 1e-2, 11), rtol=1e-5)
    middle = np.sqrt(1e-2 * 1e-4) if decay == "exponential" else (1e-2 + 1e-4) / 2
    np.testing.assert_allclose(rates(35), middle, rtol=1e-5)
    np.testing.assert_allclose(rates(60), 1e-4, rtol=1e-5)


@pytest.mark.slow
def test_sgd_is_matconvnets_momentum_with_weight_decay_of_weights_and_biases():
    rates = learning_rates(first=0.1, last=0.01, steps=4, decay="exponential")
    optimizer = make_optimizer("sgd", rates, weight_decay=0.05, momentum=0.9)
    params = apply_gradients(optimizer, make_params(), make_gradients())
    for name, value in make_params().items():
        value, velocity = np.asarray(value, np.float64), 0.0
        for step, gradient in enumerate(make_gradients()):
            # MatConvNet 1.0-beta25, examples/cnn_train_dag.m: momentum * state - (decay * weight + gradient)
            velocity = 0.9 * velocity - (0.05 * value + np.asarray(gradient[name], np.float64))
            value = value + 0.1 * 0.1 ** (step / 4) * velocity
        np.testing.assert_allclose(params[name], value, rtol=1e-5)


def test_adamw_equals_a_loop_and_decays_kernels_only():
    rates = learning_rates(first=0.1, last=0.01, steps=4, decay="exponential")
    params = apply_gradients(make_optimizer("adamw", rates, weight_decay=0.2), make_params(), make_gradients())
    for name, value in make_params().items():
        value, mean, square = np.asarray(value, np.float64), 0.0, 0.0
        for step, gradient in enumerate(make_gradients()):
            g = np.asarray(gradient[name], np.float64)
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
            direction = (mean / (1 - 0.9 ** (step + 1))) / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
            decay = 0.2 * value if name == "kernel" else 0.0
            value = value - 0.1 * 0.1 ** (step / 4) * (direction + decay)
        np.testing.assert_allclose(params[name], value, rtol=1e-4, atol=5e-6)


@pytest.mark.slow
def test_the_gradient_is_clipped_first():
    def constant(_):
        return 1.0

    gradient = {"kernel": jnp.full((3, 2), 30.0), "bias": jnp.full(2, 40.0)}
    clipped = make_optimizer("sgd", constant, weight_decay=0.0, momentum=0.0, clip=2.0)
    change = jax.tree.map(jnp.subtract, make_params(), apply_gradients(clipped, make_params(), [gradient]))
    np.testing.assert_allclose(optax.tree.norm(change), 2.0, rtol=1e-5)
    small = jax.tree.map(lambda g: g / 1000, gradient)
    change = jax.tree.map(jnp.subtract, make_params(), apply_gradients(clipped, make_params(), [small]))
    np.testing.assert_allclose(optax.tree.norm(change), optax.tree.norm(small), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (40_000, 200)])
def test_the_default_optimizer_is_that_of_its_docstring(steps, warmup):
    rates = learning_rates(first=1e-3, last=1e-5, steps=steps, decay="cosine", warmup=warmup)
    expected = apply_gradients(make_optimizer("adamw", rates, weight_decay=0.05), make_params(), make_gradients())
    params = apply_gradients(default_optimizer(steps=steps), make_params(), make_gradients())
    for name in expected:
        np.testing.assert_array_equal(params[name], expected[name])


def stage(name: str, **changes) -> StageConfig:
    values = {"learning_rate": 1e-3, "final_learning_rate": 1e-5, "decay": "cosine", "weight_decay": 0.04, "ema": 0.999}
    return StageConfig(
        input_size=64,
        margin=1.2,
        model=ModelConfig(),
        loss=LossConfig(),
        augment=AugmentConfig(rotation=0.0, translation=0.0, scale=0.0),
        optimizer=OptimizerConfig(name=name, **values | changes),
        batch_size=8,
        steps=3200,
        evaluate_every=320,
    )


@pytest.mark.parametrize(("name", "rate_factor"), [("sgd", 16.0), ("adamw", 4.0)])
def test_a_larger_batch_sees_as_many_faces_with_the_published_learning_rates(name, rate_factor):
    before, after = stage(name, warmup=32), scaled_to_batch(stage(name, warmup=32), 128)
    assert after.batch_size * after.steps == before.batch_size * before.steps
    assert after.steps // after.evaluate_every == before.steps // before.evaluate_every
    assert after.optimizer.learning_rate == pytest.approx(rate_factor * 1e-3)
    assert after.optimizer.final_learning_rate == pytest.approx(rate_factor * 1e-5)
    assert after.optimizer.warmup == 10  # 5 % of 200 steps
    assert after.optimizer.ema**200 == pytest.approx(before.optimizer.ema**3200)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_larger_batch_has_the_same_total_weight_decay(name):
    """The decay of a step is the learning rate times the weight decay, for both optimizers."""

    def total_decay(stage):
        return stage.steps * stage.optimizer.learning_rate * stage.optimizer.weight_decay

    assert total_decay(scaled_to_batch(stage(name), 128)) == pytest.approx(total_decay(stage(name)))


def test_the_same_batch_changes_nothing():
    assert scaled_to_batch(stage("adamw", warmup=9), 8) == stage("adamw", warmup=9)
