"""AFLW2000-3D: pairs `image00002.jpg` + `image00002.mat`, only for testing."""

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68

PITCH_YAW_ROLL = (0.1, -0.5, 0.25)


def write_aflw2000(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write three test faces; all have the pose `PITCH_YAW_ROLL` in radians."""
    faces = small_faces(IBUG_68, 3, seed=seed)
    for face, number in zip(faces, (2, 4, 6), strict=True):
        content = {
            "pt3d_68": np.float32([*(face.points.T + 1), np.arange(68)]),
            "pt2d": np.full((2, 21), -1.0),
            "Pose_Para": np.float32([[*PITCH_YAW_ROLL, 20, 30, -66, 1e-3]]),
            "roi": np.int16([[1, 1, 96, 80]]),
        }
        scipy.io.savemat(folder / f"image{number:05}.mat", content)
        cv2.imwrite(str(folder / f"image{number:05}.jpg"), face.image[:, :, ::-1])
    return {"test": faces}
