"""300-W in its official folders: `afw/`, `helen/{trainset,testset}`, `lfpw/{trainset,testset}`, `ibug/`.

Sagonas et al., "300 faces in-the-wild challenge", ICCVW 2013; ask at https://ibug.doc.ic.ac.uk/resources/300-W/. Each
face is `NAME.jpg` (or `.png`) + `NAME.pts`, counted from 1. Training: afw, helen/trainset, lfpw/trainset (3,148 faces).
Test: *common* = helen/testset and lfpw/testset (554), *challenging* = ibug (135), *full* = both. Private test of 2013:
`300w_cropped/{01_Indoor,02_Outdoor}` (600), or only those two folders.
"""

import functools
import re
from pathlib import Path

import numpy as np

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import Spellings, find_picture_beside
from wing_jax.data.readers.points_file import read_pts
from wing_jax.data.readers.w300_boxes import find_box, read_detector_boxes
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import IBUG_68

FOLDERS = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "test": ("helen/testset", "lfpw/testset", "ibug"),
    "private": ("300w_cropped/01_Indoor", "300w_cropped/02_Outdoor", "01_Indoor", "02_Outdoor"),
}
SUBSETS = {"ibug": "challenging", "01_Indoor": "indoor", "02_Outdoor": "outdoor"}


@register_reader(
    name="w300",
    title="300-W, 68 points",
    splits=("train", "test", "private"),
    folder="300w",
    patterns=(
        "afw/*.pts",
        "helen/*set/*.pts",
        "lfpw/*set/*.pts",
        "ibug/*.pts",
        "300w_cropped/*/*.pts",
        "0?_*door/*.pts",
    ),
)
def read_w300(root: str | Path, split: str, *, detector: bool = False, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train", "test" or "private") of 300-W below `root`; missing folders are skipped.

    The box is the tight box of the 68 points, called "ground-truth landmark box" in papers, or, if `detector`, the box
    of iBUG's detector (`wing_jax.data.readers.w300_boxes`). Test faces have the attributes "common" and "challenging".
    `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: no face is found, a `.pts` file has no picture, or a file is not valid.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: pass the folder that contains afw/, helen/ and lfpw/")
    files = [path for folder in FOLDERS[split] for path in find_files(root / folder, "*.pts")]
    if not files:
        raise NoFacesError(f"{root}: no .pts file in {', '.join(FOLDERS[split])}: pass the 300-W folder")
    parts = {path.parent.relative_to(root).as_posix() for path in files}
    boxes = {part: read_detector_boxes(root, part) for part in parts} if detector else {}
    spellings = Spellings()
    face_readers = (functools.partial(_face, root, path, split, boxes, spellings) for path in files)
    convention = "300w-detector" if detector else "landmarks"
    return build_face_set(face_readers, name="300-W", scheme=IBUG_68, box_convention=convention, faults=faults)


def _face(root: Path, path: Path, split: str, boxes: dict[str, dict[str, np.ndarray]], spellings: Spellings) -> Face:
    parts = path.relative_to(root).parts
    part = parts[-2] if parts[-2] in SUBSETS else parts[0]
    published = boxes.get(path.parent.relative_to(root).as_posix())
    return Face(
        location=str(path),
        picture=find_picture_beside(path, spellings),
        points=read_pts(path, points=IBUG_68.points),
        box=None if published is None else find_box(published, path),
        photo=_photo(path.relative_to(root)),
        subset=SUBSETS.get(part, part),
        attributes={"common": part != "ibug", "challenging": part == "ibug"} if split == "test" else {},
    )


def _photo(path: Path) -> str:
    """Return the photo: its faces are named NAME_1, NAME_2, as in `afw` and `helen`; the digits of `lfpw` are four."""
    return f"{path.parts[0]}/{re.sub(r'_[0-9]{1,2}$', '', path.stem)}"
