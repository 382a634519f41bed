"""Chips: each face cut once from its picture, with room around it, shrunk by area averaging to one size.

Training and prediction both start from chips, so the crops of both stages are resampled from the same pixels. The
shrinking is where antialiasing happens; a crop of about the chip's resolution then needs none.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from wing_jax.data.encoded import JpegImages, encoded
from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.types import Image
from wing_jax.values import Value

Images: TypeAlias = UInt8[np.ndarray, "_ _ _ 3"] | JpegImages
MARGIN = 2.0  # chip side per larger box side: room for any rotation and a fair jitter


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Chips(Value):
    """`n` chips. `frames` sends chip pixels to pixels of the picture; `points` and `boxes` are in chip pixels."""

    images: Images
    frames: Float[np.ndarray, "n 2 3"]
    boxes: Float[np.ndarray, "n 4"]
    points: Float[np.ndarray, "n points 2"]
    visible: Bool[np.ndarray, "n points"]

    @property
    def size(self) -> int:
        return self.images.shape[1]


def cut_chip(
    image: Image, box: Float[np.ndarray, "4"], *, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "2 3"]]:
    """Cut the square of MARGIN times `box`'s larger side and bring it to `size` pixels; the edge is repeated outside.

    The square lies on whole pixels, so the returned frame (chip pixels to image pixels) is exact.
    """
    left, top, side = chip_squares(box[None])[0].tolist()
    within = _window(image, left, top, side)
    chip, frame = _resize_chip(within, size)
    frame[:, 2] += (left, top)
    return chip, frame


def chip_squares(boxes: Float[np.ndarray, "n 4"]) -> Int[np.ndarray, "n 3"]:
    """The squares that `cut_chip` cuts around `boxes`: left, top and side, in whole pixels."""
    low, high = boxes[:, :2], boxes[:, 2:]
    side = np.maximum(2, np.round(MARGIN * (high - low).max(1, keepdims=True)))
    corner = np.round((low + high + 1 - side) / 2)
    return np.concatenate([corner, side], axis=1).astype(np.int64)


def _resize_chip(
    square: UInt8[np.ndarray, "side side 3"], size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "2 3"]]:
    """The square at `size` pixels, and the frame from its pixels to the square's."""
    side = len(square)
    if side != size:
        interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        square = cv2.resize(square, (size, size), interpolation=interpolation)
    step = side / size
    shift = 0.5 * step - 0.5
    return square, np.array([[step, 0, shift], [0, step, shift]], np.float32)


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


def cut_chips(faces: FaceSet, *, size: int, workers: int = 2, held: Literal["pixels", "jpeg"] = "pixels") -> Chips:
    """Chips of all `faces`, read with `workers` threads. Of a packed set the crops are the chips, at another size.

    `held`="jpeg" holds them encoded: a tenth of the memory, and decoding at every use.

    Raises:
      InputError: a picture cannot be read, or its annotation lies too far outside it (it is named).
    """

    pixels = np.empty((len(faces) if held == "pixels" else 0, size, size, 3), np.uint8)
    records = [b""] * len(faces)

    def cut_one(index: int) -> np.ndarray:
        image = faces.picture(index)
        if faces.cropped:
            chip, frame = _resize_chip(image, size)
        else:
            _check_inside(faces.points[index], faces.visible[index], image, name=faces.picture_name(index))
            chip, frame = cut_chip(image, faces.boxes[index], size=size)
        if held == "pixels":
            pixels[index] = chip
        else:
            records[index] = encoded(chip)
        return frame

    frames = np.stack(_each(cut_one, range(len(faces)), workers))
    return Chips(
        images=pixels if held == "pixels" else JpegImages(records, size, size),
        frames=frames,
        boxes=to_chip(frames, faces.boxes.reshape(-1, 2, 2)).reshape(-1, 4),
        points=to_chip(frames, faces.points),
        visible=faces.visible,
    )


def joined(parts: Sequence[Chips]) -> Chips:
    """The chips of all `parts`, which are of one size and held alike, one after the other."""
    first, *others = parts
    if not others:
        return first
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("frames", "boxes", "points", "visible")
    }
    return Chips(images=_stacked([part.images for part in parts]), **arrays)


def _stacked(images: Sequence[Images]) -> Images:
    encoded_ones = [part for part in images if isinstance(part, JpegImages)]
    if len(encoded_ones) < len(images):
        return np.concatenate([np.asarray(part) for part in images])
    records = [record for part in encoded_ones for record in part.records]
    return dataclasses.replace(encoded_ones[0], records=records)


def _check_inside(
    points: Float[np.ndarray, "points 2"], visible: Bool[np.ndarray, "points"], image: Image, *, name: str
) -> None:
    """Refuse points meant for another picture or scale, and slips of the hand.

    A face cut by the picture's edge may have points outside, but fewer than half of them, and none further out than
    the median distance of the points from their middle (about a third of the face's side; a stray point hardly
    moves it).
    """
    height, width = image.shape[:2]
    outside = points_outside(points[None], visible[None], np.array([[width, height]]))[0]
    if not outside.any():
        return
    shown = points[visible]
    reach = np.median(np.linalg.norm(shown - np.median(shown, 0), axis=1))
    if outside.max() > reach or (outside > 0).sum() > visible.sum() / 2:
        worst = int(outside.argmax())
        raise InputError(
            f"{name}: point {worst + 1} of its annotation lies {outside[worst]:.0f} pixels outside the picture of "
            f"{width} x {height}: correct or remove the annotation"
        )


def points_outside(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], sizes: Int[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n points"]:
    """How many pixels each visible point lies outside its picture of `sizes` (width, height); 0 inside."""
    beyond = np.maximum(-0.5 - points, points - (sizes[:, None] - 0.5)).max(-1)
    return np.where(visible, np.maximum(beyond, 0), 0)


def to_chip(
    frames: Float[np.ndarray, "n 2 3"], points: Float[np.ndarray, "n points 2"]
) -> Float[np.ndarray, "n points 2"]:
    """Pixels of the picture to pixels of the chip (chips are never turned)."""
    return ((points - frames[:, None, :, 2]) / frames[:, None, :1, 0]).astype(np.float32)


def to_picture(
    frames: Float[np.ndarray, "n 2 3"], points: Float[np.ndarray, "n points 2"]
) -> Float[np.ndarray, "n points 2"]:
    """Pixels of the chip to pixels of the picture."""
    return (points * frames[:, :1, None, 0] + frames[:, None, :, 2]).astype(np.float32)


def _each(work: Callable, items: Sequence, workers: int) -> list:
    if workers <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


def shrink(chips: Chips, *, size: int) -> Chips:
    """The same chips at another size; their frames, boxes and points follow."""
    ratio = chips.size / size
    shift = 0.5 * ratio - 0.5  # in larger chip pixels, of the smaller chip's first pixel centre
    frames = chips.frames.copy()
    frames[:, :, 2] += shift * np.diagonal(chips.frames[:, :, :2], axis1=1, axis2=2)
    frames[:, :, :2] *= ratio
    return dataclasses.replace(
        chips,
        images=resized(chips.images, size),
        frames=frames,
        boxes=(chips.boxes - shift) / ratio,
        points=(chips.points - shift) / ratio,
    )


def resized(images: Images, size: int) -> Images:
    """Square images brought to `size` by area averaging."""
    if images.shape[1] == size:
        return images
    if isinstance(images, JpegImages):
        return images.at(size)
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])
