"""Faces in memory: the fields of a `FaceSet` from arrays, lists and paths, each checked by name."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.data.arguments import array_of, as_boxes, as_image, entries_of, is_arrayed
from wing_jax.data.images import Embedded, InMemory, Picture
from wing_jax.data.limits import LARGEST_COORDINATE, SMALLEST_BOX, apart, face_fault
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.schemes import SCHEMES, Scheme, find_scheme
from wing_jax.text import quoted

PIXELS = "give pixels of each face's own image, (x, y), 0 being the center of the first pixel"


def fields_of_arrays(
    images: Any, points: Any, *, scheme: Any, boxes: Any, visible: Any, groups: Any, photos: Any, name: str
) -> dict[str, Any]:
    """The fields of the set that `FaceSet.from_arrays`, which says what each argument is, makes of these.

    Raises:
      InputError: as `FaceSet.from_arrays`.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"name: give the set a name, not {quoted(name)}")
    scheme = find_scheme(scheme)
    pictures, names = _pictures(images, name)
    count = len(names)
    positions = _points(points, count, scheme)
    positioned = np.asarray(np.isfinite(positions).all(-1))
    given = None if boxes is None else _boxes(boxes, count)
    usual = np.asarray(tight_box(positions, positioned), np.float32)
    _refuse_strays(positions, positioned, usual, given)
    every = usual if given is None else given
    _refuse_misfits(pictures, positions, positioned, every)
    labels, attributes = _groups(groups, count)
    return {
        "name": name,
        "scheme": scheme,
        "pictures": pictures,
        "points": np.where(positioned[..., None], positions, 0).astype(np.float32),
        "visible": positioned if visible is None else _visible(visible, positioned),
        "boxes": every,
        "box_convention": "landmarks" if given is None else "given",
        "photos": names if photos is None else tuple(_labels(photos, count, "photos")),
        "subsets": labels.pop("subset", (name,) * count),
        "attributes": attributes,
        "groups": labels,
    }


def _pictures(images: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """(the pictures of a `FaceSet`, the names of the photos that they are)."""
    entries = entries_of(images, "images")
    if not entries:
        raise InputError("images: there is none: give at least one face")
    if is_arrayed(images):
        as_image(entries[0], name="images[0]")
        return array_of(images, "images"), tuple(f"{name}/{index}" for index in range(len(entries)))
    pictures = tuple(_picture(entry, index, name) for index, entry in enumerate(entries))
    # One path, or one array, in several places is one photo.
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


def _picture(entry: Any, index: int, name: str) -> Picture:
    if isinstance(entry, Embedded):
        return entry
    if not isinstance(entry, str | os.PathLike) or not entry:
        return Embedded(f"{name}, images[{index}]", InMemory(as_image(entry, name=f"images[{index}]")))
    path = Path(os.fspath(entry))
    if not path.is_file():
        raise InputError(f"images[{index}]: {path}: no such file: check the path")
    return path


def _points(points: Any, count: int, scheme: Scheme) -> Float[np.ndarray, "n points 2"]:
    """The points as float32, NaN where they have no position."""
    wanted = f"[{count}, {scheme.points}, 2]"
    if isinstance(points, list | tuple) and points:
        _refuse_ragged(points, scheme)
    array = array_of(points, f"points must be numbers {wanted}")
    if array.dtype.kind not in "fiu" and str(array.dtype) != "bfloat16":
        raise InputError(f"points must be numbers {wanted}, not {array.dtype} {list(array.shape)}: {PIXELS}")
    if array.ndim != 3 or array.shape[2] != 2:
        raise InputError(f"points must be {wanted}, not {list(array.shape)}: {_shape_hint(array, count, scheme)}")
    if len(array) != count:
        raise InputError(f"points: {len(array)} faces, and images: {count}: give each face its image and its points")
    if array.shape[1] != scheme.points:
        fitting = [other.name for other in SCHEMES.values() if other.points == array.shape[1]]
        hint = f"give scheme={fitting[0]!r}" if fitting else "make a scheme for them by Scheme.make"
        raise InputError(
            f"points: {array.shape[1]} a face, and scheme {quoted(scheme.name)} has {scheme.points}: {hint}"
        )
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array.astype(np.float32), np.nan)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused as such
        positions = array.astype(np.float32)
    if (absurd := np.abs(positions) >= LARGEST_COORDINATE).any():
        face, point = (int(value) for value in np.argwhere(absurd.any(-1))[0])
        text = " ".join(f"{value:g}" for value in positions[face, point])
        raise InputError(
            f"points[{face}]: point {point} at {text} lies beyond any image: {PIXELS}, NaN for no position"
        )
    if (missing := np.isnan(positions).any(-1).all(-1)).any():
        raise InputError(
            f"points[{missing.argmax()}]: no point of this face has a position: leave the face out of images and points"
        )
    return positions


def _refuse_ragged(points: Sequence[Any], scheme: Scheme) -> None:
    for index, face in enumerate(points):
        try:
            shape = np.shape(face)
        except ValueError:
            raise InputError(f"points[{index}] is no array [{scheme.points}, 2]: give each point as x, y") from None
        if shape != np.shape(points[0]):
            raise InputError(
                f"points[{index}] is {list(shape)}, and points[0] {list(np.shape(points[0]))}: give each face all "
                f"{scheme.points} points, NaN where one has no position"
            )


def _shape_hint(array: np.ndarray, count: int, scheme: Scheme) -> str:
    if array.shape == (scheme.points, 2) and count == 1:
        return "for one face give points[None]"
    if array.ndim == 2 and array.shape[1] == 2 * scheme.points:
        return f"give points.reshape({len(array)}, -1, 2) where x and y alternate"
    if array.ndim == 3 and array.shape[1] == 2:
        return "give points.transpose(0, 2, 1)"
    if array.ndim == 3 and array.shape[2] == 3:
        return "leave the third number out, points[..., :2], and give what it says as visible="
    return "give x and y of each point of each face"


def _visible(visible: Any, positioned: Bool[np.ndarray, "n points"]) -> Bool[np.ndarray, "n points"]:
    array = array_of(visible, f"visible must be booleans {list(positioned.shape)}")
    if array.shape != positioned.shape:
        raise InputError(f"visible must be {list(positioned.shape)}, as points, not {list(array.shape)}")
    if array.dtype != bool and not (array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all()):
        raise InputError(f"visible must be booleans, not {array.dtype}: True for each point that counts")
    shown = array.astype(bool) & positioned
    if not shown.any(1).all():
        raise InputError(f"visible[{shown.any(1).argmin()}]: no point of this face counts: leave the face out")
    return shown


def _boxes(boxes: Any, count: int) -> Float[np.ndarray, "n 4"]:
    array = as_boxes(boxes, name="boxes")
    if len(array) != count:
        raise InputError(f"boxes: {len(array)}, and images: {count}: give each face its box x0 y0 x1 y1, in pixels")
    usable = np.isfinite(array).all(1) & (array[:, :2] < array[:, 2:]).all(1)
    usable &= (np.abs(array) < LARGEST_COORDINATE).all(1)
    if not usable.all():
        face = int(usable.argmin())
        text = " ".join(f"{value:g}" for value in array[face])
        raise InputError(f"boxes[{face}]: {text} is no box x0 y0 x1 y1: x0 < x1 and y0 < y1, in pixels of its image")
    return array


def _refuse_strays(
    points: Float[np.ndarray, "n points 2"],
    positioned: Bool[np.ndarray, "n points"],
    usual: Float[np.ndarray, "n 4"],
    given: Float[np.ndarray, "n 4"] | None,
) -> None:
    """Points and boxes that are not in pixels, or not in those of one image."""
    if (tiny := (usual[:, 2:] - usual[:, :2]).max(1) < SMALLEST_BOX).any() and (given is None or tiny.all()):
        face = int(tiny.argmax())
        width, height = (float(value) for value in usual[face, 2:] - usual[face, :2])
        fix = PIXELS if positioned[face].sum() > 1 else "give boxes="
        raise InputError(f"points[{face}]: the face is {width:.2g} x {height:.2g} pixels large: {fix}")
    if given is not None and (strayed := apart(points, positioned, given)).sum() > len(points) / 2:
        raise InputError(
            f"points[{strayed.argmax()}]: no point lies in its box, and so in {strayed.sum()} of {len(points)} faces: "
            "give points and boxes both in pixels of the image, boxes as x0 y0 x1 y1"
        )


def _refuse_misfits(
    pictures: Any,
    points: Float[np.ndarray, "n points 2"],
    positioned: Bool[np.ndarray, "n points"],
    boxes: Float[np.ndarray, "n 4"],
) -> None:
    """Annotations of images in memory that do not fit them; files are looked at when they are read."""
    points = np.where(positioned[..., None], points, 0)
    for index, picture in enumerate(pictures):
        if isinstance(picture, Embedded) and isinstance(picture.read, InMemory):
            picture = picture.read.pixels
        if isinstance(picture, np.ndarray):
            height, width = picture.shape[:2]
            if fault := face_fault(points[index], positioned[index], boxes[index], width=width, height=height):
                raise InputError(f"face {index} of images and points: {fault}")


def _groups(groups: Any, count: int) -> tuple[dict[str, tuple[str, ...]], dict[str, Bool[np.ndarray, "n"]]]:
    """(labels of the faces by the name of the group, those that are booleans)."""
    if groups is not None and not isinstance(groups, Mapping):
        raise InputError(f"groups: give a dictionary of a name and {count} labels each, not {quoted(groups)}")
    labels: dict[str, tuple[str, ...]] = {}
    switches: dict[str, np.ndarray] = {}
    for name, values in (groups or {}).items():
        if not isinstance(name, str) or not name:
            raise InputError(f"groups: a group's name must be text, not {quoted(name)}")
        found = _labels(values, count, f"groups[{name!r}]")
        if all(isinstance(label, bool) for label in found):
            switches[name] = np.array(found, bool)
        else:
            labels[name] = tuple(str(label) for label in found)
    return labels, switches


def _labels(values: Any, count: int, argument: str) -> list[Any]:
    """`count` labels: text, whole numbers or booleans, as Python's own; those of photos become text."""
    if isinstance(values, str | bytes | Mapping) or not (isinstance(values, Sequence) or is_arrayed(values)):
        raise InputError(f"{argument}: give a list of {count} labels, one for each face, not {quoted(values)}")
    array = array_of(values, f"{argument} must be {count} labels") if is_arrayed(values) else None
    listed = list(values) if array is None else array.tolist()
    listed = [label.item() if isinstance(label, np.generic) else label for label in listed]
    if len(listed) != count or (array is not None and array.ndim != 1):
        raise InputError(f"{argument}: {len(listed)} labels for {count} faces: give each face one")
    for index, label in enumerate(listed):
        if not isinstance(label, str | int):
            raise InputError(
                f"{argument}: label {index} is {quoted(label)}: give text, whole numbers or booleans; name the "
                "intervals of a measured value"
            )
    return [str(label) for label in listed] if argument == "photos" else listed
