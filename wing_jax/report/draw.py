"""Draw landmarks on faces, cut tiles around faces and arrange them on contact sheets; all images are RGB uint8."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from wing_jax.geometry import crop_of_box, invert, larger_side, rescaling
from wing_jax.inference.drawing import PREDICTED, TARGET, Color, Lines, Shape, draw_points
from wing_jax.text import printable
from wing_jax.types import Image

Tile: TypeAlias = UInt8[np.ndarray, "tile_height tile_width 3"]

_PAPER: Color = (255, 255, 255)
_INK: Color = (52, 58, 68)
LARGEST_SHEET = 30_000  # pixels along a side of a contact sheet
MIN_BLUR_SCALE = 1 / 8  # tile pixels per picture pixel; below it, the picture is shrunk before it is blurred


def draw_pair(
    image: Image,
    target: Shape,
    predicted: Shape,
    *,
    lines: Lines = (),
    visible: Bool[np.ndarray, "points"] | None = None,
    radius: float = 1.6,
) -> Image:
    """Return a copy of `image` with the visible target points (blue) under all predicted points (yellow)."""
    image = draw_points(image, target, color=TARGET, lines=lines, visible=visible, radius=radius)
    return draw_points(image, predicted, color=PREDICTED, lines=lines, radius=radius)


def face_tile(
    image: Image, box: Float[Array | np.ndarray, "4"], *, size: int = 224, margin: float = 1.3
) -> tuple[Tile, Float[np.ndarray, "2 3"]]:
    """Cut a square tile of `size` pixels around `box`; return it and the affine from image to tile.

    The square's side is `margin` times the larger side of the box. Pixels beyond the image repeat its edge.

    Raises:
      ValueError: the box has no extent.
    """
    box = np.asarray(box, np.float64)
    side = margin * float(larger_side(box)[0])
    if not (np.isfinite(side) and side > 0):
        raise ValueError(f"the box {box.tolist()} is empty: pass x0 < x1 and y0 < y1")
    scale = size / side
    affine = np.asarray(invert(crop_of_box(box, size=size, margin=margin)))
    small, small_to_image = image, np.eye(3)
    if scale < MIN_BLUR_SCALE:  # a large blur is slow, so shrink by area averaging first
        height, width = image.shape[:2]
        sides = [max(1, round(side * scale / MIN_BLUR_SCALE)) for side in (width, height)]
        small = cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
        small_to_image[:2] = rescaling(np.array([width, height]) / sides)
    if scale < 1:  # avoids aliasing
        small = cv2.GaussianBlur(small, (0, 0), 0.4 / max(scale, MIN_BLUR_SCALE))
    options = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(small, (affine @ small_to_image), (size, size), **options), affine


def contact_sheet(
    tiles: Sequence[UInt8[np.ndarray, "_ _ 3"]], captions: Sequence[str] = (), *, columns: int = 4, gap: int = 12
) -> Image:
    """Arrange tiles of one size in rows of `columns` on white, each with its caption below.

    Raises:
      ValueError: there is no tile, the tiles differ in size, the number of captions differs, or as `sheet_size`.
    """
    if not len(tiles) or len({tile.shape for tile in tiles}) != 1:
        raise ValueError("a contact sheet needs at least one tile, and tiles of one size")
    if captions and len(captions) != len(tiles):
        raise ValueError(f"{len(captions)} captions for {len(tiles)} tiles: pass one caption for each tile")
    height, width, _ = tiles[0].shape
    caption_height = _caption_height(width) if captions else 0
    columns, step_x, step_y = min(columns, len(tiles)), width + gap, height + caption_height + gap
    sheet = np.full((*sheet_size(len(tiles), columns=columns, step=(step_x, step_y), gap=gap), 3), _PAPER, np.uint8)
    for number, tile in enumerate(tiles):
        left, top = gap + number % columns * step_x, gap + number // columns * step_y
        sheet[top : top + height, left : left + width] = tile
        if captions:
            _write_caption(sheet, captions[number], left, top + height + caption_height - 6, width)
    return sheet


def sheet_size(count: int, *, columns: int, step: tuple[int, int], gap: int = 12) -> tuple[int, int]:
    """Return (height, width) in pixels of a sheet of `count` tiles that are `step` (x, y) pixels apart.

    Raises:
      ValueError: `columns` is below 1, or the sheet would have more than `LARGEST_SHEET` pixels along a side.
    """
    if columns < 1:
        raise ValueError(f"columns={columns} must be at least 1")
    columns = min(columns, count)
    width, height = columns * step[0] + gap, -(-count // columns) * step[1] + gap
    if max(width, height) > LARGEST_SHEET:
        raise ValueError(
            f"{count:,} tiles in {columns:,} columns make a sheet of {width:,} x {height:,} pixels, more than "
            f"{LARGEST_SHEET:,} along a side: show fewer, or change the columns"
        )
    return height, width


def _caption_height(width: int) -> int:
    """Return the pixels below a tile of `width` for its caption."""
    return round(0.11 * width) + 8


def write_png(path: Path, image: Image) -> Path:
    """Write an RGB image as PNG and return its path."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.write_bytes(encoded.tobytes())
    return path


def _write_caption(sheet: np.ndarray, text: str, left: int, baseline: int, width: int) -> None:
    """Write `text` on `sheet` in place, scaled to the tile but never wider than it."""
    text = printable(text)  # OpenCV takes no lone surrogates
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, width / 420
    (extent, _), _ = cv2.getTextSize(text, font, scale, 1)
    scale *= min(1.0, width / max(extent, 1))
    cv2.putText(sheet, text, (left, baseline), font, scale, _INK, 1, cv2.LINE_AA)
