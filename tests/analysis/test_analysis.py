"""Loss gradient analysis: numbers are compared to a closed form or a simple loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stages import STAGE
from wing_jax import analysis
from wing_jax.analysis.training import follow, probe_steps
from wing_jax.config import Config, DataConfig
from wing_jax.from_config.recipe import mesh_of, settings_of
from wing_jax.from_config.train import first_setup, training_data
from wing_jax.losses import LOSSES, make_loss, mask_points, masked_mean
from wing_jax.models import TINY
from wing_jax.train.setup import make_runner
from wing_jax.types import Batch

ERRORS = np.array([-15.0, -9.5, -1.0, 0.0, 0.25, 2.0, 12.0], np.float32)
NAMES = ("l2", "l1", "smooth_l1", "wing")
ALL_LOSSES = {name: make_loss(name) for name in NAMES}


@pytest.mark.slow
def test_curves_of_wing_match_the_paper():
    curves = analysis.curves(make_loss("wing", width=10.0, epsilon=2.0), jnp.asarray(ERRORS))
    size, inside = np.abs(ERRORS), np.abs(ERRORS) < 10
    slope = np.where(inside, 10 / (2 + size), 1) * np.sign(ERRORS)
    np.testing.assert_allclose(curves.gradient, slope, rtol=1e-6)
    np.testing.assert_allclose(
        curves.value, np.where(inside, 10 * np.log1p(size / 2), size - 10 + 10 * np.log(6)), rtol=1e-6
    )
    curvature = np.where(inside, -10 / (2 + size) ** 2, 0)
    np.testing.assert_allclose(curves.curvature[size > 0], curvature[size > 0], rtol=1e-5)
    np.testing.assert_allclose(curves.step, np.where(inside, size * (2 + size) / 10, size), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), [("l2", np.ones_like(ERRORS)), ("l1", np.abs(ERRORS))])
def test_optimal_steps_match_the_paper(name, step):
    curves = analysis.curves(make_loss(name), jnp.asarray(ERRORS))
    np.testing.assert_allclose(curves.step, np.where(ERRORS == 0, 0, step), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_curves_of_every_loss_are_finite_and_keep_the_shape(name):
    curves = analysis.curves(make_loss(name), jnp.linspace(-300.0, 300.0, 602).reshape(2, 301))
    assert all(part.shape == (2, 301) for part in curves)
    assert all(np.isfinite(part).all() for part in curves)


@pytest.mark.slow
def test_slopes_over_width_and_epsilon_match_single_losses():
    widths, epsilons, errors = (jnp.array(values) for values in ([4.0, 10.0], [0.5, 2.0, 3.0], [0.25, 3.0, 12.0]))
    grid = analysis.wing_slopes(widths, epsilons, errors)
    for i, width in enumerate(widths.tolist()):
        for j, epsilon in enumerate(epsilons.tolist()):
            expected = analysis.curves(make_loss("wing", width=width, epsilon=epsilon), errors).gradient
            np.testing.assert_allclose(grid[i, j], expected, rtol=1e-6)


def random_errors(seed=0, faces=12, points=5):
    rng = np.random.default_rng(seed)
    errors = (rng.standard_normal((faces, points, 2)) * rng.choice([0.2, 2, 20], (faces, points, 1))).astype("f4")
    return errors, rng.random((faces, points)) < 0.8


def loop_shares(slope, errors, visible, edges, keep=lambda face, point: True):
    """Sum |slope| by band over the chosen coordinates, and divide by the sum over all visible coordinates."""
    sums, total = np.zeros(len(edges) + 1), 0.0
    for face, point, axis in np.ndindex(errors.shape):
        if visible[face, point]:
            gradient = abs(slope(abs(float(errors[face, point, axis]))))
            total += gradient
            if keep(face, point):
                sums[sum(abs(float(errors[face, point, axis])) >= edge for edge in edges)] += gradient
    return sums / total


SLOPES = {
    "l2": lambda size: size,
    "l1": lambda size: 1.0,
    "smooth_l1": lambda size: min(size, 1.0),
    "wing": lambda size: 10 / (2 + size) if size < 10 else 1.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_shares_match_a_loop(name):
    errors, visible = random_errors()
    edges, loss, slope = (0.5, 2.0), ALL_LOSSES[name], SLOPES[name]
    np.testing.assert_allclose(
        analysis.gradient_shares(loss, errors, visible, edges=edges),
        loop_shares(slope, errors, visible, edges),
        rtol=1e-4,
    )
    by_landmark = analysis.landmark_shares(loss, errors, visible, edges=edges)
    for chosen in range(errors.shape[1]):
        expected = loop_shares(slope, errors, visible, edges, lambda face, point, chosen=chosen: point == chosen)
        np.testing.assert_allclose(by_landmark[chosen], expected, rtol=1e-4, atol=1e-7)
    members = np.arange(12)[None] % 3 == np.arange(3)[:, None]
    by_group = analysis.group_shares(loss, errors, visible, members, edges=edges)
    for chosen in range(3):
        expected = loop_shares(slope, errors, visible, edges, lambda face, point, chosen=chosen: face % 3 == chosen)
        np.testing.assert_allclose(by_group[chosen], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@given(st.integers(0, 2**31), st.sampled_from(NAMES))
@settings(max_examples=20, deadline=None)
def test_shares_add_up_and_ignore_hidden_points(seed, name):
    errors, visible = random_errors(seed)
    shares = analysis.gradient_shares(ALL_LOSSES[name], errors, visible)
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(analysis.landmark_shares(ALL_LOSSES[name], errors, visible).sum(0), shares, atol=1e-5)
    changed = np.where(visible[..., None], errors, 7).astype(np.float32)
    np.testing.assert_array_equal(analysis.gradient_shares(ALL_LOSSES[name], changed, visible), shares)
    assert not np.any(analysis.gradient_shares(ALL_LOSSES[name], errors, np.zeros_like(visible)))


def test_error_shares():
    errors = np.array([[[0.1, -0.1], [0.5, 1.0]], [[-2.0, 5.0], [9.0, 9.0]]], np.float32)
    visible = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(analysis.error_shares(errors, visible, edges=(0.5, 2.0)), [2 / 6, 2 / 6, 2 / 6])


@pytest.mark.slow
def test_small_errors_have_a_larger_share_with_wing_than_l1_and_with_l1_than_l2():
    errors, visible = random_errors()
    small = {name: float(analysis.gradient_shares(ALL_LOSSES[name], errors, visible)[0]) for name in NAMES}
    assert small["wing"] > small["l1"] > small["smooth_l1"] > small["l2"]


@pytest.mark.slow
def test_shares_over_width_and_epsilon():
    errors, visible = random_errors()
    widths, epsilons = (4.0, 12.0), (0.5, 3.0)
    grid = analysis.wing_shares(jnp.array(widths), jnp.array(epsilons), errors, visible)
    for i, width in enumerate(widths):
        for j, epsilon in enumerate(epsilons):
            expected = analysis.gradient_shares(make_loss("wing", width=width, epsilon=epsilon), errors, visible)
            np.testing.assert_allclose(grid[i, j], expected, rtol=1e-5)


@pytest.fixture(scope="module")
def network():
    """Return a tiny network with BatchNorm, its variables and a batch whose hidden points are NaN."""
    rng = np.random.default_rng(3)
    model = TINY(points=3, norm="batch", channels=(4, 4), dropout=0.2)
    images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    variables = model.init(jax.random.key(0), jnp.asarray(images))
    visible = rng.random((6, 3)) < 0.8
    points = np.where(visible[..., None], rng.uniform(2, 14, (6, 3, 2)), np.nan).astype(np.float32)
    return model, variables, Batch(images, points, visible)


def gradient(model, variables, batch, loss):
    """Return the gradient of the complete objective in training mode, computed directly."""

    def objective(params):
        predicted, _ = model.apply(
            {**variables, "params": params}, jnp.asarray(batch.images), train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )  # fmt: skip
        shown, target = mask_points(predicted, jnp.asarray(batch.points), jnp.asarray(batch.visible))
        return masked_mean(loss(shown, target), jnp.asarray(batch.visible))

    return jax.grad(objective)(variables["params"])


def cosine(a, b):
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.slow
def test_gradients_by_layer_match_those_of_single_losses(network):
    model, variables, batch = network
    result = analysis.layer_gradients(model, variables, batch, ALL_LOSSES)
    gradients = [gradient(model, variables, batch, loss) for loss in ALL_LOSSES.values()]
    assert result.layers[-1] == "output"
    assert result.layers[0].startswith("ConvBlock_0")
    for i, first in enumerate(gradients):
        for k, layer in enumerate(result.layers):
            norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(first[layer])))
            np.testing.assert_allclose(result.norms[i, k], norm, rtol=1e-3, atol=1e-6)
        for j, second in enumerate(gradients):
            np.testing.assert_allclose(result.cosines[i, j], cosine(first, second), rtol=1e-3)


@pytest.mark.slow
def test_agreement_is_the_cosine_between_batches(network):
    model, variables, batch = network
    halves = [Batch(*(np.asarray(part)[rows] for part in batch)) for rows in (slice(0, 3), slice(3, 6))]
    agreement = analysis.gradient_agreement(model, variables, halves, ALL_LOSSES)
    for number, loss in enumerate(ALL_LOSSES.values()):
        first, second = (gradient(model, variables, half, loss) for half in halves)
        np.testing.assert_allclose(agreement[number], cosine(first, second), rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(analysis.gradient_agreement(model, variables, [batch, batch], ALL_LOSSES), 1, rtol=1e-3)
    with pytest.raises(ValueError, match="two or more"):
        analysis.gradient_agreement(model, variables, [batch], ALL_LOSSES)


@pytest.mark.slow
def test_the_center_of_a_landscape_is_the_network(network):
    model, variables, batch = network
    landscape = analysis.landscapes(model, variables, batch, ALL_LOSSES, jax.random.key(1), places=5, reach=0.5)
    assert landscape.values.shape == (4, 5, 5)
    np.testing.assert_allclose(landscape.places, [-0.5, -0.25, 0, 0.25, 0.5])
    predicted = model.apply(variables, jnp.asarray(batch.images), train=False)
    shown, target = mask_points(predicted, jnp.asarray(batch.points), jnp.asarray(batch.visible))
    for values, loss in zip(landscape.values, ALL_LOSSES.values(), strict=True):
        np.testing.assert_allclose(
            values[2, 2], masked_mean(loss(shown, target), jnp.asarray(batch.visible)), rtol=1e-4
        )
        assert np.ptp(values) > 0


@pytest.mark.slow
def test_directions_are_as_long_as_each_filter(network):
    from wing_jax.analysis.landscape import random_direction

    params = network[1]["params"]
    direction = random_direction(jax.random.key(0), params)
    for part, leaf in zip(jax.tree.leaves(direction), jax.tree.leaves(params), strict=True):
        if leaf.ndim < 2:
            assert not part.any()
        else:
            axes = tuple(range(leaf.ndim - 1))
            np.testing.assert_allclose(jnp.linalg.norm(part.reshape(-1, part.shape[-1]), axis=0),
                                       jnp.sqrt(jnp.square(leaf).sum(axes)), rtol=1e-4)  # fmt: skip


@pytest.mark.slow
def test_snapshots_of_a_training_run_from_start_to_end():
    config = Config(
        name="followed", data=DataConfig(name="synthetic", train_faces=16, validation=0.3), stage1=STAGE, devices=1
    )
    setup, settings = first_setup(config, training_data(config)), settings_of(config, mesh_of(config))
    snapshots = follow(setup, settings, at=(0, 2, 6))
    assert [snapshot.step for snapshot in snapshots] == [0, 2, 6]
    runner = make_runner(setup, settings)
    state, _ = runner.advance(runner.place(setup.state(seed=0)), 0, 6)
    images, points, _ = setup.validation_crops()
    predicted, _ = setup.network().apply(runner.whole(state).variables, jnp.asarray(images), train=False)
    np.testing.assert_allclose(snapshots[-1].errors, predicted - points, atol=1e-4)
    mean = setup.mean * STAGE.input_size - 0.5
    np.testing.assert_allclose(snapshots[0].errors, mean - points, atol=1e-4)
    longer = dataclasses.replace(STAGE, steps=900).steps
    assert probe_steps(longer)[0] == 0
    assert probe_steps(longer)[-1] == longer
