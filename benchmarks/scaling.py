"""How the training scales: over virtual devices of one machine, and as the training set grows.

    python benchmarks/scaling.py [--devices 1 2 4 8] [--faces 1000 10000 100000]

Each row is a process of its own; all take turns. Virtual devices share the processor's cores, so that the ideal is the
same speed whatever their number: what is lost is what splitting and adding up cost. On devices all rows train the same
network on the same batches, and their losses after five steps are compared. Without the CPU kernel, which is for one
device.
"""

from importlib.metadata import version

from comparison import Baseline, remarks, run, spread
from report import arguments, publish, table

from wing_jax.runtime.devices import CPU_FLAGS


def main() -> None:
    """Two comparisons, one section."""
    parser = arguments(__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--faces", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a baseline's turn")
    options = parser.parse_args()
    over = run(
        [entered(count, 2_048, options.batch) for count in options.devices], rounds=options.rounds, turn=options.turn
    )
    grown = run([entered(1, count, options.batch) for count in options.faces], rounds=options.rounds, turn=options.turn)
    lines = [f"CNN-6, on-device input with the paper's augmentations, batch {options.batch}, 80-pixel face crops.", ""]
    for outcome in (over, grown):
        base, *_ = outcome.seconds
        rows = [
            [row, f"{options.batch / outcome.median(row):.0f}", spread(outcome.ratios(row, base))]
            for row in outcome.seconds
        ]
        lines += [*table(["", "faces/s", f"times {base}"], rows), ""]
    lines += [f"- largest difference of the devices' losses a face after five steps: {over.disagreement():.1e}"]
    lines += remarks([over, grown])
    versions = over.versions | grown.versions
    publish("scaling", "Scaling over virtual devices, and with the data", lines, versions=versions, options=options)


def name(devices: int, faces: int) -> str:
    """A row's name."""
    return f"{devices} device{'s' if devices > 1 else ''}, {faces:,} faces"


def entered(devices: int, faces: int, batch: int) -> Baseline:
    """A training on so many virtual devices from so many faces."""
    flags = f"--xla_force_host_platform_device_count={devices} {CPU_FLAGS.get(version('jaxlib'), '')}"
    environment = {"XLA_FLAGS": flags, "WING_JAX_CPU_KERNEL": "off"}
    settings = {"devices": devices, "faces": faces, "batch": batch}
    return Baseline(name=name(devices, faces), script="scaling_step.py", settings=settings, environment=environment)


if __name__ == "__main__":
    main()
