"""One step of training: the same on one device and on several, by shard_map and by pmap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax import losses
from wing_jax.errors import InputError
from wing_jax.models import PlainRegressor
from wing_jax.models.networks import as_network
from wing_jax.runtime import devices
from wing_jax.train.optimizer import learning_rates, make_optimizer
from wing_jax.train.replicas import Replicas
from wing_jax.train.state import init_state
from wing_jax.train.steps import make_predict, make_train_step, normalized_error
from wing_jax.types import Batch

POINTS, SIZE, FACES, EYES = 5, 16, 8, (0, 1)
LOSS = losses.make_loss("wing", reference_size=64, working_extent=float(SIZE), width=10.0, epsilon=2.0)


def model(*, norm="none", dropout=0.0, axis=None, dtype=jnp.float32):
    return PlainRegressor(points=POINTS, channels=(4,), hidden=8, norm=norm, dropout=dropout, axis=axis, dtype=dtype)


def network(**fields):
    return as_network(model(**fields))


def one_step(given=None, rule=None, loss=LOSS, **settings):
    """A compiled step of one replica, outside of any mapped axis."""
    settings = {"reduction": "mean", "eyes": EYES, "axis": None} | settings
    return jax.jit(make_train_step(given or network(), rule or optimizer(), loss, **settings))


def optimizer():
    rates = learning_rates(first=1e-2, last=1e-3, steps=10, decay="cosine")
    return make_optimizer("adamw", rates, weight_decay=1e-2)


@functools.cache
def drawn(norm, average):
    return jax.device_get(init_state(network(norm=norm), optimizer(), seed=3, input_size=SIZE, average=average))


def first_state(norm="none", *, average=True):
    """A fresh copy (steps donate their state) of one drawing, which takes seconds to compile."""
    return jax.tree.map(jnp.array, drawn(norm, average))


def make_batch(*, hidden=0.3, seed=0):
    """Faces whose visible points are unevenly spread, so that a mean of the devices' means is not the batch's mean."""
    random = np.random.default_rng(seed)
    share = np.linspace(0, 2 * hidden, FACES)[:, None]
    return Batch(
        images=random.integers(0, 256, (FACES, SIZE, SIZE, 3), dtype=np.uint8),
        points=random.uniform(0, SIZE, (FACES, POINTS, 2)).astype(np.float32),
        visible=random.uniform(size=(FACES, POINTS)) >= share,
    )


def run(batches, *, count, parallel="jit", norm="none", reduction="mean", steps=3):
    """(state, metrics of each step) after some steps on `count` devices."""
    step = make_train_step(
        network(norm=norm, axis=devices.AXIS), optimizer(), LOSS, reduction=reduction, eyes=EYES, ema=0.9
    )
    replicas = Replicas(devices.make_mesh(count), parallel=parallel)
    compiled, state = replicas.compile(step, split=(True,)), replicas.place_state(first_state(norm))
    history = []
    for batch in batches[:steps]:
        state, metrics = compiled(state, replicas.split(batch))
        history.append(metrics)
    for leaf in jax.tree.leaves((state, history)):
        each = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(each) == count
        for other in each[1:]:
            np.testing.assert_array_equal(other, each[0])  # all replicas agree
    return jax.device_get(replicas.whole_state(state)), jax.device_get(list(map(replicas.first_metrics, history)))


@pytest.mark.parametrize(("norm", "reduction"), [("none", "sum_over_points_mean_over_batch"), ("batch", "mean")])
def test_one_device_four_devices_and_pmap_agree(norm, reduction):
    batches = [make_batch(seed=seed) for seed in range(3)]
    state, history = run(batches, count=1, norm=norm, reduction=reduction)
    for parallel in ("jit", "pmap"):
        other, other_history = run(batches, count=4, parallel=parallel, norm=norm, reduction=reduction)
        for ours, theirs in zip(history, other_history, strict=True):
            assert set(ours) == {"loss", "nme", "gradient_norm"}
            for name in ours:
                np.testing.assert_allclose(theirs[name], ours[name], rtol=2e-5, err_msg=f"{parallel} {name}")
        assert jax.tree.structure(other) == jax.tree.structure(state)
        leaves = zip(jax.tree.leaves_with_path(state), jax.tree.leaves(other), strict=True)
        for (path, ours), theirs in leaves:
            np.testing.assert_allclose(theirs, ours, rtol=5e-4, atol=5e-6, err_msg=f"{parallel} {path}")


def test_a_step_alone_is_that_of_one_replica():
    batches = [make_batch(seed=seed) for seed in range(3)]
    state, history = run(batches, count=1)
    step, alone, metrics = one_step(ema=0.9), first_state(), []
    for batch in batches:
        alone, measured = step(alone, batch)
        metrics.append(measured)
    for ours, theirs in zip(jax.tree.leaves((state, history)), jax.tree.leaves((alone, metrics)), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=5e-4, atol=5e-6)


def test_a_mean_of_the_devices_means_would_be_caught():
    """The batch of the test above tells a right reduction from the usual wrong one."""
    batch = make_batch()
    per_face = batch.visible.sum(1).reshape(4, -1).sum(1)
    assert len(set(per_face.tolist())) > 1


@pytest.mark.parametrize("reduction", ["sum_over_points_mean_over_batch", "mean"])
def test_loss_and_gradient_equal_the_public_reductions(reduction):
    batch, state = jax.tree.map(jnp.asarray, make_batch()), first_state()
    rule = {"sum_over_points_mean_over_batch": losses.sum_over_points_mean_over_batch, "mean": losses.masked_mean}[
        reduction
    ]

    def objective(params):
        predicted, target = losses.mask_points(
            model().apply({"params": params}, batch.images), batch.points, batch.visible
        )
        return rule(LOSS(predicted, target), batch.visible)

    value, gradient = jax.value_and_grad(objective)(state.variables["params"])
    _, metrics = one_step(reduction=reduction)(state, batch)
    total, count = metrics["loss"]
    np.testing.assert_allclose(total / count, value, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"][0], optax.tree.norm(gradient), rtol=1e-5)
    assert metrics["gradient_norm"][1] == 1


def test_the_gradients_norm_is_measured_in_every_tenth_step():
    step = one_step()
    state, batch = first_state(), make_batch()
    for number, count in ((0, 1), (1, 0), (9, 0), (10, 1)):
        _, metrics = step(state.replace(step=jnp.int32(number)), batch)
        assert metrics["gradient_norm"][1] == count
        assert (metrics["gradient_norm"][0] > 0) == count


def test_averaged_variables_follow_the_closed_form():
    step = one_step(ema=0.15)
    state, batch = first_state(), make_batch()
    expected = state.averaged
    for number in range(1, 4):
        state, _ = step(state, batch)
        decay = min(0.15, number / (9 + number))  # 0.1, then 0.15
        expected = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, expected, state.variables)
    for ours, theirs in zip(jax.tree.leaves(state.averaged), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert state.best_variables is state.averaged
    assert first_state(average=False).averaged is None


def test_nothing_is_averaged_where_no_average_is_asked_for():
    state, _ = one_step(ema=0.9)(first_state(average=False), make_batch())
    assert state.averaged is None
    assert state.best_variables is state.variables


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_second_step_is_not_traced_again_and_the_state_is_donated(parallel):
    step = make_train_step(network(axis=devices.AXIS), optimizer(), LOSS, reduction="mean", eyes=EYES, ema=0.9)
    traced = []

    def counted(state, batch):
        traced.append(1)
        return step(state, batch)

    replicas = Replicas(devices.make_mesh(4), parallel=parallel)
    compiled, batch = replicas.compile(counted, split=(True,)), replicas.split(make_batch())
    first, _ = compiled(replicas.place_state(first_state()), batch)
    second, _ = compiled(first, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    once = len(traced)
    third, _ = compiled(second, batch)
    assert len(traced) == once == 1
    assert replicas.whole_state(third).step == 3


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_what_stands_at_hidden_points_is_harmless(norm):
    batch = make_batch()
    assert not batch.visible.all()
    holes = np.where(batch.visible[..., None], batch.points, np.float32(np.nan))
    zeros = np.nan_to_num(holes)
    step = one_step(network(norm=norm))
    ours = step(first_state(norm), batch._replace(points=holes))
    theirs = step(first_state(norm), batch._replace(points=zeros))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


def test_batch_without_a_visible_point_gives_no_gradient():
    batch = make_batch()._replace(visible=np.zeros((FACES, POINTS), bool))
    step = one_step()
    _, metrics = step(first_state(), batch)
    assert metrics["loss"] == (0, 0)
    assert metrics["gradient_norm"][0] == 0
    assert metrics["nme"] == (0, 0)


def test_normalized_error_equals_a_loop():
    batch = make_batch(hidden=0.2, seed=4)
    predicted = batch.points + np.random.default_rng(1).normal(size=(FACES, POINTS, 2)).astype(np.float32)
    batch.points[2, 0] = batch.points[2, 1]  # eyes in one place: left out
    expected = []
    for face in range(FACES):
        points, shown = batch.points[face].astype(float), batch.visible[face]
        apart = np.hypot(*(points[0] - points[1]))
        if shown[0] and shown[1] and apart > 0:
            expected.append(np.hypot(*(predicted[face] - points)[shown].T).mean() / apart)
    assert 0 < len(expected) < FACES
    total, count = normalized_error(jnp.asarray(predicted), jax.tree.map(jnp.asarray, batch), eyes=EYES)
    assert count == len(expected)
    np.testing.assert_allclose(total, sum(expected), rtol=1e-5)


def test_bfloat16_step_keeps_float32_parameters():
    state, batch = first_state("batch"), make_batch()
    after, metrics = one_step(network(norm="batch", dtype=jnp.bfloat16), ema=0.9)(state, batch)
    for leaf in jax.tree.leaves((after.variables, after.averaged, metrics)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    _, exact = one_step(network(norm="batch"))(state, batch)
    np.testing.assert_allclose(metrics["loss"][0], exact["loss"][0], rtol=0.05)
    assert metrics["loss"][0] != exact["loss"][0]


def test_training_statistics_are_of_training_only():
    """BatchNorm's running statistics move in a step, and the prediction uses them, not the batch at hand."""
    given, batch = network(norm="batch"), make_batch()
    state = first_state("batch")
    after, _ = one_step(given)(state, batch)
    before, now = state.variables["batch_stats"], after.variables["batch_stats"]
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), before, now)
    assert jax.tree.leaves(moved)
    assert all(jax.tree.leaves(moved))
    predict = make_predict(given)
    together, alone = (predict(after.variables, jnp.asarray(batch.images[:n])) for n in (FACES, 1))
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_dropout_follows_seed_and_step_alone_and_is_off_when_predicting():
    dropping, descent = model(dropout=0.5), optax.sgd(0.1)  # without weight decay: what is dropped does not move
    state, batch = first_state(average=False), Batch(*(values[:1] for values in make_batch(hidden=0.0)))
    state = state.replace(optimizer=descent.init(state.variables["params"]))

    def moved(seed, number=0):
        after, _ = one_step(as_network(dropping), descent, seed=seed)(state.replace(step=jnp.int32(number)), batch)
        return np.asarray(after.variables["params"]["output"]["kernel"])

    np.testing.assert_array_equal(moved(1), moved(1))
    assert (moved(1) != moved(2)).any()
    assert (moved(1) != moved(1, number=1)).any()
    dropped = [np.abs(moved(seed) - state.variables["params"]["output"]["kernel"]).max(1) == 0 for seed in range(4)]
    assert 0.2 < np.mean(dropped) < 0.9  # about half of the hidden layer, and what ReLU has shut
    images = jnp.asarray(batch.images)
    np.testing.assert_array_equal(dropping.apply(state.variables, images), model().apply(state.variables, images))


def test_a_loss_or_a_model_of_the_wrong_shape_is_told_of():
    def reduced(predicted, target):
        return jnp.abs(predicted - target).mean(-1)

    with pytest.raises(InputError, match=r"the loss answers \[8, 5\] to points \[8, 5, 2\]: it must be elementwise"):
        one_step(loss=reduced)(first_state(), make_batch())
    batch = make_batch()
    few = batch._replace(points=batch.points[:, :3], visible=batch.visible[:, :3])
    with pytest.raises(InputError, match=r"the model answers \[8, 5, 2\] to crops \[8, 16, 16, 3\].*here \[8, 3, 2\]"):
        one_step()(first_state(), few)
