"""Check the boxes that users pass."""

import numpy as np
from jaxtyping import Float

from wing_jax.data.arguments import EXPECTED_BOXES, BoxesLike, as_boxes, as_image
from wing_jax.data.boxes import valid_boxes
from wing_jax.data.limits import LARGEST_BOX, format_ratio
from wing_jax.errors import InputError
from wing_jax.types import Image


def check_boxes(boxes: BoxesLike, image: Image, *, name: str = "the boxes") -> Float[np.ndarray, "faces 4"]:
    """Convert `boxes` (`wing_jax.data.arguments.as_boxes`) to float32 `[faces, 4]` and check them; messages use `name`.

    Raises:
      InputError: the image is not RGB uint8, or a box is not four numbers, empty, not finite, completely outside the
        image or more than `LARGEST_BOX` times as large as the image.
    """
    image, boxes = as_image(image), as_boxes(boxes, name=name)
    owner = name.removeprefix("the boxes")
    height, width = image.shape[:2]
    for box in boxes[~valid_boxes(boxes, width=width, height=height)]:
        numbers = " ".join(f"{value:.7g}" for value in box)
        sides = box[2:].astype(np.float64) - box[:2]
        if np.isfinite(box).all() and sides.max() > LARGEST_BOX * max(width, height):
            raise InputError(
                f"the box {numbers}{owner} is {format_ratio(sides.max() / max(width, height))} times as large as the "
                f"image of {width} x {height} pixels: pass the box of a face, at most {LARGEST_BOX:g} times as large"
            )
        if np.isfinite(box).all() and (sides >= 2).all():
            raise InputError(
                f"the box {numbers}{owner} is outside the image of {width} x {height} pixels: pass x0 y0 x1 y1 "
                f"in pixels of this image"
            )
        raise InputError(f"the box {numbers}{owner} is empty or not finite: {EXPECTED_BOXES}, with x1 > x0 and y1 > y0")
    return boxes
