"""Faces a second of the training step: this network beside plain Flax (`nn.max_pool`, bias and ReLU before it).

    python benchmarks/train_step.py [--size 64] [--batch 32] [--rounds 5]

Both run interleaved in one process, so that the ratio holds where the machine's speed drifts.
"""

import argparse
import time

from wing_jax.train import devices

devices.prepare_xla()

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from wing_jax.losses import make_loss  # noqa: E402
from wing_jax.models import CNN6, CNN7  # noqa: E402
from wing_jax.train.state import init_state  # noqa: E402
from wing_jax.train.steps import compile_step, make_train_step  # noqa: E402


class PlainFlax(nn.Module):
    """The same network as a tutorial would write it."""

    points: int
    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, images, *, train: bool = False):
        x = images.astype(np.float32) / 255
        for channels in self.channels:
            x = nn.max_pool(nn.relu(nn.Conv(channels, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(1024)(x.reshape(len(x), -1)))
        return nn.Dense(2 * self.points, name="output")(x).reshape(-1, self.points, 2)


def main() -> None:
    """Print the two speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, choices=(64, 128), help="64: CNN-6, 128: CNN-7")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    given = parser.parse_args()
    network = (CNN6 if given.size == 64 else CNN7)(points=68)
    random = np.random.default_rng(0)
    batch = {
        "images": random.integers(0, 256, (given.batch, given.size, given.size, 3), dtype=np.uint8),
        "points": random.uniform(0, given.size, (given.batch, 68, 2)).astype(np.float32),
        "visible": np.ones((given.batch, 68), bool),
    }
    contestants = {"wing_jax": network, "plain Flax": PlainFlax(points=68, channels=network.channels)}
    runs = {name: Run(model, batch, given.size) for name, model in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(given.rounds):
        for name, run in runs.items():
            seconds[name].append(run.time(given.steps))
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {given.size} px, batch {given.batch}")
    for name, times in seconds.items():
        print(f"{name:12} {given.batch / np.median(times):8.0f} faces/s (median of {given.rounds} rounds)")
    ratios = np.array(seconds["plain Flax"]) / np.array(seconds["wing_jax"])
    print(f"ratio        {np.median(ratios):8.2f} ({ratios.min():.2f} to {ratios.max():.2f})")


class Run:
    """One network in training on one batch."""

    def __init__(self, model: nn.Module, batch: dict, size: int):
        optimizer = optax.adamw(1e-3)
        loss = make_loss("wing", working_extent=float(size))
        self.step = compile_step(
            make_train_step(model, optimizer, loss, reduction="mean", eyes=(36, 45)), parallel="jit"
        )
        self.state = init_state(model, optimizer, key=jax.random.key(0), input_size=size)
        self.batch = batch
        self.time(2)

    def time(self, steps: int) -> float:
        """Seconds a step."""
        start = time.perf_counter()
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    main()
