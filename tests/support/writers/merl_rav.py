"""MERL-RAV: `.pts` files with signs for visibility, beside AFLW's photos or in the layout of the repository."""

from pathlib import Path

import cv2
import numpy as np

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68

NAMES = {
    "train": ("frontal/trainset/image00010_1", "frontal/trainset/image00010_2", "left/trainset/image00012"),
    "test": ("righthalf/testset/image00013", "frontal/testset/image00019"),
}
SELF_HIDDEN, HIDDEN = slice(9, 17), slice(20, 23)  # points of every face


def write_merl_rav(folder: Path, *, seed: int = 0, organized: bool = True) -> dict[str, list[SmallFace]]:
    """Write five faces, two of one photo. Points 9-16 are hidden by the face, 20-22 by another object."""
    faces = small_faces(IBUG_68, 5, seed=seed)
    faces[1] = SmallFace(faces[0].image, faces[1].points, faces[1].box)
    remaining = iter(faces)
    written = {split: [next(remaining) for _ in names] for split, names in NAMES.items()}
    for split, names in NAMES.items():
        for name, face in zip(names, written[split], strict=True):
            pose, part, stem = name.split("/")
            labels = folder / ("merl_rav_organized" if organized else "merl_rav_labels") / pose / part
            labels = labels if organized else labels / "labels"
            photo = labels / f"{stem}.jpg" if organized else folder / "aflw/flickr/0" / f"{stem.split('_')[0]}.jpg"
            for path in (labels, photo.parent):
                path.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(photo), face.image[:, :, ::-1])
            (labels / f"{stem}.pts").write_text(signed_pts(face.points + 1))
    return written


def signed_pts(numbers: np.ndarray) -> str:
    """Format 68 positions that count from 1."""
    signed = numbers.astype(np.float64)
    signed[HIDDEN] *= -1
    signed[SELF_HIDDEN] = -1
    rows = "\n".join("-1 -1" if row == [-1, -1] else f"{row[0]!r} {row[1]!r}" for row in signed.tolist())
    return f"version: 1\nn_points:  68\n{{\n{rows}\n}}"
