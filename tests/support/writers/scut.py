"""SCUT-FBP5500: pairs `Images/AF1.jpg` and `facial landmark/AF1.pts`, and CM152, which has no points."""

from pathlib import Path

import cv2
import numpy as np

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import SCUT_86

NAMES = {"train": ("AF1", "AM1999", "CF12"), "test": ("AF10", "CM5")}  # each in the order of reading


def content(points: np.ndarray) -> bytes:
    """Return the content of a points file; the points count from 0."""
    return np.int32(len(points)).astype("<i4").tobytes() + points.astype("<f4").tobytes()


def write_scut(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write three training faces and two test faces, and the one without points."""
    faces = iter(small_faces(SCUT_86, 6, seed=seed))
    written = {split: [next(faces) for _ in names] for split, names in NAMES.items()}
    for part in ("Images", "facial landmark"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for split, names in NAMES.items():
        for name, face in zip(names, written[split], strict=True):
            _write(folder, name, face, content(face.points))
    _write(folder, "CM152", next(faces), bytes(4))
    return written


def _write(folder: Path, name: str, face: SmallFace, label: bytes) -> None:
    picture = folder / "Images" / f"{name}.jpg"
    cv2.imwrite(str(picture), face.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    (folder / "facial landmark" / f"{name}.pts").write_bytes(label)
