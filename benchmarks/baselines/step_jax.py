"""Run training steps in JAX: "plain" as in a tutorial, "pure", "kernel" and "bfloat16" as wing_jax trains."""

import numpy as np
from worker import NotInstalledError, Ready, serve, timed

PACKAGES = ("jax", "jaxlib", "flax", "optax")
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-4, 0.9, 5e-4
WIDTH, EPSILON = 10.0, 2.0


def prepare(settings: dict) -> Ready:
    """Compile the step and take the first three."""
    kind = settings["kind"]
    if kind != "plain":
        prepare_wing_jax(kind)
    import jax

    initial = dict(np.load(settings["start"]))
    kernels = {value.shape: value for name, value in initial.items() if name.startswith("kernel")}
    step, state, batch = (plain if kind == "plain" else wing)(settings, initial, kernels)
    batch = jax.device_put(batch)

    def advance(count: int) -> float:
        nonlocal state
        for _ in range(count):
            state, loss = step(state, batch)
        return float(loss)

    check = [advance(1) for _ in range(3)]
    return Ready(seconds=timed(advance), packages=PACKAGES, check=[] if kind == "bfloat16" else check)


def prepare_wing_jax(kind: str) -> None:
    """Prepare JAX as the training command does, and check whether the CPU kernel is used as requested."""
    from wing_jax.runtime import devices

    devices.prepare_xla()
    from wing_jax.models import cpu_kernel

    cpu_kernel.load()
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    if (cpu_kernel.instructions(dtype=dtype) is None) != (kind == "pure"):
        raise NotInstalledError(f"wing_jax's CPU kernel: {cpu_kernel.status()}")


def with_kernels(params, kernels: dict):
    """Return `params` with the given kernels, which are matched by their shapes."""
    import jax

    return jax.tree.map(lambda leaf: jax.numpy.asarray(kernels.get(leaf.shape, leaf)), params)


def wing(settings: dict, initial: dict, kernels: dict) -> tuple:
    """Return the step of `wing-jax train`, with its metrics."""
    import optax

    from wing_jax.losses import make_loss
    from wing_jax.models import PlainRegressor
    from wing_jax.models.networks import as_network
    from wing_jax.runtime import devices
    from wing_jax.train.optimizer import make_optimizer
    from wing_jax.train.replicas import Replicas
    from wing_jax.train.state import init_state
    from wing_jax.train.steps import make_train_step
    from wing_jax.types import Batch

    size = settings["size"]
    network = as_network(
        PlainRegressor(
            points=settings["points"],
            channels=tuple(settings["channels"]),
            hidden=settings["hidden"],
            dtype="bfloat16" if settings["kind"] == "bfloat16" else "float32",
        )
    )
    rate = optax.constant_schedule(LEARNING_RATE)
    optimizer = make_optimizer("sgd", rate, weight_decay=WEIGHT_DECAY, momentum=MOMENTUM)
    loss = make_loss("wing", reference_size=size, working_extent=float(size), width=WIDTH, epsilon=EPSILON)
    state = init_state(network, optimizer, seed=0, input_size=size)
    variables = {**state.variables, "params": with_kernels(state.variables["params"], kernels)}
    replicas = Replicas(devices.make_mesh(1))
    train_step = make_train_step(network, optimizer, loss, reduction="mean", eyes=(36, 45))
    compiled = replicas.compile(train_step, split=(True,))

    def step(state, batch):
        state, metrics = compiled(state, batch)
        return state, Mean(metrics["loss"])

    visible = np.ones(initial["points"].shape[:2], bool)
    batch = Batch(images=initial["images"], points=initial["points"], visible=visible)
    return step, replicas.place_state(state.replace(variables=variables)), batch


class Mean:
    """A (sum, count) pair that is divided only when it is read, so that steps do not wait for it."""

    def __init__(self, pair: tuple):
        self.pair = pair

    def __float__(self) -> float:
        return float(self.pair[0]) / float(self.pair[1])


def plain(settings: dict, initial: dict, kernels: dict) -> tuple:
    """Return the step of a Flax tutorial: `TrainState`, `nn.max_pool`, optax."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState

    class Network(nn.Module):
        @nn.compact
        def __call__(self, images):
            x = images.astype(jnp.float32) / 255
            for channels in settings["channels"]:
                x = nn.max_pool(nn.relu(nn.Conv(channels, (3, 3))(x)), (2, 2), (2, 2))
            x = nn.relu(nn.Dense(settings["hidden"])(x.reshape(len(x), -1)))
            return nn.Dense(2 * settings["points"])(x).reshape(-1, settings["points"], 2)

    def wing_loss(predicted, target):
        distance = jnp.abs(predicted - target)
        offset = WIDTH - WIDTH * jnp.log1p(WIDTH / EPSILON)
        return jnp.where(distance < WIDTH, WIDTH * jnp.log1p(distance / EPSILON), distance - offset).mean()

    @jax.jit
    def step(state, batch):
        def objective(params):
            return wing_loss(state.apply_fn({"params": params}, batch["images"]), batch["points"])

        loss, gradient = jax.value_and_grad(objective)(state.params)
        return state.apply_gradients(grads=gradient), loss

    network = Network()
    params = network.init(jax.random.key(0), initial["images"][:1])["params"]
    optimizer = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(LEARNING_RATE, momentum=MOMENTUM))
    state = TrainState.create(apply_fn=network.apply, params=with_kernels(params, kernels), tx=optimizer)
    return step, state, {"images": initial["images"], "points": initial["points"]}


if __name__ == "__main__":
    serve(prepare)
