"""Measure input pipelines: faces a second from memory to batches of augmented 64 x 64 crops with their points.

    python benchmarks/input.py [--rounds 5] [--faces 8192] [--batch 64]

Augmentation "paper": rotation by +-30 degrees, translation and scale by 5 %, flips with swapped points, and
Gaussian blur (sigma 1) of half the crops. "all": color and occlusion, too. Each baseline has two threads or two worker
processes, and returns NumPy arrays, tensors or, on the device, JAX arrays of uint8. Batches that are in a pipeline's
buffers at the start of its turn are consumed before the time is measured.

The sources are the same synthetic faces: square face crops of 112 pixels as uint8 (which is how wing_jax stores them
for these crops), of 256 pixels as uint8, and of 256 pixels as JPEG, which all decode at half the size. The baselines:

- wing_jax, tf.data: the tf.data input of `wing-jax train`; from JPEG, too;
- wing_jax, on the device: faces in device memory (here the same memory), cropped and augmented under `jit`;
- albumentations + PyTorch DataLoader: one Compose for each image, two worker processes;
- tf.data + tf.image: a chain of TensorFlow ops for each image.

A second comparison trains CNN-6 with wing_jax's step: on a single batch that does not change, and with each input.
"""

import tempfile
from pathlib import Path

from comparison import Baseline, Outcome, call, remarks, run, speeds, spread
from report import arguments, publish, table

TF_DATA, ON_DEVICE = "wing_jax, tf.data", "wing_jax, on the device"
ALBUMENTATIONS, TF_CHAIN = "albumentations + DataLoader", "tf.data + tf.image"
STEPS = ("the step alone", "on-device input", "tf.data, 112 px uint8", "tf.data, 256 px JPEG")
PIPELINES = {
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
    """Make the faces, run the comparisons for each augmentation, and publish the tables."""
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
        steps = {
            name: run(training(settings | {"augment": augment}), rounds=options.rounds, turn=options.turn)
            for name, augment in AUGMENTATIONS.items()
        }
    everyone = [*outcomes.values(), *steps.values()]
    versions = {name: version for outcome in everyone for name, version in outcome.versions.items()}
    lines = [*body(outcomes, options), "", *costs(steps, options.batch), "", *remarks(everyone)]
    publish("input", "Input pipelines to 64 x 64 crops, faces a second", lines, versions=versions, options=options)


def baselines(settings: dict) -> list[Baseline]:
    """Return the baselines of every pipeline with every source that it can read."""
    return [
        Baseline(
            name=entry(pipeline, source),
            settings=reading(settings, source) | {"on_device": pipeline == ON_DEVICE},
            **fields,
        )
        for source in SOURCES
        for pipeline, fields in PIPELINES.items()
        if (pipeline, source) != (ON_DEVICE, "jpeg")  # JPEG is decoded on the host
    ]


def reading(settings: dict, source: str) -> dict:
    """Return the settings with which a baseline reads one of `SOURCES`."""
    data = settings["large" if source == "large" else "data"]
    return settings | {"data": data, "source": "jpeg" if source == "jpeg" else "uint8"}


def entry(pipeline: str, source: str) -> str:
    """Return the name of the baseline."""
    return f"{pipeline}, {SOURCES[source]}"


def body(outcomes: dict[str, Outcome], options) -> list[str]:
    """Return the table, with a row for each source and augmentation."""
    header = ["source, augmentation", *PIPELINES, "tf.data / albumentations", "tf.data / tf.image"]
    rows = [row(outcome, source, name, options.batch) for source in SOURCES for name, outcome in outcomes.items()]
    lines = [
        f"- {options.faces} faces in memory ({LARGE_FACES} at 256 px), batches of {options.batch}; ratios of {TF_DATA}."
    ]
    for name, outcome in outcomes.items():
        ratio = spread(outcome.ratios(entry(TF_DATA, "packed"), entry(TF_CHAIN, "large")), 1)
        lines.append(f"- {TF_DATA} from its pack of 112 px is {ratio} times tf.image from pixels of 256 ({name}).")
    return [*table(header, rows), "", *lines]


def row(outcome: Outcome, source: str, augmentation: str, batch: int) -> list[str]:
    """Return a row: the speeds with one source and augmentation, and the ratios of wing_jax's tf.data to them."""
    ours = entry(TF_DATA, source)
    cells = [
        "-" if (pipeline, source) == (ON_DEVICE, "jpeg") else speeds(outcome, entry(pipeline, source), batch)
        for pipeline in PIPELINES
    ]
    ratios = [spread(outcome.ratios(ours, entry(pipeline, source)), 1) for pipeline in (ALBUMENTATIONS, TF_CHAIN)]
    return [f"{SOURCES[source]}, {augmentation}", *cells, *ratios]


def training(settings: dict) -> list[Baseline]:
    """Return the baselines of the training step alone, and with each input."""
    inputs = [("none", "packed"), ("device", "packed"), ("tfdata", "packed"), ("tfdata", "jpeg")]
    return [
        Baseline(name=label, script="step_with_input.py", settings=reading(settings, source) | {"input": input_})
        for label, (input_, source) in zip(STEPS, inputs, strict=True)
    ]


def costs(outcomes: dict[str, Outcome], batch: int) -> list[str]:
    """Return the table of training steps: faces a second, and the additional time of a step with its input."""
    rows = []
    for augmentation, outcome in outcomes.items():
        for label in STEPS:
            longer = [100 * (ratio - 1) for ratio in outcome.ratios(STEPS[0], label)]
            cost = "" if label == STEPS[0] else spread(longer, 0)
            rows.append([augmentation, label, speeds(outcome, label, batch), cost])
    title = "The CNN-6 training step with wing_jax's inputs, on the same two cores:"
    return [title, "", *table(["augmentation", "", "faces/s", "the step takes longer by, %"], rows)]


if __name__ == "__main__":
    main()
