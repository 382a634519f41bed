"""The synthetic faces as a data set."""

from typing import Any

import numpy as np
from jaxtyping import Int8

from wing_jax.data.face_set import FaceSet
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.runtime import memory
from wing_jax.schemes import IBUG_68
from wing_jax.types import Visibility

TEST_SEED = 10_000_019  # the test faces are never among the training faces of any usual seed


@register_reader(name="synthetic", title="drawn faces, 68 points", rootless=True)
def read_synthetic(root: str, split: str, *, count: int, seed: int = 0) -> FaceSet:
    """`count` faces that `seed` and the `split` choose; `root` says nothing.

    Raises:
      InputError: as `synthetic_faces`.
    """
    return synthetic_faces(count, seed=seed if split == "train" else TEST_SEED + seed)


def synthetic_faces(count: int, *, seed: int, size: int = 192) -> FaceSet:
    """`count` faces drawn by `wing_jax.synthetic.render`, as a data set; their box is the tight box of the points.

    Raises:
      InputError: `count` is under 1, or the faces do not fit into memory.
    """
    if count < 1:
        raise InputError(f"the synthetic data set needs a number of faces, not {count}: set data.train_faces")
    memory.refuse_beyond(
        2 * 3 * size**2 * count, what=f"{count:,} synthetic faces of {size} x {size} pixels", fix="ask for fewer"
    )
    from wing_jax.synthetic.render import render_faces  # who reads faces need not know how to draw them

    drawn = render_faces(count, seed=seed, size=size)
    points = np.stack([face.points for face in drawn])
    return FaceSet(
        name="synthetic faces",
        scheme=IBUG_68,
        pictures=np.stack([face.image for face in drawn]),
        points=points,
        visible=np.ones(points.shape[:2], bool),  # a 3-D annotation: hidden points are exact as well
        boxes=np.asarray(tight_box(points)),
        box_convention="landmarks",
        photos=tuple(f"{seed}-{i}" for i in range(count)),
        subsets=("synthetic",) * count,
        visibility=np.stack([_visibility(face) for face in drawn]),
        poses=tuple(_pose(face.yaw) for face in drawn),
        angles=np.array([(face.yaw, face.pitch, face.roll) for face in drawn], np.float32),
    )


def _visibility(face: Any) -> Int8[np.ndarray, "68"]:
    hidden = np.where(face.visible, Visibility.VISIBLE, Visibility.SELF_OCCLUDED)
    return np.where(face.covered, Visibility.OCCLUDED, hidden).astype(np.int8)


def _pose(yaw: float) -> str:
    """A label that sorts by yaw."""
    names = ("1 left profile", "2 left", "3 frontal", "4 right", "5 right profile")
    return names[int(np.searchsorted((-60, -20, 20, 60), yaw))]
