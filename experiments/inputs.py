"""How far apart two trainings from one seed are, the one by the on-device input, the other by tf.data.

    python experiments/inputs.py [--data w300] [--steps 500]

Both show the same faces in the same places; their pixels differ by rounding, and a training magnifies what differs.
What a second seed changes stands beside it, by the on-device input.
"""

from importlib.metadata import version

import numpy as np
import optax
from shared import arguments, publish, table

import wing_jax as wj
from wing_jax.runtime import devices


def main() -> None:
    """Train three times, compare, publish."""
    parser = arguments(__doc__)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--faces", type=int, default=1_000, help="of the training, at most")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch_size", type=int, default=32)
    given = parser.parse_args()
    devices.prepare_xla()
    count = {"count": given.faces} if given.data == "synthetic" else {}
    train, test = (wj.load_faces(given.data, split, **count) for split in ("train", "test"))
    train = train.take(np.arange(min(given.faces, len(train))))
    stage = wj.StageSpec(
        model=wj.models.CNN6(points=train.scheme.points, channels=(16, 32, 64, 128, 256), hidden=256),
        optimizer=optax.adamw(optax.cosine_decay_schedule(1e-3, given.steps)),
        steps=given.steps,
        batch_size=given.batch_size,
    )

    def trained(input_: str, seed: int):
        result = wj.fit(train, stage, seed=seed, input=input_, quiet=True)
        losses = np.array([row["loss"] for row in result.history if "loss" in row])
        return losses, wj.evaluate(result.localizer, test)

    device, on_device = trained("device", 0)
    host, on_host = trained("tfdata", 0)
    other, on_other = trained("device", 1)
    rows = [
        ("first logged loss, difference", *(_apart(device[:1], losses[:1]) for losses in (host, other))),
        ("logged losses, mean difference", *(_apart(device, losses) for losses in (host, other))),
        ("test NME, difference", *(_points(on_device.compare(one)) for one in (on_host, on_other))),
    ]
    body = [f"{len(train):,} faces, {given.steps:,} steps of {given.batch_size}; {len(test)} test faces.", ""]
    body += table(("", "the other input, the same seed", "the same input, another seed"), rows)
    versions = {name: version(name) for name in ("jax", "jaxlib")}
    publish(f"inputs {given.data}", f"One seed by both inputs, {given.data}", body, versions=versions, given=given)


def _apart(one: np.ndarray, other: np.ndarray) -> str:
    return f"{np.mean(np.abs(one - other) / one):.2%}"


def _points(comparison) -> str:
    face = np.nanmean(np.abs(comparison.differences))
    return (
        f"{comparison.difference:+.3f} points ({comparison.low:+.3f} to {comparison.high:+.3f}); of one face {face:.3f}"
    )


if __name__ == "__main__":
    main()
