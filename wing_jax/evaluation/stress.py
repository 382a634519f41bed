"""Stress tests: a localizer on the same faces, rotated, with wrong boxes, and with degraded pixels."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from wing_jax.data.face_crops import FaceCrops, to_image
from wing_jax.evaluation.jitter import jitter_boxes
from wing_jax.evaluation.measurement import Measurement
from wing_jax.geometry import box_around, box_center, invert, larger_side, similarity, tight_box, transform
from wing_jax.types import Image

UNCHANGED = "unchanged"
Level: TypeAlias = float | int
Crops: TypeAlias = UInt8[np.ndarray, "n size size 3"]


class StressedFaces(NamedTuple):
    """Changed face crops.

    Args:
      images: RGB `[n, size, size, 3]`.
      boxes: x0, y0, x1, y1 in pixels of these images.
      to_face_crop: the affine `[2, 3]` from pixels of these images to pixels of the unchanged face crops; None: equal.
    """

    images: Crops
    boxes: Float[np.ndarray, "n 4"]
    to_face_crop: Float[np.ndarray, "2 3"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stress:
    """One change of the faces, at several levels.

    Args:
      name: the name in tables.
      unit: the unit of the levels, appended to the numbers.
      levels: from mild to severe.
      apply: returns the changed faces, from the face crops, a level and a random generator.
      about: what a level means, for the documentation and the notes of tables.
    """

    name: str
    unit: str
    levels: tuple[Level, ...]
    apply: Callable[[FaceCrops, Level, np.random.Generator], StressedFaces]
    about: str

    def label(self, level: Level) -> str:
        """Return the name with the level: "rotation 45°"."""
        return f"{self.name} {level:g}{self.unit}" if self.unit or len(self.levels) > 1 else self.name


class StressResult(NamedTuple):
    """The measurement of the last stage at one level of a change; `level` is None for the unchanged faces."""

    name: str
    level: Level | None
    unit: str
    measurement: Measurement

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: the change, its level, the metric, mean, median, AUC and failures."""
        change = {"change": self.name, "level": self.level, "level_unit": self.unit}
        metric = {"metric": self.measurement.metric, "unit": self.measurement.unit}
        return {**change, **metric, **self.measurement.statistics()}


def rotate(crops: FaceCrops, degrees: Level, random: np.random.Generator) -> StressedFaces:
    """Rotate the pictures clockwise around the centers of the face crops; the boxes follow the rotated points.

    Corners of the rotated square repeat the edge. A box keeps its sides' distances from the points.

    >>> from wing_jax.data.face_crops import crop_faces
    >>> from wing_jax.data.load import load_faces
    >>> crops = crop_faces(load_faces("synthetic", "test", count=1), size=64)
    >>> upside_down = rotate(crops, 180.0, np.random.default_rng(0))
    >>> bool((upside_down.images == crops.images[:, ::-1, ::-1]).all())
    True
    """
    del random
    middle = np.full(2, (crops.size - 1) / 2, np.float32)
    turn = np.array(similarity(degrees=float(degrees)))
    turn[:, 2] = middle - turn[:, :2] @ middle  # from pixels of the face crop to pixels of the rotated one
    options = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    rotated = _each(crops, lambda image: cv2.warpAffine(image, turn, image.shape[:2], **options))
    turns = np.broadcast_to(turn, (len(crops.points), 2, 3))
    distances = crops.boxes - tight_box(crops.points, crops.visible)
    boxes = tight_box(transform(turns, crops.points), crops.visible) + np.where(np.isfinite(distances), distances, 0)
    centers = transform(turns, box_center(crops.boxes)[:, None])[:, 0]
    unannotated = box_around(centers, larger_side(crops.boxes))
    boxes = np.where(crops.visible.any(1, keepdims=True), boxes, unannotated)
    return StressedFaces(rotated, boxes.astype(np.float32), np.asarray(invert(turn)))


def move_boxes(crops: FaceCrops, percent: Level, random: np.random.Generator) -> StressedFaces:
    """Move each box and change its size, both by up to `percent` of its larger side (`jitter_boxes`)."""
    boxes = jitter_boxes(crops.boxes, fraction=percent / 100, seed=int(random.integers(2**31)))
    return StressedFaces(_each(crops, lambda image: image), boxes)


def shrink(crops: FaceCrops, pixels: Level, random: np.random.Generator) -> StressedFaces:
    """Reduce each picture so that the larger side of the box is `pixels`; smaller ones stay as they are."""
    del random

    def shrink_one(image: Image, side: float) -> Image:
        small = round(len(image) * pixels / side)
        if small >= len(image):
            return image
        reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        return cv2.resize(reduced, image.shape[:2], interpolation=cv2.INTER_LINEAR)

    return StressedFaces(_each_with_side(crops, shrink_one), crops.boxes)


def scale_light(crops: FaceCrops, factor: Level, random: np.random.Generator) -> StressedFaces:
    """Multiply the pixels by `factor`, and clip them."""
    del random
    return StressedFaces(_each(crops, lambda image: cv2.convertScaleAbs(image, alpha=factor)), crops.boxes)


def add_noise(crops: FaceCrops, deviation: Level, random: np.random.Generator) -> StressedFaces:
    """Add normal noise of this standard deviation (of 255) to each channel of each pixel."""

    def add_one(image: Image) -> Image:
        noise = random.standard_normal(image.shape, np.float32) * deviation
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)

    return StressedFaces(_each(crops, add_one), crops.boxes)


def blur(crops: FaceCrops, percent: Level, random: np.random.Generator) -> StressedFaces:
    """Blur with a Gaussian whose standard deviation is `percent` of the box side."""
    del random
    blurred = _each_with_side(crops, lambda image, side: cv2.GaussianBlur(image, (0, 0), side * percent / 100))
    return StressedFaces(blurred, crops.boxes)


def compress(crops: FaceCrops, quality: Level, random: np.random.Generator) -> StressedFaces:
    """Encode the face crops as JPEG of this quality."""
    del random

    def compress_one(image: Image) -> Image:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))

    return StressedFaces(_each(crops, compress_one), crops.boxes)


def occlude(crops: FaceCrops, percent: Level, random: np.random.Generator) -> StressedFaces:
    """Cover a square of `percent` of the box side, of one random color, with its center at random within the box."""

    def cover(image: Image, box: Float[np.ndarray, "4"]) -> Image:
        center, half = random.uniform(box[:2], box[2:]), (box[2:] - box[:2]).max() * percent / 200
        low, high = (np.clip(np.rint(center + sign * half), 0, len(image)).astype(int) for sign in (-1, 1))
        covered = image.copy()
        covered[low[1] : high[1], low[0] : high[0]] = random.integers(0, 256, 3)
        return covered

    images = [cover(crops.images[index], box) for index, box in enumerate(crops.boxes)]
    return StressedFaces(np.stack(images), crops.boxes)


def remove_color(crops: FaceCrops, share: Level, random: np.random.Generator) -> StressedFaces:
    """Replace `share` (0 to 1) of each pixel's color by its gray value."""
    del random

    def remove_one(image: Image) -> Image:
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return cv2.addWeighted(gray, share, image, 1 - share, 0)

    return StressedFaces(_each(crops, remove_one), crops.boxes)


STRESSES: tuple[Stress, ...] = (
    Stress(
        name="rotation", unit="°", levels=(15, 30, 45, 60, 90, 135, 180), apply=rotate,
        about="the picture is rotated clockwise; the boxes follow the points",
    ),
    Stress(
        name="box error", unit=" %", levels=(10, 20, 30), apply=move_boxes,
        about="boxes are moved and resized, uniformly up to this part of their side",
    ),
    Stress(name="face size", unit=" px", levels=(64, 48, 32, 24, 16), apply=shrink, about="the larger side of the box"),
    Stress(name="dark", unit=" times", levels=(0.5, 0.25, 0.1), apply=scale_light, about="factor of the pixels"),
    Stress(
        name="bright", unit=" times", levels=(1.5, 2, 4), apply=scale_light,
        about="factor of the pixels, which are clipped",
    ),
    Stress(name="noise", unit=" of 255", levels=(10, 20, 40), apply=add_noise, about="standard deviation"),
    Stress(name="blur", unit=" %", levels=(1, 2, 4), apply=blur, about="standard deviation, of the box side"),
    Stress(name="JPEG quality", unit="", levels=(50, 20, 10, 5), apply=compress, about="of the face crop"),
    Stress(
        name="occlusion", unit=" %", levels=(20, 40, 60), apply=occlude,
        about="the side of a square of one color within the face, of the box side",
    ),
    Stress(name="gray", unit="", levels=(1,), apply=remove_color, about="without color"),
)  # fmt: skip


def stress_points(
    locate: Callable[[Crops, Float[np.ndarray, "n 4"]], Sequence[Float[np.ndarray, "n points 2"]]],
    crops: FaceCrops,
    stress: Stress,
    level: Level,
    *,
    seed: int,
) -> Float[np.ndarray, "n points 2"]:
    """Return the points after the last stage, in pixels of the unchanged pictures.

    The random numbers depend only on `seed`, the change and the level.
    """
    key = [seed, *stress.name.encode(), round(1000 * level)]
    faces = stress.apply(crops, level, np.random.default_rng(key))
    points = np.asarray(locate(faces.images, faces.boxes)[-1])
    if faces.to_face_crop is not None:
        points = np.asarray(transform(np.broadcast_to(faces.to_face_crop, (len(points), 2, 3)), points))
    return to_image(crops.crop_to_image, points)


def _each(crops: FaceCrops, change: Callable[[Image], Image]) -> Crops:
    return np.stack([change(crops.images[index]) for index in range(len(crops.points))])


def _each_with_side(crops: FaceCrops, change: Callable[[Image, float], Image]) -> Crops:
    sides = larger_side(crops.boxes)[:, 0].tolist()
    return np.stack([change(crops.images[index], side) for index, side in enumerate(sides)])
