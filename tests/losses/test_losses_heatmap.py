"""The adaptive Wing loss: value, continuity, slopes and the weighted map. See also test_losses.py."""

import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax import losses


def plain_adaptive_wing(predicted, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    """Compute the loss pixel by pixel, as the paper defines it."""
    values = []
    for p, y in zip(predicted.ravel().tolist(), target.ravel().tolist(), strict=True):
        d, q = abs(y - p), theta / epsilon
        slope = omega * (1 / (1 + q ** (alpha - y))) * (alpha - y) * q ** (alpha - y - 1) / epsilon
        constant = theta * slope - omega * np.log(1 + q ** (alpha - y))
        values.append(omega * np.log(1 + (d / epsilon) ** (alpha - y)) if d < theta else slope * d - constant)
    return np.reshape(values, predicted.shape)


def maps(shape=(2, 6, 5, 3), seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-0.5, 1.5, shape).astype(np.float32), generator.uniform(0, 1, shape).astype(np.float32)


def value_and_slope(distance, target, **hyper):
    loss = jax.value_and_grad(lambda p: losses.adaptive_wing_loss(p, jnp.asarray(target), **hyper))
    return tuple(float(value) for value in loss(jnp.asarray(target + distance)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "hyper", [{}, {"alpha": 2.5, "omega": 10.0, "epsilon": 0.7, "theta": 0.4}], ids=["default", "other"]
)
def test_value_matches_the_paper(hyper):
    predicted, target = maps()
    value = losses.adaptive_wing_loss(predicted, target, **hyper)
    np.testing.assert_allclose(value, plain_adaptive_wing(predicted, target, **hyper), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "theta", "epsilon"), list(itertools.product([0.0, 0.4, 1.0], [0.5, 0.3], [1.0, 0.5]))
)
def test_value_and_slope_are_continuous_at_theta(target, theta, epsilon):
    with jax.enable_x64(True):
        near, far = (value_and_slope(theta + side * 1e-9, target, theta=theta, epsilon=epsilon) for side in (-1, 1))
        assert near[0] == pytest.approx(far[0], abs=1e-6)
        assert near[1] == pytest.approx(far[1], abs=1e-6)


@pytest.mark.slow
def test_bright_pixels_weigh_more_next_to_zero_error():
    assert value_and_slope(0.01, 1.0)[1] > 10 * value_and_slope(0.01, 0.0)[1]


def test_dark_pixels_are_nearly_quadratic():
    small, double = value_and_slope(0.01, 0.0)[0], value_and_slope(0.02, 0.0)[0]
    assert double / small == pytest.approx(2**2.1, rel=1e-3)


def test_alpha_must_keep_the_exponent_above_one():
    predicted, target = maps((2, 2))
    with pytest.raises(ValueError, match=r"alpha is 2\.0: it must be a finite number above 2"):
        losses.adaptive_wing_loss(predicted, target, alpha=2.0)


@pytest.mark.slow
@settings(max_examples=25)
@given(distance=st.floats(0, 2, width=32), more=st.floats(0, 2, width=32), target=st.floats(0, 1, width=32))
def test_symmetric_never_negative_and_monotone(distance, more, target):
    with jax.enable_x64(True):
        value, slope = value_and_slope(distance, target)
        mirrored, opposite = value_and_slope(-distance, target)
        assert mirrored == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert opposite == pytest.approx(-slope, rel=1e-6, abs=1e-12)
        assert 0 <= value <= value_and_slope(distance + more, target)[0] + 1e-12


def test_weights_by_hand():
    target = np.zeros((5, 6, 2), np.float32)
    target[0, 0, 0], target[2, 3, 1], target[4, 5, 1] = 0.2, 1.0, 0.19
    expected = np.ones_like(target)
    expected[:2, :2, 0] = 11
    expected[1:4, 2:5, 1] = 11
    np.testing.assert_array_equal(losses.adaptive_wing_weights(jnp.asarray(target)), expected)


@pytest.mark.parametrize("shape", [(4, 4, 1), (3, 7, 5, 2), (2, 3, 6, 6, 2)])
def test_weights_match_a_loop_over_windows(shape):
    target = np.random.default_rng(1).uniform(0, 0.3, shape).astype(np.float32)
    expected = np.empty_like(target)
    for *batch, row, column, point in np.ndindex(shape):
        window = target[(*batch, slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2), point)]
        expected[(*batch, row, column, point)] = 5 * (window.max() >= 0.25) + 1
    weights = jax.jit(lambda maps: losses.adaptive_wing_weights(maps, threshold=0.25, gain=5))(target)
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_weights_keep_the_dtype_and_are_constant(dtype):
    target = jnp.asarray(maps()[1], dtype)
    assert losses.adaptive_wing_weights(target).dtype == dtype
    gradient = jax.grad(lambda maps: losses.adaptive_wing_weights(maps).astype(jnp.float32).sum())(target)
    np.testing.assert_array_equal(gradient.astype(jnp.float32), 0)


@pytest.mark.slow
def test_weights_under_vmap_and_pmap():
    target = jnp.asarray(maps((jax.local_device_count(), 6, 5, 3))[1])
    expected = losses.adaptive_wing_weights(target)
    np.testing.assert_array_equal(jax.vmap(losses.adaptive_wing_weights)(target), expected)
    np.testing.assert_array_equal(jax.pmap(losses.adaptive_wing_weights)(target), expected)


def test_weights_raise_for_other_shapes_and_negative_gain(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="height, width, points"):
        losses.adaptive_wing_weights(jnp.zeros((4, 4)))
    with pytest.raises(ValueError, match="gain is -1"):
        losses.adaptive_wing_weights(jnp.zeros((4, 4, 1)), gain=-1)
