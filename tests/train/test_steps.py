"""The training step: equal on one device and on several, by shard_map and by pmap."""

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


def single_step(step_network=None, step_optimizer=None, loss=LOSS, **settings):
    """Return a jitted step outside of any mapped axis."""
    settings = {"reduction": "mean", "eyes": EYES, "axis": None} | settings
    return jax.jit(make_train_step(step_network or network(), step_optimizer or optimizer(), loss, **settings))


def optimizer():
    rates = learning_rates(first=1e-2, last=1e-3, steps=10, decay="cosine")
    return make_optimizer("adamw", rates, weight_decay=1e-2)


@functools.cache
def cached_state(norm, average):
    return jax.device_get(init_state(network(norm=norm), optimizer(), seed=3, input_size=SIZE, average=average))


def first_state(norm="none", *, average=True):
    """Return a copy, because steps donate their state, of a cached state, because it takes seconds to compile."""
    return jax.tree.map(jnp.asarray, jax.tree.map(np.copy, cached_state(norm, average)))


def make_batch(*, hidden=0.3, seed=0):
    """Return faces with unevenly many visible points, for which the mean of the devices' means is not the batch's
    mean."""
    random = np.random.default_rng(seed)
    share = np.linspace(0, 2 * hidden, FACES)[:, None]
    return Batch(
        images=random.integers(0, 256, (FACES, SIZE, SIZE, 3), dtype=np.uint8),
        points=random.uniform(0, SIZE, (FACES, POINTS, 2)).astype(np.float32),
        visible=random.uniform(size=(FACES, POINTS)) >= share,
    )


def run(batches, *, count, parallel="jit", norm="none", reduction="mean", steps=3):
    """Return the state after some steps on `count` devices, and the metrics of each step."""
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
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == count
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0])  # all replicas are equal
    return jax.device_get(replicas.whole_state(state)), jax.device_get(list(map(replicas.first_metrics, history)))


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "reduction"), [("none", "sum_over_points_mean_over_batch"), ("batch", "mean")])
def test_one_device_four_devices_and_pmap_agree(norm, reduction):
    batches = [make_batch(seed=seed) for seed in range(3)]
    state, history = run(batches, count=1, norm=norm, reduction=reduction)
    for parallel in ("jit", "pmap"):
        state_on_4, history_on_4 = run(batches, count=4, parallel=parallel, norm=norm, reduction=reduction)
        for expected, metrics in zip(history, history_on_4, strict=True):
            assert set(expected) == {"loss", "nme", "gradient_norm"}
            for name in expected:
                np.testing.assert_allclose(metrics[name], expected[name], rtol=2e-5, err_msg=f"{parallel} {name}")
        assert jax.tree.structure(state_on_4) == jax.tree.structure(state)
        leaves = zip(jax.tree.leaves_with_path(state), jax.tree.leaves(state_on_4), strict=True)
        for (path, expected), leaf in leaves:
            np.testing.assert_allclose(leaf, expected, rtol=5e-4, atol=5e-6, err_msg=f"{parallel} {path}")


@pytest.mark.slow
def test_a_step_without_an_axis_equals_that_of_one_replica():
    batches = [make_batch(seed=seed) for seed in range(3)]
    expected = run(batches, count=1)
    step, state, history = single_step(ema=0.9), first_state(), []
    for batch in batches:
        state, metrics = step(state, batch)
        history.append(metrics)
    for expected_leaf, leaf in zip(jax.tree.leaves(expected), jax.tree.leaves((state, history)), strict=True):
        np.testing.assert_allclose(leaf, expected_leaf, rtol=5e-4, atol=5e-6)


def test_the_test_batch_detects_a_mean_of_the_devices_means():
    """The devices' parts of the batch of the tests above have different numbers of visible points."""
    batch = make_batch()
    per_device = batch.visible.sum(1).reshape(4, -1).sum(1)
    assert len(set(per_device.tolist())) > 1


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["sum_over_points_mean_over_batch", "mean"])
def test_loss_and_gradient_equal_the_public_reductions(reduction):
    batch, state = jax.tree.map(jnp.asarray, make_batch()), first_state()
    reduce = {"sum_over_points_mean_over_batch": losses.sum_over_points_mean_over_batch, "mean": losses.masked_mean}[
        reduction
    ]

    def objective(params):
        predicted, target = losses.mask_points(
            model().apply({"params": params}, batch.images), batch.points, batch.visible
        )
        return reduce(LOSS(predicted, target), batch.visible)

    value, gradient = jax.jit(jax.value_and_grad(objective))(state.variables["params"])
    _, metrics = single_step(reduction=reduction)(state, batch)
    total, count = metrics["loss"]
    np.testing.assert_allclose(total / count, value, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"][0], optax.tree.norm(gradient), rtol=1e-5)
    assert metrics["gradient_norm"][1] == 1


@pytest.mark.slow
def test_the_gradients_norm_is_measured_in_every_tenth_step():
    step = single_step()
    state, batch = first_state(), make_batch()
    for number, count in ((0, 1), (1, 0), (9, 0), (10, 1)):
        _, metrics = step(state.replace(step=jnp.asarray(number, jnp.int32)), batch)
        assert metrics["gradient_norm"][1] == count
        assert (metrics["gradient_norm"][0] > 0) == count


@pytest.mark.slow
def test_averaged_variables_follow_the_closed_form():
    step = single_step(ema=0.15)
    state, batch = first_state(), make_batch()
    expected = jax.device_get(state.averaged)
    for number in range(1, 4):
        state, _ = step(state, batch)
        decay = min(0.15, number / (9 + number))  # 0.1, then 0.15
        expected = jax.tree.map(
            lambda old, new, d=decay: np.float32(d) * old + np.float32(1 - d) * np.asarray(new),
            expected,
            state.variables,
        )
    for leaf, expected_leaf in zip(jax.tree.leaves(state.averaged), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, expected_leaf, rtol=1e-5, atol=1e-7)
    assert state.best_variables is state.averaged
    assert first_state(average=False).averaged is None


@pytest.mark.slow
def test_a_state_without_averaged_variables_stays_without():
    state, _ = single_step(ema=0.9)(first_state(average=False), make_batch())
    assert state.averaged is None
    assert state.best_variables is state.variables


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_second_step_is_not_traced_again_and_the_state_is_donated(parallel):
    step = make_train_step(network(axis=devices.AXIS), optimizer(), LOSS, reduction="mean", eyes=EYES, ema=0.9)
    traces = []

    def counting_step(state, batch):
        traces.append(1)
        return step(state, batch)

    replicas = Replicas(devices.make_mesh(4), parallel=parallel)
    compiled, batch = replicas.compile(counting_step, split=(True,)), replicas.split(make_batch())
    first, _ = compiled(replicas.place_state(first_state()), batch)
    second, _ = compiled(first, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    traces_before = len(traces)
    third, _ = compiled(second, batch)
    assert len(traces) == traces_before == 1
    assert replicas.whole_state(third).step == 3


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_coordinates_of_hidden_points_have_no_effect(norm):
    batch = make_batch()
    assert not batch.visible.all()
    with_nan = np.where(batch.visible[..., None], batch.points, np.float32(np.nan))
    with_zeros = np.nan_to_num(with_nan)
    step = single_step(network(norm=norm))
    results = [step(first_state(norm), batch._replace(points=points)) for points in (with_nan, with_zeros)]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


def test_batch_without_a_visible_point_gives_no_gradient():
    batch = make_batch()._replace(visible=np.zeros((FACES, POINTS), bool))
    step = single_step()
    _, metrics = step(first_state(), batch)
    assert metrics["loss"] == (0, 0)
    assert metrics["gradient_norm"][0] == 0
    assert metrics["nme"] == (0, 0)


@pytest.mark.slow
def test_normalized_error_equals_a_loop():
    batch = make_batch(hidden=0.2, seed=4)
    predicted = batch.points + np.random.default_rng(1).normal(size=(FACES, POINTS, 2)).astype(np.float32)
    batch.points[2, 0] = batch.points[2, 1]  # both eyes at the same position: does not count
    expected = []
    for face in range(FACES):
        points, visible = batch.points[face].astype(float), batch.visible[face]
        distance = np.hypot(*(points[0] - points[1]))
        if visible[0] and visible[1] and distance > 0:
            expected.append(np.hypot(*(predicted[face] - points)[visible].T).mean() / distance)
    assert 0 < len(expected) < FACES
    total, count = jax.jit(functools.partial(normalized_error, eyes=EYES))(predicted, batch)
    assert count == len(expected)
    np.testing.assert_allclose(total, sum(expected), rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_step_keeps_float32_parameters():
    state, batch = first_state("batch"), make_batch()
    after, metrics = single_step(network(norm="batch", dtype=jnp.bfloat16), ema=0.9)(state, batch)
    for leaf in jax.tree.leaves((after.variables, after.averaged, metrics)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    _, float32_metrics = single_step(network(norm="batch"))(state, batch)
    np.testing.assert_allclose(metrics["loss"][0], float32_metrics["loss"][0], rtol=0.05)
    assert metrics["loss"][0] != float32_metrics["loss"][0]


@pytest.mark.slow
def test_batch_statistics_are_updated_in_training_only():
    """BatchNorm's running statistics change in a step, and predictions use them, not those of the batch."""
    normalized, batch = network(norm="batch"), make_batch()
    state = first_state("batch")
    after, _ = single_step(normalized)(state, batch)
    old_stats, new_stats = state.variables["batch_stats"], after.variables["batch_stats"]
    changed = jax.tree.map(lambda old, new: bool((np.asarray(old) != new).any()), old_stats, new_stats)
    assert jax.tree.leaves(changed)
    assert all(jax.tree.leaves(changed))
    predict = make_predict(normalized)
    all_faces, first_face = (predict(after.variables, jnp.asarray(batch.images[:n])) for n in (FACES, 1))
    np.testing.assert_allclose(all_faces[:1], first_face, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_dropout_depends_on_seed_and_step_only_and_is_off_when_predicting():
    dropout_model, sgd = model(dropout=0.5), optax.sgd(0.1)  # no weight decay: dropped parameters do not change
    state, batch = first_state(average=False), Batch(*(values[:1] for values in make_batch(hidden=0.0)))
    state = state.replace(optimizer=sgd.init(state.variables["params"]))

    @functools.cache
    def step(seed):
        return single_step(as_network(dropout_model), sgd, seed=seed)

    def kernel_after(seed, number=0):
        after, _ = step(seed)(state.replace(step=jnp.asarray(number, jnp.int32)), batch)
        return np.asarray(after.variables["params"]["output"]["kernel"])

    np.testing.assert_array_equal(kernel_after(1), kernel_after(1))
    assert (kernel_after(1) != kernel_after(2)).any()
    assert (kernel_after(1) != kernel_after(1, number=1)).any()
    kernel = np.asarray(state.variables["params"]["output"]["kernel"])
    dropped = [np.abs(kernel_after(seed) - kernel).max(1) == 0 for seed in range(4)]
    assert 0.2 < np.mean(dropped) < 0.9  # about half of the hidden layer, and units with zero ReLU output
    images = jnp.asarray(batch.images)
    predictions = [jax.jit(each.apply)(state.variables, images) for each in (dropout_model, model())]
    np.testing.assert_array_equal(*predictions)


def test_a_loss_or_a_model_of_the_wrong_shape_is_refused():
    def reduced(predicted, target):
        return jnp.abs(predicted - target).mean(-1)

    with pytest.raises(InputError, match=r"the loss returned \[8, 5\] for points \[8, 5, 2\]: it must be elementwise"):
        single_step(loss=reduced)(first_state(), make_batch())
    batch = make_batch()
    few = batch._replace(points=batch.points[:, :3], visible=batch.visible[:, :3])
    message = r"the model returned \[8, 5, 2\] for crops \[8, 16, 16, 3\].*here \[8, 3, 2\]"
    with pytest.raises(InputError, match=message):
        single_step()(first_state(), few)
