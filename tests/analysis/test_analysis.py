"""Loss gradient analysis: each number against a closed form or a plain loop."""

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
ALL = {name: make_loss(name) for name in NAMES}


def test_curves_of_wing_are_the_papers():
    found = analysis.curves(make_loss("wing", width=10.0, epsilon=2.0), jnp.asarray(ERRORS))
    size, inside = np.abs(ERRORS), np.abs(ERRORS) < 10
    slope = np.where(inside, 10 / (2 + size), 1) * np.sign(ERRORS)
    np.testing.assert_allclose(found.gradient, slope, rtol=1e-6)
    np.testing.assert_allclose(
        found.value, np.where(inside, 10 * np.log1p(size / 2), size - 10 + 10 * np.log(6)), rtol=1e-6
    )
    bend = np.where(inside, -10 / (2 + size) ** 2, 0)
    np.testing.assert_allclose(found.curvature[size > 0], bend[size > 0], rtol=1e-5)
    np.testing.assert_allclose(found.step, np.where(inside, size * (2 + size) / 10, size), rtol=1e-6)


@pytest.mark.parametrize(("name", "step"), [("l2", np.ones_like(ERRORS)), ("l1", np.abs(ERRORS))])
def test_optimal_steps_of_the_papers_argument(name, step):
    found = analysis.curves(make_loss(name), jnp.asarray(ERRORS))
    np.testing.assert_allclose(found.step, np.where(ERRORS == 0, 0, step), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_curves_of_every_loss_are_finite_and_keep_the_shape(name):
    found = analysis.curves(make_loss(name), jnp.linspace(-300.0, 300.0, 602).reshape(2, 301))
    assert all(part.shape == (2, 301) for part in found)
    assert all(np.isfinite(part).all() for part in found)


def test_slopes_over_width_and_epsilon_are_those_of_single_losses():
    widths, epsilons, errors = (jnp.array(values) for values in ([4.0, 10.0], [0.5, 2.0, 3.0], [0.25, 3.0, 12.0]))
    grid = analysis.wing_slopes(widths, epsilons, errors)
    for i, width in enumerate(widths.tolist()):
        for j, epsilon in enumerate(epsilons.tolist()):
            alone = analysis.curves(make_loss("wing", width=width, epsilon=epsilon), errors).gradient
            np.testing.assert_allclose(grid[i, j], alone, rtol=1e-6)


def drawn_errors(seed=0, faces=12, points=5):
    random = np.random.default_rng(seed)
    errors = (random.standard_normal((faces, points, 2)) * random.choice([0.2, 2, 20], (faces, points, 1))).astype("f4")
    return errors, random.random((faces, points)) < 0.8


def loop_shares(slope, errors, visible, edges, keep=lambda face, point: True):
    """Sums of |slope| by band, coordinate by coordinate, and the sum over all visible ones."""
    sums, whole = np.zeros(len(edges) + 1), 0.0
    for face, point, axis in np.ndindex(errors.shape):
        if visible[face, point]:
            pull = abs(slope(abs(float(errors[face, point, axis]))))
            whole += pull
            if keep(face, point):
                sums[sum(abs(float(errors[face, point, axis])) >= edge for edge in edges)] += pull
    return sums / whole


SLOPES = {
    "l2": lambda size: size,
    "l1": lambda size: 1.0,
    "smooth_l1": lambda size: min(size, 1.0),
    "wing": lambda size: 10 / (2 + size) if size < 10 else 1.0,
}


@pytest.mark.parametrize("name", NAMES)
def test_shares_are_those_of_a_loop(name):
    errors, visible = drawn_errors()
    edges, loss, slope = (0.5, 2.0), ALL[name], SLOPES[name]
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


@given(st.integers(0, 2**31), st.sampled_from(NAMES))
@settings(max_examples=20, deadline=None)
def test_shares_add_up_and_hidden_points_have_none(seed, name):
    errors, visible = drawn_errors(seed)
    shares = analysis.gradient_shares(ALL[name], errors, visible)
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(analysis.landmark_shares(ALL[name], errors, visible).sum(0), shares, atol=1e-5)
    elsewhere = np.where(visible[..., None], errors, 7).astype(np.float32)
    np.testing.assert_array_equal(analysis.gradient_shares(ALL[name], elsewhere, visible), shares)
    assert not np.any(analysis.gradient_shares(ALL[name], errors, np.zeros_like(visible)))


def test_shares_of_the_errors_themselves():
    errors = np.array([[[0.1, -0.1], [0.5, 1.0]], [[-2.0, 5.0], [9.0, 9.0]]], np.float32)
    visible = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(analysis.error_shares(errors, visible, edges=(0.5, 2.0)), [2 / 6, 2 / 6, 2 / 6])


def test_wing_listens_to_small_errors_more_than_l1_and_l1_more_than_l2():
    errors, visible = drawn_errors()
    small = {name: float(analysis.gradient_shares(ALL[name], errors, visible)[0]) for name in NAMES}
    assert small["wing"] > small["l1"] > small["smooth_l1"] > small["l2"]


def test_shares_over_width_and_epsilon():
    errors, visible = drawn_errors()
    widths, epsilons = (4.0, 12.0), (0.5, 3.0)
    grid = analysis.wing_shares(jnp.array(widths), jnp.array(epsilons), errors, visible)
    for i, width in enumerate(widths):
        for j, epsilon in enumerate(epsilons):
            alone = analysis.gradient_shares(make_loss("wing", width=width, epsilon=epsilon), errors, visible)
            np.testing.assert_allclose(grid[i, j], alone, rtol=1e-5)


@pytest.fixture(scope="module")
def network():
    """A tiny network with BatchNorm, its variables and a batch with hidden points whose truth is NaN."""
    random = np.random.default_rng(3)
    model = TINY(points=3, norm="batch", channels=(4, 4), dropout=0.2)
    images = random.integers(0, 256, (6, 16, 16, 3), np.uint8)
    variables = model.init(jax.random.key(0), jnp.asarray(images))
    visible = random.random((6, 3)) < 0.8
    points = np.where(visible[..., None], random.uniform(2, 14, (6, 3, 2)), np.nan).astype(np.float32)
    return model, variables, Batch(images, points, visible)


def gradient(model, variables, batch, loss):
    """By a plain gradient of the whole objective, in training."""

    def objective(params):
        predicted, _ = model.apply(
            {**variables, "params": params}, jnp.asarray(batch.images), train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )  # fmt: skip
        shown, target = mask_points(predicted, jnp.asarray(batch.points), jnp.asarray(batch.visible))
        return masked_mean(loss(shown, target), jnp.asarray(batch.visible))

    return jax.grad(objective)(variables["params"])


def cosine(one, other):
    one, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_gradients_by_layer_are_those_of_each_loss_alone(network):
    model, variables, batch = network
    found = analysis.layer_gradients(model, variables, batch, ALL)
    gradients = [gradient(model, variables, batch, loss) for loss in ALL.values()]
    assert found.layers[-1] == "output"
    assert found.layers[0].startswith("ConvBlock_0")
    for number, one in enumerate(gradients):
        for place, layer in enumerate(found.layers):
            norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(one[layer])))
            np.testing.assert_allclose(found.norms[number, place], norm, rtol=1e-3, atol=1e-6)
        for other, another in enumerate(gradients):
            np.testing.assert_allclose(found.cosines[number, other], cosine(one, another), rtol=1e-3)


def test_agreement_is_the_cosine_between_batches(network):
    model, variables, batch = network
    halves = [Batch(*(np.asarray(part)[rows] for part in batch)) for rows in (slice(0, 3), slice(3, 6))]
    found = analysis.gradient_agreement(model, variables, halves, ALL)
    for number, loss in enumerate(ALL.values()):
        one, other = (gradient(model, variables, half, loss) for half in halves)
        np.testing.assert_allclose(found[number], cosine(one, other), rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(analysis.gradient_agreement(model, variables, [batch, batch], ALL), 1, rtol=1e-3)
    with pytest.raises(ValueError, match="two or more"):
        analysis.gradient_agreement(model, variables, [batch], ALL)


def test_a_landscape_holds_the_network_itself_in_its_middle(network):
    model, variables, batch = network
    found = analysis.landscapes(model, variables, batch, ALL, jax.random.key(1), places=5, reach=0.5)
    assert found.values.shape == (4, 5, 5)
    np.testing.assert_allclose(found.places, [-0.5, -0.25, 0, 0.25, 0.5])
    predicted = model.apply(variables, jnp.asarray(batch.images), train=False)
    shown, target = mask_points(predicted, jnp.asarray(batch.points), jnp.asarray(batch.visible))
    for values, loss in zip(found.values, ALL.values(), strict=True):
        np.testing.assert_allclose(
            values[2, 2], masked_mean(loss(shown, target), jnp.asarray(batch.visible)), rtol=1e-4
        )
        assert np.ptp(values) > 0


def test_directions_are_as_long_as_each_filter(network):
    from wing_jax.analysis.landscape import random_direction

    params = network[1]["params"]
    drawn = random_direction(jax.random.key(0), params)
    for own, leaf in zip(jax.tree.leaves(drawn), jax.tree.leaves(params), strict=True):
        if leaf.ndim < 2:
            assert not own.any()
        else:
            axes = tuple(range(leaf.ndim - 1))
            np.testing.assert_allclose(jnp.linalg.norm(own.reshape(-1, own.shape[-1]), axis=0),
                                       jnp.sqrt(jnp.square(leaf).sum(axes)), rtol=1e-4)  # fmt: skip


def test_a_training_is_followed_from_its_start_to_its_end():
    config = Config(
        name="followed", data=DataConfig(name="synthetic", train_faces=16, validation=0.3), stage1=STAGE, devices=1
    )
    setup, settings = first_setup(config, training_data(config)), settings_of(config, mesh_of(config))
    seen = follow(setup, settings, at=(0, 2, 6))
    assert [one.step for one in seen] == [0, 2, 6]
    runner = make_runner(setup, settings)
    placed, _ = runner.advance(runner.place(setup.state(seed=0)), 0, 6)
    images, points, _ = setup.validation_crops()
    predicted, _ = setup.network().apply(runner.whole(placed).variables, jnp.asarray(images), train=False)
    np.testing.assert_allclose(seen[-1].errors, predicted - points, atol=1e-4)
    mean = setup.mean * STAGE.input_size - 0.5
    np.testing.assert_allclose(seen[0].errors, mean - points, atol=1e-4)
    longer = dataclasses.replace(STAGE, steps=900).steps
    assert probe_steps(longer)[0] == 0
    assert probe_steps(longer)[-1] == longer
