"""Measure the differences between two trainings from one seed, with the on-device input and with tf.data.

    python experiments/inputs.py [--data w300] [--steps 500]

Both inputs make the same crops of the same faces, up to the rounding of pixels, and training amplifies such
differences. For comparison, the table has the differences that a second seed makes with the on-device input.
"""

from importlib.metadata import version

import numpy as np
import optax
from shared import arguments, publish, table

import wing_jax as wj
from wing_jax.runtime import devices


def main() -> None:
    """Train three models, compare them, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--faces", type=int, default=1_000, help="largest number of training faces")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch_size", type=int, default=32)
    options = parser.parse_args()
    devices.prepare_xla()
    count = {"count": options.faces} if options.data == "synthetic" else {}
    train, test = (wj.load_faces(options.data, split, **count) for split in ("train", "test"))
    train = train.take(np.arange(min(options.faces, len(train))))
    stage = wj.StageSpec(
        model=wj.models.CNN6(points=train.scheme.points, channels=(16, 32, 64, 128, 256), hidden=256),
        optimizer=optax.adamw(optax.cosine_decay_schedule(1e-3, options.steps)),
        steps=options.steps,
        batch_size=options.batch_size,
    )

    def train_and_evaluate(input_: str, seed: int):
        result = wj.fit(train, stage, seed=seed, input=input_, quiet=True)
        losses = np.array([row["loss"] for row in result.history if "loss" in row])
        return losses, wj.evaluate(result.localizer, test)

    device, on_device = train_and_evaluate("device", 0)
    host, on_host = train_and_evaluate("tfdata", 0)
    other, on_other = train_and_evaluate("device", 1)
    rows = [
        ("first logged loss, difference", *(_mean_difference(device[:1], losses[:1]) for losses in (host, other))),
        ("logged losses, mean difference", *(_mean_difference(device, losses) for losses in (host, other))),
        (
            "test NME, difference",
            *(_format_comparison(on_device.compare(evaluation)) for evaluation in (on_host, on_other)),
        ),
    ]
    body = [f"{len(train):,} faces, {options.steps:,} steps of {options.batch_size}; {len(test)} test faces.", ""]
    body += table(("", "the other input, the same seed", "the same input, another seed"), rows)
    versions = {name: version(name) for name in ("jax", "jaxlib")}
    publish(
        f"inputs {options.data}", f"One seed by both inputs, {options.data}", body, versions=versions, options=options
    )


def _mean_difference(first: np.ndarray, second: np.ndarray) -> str:
    return f"{np.mean(np.abs(first - second) / first):.2%}"


def _format_comparison(comparison) -> str:
    face = np.nanmean(np.abs(comparison.differences))
    return (
        f"{comparison.difference:+.3f} points ({comparison.low:+.3f} to {comparison.high:+.3f}); of one face {face:.3f}"
    )


if __name__ == "__main__":
    main()
