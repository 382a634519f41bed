"""More shapes from few faces: warp each face toward the shape of another face with a similar shape.

A similarity (rotation, scale, shift) does not change a face's shape. A warp shows the same skin with a longer chin,
raised brows or an open mouth, and moves the points with it. Warping towards other faces of the set keeps the new shapes
realistic, as in active appearance models (Cootes, Edwards and Taylor, IEEE TPAMI 23(6), 2001). Warping only towards
similar faces keeps the pose: expression and build change, the head's rotation does not.
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

NEIGHBOR_SHARE = 0.2  # share of the faces and their mirror images that count as similar
KERNEL_WIDTH = 0.12  # standard deviation of a point's kernel, in sides of the face's box
RIDGE = 0.1  # smooths the weights of neighboring points; points still follow the picture exactly
MAX_SLOPE = 0.5  # largest slope of a warp, in pixels per pixel: below 1 nothing folds
MIN_SHARE = 0.3  # smallest share of the way to the other face; the largest is 1
ITERATIONS = 24  # of the fixed-point search for a point's new position; each at least halves the error


class DisplacementField(NamedTuple):
    """Displacements: pixel p of the new picture comes from p + sum of weights exp(-|p - centers|^2 / 2 width^2)."""

    centers: Float[np.ndarray, "points 2"]  # pixels
    weights: Float[np.ndarray, "points 2"]  # pixels
    width: float  # pixels

    def evaluate(self, positions: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Return the displacement at `positions`."""
        x, y = positions[:, :1], positions[:, 1:]
        return self._kernel(x, self.centers[:, 0]) * self._kernel(y, self.centers[:, 1]) @ self.weights

    def evaluate_grid(self, size: int) -> Float[np.ndarray, "size size 2"]:
        """Return the displacement at every pixel of a picture of `size` pixels."""
        line = np.arange(size)[:, None]
        columns, rows = (self._kernel(line, self.centers[:, axis]) for axis in (0, 1))
        return np.stack([(rows * self.weights[:, axis]) @ columns.T for axis in (0, 1)], axis=-1)

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * np.square((a - b) / self.width))


def reshaped(face_crops: FaceCrops, *, copies: int, flip: Int[np.ndarray, "points"], seed: int) -> FaceCrops:
    """Make `copies` warped copies of every face: first one copy of each face, then the second of each.

    `flip` is the scheme's permutation: faces are also warped towards mirror images of faces. Points that are hidden in
    one of the two faces do not influence the warp and move with the picture. Boxes follow the box of the points.

    Raises:
      InputError: the face crops are stored as JPEG, there are too few faces to find similar ones, or the copies do not
        fit into memory.
    """
    if isinstance(face_crops.images, JpegImages):
        raise InputError('reshaped faces must be stored as pixels: set store="pixels", or set reshaped=0')
    neighbors = _Neighbors.from_faces(face_crops, flip)
    if neighbors.neighbor_count < 2:
        raise InputError(
            f"{len(face_crops.images)} faces are too few to warp them to each other's shapes: set reshaped=0, "
            f"or add faces"
        )
    memory.require_memory(
        copies * face_crops.images.nbytes, what=f"{copies:,} reshaped copies of each face", fix="set reshaped lower"
    )
    images, points = (
        np.empty((copies, *face_crops.images.shape), np.uint8),
        np.empty((copies, *face_crops.points.shape)),
    )

    def reshape(face: int) -> None:
        for copy in range(copies):
            random = np.random.default_rng([seed, copy, face])
            moves, common = neighbors.sample(face, random)
            share = random.uniform(MIN_SHARE, 1)
            images[copy, face], points[copy, face] = warp_face(
                face_crops.images[face], face_crops.points[face], share * moves, common
            )

    with ThreadPoolExecutor() as pool:
        list(pool.map(reshape, range(len(face_crops.images))))
    points = points.reshape(-1, *face_crops.points.shape[1:]).astype(np.float32)
    copied = {
        name: np.concatenate([getattr(face_crops, name)] * copies)
        for name in ("crop_to_image", "boxes", "points", "visible")
    }
    boxes = copied["boxes"] + tight_box(points, copied["visible"]) - tight_box(copied["points"], copied["visible"])
    return dataclasses.replace(
        face_crops,
        images=images.reshape(-1, *images.shape[2:]),
        points=points,
        boxes=boxes.astype(np.float32),
        crop_to_image=copied["crop_to_image"],
        visible=copied["visible"],
    )


def warp_face(
    image: UInt8[np.ndarray, "size size 3"],
    points: Float[np.ndarray, "points 2"],
    moves: Float[np.ndarray, "points 2"],
    known: Bool[np.ndarray, "points"],
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "points 2"]]:
    """Warp a picture smoothly so that its `known` points move by about `moves`; return it and the new points.

    The new positions are computed from the warp itself, so that the points mark the same features as before. All values
    are in pixels of `image`. If the warp would be too steep, all moves are scaled down.
    """
    shown, size = points[known], len(image)
    width = KERNEL_WIDTH * float(np.ptp(shown, axis=0).max())
    centers = shown + moves[known]
    kernel = np.exp(-0.5 * (np.square(centers[:, None] - centers).sum(-1) / width**2))
    weights = np.linalg.solve(kernel + RIDGE * np.eye(len(centers)), -moves[known])
    field = DisplacementField(centers, weights, width)
    displacement = field.evaluate_grid(size)
    steepest = max(float(np.abs(np.diff(displacement, axis=axis)).max()) for axis in (0, 1))
    factor = min(1.0, MAX_SLOPE / max(steepest, 1e-9))
    field, displacement = field._replace(weights=factor * weights), factor * displacement
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns + displacement[..., 0]).astype(np.float32), (rows + displacement[..., 1]).astype(np.float32)
    moved = points.astype(np.float64)
    for _ in range(ITERATIONS):  # p = point - displacement(p), a contraction: the slope is at most MAX_SLOPE
        moved = points - field.evaluate(moved)
    return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), moved


class _Neighbors(NamedTuple):
    """The faces and their mirror images, aligned to their mean, to find similar ones."""

    shapes: Complex[np.ndarray, "n points"]  # of the original faces, pixels
    all_shapes: Complex[np.ndarray, "2n points"]  # with their mirror images
    visible: Bool[np.ndarray, "2n points"]
    aligned: Complex[np.ndarray, "2n points"]

    @classmethod
    def from_faces(cls, face_crops: FaceCrops, flip: Int[np.ndarray, "points"]) -> "_Neighbors":
        shapes = procrustes.as_complex(face_crops.points)
        all_shapes = np.concatenate([shapes, procrustes.mirror(shapes, flip)])
        visible = np.concatenate([face_crops.visible, face_crops.visible[:, flip]])
        mean = procrustes.symmetric_mean(shapes, face_crops.visible, flip, rounds=8)
        return cls(shapes, all_shapes, visible, procrustes.align(all_shapes, mean, visible.astype(np.float64)))

    @property
    def neighbor_count(self) -> int:
        return int(NEIGHBOR_SHARE * len(self.aligned))

    def sample(
        self, face: int, random: np.random.Generator
    ) -> tuple[Float[np.ndarray, "points 2"], Bool[np.ndarray, "points"]]:
        """Sample a similar face; return the offsets of its points, in pixels, and the points visible in both."""
        common = self.visible & self.visible[face]
        distance = (common * np.abs(self.aligned - self.aligned[face]) ** 2).sum(1) / np.maximum(common.sum(1), 1)
        distance = np.where(common.sum(1) < common[face].sum() / 2, np.inf, distance)
        other = random.choice(np.argpartition(distance, self.neighbor_count)[: self.neighbor_count])
        aligned = procrustes.align(self.all_shapes[other], self.shapes[face], common[other].astype(np.float64))
        return procrustes.as_points(aligned - self.shapes[face]), common[other]
