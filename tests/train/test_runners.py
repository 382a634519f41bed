"""Runners: equal results for one or many steps per program, one or several devices, shard_map or pmap, either input,
and with the CPU kernel."""

import contextlib

import jax
import numpy as np
import pytest

from tests.support.device_input import AUGMENT, ORDER, SIZE, make_face_crops, make_input, make_transforms
from wing_jax import losses
from wing_jax.data.face_crops import FaceCrops
from wing_jax.input.on_device import training_faces
from wing_jax.input.on_host import HostInput
from wing_jax.input.sampling import EpochSampler
from wing_jax.input.tfdata import training_batches
from wing_jax.models import PlainRegressor, cpu_kernel
from wing_jax.models.networks import as_network
from wing_jax.runtime import devices
from wing_jax.schemes import MTFL_5
from wing_jax.train.optimizer import learning_rates, make_optimizer
from wing_jax.train.replicas import Replicas
from wing_jax.train.runners import DeviceInputRunner, HostInputRunner, Runner, make_program
from wing_jax.train.state import init_state
from wing_jax.train.steps import make_train_step

BATCH = 8
LOSS = losses.make_loss("wing", reference_size=64, working_extent=float(SIZE), width=10.0, epsilon=2.0)
kernel_needed = pytest.mark.skipif(not cpu_kernel.load(), reason=cpu_kernel.status())


@pytest.fixture(scope="module")
def face_crops() -> FaceCrops:
    return make_face_crops()


@pytest.fixture(scope="module", autouse=True)
def without_cpu_kernel():
    """Switch the CPU kernel off; the test of the kernel switches it on."""
    with cpu_kernel.switched("off"):
        yield


def network(axis=None):
    return as_network(PlainRegressor(points=5, channels=(4, 8), hidden=8, norm="batch", axis=axis))


def optimizer():
    """Return SGD with momentum: Adam's first steps are just as long for gradients that are only rounding."""
    rates = learning_rates(first=1e-3, last=1e-4, steps=10, decay="cosine")
    return make_optimizer("sgd", rates, weight_decay=1e-2)


def make_state():
    return init_state(network(), optimizer(), seed=0, input_size=SIZE, average=True)


def make_step():
    return make_train_step(network(devices.AXIS), optimizer(), LOSS, reduction="mean", eyes=(0, 1), ema=0.9)


def replicas_on(count, parallel):
    return Replicas(devices.make_mesh(count), parallel=parallel)


def faces_on(face_crops, count=1):
    return training_faces(face_crops, make_transforms(), order=ORDER, flip=MTFL_5.flip, parts=count)


def device_runner(face_crops, *, count=1, parallel="jit", steps_per_call=1):
    return DeviceInputRunner(
        make_step(),
        make_input(batch_size=BATCH),
        faces_on(face_crops, count),
        replicas=replicas_on(count, parallel),
        steps_per_call=steps_per_call,
    )


def host_runner(face_crops, *, count=1, parallel="jit"):
    batches = HostInput(
        face_crops=face_crops,
        crop_to_image=make_transforms(),
        order=ORDER,
        flip=MTFL_5.flip,
        augment=AUGMENT,
        size=SIZE,
        batch_size=BATCH,
        seed=3,
    )

    def stream(first_step):
        return training_batches(batches, first_step=first_step, last_step=6)

    return HostInputRunner(make_step(), stream, replicas=replicas_on(count, parallel))


def run(runner, *, spans=((0, 2), (2, 4), (4, 6))):
    """Return the state after the spans, and the metrics of all steps.

    Nothing is traced in a span as long as the first.
    """
    state, history = runner.place(make_state()), []
    for first, last in spans:
        repeated = history and last - first == spans[0][1]
        with jax.no_tracing() if repeated else contextlib.nullcontext():
            state, metrics = runner.advance(state, first, last)
        history.append(jax.device_get(metrics))
        assert runner.compile_seconds > 0
    metrics = jax.tree.map(lambda *values: np.concatenate(values), *history)
    return jax.device_get(runner.whole(state)), metrics


@pytest.fixture(scope="module")
def device_result(face_crops):
    return run(device_runner(face_crops))


@pytest.fixture(scope="module")
def host_result(face_crops):
    return run(host_runner(face_crops))


def assert_close(result, expected):
    state, metrics = result
    expected_state, expected_metrics = expected
    assert int(state.step) == int(expected_state.step) == 6
    for name in expected_metrics:
        assert expected_metrics[name][0].shape == (6,)
        for values, expected_values in zip(metrics[name], expected_metrics[name], strict=True):
            np.testing.assert_allclose(values, expected_values, rtol=1e-4, err_msg=name)
    for (path, expected_leaf), leaf in zip(
        jax.tree.leaves_with_path(expected_state.variables), jax.tree.leaves(state.variables), strict=True
    ):  # in the six steps, leaves change by up to 0.7
        np.testing.assert_allclose(leaf, expected_leaf, rtol=1e-3, atol=1e-4, err_msg=str(path))


@pytest.mark.slow
def test_many_steps_in_one_program_give_the_same_result(face_crops, device_result):
    assert_close(run(device_runner(face_crops, steps_per_call=4), spans=((0, 4), (4, 6))), device_result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "parallel", "steps_per_call"),
    [(4, "jit", 2), (8, "jit", 1), (1, "pmap", 1), (2, "pmap", 2)],
)
def test_several_devices_give_the_result_of_one(face_crops, device_result, count, parallel, steps_per_call):
    runner = device_runner(face_crops, count=count, parallel=parallel, steps_per_call=steps_per_call)
    assert_close(run(runner), device_result)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_several_devices_with_the_host_input_give_the_result_of_one(face_crops, host_result, parallel):
    assert_close(run(host_runner(face_crops, count=8, parallel=parallel)), host_result)


@pytest.mark.slow
def test_both_inputs_give_the_same_training(device_result, host_result):
    """Faces, crops and points are the same, and pixels differ by rounding. After six steps, losses differ by at most
    1 %, and parameters, which change by up to 0.7, by at most 0.01."""
    device_state, device_metrics = device_result
    host_state, host_metrics = host_result
    for name in device_metrics:
        np.testing.assert_array_equal(device_metrics[name][1], host_metrics[name][1], err_msg=name)
        np.testing.assert_allclose(host_metrics[name][0], device_metrics[name][0], rtol=1e-2, err_msg=name)
    leaves = zip(jax.tree.leaves(device_state.variables), jax.tree.leaves(host_state.variables), strict=True)
    for device_leaf, host_leaf in leaves:
        np.testing.assert_allclose(host_leaf, device_leaf, atol=1e-2)


@pytest.mark.slow
@kernel_needed
@pytest.mark.parametrize(("count", "parallel"), [(4, "jit"), (2, "pmap")])
def test_several_devices_with_the_cpu_kernel_give_the_result_of_one_without(face_crops, device_result, count, parallel):
    batches, faces, replicas = make_input(batch_size=BATCH), faces_on(face_crops, count), replicas_on(count, parallel)
    program = make_program(make_step(), batches, replicas=replicas)
    indices = EpochSampler(faces.order, batch_size=BATCH, seed=batches.seed)(0, 1)
    placed = replicas.replicate(faces._replace(images=faces.images[:0]))
    placed = placed._replace(images=replicas.split(faces.images))
    state = replicas.place_state(make_state())
    with cpu_kernel.switched("auto"):
        text = program.lower(state, placed, replicas.replicate(indices)).as_text()
        result = run(device_runner(face_crops, count=count, parallel=parallel))
    for name in ("wing_jax_conv_pool", "wing_jax_conv_pool_weights"):
        assert name in text
    assert_close(result, device_result)


@pytest.mark.slow
def test_a_resumed_training_gives_the_result_of_an_uninterrupted_one_and_the_state_is_donated(
    face_crops, device_result
):
    runner = device_runner(face_crops)
    placed = runner.place(make_state())
    state, _ = runner.advance(placed, 0, 2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(placed))
    resumed = device_runner(face_crops)
    state = resumed.place(jax.tree.map(np.asarray, runner.whole(state)))
    state, _ = resumed.advance(state, 2, 6)
    leaves = zip(jax.tree.leaves(device_result[0]), jax.tree.leaves(jax.device_get(state)), strict=True)
    for expected, leaf in leaves:
        np.testing.assert_array_equal(expected, leaf)


def test_both_classes_implement_the_runner_protocol(face_crops):
    for runner in (device_runner(face_crops), host_runner(face_crops)):
        assert isinstance(runner, Runner)
