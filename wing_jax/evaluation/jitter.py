"""Move and resize boxes at random, to imitate a detector's."""

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_crops import MARGIN
from wing_jax.errors import InputError
from wing_jax.geometry import box_around, box_center, larger_side


def jitter_boxes(boxes: Float[np.ndarray, "n 4"], *, fraction: float, seed: int) -> Float[np.ndarray, "n 4"]:
    """Move each box by up to `fraction` of its larger side along x and y, and change its size by up to that fraction.

    Both changes are uniform and determined by `seed`.

    Raises:
      InputError: `fraction` is below 0, or so large that boxes may leave their face crops.
    """
    if not 0 <= fraction <= (MARGIN - 1) / 2:
        raise InputError(
            f"jitter={fraction} would move boxes outside their face crops: pass a value from 0 to {(MARGIN - 1) / 2}"
        )
    rng = np.random.default_rng(seed)
    center = box_center(boxes) + rng.uniform(-fraction, fraction, (len(boxes), 2)) * larger_side(boxes)
    size = (boxes[:, 2:] - boxes[:, :2]) * (1 + rng.uniform(-fraction, fraction, (len(boxes), 1)))
    return np.asarray(box_around(center, size), np.float32)
