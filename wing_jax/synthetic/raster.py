"""A z-buffer for small triangles in numpy: every triangle of about the same size is filled at once."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from wing_jax.values import Value

_SIDES = (2, 3, 4, 6, 9, 14, 22)  # box sides, in pixels, of the groups filled together


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fragments(Value):
    """What the camera sees: one entry for each covered pixel, and the depth of all pixels."""

    pixels: Int[np.ndarray, "hits"]  # row * width + column
    triangles: Int[np.ndarray, "hits"]
    weights: Float[np.ndarray, "3 hits"]  # barycentric
    depth: Float[np.ndarray, "height width"]  # larger is nearer, -inf where nothing is


def rasterize(
    vertices: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "triangles 3"], *, size: int
) -> Fragments:
    """Fill the triangles that face the camera into a `size` x `size` picture and keep the nearest.

    Args:
      vertices: x, y in pixels (centers at integers) and a depth that grows towards the camera.
      triangles: vertex numbers, clockwise on the screen (x right, y down) when they face the camera.
      size: side of the picture in pixels.
    """
    x, y, near = (np.ascontiguousarray(axis).take(triangles.T) for axis in vertices.T)  # [3 corners, triangles]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    left, right = _range(x, size)
    top, bottom = _range(y, size)
    kept = np.flatnonzero((area > 1e-6) & (right >= left) & (bottom >= top))
    left, top = left[kept], top[kept]
    side = np.maximum(right[kept] - left, bottom[kept] - top) + 1
    planes = _planes(x[:, kept], y[:, kept], near[:, kept], area[kept])
    found, start = [], 0
    for length in (*_SIDES, size):
        group = np.flatnonzero((side > start) & (side <= length))
        start = length
        if group.size:
            width = int(side[group].max())
            found.append(_fill(planes[:, :, group], left[group], top[group], group, width, size))
    pixels, owners, second, third, near = (np.concatenate(parts) for parts in zip(*found, strict=True))
    depth = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(depth, pixels, near)
    best = np.flatnonzero(near == depth.take(pixels))
    second, third = second[best], third[best]
    weights = np.stack([1 - second - third, second, third])
    return Fragments(pixels[best], kept[owners[best]], weights, depth.reshape(size, size))


def _range(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last pixel, inside the picture, whose center lies between the three corners."""
    low = np.ceil(np.minimum(np.minimum(x[0], x[1]), x[2]))
    high = np.floor(np.maximum(np.maximum(x[0], x[1]), x[2]))
    return np.maximum(low, 0), np.minimum(high, size - 1)


def _planes(x: np.ndarray, y: np.ndarray, near: np.ndarray, area: np.ndarray) -> np.ndarray:
    """[3, 3, triangles]: weights of corners 1 and 2, and the depth, as a x + b y + c."""
    planes = np.empty((3, 3, len(area)), np.float32)
    planes[0, 0], planes[0, 1] = (y[2] - y[0]) / area, (x[0] - x[2]) / area
    planes[1, 0], planes[1, 1] = (y[0] - y[1]) / area, (x[1] - x[0]) / area
    planes[:2, 2] = -planes[:2, 0] * x[0] - planes[:2, 1] * y[0]
    planes[2] = planes[0] * (near[1] - near[0]) + planes[1] * (near[2] - near[0])
    planes[2, 2] += near[0]
    return planes


def _fill(planes: np.ndarray, left: np.ndarray, top: np.ndarray, owners: np.ndarray, side: int, size: int) -> tuple:
    """The pixels, in boxes of `side` at `left`, `top`, inside each triangle.

    Triangles are the last axis, so that numpy's inner loops are long. Returns pixel, triangle, two weights, depth.
    """
    left, top = np.minimum(left, size - side), np.minimum(top, size - side)
    steps = np.arange(side, dtype=np.float32)[:, None]
    columns, rows = left + steps, top + steps
    second, third = ((plane[1] * rows + plane[2])[:, None] + (plane[0] * columns)[None] for plane in planes[:2])
    slack = np.float32(-1e-4)  # neighbours both claim a shared edge: no pinholes
    inside = (second >= slack) & (third >= slack) & (second + third <= 1 - slack)
    hits = np.flatnonzero(inside)
    cell, which = np.divmod(hits, len(owners))
    down, across = np.divmod(cell, side)
    column, row = left.take(which) + across.astype(np.float32), top.take(which) + down.astype(np.float32)
    near = planes[2, 0].take(which) * column + planes[2, 1].take(which) * row + planes[2, 2].take(which)
    pixels = row.astype(np.int32) * size + column.astype(np.int32)
    return pixels, owners.take(which), second.ravel().take(hits), third.ravel().take(hits), near
