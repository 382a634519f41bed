"""LaPa and JD-landmark: a text file of 106 points for each image."""

from pathlib import Path

import cv2
import numpy as np

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import LAPA_106


def text(points: np.ndarray) -> str:
    """Format the content of a landmark file."""
    return "106\n" + "".join(f"{x:.6f} {y:.6f}\n" for x, y in points)


def write_lapa(folder: Path, *, seed: int = 0, parent: bool = True) -> dict[str, list[SmallFace]]:
    """Write three training, one validation and two test faces in `folder / "LaPa"`; without `parent` in `folder`."""
    faces = small_faces(LAPA_106, 6, seed=seed)
    names = {
        "train": ("1001_0", "1001_1", "HELEN_232194_1_5"),
        "val": ("1002_3",),
        "test": ("1003_0", "LFPW_image_test_0007_2"),
    }
    written, remaining = {}, iter(faces)
    for split, split_names in names.items():
        written[split] = []
        for name in split_names:
            face, base = next(remaining), folder / "LaPa" / split if parent else folder / split
            _write(base / "images" / f"{name}.jpg", base / "landmarks" / f"{name}.txt", face)
            written[split].append(face)
    return written


def write_jd_landmark(folder: Path, *, seed: int = 0, boxes: bool = True) -> dict[str, list[SmallFace]]:
    """Write three training faces of two parts and two test faces, with or without boxes."""
    faces = small_faces(LAPA_106, 5, seed=seed)
    places = (
        "Training_data/AFW/AFW_134212_1_0.jpg",
        "Training_data/AFW/AFW_134212_2_3.jpg",
        "Training_data/IBUG/IBUG_image_003_1_0.jpg",
        "Test_data1/1.jpg",
        "Test_data1/2.jpg",
    )
    for face, place in zip(faces, places, strict=True):
        base, name = (folder / place).parent, (folder / place).name
        _write(base / "picture" / name, base / "landmark" / f"{name}.txt", face)
        if boxes:
            (base / "rect").mkdir(exist_ok=True)
            (base / "rect" / f"{name}.rect").write_text(" ".join(f"{value:.3f}" for value in face.box) + "\n")
    return {"train": faces[:3], "test": faces[3:]}


def _write(picture: Path, landmarks: Path, face: SmallFace) -> None:
    for path in (picture, landmarks):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(picture), face.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    landmarks.write_text(text(face.points))
