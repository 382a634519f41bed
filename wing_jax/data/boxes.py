"""Face boxes by named rules. A model works best on boxes of the convention that it was trained with.

Each reader returns the boxes of its data set ("given"): AFLW's square of the annotators, WFLW's rectangle, COFW's and
COCO's x y w h. A set without boxes gets the tight box of the points ("landmarks"), which 300-W's papers call the ground
truth box. Boxes are x0, y0, x1, y1 in 0-based pixel centers (`wing_jax.types`).
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from wing_jax import geometry
from wing_jax.data.face_crops import FaceCrops
from wing_jax.data.face_set import FaceSet
from wing_jax.data.limits import LARGEST_BOX
from wing_jax.data.readers.mtfl import box_of_five_points
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5, get_conversion
from wing_jax.text import quoted

RULES = {
    "given": "the boxes of the data set",
    "landmarks": "the tight box of the points that have a position",
    "square": "the data set's box as a square: the same center, the larger side",
    "square landmarks": "the tight box as a square",
    "enlarged": "the data set's box enlarged by a quarter about its center, as the paper's author does for WFLW",
    "detector": "the boxes of iBUG's detector, published with 300-W; only for 300-W",
    "mtfl": "a square computed from eyes, nose and mouth corners, as this package does for MTFL",
}
ENLARGED = 1.25  # github.com/FengZhenhua/Wing-Loss, issue 15


def with_boxes(faces: FaceSet, rule: str) -> FaceSet:
    """Return `faces` with boxes by `rule`, a key of `RULES`; any rule but "given" is recorded in `box_convention`.

    Raises:
      InputError: the rule is unknown, or needs points that the scheme does not have.
    """
    if rule == "given" or (rule == "detector" and faces.box_convention == "300w-detector"):
        return faces
    if rule == "detector":
        raise InputError(f"{faces.name}: boxes='detector' exist only for 300-W: use another rule, such as 'landmarks'")
    if rule not in RULES:
        raise InputError(f"boxes={quoted(rule)}: use one of {', '.join(RULES)}")
    if rule == "landmarks":
        boxes = np.asarray(geometry.tight_box(faces.points, faces.visible))
    elif rule == "square":
        boxes = square_boxes(faces.boxes)
    elif rule == "square landmarks":
        boxes = square_boxes(np.asarray(geometry.tight_box(faces.points, faces.visible)))
    elif rule == "enlarged":
        boxes = scale_boxes(faces.boxes, factor=ENLARGED)
    else:
        boxes = _boxes_of_five_points(faces)
    convention = f"{faces.box_convention} {rule}" if rule in ("square", "enlarged") else rule
    return dataclasses.replace(faces, boxes=boxes.astype(np.float32), box_convention=convention)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeInBox:
    """Position and size of the mean shape's box in the face boxes, in units of their larger sides.

    It identifies a convention of boxes.
    """

    center: tuple[float, float]  # (x, y) relative to the face box's center
    side: float  # the larger side


def shape_in_box(faces: FaceSet | FaceCrops) -> ShapeInBox:
    """Measure `ShapeInBox` on `faces`, by visible points only."""
    return shape_in_boxes(faces.points, faces.visible, faces.boxes)


def shape_in_boxes(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], boxes: Float[np.ndarray, "n 4"]
) -> ShapeInBox:
    """Measure `ShapeInBox` on any points and boxes, in the same pixels."""
    transforms = geometry.crop_of_box(boxes, size=1)  # one pixel: 0 is the center, 1 is one side away
    inside = np.asarray(geometry.transform(geometry.invert(transforms), points))
    mean = np.ma.masked_array(inside, np.broadcast_to(~visible[..., None], inside.shape)).mean(0)
    box = np.asarray(geometry.tight_box(mean.filled(np.nan)))
    x, y = np.round(geometry.box_center(box), 4).tolist()
    return ShapeInBox(center=(x, y), side=round(float(geometry.larger_side(box)[0]), 4))


def shape_spread(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], boxes: Float[np.ndarray, "n 4"]
) -> tuple[float, float, float]:
    """Return how much the position and size of faces in their boxes vary.

    These are the standard deviations of the center of the shape's box along x and y, in sides of the face's box, and of
    the logarithm of its larger side.
    """
    transforms = geometry.crop_of_box(boxes, size=1)
    inside = np.asarray(geometry.transform(geometry.invert(transforms), points))
    shapes = geometry.tight_box(inside, visible)
    x, y = geometry.box_center(shapes).std(0).tolist()
    return x, y, float(np.log(geometry.larger_side(shapes)).std())


def boxes_of_shapes(shapes: Float[np.ndarray, "n points 2"], shape: ShapeInBox) -> Float[np.ndarray, "n 4"]:
    """Return square boxes around `shapes` by the convention measured as `shape`, on average."""
    tight_boxes = geometry.tight_box(shapes)
    side = geometry.larger_side(tight_boxes) / shape.side
    center = geometry.box_center(tight_boxes) - side * np.array(shape.center)
    return np.asarray(geometry.box_around(center, side), np.float32)


def convert_boxes(
    boxes: Float[np.ndarray, "n 4"], *, source: ShapeInBox, target: ShapeInBox
) -> Float[np.ndarray, "n 4"]:
    """Convert boxes of the convention measured as `source` to the one measured as `target`.

    All boxes are scaled by the same factor and moved by the same fraction of their sides; only the boxes are used.
    """
    side = geometry.larger_side(boxes)
    factor = source.side / target.side
    shift = np.array(source.center) - factor * np.array(target.center)
    return scale_boxes(boxes + np.tile(shift, 2) * side, factor=factor).astype(np.float32)


def square_boxes(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Return squares with the same centers and the larger sides."""
    return np.asarray(geometry.box_around(geometry.box_center(boxes), geometry.larger_side(boxes)))


def scale_boxes(boxes: Float[np.ndarray, "n 4"], *, factor: float) -> Float[np.ndarray, "n 4"]:
    """Return boxes with the same centers, `factor` times as wide and high."""
    return np.asarray(geometry.box_around(geometry.box_center(boxes), factor * (boxes[:, 2:] - boxes[:, :2])))


def valid_boxes(boxes: Float[np.ndarray, "n 4"], *, width: int, height: int) -> Bool[np.ndarray, "n"]:
    """Return which boxes are valid for a picture.

    They are finite, at least two pixels wide and high, not entirely outside the picture and at most
    `limits.LARGEST_BOX` times as large as it.
    """
    finite = np.isfinite(boxes).all(1, keepdims=True)
    boxes = np.where(finite, boxes.astype(np.float64), 0)  # the size of a box that is not finite becomes 0
    sides = boxes[:, 2:] - boxes[:, :2]
    right_size = (sides >= 2).all(1) & (sides <= LARGEST_BOX * max(width, height)).all(1)
    return right_size & (boxes[:, 2:] >= 0).all(1) & (boxes[:, 0] <= width - 1) & (boxes[:, 1] <= height - 1)


def overlap(boxes: Float[np.ndarray, "n 4"], box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "n"]:
    """Return the intersection over union of each of `boxes` with `box`."""
    intersection = np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0).prod(1)
    return intersection / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - intersection)


def _boxes_of_five_points(faces: FaceSet) -> Float[np.ndarray, "n 4"]:
    try:
        conversion = get_conversion(faces.scheme, MTFL_5)
    except ValueError as error:
        raise InputError(f"boxes='mtfl' needs eyes, nose and mouth corners: {error}") from error
    visible = conversion.visible(faces.visible)
    if not visible.all():
        face = int(np.argmin(visible.all(1)))
        raise InputError(
            f"{faces.picture_name(face)}: boxes='mtfl' needs all five points, but some are hidden: use another rule"
        )
    return box_of_five_points(conversion.points(faces.points))
