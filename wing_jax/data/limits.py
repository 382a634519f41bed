"""What an annotation must be for its picture: one set of rules for `wing-jax data check` and for all that cuts faces.

A face is refused where its picture has another size than its annotation file says, where its box is many times the
picture, wholly outside it or smaller than two pixels, or where its points lie far outside. Each function returns what
is wrong, as the end of a message, or "" where nothing is.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

LARGEST_BOX = 10.0  # larger sides of the picture: the larger side of a box is at most so many
SMALLEST_BOX = 2.0  # pixels: the larger side of a box is at least so many
LARGEST_COORDINATE = (
    1e8  # pixels: beyond any picture (`images.LARGEST_PICTURE`), and far from what float32 overflows at
)
ROUNDING = 1  # pixels by which a told and a real side may differ
FIX = "correct or remove the annotation"


def face_fault(
    points: Float[np.ndarray, "points 2"],
    visible: Bool[np.ndarray, "points"],
    box: Float[np.ndarray, "4"],
    *,
    width: int,
    height: int,
) -> str:
    """What is wrong with the points or the box of a face in a picture of `width` x `height`."""
    return points_fault(points, visible, width=width, height=height) or box_fault(box, width=width, height=height)


def size_fault(told: Int[np.ndarray, "2"] | None, *, width: int, height: int) -> str:
    """Whether the picture has another size than the annotation file says; (0, 0) is not said."""
    if told is None or not told.all() or same_size(told, (width, height)):
        return ""
    exchanged = same_size(told, (height, width))
    reason = "sides exchanged, as by a tool that ignores the EXIF rotation?" if exchanged else "resized?"
    return (
        f"is {width:,} x {height:,} pixels, its annotation file says {told[0]:,} x {told[1]:,}: {reason} to move its "
        "points into the picture give --picture_size rescale (in a training --data.picture_size rescale)"
    )


def same_size(one: Int[np.ndarray, "2"] | tuple[int, int], other: Int[np.ndarray, "2"] | tuple[int, int]) -> bool:
    """Whether two sizes (width, height) differ by no more than rounding."""
    return bool(np.abs(np.subtract(one, other)).max() <= ROUNDING)


def box_fault(box: Float[np.ndarray, "4"], *, width: int, height: int) -> str:
    """Whether the box is no box that a face can be cut by: empty, tiny, wholly outside or many times the picture."""
    left, top, right, bottom = (float(value) for value in box)
    side = max(right - left, bottom - top)
    said = f"its box {' '.join(f'{value:.7g}' for value in box)} (x0 y0 x1 y1)"
    if not (np.isfinite((left, top, right, bottom)).all() and side >= SMALLEST_BOX):
        return f"{said} is smaller than {SMALLEST_BOX:g} pixels: {FIX}"
    if side > LARGEST_BOX * max(width, height):
        times = many(side / max(width, height))
        return f"{said} is {times} times as large as the picture of {width} x {height}, at most {LARGEST_BOX:g}: {FIX}"
    if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
        return f"{said} lies outside the picture of {width} x {height}: {FIX}"
    return ""


def apart(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], boxes: Float[np.ndarray, "n 4"]
) -> Bool[np.ndarray, "n"]:
    """The faces of which no point lies in the box. One may be a slip; where most are, points and boxes are not in the
    same units."""
    low, high = boxes[:, None, :2] - ROUNDING, boxes[:, None, 2:] + ROUNDING
    return ~np.any(np.all((points >= low) & (points <= high), axis=-1) & visible, axis=1)


def many(times: float) -> str:
    """`times` in words that can be told from `LARGEST_BOX`.

    >>> many(10.04), many(1953.1), many(1.95e27)
    ('10.1', '1,953', '2e+27')
    """
    if times >= 1e9:
        return f"{times:.0e}"
    return f"{times:,.0f}" if times >= 100 else f"{math.ceil(10 * times) / 10:g}"


def points_fault(
    points: Float[np.ndarray, "points 2"], visible: Bool[np.ndarray, "points"], *, width: int, height: int
) -> str:
    """Whether the points are meant for another picture or scale, or one is a slip of the hand.

    A face cut by the picture's edge may have points outside, but fewer than half of them, and none further out than
    the median distance of the points from their middle (about a third of the face's side; a stray point hardly
    moves it).
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
            f"point {worst + 1} of its annotation lies {outside[worst]:.0f} pixels outside the picture of "
            f"{width} x {height}: {FIX}"
        )
    return ""


def points_outside(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], sizes: Int[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n points"]:
    """How many pixels each visible point lies outside its picture of `sizes` (width, height); 0 inside."""
    beyond = np.maximum(-0.5 - points, points - (sizes[:, None] - 0.5)).max(-1)
    return np.where(visible, np.maximum(beyond, 0), 0)
