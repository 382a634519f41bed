"""Draw a model's predictions on complete photos, and list the worst ones.

    python experiments/overlays.py MODEL [--photos FOLDER] [--count 40] [--worst 20] [--output FOLDER] [--shapes PNG]

The model uses the same detector as `wing-jax predict`. Contact sheets of the faces are written to `--output`, with the
annotated points in blue below the predicted points in yellow: `some-1.png` and so on have `--count` photos spread
evenly over the list, `worst-1.png` and so on the `--worst` worst ones. The photos may not be published, so `--shapes`
writes a sheet of the worst faces without the photos, with only the annotated and the predicted shapes. The table lists
the parts of each face with the largest and the smallest error.
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from shared import table

from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces
from wing_jax.geometry import tight_box
from wing_jax.inference.detectors import box_of_face
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.report.draw import contact_sheet, draw_pair, face_tile, write_png

FACES_PER_SHEET = 10
BLANK = np.full((4, 4, 3), 255, np.uint8)
HEADER = ("photo", "NME, %", "worst part", "its NME, %", "best part", "its NME, %")


def main() -> None:
    """Locate the faces, draw them, and print the table of the worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--photos", default=str(Path(os.environ.get("WING_JAX_DATA", "../shared/data")) / "photos"))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--worst", type=int, default=20)
    parser.add_argument("--output", default="runs/overlays")
    parser.add_argument("--shapes", default="")
    options = parser.parse_args()
    faces = load_faces("pts", "test", root=options.photos, scheme="ibug68")
    predicted, missed = locate_all(FaceLandmarker.load(options.model), faces)
    eyes = np.linalg.norm(faces.points[:, faces.scheme.left_outer] - faces.points[:, faces.scheme.right_outer], axis=-1)
    errors = np.linalg.norm(predicted - faces.points, axis=-1) / eyes[:, None]
    nmes = errors.mean(1)
    located = np.setdiff1d(np.arange(len(faces)), missed)
    worst = located[np.argsort(-nmes[located])][: options.worst]
    some = located[np.linspace(0, len(located) - 1, min(options.count, len(located))).round().astype(int)]
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("some", some), ("worst", worst)):
        for number, start in enumerate(range(0, len(chosen), FACES_PER_SHEET), start=1):
            part = chosen[start : start + FACES_PER_SHEET]
            write_png(folder / f"{name}-{number}.png", draw_sheet(faces, predicted, nmes, part, columns=5, size=420))
    if options.shapes:
        write_png(Path(options.shapes), draw_sheet(faces, predicted, nmes, worst, columns=5, size=240, photos=False))
    print(f"{len(faces)} photos, no face found in {len(missed)}: {', '.join(stems(faces, missed)) or '-'}")
    print(f"NME by inter-ocular distance of the others {100 * nmes[located].mean():.2f} %; the worst {len(worst)}:\n")
    names = stems(faces, worst)
    print("\n".join(table(HEADER, [row(name, errors[i], faces) for name, i in zip(names, worst, strict=True)])))


def locate_all(landmarker: FaceLandmarker, faces: FaceSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of the annotated face of each photo `[n, points, 2]`, and the photos where it was not found."""
    points = np.full_like(faces.points, np.nan)
    missed = []
    for face in range(len(faces)):
        located = landmarker(faces.picture(face))
        best = box_of_face(located.boxes, faces.points[face])
        if best is None and len(located):  # the model's boxes are tighter than a detector's, so compare landmarks
            distances = np.linalg.norm(located.points - faces.points[face], axis=-1).mean(1)
            nearest = int(distances.argmin())
            reach = np.ptp(faces.points[face], axis=0).max()
            best = nearest if distances[nearest] < reach / 4 else None
        if best is None:
            missed.append(face)
        else:
            points[face] = located.points[best]
    return points, np.array(missed, int)


def draw_sheet(
    faces: FaceSet,
    predicted: np.ndarray,
    nmes: np.ndarray,
    chosen: Sequence[int],
    *,
    columns: int,
    size: int,
    photos: bool = True,
) -> np.ndarray:
    """Draw the `chosen` faces with both shapes, on their photos or on white."""
    tiles = []
    for face in chosen:
        box = tight_box(np.concatenate([faces.points[face], predicted[face]]))
        tile, affine = face_tile(faces.picture(face) if photos else BLANK, box, size=size, margin=1.2)
        shapes = (points @ affine[:, :2].T + affine[:, 2] for points in (faces.points[face], predicted[face]))
        tiles.append(draw_pair(tile, *shapes, lines=faces.scheme.lines, radius=size / 200))
    captions = [f"{name}  {100 * nmes[face]:.1f} %" for name, face in zip(stems(faces, chosen), chosen, strict=True)]
    return contact_sheet(tiles, captions, columns=columns)


def stems(faces: FaceSet, chosen: Sequence[int]) -> list[str]:
    """Return the names of the photos."""
    return [Path(faces.picture_name(face)).stem for face in chosen]


def row(name: str, errors: np.ndarray, faces: FaceSet) -> tuple[str, ...]:
    """Return a row: the photo, its error, and the parts of the face with the largest and the smallest error."""
    parts = defaultdict(list)
    for point, error in zip(faces.scheme.names, errors, strict=True):
        words = point.split()
        parts[" ".join(words[: 2 if words[0] in ("left", "right", "outer", "inner") else 1])].append(error)
    means = sorted((float(np.mean(values)), part) for part, values in parts.items())
    (least, best), (most, worst) = means[0], means[-1]
    return (name, f"{100 * errors.mean():.2f}", worst, f"{100 * most:.1f}", best, f"{100 * least:.1f}")


if __name__ == "__main__":
    main()
