"""Check that an annotation fits its picture. `wing-jax data check` and all functions that crop faces use these rules.

A face is rejected if its picture has another size than its annotation file states, if its box is many times larger than
the picture, entirely outside it or smaller than two pixels, or if its points are far outside. Each `*_fault` function
returns what is wrong, as the end of a message, or "" if nothing is wrong.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

LARGEST_BOX = 10.0  # the larger side of a box is at most this many times the larger side of the picture
SMALLEST_BOX = 2.0  # pixels: the larger side of a box is at least this large
LARGEST_COORDINATE = 1e8  # pixels: beyond any picture (`images.LARGEST_PICTURE`), far below the limit of float32
ROUNDING = 1  # pixels by which the annotated and the actual size may differ
FIX = "correct or remove the annotation"


def face_fault(
    points: Float[np.ndarray, "points 2"],
    visible: Bool[np.ndarray, "points"],
    box: Float[np.ndarray, "4"],
    *,
    width: int,
    height: int,
) -> str:
    """Describe what is wrong with the points or the box of a face in a picture of `width` x `height`; "" if nothing."""
    return points_fault(points, visible, width=width, height=height) or box_fault(box, width=width, height=height)


def size_fault(annotated: Int[np.ndarray, "2"] | None, *, width: int, height: int) -> str:
    """Describe the difference between the picture's size and the size in the annotation file; (0, 0): not stated."""
    if annotated is None or not annotated.all() or same_size(annotated, (width, height)):
        return ""
    swapped = same_size(annotated, (height, width))
    reason = "width and height swapped, by a tool that ignores the EXIF rotation?" if swapped else "resized?"
    return (
        f"is {width:,} x {height:,} pixels, but its annotation file says {annotated[0]:,} x {annotated[1]:,}: {reason} "
        "to convert its points pass --picture_size rescale (for training --data.picture_size rescale)"
    )


def same_size(left: Int[np.ndarray, "2"] | tuple[int, int], right: Int[np.ndarray, "2"] | tuple[int, int]) -> bool:
    """Return whether two sizes (width, height) are equal except for rounding."""
    return bool(np.abs(np.subtract(left, right)).max() <= ROUNDING)


def box_fault(box: Float[np.ndarray, "4"], *, width: int, height: int) -> str:
    """Describe what is wrong with the box: empty, tiny, entirely outside the picture or many times larger."""
    left, top, right, bottom = (float(value) for value in box)
    side = max(right - left, bottom - top)
    text = f"its box {' '.join(f'{value:.7g}' for value in box)} (x0 y0 x1 y1)"
    if not (np.isfinite((left, top, right, bottom)).all() and side >= SMALLEST_BOX):
        return f"{text} is smaller than {SMALLEST_BOX:g} pixels: {FIX}"
    if side > LARGEST_BOX * max(width, height):
        times = format_ratio(side / max(width, height))
        return f"{text} is {times} times as large as the picture of {width} x {height}, at most {LARGEST_BOX:g}: {FIX}"
    if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
        return f"{text} is outside the picture of {width} x {height}: {FIX}"
    return ""


def outside_boxes(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], boxes: Float[np.ndarray, "n 4"]
) -> Bool[np.ndarray, "n"]:
    """Return the faces with no point inside their box.

    One may be a mistake; if it is most faces, points and boxes are in different units.
    """
    low, high = boxes[:, None, :2] - ROUNDING, boxes[:, None, 2:] + ROUNDING
    return ~np.any(np.all((points >= low) & (points <= high), axis=-1) & visible, axis=1)


def format_ratio(times: float) -> str:
    """Format `times` with enough digits to differ from `LARGEST_BOX`.

    >>> format_ratio(10.04), format_ratio(1953.1), format_ratio(1.95e27)
    ('10.1', '1,953', '2e+27')
    """
    if times >= 1e9:
        return f"{times:.0e}"
    return f"{times:,.0f}" if times >= 100 else f"{math.ceil(10 * times) / 10:g}"


def points_fault(
    points: Float[np.ndarray, "points 2"], visible: Bool[np.ndarray, "points"], *, width: int, height: int
) -> str:
    """Describe what is wrong with the points: of another picture or scale, or one of them far off.

    A face at the picture's edge may have points outside, but fewer than half of them, and none further out than the
    median distance of the points from their median (about a third of the face's side; one wrong point hardly changes
    it).
    """
    points = points.astype(np.float64)
    outside = points_outside(points[None], visible[None], np.array([[width, height]]))[0]
    if not outside.any():
        return ""
    shown = points[visible]
    reach = np.median(np.linalg.norm(shown - np.median(shown, 0), axis=1))
    if outside.max() > reach or (outside > 0).sum() > visible.sum() / 2:
        worst = int(outside.argmax())
        return (
            f"point {worst + 1} of its annotation is {outside[worst]:.0f} pixels outside the picture of "
            f"{width} x {height}: {FIX}"
        )
    return ""


def points_outside(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], sizes: Int[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n points"]:
    """Return how many pixels each visible point is outside its picture of `sizes` (width, height); 0 inside."""
    distances = np.maximum(-0.5 - points, points - (sizes[:, None] - 0.5)).max(-1)
    return np.where(visible, np.maximum(distances, 0), 0)
