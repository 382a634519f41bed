"""The normalizers: functions of each face's length in pixels that its errors are divided by.

The default thresholds of AUC and failure rate are the usual ones: 0.1 for the eyes (WFLW, COFW), 0.07 for boxes
(LUVLi, CVPR 2020).
"""

import numpy as np

from wing_jax.evaluation.measures import Boxes, PerFace, Points, Visible, all_or, or_nan
from wing_jax.evaluation.registry import Eyes, register_normalizer

NORMALIZERS = ("inter-ocular", "inter-pupil", "box-diagonal", "box-size", "landmark-box-size")  # all below


@register_normalizer(name="inter-ocular", threshold=0.1)
def inter_ocular(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Return the distance in pixels between the outer eye corners (the 300-W normalizer); NaN if one is not visible.

    Args:
      points: the annotated points `[faces, points, 2]`, (x, y) in pixels of the images.
      boxes: the data set's boxes `[faces, 4]`, x0, y0, x1, y1 in the same pixels.
      eyes: which points are the eyes.
      visible: bool `[faces, points]`, the points to include; None for all.

    Returns:
      `[faces]`, pixels, float64.

    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> inter_ocular(true, np.float32([[20, 20, 80, 100]]), Eyes((0,), (1,), 0, 1)).round(2).tolist()
    [40.0]
    """
    corners = [eyes.left_outer, eyes.right_outer]
    difference = np.diff(np.asarray(points, np.float64)[:, corners], axis=1)[:, 0]
    return or_nan(np.linalg.norm(difference, axis=-1), all_or(visible, points)[:, corners].all(-1))


@register_normalizer(name="inter-pupil", threshold=0.1)
def inter_pupil(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Return the distance in pixels between the eyes' centers; NaN if a point of the eyes is not visible.

    A center is the mean of all points of the eye. This is the paper's normalizer on 300-W (with 6 points for each eye)
    and MTFL's (with one point for each eye). On 300-W it is about 0.71 of the inter-ocular distance, so NMEs by it are
    about 1.4 times as large.

    Args:
      points: the annotated points `[faces, points, 2]`, (x, y) in pixels of the images.
      boxes: the data set's boxes `[faces, 4]`, x0, y0, x1, y1 in the same pixels.
      eyes: which points are the eyes.
      visible: bool `[faces, points]`, the points to include; None for all.

    Returns:
      `[faces]`, pixels, float64.

    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> inter_pupil(true, np.float32([[20, 20, 80, 100]]), Eyes((0,), (1,), 0, 1)).round(2).tolist()
    [40.0]
    """
    points, left, right = np.asarray(points, np.float64), list(eyes.left), list(eyes.right)
    difference = points[:, right].mean(1) - points[:, left].mean(1)
    return or_nan(np.linalg.norm(difference, axis=-1), all_or(visible, points)[:, left + right].all(-1))


@register_normalizer(name="box-diagonal", threshold=0.07)
def box_diagonal(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Return the diagonal in pixels of the given face box; NaN if it has no area.

    Args:
      points: the annotated points `[faces, points, 2]`, (x, y) in pixels of the images.
      boxes: the data set's boxes `[faces, 4]`, x0, y0, x1, y1 in the same pixels.
      eyes: which points are the eyes.
      visible: bool `[faces, points]`, the points to include; None for all.

    Returns:
      `[faces]`, pixels, float64.

    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> box_diagonal(true, np.float32([[20, 20, 80, 100]]), Eyes((0,), (1,), 0, 1)).round(2).tolist()
    [100.0]
    """
    sides = _sides(boxes)
    return or_nan(np.hypot(sides[:, 0], sides[:, 1]), (sides > 0).all(-1))


@register_normalizer(name="box-size", threshold=0.07)
def box_size(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Return sqrt(width * height) in pixels of the given face box; NaN if it has no area.

    With the data set's boxes this is the "face size" by which the paper normalizes AFLW, as SAN computes it
    (https://github.com/D-X-Y/landmark-detection); AFLW's face rectangles are squares, so it is their side.

    Args:
      points: the annotated points `[faces, points, 2]`, (x, y) in pixels of the images.
      boxes: the data set's boxes `[faces, 4]`, x0, y0, x1, y1 in the same pixels.
      eyes: which points are the eyes.
      visible: bool `[faces, points]`, the points to include; None for all.

    Returns:
      `[faces]`, pixels, float64.

    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> box_size(true, np.float32([[20, 20, 80, 100]]), Eyes((0,), (1,), 0, 1)).round(2).tolist()
    [69.28]
    """
    sides = _sides(boxes)
    return or_nan(np.sqrt(np.maximum(sides, 0).prod(-1)), (sides > 0).all(-1))


@register_normalizer(name="landmark-box-size", threshold=0.07)
def landmark_box_size(points: Points, boxes: Boxes, eyes: Eyes, visible: Visible | None = None) -> PerFace:
    """Return sqrt(width * height) in pixels of the tight box of the visible true points; NaN if it has no area.

    Use it for data without face boxes. A detector's box is larger than the box of the landmarks, so this is smaller
    than `box_size` and NMEs by it are larger: do not compare the two.

    Args:
      points: the annotated points `[faces, points, 2]`, (x, y) in pixels of the images.
      boxes: the data set's boxes `[faces, 4]`, x0, y0, x1, y1 in the same pixels.
      eyes: which points are the eyes.
      visible: bool `[faces, points]`, the points to include; None for all.

    Returns:
      `[faces]`, pixels, float64.

    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> landmark_box_size(true, np.float32([[20, 20, 80, 100]]), Eyes((0,), (1,), 0, 1)).round(2).tolist()
    [40.0]
    """
    points, shown = np.asarray(points, np.float64), all_or(visible, points)[..., None]
    low, high = np.where(shown, points, np.inf).min(1), np.where(shown, points, -np.inf).max(1)
    return box_size(points, np.concatenate([low, high], axis=-1), eyes)


def _sides(boxes: Boxes) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    return boxes[:, 2:] - boxes[:, :2]
