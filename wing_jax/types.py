"""Array types and THE coordinate convention, used everywhere in wing_jax.

Points are (x, y), float32, counted from 0 at the *center* of the top-left pixel: an image of width W spans
x from -0.5 to W - 0.5. Images are RGB, channels last, rows first. Boxes are x0, y0, x1, y1 in the same
coordinates. Angles are degrees; a positive rotation turns x towards y, i.e. clockwise as seen on a screen;
yaw > 0 turns the nose to the right of the image.

An *affine* is a 2 x 3 matrix [A | t] that sends a point p to A p + t. A *frame* is the affine from the pixels
of a crop to the pixels of the image it is cut from, which is the direction in which an image is resampled.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

Points: TypeAlias = Float[Array | np.ndarray, "*batch points 2"]
Affine: TypeAlias = Float[Array | np.ndarray, "*batch 2 3"]
Boxes: TypeAlias = Float[Array | np.ndarray, "*batch 4"]
Visible: TypeAlias = Bool[Array | np.ndarray, "*batch points"]
Image: TypeAlias = UInt8[np.ndarray, "height width 3"]
Loss: TypeAlias = Callable[[Array, Array], Array]


class Batch(NamedTuple):
    """Crops with their truth: what a step is trained or measured on; a pytree."""

    images: UInt8[Array | np.ndarray, "batch size size 3"]
    points: Float[Array | np.ndarray, "batch points 2"]  # pixels of the crop
    visible: Bool[Array | np.ndarray, "batch points"]


class Visibility(enum.IntEnum):
    """What the annotators say of a point. Its position may be annotated (a guess) even where it is hidden."""

    UNKNOWN = 0
    VISIBLE = 1
    OCCLUDED = 2  # by something else: hair, a hand, glasses
    SELF_OCCLUDED = 3  # by the face itself, as in profiles
