"""Turn images by quarters, and the faces found in them back."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from wing_jax.geometry import fit_similarity, tight_box, transform
from wing_jax.inference.faces import Faces
from wing_jax.types import Image

QUARTERS = (1, 3, 2)  # counterclockwise quarter turns, in the order in which they are tried


def turn_image(image: Image, quarters: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Turn `image` counterclockwise by `quarters` times 90 degrees; a copy, unless it is not turned."""
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters % 4 else image


def back_transform(image: Image, quarters: int) -> Float[np.ndarray, "2 3"]:
    """Return the affine from pixels of `turn_image(image, quarters)` to pixels of `image`.

    >>> image = np.zeros((2, 3, 3), np.uint8)
    >>> image[0, 2] = 255
    >>> turned = turn_image(image, 1)
    >>> y, x = np.argwhere(turned[..., 0]).ravel()
    >>> (back_transform(image, 1) @ [x, y, 1]).tolist()
    [2.0, 0.0]
    """
    right, bottom = image.shape[1] - 1.0, image.shape[0] - 1.0
    return {
        0: np.array([[1.0, 0, 0], [0, 1, 0]]),
        1: np.array([[0.0, -1, right], [1, 0, 0]]),
        2: np.array([[-1.0, 0, right], [0, -1, bottom]]),
        3: np.array([[0.0, 1, 0], [-1, 0, bottom]]),
    }[quarters % 4].astype(np.float32)


def quarters_upright(points: Float[np.ndarray, "faces points 2"], template: Float[np.ndarray, "points 2"]) -> int:
    """Return the counterclockwise quarter turns of an image that make most of its faces upright, 0 to 3.

    `points` are those of its faces, `template` is the mean shape of an upright face in any unit.

    >>> template = np.float32([[0, 0], [2, 0], [1, 2]])
    >>> quarters_upright(template[None, :, ::-1] * np.float32([-1, 1]), template)  # turned clockwise by 90 degrees
    1
    """
    turns = np.asarray(fit_similarity(np.broadcast_to(template, points.shape).astype(points.dtype), points))
    quarters = np.rint(np.rad2deg(np.arctan2(turns[:, 1, 0], turns[:, 0, 0])) / 90).astype(int) % 4
    return int(np.bincount(quarters).argmax())


def turn_boxes(boxes: Float[np.ndarray, "faces 4"], affine: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "faces 4"]:
    """Map boxes by the quarter turn `affine`."""
    corners = transform(np.broadcast_to(affine, (len(boxes), 2, 3)), boxes.reshape(-1, 2, 2))
    return np.asarray(tight_box(corners), np.float32)


def turn_back(faces: Faces, quarters: int, *, image: Image) -> Faces:
    """Return the `faces` of `turn_image(image, quarters)` as faces of `image`."""
    affine = back_transform(image, quarters)
    linear, count = affine[:, :2], len(faces)
    return dataclasses.replace(
        faces,
        boxes=turn_boxes(faces.boxes, affine),
        points=np.asarray(transform(np.broadcast_to(affine, (count, 2, 3)), faces.points), np.float32),
        image=image,
        covariance=None if faces.covariance is None else linear @ faces.covariance @ linear.T,
    )
