"""Compare the picture sizes of annotation files with those of the pictures, and convert points between them.

A picture that was resized after annotation no longer fits its points. Annotation tools that ignore the EXIF rotation
(dlib's imglab, older labelImg) use the stored pixels, while other programs show, and train on, the rotated picture:
width and height are then swapped in the annotation file. An EXIF rotation by 180 degrees, a mirrored picture and a
square picture do not change the size, so only the other pictures of the set can show that the tool ignores EXIF.
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

ORIENTATION = (
    0x0112  # EXIF tag; 1: as stored, 2 to 4: mirrored or rotated by 180 degrees, 5 to 8: width and height swapped
)
READERS = 8  # threads: reading a header is mostly waiting for the disk


@dataclasses.dataclass(frozen=True)
class Header:
    """The size and orientation in a picture's header."""

    size: tuple[int, int]  # width and height after the EXIF rotation
    orientation: int = 1  # EXIF's

    @property
    def swapped(self) -> bool:
        """Whether width and height are swapped in the stored picture."""
        return self.orientation in (5, 6, 7, 8)


def parse_size(width: Any, height: Any) -> tuple[int, int] | None:
    """Parse the picture's size in an annotation file, from values of any type.

    None if a value is missing, empty, 0, not a number, or beyond any picture.
    """
    sides = _parse_side(width), _parse_side(height)
    return None if None in sides else sides  # pyrefly: ignore[bad-return]


def _parse_side(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    with contextlib.suppress(ValueError, OverflowError):
        number = float(value)
        if math.isfinite(number) and 1 <= number < LARGEST_COORDINATE:
            return round(number)
    return None


def read_header(picture: Picture) -> Header:
    """Read the size and EXIF orientation of `picture`; only the header of a file is read.

    Raises:
      InputError: it is missing or cannot be read.
    """
    if isinstance(picture, Path):
        try:
            with files.open_bytes(picture) as file, PIL.Image.open(file) as image:
                width, height = _stored_size(image)
                orientation = _orientation(image)
            header = Header((width, height), orientation)
            return Header((height, width), orientation) if header.swapped else header
        except Exception:  # a format unknown to Pillow, or corrupt: OpenCV decides
            pass
    height, width = load_picture(picture).shape[:2]
    return Header((width, height))


def encoded_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height in the header of an encoded picture; None if it is not a picture."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            return image.size
    except Exception:  # Pillow raises many kinds of errors for corrupt headers
        return None


def _stored_size(image: PIL.Image.Image) -> tuple[int, int]:
    if isinstance(image, PIL.TiffImagePlugin.TiffImageFile):  # its `size` is already rotated in some versions
        return image.tag_v2[256], image.tag_v2[257]
    return image.size


def _orientation(image: PIL.Image.Image) -> int:
    if image.format not in ("JPEG", "PNG", "WEBP", "TIFF", "MPO") or (
        image.format == "PNG" and "exif" not in image.info
    ):
        return 1  # searching for EXIF data after the pixels of a PNG would decode it
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def find_size_mismatches(faces: FaceSet) -> list[Picture]:
    """Return the pictures whose size differs from the annotation file; see also `find_hidden_rotations`."""
    annotated, headers = _read_sizes(faces)
    return [
        picture
        for picture, header in headers.items()
        if header is not None and size_fault(annotated[picture], width=header.size[0], height=header.size[1])
    ]


def find_hidden_rotations(faces: FaceSet) -> list[str]:
    """Return a line for each picture whose EXIF rotation was probably ignored, although its size does not show it.

    They exist in a set where the sizes of other pictures show that the annotation tool ignored the EXIF rotation.
    """
    annotated, headers = _read_sizes(faces)
    if _ignores_exif(annotated, headers) is False:
        return []
    return [
        f"{picture_name(picture)}: has an EXIF rotation, which its size does not show, and other pictures of this set "
        "were annotated without the rotation: pass --picture_size rescale (for training --data.picture_size rescale)"
        for picture, header in headers.items()
        if header is not None
        and header.orientation > 1
        and _same_shape(annotated[picture], header.size)
        and (not header.swapped or _same_shape(annotated[picture], header.size[::-1]))
    ]


def rescale_faces(faces: FaceSet, *, faults: list[str] | None = None) -> FaceSet:
    """Convert points and boxes from pixels of the annotated pictures to pixels of the current pictures.

    They are scaled along each side, and rotated by EXIF if the stored picture was annotated, which swapped sides show.
    For a square picture, or one that EXIF rotates by 180 degrees or mirrors, the other pictures of the set decide.
    Pictures without a size in the annotation file are unchanged. For `faults` see `face_set.build_face_set`.

    Raises:
      InputError: the annotation files state no size; or width and height are swapped but the picture has no rotation;
        or the size of a picture does not show whether it is rotated, and the other pictures disagree.
    """
    if faces.picture_sizes is None:
        raise InputError(
            f"{faces.name}: its annotation files do not state the sizes of the pictures: use picture_size='check'"
        )
    annotated, headers = _read_sizes(faces)
    ignores_exif = _ignores_exif(annotated, headers)
    points, boxes, sizes = faces.points.copy(), faces.boxes.copy(), faces.picture_sizes.copy()
    valid = np.ones(len(faces), bool)
    for index in np.flatnonzero(sizes.all(1)).tolist():
        picture = faces.source(index)
        header = headers[picture]
        if header is None:  # reading its pixels reports the reason
            continue
        try:
            convert = _make_converter(sizes[index], header, ignores_exif=ignores_exif, name=picture_name(picture))
        except InputError as error:
            if faults is None:
                raise
            if str(error) not in faults:
                faults.append(str(error))
            valid[index] = False
            continue
        if convert is not None:
            points[index] = np.where(faces.visible[index][:, None], convert(points[index]), 0)
            corners = convert(boxes[index].reshape(2, 2))
            boxes[index] = np.concatenate([corners.min(0), corners.max(0)])
        sizes[index] = header.size
    if not valid.any():
        raise InputError(f"{faces.name}: no face remains: {faults[0] if faults else ''}")
    converted = dataclasses.replace(faces, points=points, boxes=boxes, picture_sizes=sizes)
    return converted if valid.all() else converted.take(np.flatnonzero(valid))


AnnotatedSizes: TypeAlias = Mapping[Picture, Int[np.ndarray, "2"]]
Headers: TypeAlias = Mapping[Picture, Header | None]


def _read_sizes(faces: FaceSet) -> tuple[AnnotatedSizes, Headers]:
    """Return the annotated size and the header (None: unreadable) of each picture whose size is annotated."""
    if faces.picture_sizes is None:
        return {}, {}
    annotated = {faces.source(index): size for index, size in enumerate(faces.picture_sizes) if size.all()}
    with ThreadPoolExecutor(READERS) as pool:
        return annotated, dict(zip(annotated, pool.map(_try_read_header, annotated), strict=True))


def _try_read_header(picture: Picture) -> Header | None:
    try:
        return read_header(picture)
    except InputError:
        return None


def _ignores_exif(annotated: AnnotatedSizes, headers: Headers) -> bool | None:
    """Return whether the stored (unrotated) pictures were annotated, as the sizes show; None if they disagree."""
    rotated, stored = False, False
    for picture, header in headers.items():
        if header is not None and header.swapped:
            matches = (
                _same_shape(annotated[picture], header.size),
                _same_shape(annotated[picture], header.size[::-1]),
            )
            rotated, stored = rotated or matches == (True, False), stored or matches == (False, True)
    return None if rotated and stored else stored


def _make_converter(
    annotated: Int[np.ndarray, "2"], header: Header, *, ignores_exif: bool | None, name: str
) -> functools.partial | None:
    """Return the function that converts points `[n, 2]` of the annotated picture to the rotated picture.

    None if they do not change. `ignores_exif` decides if the size of this picture does not show its rotation.

    Raises:
      InputError: the rotation is unknown.
    """
    fits_rotated, fits_stored = _same_shape(annotated, header.size), _same_shape(annotated, header.size[::-1])
    (width, height), text = header.size, f"its annotation file says {annotated[0]:,} x {annotated[1]:,}"
    if header.swapped:
        rotate = ignores_exif if fits_rotated and fits_stored else fits_stored
        problem = "it was both rotated by EXIF and stretched" if not (fits_rotated or fits_stored) else ""
    else:
        rotate = ignores_exif if header.orientation > 1 else False
        swapped = fits_stored and not fits_rotated
        problem = "it has no EXIF rotation that would swap them" if swapped else ""
    if rotate is None:
        problem = "other pictures of this set were annotated both with and without their EXIF rotation"
    if problem:
        raise InputError(
            f"{name}: is {width:,} x {height:,} pixels, {text}, and {problem}, so its points cannot be converted: "
            "use the picture that was annotated, or annotate this one again"
        )
    if rotate:
        size = header.size[::-1] if header.swapped else header.size
        return functools.partial(_convert_points, annotated=annotated, size=size, orientation=header.orientation)
    if same_size(annotated, header.size):
        return None
    return functools.partial(_convert_points, annotated=annotated, size=header.size, orientation=1)


def _same_shape(left: Sequence[int] | np.ndarray, right: Sequence[int] | np.ndarray) -> bool:
    """Return whether two pictures have the same aspect ratio, except for rounding."""
    return bool(abs(math.log(left[0] / left[1] * right[1] / right[0])) <= 1 / min(left) + 1 / min(right))


def _convert_points(
    points: Float[np.ndarray, "n 2"], *, annotated: Int[np.ndarray, "2"], size: tuple[int, int], orientation: int
) -> Float[np.ndarray, "n 2"]:
    """Scale `points` of a picture of the `annotated` size to the stored `size` and rotate them by EXIF."""
    stored = np.asarray(rescale_points(points.astype(np.float64), np.divide(size, annotated)))
    return rotate_points(stored, size=size, orientation=orientation).astype(np.float32)


def rotate_points(
    points: Float[np.ndarray, "n 2"], *, size: tuple[int, int], orientation: int
) -> Float[np.ndarray, "n 2"]:
    """Rotate `points` (x, y) of a stored picture of `size` (width, height) by EXIF's `orientation`."""
    x, y = points[:, 0], points[:, 1]
    right, below = size[0] - 1 - x, size[1] - 1 - y
    pairs = {1: (x, y), 2: (right, y), 3: (right, below), 4: (x, below),
             5: (y, x), 6: (below, x), 7: (below, right), 8: (y, right)}  # fmt: skip
    return np.stack(pairs[orientation], axis=1)
