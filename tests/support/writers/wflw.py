"""WFLW: one list for each split, and images in the folders of WIDER FACE."""

from pathlib import Path

import cv2

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import WFLW_98

LISTS = "WFLW_annotations/list_98pt_rect_attr_train_test"
FLAGS = ("100000", "010011", "000000", "001100", "111111")


def line(face: SmallFace, flags: str, name: str) -> str:
    """Format a line of the list: 98 points, a box of integers, six flags, the image name."""
    numbers = [f"{value:.6f}" for value in face.points.ravel()] + [f"{value:.0f}" for value in face.box]
    return " ".join([*numbers, *flags, name])


def write_wflw(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write three training and two test faces with `FLAGS`; the first two training faces are on one photo."""
    faces = small_faces(WFLW_98, 5, seed=seed)
    faces[1] = SmallFace(faces[0].image, faces[1].points, faces[1].box)
    names = [f"{i}--Parade/{i}_Parade_{i}.png" for i in (0, 0, 2, 3, 4)]
    (folder / LISTS).mkdir(parents=True, exist_ok=True)
    for face, name in zip(faces, names, strict=True):
        path = folder / "WFLW_images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), face.image[:, :, ::-1])
    lines = [line(*each) for each in zip(faces, FLAGS, names, strict=True)]
    for split, split_lines in (("train", lines[:3]), ("test", lines[3:])):
        (folder / LISTS / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(split_lines) + "\n")
    return {"train": faces[:3], "test": faces[3:]}
