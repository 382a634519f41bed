"""300-W in its official folders: `afw/`, `helen/{trainset,testset}`, `lfpw/{trainset,testset}`, `NAME.jpg` + `.pts`.

Sagonas et al., "300 faces in-the-wild challenge", ICCVW 2013; https://ibug.doc.ic.ac.uk/resources/300-W/.
Training: afw, helen/trainset, lfpw/trainset. Test: *common* = helen/testset and lfpw/testset, *challenging* = ibug.
"""

import re
from pathlib import Path

import numpy as np

from wing_jax.data.points_file import read_pts
from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68

FOLDERS = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "test": ("helen/testset", "lfpw/testset", "ibug"),
}
PICTURE_ENDINGS = (".jpg", ".png", ".jpeg")


def read_w300(root: str | Path, split: str) -> FaceSet:
    """The `split` ("train" or "test") of 300-W below `root`; folders that are not there are left out.

    The box is the tight box of the 68 points, the "ground-truth landmark box" of the field.

    Raises:
      InputError: no face is found, a `.pts` file has no picture, or a file is not as it must be.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: give the folder that holds afw/, helen/ and lfpw/")
    files = [path for folder in FOLDERS[split] for path in sorted((root / folder).glob("*.pts"))]
    if not files:
        raise InputError(f"{root}: no .pts file in {', '.join(FOLDERS[split])}: is this the 300-W folder?")
    points = np.stack([read_pts(path, points=IBUG_68.points) for path in files])
    return FaceSet(
        name="300-W",
        scheme=IBUG_68,
        pictures=tuple(_picture_beside(path) for path in files),
        points=points,
        visible=np.ones(points.shape[:2], bool),
        boxes=np.concatenate([points.min(1), points.max(1)], axis=1),
        box_convention="landmarks",
        photos=tuple(_photo(path.relative_to(root)) for path in files),
        subsets=tuple(
            "challenging" if path.parent.name == "ibug" else path.relative_to(root).parts[0] for path in files
        ),
    )


def _picture_beside(path: Path) -> Path:
    for ending in PICTURE_ENDINGS:
        if (picture := path.with_suffix(ending)).exists():
            return picture
    raise InputError(f"{path}: no picture of that name beside it ({', '.join(PICTURE_ENDINGS)}): add it")


def _photo(path: Path) -> str:
    """Several faces of one photo are called NAME_1, NAME_2, as in `afw` and `helen`; `lfpw` has four digits."""
    return f"{path.parts[0]}/{re.sub(r'_[0-9]{1,2}$', '', path.stem)}"
