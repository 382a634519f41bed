"""Measure options at prediction: repeat the last stage, average with the mirror image, several boxes, several models.

    python experiments/repeats.py MODEL --data NAME [--boxes_of 8] [--others MODEL ...]

The result is the NME by inter-ocular distance on the held-out training faces (those by which training selects its
checkpoint), with the annotated box alone, and averaged over that box and others moved and resized by up to a tenth.
`--others` are models that held out the same faces. They are compared with MODEL face by face (95 % interval, bootstrap
over photos), each also averaged with the mirror image. Their points are averaged with those of MODEL, and the share of
the squared error that two models have in common is computed: an average of any number of such models keeps it.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from shared import arguments, paired_difference, publish, table

from wing_jax.config import DataConfig
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces
from wing_jax.evaluation import metrics
from wing_jax.evaluation.jitter import jitter_boxes
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime import devices

REPEATS = 2
ORDER = ("first stage", "second stage", *(f"again, {number}" for number in range(1, REPEATS + 1)))


def main() -> None:
    """Measure all options and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", required=True)
    parser.add_argument("--boxes_of", type=int, default=8, help="number of boxes to average")
    parser.add_argument("--others", nargs="*", default=[], metavar="MODEL", help="models to average with")
    options = parser.parse_args()
    devices.prepare_xla()
    localizer = Localizer.load(options.model)
    longer = dataclasses.replace(localizer, stages=(*localizer.stages, *localizer.stages[-1:] * REPEATS))
    _, faces = load_faces(options.data, "train").split(DataConfig(name=options.data).validation)
    face_crops = crop_faces(faces, size=localizer.stages[-1].face_crop_size)
    distance = metrics.inter_ocular(face_crops.points, face_crops.boxes, metrics.Eyes.of(faces.scheme))

    def nmes(stages: np.ndarray) -> list[str]:
        predictions = [*stages, stages[1:].mean(0)]
        errors = [metrics.point_errors(points, face_crops.points, faces.visible) for points in predictions]
        return [f"{100 * np.mean(metrics.nme(error, distance, faces.visible)):.2f}" for error in errors]

    boxes = [face_crops.boxes] + [
        jitter_boxes(face_crops.boxes, fraction=0.1, seed=seed) for seed in range(options.boxes_of - 1)
    ]
    rows = []
    for mirror in (False, True):
        model = dataclasses.replace(longer, flip_average=mirror)
        predicted = np.stack([np.stack(model.locate(face_crops.images, condition)) for condition in boxes])
        suffix = ", mirror average" if mirror else ""
        rows.append((f"box as given{suffix}", *nmes(predicted[0])))
        rows.append((f"mean over {len(boxes)} boxes{suffix}", *nmes(predicted.mean(0))))
    body = [f"{len(faces)} held-out faces, NME in %.", ""]
    body += table(("", *ORDER, "mean from the second stage on"), rows)
    if options.others:
        models = {name: Localizer.load(name) for name in (options.model, *options.others)}
        errors = {name: errors_of(model, faces) for name, model in models.items()}
        mirrored = {
            name: errors_of(dataclasses.replace(model, flip_average=True), faces) for name, model in models.items()
        }
        header = ("models", "NME, %", f"minus {options.model}, %", "mirror average, NME, %")
        body += ["", *table(header, rows_of_models(errors, mirrored, faces.photos)), "", *common_share(errors)]
    publish(
        f"repeats {options.data}",
        f"At prediction, {options.data}",
        body,
        versions={"jax": version("jax")},
        options=options,
    )


def errors_of(localizer: Localizer, faces: FaceSet) -> np.ndarray:
    """Return the errors of a model's single attempts `[faces, points, 2]`, in inter-ocular distances."""
    face_crops = crop_faces(faces, size=localizer.stages[-1].face_crop_size)
    distance = metrics.inter_ocular(face_crops.points, face_crops.boxes, metrics.Eyes.of(faces.scheme))
    single = dataclasses.replace(localizer, retry_invalid=False)
    return (single.locate(face_crops.images, face_crops.boxes)[-1] - face_crops.points) / distance[:, None, None]


def rows_of_models(
    errors: dict[str, np.ndarray], mirrored: dict[str, np.ndarray], photos: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the NME of each model and of their mean, its difference to the first one, and that of mirror averages."""

    def nmes(values: np.ndarray) -> np.ndarray:
        return 100 * np.linalg.norm(values, axis=-1).mean(-1)

    means = [np.mean(list(values.values()), axis=0) for values in (errors, mirrored)]
    errors, mirrored = errors | {"mean of all": means[0]}, mirrored | {"mean of all": means[1]}
    first, *_ = errors
    return [
        (
            name,
            f"{nmes(values).mean():.3f}",
            "" if name == first else paired_difference([nmes(values)], [nmes(errors[first])], photos),
            f"{nmes(mirrored[name]).mean():.3f}",
        )
        for name, values in errors.items()
    ]


def common_share(errors: dict[str, np.ndarray]) -> list[str]:
    """Return a sentence about the share of the squared error that two models have in common."""
    squared = np.mean([np.mean(values**2) for values in errors.values()])
    pairs = [np.mean(a * b) for a, b in itertools.combinations(errors.values(), 2)]
    return [f"Two models have {100 * np.mean(pairs) / squared:.0f} % of their squared error in common."]


if __name__ == "__main__":
    main()
