"""Measure the training step of networks with depthwise convolutions: XLA's, a sum of products, and the CPU kernel.

    python benchmarks/depthwise.py [--networks mobilenet_v2] [--sizes 64 112] [--batch 32] [--rounds 5]

A step is forward pass, Wing loss, backward pass and SGD on random crops, on one device. The three ways take turns,
and their results must agree.
"""

import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
from report import arguments, publish, table

import wing_jax as wj
from wing_jax.models import cpu_kernel, depthwise

POINTS = 68
WAYS = {  # the kernel's setting, and the device that `depthwise_conv` takes for its own
    "XLA's convolution": ("off", "none"),
    "sum of products": ("off", "cpu"),
    "CPU kernel": ("on", "cpu"),
}


def main() -> None:
    """Measure all networks and sizes, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v2", "efficientnet_lite0"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 112])
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    cpu_kernel.load()
    rows = [
        measure(name, size, batch=options.batch, rounds=options.rounds)
        for name in options.networks
        for size in options.sizes
    ]
    body = table(["network", "pixels", *(f"{way}, ms" for way in WAYS)], rows)
    versions = {module.__name__: module.__version__ for module in (jax, flax)}
    publish("depthwise", f"Depthwise convolutions, training step at batch {options.batch}", body, versions=versions,
            options=options)  # fmt: skip


def measure(name: str, size: int, *, batch: int, rounds: int) -> list[str]:
    """Return the row of one network and size: the median of each way over the rounds."""
    model, random = wj.models.make_model(name, points=POINTS), np.random.default_rng(0)
    images = jnp.asarray(random.integers(0, 256, (batch, size, size, 3)), jnp.uint8)
    target = jnp.asarray(random.uniform(0, size, (batch, POINTS, 2)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])

    def step(variables):
        def loss(params):
            points, new = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return wj.losses.wing_loss(points, target).mean(), new

        (value, new), slopes = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda leaf, slope: leaf - 1e-4 * slope, variables["params"], slopes)
        return {"params": params, **new}, value

    steps, losses = {}, {}
    for way, (setting, backend) in WAYS.items():
        depthwise.backend = lambda backend=backend: backend
        with cpu_kernel.switched(setting):
            steps[way] = jax.jit(lambda variables: step(variables)).lower(variables).compile()
        losses[way] = float(steps[way](variables)[1])
    np.testing.assert_allclose(list(losses.values()), losses["XLA's convolution"], rtol=1e-3)
    seconds = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, run in steps.items():
            start = time.perf_counter()
            jax.block_until_ready(run(variables))
            seconds[way].append(time.perf_counter() - start)
    return [name, str(size), *(f"{1000 * np.median(values):,.0f}" for values in seconds.values())]


if __name__ == "__main__":
    main()
