"""Measure faces a second of the training step: forward, Wing loss, backward, SGD with momentum and weight decay.

    python benchmarks/train_step.py [--network cnn6|cnn7] [--batches 8 32 64 256] [--rounds 5] [--instructions avx2]

All baselines have the same network, the same initial weights, the same batch of uint8 images in memory, 68 points, 2
threads and the same allocator settings; their losses after a few steps are compared. The baselines are

- plain Flax: as in a tutorial, with `nn.max_pool` after bias and ReLU and no flags for XLA;
- wing_jax, pure JAX: with `WING_JAX_CPU_KERNEL=off`; it also computes the metrics that a training logs;
- wing_jax, CPU kernel: the default;
- PyTorch, channels last, eager and with `torch.compile`;
- wing_jax and PyTorch in bfloat16, which are not ranked because their precision is lower;
- TensorFlow: Keras layers in a `tf.function` with a gradient tape; and `fit`, the fastest method of Keras.

`--instructions avx2` limits all of them to AVX2 on a processor with AVX-512, by their options (`AVX2`). XLA's library
for single matrix products (YNN) has no such option and is not used then; the bfloat16 baselines are left out.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from comparison import Baseline, Outcome, remarks, run, speeds, spread
from report import arguments, publish, table

POINTS = 68
HIDDEN = 1024
NETWORKS = {
    "cnn6": {"title": "CNN-6", "size": 64, "channels": (32, 64, 128, 256, 512), "batches": (8, 32, 64, 256)},
    "cnn7": {
        "title": "CNN-7 (light)",
        "size": 128,
        "channels": (32, 64, 128, 256, 512, 512),
        "batches": (8, 32, 64, 256),
    },
}
PLAIN, PURE, KERNEL, OURS_BFLOAT16 = "plain Flax", "wing_jax, pure JAX", "wing_jax, CPU kernel", "wing_jax bfloat16"
TORCH, COMPILED, BFLOAT16 = "PyTorch", "torch.compile", "PyTorch bfloat16"
FUNCTION, FIT = "tf.function", "Keras fit"
RIVALS = (TORCH, COMPILED, FUNCTION, FIT)
AVX2 = {
    "WING_JAX_CPU_KERNEL": "avx2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
TOLERANCE = 1e-2  # pixels, for the losses of the first steps, which are about 40


def main() -> None:
    """Run a comparison for each batch size and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="cnn6")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--turn", type=float, default=3.0, help="seconds of a baseline's turn")
    parser.add_argument("--only", nargs="+", help="run only the baselines whose names start with these")
    parser.add_argument("--instructions", choices=("all", "avx2"), default="all")
    options = parser.parse_args()
    batches = options.batches or NETWORKS[options.network]["batches"]
    outcomes = {batch: comparison(options.network, batch, options) for batch in batches}
    versions = {name: version for outcome in outcomes.values() for name, version in outcome.versions.items()}
    key, title = f"train_step {options.network}", f"Training step, {NETWORKS[options.network]['title']}, faces a second"
    if options.instructions != "all":
        key, title = f"{key} {options.instructions}", f"{title}, all limited to {options.instructions.upper()}"
    publish(key, title, body(outcomes), versions=versions, options=options)


def comparison(network: str, batch: int, options) -> Outcome:
    """Compare all baselines on batches of one size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.npz"
        np.savez(path, **start(network, batch))
        settings = {"start": str(path), "size": NETWORKS[network]["size"], "points": POINTS, "hidden": HIDDEN}
        selected = baselines(settings | {"channels": NETWORKS[network]["channels"]})
        limits = {}
        if options.instructions == "avx2":
            limits, selected = AVX2, [c for c in selected if c.name not in (OURS_BFLOAT16, BFLOAT16)]
        selected = [dataclasses.replace(c, environment=limits | c.environment) for c in selected]
        if options.only:
            selected = [c for c in selected if c.name.startswith(tuple(options.only))]
        return run(selected, rounds=options.rounds, turn=options.turn)


def baselines(settings: dict) -> list[Baseline]:
    """Return all baselines."""
    jax, torch, tensorflow = "step_jax.py", "step_torch.py", "step_tensorflow.py"
    return [
        Baseline(name=PLAIN, script=jax, settings=settings | {"kind": "plain"}),
        Baseline(
            name=PURE, script=jax, settings=settings | {"kind": "pure"}, environment={"WING_JAX_CPU_KERNEL": "off"}
        ),
        Baseline(name=KERNEL, script=jax, settings=settings | {"kind": "kernel"}),
        Baseline(name=OURS_BFLOAT16, script=jax, settings=settings | {"kind": "bfloat16"}),
        Baseline(name=TORCH, script=torch, settings=settings | {"kind": "eager"}, rival=True),
        Baseline(name=COMPILED, script=torch, settings=settings | {"kind": "compiled"}, rival=True),
        Baseline(name=FUNCTION, script=tensorflow, settings=settings | {"kind": "function"}),
        Baseline(name=FIT, script=tensorflow, settings=settings | {"kind": "fit"}),
        Baseline(name=BFLOAT16, script=torch, settings=settings | {"kind": "bfloat16"}, rival=True),
    ]


def start(network: str, batch: int) -> dict[str, np.ndarray]:
    """Return a batch, and He-normal kernels in Flax's layout (biases start at 0): `kernel0`, `kernel1`, ..."""
    size, channels = NETWORKS[network]["size"], NETWORKS[network]["channels"]
    rng = np.random.default_rng(0)
    side = size >> len(channels)
    shapes = [(3, 3, before, after) for before, after in zip((3, *channels), channels, strict=False)]
    shapes += [(side * side * channels[-1], HIDDEN), (HIDDEN, 2 * POINTS)]
    kernels = {
        f"kernel{i}": rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
        for i, shape in enumerate(shapes)
    }
    images = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    return {
        "images": images,
        "points": rng.uniform(0, size, (batch, POINTS, 2)).astype(np.float32),
        **kernels,
    }


def body(outcomes: dict[int, Outcome]) -> list[str]:
    """Return the table with a row for each batch size, and remarks."""
    names = list(dict.fromkeys(name for o in outcomes.values() for name in (*o.seconds, *o.absent)))
    names.sort(key=[PLAIN, PURE, KERNEL, TORCH, COMPILED, FUNCTION, FIT, OURS_BFLOAT16, BFLOAT16].index)
    header = ["batch", *names, "pure JAX / plain Flax", "CPU kernel / best rival"]
    lines = table(header, [row(batch, outcome, names) for batch, outcome in outcomes.items()])
    difference = max(outcome.disagreement() for outcome in outcomes.values())
    agree = "agree" if difference < TOLERANCE else "DO NOT AGREE: do not trust this table"
    check = f"- The losses of the first three steps {agree}: largest difference {difference:.1e} pixels."
    rivals = f"- The best rival is the fastest of {', '.join(RIVALS)}, chosen at each batch size."
    return [*lines, "", check, rivals, *remarks(outcomes.values())]


def row(batch: int, outcome: Outcome, names: list[str]) -> list[str]:
    """Return the row of a batch size: the speeds, then the two ratios."""
    best = outcome.best(RIVALS)
    against = f"{spread(outcome.ratios(KERNEL, best))}, {best}" if best and KERNEL in outcome.seconds else "-"
    return [str(batch), *(speeds(outcome, n, batch) for n in names), spread(outcome.ratios(PURE, PLAIN)), against]


if __name__ == "__main__":
    main()
