"""Properties of every elementwise loss: derivatives, dtypes, transformations and errors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax import losses

REGISTERED = losses.LOSSES.registered()  # new losses of this package are tested here automatically
ALL_LOSSES = [*(loss.function for loss in REGISTERED.values()), losses.adaptive_wing_loss]
CHOSEN_HYPER = {  # hyper-parameters for losses where 1.5 times the defaults tests less
    "wing": {"width": 15.0, "epsilon": 3.0},
    "rectified_wing": {"width": 6.0, "epsilon": 0.5, "rectification": 1.0},
    "soft_wing": {"linear_width": 1.0, "width": 8.0, "epsilon": 2.0},
}
HYPER_CASES = [
    *(
        pytest.param(
            loss.function,
            CHOSEN_HYPER.get(name) or {label: 1.5 * value for label, value in loss.parameters.items()},
            id=name,
        )
        for name, loss in REGISTERED.items()
        if loss.parameters
    ),
    pytest.param(
        losses.adaptive_wing_loss, {"alpha": 2.5, "omega": 10.0, "epsilon": 0.7, "theta": 0.4}, id="adaptive_wing"
    ),
]
every_loss = pytest.mark.parametrize("loss", ALL_LOSSES, ids=lambda loss: loss.__name__)
hyper_loss = pytest.mark.parametrize(("loss", "hyper"), HYPER_CASES)


def pair(loss, shape=(4, 19, 2)):
    """Predicted and target: coordinates, or gray values of a heat map."""
    generator = np.random.default_rng(1)
    if loss is losses.adaptive_wing_loss:
        return tuple(jnp.asarray(generator.uniform(size=shape), jnp.float32) for _ in range(2))
    target = generator.uniform(0, 64, size=shape)
    predicted = target + generator.normal(scale=12, size=shape)
    return jnp.asarray(predicted, jnp.float32), jnp.asarray(target, jnp.float32)


def widened(values):
    return np.asarray(values).astype(np.float32)


def of_error(loss, **hyper):
    """The loss as a function of the error alone, the target being 0."""
    return lambda x: loss(x, jnp.zeros_like(x), **hyper)


@pytest.mark.slow
@every_loss
def test_gradient_at_zero_error_is_zero(loss):
    @jax.jit
    def computed(predicted, target):
        gradient = jax.grad(lambda predicted: loss(predicted, target).sum())
        value, slope = jax.jvp(lambda predicted: loss(predicted, target), (predicted,), (predicted + 1,))
        return value, slope, gradient(predicted)

    values = np.linspace(0, 1, 11, dtype=np.float32)
    for result in computed(values, values):
        np.testing.assert_array_equal(result, 0)


@pytest.mark.slow
@every_loss
def test_gradient_is_the_finite_difference(loss):
    with jax.enable_x64(True):
        predicted, target = (jnp.asarray(values, jnp.float64) for values in pair(loss))
        step = 1e-6

        @jax.jit
        def gradients_and_differences(p, y):
            by_predicted = loss(p + step, y) - loss(p - step, y)
            by_target = loss(p, y + step) - loss(p, y - step)
            return jax.grad(lambda p, y: loss(p, y).sum(), (0, 1))(p, y), (by_predicted, by_target)

        for gradient, difference in zip(*gradients_and_differences(predicted, target), strict=True):
            np.testing.assert_allclose(gradient, difference / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@every_loss
def test_forward_and_reverse_mode_agree_to_second_order(loss):
    predicted, target = pair(loss, (7,))
    one = np.ones_like(predicted)

    def forward(p):
        return jax.jvp(lambda q: loss(q, target), (p,), (one,))[1]

    def reverse(p):
        return jax.vjp(lambda q: loss(q, target), p)[1](one)[0]

    @jax.jit
    def derivatives(p):
        second = jax.vmap(jax.grad(jax.grad(loss)))(p, target)
        return forward(p), reverse(p), second, jax.jvp(reverse, (p,), (one,))[1], jax.vjp(forward, p)[1](one)[0]

    by_jvp, by_vjp, second, forward_over_reverse, reverse_over_forward = derivatives(predicted)
    np.testing.assert_allclose(by_jvp, by_vjp, rtol=1e-5)
    np.testing.assert_allclose(forward_over_reverse, second, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reverse_over_forward, second, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@every_loss
def test_derivatives_are_never_nan(loss):
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


@pytest.mark.slow
@every_loss
def test_nan_error_gives_nan(loss):
    value, slope = jax.jit(jax.value_and_grad(of_error(loss)))(np.float32(np.nan))
    assert np.isnan(value)
    assert np.isnan(slope)


@pytest.mark.slow
@hyper_loss
def test_gradient_of_hyper_parameters_is_the_finite_difference(loss, hyper):
    with jax.enable_x64(True):
        predicted, target = (jnp.asarray(values, jnp.float64) for values in pair(loss))
        total = jax.jit(lambda numbers: loss(predicted, target, **numbers).sum())
        gradient = jax.jit(jax.grad(total))(hyper)
        for name, value in hyper.items():
            sides = [float(total(hyper | {name: value + sign * 1e-7})) for sign in (1, -1)]
            assert gradient[name] == pytest.approx((sides[0] - sides[1]) / 2e-7, rel=1e-4, abs=1e-4)


@pytest.mark.slow
@every_loss
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_shape_and_dtype_are_kept(loss, dtype):
    predicted, target = (np.asarray(values).astype(dtype) for values in pair(loss))
    compiled = jax.jit(loss)
    value = compiled(predicted, target)
    assert (value.shape, value.dtype) == (predicted.shape, dtype)
    exact = compiled(predicted.astype(np.float32), target.astype(np.float32))
    np.testing.assert_allclose(widened(value), exact, rtol=float(jnp.finfo(dtype).eps), atol=1e-6)
    assert jax.eval_shape(jax.grad(lambda p: loss(p, target).sum()), predicted).dtype == dtype


@pytest.mark.slow
@every_loss
def test_float64_is_kept(loss):
    with jax.enable_x64(True):
        predicted, target = (jnp.asarray(values, jnp.float64) for values in pair(loss))
        assert jax.eval_shape(loss, predicted, target).dtype == jnp.float64


@pytest.mark.slow
@every_loss
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_types_stay_finite(loss, dtype):
    x = np.r_[0, np.geomspace(1e-7, 1e4, 80)].astype(dtype)
    compiled = jax.jit(jax.vmap(jax.value_and_grad(of_error(loss))))
    values, slopes = map(widened, compiled(x))
    assert np.isfinite(values).all()
    assert np.isfinite(slopes).all()
    assert (np.diff(values) >= 0).all()
    exact, steep = compiled(x.astype(np.float32))
    largest = float(jnp.finfo(dtype).max)
    np.testing.assert_allclose(values, np.minimum(exact, largest), rtol=2 * float(jnp.finfo(dtype).eps), atol=1e-6)
    np.testing.assert_allclose(slopes, steep, rtol=4 * float(jnp.finfo(dtype).eps), atol=1e-6)


@pytest.mark.slow
@every_loss
def test_non_finite_errors_stay_non_finite(loss):
    compiled, bad = jax.jit(of_error(loss)), np.float32([np.nan, np.inf])
    expected = compiled(bad)
    assert not np.isfinite(expected).any()
    for dtype in (jnp.bfloat16, jnp.float16):
        np.testing.assert_array_equal(widened(compiled(bad.astype(dtype))), expected)  # infinity does not become NaN


@pytest.mark.slow
@every_loss
def test_numpy_arguments_give_a_jax_result(loss):
    predicted, target = pair(loss)
    value = loss(np.asarray(predicted), np.asarray(target))
    assert isinstance(value, jax.Array)
    np.testing.assert_array_equal(value, loss(predicted, target))


@pytest.mark.slow
@every_loss
def test_jit_matches_eager(loss):
    predicted, target = pair(loss)
    np.testing.assert_allclose(jax.jit(loss)(predicted, target), loss(predicted, target), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@every_loss
def test_vmap_matches_a_loop(loss):
    predicted, target = pair(loss)
    compiled = jax.jit(loss)
    loop = [compiled(*arguments) for arguments in zip(np.asarray(predicted), np.asarray(target), strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(predicted, target), np.stack(loop), rtol=1e-6)


@pytest.mark.slow
@every_loss
def test_pmap_matches_vmap(loss):
    devices = jax.local_device_count()
    predicted, target = pair(loss, (devices, 3, 5, 2))
    step = jax.value_and_grad(lambda p, y: loss(p, y).sum())
    value, gradient = jax.pmap(step)(predicted, target)
    expected_value, expected_gradient = jax.jit(jax.vmap(step))(predicted, target)
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


@every_loss
def test_broadcasting_and_integers_raise(loss, unchecked):
    predicted, target = pair(loss)
    with pytest.raises(ValueError, match="pass arrays of the same shape"):
        loss(predicted, target[:1])
    with pytest.raises(ValueError, match="pass arrays of the same shape"):
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


@pytest.mark.slow
def test_zero_hyper_parameters_raise_only_where_they_divide(unchecked):
    x = jnp.arange(3.0)
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
    with pytest.raises(ValueError, match="use vmap to try several"):
        losses.wing_loss(x, x, width=np.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        *((loss, (4, 19, 1)) for loss in ALL_LOSSES),
        *((losses.wing_loss, shape) for shape in [(4, 19, 2), (19, 1), (1, 1, 2), ()]),  # every loss masks the same way
    ],
)
def test_where_excludes_elements_whatever_their_values(loss, shape):
    """As `where=` in optax: boolean, broadcastable; no loss, no gradient, and no NaN, where it is False."""
    predicted, target = pair(loss)
    where = np.random.default_rng(3).uniform(size=shape) < 0.5 if shape else np.asarray(False)
    full = np.broadcast_to(where, predicted.shape)
    expected = np.where(full, loss(predicted, target), 0)
    with_nan = [np.where(full, values, np.float32(np.nan)) for values in (predicted, target)]

    @jax.jit
    def value_and_gradients(predicted, target, where):
        function = lambda p, y: (loss(p, y, where=where).sum(), loss(p, y, where=where))  # noqa: E731
        return jax.value_and_grad(function, argnums=(0, 1), has_aux=True)(predicted, target)

    (_, value), gradients = value_and_gradients(*with_nan, where)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    (_, _), clean = value_and_gradients(predicted, target, where)
    for gradient, expected in zip(gradients, clean, strict=True):
        np.testing.assert_array_equal(gradient, expected)
        np.testing.assert_array_equal(np.asarray(gradient)[~full], 0)


@every_loss
def test_where_true_changes_nothing(loss):
    predicted, target = pair(loss)
    for where in (None, True, np.ones(predicted.shape, bool)):
        np.testing.assert_array_equal(loss(predicted, target, where=where), loss(predicted, target))


@every_loss
def test_where_of_another_shape_or_dtype_is_refused(loss, unchecked):
    predicted, target = pair(loss)
    for where in (np.ones((4, 19), bool), np.ones((5, 1, 1), bool), np.ones((4, 19, 1)), np.ones((2, 4, 19, 2), bool)):
        with pytest.raises(ValueError, match="pass booleans that broadcast"):
            loss(predicted, target, where=where)
