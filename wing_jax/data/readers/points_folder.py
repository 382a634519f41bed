"""A folder of `.pts` and `.ljson` files, each beside a picture of the same name, in any subfolders.

A picture `NAME.jpg` with several faces may have one file for each, `NAME_1.pts`, `NAME_2.pts` ..., as written by
`wing-jax predict`.

`.pts` is the text format of the iBUG group, (x, y) counted from 1 (`wing_jax.data.readers.points_file`). `.ljson` is
the landmark JSON of menpo, [y, x] counted from 0, with two null or NaN if a point has no position; its structure is
that of `menpo/io/input/landmark.py` of https://github.com/menpo/menpo: version 1 has `groups`, a list of parts of one
shape, each with `landmarks` [{"point": [y, x]}]; version 2 has `landmarks` {"points": [[y, x], ...]}; version 3 has
`groups`, an object of several such shapes, and the one with as many points as the scheme is read.
"""

import functools
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.photos import original_photo
from wing_jax.data.picture_finder import Spellings, find_picture_beside, find_picture_of_stem
from wing_jax.data.readers.json_file import json_numbers, read_json
from wing_jax.data.readers.listing import has_no_position
from wing_jax.data.readers.points_file import read_pts
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import Scheme
from wing_jax.text import cut, quoted

HINT = "use the format that menpo writes"
BROKEN = (AttributeError, KeyError, TypeError)  # raised by JSON values of unexpected types


@register_reader(name="pts", title="a folder of .pts or .ljson", patterns=("**/*.pts", "**/*.ljson"))
def read_points_folder(root: str | Path, *, scheme: Scheme, faults: list[str] | None = None) -> FaceSet:
    """Read all faces in the `.pts` and `.ljson` files below `root`, sorted by path; their points are those of `scheme`.

    The box is the tight box of the points. The subset is the first folder below `root`. `faults` as in
    `face_set.build_face_set`.

    Raises:
      InputError: the folder has no such file; a file is not valid, has no picture, or its number of points differs from
        the scheme; or a picture has both a `.pts` and an `.ljson` file.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: pass the folder of your .pts or .ljson files")
    files = [path for path in find_files(root, "**/*") if path.suffix.lower() in (".pts", ".ljson") and path.is_file()]
    if not files:
        raise NoFacesError(f"{root}: no .pts or .ljson file here or in a subfolder: pass the folder that contains them")
    spellings = Spellings()
    face_readers = (functools.partial(_face, root, path, scheme, spellings) for path in files)
    return build_face_set(
        face_readers, name=root.resolve().name, scheme=scheme, box_convention="landmarks", faults=faults
    )


def read_ljson(path: str | Path, *, points: int) -> Float[np.ndarray, "points 2"]:
    """Read landmarks of menpo's `.ljson` file, float32, (x, y), 0-based pixel centers as in the file; NaN: no position.

    Raises:
      InputError: the file is not of version 1, 2 or 3, a point is not two finite numbers (or null), or not exactly one
        group has `points` points.
    """
    path = Path(path)
    content = read_json(path, hint=HINT)
    try:
        shapes = _parse_groups(content)
        counts = {name: len(shape) for name, shape in shapes.items()}
    except BROKEN:
        raise InputError(f"{path}: not a landmark file of menpo's versions 1, 2 or 3: {HINT}") from None
    matches = [shape for shape in shapes.values() if len(shape) == points]
    if len(matches) != 1:
        groups = cut(", ".join(f"{quoted(name, length=30)} {count}" for name, count in counts.items()), length=120)
        raise InputError(
            f"{path}: expected one group of {points} points, got {len(matches)}: the file has {groups or 'no group'}"
        )
    return _parse_positions(path, matches[0])


def _parse_groups(content: Any) -> dict[str, list[Any]]:
    """Return the points [y, x] of each group, by name."""
    version = content["version"]
    if version == 1:  # the groups are parts of one shape
        return {"groups": [mark["point"] for group in content["groups"] for mark in group["landmarks"]]}
    if version == 2:
        return {"landmarks": list(content["landmarks"]["points"])}
    if version == 3:
        return {name: list(group["landmarks"]["points"]) for name, group in content["groups"].items()}
    raise KeyError(version)


def _parse_positions(path: Path, shape: list[Any]) -> Float[np.ndarray, "points 2"]:
    points = np.full((len(shape), 2), np.nan, np.float32)
    for number, point in enumerate(shape):
        location = f"{path}: point {number}"
        if not isinstance(point, list) or len(point) != 2:
            raise InputError(f"{location} is not two numbers [y, x]: {HINT}")
        if not has_no_position(*point):
            points[number] = json_numbers(point[::-1], location=location, expected="a finite number of [y, x]")
    return points


def _face(root: Path, path: Path, scheme: Scheme, spellings: Spellings) -> Face:
    relative = path.relative_to(root)
    if path.suffix.lower() == ".ljson":
        if (other := path.with_suffix(".pts")).exists():
            raise InputError(f"{path}: {other.name} is for the same picture: remove one of the two files")
        points = read_ljson(path, points=scheme.points)
    else:
        points = read_pts(path, points=scheme.points)
    picture = _find_picture(path, spellings)
    photo = picture.relative_to(root).with_suffix("").as_posix()
    return Face(
        location=str(path),
        picture=picture,
        points=points,
        photo=original_photo(unicodedata.normalize("NFC", photo)),
        subset=relative.parts[0] if len(relative.parts) > 1 else root.resolve().name,
    )


def _find_picture(path: Path, spellings: Spellings) -> Path:
    """Return the picture of the same name, or NAME.jpg for NAME_1.pts."""
    base = re.sub(r"_[0-9]{1,4}$", "", path.stem)
    picture = find_picture_of_stem(path.parent, path.stem, spellings)
    if picture is None and base != path.stem:
        picture = find_picture_of_stem(path.parent, base, spellings)
    return picture or find_picture_beside(path, spellings)
