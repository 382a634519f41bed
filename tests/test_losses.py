"""The coordinate losses: values against NumPy, slopes, limits, and what holds for every elementwise loss."""

import functools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax import losses


def numpy_smooth_l1(x, beta=1.0):
    return np.piecewise(np.abs(x), [np.abs(x) < beta], [lambda y: y**2 / (2 * beta), lambda y: y - beta / 2])


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
    losses.wing_loss: numpy_wing,
    losses.rectified_wing_loss: numpy_rectified_wing,
    losses.soft_wing_loss: numpy_soft_wing,
}
COORDINATE = list(REFERENCES)
EVERY = [*COORDINATE, losses.adaptive_wing_loss]
HYPER = [  # (loss, parameters unlike the defaults)
    (losses.smooth_l1_loss, {"beta": 3.0}),
    (losses.wing_loss, {"width": 15.0, "epsilon": 3.0}),
    (losses.rectified_wing_loss, {"width": 6.0, "epsilon": 0.5, "rectification": 1.0}),
    (losses.soft_wing_loss, {"linear_width": 1.0, "width": 8.0, "epsilon": 2.0}),
    (losses.adaptive_wing_loss, {"alpha": 2.5, "omega": 10.0, "epsilon": 0.7, "theta": 0.4}),
]

every_loss = pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.__name__)
coordinate_loss = pytest.mark.parametrize("loss", COORDINATE, ids=lambda loss: loss.__name__)
hyper_loss = pytest.mark.parametrize(("loss", "hyper"), HYPER, ids=lambda case: getattr(case, "__name__", ""))


@pytest.fixture
def unchecked(monkeypatch):
    """As users run it: no type checks, so that wrong input reaches the code."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def errors(shape=(4, 19, 2), scale=12.0, seed=0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def pair(loss, shape=(4, 19, 2)):
    """Predicted and target: coordinates, or grey values of a heat map."""
    generator = np.random.default_rng(1)
    if loss is losses.adaptive_wing_loss:
        return tuple(jnp.asarray(generator.uniform(size=shape), jnp.float32) for _ in range(2))
    target = generator.uniform(0, 64, size=shape)
    return jnp.asarray(target + errors(shape), jnp.float32), jnp.asarray(target, jnp.float32)


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


# Values


@coordinate_loss
def test_value_is_numpys(loss):
    x = np.concatenate([errors().ravel(), [0, 0.2, 1, 2, 10, 500, 1e4]]).astype(np.float32)
    np.testing.assert_allclose(
        of_error(loss)(jnp.asarray(x)), REFERENCES[loss](x.astype(np.float64)), rtol=2e-6, atol=1e-7
    )


@pytest.mark.parametrize(("loss", "hyper"), HYPER[:-1], ids=lambda case: getattr(case, "__name__", ""))
def test_value_with_other_hyper_parameters_is_numpys(loss, hyper):
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


def test_slopes_at_the_other_kinks_are_of_the_far_side():
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


# Gradients


@every_loss
def test_gradient_at_zero_error_is_zero(loss):
    values = jnp.linspace(0, 1, 11)
    gradient = jax.grad(lambda predicted: loss(predicted, values).sum())
    np.testing.assert_array_equal(gradient(values), 0)
    np.testing.assert_array_equal(jax.jvp(lambda p: loss(p, values), (values,), (values + 1,))[1], 0)
    np.testing.assert_array_equal(loss(values, values), 0)


@every_loss
def test_gradient_is_the_finite_difference(loss):
    with jax.enable_x64(True):
        predicted, target = (jnp.asarray(values, jnp.float64) for values in pair(loss))
        function, step = jax.jit(loss), 1e-6
        by_predicted, by_target = jax.jit(jax.grad(lambda *both: loss(*both).sum(), (0, 1)))(predicted, target)
        difference = function(predicted + step, target) - function(predicted - step, target)
        np.testing.assert_allclose(by_predicted, difference / (2 * step), rtol=1e-6, atol=1e-7)
        difference = function(predicted, target + step) - function(predicted, target - step)
        np.testing.assert_allclose(by_target, difference / (2 * step), rtol=1e-6, atol=1e-7)


@every_loss
def test_forward_and_reverse_mode_agree_to_second_order(loss):
    predicted, target = pair(loss, (7,))
    one = jnp.ones_like(predicted)

    def forward(p):
        return jax.jvp(lambda q: loss(q, target), (p,), (one,))[1]

    def reverse(p):
        return jax.vjp(lambda q: loss(q, target), p)[1](one)[0]

    @jax.jit
    def everything(p):
        second = jax.vmap(jax.grad(jax.grad(loss)))(p, target)
        return forward(p), reverse(p), second, jax.jvp(reverse, (p,), (one,))[1], jax.vjp(forward, p)[1](one)[0]

    by_jvp, by_vjp, second, forward_over_reverse, reverse_over_forward = everything(predicted)
    np.testing.assert_allclose(by_jvp, by_vjp, rtol=1e-5)
    np.testing.assert_allclose(forward_over_reverse, second, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reverse_over_forward, second, rtol=1e-4, atol=1e-6)


@every_loss
def test_nothing_is_ever_nan(loss):
    offsets = np.asarray([0, 1e-38, 1e-30, 1e-8, 0.2, 0.5, 1, 2, 10, 1e4, 1e15], np.float32)
    target = np.repeat(np.asarray([[0], [0.3], [1]], np.float32), 2 * len(offsets), axis=1)
    predicted = target + np.r_[offsets, -offsets]

    @jax.jit
    @functools.partial(jnp.vectorize, signature="(),()->(k)")
    def derivatives(p, y):
        first = jax.grad(loss, (0, 1))
        second = jax.hessian(loss, (0, 1))
        return jnp.stack(jax.tree.leaves((loss(p, y), first(p, y), second(p, y))))

    values = derivatives(predicted, target)
    assert values.shape[-1] == 1 + 2 + 4
    assert np.isfinite(values).all()


@coordinate_loss
def test_infinite_error_has_the_slope_of_a_large_one(loss):
    if loss is losses.l2_loss:
        assert slope(loss, np.inf) == np.inf
    else:
        expected = 0 if loss is losses.soft_wing_loss else 1
        assert slope(loss, np.inf) == expected
        assert slope(loss, -np.inf) == -expected


@every_loss
def test_nan_is_not_hidden(loss):
    assert math.isnan(at(loss, np.nan))
    assert math.isnan(slope(loss, np.nan))


@hyper_loss
def test_gradient_of_hyper_parameters_is_the_finite_difference(loss, hyper):
    with jax.enable_x64(True):
        predicted, target = (jnp.asarray(values, jnp.float64) for values in pair(loss))
        total = jax.jit(lambda numbers: loss(predicted, target, **numbers).sum())
        gradient = jax.grad(total)(hyper)
        for name, value in hyper.items():
            sides = [float(total(hyper | {name: value + sign * 1e-7})) for sign in (1, -1)]
            assert gradient[name] == pytest.approx((sides[0] - sides[1]) / 2e-7, rel=1e-4, abs=1e-4)


# The list of every op


@every_loss
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_shape_and_dtype_are_kept(loss, dtype):
    predicted, target = (values.astype(dtype) for values in pair(loss))
    value = loss(predicted, target)
    assert (value.shape, value.dtype) == (predicted.shape, dtype)
    exact = loss(predicted.astype(jnp.float32), target.astype(jnp.float32))
    np.testing.assert_allclose(value.astype(jnp.float32), exact, rtol=float(jnp.finfo(dtype).eps), atol=1e-6)
    assert jax.grad(lambda p: loss(p, target).sum())(predicted).dtype == dtype


@every_loss
def test_float64_is_kept(loss):
    with jax.enable_x64(True):
        predicted, target = (jnp.asarray(values, jnp.float64) for values in pair(loss))
        assert loss(predicted, target).dtype == jnp.float64


@every_loss
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_types_stay_finite(loss, dtype):
    largest = {losses.l2_loss: 361.0, losses.adaptive_wing_loss: 1.0}.get(loss, 1e4) if dtype == jnp.float16 else 1e4
    x = jnp.asarray(np.r_[0, np.geomspace(1e-7, largest, 50)], dtype)
    assert np.isfinite(of_error(loss)(x).astype(jnp.float32)).all()
    assert np.isfinite(jax.jit(jax.vmap(jax.grad(of_error(loss))))(x).astype(jnp.float32)).all()


@every_loss
def test_numpy_in_jax_out(loss):
    predicted, target = pair(loss)
    value = loss(np.asarray(predicted), np.asarray(target))
    assert isinstance(value, jax.Array)
    np.testing.assert_array_equal(value, loss(predicted, target))


@every_loss
def test_jit_is_eager(loss):
    predicted, target = pair(loss)
    np.testing.assert_allclose(jax.jit(loss)(predicted, target), loss(predicted, target), rtol=1e-5, atol=1e-6)


@every_loss
def test_vmap_is_a_loop(loss):
    predicted, target = pair(loss)
    loop = [loss(*both) for both in zip(predicted, target, strict=True)]
    np.testing.assert_allclose(jax.vmap(loss)(predicted, target), jnp.stack(loop), rtol=1e-6)


@every_loss
def test_pmap_is_one_device(loss):
    devices = jax.local_device_count()
    predicted, target = pair(loss, (devices, 3, 5, 2))
    step = jax.value_and_grad(lambda p, y: loss(p, y).sum())
    value, gradient = jax.pmap(step)(predicted, target)
    expected_value, expected_gradient = jax.vmap(step)(predicted, target)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@hyper_loss
def test_no_recompilation_for_other_values(loss, hyper):
    predicted, target = pair(loss)
    compiled = jax.jit(lambda p, y, numbers: loss(p, y, **numbers))
    compiled(predicted, target, hyper)
    other = {name: 1.01 * value for name, value in hyper.items()}
    with jax.no_tracing():
        value = compiled(predicted, target, other)
    np.testing.assert_allclose(value, loss(predicted, target, **other), rtol=1e-5, atol=1e-6)


def test_a_sweep_over_width_and_epsilon_by_vmap():
    x = jnp.asarray(errors((5, 2)))
    widths, epsilons = jnp.asarray([4, 10, 14]), jnp.asarray([0.5, 2.0])
    sweep = jax.vmap(jax.vmap(lambda w, e: losses.wing_loss(x, 0 * x, width=w, epsilon=e), (None, 0)), (0, None))
    expected = [[numpy_wing(np.asarray(x), w, e) for e in (0.5, 2.0)] for w in (4, 10, 14)]
    np.testing.assert_allclose(jax.jit(sweep)(widths, epsilons), expected, rtol=1e-5)


@every_loss
def test_broadcasting_and_whole_numbers_are_refused(loss, unchecked):
    predicted, target = pair(loss)
    with pytest.raises(ValueError, match="make the shapes alike"):
        loss(predicted, target[:1])
    with pytest.raises(ValueError, match="make the shapes alike"):
        loss(predicted, jnp.zeros(()))
    with pytest.raises(ValueError, match="target is uint8: convert it"):
        loss(predicted, target.astype(jnp.uint8))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, np.float32(-2), -3])
@hyper_loss
def test_numbers_out_of_range_are_refused(loss, hyper, bad):
    predicted, target = pair(loss)
    for name in hyper:
        with pytest.raises(ValueError, match=f"{name} is "):
            loss(predicted, target, **hyper | {name: bad})


def test_zero_is_refused_where_it_divides_and_taken_where_it_means_something():
    x = jnp.asarray(errors((3,)))
    for loss, name in [
        (losses.smooth_l1_loss, "beta"),
        (losses.wing_loss, "width"),
        (losses.wing_loss, "epsilon"),
        (losses.soft_wing_loss, "epsilon"),
    ]:
        with pytest.raises(ValueError, match="above 0"):
            loss(x, x, **{name: 0})
    losses.rectified_wing_loss(x, x, rectification=0)
    losses.soft_wing_loss(x, x, linear_width=0)
    with pytest.raises(ValueError, match="below the width"):
        losses.rectified_wing_loss(x, x, width=3, rectification=3)
    with pytest.raises(ValueError, match="vmap to try several"):
        losses.wing_loss(x, x, width=np.ones(3))


# Properties

numbers = functools.partial(st.floats, allow_subnormal=False, width=32)


@coordinate_loss
@settings(max_examples=30, deadline=None)
@given(x=numbers(-1e3, 1e3))
def test_symmetric(loss, x):
    assert at(loss, x) == at(loss, -x)
    assert slope(loss, x) == -slope(loss, -x)


@coordinate_loss
@settings(max_examples=30, deadline=None)
@given(small=numbers(0, 100), more=numbers(0, 100))
def test_never_negative_and_monotone(loss, small, more):
    value, larger = at(loss, small), at(loss, small + more)
    assert 0 <= value <= larger * (1 + 1e-5) + 1e-6


@settings(max_examples=30, deadline=None)
@given(x=numbers(-100, 100), width=numbers(4, 14), epsilon=numbers(0.5, 3))
def test_wing_is_above_l1_where_it_is_a_wing(x, width, epsilon):
    """Its slope exceeds 1 up to |x| = w - e, and what is lost from there to w is less than what was gained."""
    assert at(losses.wing_loss, x, width=width, epsilon=epsilon) >= abs(x) * (1 - 1e-5)


@settings(max_examples=30, deadline=None)
@given(x=numbers(-100, 100), width=numbers(1, 20), epsilon=numbers(0.25, 5), scale=st.sampled_from([2, 64, 128, 1 / 3]))
def test_wing_is_homogeneous(x, width, epsilon, scale):
    with jax.enable_x64(True):
        value = at(losses.wing_loss, x / scale, width=width / scale, epsilon=epsilon / scale)
        assert value * scale == pytest.approx(at(losses.wing_loss, x, width=width, epsilon=epsilon), rel=1e-9, abs=1e-9)
