"""Random faces for the writers: pictures of noise with points on them."""

import dataclasses

import cv2
import numpy as np

from wing_jax.schemes import Scheme
from wing_jax.types import Image


@dataclasses.dataclass(frozen=True)
class SmallFace:
    """A picture and its annotation, in 0-based pixel centers."""

    image: Image
    points: np.ndarray  # float32 [points, 2]
    box: np.ndarray  # float32 x0, y0, x1, y1: a square around the points


def small_faces(scheme: Scheme, count: int, *, seed: int = 0, width: int = 96, height: int = 80) -> list[SmallFace]:
    """Make `count` faces of `scheme` on pictures of `width` x `height` pixels, all different, equal for equal seeds."""
    random = np.random.default_rng(seed)
    return [_small_face(scheme, random, width, height) for _ in range(count)]


def _small_face(scheme: Scheme, random: np.random.Generator, width: int, height: int) -> SmallFace:
    grain = random.integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
    center, side = np.array([width, height]) / 2 + random.uniform(-4, 4, 2), random.uniform(0.5, 0.6) * height
    points = (center + side * random.uniform(-0.45, 0.45, (scheme.points, 2))).astype(np.float32)
    box = np.concatenate([center - side / 2, center + side / 2]).astype(np.float32)
    return SmallFace(image, points, box)
