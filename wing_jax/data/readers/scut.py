"""SCUT-FBP5500 v2: 86 points on 5,500 near-frontal portraits, with the hairline, brows as outlines, and pupils.

Liang et al., "SCUT-FBP5500: A diverse benchmark dataset for multi-paradigm facial beauty prediction", ICPR 2018;
https://github.com/HCIILAB/SCUT-FBP5500-Database-Release. Expected below the root: `Images/AF1.jpg` and
`facial landmark/AF1.pts`. The names begin with AF, AM, CF or CM (Asian or Caucasian, female or male), the subsets
here. A `.pts` file is binary: the int32 86, then 86 times x and y as float32, all little-endian.

`CM152.pts` was published without points: four zero bytes. It is skipped; any other malformed file is a fault. In three
faces (AF525, AM1744, CF11) the points of the left brow are in another order, and in CF359 those of the right brow.
This is not corrected.

The points count from 0. No source says so; it was measured with networks trained with flips, which cannot learn a
shift to one side (as for MTFL): `wing-jax data label scut_fbp5500 w300 OUT --data scut --scheme mtfl5` prints that the
points, read unchanged, are 0.12 pixels right of the network's (median of 4,399 faces); with the model mtfl it is 0.16.
The pictures of this copy were downscaled from 350 to 176 pixels, and its points are whole numbers of the original
pixels, converted as pixel centers. So points that count from 1 would be 0.50 pixels right. Besides, the tool that wrote
the points limited them to 0, not to 1: y is 0 for 233 points of foreheads beyond the picture, and never less.

The published splits are for scores of beauty, and no results for the landmarks are known. Here every fifth number of
each group (AF5, AF10 ...) is in the test set. CM73 (training) and CM420 (test) are the same photo.
"""

import functools
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import Spellings, find_picture_named
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files, read_bytes
from wing_jax.schemes import SCUT_86
from wing_jax.text import quoted

SPLITS = ("train", "test")
TEST_STEP = 5  # every fifth number of a group is in the test set
POINTS_FOLDER = "facial landmark"
FILE_SIZE = 4 + SCUT_86.points * 2 * 4  # bytes: an int32, and two float32 for each point
EMPTY = ("CM152.pts", bytes(4))  # published with 0 points; the only such file


@register_reader(
    name="scut",
    title="SCUT-FBP5500, 86 points",
    splits=SPLITS,
    folder="scut_fbp5500",
    patterns=(f"{POINTS_FOLDER}/[AC][FM][1-9]*.pts",),
)
def read_scut(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train" or "test") of SCUT-FBP5500 below `root`: 4,399 and 1,100 faces of the full set.

    The box is the tight box of the 86 points. `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: no face is found, or a file is missing or not as published.
    """
    root = Path(root)
    if split not in SPLITS:
        raise InputError(f"{root}: SCUT-FBP5500 has no split {quoted(split)}: use one of {', '.join(SPLITS)}")
    files = find_files(root / POINTS_FOLDER, "*.pts")
    if not files:
        raise NoFacesError(
            f"{root}: no {POINTS_FOLDER}/*.pts here: pass the folder of SCUT-FBP5500, which contains Images/ and "
            f"{POINTS_FOLDER}/"
        )
    spellings = Spellings()
    selected = [path for path in files if _is_test(path) == (split == "test") and not _is_published_empty(path)]
    face_readers = (functools.partial(_face, root, path, spellings) for path in selected)
    return build_face_set(face_readers, name="SCUT-FBP5500", scheme=SCUT_86, box_convention="landmarks", faults=faults)


def _group_and_number(path: Path) -> tuple[str, int]:
    """Return ("CM", 152) for "CM152.pts"; ("", 1) for other names, which `_face` reports."""
    match = re.fullmatch(r"([AC][FM])([1-9][0-9]{0,5})", path.stem, re.ASCII)
    return (match[1], int(match[2])) if match else ("", 1)


def _is_test(path: Path) -> bool:
    return _group_and_number(path)[1] % TEST_STEP == 0


def _is_published_empty(path: Path) -> bool:
    """Return whether this is the one file that was published without points. Another content of it is read."""
    name, content = EMPTY
    try:
        return path.name == name and read_bytes(path) == content
    except OSError:  # `_face` reports it
        return False


def _face(root: Path, path: Path, spellings: Spellings) -> Face:
    group, _ = _group_and_number(path)
    if not group:
        raise InputError(
            f"{path}: not a file name of SCUT-FBP5500 v2, which is AF, AM, CF or CM and a number: rename or remove it"
        )
    return Face(
        location=str(path),
        picture=find_picture_named(root / "Images" / f"{path.stem}.jpg", spellings),
        points=_points(path),
        photo=f"scut/{path.stem}",
        subset=group,
    )


def _points(path: Path) -> Float[np.ndarray, "86 2"]:
    content = _read(path)
    fix = "copy the file again, or remove it"
    if len(content) != FILE_SIZE:
        raise InputError(
            f"{path}: {len(content):,} bytes, but an int32 and {SCUT_86.points} points of two float32 are "
            f"{FILE_SIZE}: {fix}"
        )
    count = int.from_bytes(content[:4], "little", signed=True)
    if count != SCUT_86.points:
        raise InputError(f"{path}: {count} points in the header, but {SCUT_86.points} in the scheme: {fix}")
    points = np.frombuffer(content, "<f4", offset=4).reshape(-1, 2).astype(np.float32)
    if not (finite := np.isfinite(points).all(-1)).all():
        number = int(finite.argmin())
        x, y = points[number]
        raise InputError(f"{path}: point {number + 1} at {x:g} {y:g} is not finite: {fix}")
    return points


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot read these points ({error.strerror}): copy the file again") from error
