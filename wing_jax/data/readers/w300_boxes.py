"""The boxes published with 300-W: `Bounding Boxes/bounding_boxes_{afw,helen_trainset,helen_testset,...}.mat`.

From https://ibug.doc.ic.ac.uk/resources/300-W/. Each file contains a cell `bounding_boxes` of structures with
`imgName`, `bb_detector` (of iBUG's in-house detector) and `bb_ground_truth` (the tight box of the points), each x0 y0
x1 y1; as read by D-X-Y/landmark-detection (`generate_300W.py`). They are taken to count from 1, as the `.pts` do.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.data.readers.mat_file import not_as_published, read_mat, to_float64
from wing_jax.errors import InputError

FOLDERS = ("Bounding Boxes", "Bounding_Boxes", "bounding_boxes", ".")


def read_detector_boxes(root: Path, part: str) -> dict[str, Float[np.ndarray, "4"]]:
    """Read the detector's boxes of `part` ("afw", "helen/trainset", ...) below `root`, by picture name without ending.

    A box is x0, y0, x1, y1 in 0-based pixel centers.

    Raises:
      InputError: the file of the part is missing, or not as published.
    """
    name = f"bounding_boxes_{part.replace('/', '_')}.mat"
    candidates = [root / folder / name for folder in FOLDERS]
    path = next((candidate for candidate in candidates if candidate.exists()), candidates[0])
    hint = "get the bounding boxes of 300-W from iBUG, or use boxes='given'"
    entries = read_mat(path, ("bounding_boxes",), hint=hint)["bounding_boxes"]
    boxes = {}
    try:
        for entry in np.ravel(entries):
            fields = entry[0, 0]
            boxes[Path(str(fields["imgName"][0])).stem] = (
                to_float64(fields["bb_detector"]).reshape(4).astype(np.float32) - 1
            )
    except Exception as error:  # a field is missing, or has another shape or type
        raise not_as_published(path, error) from error
    return boxes


def find_box(boxes: dict[str, Float[np.ndarray, "4"]], picture: Path) -> Float[np.ndarray, "4"]:
    """Return the box of `picture`.

    Raises:
      InputError: `boxes` has no box for it.
    """
    if picture.stem not in boxes:
        raise InputError(f"{picture}: no published bounding box for it: use boxes='given'")
    return boxes[picture.stem]
