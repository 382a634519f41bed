"""The 68 points as people annotate them in pictures, as in 300-W: the jaw along the visible outline of the face.

There, the points of a line have equal distances in the picture, on turned faces too: on the training faces of 300-W,
the mean distances of neighbors are 0.107 to 0.133 of the line from an ear to the chin, which has 8 parts, and 0.236 to
0.265 of a brow, which has 4.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from wing_jax.synthetic.mesh import sample_grid

Sites = Float[np.ndarray, "68 2"]
JAW = slice(0, 17)
LINES = (slice(0, 9), slice(8, 17), slice(17, 22), slice(22, 27))  # from each ear to the chin, and the brows
_STEPS = 33  # places on each path
_CHEEK = 40.0  # v: the paths of points above keep their height, and end beside the nose
_NOSE = 22.0  # p at that end


def outline_sites(
    skin: Float[np.ndarray, "rows columns 3"],
    sites: Sites,
    project: Callable[[np.ndarray], np.ndarray],
    *,
    roll: float,
) -> Sites:
    """Return the positions (p, v) of the 68 points on the head as they are annotated in a picture of it.

    A point of the jaw that the face hides moves towards the middle of the face, to the place that is farthest out in
    the picture. "Out" is the direction in which the jaw points there, seen from the front. Then the points of each of
    `LINES` move along it to equal distances in the picture.

    Args:
      skin: the vertices of the head.
      sites: the positions of the points on it, from `landmark_sites`.
      project: the projection of vertices to pixels (`Camera.project`).
      roll: the angle of the head in the picture, in degrees.
    """
    jaw = sites[JAW]
    low = np.clip(jaw[:, 1] - _CHEEK, 0, None)
    ends = np.stack([np.where(low > 0, 0, np.sign(jaw[:, 0]) * _NOSE), jaw[:, 1] - low / 2], axis=1)
    share = np.linspace(0, 1, _STEPS)[:, None, None]
    paths = (jaw * (1 - share) + ends * share).astype(np.float32)  # [steps, 17, 2]
    pixels = project(sample_grid(skin, paths.reshape(-1, 2)))[:, :2].reshape(paths.shape)
    along = np.gradient(sample_grid(skin, jaw)[:, :2], axis=0)  # from the image's left to its right
    angle = np.deg2rad(roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    outwards = np.stack([-along[:, 1], along[:, 0]], axis=1) @ turn.T
    farthest = (pixels * outwards).sum(-1).argmax(0)
    moved = sites.copy()
    moved[JAW] = paths[farthest, np.arange(len(jaw))]
    for line in LINES * 2:  # the second time corrects for the curvature of the head
        places = project(sample_grid(skin, moved[line]))[:, :2]
        lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)
        position = np.concatenate([[0], lengths.cumsum()])
        equal = np.linspace(0, position[-1], len(position))
        moved[line] = np.stack([np.interp(equal, position, axis) for axis in moved[line].T], axis=1)
    return moved
