"""Losses by name in any unit, and the check of the targets' unit."""

import inspect

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax import losses

OURS = [name for name, loss in losses.LOSSES.items() if loss.function.__module__ == "wing_jax.losses.regression"]
SHARES = (0.6, 0.25, 0.8)
OTHER = {  # hyper-parameters in reference pixels: the defaults times SHARES, in the order of the names
    name: {
        parameter: share * default
        for share, (parameter, default) in zip(SHARES, losses.LOSSES[name].parameters.items(), strict=False)
    }
    for name in OURS
}
every_name = pytest.mark.parametrize("name", OURS)


def pixels(shape=(4, 7, 2), seed=0):
    """Predicted and target in pixels of a 64 crop."""
    generator = np.random.default_rng(seed)
    target = generator.uniform(4, 60, shape)
    return (target + generator.normal(scale=6, size=shape)).astype(np.float32), target.astype(np.float32)


def faces(size, batch=8, points=5):
    shape = np.asarray([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
    jitter = np.random.default_rng(3).uniform(-0.1, 0.1, (batch, 1, 2))
    return (size * (shape[:points] + jitter)).astype(np.float32)


def test_every_loss_is_registered_where_it_is_defined():
    defined = [name.removesuffix("_loss") for name in vars(losses.regression) if name.endswith("_loss")]
    defined = [name for name in defined if name != "register"]
    assert set(OURS) == set(defined)


@pytest.mark.slow
@every_name
def test_in_reference_pixels_it_equals_the_registered_loss(name):
    for hyper in ({}, OTHER[name]):
        loss = losses.make_loss(name, reference_size=64, working_extent=64.0, **hyper)
        np.testing.assert_array_equal(loss(*pixels()), losses.LOSSES[name].function(*pixels(), **hyper))


@every_name
def test_defaults_are_pixels_of_the_reference_crop(name):
    size = 256 if name == "soft_wing" else 64
    assert losses.LOSSES[name].reference_size == size
    loss = losses.make_loss(name, working_extent=float(size))
    np.testing.assert_array_equal(loss(*pixels()), losses.LOSSES[name].function(*pixels()))


@every_name
@pytest.mark.parametrize("extent", [1.0, 128.0, 2.0, 100])
def test_value_is_in_reference_pixels_in_any_unit(name, extent):
    loss = losses.make_loss(name, reference_size=64, working_extent=extent, **OTHER[name])
    predicted, target = (values * (extent / 64) for values in pixels())
    expected = losses.LOSSES[name].function(*pixels(), **OTHER[name])
    np.testing.assert_allclose(jax.jit(loss)(predicted, target), expected, rtol=2e-4, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    name=st.sampled_from(OURS),
    extent=st.sampled_from([1.0, 64.0, 112.0, 128.0, 256.0]),
    reference=st.sampled_from([64, 128, 256]),
    x=st.floats(-80, 80),
)
def test_homogeneous_of_its_degree(name, extent, reference, x):
    with jax.enable_x64(True):
        ratio, zero, entry = reference / extent, jnp.zeros(()), losses.LOSSES[name]
        loss = losses.make_loss(name, reference_size=reference, working_extent=extent, **OTHER[name])
        rescaled = {label: value / ratio for label, value in OTHER[name].items()}
        by_lengths = entry.function(jnp.asarray(x / ratio), zero, **rescaled) * ratio**entry.degree
        by_errors = entry.function(jnp.asarray(x), zero, **OTHER[name])
        assert float(by_lengths) == pytest.approx(float(by_errors), rel=1e-9, abs=1e-9)
        assert float(loss(jnp.asarray(x / ratio), zero)) == pytest.approx(float(by_errors), rel=1e-9, abs=1e-9)


def test_paper_hyper_parameters_in_fractions():
    """w = 10 and e = 2 pixels of 64 are 0.15625 and 0.03125 of the crop; 15 and 3 of 128: 0.1171875, 0.0234375."""
    predicted, target = (values / 64 for values in pixels())
    for size, width, epsilon, w, e in [(64, 10, 2, 0.15625, 0.03125), (128, 15, 3, 0.1171875, 0.0234375)]:
        rescaled_loss = losses.make_loss("wing", reference_size=size, working_extent=1.0, width=width, epsilon=epsilon)
        by_hand = size * losses.wing_loss(predicted, target, width=w, epsilon=e)
        np.testing.assert_allclose(rescaled_loss(predicted, target), by_hand, rtol=1e-6)


@pytest.mark.slow
def test_fractions_need_make_loss():
    """On [0, 1], without `make_loss`, 10 and 2 only lower the slope from 5 to 3.3; with it, the loss is a Wing."""
    unscaled = jax.vmap(jax.grad(lambda x: losses.wing_loss(x, 0 * x)))(jnp.linspace(0.01, 1, 50))
    assert 3.3 < float(unscaled.min()) <= float(unscaled.max()) < 5
    rescaled_loss = losses.make_loss("wing", working_extent=1.0)
    slopes = jax.vmap(jax.grad(lambda x: rescaled_loss(x, 0 * x)))(jnp.linspace(1e-5, 1, 50)) / 64
    np.testing.assert_allclose([slopes[0], slopes[-1]], [5, 1], rtol=1e-3)


@pytest.mark.slow
@every_name
def test_gradient_of_a_network_that_divides_its_pixels(name):
    """A network that returns pixels / 64 gets the same parameter gradient as one that returns pixels."""
    features, target = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32), pixels((4, 2))[1]
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2)), jnp.float32)
    in_pixels = losses.make_loss(name, working_extent=64.0, **OTHER[name])
    in_fractions = losses.make_loss(name, working_extent=1.0, **OTHER[name])
    gradient = jax.grad(lambda w: in_pixels(features @ w, target).sum())(weights)
    divided = jax.grad(lambda w: in_fractions(features @ w / 64, target / 64).sum())(weights)
    np.testing.assert_allclose(divided, gradient, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtype_is_kept(dtype):
    predicted, target = (jnp.asarray(values / 64, dtype) for values in pixels())
    for name in OURS:
        value = losses.make_loss(name, working_extent=1.0)(predicted, target)
        assert value.dtype == dtype
        assert np.isfinite(value.astype(jnp.float32)).all()


def test_a_sweep_over_lengths():
    predicted, target = (jnp.asarray(values / 64) for values in pixels())
    widths = jnp.asarray([4.0, 10.0, 14.0])

    @jax.jit
    @jax.vmap
    def sweep(width):
        return losses.make_loss("wing", working_extent=1.0, width=width, epsilon=2.0)(predicted, target)

    expected = [losses.wing_loss(*pixels(), width=width, epsilon=2.0) for width in (4, 10, 14)]
    np.testing.assert_allclose(sweep(widths), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_pmap():
    devices = jax.local_device_count()
    loss = losses.make_loss("rectified_wing", working_extent=128.0)
    arguments = pixels((devices, 3, 5, 2))
    np.testing.assert_allclose(jax.pmap(loss)(*arguments), jax.vmap(loss)(*arguments), rtol=1e-5, atol=1e-6)


def test_wrong_names_and_numbers_raise_in_make_loss():
    with pytest.raises(ValueError, match="no loss is called 'adaptive_wing': "):
        losses.make_loss("adaptive_wing")
    with pytest.raises(ValueError, match="the loss 'wing' has no parameter beta, gamma: use width, epsilon"):
        losses.make_loss("wing", beta=1.0, gamma=2.0)
    with pytest.raises(ValueError, match="the loss 'l1' has no parameter width: it has none"):
        losses.make_loss("l1", width=1.0)
    with pytest.raises(ValueError, match="width is -15: it must be a finite number above 0"):
        losses.make_loss("wing", reference_size=128, working_extent=1.0, width=-15)
    with pytest.raises(ValueError, match="rectification is 4: it must be below the width, 3"):
        losses.make_loss("rectified_wing", working_extent=1.0, width=3, rectification=4)
    for bad in (0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="working_extent is "):
            losses.make_loss("wing", working_extent=bad)
        with pytest.raises(ValueError, match="reference_size is "):
            losses.make_loss("wing", reference_size=bad)


def test_hyper_parameters_are_keyword_only_lengths():
    for name in OURS:
        loss = losses.LOSSES[name]
        predicted, target, *hyper, where = inspect.signature(loss.function).parameters.values()
        assert (predicted.name, target.name, where.name) == ("predicted", "target", "where")
        assert all(parameter.kind is parameter.KEYWORD_ONLY and parameter.default > 0 for parameter in hyper)
        assert {parameter.name for parameter in hyper} == set(loss.lengths) == set(loss.parameters)


# check_units


@pytest.mark.parametrize("size", [1.0, 64.0, 128.0, 256.0])
def test_targets_in_the_right_unit_pass(size):
    losses.check_units(faces(size), working_extent=size)
    losses.check_units(jnp.asarray(faces(size)), working_extent=size)
    losses.check_units(faces(size, batch=1), working_extent=size)


@pytest.mark.parametrize(("size", "claimed"), [(1, 64.0), (64, 1.0), (64, 128), (128, 64.0), (1, 2.0), (2, 1.0)])
def test_targets_in_another_unit_are_refused(size, claimed):
    with pytest.raises(ValueError, match="another unit or size"):
        losses.check_units(faces(size), working_extent=claimed)


def test_targets_around_zero_are_refused():
    with pytest.raises(ValueError, match="working_extent=64 is 32"):
        losses.check_units(faces(2.0) - 1, working_extent=64.0)
    with pytest.raises(ValueError, match="another unit"):
        losses.check_units(faces(1.0) - 0.5, working_extent=1.0)


def test_hidden_and_missing_points_do_not_matter():
    target, visible = faces(64.0), np.ones((8, 5), bool)
    target[0, 0], target[1, 1], visible[0, 0] = -1e6, np.nan, False
    losses.check_units(target, working_extent=64.0, visible=visible)
    with pytest.raises(ValueError, match="another unit"):
        losses.check_units(target, working_extent=64.0)
    losses.check_units(target, working_extent=64.0, visible=np.zeros((8, 5), bool))


def test_check_units_refuses_traced_targets_and_odd_masks(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda target: losses.check_units(target, working_extent=64.0))(faces(64.0))
    with pytest.raises(ValueError, match="pass one value per point"):
        losses.check_units(faces(64.0), working_extent=64.0, visible=np.ones((8, 4), bool))


def test_real_faces_pass(data_root):
    """300-W crops are twice the landmarks' larger side, centered on them: any margin puts the center at the middle."""
    files = sorted((data_root / "300w" / "afw").glob("*.pts"))[:40]
    shapes = np.asarray([np.loadtxt(path, skiprows=3, max_rows=68) for path in files], np.float32) - 1
    low, high = shapes.min(1, keepdims=True), shapes.max(1, keepdims=True)
    side = 1.25 * (high - low).max(-1, keepdims=True)
    fractions = ((shapes - (low + high) / 2) / side + 0.5).astype(np.float32)
    for face in fractions:
        losses.check_units(64 * face[None], working_extent=64.0)
    for batch in fractions.reshape(5, 8, 68, 2):
        for wrong in (1.0, 32.0, 128.0):
            with pytest.raises(ValueError, match="another unit"):
                losses.check_units(64 * batch, working_extent=wrong)
