"""Array types and the coordinate convention, used everywhere in wing_jax.

Points are (x, y), float32, counted from 0 at the *center* of the top-left pixel: an image of width W spans
x from -0.5 to W - 0.5. Images are RGB, channels last, rows first. Boxes are x0, y0, x1, y1 in the same
coordinates. Angles are degrees; a positive rotation turns x toward y, i.e. clockwise as seen on a screen;
yaw > 0 turns the nose to the right of the image.

An *affine* is a 2 x 3 matrix [A | t] that maps a point p to A p + t. A *transform* of a crop is the affine from its
pixels to the pixels of the image it is cut from, which is the direction in which an image is resampled.
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
    """Crops with their annotated points, for one training or evaluation step; a pytree."""

    images: UInt8[Array | np.ndarray, "batch size size 3"]
    points: Float[Array | np.ndarray, "batch points 2"]  # pixels of the crop
    visible: Bool[Array | np.ndarray, "batch points"]


class Visibility(enum.IntEnum):
    """The annotated visibility of a point. The position may be annotated (a guess) even if the point is hidden."""

    UNKNOWN = 0
    VISIBLE = 1
    OCCLUDED = 2  # by something else, such as hair, a hand or glasses
    SELF_OCCLUDED = 3  # by the face itself, as in profiles
