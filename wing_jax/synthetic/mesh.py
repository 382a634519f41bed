"""The synthetic head: a grid of 3-D vertices over (arc, row), and the positions of the 68 points on it.

Lengths are in millimeters. Head axes: x to the right of the image, y down, z out of the face; the origin is between the
ears. A position on the head is (p, v): p = 80 mm x azimuth (0 in front, positive to the image's right, so p is about x
on the face); v equals y on the face, and continues over the crown above the forehead and down the neck below the jaw.
Features and points are defined in (p, v); identity and expression move the grid under them.
"""

import functools

import cv2
import numpy as np
from jaxtyping import Float

from wing_jax.synthetic.appearance import Expression, Number, Shape

ARC = 80.0  # mm of arc per radian of azimuth
CROWN, JAW, NECK, END = -185.0, 77.0, 150.0, 235.0  # rows
TOP_OF_HAIRLINE = -95.0

_HALF = np.concatenate(
    [np.arange(0, 30, 3.0), np.arange(30, 72, 4.67), np.arange(72, 130, 8.3), np.linspace(130, np.pi * ARC, 8)]
)
COLUMNS = np.concatenate([-_HALF[:0:-1], _HALF]).astype(np.float32)
ROWS = np.concatenate(
    [
        np.linspace(CROWN, -110, 8, endpoint=False), np.linspace(-110, -62, 7, endpoint=False),
        np.linspace(-62, -20, 13, endpoint=False), np.linspace(-20, 22, 17, endpoint=False),
        np.linspace(22, 50, 13, endpoint=False), np.linspace(50, 84, 10, endpoint=False),
        np.linspace(84, 110, 5, endpoint=False), np.linspace(110, NECK, 5, endpoint=False), np.linspace(NECK, END, 7),
    ]
).astype(np.float32)  # fmt: skip
AZIMUTH = COLUMNS / ARC


def smoothstep(values: np.ndarray, start: Number, stop: Number) -> np.ndarray:
    """Return 0 below `start`, 1 above `stop` and 3 t^2 - 2 t^3 between."""
    t = np.clip((values - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def smooth_polyline(knots: dict, at: np.ndarray, *, blur: Number = 5.0) -> np.ndarray:
    """Sample the polyline through `knots`, blurred by a Gaussian of `blur`, at the positions `at`."""
    positions, values = np.array(list(knots)), np.array(list(knots.values()))
    steps = np.linspace(-2.5, 2.5, 21)
    weights = np.exp(-(steps**2) / 2)
    near = np.interp(np.asarray(at)[..., None] + steps * blur, positions, values)
    return ((near * weights).sum(-1) / weights.sum()).astype(np.float32)


@functools.cache
def _mean_head() -> Float[np.ndarray, "rows columns 3"]:
    """Return the head without nose, eyes and mouth: skull, cheeks, jaw, neck and shoulders."""
    face = np.clip(ROWS, TOP_OF_HAIRLINE, JAW)
    front = {-95: 84, -75: 91, -55: 94, -38: 92, -10: 91, 15: 93, 28: 94, 45: 91, 57: 87, 68: 89, 77: 83}
    back = {-95: 90, -75: 98, -50: 101, -15: 95, 20: 88, 77: 80}
    sides = {-95: 71, -75: 74, -52: 73.5, -36: 72, -10: 71, 15: 68.5, 30: 66, 45: 62.5, 57: 59.5, 68: 57, 77: 54}
    power = {-95: 2.35, -50: 2.5, -20: 2.35, 15: 2.2, 45: 2.05, 77: 1.8}
    front, back, sides, power = (smooth_polyline(knots, face)[:, None] for knots in (front, back, sides, power))
    cosine, sine = np.cos(AZIMUTH)[None], np.abs(np.sin(AZIMUTH))[None]
    depth = np.where(cosine > 0, front, back)
    power = np.where(cosine > 0, power, 2.1)
    radius = ((np.abs(cosine) / depth) ** power + (sine / sides) ** power) ** (-1 / power)

    lift = np.clip((TOP_OF_HAIRLINE - ROWS) / (TOP_OF_HAIRLINE - CROWN), 0, 1)[:, None]
    radius = radius * np.cos(lift * np.pi / 2).clip(0) ** 0.8
    height = ROWS[:, None] * (ROWS[:, None] > TOP_OF_HAIRLINE) + (lift > 0) * (
        TOP_OF_HAIRLINE - 57 * np.sin(lift * np.pi / 2)
    )
    jaw_line = smooth_polyline(
        {0: 77, 20: 75.5, 40: 68, 60: 54, 74: 44, 90: 34, 120: 24, 180: 18}, np.abs(np.rad2deg(AZIMUTH))
    )
    height = height + (jaw_line - JAW)[None] * smoothstep(ROWS, 0, JAW)[:, None] ** 1.5
    head = np.stack([radius * np.sin(AZIMUTH), np.broadcast_to(height, radius.shape), radius * cosine], axis=-1)
    return _with_neck(head, jaw_line).astype(np.float32)


def _with_neck(head: np.ndarray, jaw_line: np.ndarray) -> np.ndarray:
    """Replace the rows below the jaw by the neck and the shoulders."""
    sine, cosine = np.sin(AZIMUTH), np.cos(AZIMUTH)
    jaw = np.stack([np.interp(JAW, ROWS, column) for column in head.reshape(len(ROWS), -1).T]).reshape(-1, 3)

    def ring(wide: Number, front: Number, back: Number, y: np.ndarray | Number) -> np.ndarray:
        return np.stack([wide * sine, y + 0 * sine, np.where(cosine > 0, front, back) * cosine - 8], axis=-1)

    top = ring(46.5, 44, 70, 0.3 * jaw_line + 0.7 * (84 + 14 * np.maximum(cosine, 0) + 24 * np.minimum(cosine, 0)))
    base, slope = ring(50, 45, 68, 122 + 10 * cosine), ring(118, 74, 86, 146 + 12 * cosine)
    chest = ring(215, 116, 98, 222)
    stops = np.array([JAW, 104, NECK, 178, END])
    rings = np.stack([jaw, top, base, slope, chest])
    below = ROWS > JAW
    interval = np.searchsorted(stops, ROWS[below], side="right").clip(1, len(stops) - 1)
    t = ((ROWS[below] - stops[interval - 1]) / (stops[interval] - stops[interval - 1]))[:, None, None]
    linear = rings[interval - 1] * (1 - t) + rings[interval] * t
    padded = np.concatenate([head[~below][-5:], linear, linear[-1:]])
    smooth = padded.copy()
    smooth[5:-1] = 0.25 * padded[4:-2] + 0.5 * padded[5:-1] + 0.25 * padded[6:]
    joined = np.concatenate([head[~below], smooth[5:-1]])
    softened = cv2.GaussianBlur(joined.astype(np.float32), (1, 13), 0, sigmaY=2.2, borderType=cv2.BORDER_REPLICATE)
    joined += (softened - joined) * (smoothstep(ROWS, 84, 100) * smoothstep(-ROWS, -225, -190))[:, None, None]
    # Towards the ears the jaw has no edge: blend it into the neck there.
    blended = cv2.GaussianBlur(joined.astype(np.float32), (1, 19), 0, sigmaY=4.2, borderType=cv2.BORDER_REPLICATE)
    degrees = np.abs(np.rad2deg(AZIMUTH))
    share = (smoothstep(degrees, 42, 78) * smoothstep(-degrees, -150, -110))[None] * np.outer(
        smoothstep(ROWS, 20, 60) * smoothstep(-ROWS, -150, -120), np.ones(len(COLUMNS))
    )
    return joined + (blended - joined) * share[..., None]


def bumps(*table: tuple) -> Float[np.ndarray, "rows columns"]:
    """Sum Gaussians (height, p, v, spread in p, spread in v) on the grid; those with p > 0 are repeated at -p."""
    height, p, v, wide, high = np.array(table, np.float32).T[..., None]
    rows = height * np.exp(-(((ROWS - v) / high) ** 2) / 2)
    columns = np.exp(-(((COLUMNS - p) / wide) ** 2) / 2)
    return rows.T @ (columns + columns[:, ::-1] * (p > 0))


def _nose(shape: Shape) -> np.ndarray:
    """Return the height of the nose over the face, [rows, columns]."""
    stretch = 1 + 0.05 * shape.nose_length
    rows = -38 + (ROWS + 38) / stretch
    tip = 1.2 * shape.nose_tilt
    ridge = {-48: 0, -40: 1.5, -32: 4.5, -15: 13, 0: 21.5, 5 - tip: 24, 9 - tip: 23, 12.5: 16, 15.5: 6, 18: 0}
    ridge = smooth_polyline(ridge, rows, blur=1.5) * (1 + 0.09 * shape.nose_height)
    ridge += 1.6 * shape.nose_hump * np.exp(-(((rows + 16) / 8) ** 2))
    width = smooth_polyline({-45: 8, -34: 6.2, -15: 7.2, 0: 8.6, 8: 9.6, 18: 10}, rows, blur=3) * (
        1 + 0.07 * shape.nose_width
    )
    profile = np.exp(-((np.abs(COLUMNS)[None] / width[:, None]) ** 2.2))
    alae_v, alae_p = -38 + 46.5 * stretch, 12.2 * (1 + 0.07 * shape.nose_width)
    wings = (8.5 * (1 + 0.05 * shape.nose_width), alae_p, alae_v, 4.6, 4.8)
    return ridge[:, None] * profile + bumps(wings, (-2.5, alae_p + 8, alae_v, 3.5, 6))


def head_grid(shape: Shape, expression: Expression) -> Float[np.ndarray, "rows columns 3"]:
    """Return the skin, in millimeters and head axes, without hair, hats and cloth."""
    grid = _mean_head().copy()
    sites = landmark_sites(shape, expression)
    eye_p, mouth_v = sites[42:48, 0].mean(), sites[[48, 54], 1].mean()
    lower_lip_v = sites[[57, 66], 1].mean()
    lips, cheer = 0.7 * shape.lips + 3 * expression.pout, max(0.0, float(np.mean(expression.smile)))
    out = bumps(
        # height in millimeters, p (and -p), v, spread in p, spread in v
        (3.2 * (1 + 0.45 * shape.brow_ridge), 30, -51, 17, 6), (1.5, 0, -47, 9, 7),
        (-8, eye_p * 0.92, -36, 15, 8.5), (-4.5, 13.5, -35, 5, 8),
        (5.4 + 0.4 * shape.eye_size, eye_p, -34.5, 10.5, 7.5),
        (3 + 1.6 * shape.cheekbones, 47, -9, 16, 12), (2.6 * shape.cheek_fat - 1.5, 50, 26, 17, 17),
        (3.5, 0, 31, 22, 13), (3.2 + lips, 0, 32.6, 13, 3.3), (4.2 + lips, 0, lower_lip_v, 12, 3.8),
        (-2.6, 0, mouth_v + 0.5, 19, 1.9), (-2, sites[54, 0] + 2, mouth_v, 3.6, 4),
        (-3, 0, lower_lip_v + 12, 16, 4.5), (3 + 1.8 * shape.chin_forward, 0, 69, 13, 8),
        (4.2 * cheer, 39, 4, 12, 10), (-2 * cheer, 34, 24, 4, 11), (2.2 * shape.forehead, 0, -80, 45, 16),
    )  # fmt: skip
    grid[..., 0] += out * np.sin(AZIMUTH) * 0.7
    grid[..., 2] += out * (1 - 0.25 * np.sin(AZIMUTH) ** 2) + _nose(shape)

    low = smoothstep(ROWS, 25, JAW)[:, None] * smoothstep(-ROWS, -120, -95)[:, None] * smoothstep(grid[..., 2], -15, 45)
    drop = 17 * expression.mouth_open
    grid[..., 1] += low * (drop + 2.8 * shape.chin_length)
    grid[..., 2] += low * (-0.35 * drop + 1.2 * shape.chin_forward)
    face = smoothstep(-ROWS, -125, -80)[:, None]
    jaw = smoothstep(ROWS, -10, 60)[:, None] * face
    neck = (smoothstep(ROWS, 80, 110) * smoothstep(-ROWS, -175, -140))[:, None]
    grid[..., 0] *= 1 + 0.022 * shape.width * face + 0.035 * shape.jaw_width * jaw + 0.05 * shape.neck * neck
    grid[..., 2] *= 1 + 0.02 * shape.head_depth * face * (grid[..., 2] < 0)
    return grid


def landmark_sites(shape: Shape, expression: Expression) -> Float[np.ndarray, "68 2"]:
    """Return the positions (p, v) of the 68 points on the grid.

    The jaw's are fixed points of the 3-D jaw line, as in 3-D annotation (300W-LP), so they do not move to the visible
    contour. All follow the expression.
    """
    sites = np.empty((68, 2), np.float32)
    degrees = np.array([88, 87.5, 85.5, 82, 74, 58, 41, 21])
    sites[:8] = np.stack([-np.deg2rad(degrees) * ARC, [-33, -14, 6, 31, 60, 73, 76.5, 77]], axis=1)
    sites[8] = 0, 77
    sites[9:17] = sites[7::-1] * (-1, 1)
    stretch, wide = 1 + 0.05 * shape.nose_length, 1 + 0.07 * shape.nose_width
    sites[27:31] = [(0, -38 + (v + 38) * stretch) for v in (-36, -22, -8, 5.5 - 1.2 * shape.nose_tilt)]
    nose = [(14.5 * wide, 12), (7.4 * wide, 14.6), (0, 16)]
    sites[33:36] = [(p, -38 + (v + 38) * stretch) for p, v in reversed(nose)]
    sites[31:33] = sites[[35, 34]] * (-1, 1)
    for side, sign in enumerate((-1, 1)):
        brow, eye = _brow(shape, expression, side), _eye(shape, expression, side)
        sites[[range(17, 22), range(26, 21, -1)][side]] = brow * (sign, 1)
        sites[[[36, 37, 38, 39, 40, 41], [45, 44, 43, 42, 47, 46]][side]] = eye * (sign, 1)
    sites[48:] = _mouth(shape, expression)
    return sites


def _brow(shape: Shape, expression: Expression, side: int) -> np.ndarray:
    """Return five points from the outer end inwards, for the side with p > 0."""
    lift, arch = 1.3 * shape.brow_height, 0.9 * shape.brow_arch
    brow = np.array([(59, -47.5), (52, -54.5 - arch), (42, -57.5 - 1.3 * arch), (29.5, -56 - 0.5 * arch), (16, -51.5)])
    brow[:, 1] -= lift + expression.brows[side] * np.array([3, 5, 5.5, 5, 4.5])
    brow[:, 0] += np.array([0, 0, 0, 0.5, 1]) * min(0.0, expression.brows[side]) * 3 + 0.6 * shape.eye_gap
    return brow


def _eye(shape: Shape, expression: Expression, side: int) -> np.ndarray:
    """Return outer corner, upper lid (outer, inner), inner corner, lower lid (inner, outer), where p > 0."""
    center, half = 31.8 + 1.2 * shape.eye_gap, 14.3 * (1 + 0.05 * shape.eye_size)
    open_lid = expression.lids[side] * (1 + 0.1 * shape.eye_size)
    squint = 1.3 * max(0.0, expression.smile[side])
    low = 4.6 + 0.3 * shape.eye_size - squint
    top = low - 0.8 - open_lid * (9.6 - 0.6 * squint)
    tilt = 0.8 * shape.eye_tilt + 0.6
    return np.array(
        [
            (center + half, -33.6 - tilt), (center + 0.42 * half, -34.5 + top - 0.3 * tilt),
            (center - 0.36 * half, -34.5 + top + 0.2 * tilt), (center - half, -32.6 + 0.5 * tilt),
            (center - 0.36 * half, -34.5 + low), (center + 0.42 * half, -34.5 + low - 0.4 * tilt),
        ]
    )  # fmt: skip


def _mouth(shape: Shape, expression: Expression) -> np.ndarray:
    """Return points 48 to 67."""
    gap, line = 13 * expression.mouth_open, 37 + 0.9 * shape.mouth_height
    half = (25 + 1.5 * shape.mouth_width - 4.5 * expression.pout) * (1 - 0.14 * expression.mouth_open)
    calm = 1 - 0.18 * max(0.0, float(np.mean(expression.smile)))
    upper, lower = 7.2 * (1 + 0.15 * shape.lips) * calm, 9.4 * (1 + 0.15 * shape.lips) * calm
    rise = 1.6 * max(0.0, float(np.mean(expression.smile))) + 0.12 * gap
    p = np.array(
        [-1, -0.62, -0.24, 0, 0.24, 0.62, 1, 0.62, 0.26, 0, -0.26, -0.62, -0.86, -0.32, 0, 0.32, 0.86, 0.33, 0, -0.33]
    )
    v = np.array(
        [
            0, -0.72 * upper, -upper, -0.86 * upper, -upper, -0.72 * upper, 0,
            0.64 * lower, 0.95 * lower, lower, 0.95 * lower, 0.64 * lower, 0, -0.7, -0.3, -0.7, 0, 0.4, 0.6, 0.4,
        ]
    )  # fmt: skip
    v[[*range(1, 6), 13, 14, 15]] -= rise
    v[[7, 8, 9, 10, 11, 17, 18, 19]] += gap * np.array([0.66, 0.93, 1, 0.93, 0.66, 0.9, 1, 0.9])
    v[[0, 6, 12, 16]] += 0.32 * gap
    widen = np.where(p < 0, expression.smile[0], expression.smile[1])
    corner = np.abs(p) ** 2
    return np.stack([p * (half + 4.2 * widen), line + v - 4.2 * corner * widen], axis=1)


def sample_grid(grid: Float[np.ndarray, "rows columns k"], sites: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n k"]:
    """Interpolate the grid's values bilinearly at positions (p, v)."""
    column, across = _cell(COLUMNS, sites[:, 0])
    row, down = _cell(ROWS, sites[:, 1])
    top = grid[row, column] * (1 - across) + grid[row, column + 1] * across
    bottom = grid[row + 1, column] * (1 - across) + grid[row + 1, column + 1] * across
    return top * (1 - down) + bottom * down


def _cell(lines: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.clip(np.searchsorted(lines, values, side="right") - 1, 0, len(lines) - 2)
    return first, ((values - lines[first]) / (lines[first + 1] - lines[first]))[:, None].astype(np.float32)


@functools.cache
def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """Return the vertex indices [triangles, 3] of a grid, row by row; clockwise on the screen if columns run right."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])


def grid_normals(grid: Float[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "rows columns 3"]:
    """Return unit normals, towards the side from which columns run right and rows run down (z to the viewer)."""
    right, down = np.empty_like(grid), np.empty_like(grid)
    right[:, 1:-1], right[:, 0], right[:, -1] = (
        grid[:, 2:] - grid[:, :-2],
        grid[:, 1] - grid[:, 0],
        grid[:, -1] - grid[:, -2],
    )
    down[1:-1], down[0], down[-1] = grid[2:] - grid[:-2], grid[1] - grid[0], grid[-1] - grid[-2]
    normals = np.stack(
        [
            right[..., 1] * down[..., 2] - right[..., 2] * down[..., 1],
            right[..., 2] * down[..., 0] - right[..., 0] * down[..., 2],
            right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0],
        ],
        axis=-1,
    )
    return normals / (np.sqrt((normals * normals).sum(-1, keepdims=True)) + 1e-6)
