"""What advances a training: one step a program or many, on one device or several, by shard_map or pmap, fed or not,
and with the CPU kernel on several devices."""

import jax
import numpy as np
import pytest

from tests.support.device_input import AUGMENT, ORDER, SIZE, make_face_crops, source, transforms
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
def in_pure_jax():
    """But for the test that asks for the kernel."""
    with cpu_kernel.switched("off"):
        yield


def network(axis=None):
    return as_network(PlainRegressor(points=5, channels=(4, 8), hidden=8, norm="batch", axis=axis))


def optimizer():
    """Momentum, for Adam's first steps are as long whether a gradient is large or rounding makes it."""
    rates = learning_rates(first=1e-3, last=1e-4, steps=10, decay="cosine")
    return make_optimizer("sgd", rates, weight_decay=1e-2)


def untrained():
    return init_state(network(), optimizer(), seed=0, input_size=SIZE, average=True)


def make_step():
    return make_train_step(network(devices.AXIS), optimizer(), LOSS, reduction="mean", eyes=(0, 1), ema=0.9)


def replicas_on(count, parallel):
    return Replicas(devices.make_mesh(count), parallel=parallel)


def faces_on(face_crops, count=1):
    return training_faces(face_crops, transforms(), order=ORDER, flip=MTFL_5.flip, parts=count)


def on_device(face_crops, *, count=1, parallel="jit", steps_per_call=1):
    return DeviceInputRunner(
        make_step(),
        source(batch_size=BATCH),
        faces_on(face_crops, count),
        replicas=replicas_on(count, parallel),
        steps_per_call=steps_per_call,
    )


def fed(face_crops, *, count=1, parallel="jit"):
    batches = HostInput(
        face_crops=face_crops,
        crop_to_image=transforms(),
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


def run(runner, spans=((0, 4), (4, 6))):
    """The state after the spans, and the metrics of all steps."""
    state, history = runner.place(untrained()), []
    for first, last in spans:
        state, metrics = runner.advance(state, first, last)
        history.append(jax.device_get(metrics))
    metrics = jax.tree.map(lambda *values: np.concatenate(values), *history)
    return jax.device_get(runner.whole(state)), metrics


@pytest.fixture(scope="module")
def single(face_crops):
    return run(on_device(face_crops))


@pytest.fixture(scope="module")
def single_fed(face_crops):
    return run(fed(face_crops))


def assert_alike(one, other):
    state, metrics = one
    theirs, their_metrics = other
    assert int(theirs.step) == int(state.step) == 6
    for name in metrics:
        assert metrics[name][0].shape == (6,)
        for mine, their in zip(metrics[name], their_metrics[name], strict=True):
            np.testing.assert_allclose(their, mine, rtol=1e-4, err_msg=name)
    for (path, mine), their in zip(
        jax.tree.leaves_with_path(state.variables), jax.tree.leaves(theirs.variables), strict=True
    ):
        np.testing.assert_allclose(their, mine, rtol=1e-3, atol=1e-4, err_msg=str(path))  # they moved by up to 0.7


@pytest.mark.parametrize("steps_per_call", [2, 4])
def test_many_steps_in_one_program_are_the_same_steps(face_crops, single, steps_per_call):
    assert_alike(single, run(on_device(face_crops, steps_per_call=steps_per_call)))


@pytest.mark.parametrize(
    ("count", "parallel", "steps_per_call"),
    [(2, "jit", 1), (4, "jit", 3), (8, "jit", 1), (1, "pmap", 1), (2, "pmap", 1), (4, "pmap", 1), (8, "pmap", 2)],
)
def test_several_devices_train_what_one_does(face_crops, single, count, parallel, steps_per_call):
    assert_alike(single, run(on_device(face_crops, count=count, parallel=parallel, steps_per_call=steps_per_call)))


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_fed_steps_are_the_same_on_several_devices(face_crops, single_fed, parallel):
    assert_alike(single_fed, run(fed(face_crops, count=8, parallel=parallel)))


def test_both_inputs_are_one_training(single, single_fed):
    """Six steps on the same faces, crops and points; the pixels differ by rounding, so that
    losses agree to a hundredth and parameters, which moved by up to 0.7, to a hundredth."""
    state, metrics = single
    theirs, their_metrics = single_fed
    for name in metrics:
        np.testing.assert_array_equal(metrics[name][1], their_metrics[name][1], err_msg=name)
        np.testing.assert_allclose(their_metrics[name][0], metrics[name][0], rtol=1e-2, err_msg=name)
    for mine, other in zip(jax.tree.leaves(state.variables), jax.tree.leaves(theirs.variables), strict=True):
        np.testing.assert_allclose(other, mine, atol=1e-2)


@kernel_needed
@pytest.mark.parametrize(("count", "parallel"), [(4, "jit"), (2, "pmap")])
def test_several_devices_train_with_the_cpu_kernel_what_one_does_without(face_crops, single, count, parallel):
    given, faces, replicas = source(batch_size=BATCH), faces_on(face_crops, count), replicas_on(count, parallel)
    program = make_program(make_step(), given, replicas=replicas)
    indices = EpochSampler(faces.order, batch_size=BATCH, seed=given.seed)(0, 1)
    held = replicas.replicate(faces._replace(images=faces.images[:0]))
    held = held._replace(images=replicas.split(faces.images))
    state = replicas.place_state(untrained())
    with cpu_kernel.switched("auto"):
        text = program.lower(state, held, replicas.replicate(indices)).as_text()
        found = run(on_device(face_crops, count=count, parallel=parallel))
    for name in ("wing_jax_conv_pool", "wing_jax_conv_pool_weights"):
        assert name in text
    assert_alike(single, found)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("make", [on_device, fed])
def test_nothing_is_traced_after_the_first_span(face_crops, make, count):
    runner = make(face_crops, count=count)
    state, _ = runner.advance(runner.place(untrained()), 0, 2)
    assert runner.compile_seconds > 0
    with jax.no_tracing():
        state, _ = runner.advance(state, 2, 4)
        state, _ = runner.advance(state, 4, 6)
    assert int(state.step) == 6


def test_a_span_started_later_goes_on_as_the_whole(face_crops, single):
    runner = on_device(face_crops)
    state, _ = runner.advance(runner.place(untrained()), 0, 2)
    resumed = on_device(face_crops)
    state = resumed.place(jax.tree.map(np.asarray, runner.whole(state)))
    state, _ = resumed.advance(state, 2, 6)
    for mine, their in zip(jax.tree.leaves(single[0]), jax.tree.leaves(jax.device_get(state)), strict=True):
        np.testing.assert_array_equal(mine, their)


def test_both_are_runners(face_crops):
    for runner in (on_device(face_crops), fed(face_crops)):
        assert isinstance(runner, Runner)


def test_the_state_is_given_away(face_crops):
    runner = on_device(face_crops)
    state = runner.place(untrained())
    runner.advance(state, 0, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
