"""LaPa and JD-landmark: 106 points in text files of the same format.

LaPa: Liu et al., "A new dataset and boundary-attention semantic segmentation for face parsing", AAAI 2020;
https://github.com/lucia123/lapa-dataset. Expected, at the root or in its folder `LaPa`: `{train,val,test}/landmarks/
NAME.txt` beside `images/NAME.jpg` (`labels/`, the masks, are not read). 18,168 + 2,000 + 2,000 faces. Structure as read
by MMPose (`lapa2coco.py`): the first line is 106, each other line `x y`.

JD-landmark: Liu et al., "Grand challenge of 106-point facial landmark localization", ICMEW 2019;
https://facial-landmarks-localization-challenge.github.io. Expected: `Training_data/{AFW,HELEN,IBUG,LFPW}/landmark/
NAME.jpg.txt` beside `picture/NAME.jpg`, and `Test_data1/{landmark,picture,rect}`; `rect/NAME.jpg.rect` contains a
detector's box, x0 y0 x1 y1. The training boxes are in a separate archive: put them in a folder `rect` beside each
`picture`, or omit them. `Corrected_landmark/NAME.jpg.txt`, published later, replaces the first file of that name. This
structure is not documented; several readers of the set agree on it (https://github.com/argiacomi/faceswap,
`lib/datasets/build/jd_landmark.py`, and others).

No source says whether the points count from 0 or 1; they are taken as 0-based, unchanged, as in MMPose. Both sets
contain photos of 300-W (and of its test sets!), some with turned heads as in 300W-LP; `photo` is then their name in
300-W.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import Spellings, find_picture_named
from wing_jax.data.readers.listing import numbers, read_rows
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import LAPA_106
from wing_jax.text import quoted

SPLITS = ("train", "val", "test")
JD_FOLDERS = {
    "train": tuple(f"Training_data/{part}" for part in ("AFW", "HELEN", "IBUG", "LFPW")),
    "test": ("Test_data1",),
}
HINT = "copy the file again"


@register_reader(
    name="lapa",
    title="LaPa, 106 points",
    splits=SPLITS,
    folder="LaPa",
    patterns=("*/landmarks/*.txt", "LaPa/*/landmarks/*.txt"),
)
def read_lapa(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train", "val" or "test") of LaPa, in `root` or `root / "LaPa"`.

    The box is the tight box of the 106 points. `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: no face is found, or a file is not as published.
    """
    root = Path(root)
    if split not in SPLITS:
        raise InputError(f"{root}: LaPa has no split {quoted(split)}: use one of {', '.join(SPLITS)}")
    folder = (root / "LaPa" if (root / "LaPa").is_dir() else root) / split
    files = find_files(folder / "landmarks", "*.txt")
    if not files:
        raise NoFacesError(
            f"{folder}: no landmarks/*.txt here: pass the folder LaPa, which contains train/, val/ and test/"
        )
    spellings = Spellings()
    face_readers = (functools.partial(_lapa_face, folder, path, spellings) for path in files)
    return build_face_set(face_readers, name="LaPa", scheme=LAPA_106, box_convention="landmarks", faults=faults)


@register_reader(
    name="jd",
    title="JD-landmark, 106 points",
    folder="JD-landmark",
    patterns=("Training_data/*/landmark/*.txt", "Test_data1/landmark/*.txt"),
)
def read_jd_landmark(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train" or "test") of JD-landmark below `root`; missing parts are skipped.

    The box is the published one if each part has a folder `rect`, else the tight box of the 106 points. The subset
    is the part, "AFW" to "LFPW", or "Test_data1". `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: no face is found, or a file is missing or not as published.
    """
    root = Path(root)
    if split not in JD_FOLDERS:
        raise InputError(f"{root}: JD-landmark has no split {quoted(split)}: use one of {', '.join(JD_FOLDERS)}")
    folders = [root / name for name in JD_FOLDERS[split] if (root / name / "landmark").is_dir()]
    files = [path for folder in folders for path in find_files(folder / "landmark", "*.txt")]
    if not files:
        raise NoFacesError(f"{root}: no {JD_FOLDERS[split][0]}/landmark/*.txt here: pass the JD-landmark folder")
    boxes = all((folder / "rect").is_dir() for folder in folders)
    spellings = Spellings()
    face_readers = (functools.partial(_jd_face, root, path, boxes, spellings) for path in files)
    convention = "jd-landmark" if boxes else "landmarks"
    return build_face_set(face_readers, name="JD-landmark", scheme=LAPA_106, box_convention=convention, faults=faults)


def _lapa_face(folder: Path, path: Path, spellings: Spellings) -> Face:
    return Face(
        location=str(path),
        picture=find_picture_named(folder / "images" / f"{path.stem}.jpg", spellings),
        points=_points(path),
        photo=_photo("lapa", path.stem),
        subset="LaPa",
    )


def _jd_face(root: Path, path: Path, boxes: bool, spellings: Spellings) -> Face:
    folder, name = path.parent.parent, path.stem  # NAME.jpg
    corrected = root / "Corrected_landmark" / path.name
    return Face(
        location=str(path),
        picture=find_picture_named(folder / "picture" / name, spellings),
        points=_points(corrected if corrected.exists() else path),
        box=_box(folder / "rect" / f"{name}.rect") if boxes else None,
        photo=_photo("jd", Path(name).stem),
        subset=folder.name,
    )


def _points(path: Path) -> Float[np.ndarray, "106 2"]:
    (_, count), *lines = read_rows(path, hint=HINT)
    if count != "106" or len(lines) != 106:
        raise InputError(
            f"{path}: expected 106 lines 'x y' after '106', got {len(lines)} after {quoted(count)}: {HINT}"
        )
    return np.stack([_parse_values(2, line, location, "two numbers 'x y'") for location, line in lines])


def _box(path: Path) -> Float[np.ndarray, "4"]:
    location, line = next(
        iter(read_rows(path, hint="copy the folder rect again, or remove it to use boxes of the points"))
    )
    return _parse_values(4, line, location, "a box 'x0 y0 x1 y1'")


def _parse_values(count: int, line: str, location: str, expected: str) -> Float[np.ndarray, "count"]:
    words: Sequence[str] = line.split()
    if len(words) != count:
        raise InputError(f"{location}: {quoted(line)} is not {expected}")
    return numbers(words, location=location, expected=expected)


def _photo(prefix: str, stem: str) -> str:
    """Return the photo of a file name.

    Photos of 300-W are named as in 300W-LP: AFW_134212_1_0 is view 0 of face 1 of `afw/134212`, and
    LFPW_image_test_0001_0 is of `lfpw/image_0001`. The other names consist of photo and face: 10773046825_0.
    """
    part, _, name = stem.partition("_")
    if part not in ("AFW", "HELEN", "IBUG", "LFPW"):
        return f"{prefix}/{re.sub(r'_[0-9]{1,2}$', '', stem)}"
    name = re.sub(r"(_[0-9]{1,2}){1,2}$", "", name)
    return f"{part.lower()}/{re.sub(r'^image_(test|train)_', 'image_', name)}"
