"""Schedules against closed forms; each rule against a loop written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax.config import AugmentConfig, LossConfig, ModelConfig, OptimizerConfig, StageConfig
from wing_jax.from_config.recipe import scaled_to_batch
from wing_jax.train.optimizer import default_optimizer, learning_rates, make_optimizer


def follow(optimizer, params, gradients):
    """Parameters after the updates by `gradients`, one after the other."""
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def start():
    random = np.random.default_rng(0)
    return {"kernel": jnp.asarray(random.normal(size=(3, 2)), jnp.float32), "bias": jnp.ones(2)}


def some_gradients(count=4):
    random = np.random.default_rng(1)
    return [jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), x.dtype), start()) for _ in range(count)]


def test_exponential_decay_is_even_in_the_logarithm():
    rates = learning_rates(first=3e-5, last=3e-7, steps=100, decay="exponential")
    for step in (0, 25, 50, 100):
        np.testing.assert_allclose(rates(step), 3e-5 * (3e-7 / 3e-5) ** (step / 100), rtol=1e-5)
    np.testing.assert_allclose(rates(150), 3e-7, rtol=1e-5)  # and never below


def test_cosine_decay_by_its_closed_form():
    rates = learning_rates(first=1e-3, last=1e-5, steps=100, decay="cosine")
    for step in (0, 25, 50, 100, 150):
        share = (1 + np.cos(np.pi * min(step, 100) / 100)) / 2
        np.testing.assert_allclose(rates(step), 1e-5 + (1e-3 - 1e-5) * share, rtol=1e-5)


@pytest.mark.parametrize("decay", ["exponential", "cosine"])
def test_warm_up_rises_in_a_line_and_counts_within_the_steps(decay):
    rates = learning_rates(first=1e-2, last=1e-4, steps=60, decay=decay, warmup=10)
    risen = [float(rates(step)) for step in range(11)]
    np.testing.assert_allclose(risen, np.linspace(1e-3, 1e-2, 11), rtol=1e-5)
    middle = np.sqrt(1e-2 * 1e-4) if decay == "exponential" else (1e-2 + 1e-4) / 2
    np.testing.assert_allclose(rates(35), middle, rtol=1e-5)
    np.testing.assert_allclose(rates(60), 1e-4, rtol=1e-5)


def test_sgd_is_matconvnets_momentum_with_weight_decay_of_weights_and_biases():
    rates = learning_rates(first=0.1, last=0.01, steps=4, decay="exponential")
    ours = follow(make_optimizer("sgd", rates, weight_decay=0.05, momentum=0.9), start(), some_gradients())
    for name, value in start().items():
        value, velocity = np.asarray(value, np.float64), 0.0
        for step, gradient in enumerate(some_gradients()):
            # MatConvNet 1.0-beta25, examples/cnn_train_dag.m: momentum * state - (decay * weight + gradient)
            velocity = 0.9 * velocity - (0.05 * value + np.asarray(gradient[name], np.float64))
            value = value + 0.1 * 0.1 ** (step / 4) * velocity
        np.testing.assert_allclose(ours[name], value, rtol=1e-5)


def test_adamw_equals_a_loop_and_decays_kernels_only():
    rates = learning_rates(first=0.1, last=0.01, steps=4, decay="exponential")
    ours = follow(make_optimizer("adamw", rates, weight_decay=0.2), start(), some_gradients())
    for name, value in start().items():
        value, mean, square = np.asarray(value, np.float64), 0.0, 0.0
        for step, gradient in enumerate(some_gradients()):
            g = np.asarray(gradient[name], np.float64)
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
            direction = (mean / (1 - 0.9 ** (step + 1))) / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
            decayed = 0.2 * value if name == "kernel" else 0.0
            value = value - 0.1 * 0.1 ** (step / 4) * (direction + decayed)
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=5e-6)


def test_clipping_bounds_the_gradient_before_all_else():
    def constant(_):
        return 1.0

    gradient = {"kernel": jnp.full((3, 2), 30.0), "bias": jnp.full(2, 40.0)}
    clipped = make_optimizer("sgd", constant, weight_decay=0.0, momentum=0.0, clip=2.0)
    moved = jax.tree.map(jnp.subtract, start(), follow(clipped, start(), [gradient]))
    np.testing.assert_allclose(optax.tree.norm(moved), 2.0, rtol=1e-5)
    small = jax.tree.map(lambda g: g / 1000, gradient)
    moved = jax.tree.map(jnp.subtract, start(), follow(clipped, start(), [small]))
    np.testing.assert_allclose(optax.tree.norm(moved), optax.tree.norm(small), rtol=1e-3)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (40_000, 200)])
def test_the_usual_optimizer_is_the_one_that_its_docstring_says(steps, warmup):
    rates = learning_rates(first=1e-3, last=1e-5, steps=steps, decay="cosine", warmup=warmup)
    expected = follow(make_optimizer("adamw", rates, weight_decay=0.05), start(), some_gradients())
    found = follow(default_optimizer(steps=steps), start(), some_gradients())
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


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


@pytest.mark.parametrize(("name", "faster"), [("sgd", 16.0), ("adamw", 4.0)])
def test_a_larger_batch_sees_as_many_faces_by_the_published_rules(name, faster):
    before, after = stage(name, warmup=32), scaled_to_batch(stage(name, warmup=32), 128)
    assert after.batch_size * after.steps == before.batch_size * before.steps
    assert after.steps // after.evaluate_every == before.steps // before.evaluate_every
    assert after.optimizer.learning_rate == pytest.approx(faster * 1e-3)
    assert after.optimizer.final_learning_rate == pytest.approx(faster * 1e-5)
    assert after.optimizer.warmup == 10  # 5 % of 200 steps
    assert after.optimizer.ema**200 == pytest.approx(before.optimizer.ema**3200)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_all_steps_together_decay_the_weights_as_much(name):
    """The decay of a step is the learning rate times the weight decay, for either rule."""

    def decayed(given):
        return given.steps * given.optimizer.learning_rate * given.optimizer.weight_decay

    assert decayed(scaled_to_batch(stage(name), 128)) == pytest.approx(decayed(stage(name)))


def test_the_same_batch_changes_nothing():
    assert scaled_to_batch(stage("adamw", warmup=9), 8) == stage("adamw", warmup=9)
