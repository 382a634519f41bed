"""Measure complete trainings after compilation: seconds, faces a second, share of the machine's peak, and NME.

    python benchmarks/end_to_end.py CONFIG --root FOLDER [--batches 8 256] [--inputs device tfdata] [--faces 1000000]

The first stage of CONFIG (such as configs/mtfl.py) is trained on `--faces` faces, with its schedule rescaled to each of
`--batches`; FOLDER is a packed set, or the published data set. `--network cnn7` trains the light CNN-7 at 128 pixels
instead. The measured time includes all steps, the input and the validation at the end; reading and compiling are
reported separately. The peak is the speed of a large matrix product on the device in the precision of the training. On
a GPU, the paper's schedule is `--batches 8 --faces 960000`.
"""

import dataclasses
import time
from importlib.metadata import version

from comparison import say
from report import arguments, publish, table

from wing_jax.runtime import devices

devices.prepare_xla()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from wing_jax.config import Config  # noqa: E402
from wing_jax.config_files import load_config  # noqa: E402
from wing_jax.from_config.recipe import mesh_of, scaled_to_batch, settings_of  # noqa: E402
from wing_jax.from_config.train import first_setup, training_data  # noqa: E402
from wing_jax.train.loop import spans  # noqa: E402
from wing_jax.train.setup import LOG_EVERY, StageSetup, make_runner  # noqa: E402

CNN7 = {"input_size": 128, "channels": (32, 64, 128, 256, 512, 512)}


def main() -> None:
    """Train once for each input, batch size and seed, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("config")
    parser.add_argument("--root", default="")
    parser.add_argument("--network", choices=("cnn6", "cnn7"), default="cnn6")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 256])
    parser.add_argument("--inputs", nargs="+", default=["device", "tfdata"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--name", default="", help="name of the section in RESULTS.md")
    options = parser.parse_args()
    config = make_config(options)
    start = time.perf_counter()
    data = training_data(config)
    reading = time.perf_counter() - start
    peak = matmul_peak(devices.precision(config.stage1.model.precision))
    rows = []
    for seed in options.seeds:
        for input_ in options.inputs:
            for batch in options.batches:
                variant = at_batch(config, batch, options.faces)
                variant = dataclasses.replace(variant, seed=seed, input=input_)
                rows.append(measure(variant, first_setup(variant, data), seed, peak))
                say("  ".join(rows[-1]))
    header = ["input", "batch", "seed", "steps", "compile s", "train s", "faces/s", "of the peak", "validation NME %"]
    body = [
        f"{data.data_name}, {options.config}, {options.network}, {options.faces:,} faces a training; reading and "
        f"cutting {reading:.1f} s; {jax.devices()[0].device_kind}; measured peak {peak / 1e12:.2f} TFLOP/s.",
        "",
    ]
    body += table(header, rows)
    versions = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax")}
    publish(
        f"end_to_end {options.name or options.network}",
        f"Whole trainings, {options.network}",
        body,
        versions=versions,
        options=options,
    )


def make_config(options) -> Config:
    """Return the config with the chosen data and network."""
    config = load_config(options.config)
    stage, data = config.stage1, config.data
    if options.root:
        data = dataclasses.replace(data, name="packed", root=options.root)
    if options.network == "cnn7":
        model = dataclasses.replace(stage.model, params={**stage.model.params, "channels": CNN7["channels"]})
        stage = dataclasses.replace(stage, model=model, input_size=CNN7["input_size"])
    return dataclasses.replace(config, data=data, stage1=stage, stage2=None)


def at_batch(config: Config, batch: int, faces: int) -> Config:
    """Return the config with `batch` faces in a step and `faces` faces in total."""
    stage = config.stage1
    stage = dataclasses.replace(stage, steps=max(1, faces // stage.batch_size))
    stage = scaled_to_batch(stage, batch)
    steps = max(1, faces // batch)
    return dataclasses.replace(config, stage1=dataclasses.replace(stage, steps=steps, evaluate_every=steps))


def measure(config: Config, setup: StageSetup, seed: int, peak: float) -> list[str]:
    """Train once and return a row of the table."""
    stage, settings = config.stage1, settings_of(config, mesh_of(config))
    runner, validate = make_runner(setup, settings), setup.validate(settings.mesh)
    longest = max(LOG_EVERY, settings.steps_a_program)
    pieces = list(spans(0, stage.steps, evaluate_every=stage.evaluate_every, longest=longest))
    lengths = {last - first: (first, last) for first, last in pieces}
    state = runner.place(setup.state(seed=config.seed))
    start = time.perf_counter()
    for first, last in lengths.values():  # run each program once, on a state that is discarded
        jax.block_until_ready(runner.advance(runner.place(setup.state(seed=config.seed)), first, last))
    jax.block_until_ready(validate(runner.whole(state).best_variables))
    compiling = time.perf_counter() - start
    if config.input == "tfdata":  # its stream has advanced
        runner = make_runner(setup, settings)
        state, _ = runner.advance(state, 0, 1)
        pieces = [(max(first, 1), last) for first, last in pieces]
    start = time.perf_counter()
    for first, last in pieces:
        state, metrics = runner.advance(state, first, last)
    total, count = jax.device_get(validate(runner.whole(state).best_variables))
    elapsed = time.perf_counter() - start
    faces = (stage.steps - pieces[0][0]) * stage.batch_size
    share = faces * 3 * forward_flops(setup) / elapsed / peak
    assert np.isfinite(jax.device_get(metrics["loss"][0])).all(), "the loss is not finite: use a lower learning rate"
    return [
        config.input,
        str(stage.batch_size),
        str(seed),
        f"{stage.steps:,}",
        f"{compiling:.1f}",
        f"{elapsed:.1f}",
        f"{faces / elapsed:,.0f}",
        f"{100 * share:.0f} %",
        f"{100 * total / count:.2f}",
    ]


def forward_flops(setup: StageSetup) -> float:
    """Return the floating-point operations of a forward pass of one face; a step takes about three times as many."""
    side, before, flops = setup.spec.input_size, 3, 0.0
    for channels in setup.model.channels:
        flops += 2 * 9 * before * channels * side * side
        before, side = channels, side // 2
    hidden = setup.model.hidden
    return flops + 2 * hidden * (before * side * side + 2 * setup.scheme.points)


def matmul_peak(dtype: str, *, seconds: float = 0.5) -> float:
    """Return the operations a second of a large square matrix product."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(matrix, matrix))
    best, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        repeat_start = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        best = max(best, 2 * side**3 / (time.perf_counter() - repeat_start))
    return best


if __name__ == "__main__":
    main()
