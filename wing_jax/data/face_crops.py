"""Face crops: each face is cut once from its picture, with a margin, and resized to one size.

Training and prediction both start from face crops, so the crops of both stages are resampled from the same pixels.
Shrinking by means of pixels prevents aliasing; a crop of about the face crop's resolution then needs no antialiasing.
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
from wing_jax.data.encoded import JpegImages, encode_jpeg
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import resize_square
from wing_jax.data.limits import LARGEST_COORDINATE, face_fault, size_fault
from wing_jax.data.picture_sizes import find_size_mismatches
from wing_jax.errors import InputError
from wing_jax.geometry import compose, rescale_points, rescaling
from wing_jax.runtime import memory
from wing_jax.types import Image
from wing_jax.values import Value

Images: TypeAlias = UInt8[np.ndarray, "_ _ _ 3"] | JpegImages
MARGIN = 2.0  # face crop side per larger box side: enough for any rotation and moderate jitter
# A square is cut directly if it has at most this many times the pixels of its picture: for the box of an entire 16:9
# picture the ratio is 7.1. A larger square is mostly repeated edge, and is never allocated.
LARGEST_SQUARE = 8
SMALL_SQUARE = 1 << 20  # pixels: smaller squares are always cut directly
WIDE = 1 << 14  # pixels: a wider picture is averaged along its rows first, so that the intermediate result is small
BLOCK = 1 << 22  # numbers of a picture that are averaged at once


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceCrops(Value):
    """`n` face crops.

    `crop_to_image` maps face-crop pixels to image pixels; `points` and `boxes` are in face crop pixels.
    """

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
    """Cut the square of MARGIN times `box`'s larger side and resize it to `size` pixels.

    Outside of the image its edge is repeated. The square is aligned to integer pixels, so the returned transform (face
    crop pixels to image pixels) is exact. Memory use is at most a few times that of the image and the face crop, for a
    box of any size.
    """
    squares = crop_squares(box[None])
    return cut_square(image, squares[0], size=size), square_transforms(squares, size=size)[0]


def cut_square(image: Image, square: Int[np.ndarray, "3"], *, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a square of `crop_squares` and resize it to `size` pixels, as `crop_face` does."""
    left, top, side = square.tolist()
    if side**2 > max(LARGEST_SQUARE * image.shape[0] * image.shape[1], SMALL_SQUARE, 4 * size**2):
        return _average_square(image, left, top, side, size)
    return resize_square(_copy_square(image, left, top, side), size)


def crop_squares(boxes: Float[np.ndarray, "n 4"]) -> Int[np.ndarray, "n 3"]:
    """Return the squares that `crop_face` cuts around `boxes`: left, top and side, in integer pixels.

    Raises:
      InputError: a box extends beyond any picture.
    """
    if not (np.abs(boxes) < 10 * LARGEST_COORDINATE).all():
        raise InputError("a box extends beyond any picture: correct or remove it")
    low, high = boxes[:, :2], boxes[:, 2:]
    side = np.maximum(2, np.round(MARGIN * (high - low).max(1, keepdims=True)))
    corner = np.round((low + high + 1 - side) / 2)
    return np.concatenate([corner, side], axis=1).astype(np.int64)


def square_transforms(squares: Int[np.ndarray, "n 3"], *, size: int) -> Float[np.ndarray, "n 2 3"]:
    """Return the transforms from pixels of the face crops of `size` pixels to pixels of their pictures.

    `squares` are left, top and side of each face crop in its picture.
    """
    ratio = squares[:, 2] / size
    crop_to_image = np.zeros((len(squares), 2, 3), np.float32)
    crop_to_image[:, [0, 1], [0, 1]] = ratio[:, None]
    crop_to_image[:, :, 2] = squares[:, :2] + (0.5 * ratio - 0.5)[:, None]
    return crop_to_image


def _average_square(image: Image, left: int, top: int, side: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Return the area average of the square of `_copy_square` without allocating that square."""
    if image.shape[1] > max(image.shape[0], WIDE):
        return np.ascontiguousarray(_average_square(image.transpose(1, 0, 2), top, left, side, size).transpose(1, 0, 2))
    rows = _average_rows(image, top, side, size)
    averaged = _average_rows(np.ascontiguousarray(rows.transpose(1, 0, 2)), left, side, size)
    return np.rint(averaged.transpose(1, 0, 2)).astype(np.uint8)


def _average_rows(
    image: Shaped[np.ndarray, "height width 3"], start: int, side: int, size: int
) -> Float[np.ndarray, "size width 3"]:
    """Return the means of `image` over `size` equal parts of the `side` rows from `start`, with its edges repeated."""
    height, width, _ = image.shape
    means = np.zeros((size, width, 3), np.float32)
    edges = start + np.arange(size + 1) * (side / size)
    first = np.clip(np.floor(edges[:-1]), 0, height - 1).astype(int)
    last = np.clip(np.ceil(edges[1:]), first + 1, height).astype(int)
    step = max(1, BLOCK // (3 * width))
    for part in range(size):
        for row in range(first[part], last[part], step):
            rows = np.arange(row, min(row + step, last[part]))
            low = np.where(rows == 0, -np.inf, rows)  # the first and the last row extend to infinity
            high = np.where(rows == height - 1, np.inf, rows + 1)
            covered = np.minimum(high, edges[part + 1]) - np.maximum(low, edges[part])
            weights = (np.maximum(covered, 0) / (side / size)).astype(np.float32)
            block = image[rows[0] : rows[-1] + 1].astype(np.float32)
            means[part] += (weights @ block.reshape(len(rows), -1)).reshape(width, 3)
    return means


def _copy_square(image: Image, left: int, top: int, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Cut the square of `side` pixels at (`left`, `top`), with the image's edge repeated outside."""
    height, width = image.shape[:2]
    near_left, near_top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    near_right, near_bottom = max(min(left + side, width), near_left + 1), max(min(top + side, height), near_top + 1)
    within = image[near_top:near_bottom, near_left:near_right]
    before, after = (near_left - left, near_top - top), (left + side - near_right, top + side - near_bottom)
    if max(*before, *after) <= 0:
        return within
    if min(*before, *after) < 0:  # the square is entirely outside, beyond a corner or an edge
        rows = np.clip(np.arange(top, top + side), 0, height - 1)
        return image[rows[:, None], np.clip(np.arange(left, left + side), 0, width - 1)]
    return cv2.copyMakeBorder(within, before[1], after[1], before[0], after[0], cv2.BORDER_REPLICATE)


def crop_faces(faces: FaceSet, *, size: int, workers: int = 2, store: Store = "pixels") -> FaceCrops:
    """Cut the face crops of all `faces`, with `workers` threads.

    The pictures of a packed set already are face crops and are only resized. `store`="jpeg" stores the face crops
    encoded: it takes a tenth of the memory, and decodes at every use.

    Raises:
      InputError: a picture cannot be read, an annotation does not fit its picture (`wing_jax.data.limits`), or the face
        crops do not fit into memory. The message names the picture.
    """
    if store == "pixels":
        memory.require_memory(
            3 * len(faces) * size**2,
            what=f"{faces.name}: {len(faces):,} faces cut to {size:,} x {size:,} pixels",
            fix='use fewer faces, a smaller input_size or, for training, store="jpeg" with input="tfdata"',
        )
    pixels = np.empty((len(faces) if store == "pixels" else 0, size, size, 3), np.uint8)
    records = [b""] * len(faces)

    def cut_one(index: int) -> np.ndarray:
        image = faces.picture(index)
        if faces.cropped:
            face_crop = resize_square(image, size)
            crop_to_image = square_transforms(np.array([[0, 0, len(image)]]), size=size)[0]
        else:
            check_annotation(faces, index, image)
            face_crop, crop_to_image = crop_face(image, faces.boxes[index], size=size)
        if store == "pixels":
            pixels[index] = face_crop
        else:
            records[index] = encode_jpeg(face_crop)
        return crop_to_image

    crop_to_image = np.stack(_map_threads(cut_one, range(len(faces)), workers))
    return FaceCrops(
        images=pixels if store == "pixels" else JpegImages(records, size, size),
        crop_to_image=crop_to_image,
        boxes=to_face_crop(crop_to_image, faces.boxes.reshape(-1, 2, 2)).reshape(-1, 4),
        points=to_face_crop(crop_to_image, faces.points),
        visible=faces.visible,
    )


def check_annotation(faces: FaceSet, index: int, image: Image) -> None:
    """Raise InputError if the annotation of face `index` does not fit its picture `image` (`wing_jax.data.limits`)."""
    height, width = image.shape[:2]
    if fault := annotation_fault(faces, index, width=width, height=height):
        others = (
            len(find_size_mismatches(faces)) - 1
        )  # reads only headers, which is fast; 0 if the files state no sizes
        raise InputError(fault + (f" ({others:,} more pictures are not of the annotated size)" if others > 0 else ""))


def annotation_fault(faces: FaceSet, index: int, *, width: int, height: int) -> str:
    """Say why the annotation of face `index` does not fit its picture of `width` x `height`; "" if it fits.

    `wing-jax data check` reports these messages, and `crop_faces` raises them. Packed crops always fit.
    """
    if faces.cropped:
        return ""
    annotated_size = None if faces.picture_sizes is None else faces.picture_sizes[index]
    if fault := size_fault(annotated_size, width=width, height=height):
        return f"{faces.picture_name(index)}: {fault}"
    fault = face_fault(faces.points[index], faces.visible[index], faces.boxes[index], width=width, height=height)
    name, origin = faces.picture_name(index), faces.origins[index] if faces.origins else ""
    same_name = os.path.splitext(origin)[0] == os.path.splitext(name)[0]  # x.pts need not be named beside x.jpg
    return fault and f"{name}: {fault}{f' ({origin})' if origin and not same_name else ''}"


def concatenate(parts: Sequence[FaceCrops]) -> FaceCrops:
    """Concatenate the face crops of all `parts`, which have the same size and the same kind of storage."""
    first, *others = parts
    if not others:
        return first
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("crop_to_image", "boxes", "points", "visible")
    }
    return FaceCrops(images=_concatenate_images([part.images for part in parts]), **arrays)


def _concatenate_images(images: Sequence[Images]) -> Images:
    jpegs = [part for part in images if isinstance(part, JpegImages)]
    if len(jpegs) < len(images):
        return np.concatenate([np.asarray(part) for part in images])
    records = [record for part in jpegs for record in part.records]
    return dataclasses.replace(jpegs[0], records=records)


def to_face_crop(
    crop_to_image: Float[np.ndarray, "n 2 3"], points: Float[np.ndarray, "n points 2"]
) -> Float[np.ndarray, "n points 2"]:
    """Convert pixels of the picture to pixels of the face crop (face crops are never rotated)."""
    return ((points - crop_to_image[:, None, :, 2]) / crop_to_image[:, None, :1, 0]).astype(np.float32)


def to_image(
    crop_to_image: Float[np.ndarray, "n 2 3"], points: Float[np.ndarray, "n points 2"]
) -> Float[np.ndarray, "n points 2"]:
    """Convert pixels of the face crop to pixels of the picture."""
    return (points * crop_to_image[:, :1, None, 0] + crop_to_image[:, None, :, 2]).astype(np.float32)


def _map_threads(work: Callable, items: Sequence, workers: int) -> list:
    if workers <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


def resize_face_crops(face_crops: FaceCrops, *, size: int) -> FaceCrops:
    """Resize face crops, with their transforms, boxes and points."""
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
    """Resize square images to `size` pixels (`wing_jax.data.images.resize_square`)."""
    if images.shape[1] == size:
        return images
    if isinstance(images, JpegImages):
        return images.at(size)
    return np.stack([resize_square(image, size) for image in images])
