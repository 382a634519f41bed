"""A folder of your own: `.pts` and `.ljson` files, each beside a picture of the same name, in any sub-folders.

A picture `NAME.jpg` of several faces may have a file for each, `NAME_1.pts`, `NAME_2.pts` ..., as `wing-jax predict`
writes them.

`.pts` is the text format of the iBUG group, (x, y) counted from 1 (`wing_jax.data.readers.points_file`). `.ljson` is
the landmark JSON of menpo, [y, x] counted from 0, with two null or NaN where a point has no position; its structure is
that of `menpo/io/input/landmark.py` of https://github.com/menpo/menpo: version 1 has `groups`, a list of parts of one
shape, each with `landmarks` [{"point": [y, x]}]; version 2 has `landmarks` {"points": [[y, x], ...]}; version 3 has
`groups`, an object of several such shapes, of which the one with as many points as the scheme is read.
"""

import functools
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, gather
from wing_jax.data.photos import original_photo
from wing_jax.data.picture_finder import Spellings, picture_beside, picture_of_stem
from wing_jax.data.readers.json_file import json_numbers, read_json
from wing_jax.data.readers.listing import has_no_position
from wing_jax.data.readers.points_file import read_pts
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import Scheme
from wing_jax.text import cut, quoted

HINT = "give landmarks as menpo writes them"
BROKEN = (AttributeError, KeyError, TypeError)  # what a JSON value of another kind than expected leads to


@register_reader(name="pts", title="a folder of .pts or .ljson", marks=("**/*.pts", "**/*.ljson"))
def read_points_folder(root: str | Path, *, scheme: Scheme, faults: list[str] | None = None) -> FaceSet:
    """All faces in the `.pts` and `.ljson` files below `root`, sorted by path; their points are those of `scheme`.

    The box is the tight box of the points. The subset is the first folder below `root`. `faults` as in
    `records.gather`.

    Raises:
      InputError: the folder has no such file; a file is not as it must be, has no picture, or another number of points
        than the scheme; or a picture has both a `.pts` and an `.ljson` file.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: give the folder of your .pts or .ljson files")
    files = [path for path in find_files(root, "**/*") if path.suffix.lower() in (".pts", ".ljson") and path.is_file()]
    if not files:
        raise InputError(f"{root}: no .pts or .ljson file here or in a folder below: give the folder that holds them")
    spellings = Spellings()
    makers = (functools.partial(_face, root, path, scheme, spellings) for path in files)
    return gather(makers, name=root.resolve().name, scheme=scheme, box_convention="landmarks", faults=faults)


def read_ljson(path: str | Path, *, points: int) -> Float[np.ndarray, "points 2"]:
    """Landmarks of menpo's `.ljson` file, float32, (x, y), 0-based pixel centers as in the file; NaN: no position.

    Raises:
      InputError: the file is not of version 1, 2 or 3, a point is not two finite numbers (or null), or not exactly one
        group has `points` points.
    """
    path = Path(path)
    content = read_json(path, hint=HINT)
    try:
        shapes = _shapes(content)
        counts = {name: len(shape) for name, shape in shapes.items()}
    except BROKEN:
        raise InputError(f"{path}: not a landmark file of menpo's versions 1, 2 or 3: {HINT}") from None
    fitting = [shape for shape in shapes.values() if len(shape) == points]
    if len(fitting) != 1:
        said = cut(", ".join(f"{quoted(name, length=30)} {count}" for name, count in counts.items()), length=120)
        raise InputError(
            f"{path}: {len(fitting)} groups of {points} points, where one is needed: it has {said or 'no group'}"
        )
    return _positions(path, fitting[0])


def _shapes(content: Any) -> dict[str, list[Any]]:
    """By the group's name: its points [y, x]."""
    version = content["version"]
    if version == 1:  # the groups are parts of one shape
        return {"groups": [mark["point"] for group in content["groups"] for mark in group["landmarks"]]}
    if version == 2:
        return {"landmarks": list(content["landmarks"]["points"])}
    if version == 3:
        return {name: list(group["landmarks"]["points"]) for name, group in content["groups"].items()}
    raise KeyError(version)


def _positions(path: Path, shape: list[Any]) -> Float[np.ndarray, "points 2"]:
    points = np.full((len(shape), 2), np.nan, np.float32)
    for number, point in enumerate(shape):
        where = f"{path}: point {number}"
        if not isinstance(point, list) or len(point) != 2:
            raise InputError(f"{where} is not two numbers [y, x]: {HINT}")
        if not has_no_position(*point):
            points[number] = json_numbers(point[::-1], where=where, expected="a finite number of [y, x]")
    return points


def _face(root: Path, path: Path, scheme: Scheme, spellings: Spellings) -> Face:
    below = path.relative_to(root)
    if path.suffix.lower() == ".ljson":
        if (other := path.with_suffix(".pts")).exists():
            raise InputError(f"{path}: {other.name} is the same face: keep one of the two files")
        points = read_ljson(path, points=scheme.points)
    else:
        points = read_pts(path, points=scheme.points)
    picture = _picture(path, spellings)
    photo = picture.relative_to(root).with_suffix("").as_posix()
    return Face(
        where=str(path),
        picture=picture,
        points=points,
        photo=original_photo(unicodedata.normalize("NFC", photo)),
        subset=below.parts[0] if len(below.parts) > 1 else root.resolve().name,
    )


def _picture(path: Path, spellings: Spellings) -> Path:
    """That of the same name, or NAME.jpg of the face in NAME_1.pts."""
    whole = re.sub(r"_[0-9]{1,4}$", "", path.stem)
    own = picture_of_stem(path.parent, path.stem, spellings)
    if own is None and whole != path.stem:
        own = picture_of_stem(path.parent, whole, spellings)
    return own or picture_beside(path, spellings)
