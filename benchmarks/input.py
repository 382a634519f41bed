"""Faces a second of input pipelines: from faces in memory to batches of perturbed 64 x 64 crops with their points.

    python benchmarks/input.py [--rounds 5] [--faces 8192] [--batch 64]

Perturbation "paper": rotation by +-30 degrees, translation and scale by 5 %, mirroring with the points' names swapped,
and Gaussian blur (sigma 1) of half the crops. "all": colour and occlusion too. Everyone has two threads or two worker
processes, and hands out NumPy arrays, tensors or, on the device, JAX arrays of uint8. What lies ready in a pipeline's
buffers when its turn begins is used up before the clock starts.

Sources are the same built-in faces: square chips of 112 pixels as uint8, and of 256 pixels as JPEG, which everyone
decodes at half the size. The contestants:

- wing_jax, tf.data: what `wing-jax train` reads by default; from JPEG as well;
- wing_jax, on the device: its faces live there (here in the same memory), cut and perturbed under `jit`;
- albumentations + PyTorch DataLoader: one Compose an image, two worker processes;
- tf.data + tf.image: a chain of TensorFlow ops an image.
"""

import tempfile
from pathlib import Path

from contest import Contestant, Outcome, call, remarks, run, speeds, spread
from report import arguments, publish, table

TF_DATA, ON_DEVICE = "wing_jax, tf.data", "wing_jax, on the device"
ALBUMENTATIONS, TF_CHAIN = "albumentations + DataLoader", "tf.data + tf.image"
WAYS = {
    TF_DATA: {"script": "input_wing.py", "rival": False},
    ON_DEVICE: {"script": "input_wing.py", "rival": False},
    ALBUMENTATIONS: {"script": "input_torch.py", "rival": True},
    TF_CHAIN: {"script": "input_tensorflow.py", "rival": False},
}
SOURCES = {"uint8": "112 px uint8", "jpeg": "256 px JPEG"}
PAPER = {"rotation": 30.0, "translation": 0.05, "scale": 0.05, "flip": 0.5, "blur": 0.5, "blur_sigma": 1.0}
PERTURBATIONS = {"paper": PAPER, "all": PAPER | {"colour": 0.2, "occlusion": 0.2, "occlusion_side": 0.4}}


def main() -> None:
    """Make the faces, run one contest for each perturbation, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--faces", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turn", type=float, default=3.0, help="seconds of a contestant's turn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "faces.npz")
        call("make_faces.py", {"path": data, "faces": given.faces, "chip": 112, "jpeg": 256})
        settings = {"data": data, "size": 64, "batch": given.batch}
        outcomes = {
            name: run(contestants(settings | {"perturb": perturb}), rounds=given.rounds, turn=given.turn)
            for name, perturb in PERTURBATIONS.items()
        }
    versions = {name: version for outcome in outcomes.values() for name, version in outcome.versions.items()}
    lines = body(outcomes, given)
    publish("input", "Input pipelines to 64 x 64 crops, faces a second", lines, versions=versions, given=given)


def contestants(settings: dict) -> list[Contestant]:
    """Every way from every source that it can read."""
    return [
        Contestant(
            name=entry(way, source), settings=settings | {"source": source, "on_device": way == ON_DEVICE}, **how
        )
        for source in SOURCES
        for way, how in WAYS.items()
        if (way, source) != (ON_DEVICE, "jpeg")  # JPEG is decoded on the host
    ]


def entry(way: str, source: str) -> str:
    """The contestant's name."""
    return f"{way}, {SOURCES[source]}"


def body(outcomes: dict[str, Outcome], given) -> list[str]:
    """The table: one row for each source and perturbation."""
    header = ["source, perturbation", *WAYS, "tf.data / albumentations", "tf.data / tf.image"]
    rows = [row(outcome, source, name, given.batch) for source in SOURCES for name, outcome in outcomes.items()]
    said = f"- {given.faces} faces in memory, batches of {given.batch}; the ratios are of {TF_DATA}."
    return [*table(header, rows), "", said, *remarks(outcomes.values())]


def row(outcome: Outcome, source: str, perturbation: str, batch: int) -> list[str]:
    """Speeds of one source and perturbation, and how many times as fast wing_jax's tf.data is."""
    ours = entry(TF_DATA, source)
    cells = [
        "-" if (way, source) == (ON_DEVICE, "jpeg") else speeds(outcome, entry(way, source), batch) for way in WAYS
    ]
    ratios = [spread(outcome.ratios(ours, entry(way, source)), 1) for way in (ALBUMENTATIONS, TF_CHAIN)]
    return [f"{SOURCES[source]}, {perturbation}", *cells, *ratios]


if __name__ == "__main__":
    main()
