"""Build the fields of a `FaceSet` from arrays, lists and paths, and check each argument."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.data.arguments import as_boxes, as_image, is_array_like, to_array, to_list
from wing_jax.data.images import Embedded, InMemory, Picture
from wing_jax.data.limits import LARGEST_COORDINATE, SMALLEST_BOX, face_fault, outside_boxes
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.schemes import SCHEMES, Scheme, find_scheme
from wing_jax.text import quoted

PIXELS = "pass pixels of each face's own image, (x, y), with 0 at the center of the first pixel"


def fields_from_arrays(
    images: Any, points: Any, *, scheme: Any, boxes: Any, visible: Any, groups: Any, photos: Any, name: str
) -> dict[str, Any]:
    """Return the fields of the set that `FaceSet.from_arrays` makes; see there for the arguments.

    Raises:
      InputError: see `FaceSet.from_arrays`.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"name: must be a non-empty string, not {quoted(name)}")
    scheme = find_scheme(scheme)
    pictures, names = _parse_pictures(images, name)
    count = len(names)
    positions = _parse_points(points, count, scheme)
    has_position = np.asarray(np.isfinite(positions).all(-1))
    tight_boxes = np.asarray(tight_box(positions, has_position), np.float32)
    passed_boxes = None if boxes is None else _parse_boxes(boxes, count)
    _check_units(positions, has_position, tight_boxes, passed_boxes)
    all_boxes = tight_boxes if passed_boxes is None else passed_boxes
    _check_annotations(pictures, positions, has_position, all_boxes)
    labels, attributes = _parse_groups(groups, count)
    return {
        "name": name,
        "scheme": scheme,
        "pictures": pictures,
        "points": np.where(has_position[..., None], positions, 0).astype(np.float32),
        "visible": has_position if visible is None else _parse_visible(visible, has_position),
        "boxes": all_boxes,
        "box_convention": "landmarks" if passed_boxes is None else "given",
        "photos": names if photos is None else tuple(_parse_labels(photos, count, "photos")),
        "subsets": labels.pop("subset", (name,) * count),
        "attributes": attributes,
        "groups": labels,
    }


def _parse_pictures(images: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """Return (the pictures of a `FaceSet`, the names of their photos)."""
    entries = to_list(images, "images")
    if not entries:
        raise InputError("images: the list is empty: pass at least one face")
    if is_array_like(images):
        as_image(entries[0], name="images[0]")
        return to_array(images, "images"), tuple(f"{name}/{index}" for index in range(len(entries)))
    pictures = tuple(_parse_picture(entry, index, name) for index, entry in enumerate(entries))
    # The same path, or the same array, at several indices is one photo.
    paths = [os.path.abspath(picture) for picture in pictures if isinstance(picture, Path)]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    first: dict[Any, int] = {}
    names = []
    for index, (entry, picture) in enumerate(zip(entries, pictures, strict=True)):
        if isinstance(picture, Path):
            names.append(Path(os.path.relpath(os.path.abspath(picture), folder)).as_posix())
        elif isinstance(entry, Embedded):
            names.append(entry.name)
        else:
            names.append(f"{name}/{first.setdefault(id(entry), index)}")
    return pictures, tuple(names)


def _parse_picture(entry: Any, index: int, name: str) -> Picture:
    if isinstance(entry, Embedded):
        return entry
    if not isinstance(entry, str | os.PathLike) or not entry:
        return Embedded(f"{name}, images[{index}]", InMemory(as_image(entry, name=f"images[{index}]")))
    path = Path(os.fspath(entry))
    if not path.is_file():
        raise InputError(f"images[{index}]: {path}: no such file: check the path")
    return path


def _parse_points(points: Any, count: int, scheme: Scheme) -> Float[np.ndarray, "n points 2"]:
    """Convert the points to float32, NaN where they have no position."""
    shape = f"[{count}, {scheme.points}, 2]"
    if isinstance(points, list | tuple) and points:
        _check_equal_shapes(points, scheme)
    array = to_array(points, f"points must be numbers {shape}")
    if array.dtype.kind not in "fiu" and str(array.dtype) != "bfloat16":
        raise InputError(f"points must be numbers {shape}, not {array.dtype} {list(array.shape)}: {PIXELS}")
    if array.ndim != 3 or array.shape[2] != 2:
        raise InputError(f"points must be {shape}, not {list(array.shape)}: {_suggest_shape(array, count, scheme)}")
    if len(array) != count:
        raise InputError(
            f"points: {len(array)} faces, and images: {count}: pass one image and one set of points for each face"
        )
    if array.shape[1] != scheme.points:
        fitting = [other.name for other in SCHEMES.values() if other.points == array.shape[1]]
        hint = f"pass scheme={fitting[0]!r}" if fitting else "make a scheme for them with Scheme.make"
        raise InputError(
            f"points: {array.shape[1]} per face, but scheme {quoted(scheme.name)} has {scheme.points}: {hint}"
        )
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array.astype(np.float32), np.nan)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which the next check rejects
        positions = array.astype(np.float32)
    if (too_large := np.abs(positions) >= LARGEST_COORDINATE).any():
        face, point = (int(value) for value in np.argwhere(too_large.any(-1))[0])
        text = " ".join(f"{value:g}" for value in positions[face, point])
        raise InputError(f"points[{face}]: point {point} at {text} is beyond any image: {PIXELS}, NaN for no position")
    if (missing := np.isnan(positions).any(-1).all(-1)).any():
        raise InputError(
            f"points[{missing.argmax()}]: no point of this face has a position: remove the face from images and points"
        )
    return positions


def _check_equal_shapes(points: Sequence[Any], scheme: Scheme) -> None:
    for index, face in enumerate(points):
        try:
            shape = np.shape(face)
        except ValueError:
            raise InputError(f"points[{index}] is not an array [{scheme.points}, 2]: pass each point as x, y") from None
        if shape != np.shape(points[0]):
            raise InputError(
                f"points[{index}] is {list(shape)}, but points[0] is {list(np.shape(points[0]))}: pass all "
                f"{scheme.points} points of each face, NaN where one has no position"
            )


def _suggest_shape(array: np.ndarray, count: int, scheme: Scheme) -> str:
    if array.shape == (scheme.points, 2) and count == 1:
        return "for one face pass points[None]"
    if array.ndim == 2 and array.shape[1] == 2 * scheme.points:
        return f"pass points.reshape({len(array)}, -1, 2) if x and y alternate"
    if array.ndim == 3 and array.shape[1] == 2:
        return "pass points.transpose(0, 2, 1)"
    if array.ndim == 3 and array.shape[2] == 3:
        return "omit the third number, points[..., :2], and pass its meaning as visible="
    return "pass x and y of each point of each face"


def _parse_visible(visible: Any, has_position: Bool[np.ndarray, "n points"]) -> Bool[np.ndarray, "n points"]:
    array = to_array(visible, f"visible must be booleans {list(has_position.shape)}")
    if array.shape != has_position.shape:
        raise InputError(f"visible must be {list(has_position.shape)}, like points, not {list(array.shape)}")
    if array.dtype != bool and not (array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all()):
        raise InputError(f"visible must be booleans, not {array.dtype}: True for each point to include")
    shown = array.astype(bool) & has_position
    if not shown.any(1).all():
        raise InputError(
            f"visible[{shown.any(1).argmin()}]: no point of this face is visible: mark one as visible, or "
            f"remove the face"
        )
    return shown


def _parse_boxes(boxes: Any, count: int) -> Float[np.ndarray, "n 4"]:
    array = as_boxes(boxes, name="boxes")
    if len(array) != count:
        raise InputError(f"boxes: {len(array)}, and images: {count}: pass one box x0 y0 x1 y1 for each face, in pixels")
    usable = np.isfinite(array).all(1) & (array[:, :2] < array[:, 2:]).all(1)
    usable &= (np.abs(array) < LARGEST_COORDINATE).all(1)
    if not usable.all():
        face = int(usable.argmin())
        text = " ".join(f"{value:g}" for value in array[face])
        raise InputError(f"boxes[{face}]: {text} is not a box x0 y0 x1 y1: x0 < x1 and y0 < y1, in pixels of its image")
    return array


def _check_units(
    points: Float[np.ndarray, "n points 2"],
    has_position: Bool[np.ndarray, "n points"],
    tight_boxes: Float[np.ndarray, "n 4"],
    passed_boxes: Float[np.ndarray, "n 4"] | None,
) -> None:
    """Reject points and boxes that are not in pixels, or not in pixels of the same image."""
    too_small = (tight_boxes[:, 2:] - tight_boxes[:, :2]).max(1) < SMALLEST_BOX
    if too_small.any() and (passed_boxes is None or too_small.all()):
        face = int(too_small.argmax())
        width, height = (float(value) for value in tight_boxes[face, 2:] - tight_boxes[face, :2])
        fix = PIXELS if has_position[face].sum() > 1 else "pass boxes="
        raise InputError(f"points[{face}]: the face is {width:.2g} x {height:.2g} pixels large: {fix}")
    if passed_boxes is None:
        return
    outside = outside_boxes(points, has_position, passed_boxes)
    if outside.sum() > len(points) / 2:
        raise InputError(
            f"points[{outside.argmax()}]: no point is inside its box, as in {outside.sum()} of {len(points)} faces: "
            "pass both points and boxes in pixels of the image, boxes as x0 y0 x1 y1"
        )


def _check_annotations(
    pictures: Any,
    points: Float[np.ndarray, "n points 2"],
    has_position: Bool[np.ndarray, "n points"],
    boxes: Float[np.ndarray, "n 4"],
) -> None:
    """Reject annotations that do not fit their image in memory; files are checked when they are read."""
    points = np.where(has_position[..., None], points, 0)
    for index, picture in enumerate(pictures):
        if isinstance(picture, Embedded) and isinstance(picture.read, InMemory):
            picture = picture.read.pixels
        if isinstance(picture, np.ndarray):
            height, width = picture.shape[:2]
            if fault := face_fault(points[index], has_position[index], boxes[index], width=width, height=height):
                raise InputError(f"face {index} of images and points: {fault}")


def _parse_groups(groups: Any, count: int) -> tuple[dict[str, tuple[str, ...]], dict[str, Bool[np.ndarray, "n"]]]:
    """Return (the labels of each group, the groups whose labels are booleans)."""
    if groups is not None and not isinstance(groups, Mapping):
        raise InputError(f"groups: must be a dictionary that maps each name to {count} labels, not {quoted(groups)}")
    labels: dict[str, tuple[str, ...]] = {}
    attributes: dict[str, np.ndarray] = {}
    for name, values in (groups or {}).items():
        if not isinstance(name, str) or not name:
            raise InputError(f"groups: a group's name must be text, not {quoted(name)}")
        entries = _parse_labels(values, count, f"groups[{name!r}]")
        if all(isinstance(label, bool) for label in entries):
            attributes[name] = np.array(entries, bool)
        else:
            labels[name] = tuple(str(label) for label in entries)
    return labels, attributes


def _parse_labels(values: Any, count: int, argument: str) -> list[Any]:
    """Return `count` labels as Python strings, integers or booleans; labels of photos become strings."""
    if isinstance(values, str | bytes | Mapping) or not (isinstance(values, Sequence) or is_array_like(values)):
        raise InputError(f"{argument}: must be a list of {count} labels, one for each face, not {quoted(values)}")
    array = to_array(values, f"{argument} must be {count} labels") if is_array_like(values) else None
    entries = list(values) if array is None else array.tolist()
    entries = [label.item() if isinstance(label, np.generic) else label for label in entries]
    if len(entries) != count or (array is not None and array.ndim != 1):
        raise InputError(f"{argument}: {len(entries)} labels for {count} faces: pass one for each face")
    for index, label in enumerate(entries):
        if not isinstance(label, str | int):
            raise InputError(
                f"{argument}: label {index} is {quoted(label)}: pass text, integers or booleans; divide "
                "measured values into named intervals"
            )
    return [str(label) for label in entries] if argument == "photos" else entries
