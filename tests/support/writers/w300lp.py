"""300W-LP: `SET/NAME.jpg` + `SET/NAME.mat` + `landmarks/SET/NAME_pts.mat`, only for training."""

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68

NAMES = ("AFW/AFW_134212_1_0", "AFW/AFW_134212_2_12", "LFPW/LFPW_image_train_0001_3")
PITCH_YAW_ROLL = (-0.2, 0.4, 0.0)


def write_w300lp(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write three training faces, two of one photo, and a flipped copy of the first; `pts_2d` is `pts_3d` plus 2."""
    faces = small_faces(IBUG_68, 3, seed=seed)
    for face, name in zip(faces, NAMES, strict=True):
        files = (folder / f"{name}.jpg", folder / f"{name}.mat", folder / "landmarks" / f"{name}_pts.mat")
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(files[0]), face.image[:, :, ::-1])
        scipy.io.savemat(files[1], {"Pose_Para": np.float32([[*PITCH_YAW_ROLL, 20, 30, -66, 1e-3]])})
        scipy.io.savemat(files[2], {"pts_3d": face.points + 1.0, "pts_2d": face.points + 3.0})
    mirrored = folder / "AFW_Flip"
    mirrored.mkdir()
    cv2.imwrite(str(mirrored / "AFW_134212_1_0.jpg"), faces[0].image[:, ::-1, ::-1])
    scipy.io.savemat(mirrored / "AFW_134212_1_0.mat", {"Pose_Para": np.zeros((1, 7), np.float32)})
    return {"train": faces}
