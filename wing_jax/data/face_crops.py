"""Face crops: each face cut once from its picture, with room around it, shrunk by area averaging to one size.

Training and prediction both start from face crops, so the crops of both stages are resampled from the same pixels. The
shrinking is where antialiasing happens; a crop of about the face crop's resolution then needs none.
"""

import dataclasses
import os.path
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from wing_jax.choices import Store
from wing_jax.data.encoded import JpegImages, encoded
from wing_jax.data.face_set import FaceSet
from wing_jax.data.limits import LARGEST_COORDINATE, face_fault, size_fault
from wing_jax.data.picture_sizes import other_sizes
from wing_jax.errors import InputError
from wing_jax.geometry import compose, rescale_points, rescaling
from wing_jax.runtime import memory
from wing_jax.types import Image
from wing_jax.values import Value

Images: TypeAlias = UInt8[np.ndarray, "_ _ _ 3"] | JpegImages
MARGIN = 2.0  # face crop side per larger box side: room for any rotation and a fair jitter
# A square is cut out as it is where it holds at most so many times the pixels of its picture: the box of a whole
# picture of 16 : 9 has 7.1. A larger one is mostly repeated edge, and is never made.
ROOMY = 8
ANYHOW = 1 << 20  # pixels: smaller squares are cut out as they are
WIDE = 1 << 14  # pixels: a wider picture is averaged along its rows first, so that what is left is small
BLOCK = 1 << 22  # numbers of a picture that are averaged at once


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceCrops(Value):
    """`n` face crops. `crop_to_image` maps face-crop pixels to image pixels; `points` and `boxes` are in face crop
    pixels."""

    images: Images
    crop_to_image: Float[np.ndarray, "n 2 3"]
    boxes: Float[np.ndarray, "n 4"]
    points: Float[np.ndarray, "n points 2"]
    visible: Bool[np.ndarray, "n points"]

    @property
    def size(self) -> int:
        return self.images.shape[1]


def crop_face(
    image: Image, box: Float[np.ndarray, "4"], *, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "2 3"]]:
    """Cut the square of MARGIN times `box`'s larger side and bring it to `size` pixels; the edge is repeated outside.

    The square lies on whole pixels, so the returned frame (face crop pixels to image pixels) is exact. However large
    the box, no more memory is taken than a few times that of the image and the face crop.
    """
    squares = crop_squares(box[None])
    (left, top, side), crop_to_image = squares[0].tolist(), square_transforms(squares, size=size)[0]
    if side**2 > max(ROOMY * image.shape[0] * image.shape[1], ANYHOW, 4 * size**2):
        return _averaged(image, left, top, side, size), crop_to_image
    return _resize_crop(_window(image, left, top, side), size), crop_to_image


def crop_squares(boxes: Float[np.ndarray, "n 4"]) -> Int[np.ndarray, "n 3"]:
    """The squares that `crop_face` cuts around `boxes`: left, top and side, in whole pixels.

    Raises:
      InputError: a box reaches beyond any picture.
    """
    if not (np.abs(boxes) < 10 * LARGEST_COORDINATE).all():
        raise InputError("a box reaches beyond any picture: correct or remove it")
    low, high = boxes[:, :2], boxes[:, 2:]
    side = np.maximum(2, np.round(MARGIN * (high - low).max(1, keepdims=True)))
    corner = np.round((low + high + 1 - side) / 2)
    return np.concatenate([corner, side], axis=1).astype(np.int64)


def square_transforms(squares: Int[np.ndarray, "n 3"], *, size: int) -> Float[np.ndarray, "n 2 3"]:
    """From pixels of the face crops of `size` pixels of these squares (left, top, side) to those of their pictures."""
    crop_to_image = np.array([rescaling(side / size) for side in squares[:, 2].tolist()], np.float32).reshape(-1, 2, 3)
    crop_to_image[:, :, 2] += squares[:, :2]
    return crop_to_image


def _resize_crop(square: UInt8[np.ndarray, "side side 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    side = len(square)
    if side == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def _averaged(image: Image, left: int, top: int, side: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """What area averaging makes of the square of `_window`, which is not made."""
    if image.shape[1] > max(image.shape[0], WIDE):
        return np.ascontiguousarray(_averaged(image.transpose(1, 0, 2), top, left, side, size).transpose(1, 0, 2))
    rows = _averaged_rows(image, top, side, size)
    both = _averaged_rows(np.ascontiguousarray(rows.transpose(1, 0, 2)), left, side, size)
    return np.rint(both.transpose(1, 0, 2)).astype(np.uint8)


def _averaged_rows(
    image: Shaped[np.ndarray, "height width 3"], start: int, side: int, size: int
) -> Float[np.ndarray, "size width 3"]:
    """The means of `image` over `size` equal shares of the `side` rows from `start` on, its edges repeated outside."""
    height, width, _ = image.shape
    means = np.zeros((size, width, 3), np.float32)
    edges = start + np.arange(size + 1) * (side / size)
    first = np.clip(np.floor(edges[:-1]), 0, height - 1).astype(int)
    last = np.clip(np.ceil(edges[1:]), first + 1, height).astype(int)
    step = max(1, BLOCK // (3 * width))
    for share in range(size):
        for row in range(first[share], last[share], step):
            rows = np.arange(row, min(row + step, last[share]))
            low = np.where(rows == 0, -np.inf, rows)  # the first and the last row reach on for ever
            high = np.where(rows == height - 1, np.inf, rows + 1)
            covered = np.minimum(high, edges[share + 1]) - np.maximum(low, edges[share])
            weights = (np.maximum(covered, 0) / (side / size)).astype(np.float32)
            block = image[rows[0] : rows[-1] + 1].astype(np.float32)
            means[share] += (weights @ block.reshape(len(rows), -1)).reshape(width, 3)
    return means


def _window(image: Image, left: int, top: int, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """The square of `side` pixels at (`left`, `top`), the image's edge repeated outside."""
    height, width = image.shape[:2]
    near_left, near_top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    near_right, near_bottom = max(min(left + side, width), near_left + 1), max(min(top + side, height), near_top + 1)
    within = image[near_top:near_bottom, near_left:near_right]
    before, after = (near_left - left, near_top - top), (left + side - near_right, top + side - near_bottom)
    if max(*before, *after) <= 0:
        return within
    if min(*before, *after) < 0:  # the square lies outside altogether, beyond a corner or an edge
        rows = np.clip(np.arange(top, top + side), 0, height - 1)
        return image[rows[:, None], np.clip(np.arange(left, left + side), 0, width - 1)]
    return cv2.copyMakeBorder(within, before[1], after[1], before[0], after[0], cv2.BORDER_REPLICATE)


def crop_faces(faces: FaceSet, *, size: int, workers: int = 2, store: Store = "pixels") -> FaceCrops:
    """Face crops of all `faces`, read with `workers` threads. Of a packed set the crops are the face crops, at another
    size.

    `held`="jpeg" holds them encoded: a tenth of the memory, and decoding at every use.

    Raises:
      InputError: a picture cannot be read, an annotation does not fit its picture (`wing_jax.data.limits`; it is
        named), or the face crops do not fit into memory.
    """
    if store == "pixels":
        memory.refuse_beyond(
            3 * len(faces) * size**2,
            what=f"{faces.name}: {len(faces):,} faces cut to {size:,} x {size:,} pixels",
            fix='use fewer faces, smaller inputs or, in a training, data.store="jpeg" with input="tfdata"',
        )
    pixels = np.empty((len(faces) if store == "pixels" else 0, size, size, 3), np.uint8)
    records = [b""] * len(faces)

    def cut_one(index: int) -> np.ndarray:
        image = faces.picture(index)
        if faces.cropped:
            face_crop = _resize_crop(image, size)
            crop_to_image = square_transforms(np.array([[0, 0, len(image)]]), size=size)[0]
        else:
            check_annotation(faces, index, image)
            face_crop, crop_to_image = crop_face(image, faces.boxes[index], size=size)
        if store == "pixels":
            pixels[index] = face_crop
        else:
            records[index] = encoded(face_crop)
        return crop_to_image

    crop_to_image = np.stack(_each(cut_one, range(len(faces)), workers))
    return FaceCrops(
        images=pixels if store == "pixels" else JpegImages(records, size, size),
        crop_to_image=crop_to_image,
        boxes=to_face_crop(crop_to_image, faces.boxes.reshape(-1, 2, 2)).reshape(-1, 4),
        points=to_face_crop(crop_to_image, faces.points),
        visible=faces.visible,
    )


def check_annotation(faces: FaceSet, index: int, image: Image) -> None:
    """Raises InputError where the annotation of face `index` does not fit its picture `image`; see
    `wing_jax.data.limits`."""
    height, width = image.shape[:2]
    if fault := annotation_fault(faces, index, width=width, height=height):
        others = len(other_sizes(faces)) - 1  # by headers, which are read quickly; 0 where files say no sizes
        raise InputError(fault + (f" ({others:,} more pictures are not of the size told)" if others > 0 else ""))


def annotation_fault(faces: FaceSet, index: int, *, width: int, height: int) -> str:
    """What is wrong with the annotation of face `index` in its picture of `width` x `height`, as a whole message, or ""
    where it fits: what `wing-jax data check` reports is what `crop_faces` refuses. Packed crops are never refused."""
    if faces.cropped:
        return ""
    told = None if faces.picture_sizes is None else faces.picture_sizes[index]
    if fault := size_fault(told, width=width, height=height):
        return f"{faces.picture_name(index)}: {fault}"
    fault = face_fault(faces.points[index], faces.visible[index], faces.boxes[index], width=width, height=height)
    name, origin = faces.picture_name(index), faces.origins[index] if faces.origins else ""
    beside = os.path.splitext(origin)[0] == os.path.splitext(name)[0]  # x.pts of x.jpg goes without saying
    return fault and f"{name}: {fault}{f' ({origin})' if origin and not beside else ''}"


def joined(parts: Sequence[FaceCrops]) -> FaceCrops:
    """The face crops of all `parts`, which are of one size and held alike, one after the other."""
    first, *others = parts
    if not others:
        return first
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("crop_to_image", "boxes", "points", "visible")
    }
    return FaceCrops(images=_stacked([part.images for part in parts]), **arrays)


def _stacked(images: Sequence[Images]) -> Images:
    encoded_ones = [part for part in images if isinstance(part, JpegImages)]
    if len(encoded_ones) < len(images):
        return np.concatenate([np.asarray(part) for part in images])
    records = [record for part in encoded_ones for record in part.records]
    return dataclasses.replace(encoded_ones[0], records=records)


def to_face_crop(
    crop_to_image: Float[np.ndarray, "n 2 3"], points: Float[np.ndarray, "n points 2"]
) -> Float[np.ndarray, "n points 2"]:
    """Pixels of the picture to pixels of the face crop (face crops are never turned)."""
    return ((points - crop_to_image[:, None, :, 2]) / crop_to_image[:, None, :1, 0]).astype(np.float32)


def to_image(
    crop_to_image: Float[np.ndarray, "n 2 3"], points: Float[np.ndarray, "n points 2"]
) -> Float[np.ndarray, "n points 2"]:
    """Pixels of the face crop to pixels of the picture."""
    return (points * crop_to_image[:, :1, None, 0] + crop_to_image[:, None, :, 2]).astype(np.float32)


def _each(work: Callable, items: Sequence, workers: int) -> list:
    if workers <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


def resize_face_crops(face_crops: FaceCrops, *, size: int) -> FaceCrops:
    """The same face crops at another size; their frames, boxes and points follow."""
    ratio = size / face_crops.size
    return dataclasses.replace(
        face_crops,
        images=resize_images(face_crops.images, size),
        crop_to_image=np.asarray(
            compose(face_crops.crop_to_image, np.broadcast_to(rescaling(1 / ratio), face_crops.crop_to_image.shape))
        ),
        boxes=np.asarray(rescale_points(face_crops.boxes, ratio)),
        points=np.asarray(rescale_points(face_crops.points, ratio)),
    )


def resize_images(images: Images, size: int) -> Images:
    """Square images brought to `size` by area averaging."""
    if images.shape[1] == size:
        return images
    if isinstance(images, JpegImages):
        return images.at(size)
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])
