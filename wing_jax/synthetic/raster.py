"""A z-buffer for small triangles in NumPy: triangles of about the same size are filled together."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from wing_jax.values import Value

_SIDES = (2, 3, 4, 6, 9, 14, 22)  # box sides, in pixels, of the groups that are filled together


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fragments(Value):
    """The rasterized triangles: one entry for each covered pixel, and the depth of all pixels."""

    pixels: Int[np.ndarray, "hits"]  # row * width + column
    triangles: Int[np.ndarray, "hits"]
    weights: Float[np.ndarray, "3 hits"]  # barycentric
    depth: Float[np.ndarray, "height width"]  # larger is nearer; -inf for uncovered pixels


def rasterize(
    vertices: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "triangles 3"], *, size: int
) -> Fragments:
    """Rasterize the triangles that face the camera into a `size` x `size` picture; the nearest wins.

    Args:
      vertices: x, y in pixels (centers at integers) and a depth that grows towards the camera.
      triangles: vertex indices, clockwise on the screen (x right, y down) if they face the camera.
      size: side of the picture in pixels.
    """
    x, y, near = (np.ascontiguousarray(axis).take(triangles.T) for axis in vertices.T)  # [3 corners, triangles]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    left, right = _range(x, size)
    top, bottom = _range(y, size)
    front_facing = np.flatnonzero((area > 1e-6) & (right >= left) & (bottom >= top))
    left, top = left[front_facing], top[front_facing]
    side = np.maximum(right[front_facing] - left, bottom[front_facing] - top) + 1
    planes = _planes(x[:, front_facing], y[:, front_facing], near[:, front_facing], area[front_facing])
    groups, start = [], 0
    for length in (*_SIDES, size):
        group = np.flatnonzero((side > start) & (side <= length))
        start = length
        if group.size:
            width = int(side[group].max())
            groups.append(_fill(planes[:, :, group], left[group], top[group], group, width, size))
    pixels, owners, second, third, near = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    depth = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(depth, pixels, near)
    best = np.flatnonzero(near == depth.take(pixels))
    second, third = second[best], third[best]
    weights = np.stack([1 - second - third, second, third])
    return Fragments(pixels[best], front_facing[owners[best]], weights, depth.reshape(size, size))


def _range(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last pixel of the picture whose center is between the three corners."""
    low = np.ceil(np.minimum(np.minimum(x[0], x[1]), x[2]))
    high = np.floor(np.maximum(np.maximum(x[0], x[1]), x[2]))
    return np.maximum(low, 0), np.minimum(high, size - 1)


def _planes(x: np.ndarray, y: np.ndarray, near: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Return [3, 3, triangles]: weights of corners 1 and 2, and the depth, as a x + b y + c."""
    planes = np.empty((3, 3, len(area)), np.float32)
    planes[0, 0], planes[0, 1] = (y[2] - y[0]) / area, (x[0] - x[2]) / area
    planes[1, 0], planes[1, 1] = (y[0] - y[1]) / area, (x[1] - x[0]) / area
    planes[:2, 2] = -planes[:2, 0] * x[0] - planes[:2, 1] * y[0]
    planes[2] = planes[0] * (near[1] - near[0]) + planes[1] * (near[2] - near[0])
    planes[2, 2] += near[0]
    return planes


def _fill(planes: np.ndarray, left: np.ndarray, top: np.ndarray, owners: np.ndarray, side: int, size: int) -> tuple:
    """Find the pixels inside each triangle, in boxes of `side` at `left`, `top`.

    Triangles are the last axis, so that NumPy's inner loops are long. Returns pixel, triangle, two weights and depth.
    """
    left, top = np.minimum(left, size - side), np.minimum(top, size - side)
    steps = np.arange(side, dtype=np.float32)[:, None]
    columns, rows = left + steps, top + steps
    second, third = ((plane[1] * rows + plane[2])[:, None] + (plane[0] * columns)[None] for plane in planes[:2])
    slack = np.float32(-1e-4)  # both neighbors cover a shared edge, so that no pixel is missed
    inside = (second >= slack) & (third >= slack) & (second + third <= 1 - slack)
    hits = np.flatnonzero(inside)
    cell, triangle = np.divmod(hits, len(owners))
    down, across = np.divmod(cell, side)
    column, row = left.take(triangle) + across.astype(np.float32), top.take(triangle) + down.astype(np.float32)
    near = planes[2, 0].take(triangle) * column + planes[2, 1].take(triangle) * row + planes[2, 2].take(triangle)
    pixels = row.astype(np.int32) * size + column.astype(np.int32)
    return pixels, owners.take(triangle), second.ravel().take(hits), third.ravel().take(hits), near
