"""Losses of an external package, used from Python and, for a training and a sweep, from the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax.errors import InputError
from wing_jax.losses import LOSSES, make_loss, register_loss, wing_loss

PACKAGE = """
    import jax.numpy as jnp
    from wing_jax.losses import register_loss
    from optax.losses import huber_loss

    @register_loss
    def log_cosh(predicted, target, *, scale=1.0):
        error = (predicted - target) / scale
        return scale * (jnp.logaddexp(error, -error) - jnp.log(2.0))

    @register_loss(name="general_charbonnier", lengths=("width",))
    def general_charbonnier_loss(predicted, target, *, width=1.0, power=0.5):
        return width * ((1 + jnp.square((predicted - target) / width)) ** power - 1)
"""
NAMES = {"log_cosh": "log_cosh", "general_charbonnier": "general_charbonnier_loss", "huber": "huber_loss"}


@pytest.fixture
def package(install):
    return install(PACKAGE, name="other_losses", entry_points={"wing_jax.losses": NAMES})


ERRORS = np.linspace(-20, 20, 41, dtype=np.float32)
ZEROS = np.zeros_like(ERRORS)


@pytest.mark.usefixtures("package")
def test_it_is_found_by_its_entry_point_and_accepts_its_parameter():
    assert set(NAMES) <= set(LOSSES)
    loss = make_loss("log_cosh", working_extent=128.0, scale=2.0)
    np.testing.assert_allclose(loss(ERRORS, ZEROS), 2 * np.log(np.cosh(ERRORS.astype(float) / 2)), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="the loss 'log_cosh' has no parameter width: use scale"):
        make_loss("log_cosh", width=2.0)
    with pytest.raises(InputError, match="'log_cosh' declares no lengths and is not rescaled: leave reference_size"):
        make_loss("log_cosh", reference_size=64)


@pytest.mark.usefixtures("package")
def test_a_function_without_a_decorator_is_used_unchanged():
    loss = make_loss("huber", working_extent=128.0, delta=3.0)
    np.testing.assert_array_equal(loss(ERRORS, ZEROS), optax.losses.huber_loss(ERRORS, ZEROS, delta=3.0))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("extent", [1.0, 128.0])
def test_only_declared_lengths_are_rescaled(extent):
    reference = make_loss("general_charbonnier", width=3.0, power=0.4)
    rescaled = make_loss("general_charbonnier", working_extent=extent, width=3.0, power=0.4)
    scaled = (values * np.float32(extent / 64) for values in (ERRORS, ZEROS))
    np.testing.assert_allclose(rescaled(*scaled), reference(ERRORS, ZEROS), rtol=1e-5)


def test_the_decorator_returns_the_function_unchanged():
    @register_loss
    def extending_bare(predicted, target, *, scale):
        return scale * jnp.abs(predicted - target)

    @register_loss(name="extending_named", lengths=(), degree=2)
    def named(predicted, target):
        return jnp.square(predicted - target)

    assert float(named(3.0, 1.0)) == 4.0
    assert float(make_loss("extending_named", working_extent=128.0)(jnp.asarray(2.0), jnp.asarray(0.0))) == 1.0
    assert float(make_loss("extending_bare", scale=3.0)(jnp.asarray(2.0), jnp.asarray(0.0))) == 6.0
    with pytest.raises(InputError, match="the loss 'extending_bare' needs a value for 'scale'"):
        make_loss("extending_bare")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda predicted, target: jnp.mean(predicted - target), "a loss is elementwise and not reduced"),
        (lambda predicted, target: predicted @ target, "loss 'extending_wrong': "),
        (lambda predicted, target: None, "returned None for coordinates"),
    ],
)
def test_a_function_that_is_not_an_elementwise_loss_is_refused(function, message):
    function.__qualname__ = "wrong"
    register_loss(name="extending_wrong")(function)
    with pytest.raises(InputError, match=message):
        make_loss("extending_wrong")


def test_wrong_declarations_are_refused():
    with pytest.raises(ValueError, match="lengths=\\('width',\\): width is not a parameter of"):
        register_loss(name="extending_lengths", lengths=("width",))(lambda predicted, target, *, scale=1.0: predicted)
    with pytest.raises(ValueError, match=r"called 'wing' is already registered by .*regression:wing_loss"):
        register_loss(name="wing")(lambda predicted, target: predicted)
    assert LOSSES["wing"].function is wing_loss


@pytest.mark.usefixtures("package")
def test_its_parameter_can_be_a_traced_value():
    scales = jnp.asarray([1.0, 4.0])
    batched = jax.jit(jax.vmap(lambda scale: make_loss("log_cosh", scale=scale)(ERRORS, ZEROS)))(scales)
    for values, scale in zip(batched, scales, strict=True):
        np.testing.assert_allclose(values, make_loss("log_cosh", scale=float(scale))(ERRORS, ZEROS), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_fit_trains_with_it(train_small):
    losses = []
    for loss in (make_loss("log_cosh", scale=1.0), make_loss("log_cosh", scale=4.0), LOSSES["log_cosh"].function):
        result, evaluation = train_small(loss=loss)
        losses.append(result.history[-1]["loss"])
        assert np.isfinite(evaluation.mean["box-size"])
    assert losses[0] > losses[1]  # the larger the scale, the closer to half of the squared error
    assert losses[2] == losses[0]  # the plain function, in pixels of the crop


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_the_command_line_trains_with_it(command, config, tmp_path):
    words = ("--stage1.loss.name", "log_cosh", "--stage1.loss.params.scale", "2")
    result = command("train", config, *words)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs" / "small"
    assert json.loads((run / "config.json").read_text())["stage1"]["loss"] == {
        "name": "log_cosh", "params": {"scale": 2.0}, "reference_size": None, "reduction": "mean",
    }  # fmt: skip
    rejected = command("train", config, "--stage1.loss.name", "log_cosh", "--stage1.loss.params.width=3")
    assert rejected.returncode == 2
    assert rejected.stderr.splitlines()[-1] == "wing-jax: the loss 'log_cosh' has no parameter width: use scale"


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_the_command_line_sweeps_over_its_parameter(run_command, config, tmp_path):
    words = ("--grid.losses", "wing", "log_cosh", "--grid.params.scale", "1", "2")
    result = run_command("sweep", config, *words)
    assert result.returncode == 0, result.stderr
    runs = json.loads((tmp_path / "runs" / "small" / "results.json").read_text())["runs"]
    assert [(run["loss"], run["params"]) for run in runs] == [
        ("wing", {"width": 10.0, "epsilon": 2.0}),
        ("log_cosh", {"scale": 1.0}),
        ("log_cosh", {"scale": 2.0}),
    ]
    assert len({run["validation_nme"] for run in runs}) == 3
