"""FG-NET: pairs `images/001A02.JPG` and `points/001a02.pts`."""

from pathlib import Path

import cv2
import numpy as np

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import FGNET_68

NAMES = {"train": ("001a02", "001a43b", "006a11"), "test": ("005a10", "080a69")}


def text(points: np.ndarray) -> str:
    """Format the content of a points file; the points count from 0."""
    return "version: 1\nn_points: 68\n{\n" + "".join(f"{x:.4f} {y:.4f}\n" for x, y in points) + "}\n"


def write_fgnet(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write three training faces of two people, and two test faces of two others."""
    faces = iter(small_faces(FGNET_68, 5, seed=seed))
    written = {split: [next(faces) for _ in names] for split, names in NAMES.items()}
    for part in ("images", "points"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for split, names in NAMES.items():
        for name, face in zip(names, written[split], strict=True):
            picture = folder / "images" / f"{name.upper()}.JPG"
            cv2.imwrite(str(picture), face.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
            (folder / "points" / f"{name}.pts").write_text(text(face.points))
    return written
