"""Train a dlib shape predictor of the classic size on the few faces in `faces.npz`, into `dlib.dat`."""

import json
import sys
from pathlib import Path

import numpy as np

CASCADES, DEPTH, TREES = 15, 4, 500  # as in the classic 68-point model


def main() -> None:
    """Train and save the predictor; without dlib do nothing, which the comparison reports."""
    try:
        import dlib
    except ImportError:
        return
    folder = Path(json.loads(sys.argv[1])["folder"])
    faces = np.load(folder / "faces.npz")
    options = dlib.shape_predictor_training_options()
    options.cascade_depth, options.tree_depth, options.num_trees_per_cascade_level = CASCADES, DEPTH, TREES
    options.oversampling_amount, options.num_threads, options.be_verbose = 4, 2, False
    truth = [
        [
            dlib.full_object_detection(
                dlib.rectangle(*box.round().astype(int).tolist()),
                [dlib.point(*point) for point in points.round().astype(int).tolist()],
            )
        ]
        for box, points in zip(faces["boxes"], faces["points"], strict=True)
    ]
    dlib.train_shape_predictor(list(faces["images"]), truth, options).save(str(folder / "dlib.dat"))


if __name__ == "__main__":
    main()
