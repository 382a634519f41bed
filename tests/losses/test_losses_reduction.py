"""Reductions of the losses, and hidden points."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from wing_jax import losses

SHAPE = (3, 5, 2)
reductions = pytest.mark.parametrize(
    "reduce", [losses.sum_over_points_mean_over_batch, losses.masked_mean], ids=["paper", "mean"]
)
masks = arrays.arrays(bool, SHAPE[:2])


def loss_values(shape=SHAPE):
    return np.random.default_rng(0).uniform(1, 9, shape).astype(np.float32)


def some_hidden():
    visible = np.ones(SHAPE[:2], bool)
    visible[0, 1:] = visible[2, 0] = False
    return visible


def reduce_by_loop(loss, visible):
    """Return the sum over visible coordinates and their number, in plain Python."""
    total, count = 0.0, 0
    for face, point, axis in np.ndindex(loss.shape):
        if visible[face, point]:
            total, count = total + float(loss[face, point, axis]), count + 1
    return total, count


@settings(max_examples=25)
@given(visible=masks)
def test_values_match_a_loop(visible):
    total, count = reduce_by_loop(loss_values(), visible)
    assert float(losses.sum_over_points_mean_over_batch(loss_values(), visible)) == pytest.approx(total / 3, rel=1e-6)
    assert float(losses.masked_mean(loss_values(), visible)) == pytest.approx(total / max(count, 1), rel=1e-6)


def test_without_a_mask_all_points_count():
    everything = np.ones(SHAPE[:2], bool)
    assert float(losses.sum_over_points_mean_over_batch(loss_values())) == pytest.approx(loss_values().sum() / 3)
    assert float(losses.masked_mean(loss_values())) == pytest.approx(loss_values().mean())
    for reduce in (losses.sum_over_points_mean_over_batch, losses.masked_mean):
        assert reduce(loss_values()) == reduce(loss_values(), everything)


def test_sum_over_points_is_2l_times_the_mean():
    assert float(losses.sum_over_points_mean_over_batch(loss_values())) == pytest.approx(
        2 * 5 * float(losses.masked_mean(loss_values()))
    )


@reductions
def test_nothing_visible_or_no_face_is_zero(reduce):
    value, gradient = jax.value_and_grad(reduce)(jnp.asarray(loss_values()), np.zeros(SHAPE[:2], bool))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    assert reduce(jnp.zeros((0, 5, 2))) == 0


@reductions
def test_masked_values_do_not_matter_even_nan(reduce):
    loss, visible = loss_values(), some_hidden()
    with_nan = np.where(visible[..., None], loss, np.nan).astype(np.float32)
    assert reduce(with_nan, visible) == reduce(loss, visible)


@pytest.mark.slow
@reductions
@pytest.mark.parametrize("loss", [losses.wing_loss, losses.l2_loss, losses.adaptive_wing_loss])
@pytest.mark.parametrize("nan_in", ["target", "predicted"])
def test_mask_points_keeps_the_gradient_finite(reduce, loss, nan_in):
    visible = some_hidden()
    generator = np.random.default_rng(2)
    inputs = {name: generator.uniform(0, 1, SHAPE).astype(np.float32) for name in ("predicted", "target")}

    @jax.jit
    def value_and_gradient(predicted, target):
        return jax.value_and_grad(lambda p: reduce(loss(*losses.mask_points(p, target, visible)), visible))(predicted)

    clean_value, clean_gradient = value_and_gradient(**inputs)
    inputs[nan_in] = np.where(visible[..., None], inputs[nan_in], np.nan)
    value, gradient = value_and_gradient(**inputs)
    assert value == clean_value
    np.testing.assert_array_equal(gradient, clean_gradient)
    np.testing.assert_array_equal(gradient[~visible], 0)
    assert (np.asarray(gradient[visible]) != 0).all()


def test_mask_points_without_a_mask_changes_nothing():
    predicted, target = losses.mask_points(loss_values(), loss_values() + 1, None)
    np.testing.assert_array_equal(predicted, loss_values())
    np.testing.assert_array_equal(target, loss_values() + 1)


@reductions
def test_narrow_types_are_summed_in_float32(reduce):
    loss = jnp.full((1, 3000, 2), 100, jnp.float16)
    value = reduce(loss)
    assert value.dtype == jnp.float32
    assert float(value) == (6e5 if reduce is losses.sum_over_points_mean_over_batch else 100)
    assert jax.grad(reduce)(loss).dtype == jnp.float16


def test_float64_is_kept():
    with jax.enable_x64(True):
        assert losses.sum_over_points_mean_over_batch(jnp.ones(SHAPE)).dtype == jnp.float64
        assert losses.masked_mean(jnp.ones(SHAPE), some_hidden()).dtype == jnp.float64


@pytest.mark.slow
@reductions
def test_jit_vmap_and_pmap(reduce):
    devices = jax.local_device_count()
    loss, visible = loss_values((devices, *SHAPE)), np.stack([some_hidden()] * devices)
    expected = [reduce(*arguments) for arguments in zip(loss, visible, strict=True)]
    np.testing.assert_allclose(jax.vmap(reduce)(loss, visible), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.pmap(reduce)(loss, visible), expected, rtol=1e-6)
    compiled = jax.jit(reduce)
    compiled(loss[0], visible[0])
    with jax.no_tracing():
        np.testing.assert_allclose(compiled(loss[0], ~visible[0]), reduce(loss[0], ~visible[0]), rtol=1e-6)


@reductions
def test_masks_of_another_shape_or_dtype_are_refused(reduce, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for visible in (some_hidden()[:1], some_hidden()[..., None], some_hidden().astype(np.float32)):
        with pytest.raises(ValueError, match="pass a boolean for each point"):
            reduce(loss_values(), visible)
        with pytest.raises(ValueError, match="pass a boolean for each point"):
            losses.mask_points(loss_values(), loss_values(), visible)
