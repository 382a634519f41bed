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

TEST_SEED = 10_000_019  # large, so that test faces are not among the training faces of small seeds


@register_reader(name="synthetic", title="synthetic faces, 68 points", root_optional=True)
def read_synthetic(root: str, split: str, *, count: int, seed: int = 0) -> FaceSet:
    """Render `count` faces that depend on `seed` and `split`; `root` is ignored.

    Raises:
      InputError: as in `synthetic_faces`.
    """
    return synthetic_faces(count, seed=seed if split == "train" else TEST_SEED + seed)


def synthetic_faces(count: int, *, seed: int, size: int = 192) -> FaceSet:
    """Render `count` faces with `wing_jax.synthetic.render` as a data set; the box is the tight box of the points.

    Raises:
      InputError: `count` is less than 1, or the faces do not fit into memory.
    """
    if count < 1:
        raise InputError(
            f"the synthetic data set needs at least one face, got {count}: pass a larger count (in a config, "
            f"data.train_faces or data.test_faces)"
        )
    memory.require_memory(
        2 * 3 * size**2 * count, what=f"{count:,} synthetic faces of {size} x {size} pixels", fix="render fewer faces"
    )
    from wing_jax.synthetic.render import render_faces  # reading other data sets does not need the renderer

    faces = render_faces(count, seed=seed, size=size)
    points = np.stack([face.points for face in faces])
    return FaceSet(
        name="synthetic faces",
        scheme=IBUG_68,
        pictures=np.stack([face.image for face in faces]),
        points=points,
        visible=np.ones(points.shape[:2], bool),  # a 3-D annotation: hidden points are exact too
        boxes=np.asarray(tight_box(points)),
        box_convention="landmarks",
        photos=tuple(f"{seed}-{i}" for i in range(count)),
        subsets=("synthetic",) * count,
        visibility=np.stack([_visibility(face) for face in faces]),
        poses=tuple(_pose_label(face.yaw) for face in faces),
        angles=np.array([(face.yaw, face.pitch, face.roll) for face in faces], np.float32),
    )


def _visibility(face: Any) -> Int8[np.ndarray, "68"]:
    hidden = np.where(face.visible, Visibility.VISIBLE, Visibility.SELF_OCCLUDED)
    return np.where(face.covered, Visibility.OCCLUDED, hidden).astype(np.int8)


def _pose_label(yaw: float) -> str:
    """Return a pose label; labels sort by yaw."""
    names = ("1 left profile", "2 left", "3 frontal", "4 right", "5 right profile")
    return names[int(np.searchsorted((-60, -20, 20, 60), yaw))]
