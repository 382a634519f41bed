"""Draw landmarks and boxes on pictures (RGB uint8)."""

import itertools
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.types import Image

Shape: TypeAlias = Float[Array | np.ndarray, "points 2"]
Lines: TypeAlias = Sequence[Sequence[int]]
Color: TypeAlias = tuple[int, int, int]

# Distinguishable on any skin, for color-blind readers, and by lightness in gray.
TARGET: Color = (86, 200, 255)
PREDICTED: Color = (255, 214, 10)
INVALID: Color = (190, 190, 190)
_OUTLINE: Color = (16, 20, 28)
_SHIFT = 4  # OpenCV draws at 2^-4 of a pixel


def draw_points(
    image: Image,
    points: Shape,
    *,
    color: Color = PREDICTED,
    lines: Lines = (),
    visible: Bool[np.ndarray, "points"] | None = None,
    strength: Float[np.ndarray, "points"] | None = None,
    radius: float = 1.6,
) -> Image:
    """Return a copy of `image` with `points` as dots of `radius` pixels, and thin `lines` (chains of indices).

    Points that are not visible or not finite, and their lines, are not drawn. `strength` is the opacity of each dot, 0
    to 1.
    """
    canvas = np.ascontiguousarray(image).copy()
    points = np.asarray(points, np.float64)
    drawable = np.isfinite(points[:, 0]) & np.isfinite(points[:, 1])
    if visible is not None:
        drawable &= visible
    fixed = np.round(np.where(drawable[:, None], points, 0).clip(-1e4, 1e4) * 2**_SHIFT).astype(np.int32)
    overlay, width = canvas.copy(), max(1, round(radius / 2))
    for start, stop in (pair for chain in lines for pair in itertools.pairwise(chain)):
        if drawable[start] and drawable[stop]:
            cv2.line(overlay, fixed[start].tolist(), fixed[stop].tolist(), color, width, cv2.LINE_AA, _SHIFT)
    canvas = cv2.addWeighted(overlay, 0.6, canvas, 0.4, 0)
    opacity = np.ones(len(points)) if strength is None else strength
    for size, ink in ((radius + 0.9, _OUTLINE), (radius, color)):
        for index in np.flatnonzero(drawable):
            _draw_dot(canvas, points[index], size, ink, opacity=float(opacity[index]))
    return canvas


def draw_box(image: Image, box: Float[Array | np.ndarray, "4"], *, color: Color = PREDICTED) -> Image:
    """Return a copy of `image` with the outline of `box` (x0, y0, x1, y1 in pixels); large boxes get wider lines."""
    canvas = np.ascontiguousarray(image).copy()
    box = np.asarray(box, np.float64)
    width = int(np.clip(round((box[2:] - box[:2]).max() / 150), 1, 4))
    fixed = np.round(box.clip(-1e4, 1e4) * 2**_SHIFT).astype(np.int32)
    for size, ink in ((width + 2, _OUTLINE), (width, color)):
        cv2.rectangle(canvas, fixed[:2].tolist(), fixed[2:].tolist(), ink, size, cv2.LINE_AA, _SHIFT)
    return canvas


def _draw_dot(canvas: np.ndarray, center: np.ndarray, radius: float, color: Color, *, opacity: float) -> None:
    """Draw an antialiased disc on `canvas` in place. cv2 draws small discs as diamonds."""
    height, width, _ = canvas.shape
    left, top = np.clip(np.floor(center - radius - 1), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(center + radius + 2), 0, (width, height)).astype(int)
    rows, columns = np.ogrid[top:bottom, left:right]
    coverage = np.clip(radius + 0.5 - np.hypot(columns - center[0], rows - center[1]), 0, 1)[..., None]
    patch = canvas[top:bottom, left:right]
    patch[:] = np.round(opacity * coverage * color + (1 - opacity * coverage) * patch)
