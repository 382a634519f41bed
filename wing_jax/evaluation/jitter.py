"""Boxes moved and resized at random, as a detector's differ from the annotated ones."""

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_crops import MARGIN
from wing_jax.errors import InputError
from wing_jax.geometry import box_around, box_center, larger_side


def jitter_boxes(boxes: Float[np.ndarray, "n 4"], *, fraction: float, seed: int) -> Float[np.ndarray, "n 4"]:
    """Boxes whose center moves by up to `fraction` of their larger side along x and y, and whose size changes by up to
    that fraction; uniform, from `seed`.

    Raises:
      InputError: `fraction` is below 0, or so large that the face crops do not hold the boxes.
    """
    if not 0 <= fraction <= (MARGIN - 1) / 2:
        raise InputError(f"jitter={fraction} would leave the face crop: give 0 to {(MARGIN - 1) / 2}")
    random = np.random.default_rng(seed)
    center = box_center(boxes) + random.uniform(-fraction, fraction, (len(boxes), 2)) * larger_side(boxes)
    size = (boxes[:, 2:] - boxes[:, :2]) * (1 + random.uniform(-fraction, fraction, (len(boxes), 1)))
    return np.asarray(box_around(center, size), np.float32)
