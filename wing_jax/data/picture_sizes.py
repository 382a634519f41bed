"""Sizes of pictures: what an annotation file says, what the picture's header says, and points moved from one to the
other.

A picture that was resized after it was marked no longer fits its points. A tool that ignores the EXIF rotation (dlib's
imglab, older labelImg) marks the stored pixels, while everybody else shows, and trains on, the turned picture: width
and height then stand exchanged in its file. An EXIF rotation by 180 degrees, a mirrored picture and a square one keep
their sides: no size tells them, unless other pictures of the set do.
"""

import contextlib
import dataclasses
import functools
import io
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin
from jaxtyping import Float, Int

from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import Picture, load_picture, picture_name
from wing_jax.data.limits import LARGEST_COORDINATE, same_size, size_fault
from wing_jax.errors import InputError
from wing_jax.geometry import rescale_points
from wing_jax.runtime import files

ORIENTATION = 0x0112  # EXIF's tag; 1: as stored, 2 to 4: mirrored or turned by 180 degrees, 5 to 8: sides exchanged
READERS = 8  # threads: reading a header is mostly waiting for the disk


@dataclasses.dataclass(frozen=True)
class Header:
    """What a picture's header says."""

    size: tuple[int, int]  # width and height as it is shown, after the EXIF rotation
    orientation: int = 1  # EXIF's

    @property
    def exchanged(self) -> bool:
        """Whether the stored picture has width and height exchanged."""
        return self.orientation in (5, 6, 7, 8)


def told_size(width: Any, height: Any) -> tuple[int, int] | None:
    """The picture's size that an annotation file says, from values of any kind; None where they say none: missing,
    empty, 0, not numbers, or beyond any picture."""
    sides = _side(width), _side(height)
    return None if None in sides else sides  # pyrefly: ignore[bad-return]


def _side(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    with contextlib.suppress(ValueError, OverflowError):
        number = float(value)
        if math.isfinite(number) and 1 <= number < LARGEST_COORDINATE:
            return round(number)
    return None


def read_header(picture: Picture) -> Header:
    """Size and EXIF orientation of `picture`; of a file its header alone is read.

    Raises:
      InputError: it is missing or cannot be read.
    """
    if isinstance(picture, Path):
        try:
            with files.open_bytes(picture) as file, PIL.Image.open(file) as image:
                width, height = _stored_size(image)
                orientation = _orientation(image)
            header = Header((width, height), orientation)
            return Header((height, width), orientation) if header.exchanged else header
        except Exception:  # not a format Pillow knows, or damaged: OpenCV decides
            pass
    height, width = load_picture(picture).shape[:2]
    return Header((width, height))


def encoded_size(content: bytes) -> tuple[int, int] | None:
    """Width and height that the header of an encoded picture says; None where it is none."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            return image.size
    except Exception:  # Pillow raises errors of many kinds at damaged headers
        return None


def _stored_size(image: PIL.Image.Image) -> tuple[int, int]:
    if isinstance(image, PIL.TiffImagePlugin.TiffImageFile):  # its `size` is already turned, in some versions
        return image.tag_v2[256], image.tag_v2[257]
    return image.size


def _orientation(image: PIL.Image.Image) -> int:
    if image.format not in ("JPEG", "PNG", "WEBP", "TIFF", "MPO") or (
        image.format == "PNG" and "exif" not in image.info
    ):
        return 1  # to look for the EXIF data of a PNG behind its pixels would decode it
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def other_sizes(faces: FaceSet) -> list[Picture]:
    """The pictures, each once, that have another size than the annotation file says; see `turned_unseen` too."""
    told, headers = _told_and_headers(faces)
    return [
        picture
        for picture, header in headers.items()
        if header is not None and size_fault(told[picture], width=header.size[0], height=header.size[1])
    ]


def turned_unseen(faces: FaceSet) -> list[str]:
    """Of a set whose sizes show that its tool ignored the EXIF rotation: a line for each picture that is turned too and
    whose sides, being equal or as they were, do not tell."""
    told, headers = _told_and_headers(faces)
    if _ignores_exif(told, headers) is False:
        return []
    return [
        f"{picture_name(picture)}: is turned by EXIF, which its sides do not tell, and other pictures of this set were "
        "marked without that: give --picture_size rescale (in a training --data.picture_size rescale)"
        for picture, header in headers.items()
        if header is not None
        and header.orientation > 1
        and _alike(told[picture], header.size)
        and (not header.exchanged or _alike(told[picture], header.size[::-1]))
    ]


def rescaled(faces: FaceSet, *, faults: list[str] | None = None) -> FaceSet:
    """`faces` with points and boxes moved from the pixels of the pictures that were annotated to those of the pictures
    as they are now: scaled along each side, and turned as EXIF says where the annotation is of the stored picture.

    That is so where the sides stand exchanged. Where they are equal, or EXIF turns by 180 degrees or mirrors, they do
    not tell, and the other pictures of the set decide. Pictures of which the file says no size are left as they are.
    `faults` as in `records.gather`.

    Raises:
      InputError: the annotation file says the size of no picture; or sides stand exchanged and the picture says
        nothing of a rotation; or its sides do not tell, and the other pictures disagree.
    """
    if faces.picture_sizes is None:
        raise InputError(
            f"{faces.name}: its annotation files do not say how large the pictures were: leave picture_size at 'check'"
        )
    told, headers = _told_and_headers(faces)
    ignores = _ignores_exif(told, headers)
    points, boxes, sizes = faces.points.copy(), faces.boxes.copy(), faces.picture_sizes.copy()
    kept = np.ones(len(faces), bool)
    for index in np.flatnonzero(sizes.all(1)).tolist():
        picture = faces.source(index)
        header = headers[picture]
        if header is None:  # whoever reads the pixels says why it cannot be read
            continue
        try:
            move = _move(sizes[index], header, ignores=ignores, name=picture_name(picture))
        except InputError as error:
            if faults is None:
                raise
            if str(error) not in faults:
                faults.append(str(error))
            kept[index] = False
            continue
        if move is not None:
            points[index] = np.where(faces.visible[index][:, None], move(points[index]), 0)
            corners = move(boxes[index].reshape(2, 2))
            boxes[index] = np.concatenate([corners.min(0), corners.max(0)])
        sizes[index] = header.size
    if not kept.any():
        raise InputError(f"{faces.name}: no face is left: {faults[0] if faults else ''}")
    moved = dataclasses.replace(faces, points=points, boxes=boxes, picture_sizes=sizes)
    return moved if kept.all() else moved.take(np.flatnonzero(kept))


Told: TypeAlias = Mapping[Picture, Int[np.ndarray, "2"]]
Headers: TypeAlias = Mapping[Picture, Header | None]


def _told_and_headers(faces: FaceSet) -> tuple[Told, Headers]:
    """Of each picture whose size the annotation file says: that size, and its header (None: it cannot be read)."""
    if faces.picture_sizes is None:
        return {}, {}
    told = {faces.source(index): size for index, size in enumerate(faces.picture_sizes) if size.all()}
    with ThreadPoolExecutor(READERS) as pool:
        return told, dict(zip(told, pool.map(_header_or_none, told), strict=True))


def _header_or_none(picture: Picture) -> Header | None:
    try:
        return read_header(picture)
    except InputError:
        return None


def _ignores_exif(told: Told, headers: Headers) -> bool | None:
    """Whether the pictures were marked as they are stored, by those whose sides tell; None where they disagree."""
    shown, stored = False, False
    for picture, header in headers.items():
        if header is not None and header.exchanged:
            alike = _alike(told[picture], header.size), _alike(told[picture], header.size[::-1])
            shown, stored = shown or alike == (True, False), stored or alike == (False, True)
    return None if shown and stored else stored


def _move(told: Int[np.ndarray, "2"], header: Header, *, ignores: bool | None, name: str) -> functools.partial | None:
    """The function that moves points `[n, 2]` of the annotated picture to those of the picture as it is shown; None
    where they stay. `ignores` as `_ignores_exif` says, for where the sides of this picture do not tell.

    Raises:
      InputError: it cannot be told.
    """
    as_shown, as_stored = _alike(told, header.size), _alike(told, header.size[::-1])
    (width, height), said = header.size, f"its annotation file says {told[0]:,} x {told[1]:,}"
    if header.exchanged:
        turned = ignores if as_shown and as_stored else as_stored
        unclear = "it was turned by EXIF and stretched besides" if not (as_shown or as_stored) else ""
    else:
        turned = ignores if header.orientation > 1 else False
        exchanged = as_stored and not as_shown
        unclear = "it has no EXIF rotation that would exchange them" if exchanged else ""
    if turned is None:
        unclear = "other pictures of this set were marked both with and without their EXIF rotation"
    if unclear:
        raise InputError(
            f"{name}: is {width:,} x {height:,} pixels, {said}, and {unclear}, so that nothing says how its points "
            "are to be moved: give the picture that was marked, or mark this one again"
        )
    if turned:
        size = header.size[::-1] if header.exchanged else header.size
        return functools.partial(_moved, told=told, size=size, orientation=header.orientation)
    if same_size(told, header.size):
        return None
    return functools.partial(_moved, told=told, size=header.size, orientation=1)


def _alike(one: Sequence[int] | np.ndarray, other: Sequence[int] | np.ndarray) -> bool:
    """Whether two pictures have one shape, but for rounding: the ratios of their sides."""
    return bool(abs(math.log(one[0] / one[1] * other[1] / other[0])) <= 1 / min(one) + 1 / min(other))


def _moved(
    points: Float[np.ndarray, "n 2"], *, told: Int[np.ndarray, "2"], size: tuple[int, int], orientation: int
) -> Float[np.ndarray, "n 2"]:
    """`points` of a picture of the `told` size, at the stored `size` and then turned by EXIF's `orientation`."""
    stored = np.asarray(rescale_points(points.astype(np.float64), np.divide(size, told)))
    return turned(stored, size=size, orientation=orientation).astype(np.float32)


def turned(points: Float[np.ndarray, "n 2"], *, size: tuple[int, int], orientation: int) -> Float[np.ndarray, "n 2"]:
    """`points` (x, y) of a stored picture of `size` (width, height) in the picture as EXIF's `orientation` shows it."""
    x, y = points[:, 0], points[:, 1]
    right, below = size[0] - 1 - x, size[1] - 1 - y
    pairs = {1: (x, y), 2: (right, y), 3: (right, below), 4: (x, below),
             5: (y, x), 6: (below, x), 7: (below, right), 8: (y, right)}  # fmt: skip
    return np.stack(pairs[orientation], axis=1)
