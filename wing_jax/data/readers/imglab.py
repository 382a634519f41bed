"""XML files of dlib's annotation tool imglab: boxes and their parts.

`root` is the XML file: `dataset/images/image[@file]/box[@top @left @width @height @ignore]/part[@name @x @y]`, pictures
are found as `wing_jax.data.picture_finder` describes. Newer versions of dlib write the picture's size, as `image[@width
@height]`. The structure is that of `dlib/data_io/image_dataset_metadata.cpp` of https://github.com/davisking/dlib; an
example is `examples/faces/training_with_face_landmarks.xml` there.

Parts and boxes are pixel indices from 0. A box of dlib includes both its corners, so it runs from `left` to
`left + width - 1`. The name of a part is its index in the scheme, from 0 ("00" to "67"), or the name of the scheme's
point (other spellings are accepted, see `wing_jax.data.readers.keypoint_names`). Missing parts, and parts whose x and y
are empty, NaN or -1, have no position.

In dlib a box with `ignore='1'` is not an object to learn (it may be hidden or too small); it is skipped. A box without
parts is a fault. dlib declares ISO-8859-1 but writes file names as the system stores them, mostly UTF-8: valid UTF-8 is
read as UTF-8, everything else as declared.
"""

import dataclasses
import functools
from pathlib import Path
from xml.parsers import expat

import numpy as np

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.photos import original_photo
from wing_jax.data.picture_finder import PictureFinder, finder_of_list
from wing_jax.data.picture_sizes import parse_size
from wing_jax.data.readers.keypoint_names import match_names, must_match_sides, plain_name, reject_swapped_sides
from wing_jax.data.readers.listing import has_no_position, numbers
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.schemes import Scheme
from wing_jax.text import quoted, reason

ATTRIBUTES = ("difficult", "truncated", "occluded")
BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


@dataclasses.dataclass
class _Box:
    line: int
    file: str
    picture_size: tuple[int, int] | None
    values: dict[str, str]
    parts: list[tuple[int, dict[str, str]]] = dataclasses.field(default_factory=list)


@register_reader(name="imglab", title="dlib's imglab XML", extensions=(".xml",), names_pictures=True)
def read_imglab(root: str | Path, *, scheme: Scheme, images: str = "", faults: list[str] | None = None) -> FaceSet:
    """Read the faces of the imglab XML file `root`: its boxes with parts, which are the points of `scheme`.

    Attributes: "difficult", "truncated" and "occluded", if a box has them. `images` is the folder of the pictures, if
    they are not where the file says. `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: the file is not XML of imglab, declares a DOCTYPE, or has only ignored boxes; or a box or a part is
        not valid. The message names the line.
    """
    path = Path(root)
    boxes = _read_boxes(path)
    used = [box for box in boxes if not BOOLEANS.get(box.values.get("ignore", "0").lower(), False)]
    if not used:
        raise InputError(f"{path}: all {len(boxes)} boxes have ignore='1': annotate boxes without it")
    finder = finder_of_list(path, images=images)
    face_readers = (functools.partial(_face, path, box, scheme, finder) for box in used)
    faces = build_face_set(face_readers, name=path.stem, scheme=scheme, box_convention="imglab", faults=faults)
    names = {name for box in used for _, values in box.parts if _parse_number(name := values.get("name", "")) is None}
    if names and must_match_sides(sorted(names), scheme):
        reject_swapped_sides(faces.points, faces.visible, scheme, location=str(path))
    return faces


def _read_boxes(path: Path) -> list[_Box]:
    boxes: list[_Box] = []
    parents: list[str] = []
    file, size = "", None
    try:
        content = files.read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot read this file ({error.strerror}): pass an XML file of imglab") from error
    # Expat instead of ElementTree: it reports the line of each tag, and can stop at the first declaration, before an
    # entity is expanded to gigabytes ("billion laughs") or opens another file.
    parser = expat.ParserCreate("utf-8" if _is_utf8(content) else None)

    def reject(*_: object) -> None:
        raise InputError(f"{path}:{parser.CurrentLineNumber}: a DOCTYPE or entity is not allowed: remove it")

    def start(tag: str, values: dict[str, str]) -> None:
        nonlocal file, size
        if not parents and tag != "dataset":
            raise InputError(
                f"{path}:{parser.CurrentLineNumber}: expected <dataset> of an imglab file, got <{tag[:40]}>: "
                "export COCO keypoints from the tool that wrote it"
            )
        if tag == "image":
            file, size = values.get("file", ""), parse_size(values.get("width"), values.get("height"))
        elif tag == "box" and parents[-1:] == ["image"]:
            boxes.append(_Box(parser.CurrentLineNumber, file, size, values))
        elif tag == "part" and parents[-2:] == ["image", "box"]:
            boxes[-1].parts.append((parser.CurrentLineNumber, values))
        parents.append(tag)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: parents.pop()
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = reject
    try:
        parser.Parse(content, True)
    except InputError:
        raise
    except expat.ExpatError as error:
        message = expat.errors.messages[error.code]
        raise InputError(f"{path}:{error.lineno}: not XML, or truncated ({message}): pass a file of imglab") from None
    except (ValueError, LookupError) as error:  # the declared encoding is unknown
        raise InputError(f"{path}: cannot read this XML ({reason(error)}): save it as UTF-8") from None
    if not boxes:
        raise InputError(f"{path}: no <box> in an <image>: pass a file of imglab")
    return boxes


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _face(path: Path, box: _Box, scheme: Scheme, finder: PictureFinder) -> Face:
    location = f"{path}:{box.line}"
    if not box.parts:
        raise InputError(f"{location}: this box has no part: annotate its points, or set ignore='1'")
    flags = {name: box.values[name] for name in ("ignore", *ATTRIBUTES) if name in box.values}
    for name, value in flags.items():
        if value.lower() not in BOOLEANS:
            raise InputError(f"{location}: {name}={quoted(value)} is not '0' or '1'")
    edges = _parse_numbers(box.values, ("left", "top", "width", "height"), location=location)
    picture, photo = finder.find(box.file, location=location)
    with np.errstate(over="ignore"):  # an infinite box is rejected later, like an empty one
        corners = np.concatenate([edges[:2], edges[:2] + edges[2:] - 1])
    return Face(
        location=location,
        picture=picture,
        points=_points(path, box, scheme),
        box=corners,
        photo=original_photo(photo),
        subset=photo.split("/")[0] if "/" in photo else path.stem,
        attributes={name: BOOLEANS[flags[name].lower()] for name in ATTRIBUTES if name in flags},
        picture_size=box.picture_size,
    )


def _points(path: Path, box: _Box, scheme: Scheme) -> np.ndarray:
    points = np.full((scheme.points, 2), np.nan, np.float32)
    indices = {plain_name(name): index for index, name in enumerate(scheme.names)}
    used: set[int] = set()
    for line, values in box.parts:
        location, name = f"{path}:{line}", values.get("name", "")
        index = indices.get(plain_name(name), _parse_number(name))
        if index is None:
            index = match_names([name], scheme)[0]
        if index is None or index >= scheme.points:
            raise InputError(
                f"{location}: part {quoted(name)} is not a point of {scheme.name}: "
                f"use 0 to {scheme.points - 1} or its names, or pass the scheme of this file"
            )
        if index in used:
            raise InputError(f"{location}: part {quoted(name)} is in this box twice: remove one")
        used.add(index)
        if not has_no_position(values.get("x", "missing"), values.get("y", "missing")):
            points[index] = _parse_numbers(values, ("x", "y"), location=location)
    return points


def _parse_number(name: str) -> int | None:
    return int(name) if name.isascii() and name.isdecimal() and len(name) < 9 else None


def _parse_numbers(values: dict[str, str], names: tuple[str, ...], *, location: str) -> np.ndarray:
    for name in names:
        if name not in values:
            raise InputError(f"{location}: {name}='...' is missing: add it")
    return numbers([values[name] for name in names], location=location, expected=f"numbers {', '.join(names)}")
