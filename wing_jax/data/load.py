"""One door to every data set."""

import os
from pathlib import Path

import numpy as np

from wing_jax.data.aflw import read_aflw
from wing_jax.data.builtin import render_faces
from wing_jax.data.mtfl import read_mtfl
from wing_jax.data.records import FaceSet
from wing_jax.data.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68

FOLDERS = {"w300": "300w", "mtfl": "mtfl", "aflw": "aflw"}
TEST_SEED = 10_000_019  # the built-in test faces are never among the training faces of any usual seed


def load_faces(name: str, split: str, *, root: str = "", count: int = 0, seed: int = 0) -> FaceSet:
    """The `split` ("train" or "test") of data set `name`: "builtin" (`count` faces), "w300", "mtfl" or "aflw".

    `root` is the data set's folder; where it is empty it is looked for below the environment variable WING_JAX_DATA,
    then in `../shared/data`.

    Raises:
      InputError: the data set is not found or not as published.
    """
    if name == "builtin":
        return builtin_faces(count, seed=seed if split == "train" else TEST_SEED + seed)
    folder = Path(root) if root else find_data(FOLDERS[name])
    if name == "w300":
        return read_w300(folder, split)
    if name == "aflw":
        return read_aflw(folder, split)
    boxes = folder.parent / "mtfl_boxes"
    return read_mtfl(folder, split, boxes=boxes if split == "test" and boxes.is_dir() else None)


def find_data(folder: str) -> Path:
    """The data set's folder below WING_JAX_DATA or `../shared/data`.

    Raises:
      InputError: it is in neither place.
    """
    places = [Path(place) for place in (os.environ.get("WING_JAX_DATA"), "../shared/data") if place]
    for place in places:
        if (place / folder).is_dir():
            return place / folder
    looked = " nor ".join(str(place / folder) for place in places)
    raise InputError(f"no data in {looked}: give --data.root FOLDER or set WING_JAX_DATA")


def builtin_faces(count: int, *, seed: int, size: int = 192) -> FaceSet:
    """`count` faces drawn by `wing_jax.data.builtin`, as a data set; their box is the tight box of the points.

    Raises:
      InputError: `count` is under 1.
    """
    if count < 1:
        raise InputError(f"the built-in data set needs a number of faces, not {count}: set data.train_faces")
    drawn = render_faces(count, seed=seed, size=size)
    points = np.stack([face.points for face in drawn])
    return FaceSet(
        name="built-in faces",
        scheme=IBUG_68,
        pictures=np.stack([face.image for face in drawn]),
        points=points,
        visible=np.ones(points.shape[:2], bool),  # a 3-D annotation: hidden points are exact as well
        boxes=np.concatenate([points.min(1), points.max(1)], axis=1),
        box_convention="landmarks",
        photos=tuple(f"{seed}-{i}" for i in range(count)),
        subsets=("built-in",) * count,
        poses=tuple(_pose(face.yaw) for face in drawn),
    )


def _pose(yaw: float) -> str:
    """A label that sorts by yaw."""
    names = ("1 left profile", "2 left", "3 frontal", "4 right", "5 right profile")
    return names[int(np.searchsorted((-60, -20, 20, 60), yaw))]
