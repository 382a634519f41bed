"""The coordinate losses against NumPy and the paper: values, slopes, kinks, limits and properties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax import losses


def numpy_smooth_l1(x, beta=1.0):
    return np.piecewise(np.abs(x), [np.abs(x) < beta], [lambda y: y**2 / (2 * beta), lambda y: y - beta / 2])


def numpy_charbonnier(x, width=1.0):
    """Compute the definition, with a square root that does not overflow."""
    return width * (np.hypot(width, np.asarray(x, np.float64)) - width)


def numpy_wing(x, width=10.0, epsilon=2.0):
    """The form of the authors' lgLoss.m, which has no C: y + w * log((e + w) / (e * exp(1)))."""
    y = np.abs(x)
    far = y + width * np.log((epsilon + width) / (epsilon * np.exp(1)))
    return np.where(y < width, width * np.log(1 + y / epsilon), far)


def numpy_rectified_wing(x, width=10.0, epsilon=2.0, rectification=0.2):
    """A Wing loss of the error beyond r, with the width reduced by r but not the factor."""
    beyond = np.maximum(np.abs(x) - rectification, 0)
    meeting = width * np.log(1 + (width - rectification) / epsilon)
    return np.where(np.abs(x) < width, width * np.log(1 + beyond / epsilon), np.abs(x) - width + meeting)


def numpy_soft_wing(x, linear_width=2.0, width=20.0, epsilon=0.5):
    """The integral of 1 up to w1, of w2 / (e + x) from there on."""
    y = np.abs(x)
    rest = width * np.log((epsilon + np.maximum(y, linear_width)) / (epsilon + linear_width))
    return np.minimum(y, linear_width) + rest


REFERENCES = {
    losses.l2_loss: lambda x: x * x / 2,
    losses.l1_loss: np.abs,
    losses.smooth_l1_loss: numpy_smooth_l1,
    losses.charbonnier_loss: numpy_charbonnier,
    losses.wing_loss: numpy_wing,
    losses.rectified_wing_loss: numpy_rectified_wing,
    losses.soft_wing_loss: numpy_soft_wing,
}
every_loss = pytest.mark.parametrize("loss", REFERENCES, ids=lambda loss: loss.__name__)


def errors(shape=(4, 19, 2), scale=12.0, seed=0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def of_error(loss, **hyper):
    """The loss as a function of the error alone, the target being 0."""
    return lambda x: loss(x, jnp.zeros_like(x), **hyper)


@functools.cache
def compiled(loss):
    """(value, slope) of the loss at one error, its hyper-parameters traced."""
    return jax.jit(jax.value_and_grad(lambda x, hyper: loss(x, jnp.zeros_like(x), **hyper)))


def at(loss, x, **hyper):
    return float(compiled(loss)(jnp.asarray(x, float), hyper)[0])


def slope(loss, x, **hyper):
    return float(compiled(loss)(jnp.asarray(x, float), hyper)[1])


@pytest.mark.slow
@every_loss
def test_value_matches_numpy(loss):
    x = np.concatenate([errors().ravel(), [0, 0.2, 1, 2, 10, 500, 1e4]]).astype(np.float32)
    np.testing.assert_allclose(
        of_error(loss)(jnp.asarray(x)), REFERENCES[loss](x.astype(np.float64)), rtol=2e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    ("loss", "hyper"),
    [
        (losses.smooth_l1_loss, {"beta": 3.0}),
        (losses.charbonnier_loss, {"width": 3.0}),
        (losses.wing_loss, {"width": 15.0, "epsilon": 3.0}),
        (losses.rectified_wing_loss, {"width": 6.0, "epsilon": 0.5, "rectification": 1.0}),
        (losses.soft_wing_loss, {"linear_width": 1.0, "width": 8.0, "epsilon": 2.0}),
    ],
)
def test_value_with_other_hyper_parameters_matches_numpy(loss, hyper):
    x = errors()
    np.testing.assert_allclose(of_error(loss, **hyper)(jnp.asarray(x)), REFERENCES[loss](x, **hyper), rtol=5e-6)


@pytest.mark.parametrize(("width", "epsilon", "constant"), [(10.0, 2.0, -7.9176), (15.0, 3.0, -11.8764)])
def test_wing_constant_of_the_paper(width, epsilon, constant):
    x = 100.0
    assert x - at(losses.wing_loss, x, width=width, epsilon=epsilon) == pytest.approx(constant, abs=5e-5)


@pytest.mark.parametrize(("width", "epsilon"), [(10.0, 2.0), (15.0, 3.0)])
def test_wing_slopes_of_the_paper(width, epsilon):
    hyper = {"width": width, "epsilon": epsilon}
    assert slope(losses.wing_loss, 1e-6, **hyper) == pytest.approx(5)
    assert slope(losses.wing_loss, np.nextafter(np.float32(width), np.float32(0)), **hyper) == pytest.approx(
        0.83333, abs=1e-5
    )
    assert slope(losses.wing_loss, width, **hyper) == 1
    assert slope(losses.wing_loss, -width, **hyper) == -1


def test_slope_at_other_kinks_is_that_of_the_far_side():
    assert slope(losses.rectified_wing_loss, 0.19) == 0
    assert slope(losses.rectified_wing_loss, np.float32(0.2)) == pytest.approx(5)
    assert slope(losses.rectified_wing_loss, 10.0) == 1
    assert slope(losses.soft_wing_loss, 1.99) == 1
    assert slope(losses.soft_wing_loss, 2.0) == pytest.approx(8)
    assert slope(losses.smooth_l1_loss, 1.0) == 1


@pytest.mark.parametrize(
    ("loss", "kink", "hyper"),
    [
        (losses.smooth_l1_loss, 1.0, {}),
        (losses.smooth_l1_loss, 3.0, {"beta": 3.0}),
        (losses.wing_loss, 10.0, {}),
        (losses.wing_loss, 15.0, {"width": 15.0, "epsilon": 3.0}),
        (losses.rectified_wing_loss, 0.2, {}),
        (losses.rectified_wing_loss, 10.0, {}),
        (losses.soft_wing_loss, 2.0, {}),
    ],
)
def test_continuous_at_the_kink(loss, kink, hyper):
    with jax.enable_x64(True):
        below, above = at(loss, kink * (1 - 1e-12), **hyper), at(loss, kink * (1 + 1e-12), **hyper)
        assert below == pytest.approx(above, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.5, 1.0, 10.0])
def test_charbonnier_is_exact_from_the_smallest_to_the_largest_errors(width):
    """Evaluated literally in float32, the definition is 0 below |x| / width = 2e-4 and infinite beyond 1e19."""
    x = np.geomspace(1e-15, 1e35, 301).astype(np.float32)
    value, slopes = jax.vmap(jax.value_and_grad(of_error(losses.charbonnier_loss, width=width)))(jnp.asarray(x))
    scaled = x.astype(np.float64) / width
    np.testing.assert_allclose(value, x.astype(np.float64) ** 2 / (1 + np.hypot(1, scaled)), rtol=1e-6)
    np.testing.assert_allclose(slopes, x / np.hypot(1, scaled), rtol=1e-6)


def test_charbonnier_turns_smoothly_and_is_rescaled_as_a_square():
    value, slopes = (
        [of(losses.charbonnier_loss, x, width=10.0) for x in (np.nextafter(np.float32(10), np.float32(0)), 10.0)]
        for of in (at, slope)
    )
    np.testing.assert_allclose(value, 100 * (np.sqrt(2) - 1), rtol=1e-6)
    np.testing.assert_allclose(slopes, 10 / np.sqrt(2), rtol=1e-6)
    rescaled = losses.make_loss("charbonnier", working_extent=1.0, width=5.0)  # pixels of 64; the error is in fractions
    np.testing.assert_allclose(rescaled(jnp.float32(3 / 64), jnp.float32(0)), numpy_charbonnier(3, 5), rtol=1e-6)


def test_limits():
    x = jnp.asarray(errors())
    far_epsilon = losses.wing_loss(x, 0 * x, width=1e3, epsilon=1e6)
    np.testing.assert_allclose(far_epsilon, 1e-3 * jnp.abs(x), rtol=1e-4)
    np.testing.assert_allclose(losses.smooth_l1_loss(x, 0 * x, beta=1e-6), jnp.abs(x), rtol=1e-4)
    np.testing.assert_array_equal(losses.rectified_wing_loss(x, 0 * x, rectification=0), losses.wing_loss(x, 0 * x))
    pure = losses.soft_wing_loss(x, 0 * x, linear_width=0.0, width=20.0, epsilon=0.5)
    np.testing.assert_allclose(pure, 20 * np.log(1 + np.abs(x) / 0.5), rtol=1e-6)


def test_tiny_errors_are_not_rounded_away():
    assert at(losses.wing_loss, 1e-8) == pytest.approx(5e-8, rel=1e-5)
    small = jnp.asarray(1e-3, jnp.bfloat16)
    assert float(losses.wing_loss(small, 0 * small)) == pytest.approx(5e-3, rel=5e-3)


@every_loss
def test_infinite_error_has_the_slope_of_a_large_one(loss):
    if loss is losses.l2_loss:
        assert slope(loss, np.inf) == np.inf
    else:
        expected = 0 if loss is losses.soft_wing_loss else 1
        assert slope(loss, np.inf) == expected
        assert slope(loss, -np.inf) == -expected


def test_a_sweep_over_width_and_epsilon_by_vmap():
    x = jnp.asarray(errors((5, 2)))
    widths, epsilons = jnp.asarray([4, 10, 14]), jnp.asarray([0.5, 2.0])
    sweep = jax.vmap(jax.vmap(lambda w, e: losses.wing_loss(x, 0 * x, width=w, epsilon=e), (None, 0)), (0, None))
    expected = [[numpy_wing(np.asarray(x), w, e) for e in (0.5, 2.0)] for w in (4, 10, 14)]
    np.testing.assert_allclose(jax.jit(sweep)(widths, epsilons), expected, rtol=1e-5)


numbers = functools.partial(st.floats, allow_subnormal=False, width=32)


@every_loss
@settings(max_examples=30)
@given(x=numbers(-1e3, 1e3))
def test_symmetric(loss, x):
    assert at(loss, x) == at(loss, -x)
    assert slope(loss, x) == -slope(loss, -x)


@every_loss
@settings(max_examples=30)
@given(small=numbers(0, 100), more=numbers(0, 100))
def test_never_negative_and_monotone(loss, small, more):
    value, larger = at(loss, small), at(loss, small + more)
    assert 0 <= value <= larger * (1 + 1e-5) + 1e-6


@settings(max_examples=30)
@given(x=numbers(-100, 100), width=numbers(4, 14), ratio=numbers(1.75, 20))
def test_wing_is_not_below_l1_for_a_ratio_from_e_minus_1(x, width, ratio):
    """From |x| = w on it is L1 - C, and C = w - w ln(1 + w / epsilon) is negative if w / epsilon > e - 1 = 1.718."""
    subnormal = 1e-30  # XLA flushes numbers below 1.2e-38 to 0
    assert at(losses.wing_loss, x, width=width, epsilon=width / ratio) >= abs(x) * (1 - 1e-5) - subnormal


@settings(max_examples=30)
@given(x=numbers(-100, 100), width=numbers(1, 20), epsilon=numbers(0.25, 5), scale=st.sampled_from([2, 64, 128, 1 / 3]))
def test_wing_is_homogeneous(x, width, epsilon, scale):
    with jax.enable_x64(True):
        value = at(losses.wing_loss, x / scale, width=width / scale, epsilon=epsilon / scale)
        assert value * scale == pytest.approx(at(losses.wing_loss, x, width=width, epsilon=epsilon), rel=1e-9, abs=1e-9)
