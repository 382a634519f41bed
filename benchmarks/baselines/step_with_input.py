"""Run CNN-6 training steps by wing_jax's runners: with one constant batch, on-device input, or tf.data."""

import functools
import itertools
import time

from face_file import read
from input_wing import FOREVER, device_source, host_input
from worker import Ready, serve

DRAINED = 8  # steps before the measurement, which consume the batches that tf.data had ready


def prepare(settings: dict) -> Ready:
    """Compile the step and take the first."""
    from wing_jax.runtime import devices

    devices.prepare_xla()
    import jax
    import optax

    from wing_jax.losses import make_loss
    from wing_jax.models import CNN6
    from wing_jax.models.networks import as_network
    from wing_jax.train.optimizer import make_optimizer
    from wing_jax.train.state import init_state
    from wing_jax.train.steps import make_train_step

    faces = read(settings["data"])
    network, optimizer = (
        as_network(CNN6(points=68)),
        make_optimizer("sgd", optax.constant_schedule(1e-4), weight_decay=5e-4),
    )
    loss = make_loss("wing", working_extent=float(settings["size"]))
    step = make_train_step(network, optimizer, loss, reduction="mean", eyes=(36, 45))
    runner = make_runner(settings, faces, step)
    state, number = runner.place(init_state(network, optimizer, seed=0, input_size=settings["size"])), 0

    def advance(count: int) -> None:
        nonlocal state, number
        for _ in range(count):
            state, _ = runner.advance(state, number, number + 1)
            number += 1
        jax.block_until_ready(state)

    def seconds(count: int) -> float:
        advance(DRAINED)
        start = time.perf_counter()
        advance(count)
        return time.perf_counter() - start

    return Ready(seconds=seconds, packages=("jax", "jaxlib", "flax", "optax", "tensorflow-cpu"))


def make_runner(settings: dict, faces: dict, step):
    """Return the runner with the chosen input."""
    import jax

    from wing_jax.input.tfdata import training_batches
    from wing_jax.runtime import devices
    from wing_jax.train.replicas import Replicas
    from wing_jax.train.runners import DeviceInputRunner, HostInputRunner

    replicas, source = Replicas(devices.make_mesh()), settings["input"]
    if source == "device":
        return DeviceInputRunner(step, *device_source(settings, faces), replicas=replicas)
    batches = host_input(settings, faces)
    if source == "tfdata":
        stream = functools.partial(training_batches, batches, last_step=FOREVER)
        return HostInputRunner(step, lambda first: stream(first_step=first), replicas=replicas)
    batch = replicas.split(jax.tree.map(jax.numpy.asarray, batches(0)))
    return HostInputRunner(step, lambda first: itertools.repeat(batch), replicas=replicas)


if __name__ == "__main__":
    serve(prepare)
