"""What can be done at prediction: the last stage again on its own answer, the mirror image, several boxes averaged.

    python experiments/repeats.py MODEL --data NAME [--boxes_of 8]

NME by inter-ocular distance on the held-out training faces, the same ones by which a training chooses its checkpoint,
with each box as given, and averaged over that box and others moved and resized by up to a tenth.
"""

import dataclasses
from importlib.metadata import version

import numpy as np
from shared import arguments, publish, table

from wing_jax.config import DataConfig
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces
from wing_jax.evaluation import metrics
from wing_jax.evaluation.jitter import jitter_boxes
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime import devices

REPEATS = 2
ORDER = ("first stage", "second stage", *(f"again, {number}" for number in range(1, REPEATS + 1)))


def main() -> None:
    """Measure, publish."""
    parser = arguments(__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", required=True)
    parser.add_argument("--boxes_of", type=int, default=8, help="boxes that are averaged")
    given = parser.parse_args()
    devices.prepare_xla()
    localizer = Localizer.load(given.model)
    longer = dataclasses.replace(localizer, stages=(*localizer.stages, *localizer.stages[-1:] * REPEATS))
    _, faces = load_faces(given.data, "train").split(DataConfig(name=given.data).validation)
    face_crops = crop_faces(faces, size=localizer.stages[-1].face_crop_size)
    distance = metrics.inter_ocular(face_crops.points, face_crops.boxes, metrics.Eyes.of(faces.scheme))

    def nmes(stages: np.ndarray) -> list[str]:
        found = [*stages, stages[1:].mean(0)]
        errors = [metrics.point_errors(points, face_crops.points, faces.visible) for points in found]
        return [f"{100 * np.mean(metrics.nme(error, distance, faces.visible)):.2f}" for error in errors]

    boxes = [face_crops.boxes] + [
        jitter_boxes(face_crops.boxes, fraction=0.1, seed=seed) for seed in range(given.boxes_of - 1)
    ]
    rows = []
    for mirror in (False, True):
        model = dataclasses.replace(longer, flip_average=mirror)
        answers = np.stack([np.stack(model.locate(face_crops.images, each)) for each in boxes])
        said = ", mirror average" if mirror else ""
        rows.append((f"box as given{said}", *nmes(answers[0])))
        rows.append((f"mean over {len(boxes)} boxes{said}", *nmes(answers.mean(0))))
    body = [f"{len(faces)} held-out faces, NME in %.", ""]
    body += table(("", *ORDER, "mean from the second stage on"), rows)
    publish(
        f"repeats {given.data}", f"At prediction, {given.data}", body, versions={"jax": version("jax")}, given=given
    )


if __name__ == "__main__":
    main()
