"""AFLW-19: `AFLWinfo_release.mat` and the images below `flickr/`."""

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import AFLW_19

ORDER = (2, 0, 4, 1, 3)  # the faces of the list in the order of `ra`: three train, two test


def write_aflw(folder: Path, *, seed: int = 0, changes: dict | None = None) -> dict[str, list[SmallFace]]:
    """Write five faces as published; read the training set with `training_faces=3`.

    Point 4 of the first and third face of the list is hidden; `changes` replaces fields of the list, or removes them
    (None).
    """
    faces = small_faces(AFLW_19, 5, seed=seed)
    names = np.empty((5, 1), object)
    names[:, 0] = [f"{i % 2}/image{i:05}.png" for i in range(5)]
    visible = np.ones((5, 19), np.uint8)
    visible[[0, 2], 4] = 0
    content = {
        "nameList": names,
        "bbox": np.stack([face.box[[0, 2, 1, 3]] for face in faces]).astype(np.float64),
        "data": np.stack([face.points.T.ravel() for face in faces]).astype(np.float64),
        "mask_new": visible,
        "ra": np.array([ORDER], np.uint16) + 1,
    } | (changes or {})
    scipy.io.savemat(folder / "AFLWinfo_release.mat", {k: v for k, v in content.items() if v is not None})
    for i, face in enumerate(faces):
        path = folder / "flickr" / str(i % 2) / f"image{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), face.image[:, :, ::-1])
    return {"train": [faces[i] for i in ORDER[:3]], "test": [faces[i] for i in ORDER[3:]]}
