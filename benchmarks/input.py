"""Faces a second of input pipelines: from faces in memory to batches of augmented 64 x 64 crops with their points.

    python benchmarks/input.py [--rounds 5] [--faces 8192] [--batch 64]

Augmentation "paper": rotation by +-30 degrees, translation and scale by 5 %, mirroring with the points' names swapped,
and Gaussian blur (sigma 1) of half the crops. "all": color and occlusion too. Everyone has two threads or two worker
processes, and hands out NumPy arrays, tensors or, on the device, JAX arrays of uint8. What lies ready in a pipeline's
buffers when its turn begins is used up before the clock starts.

Sources are the same synthetic faces: square face crops of 112 pixels as uint8, which is how wing_jax holds them for
such crops, of 256 pixels as uint8, and of 256 pixels as JPEG, which everyone decodes at half the size. The baselines:

- wing_jax, tf.data: what `wing-jax train` reads by default; from JPEG as well;
- wing_jax, on the device: its faces live there (here in the same memory), cut and augmented under `jit`;
- albumentations + PyTorch DataLoader: one Compose an image, two worker processes;
- tf.data + tf.image: a chain of TensorFlow ops an image.

A second comparison trains CNN-6 by wing_jax's step: on one batch that never changes, and with each input beside it.
"""

import tempfile
from pathlib import Path

from comparison import Baseline, Outcome, call, remarks, run, speeds, spread
from report import arguments, publish, table

TF_DATA, ON_DEVICE = "wing_jax, tf.data", "wing_jax, on the device"
ALBUMENTATIONS, TF_CHAIN = "albumentations + DataLoader", "tf.data + tf.image"
STEPS = ("the step alone", "on-device input", "tf.data, 112 px uint8", "tf.data, 256 px JPEG")
WAYS = {
    TF_DATA: {"script": "input_wing.py", "rival": False},
    ON_DEVICE: {"script": "input_wing.py", "rival": False},
    ALBUMENTATIONS: {"script": "input_torch.py", "rival": True},
    TF_CHAIN: {"script": "input_tensorflow.py", "rival": False},
}
SOURCES = {"packed": "112 px uint8", "large": "256 px uint8", "jpeg": "256 px JPEG"}
LARGE_FACES = 2048  # 400 MB
PAPER = {"rotation": 30.0, "translation": 0.05, "scale": 0.05, "flip": 0.5, "blur": 0.5, "blur_sigma": 1.0}
AUGMENTATIONS = {"paper": PAPER, "all": PAPER | {"color": 0.2, "occlusion": 0.2, "occlusion_side": 0.4}}


def main() -> None:
    """Make the faces, run one comparison for each augmentation, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--faces", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turn", type=float, default=3.0, help="seconds of a baseline's turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, large = (str(Path(folder, name)) for name in ("faces.npz", "large.npz"))
        call("make_faces.py", {"path": data, "faces": options.faces, "face_crop": 112, "jpeg": 256})
        call("make_faces.py", {"path": large, "faces": min(LARGE_FACES, options.faces), "face_crop": 256, "jpeg": 256})
        settings = {"data": data, "large": large, "size": 64, "batch": options.batch}
        outcomes = {
            name: run(baselines(settings | {"augment": augment}), rounds=options.rounds, turn=options.turn)
            for name, augment in AUGMENTATIONS.items()
        }
        beside = {
            name: run(training(settings | {"augment": augment}), rounds=options.rounds, turn=options.turn)
            for name, augment in AUGMENTATIONS.items()
        }
    everyone = [*outcomes.values(), *beside.values()]
    versions = {name: version for outcome in everyone for name, version in outcome.versions.items()}
    lines = [*body(outcomes, options), "", *costs(beside, options.batch), "", *remarks(everyone)]
    publish("input", "Input pipelines to 64 x 64 crops, faces a second", lines, versions=versions, options=options)


def baselines(settings: dict) -> list[Baseline]:
    """Every way from every source that it can read."""
    return [
        Baseline(name=entry(way, source), settings=reading(settings, source) | {"on_device": way == ON_DEVICE}, **how)
        for source in SOURCES
        for way, how in WAYS.items()
        if (way, source) != (ON_DEVICE, "jpeg")  # JPEG is decoded on the host
    ]


def reading(settings: dict, source: str) -> dict:
    """The settings by which a baseline reads one of `SOURCES`."""
    data = settings["large" if source == "large" else "data"]
    return settings | {"data": data, "source": "jpeg" if source == "jpeg" else "uint8"}


def entry(way: str, source: str) -> str:
    """The baseline's name."""
    return f"{way}, {SOURCES[source]}"


def body(outcomes: dict[str, Outcome], options) -> list[str]:
    """The table: one row for each source and augmentation."""
    header = ["source, augmentation", *WAYS, "tf.data / albumentations", "tf.data / tf.image"]
    rows = [row(outcome, source, name, options.batch) for source in SOURCES for name, outcome in outcomes.items()]
    lines = [
        f"- {options.faces} faces in memory ({LARGE_FACES} at 256 px), batches of {options.batch}; ratios of {TF_DATA}."
    ]
    for name, outcome in outcomes.items():
        apart = spread(outcome.ratios(entry(TF_DATA, "packed"), entry(TF_CHAIN, "large")), 1)
        lines.append(f"- {TF_DATA} from its pack of 112 px is {apart} times tf.image from pixels of 256 ({name}).")
    return [*table(header, rows), "", *lines]


def row(outcome: Outcome, source: str, augmentation: str, batch: int) -> list[str]:
    """Speeds of one source and augmentation, and how many times as fast wing_jax's tf.data is."""
    ours = entry(TF_DATA, source)
    cells = [
        "-" if (way, source) == (ON_DEVICE, "jpeg") else speeds(outcome, entry(way, source), batch) for way in WAYS
    ]
    ratios = [spread(outcome.ratios(ours, entry(way, source)), 1) for way in (ALBUMENTATIONS, TF_CHAIN)]
    return [f"{SOURCES[source]}, {augmentation}", *cells, *ratios]


def training(settings: dict) -> list[Baseline]:
    """The training step by itself, and with each input beside it."""
    inputs = [("none", "packed"), ("device", "packed"), ("tfdata", "packed"), ("tfdata", "jpeg")]
    return [
        Baseline(name=label, script="step_with_input.py", settings=reading(settings, source) | {"input": input_})
        for label, (input_, source) in zip(STEPS, inputs, strict=True)
    ]


def costs(outcomes: dict[str, Outcome], batch: int) -> list[str]:
    """The table of training steps: faces a second, and how much longer a step takes with its input."""
    rows = []
    for augmentation, outcome in outcomes.items():
        for label in STEPS:
            longer = [100 * (ratio - 1) for ratio in outcome.ratios(STEPS[0], label)]
            cost = "" if label == STEPS[0] else spread(longer, 0)
            rows.append([augmentation, label, speeds(outcome, label, batch), cost])
    said = "The CNN-6 training step with wing_jax's inputs beside it, on the same two cores:"
    return [said, "", *table(["augmentation", "", "faces/s", "the step takes longer by, %"], rows)]


if __name__ == "__main__":
    main()
