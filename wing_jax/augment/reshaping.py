"""More shapes from few faces: each face is warped towards the shape of another that stands much alike.

A similarity (rotation, scale, place) shows a face's shape as it is, over and over. A warp shows the same skin with a
longer chin, raised brows or an open mouth, and moves the points with it. Warping towards other faces of the set, as
active appearance models are sampled (Cootes, Edwards and Taylor, IEEE TPAMI 23(6), 2001), keeps the new shapes
possible; taking only those that lie near keeps the pose. Expression and build change, the turn of the head does not.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Complex, Float, Int, UInt8

from wing_jax import procrustes
from wing_jax.data.encoded import JpegImages
from wing_jax.data.face_crops import FaceCrops
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.runtime import memory

NEAR = 0.2  # share of the faces and their mirror images, the nearest by shape, among which the other is drawn
REACH = 0.12  # standard deviation of a point's pull, in sides of the face's box
GIVE = 0.1  # ridge: how much the pulls of neighbouring points even out; the points follow the picture exactly
STEEPEST = 0.5  # of a warp, face crop pixels per face crop pixel: below 1 nothing folds
LEAST = 0.3  # the least share of the way to the other face; the most is all of it
ROUNDS = 24  # halvings, at the least, of how far a point is from where it lies in the new picture


class Field(NamedTuple):
    """Pixel p of the new picture is taken from p + the sum of pulls exp(-|p - at|^2 / 2 reach^2)."""

    at: Float[np.ndarray, "points 2"]  # pixels
    pulls: Float[np.ndarray, "points 2"]  # pixels
    reach: float  # pixels

    def of(self, places: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """The displacement at `places`."""
        return self._near(places[:, :1], self.at[:, 0]) * self._near(places[:, 1:], self.at[:, 1]) @ self.pulls

    def over(self, size: int) -> Float[np.ndarray, "size size 2"]:
        """The displacement at every pixel of a picture of `size` pixels."""
        line = np.arange(size)[:, None]
        columns, rows = (self._near(line, self.at[:, axis]) for axis in (0, 1))
        return np.stack([(rows * self.pulls[:, axis]) @ columns.T for axis in (0, 1)], axis=-1)

    def _near(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * np.square((a - b) / self.reach))


def reshaped(face_crops: FaceCrops, *, copies: int, flip: Int[np.ndarray, "points"], seed: int) -> FaceCrops:
    """`copies` warped copies of every face: the first of all, then the second of all.

    `flip` is the scheme's permutation: the mirror images of faces are faces to warp towards as well. Points that are
    hidden in one of the two faces have no say and move with the picture. Boxes follow the box of the points.

    Raises:
      InputError: the face crops are held as JPEG, the faces are too few to find like ones among, or the copies do not
        fit into memory.
    """
    if isinstance(face_crops.images, JpegImages):
        raise InputError('reshaped faces are held as pixels: leave store="pixels", or set reshaped=0')
    like = _Likeness.of(face_crops, flip)
    if like.near < 2:
        raise InputError(
            f"{len(face_crops.images)} faces are too few to reshape them towards one another: set reshaped=0"
        )
    memory.refuse_beyond(
        copies * face_crops.images.nbytes, what=f"{copies:,} reshaped copies of each face", fix="set reshaped lower"
    )
    images, points = (
        np.empty((copies, *face_crops.images.shape), np.uint8),
        np.empty((copies, *face_crops.points.shape)),
    )

    def reshape(face: int) -> None:
        for copy in range(copies):
            random = np.random.default_rng([seed, copy, face])
            aims, both = like.drawn(face, random)
            share = random.uniform(LEAST, 1)
            images[copy, face], points[copy, face] = warped(
                face_crops.images[face], face_crops.points[face], share * aims, both
            )

    with ThreadPoolExecutor() as pool:
        list(pool.map(reshape, range(len(face_crops.images))))
    points = points.reshape(-1, *face_crops.points.shape[1:]).astype(np.float32)
    again = {
        name: np.concatenate([getattr(face_crops, name)] * copies)
        for name in ("crop_to_image", "boxes", "points", "visible")
    }
    boxes = again["boxes"] + tight_box(points, again["visible"]) - tight_box(again["points"], again["visible"])
    return dataclasses.replace(
        face_crops,
        images=images.reshape(-1, *images.shape[2:]),
        points=points,
        boxes=boxes.astype(np.float32),
        crop_to_image=again["crop_to_image"],
        visible=again["visible"],
    )


def warped(
    image: UInt8[np.ndarray, "size size 3"],
    points: Float[np.ndarray, "points 2"],
    moves: Float[np.ndarray, "points 2"],
    known: Bool[np.ndarray, "points"],
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "points 2"]]:
    """The picture warped smoothly so that its `known` points go about as far as `moves`, and all points in it.

    How far they do go is asked of the warp itself, so that the points lie in the new picture where they lay in the
    old one. All in pixels of `image`. Where the warp would be too steep, everything goes less far.
    """
    shown, size = points[known], len(image)
    reach = REACH * float(np.ptp(shown, axis=0).max())
    at = shown + moves[known]
    nearness = np.exp(-0.5 * (np.square(at[:, None] - at).sum(-1) / reach**2))
    pulls = np.linalg.solve(nearness + GIVE * np.eye(len(at)), -moves[known])
    field = Field(at, pulls, reach)
    whole = field.over(size)
    steepest = max(float(np.abs(np.diff(whole, axis=axis)).max()) for axis in (0, 1))
    gentle = min(1.0, STEEPEST / max(steepest, 1e-9))
    field, whole = field._replace(pulls=gentle * pulls), gentle * whole
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns + whole[..., 0]).astype(np.float32), (rows + whole[..., 1]).astype(np.float32)
    moved = points.astype(np.float64)
    for _ in range(ROUNDS):  # p = point - displacement(p), a contraction, for the warp is nowhere steeper than STEEPEST
        moved = points - field.of(moved)
    return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), moved


class _Likeness(NamedTuple):
    """The faces and their mirror images, aligned to their mean, to find those that stand alike."""

    shapes: Complex[np.ndarray, "n points"]  # of the faces as they are, pixels
    all_shapes: Complex[np.ndarray, "2n points"]  # with their mirror images
    visible: Bool[np.ndarray, "2n points"]
    aligned: Complex[np.ndarray, "2n points"]

    @classmethod
    def of(cls, face_crops: FaceCrops, flip: Int[np.ndarray, "points"]) -> "_Likeness":
        shapes = procrustes.as_complex(face_crops.points)
        shapes_too = np.concatenate([shapes, procrustes.mirror(shapes, flip)])
        visible = np.concatenate([face_crops.visible, face_crops.visible[:, flip]])
        mean = procrustes.symmetric_mean(shapes, face_crops.visible, flip, rounds=8)
        return cls(shapes, shapes_too, visible, procrustes.align(shapes_too, mean, visible.astype(np.float64)))

    @property
    def near(self) -> int:
        return int(NEAR * len(self.aligned))

    def drawn(
        self, face: int, random: np.random.Generator
    ) -> tuple[Float[np.ndarray, "points 2"], Bool[np.ndarray, "points"]]:
        """How far the points of `face` are from those of a face near it, in pixels, and which points both show."""
        both = self.visible & self.visible[face]
        apart = (both * np.abs(self.aligned - self.aligned[face]) ** 2).sum(1) / np.maximum(both.sum(1), 1)
        apart = np.where(both.sum(1) < both[face].sum() / 2, np.inf, apart)
        other = random.choice(np.argpartition(apart, self.near)[: self.near])
        placed = procrustes.align(self.all_shapes[other], self.shapes[face], both[other].astype(np.float64))
        return procrustes.as_points(placed - self.shapes[face]), both[other]
