"""Find and mark faces on complete photos that are turned by any angle.

    python experiments/angles.py MODEL [MODEL ...] [--photos FOLDER] [--degrees 0 45 90 135 180]

Each photo is turned clockwise, with a black border, and searched as by `wing-jax predict`: once as it is, and if no
valid face is found, turned by quarters. The annotated face is found if a box overlaps that of its points by at least
30 % (intersection over union), and marked if the NME of the face in this box is at most 10 % of the inter-ocular
distance. The next column is the number of marked faces that the model calls valid. The NME is that of the marked faces.
"""

import argparse
import os
from pathlib import Path

import cv2
import numpy as np
from shared import table

from wing_jax.data.boxes import overlap
from wing_jax.data.load import load_faces
from wing_jax.geometry import similarity, tight_box, transform
from wing_jax.inference.face_landmarker import FaceLandmarker

FAILED = 0.1
SAME_FACE = 0.3
HEADER = ("degrees", "found", "marked", "of these valid", "NME, %", "photos without the face but with valid others")


def main() -> None:
    """Turn, find, and print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--photos", default=str(Path(os.environ.get("WING_JAX_DATA", "../shared/data")) / "photos"))
    parser.add_argument("--degrees", nargs="*", type=float, default=[0, 45, 90, 135, 180])
    options = parser.parse_args()
    faces = load_faces("pts", "test", root=options.photos, scheme="ibug68")
    for model in options.models:
        landmarker = FaceLandmarker.load(model)
        rows = [row(landmarker, faces, degrees) for degrees in options.degrees]
        print("\n".join([f"{model}, {len(faces)} photos", "", *table(HEADER, rows), ""]), flush=True)


def row(landmarker: FaceLandmarker, faces, degrees: float) -> tuple[str, ...]:
    """Return the row of one angle."""
    found, wrong, nmes, valid = 0, 0, [], 0
    for index in range(len(faces)):
        image, points = turn(faces.picture(index), faces.points[index], degrees)
        result = landmarker(image)
        overlaps = overlap(result.boxes, tight_box(points))
        best = int(overlaps.argmax()) if len(overlaps) else 0
        if overlaps.max(initial=0) < SAME_FACE:
            wrong += bool(result.valid is not None and result.valid.any())
            continue
        found += 1
        eyes = np.linalg.norm(points[faces.scheme.left_outer] - points[faces.scheme.right_outer])
        nme = np.linalg.norm(result.points[best] - points, axis=-1).mean() / eyes
        if nme <= FAILED:
            nmes.append(nme)
            valid += bool(result.valid is None or result.valid[best])
    mean = f"{100 * np.mean(nmes):.2f}" if nmes else "-"
    return f"{degrees:g}", str(found), str(len(nmes)), str(valid), mean, str(wrong)


def turn(image: np.ndarray, points: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn a picture clockwise around its center, into a picture that it fits in; return it and the points."""
    affine = np.array(similarity(degrees=degrees), np.float64)
    sides = np.array(image.shape[1::-1])
    extent = np.abs(affine[:, :2]) @ sides
    affine[:, 2] = (extent - 1) / 2 - affine[:, :2] @ ((sides - 1) / 2)
    size = tuple(np.ceil(extent).astype(int).tolist())
    return cv2.warpAffine(image, affine, size), np.asarray(transform(affine[None], points[None]))[0]


if __name__ == "__main__":
    main()
