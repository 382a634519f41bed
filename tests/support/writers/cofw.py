"""COFW in the format of Matlab 7.3 (HDF5, each array transposed), and COFW68."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import COFW_29, IBUG_68

NAMES = {"train": ("IsTr", "phisTr", "bboxesTr"), "test": ("IsT", "phisT", "bboxesT")}


def occluded(points: int) -> np.ndarray:
    """Return the flags of each face: every third point is occluded."""
    return (np.arange(points) % 3 == 0).astype(float)


def left_top_width_height(face: SmallFace) -> np.ndarray:
    """Return the box as in the file, counted from 1."""
    return np.float64([*(face.box[:2] + 1), *(face.box[2:] - face.box[:2])])


def write_cofw(folder: Path, *, seed: int = 0, gray: bool = False) -> dict[str, list[SmallFace]]:
    """Write three training and two test faces; the last test face is gray in the color file too."""
    faces = small_faces(COFW_29, 5, seed=seed)
    faces = [_make_gray(face) if gray or face is faces[-1] else face for face in faces]
    written = {"train": faces[:3], "test": faces[3:]}
    for split, split_faces in written.items():
        path = folder / (f"COFW_{split}.mat" if gray else f"COFW_{split}_color.mat")
        write_mat73(path, split, split_faces, gray=[gray or face is faces[-1] for face in split_faces])
    return written


def write_mat73(path: Path, split: str, faces: list[SmallFace], *, gray: list[bool]) -> None:
    """Write one file: in Matlab a cell n x 1, a matrix n x 87 and a matrix n x 4."""
    cell, phis, boxes = NAMES[split]
    with h5py.File(path, "w", userblock_size=512) as file:
        references = np.empty((1, len(faces)), h5py.ref_dtype)
        for i, face in enumerate(faces):
            pixels = face.image[..., 0] if gray[i] else face.image
            references[0, i] = file.create_dataset(f"#refs#/image{i}", data=pixels.T).ref
        file.create_dataset(cell, data=references, dtype=h5py.ref_dtype)
        rows = [[*(face.points.T.astype(float) + 1).ravel(), *occluded(29)] for face in faces]
        file[phis] = np.transpose(rows)
        file[boxes] = np.transpose([left_top_width_height(face) for face in faces])
    with path.open("r+b") as start:
        start.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")


def write_cofw68(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write two test faces of 68 points in `folder / "COFW68_Data"`, on the images of COFW's test set."""
    faces, inner = small_faces(IBUG_68, 2, seed=seed), folder / "COFW68_Data"
    (inner / "test_annotations").mkdir(parents=True, exist_ok=True)
    shells = [SmallFace(face.image, face.points[:29], face.box) for face in faces]
    write_mat73(inner / "COFW_test_color.mat", "test", shells, gray=[False, False])
    for i, face in enumerate(faces):
        content = {"Points": face.points.astype(float) + 1, "Occ": occluded(68)[None]}
        scipy.io.savemat(inner / "test_annotations" / f"{i + 1}_points.mat", content)
    boxes = np.stack([left_top_width_height(face) for face in faces])
    scipy.io.savemat(inner / "cofw68_test_bboxes.mat", {"bboxes": boxes})
    return {"test": faces}


def _make_gray(face: SmallFace) -> SmallFace:
    return SmallFace(np.repeat(face.image[..., :1], 3, axis=-1), face.points, face.box)
