"""Further attempts at faces whose landmarks are not valid: with the first crop turned, moved and resized.

The first stage is trained on upright faces and good boxes. Where it fails, the calibration says so
(`wing_jax.inference.uncertainty`), and the face is tried again in two rounds: turned by multiples of 45 degrees, and
with a larger box; then with a smaller box, and with moved boxes. The attempt of a round with the smallest expected
error is kept if it is valid, or if its expected error is much smaller than that of the result before.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from wing_jax.geometry import box_around, box_center, larger_side
from wing_jax.inference.crop_sources import Requests
from wing_jax.inference.forward import Located

IMPROVED = 0.7  # an attempt that is not valid needs an expected error of at most this share of the one before
FACES = 256  # that are tried again at once, so that memory is limited


class Attempt(NamedTuple):
    """A change of the first crop: the clockwise turn, the factor of its side, and its movement in box sides."""

    degrees: float = 0.0
    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0


# The attempts that made most of the held-out faces of `w300` valid, moved in all directions alike.
ROUNDS: tuple[tuple[Attempt, ...], ...] = (
    (*(Attempt(degrees=45.0 * eighths) for eighths in range(1, 8)), Attempt(scale=1.25)),
    (
        Attempt(scale=0.8),
        *(Attempt(right=right) for right in (-0.25, 0.25)),
        *(Attempt(down=down) for down in (-0.25, 0.25)),
        *(Attempt(scale=1.25, right=right, down=down) for right in (-0.25, 0.25) for down in (-0.25, 0.25)),
    ),
)


def retry(
    locate: Callable[[Requests], Located],
    requests: Requests,
    located: Located,
    *,
    limit: float,
) -> Located:
    """Return `located`, with the results of better attempts for the faces that are not valid.

    Args:
      locate: runs further requests.
      requests: the first ones.
      located: their results, with expected errors.
      limit: the largest expected error of a valid face.
    """
    errors = located.expected_error.copy()
    for attempts in ROUNDS:
        unsure = np.flatnonzero(errors > limit)
        for start in range(0, len(unsure), FACES):
            faces = unsure[start : start + FACES]
            tried = locate(change_requests(requests, faces, attempts))
            tried_errors = tried.expected_error
            best = tried_errors.reshape(len(faces), len(attempts)).argmin(1) + len(attempts) * np.arange(len(faces))
            better = tried_errors[best] <= np.maximum(limit, IMPROVED * errors[faces])
            located = replace_faces(located, faces[better], tried, best[better])
            errors[faces[better]] = tried_errors[best[better]]
    return located


def change_requests(requests: Requests, faces: np.ndarray, attempts: tuple[Attempt, ...]) -> Requests:
    """Return the requests `[len(faces) * len(attempts)]` of all attempts at the first face, the second, and so on."""
    changes = np.tile(np.array(attempts, np.float32), (len(faces), 1))
    rows = np.repeat(faces, len(attempts))
    boxes = requests.boxes[rows]
    side = larger_side(boxes)  # a crop is a square around a box's center, so the box may become one
    moved = box_around(box_center(boxes) + side * changes[:, 2:], side * changes[:, 1:2])
    return Requests(
        faces=requests.faces[rows],
        boxes=np.asarray(moved, np.float32),
        degrees=requests.degrees[rows] + changes[:, 0],
    )


def replace_faces(located: Located, faces: np.ndarray, source: Located, rows: np.ndarray) -> Located:
    """Return `located` with the results of `faces` replaced by the `rows` of `source`."""
    points = np.array(located.points)
    points[:, faces] = np.asarray(source.points)[:, rows]

    def replace(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        result = np.array(values)
        result[faces] = np.asarray(others)[rows]
        return result

    return Located(points, jax.tree.map(replace, located.evidence, source.evidence))
