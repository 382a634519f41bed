"""Measure the scaling of training: over virtual devices of one machine, and with the size of the training set.

    python benchmarks/scaling.py [--devices 1 2 4 8] [--faces 1000 10000 100000]

Each row is a separate process; all take turns. Virtual devices share the processor's cores, so the ideal is the same
speed for any number of devices; the difference is the cost of splitting batches and adding gradients. All numbers of
devices train the same network on the same batches, and their losses after five steps are compared. The CPU kernel is
not used, because it supports only one device.
"""

from importlib.metadata import version

from comparison import Baseline, remarks, run, spread
from report import arguments, publish, table

from wing_jax.runtime.devices import CPU_FLAGS


def main() -> None:
    """Run both comparisons and publish one section."""
    parser = arguments(__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--faces", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a baseline's turn")
    options = parser.parse_args()
    by_devices = run(
        [make_baseline(count, 2_048, options.batch) for count in options.devices],
        rounds=options.rounds,
        turn=options.turn,
    )
    by_faces = run(
        [make_baseline(1, count, options.batch) for count in options.faces], rounds=options.rounds, turn=options.turn
    )
    lines = [f"CNN-6, on-device input with the paper's augmentations, batch {options.batch}, 80-pixel face crops.", ""]
    for outcome in (by_devices, by_faces):
        base, *_ = outcome.seconds
        rows = [
            [row, f"{options.batch / outcome.median(row):.0f}", spread(outcome.ratios(row, base))]
            for row in outcome.seconds
        ]
        lines += [*table(["", "faces/s", f"times {base}"], rows), ""]
    lines += [f"- largest difference of the devices' losses a face after five steps: {by_devices.disagreement():.1e}"]
    lines += remarks([by_devices, by_faces])
    versions = by_devices.versions | by_faces.versions
    publish("scaling", "Scaling over virtual devices, and with the data", lines, versions=versions, options=options)


def name(devices: int, faces: int) -> str:
    """Return the name of a row."""
    return f"{devices} device{'s' if devices > 1 else ''}, {faces:,} faces"


def make_baseline(devices: int, faces: int, batch: int) -> Baseline:
    """Return the baseline of a training with this number of virtual devices and faces."""
    flags = f"--xla_force_host_platform_device_count={devices} {CPU_FLAGS.get(version('jaxlib'), '')}"
    environment = {"XLA_FLAGS": flags, "WING_JAX_CPU_KERNEL": "off"}
    settings = {"devices": devices, "faces": faces, "batch": batch}
    return Baseline(name=name(devices, faces), script="scaling_step.py", settings=settings, environment=environment)


if __name__ == "__main__":
    main()
