"""Head shapes of AFLW without images: 21,080 faces, 21 points, yaw; published with 3DDFA (Zhu et al., TPAMI 2017).

https://github.com/cleardusk/3DDFA, folder `test.configs`: `AFLW_GT_pts21.npy` (faces, 2, 21), -1 if a point is not
visible, and `AFLW_GT_crop_yaws.npy` in degrees, positive if the nose points to image left.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_21, Scheme
from wing_jax.text import reason

FILES = ("AFLW_GT_pts21.npy", "AFLW_GT_crop_yaws.npy")


def read_aflw_shapes(
    root: str | Path,
) -> tuple[Float[np.ndarray, "n 21 2"], Bool[np.ndarray, "n 21"], Scheme, Float[np.ndarray, "n"]]:
    """Read the faces below `root` that have at least three visible points.

    Returns:
      (points, visible, scheme, yaw in degrees, positive to image right).

    Raises:
      InputError: a file is missing or has another shape.
    """
    try:
        raw, yaw = (np.load(Path(root) / name, allow_pickle=False) for name in FILES)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{root}: cannot read {' and '.join(FILES)} ({reason(error)}): pass their folder") from error
    if raw.shape[1:] != (2, 21) or yaw.shape != raw.shape[:1]:
        raise InputError(
            f"{root}: {FILES[0]} is {raw.shape} and {FILES[1]} {yaw.shape}: copy the published files again"
        )
    points = np.ascontiguousarray(raw.transpose(0, 2, 1), np.float32)
    visible = np.all(points >= 0, axis=-1)
    selected = visible.sum(1) >= 3
    return points[selected], visible[selected], AFLW_21, -yaw[selected].astype(np.float32)
