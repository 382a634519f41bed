"""Draw a picture of each landmark scheme: its points with their numbers on a synthetic face."""

from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Float

from wing_jax.inference.drawing import draw_points
from wing_jax.report.draw import contact_sheet
from wing_jax.schemes import AFLW_19, AFLW_21, FGNET_68, IBUG_68, LAPA_106, SCUT_86, WFLW_98, Scheme, get_conversion
from wing_jax.synthetic.appearance import Appearance, Expression, Pose
from wing_jax.synthetic.render import draw_face
from wing_jax.types import Image

_INK, _PAPER = (16, 20, 28), (255, 255, 255)
_FOREHEAD = 1.13  # mean height of the hairline above the temples in SCUT-FBP5500, in halves of the face's width
Shape: TypeAlias = Float[np.ndarray, "_ 2"]


def scheme_picture(scheme: Scheme, *, size: int = 900) -> Image:
    """Draw the points of a published `scheme`, its lines and numbers (from 0) on a face of `size` pixels.

    The synthetic face has the 68 points of 300-W. Points that other schemes add are interpolated (halfway along the
    jaw, a third along a lid): this shows where they belong, but it is not an annotation.

    Raises:
      ValueError: `scheme` is not a published scheme.
    """
    face, points68 = _draw_face(size, with_hairline=scheme.name == SCUT_86.name)
    points = scheme_points(scheme, points68)
    picture = draw_points(face, points, color=(0, 114, 178), lines=scheme.lines, radius=size / 260)
    for number, point in enumerate(points):
        corner = (int(point[0]) + size // 180, int(point[1]) - size // 180)
        for ink, width in ((_PAPER, 3), (_INK, 1)):
            cv2.putText(picture, str(number), corner, cv2.FONT_HERSHEY_SIMPLEX, size / 2000, ink, width, cv2.LINE_AA)
    return contact_sheet([picture], [f"{scheme.name}: {scheme.points} points"])


def _draw_face(size: int, *, with_hairline: bool) -> tuple[Image, Shape]:
    """Draw a frontal face and return it with its points; `with_hairline` moves it down, so that the forehead is in.

    Its mouth is open so that the lines do not overlap; its colors are pale so that the lines stand out.
    """
    pose = Pose(scale=0.64, center=(0.0, 0.14)) if with_hairline else Pose(scale=0.8)
    face = draw_face(Appearance(pose=pose, expression=Expression(mouth_open=0.45)), size=size)
    return cv2.addWeighted(face.image, 0.6, np.full_like(face.image, 255), 0.4, 0), face.points


def scheme_points(scheme: Scheme, points: Shape) -> Shape:
    """Return the points of `scheme` on a face, given its 68 points of 300-W."""
    if scheme.name == WFLW_98.name:
        return _wflw(points)
    if scheme.name == LAPA_106.name:
        return _lapa(points)
    if scheme.name == FGNET_68.name:
        return _fgnet(points)
    if scheme.name == SCUT_86.name:
        return _scut(points)
    if scheme.name == AFLW_21.name:
        points19 = get_conversion(IBUG_68, AFLW_19).points(points)
        offset = (points[1] - points[15]) * 0.06
        return np.insert(points19, [12, 15], [points[1] + offset, points[15] - offset], axis=0)
    source = WFLW_98 if scheme.name == "cofw29" else IBUG_68
    return get_conversion(source, scheme).points(_wflw(points) if source is WFLW_98 else points)


def _along(points: Shape, chain: tuple[int, ...], count: int) -> Shape:
    """Return `count` points at equal distances along the straight lines through `chain`."""
    knots = points[list(chain)]
    distances = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    steps = np.linspace(0, distances[-1], count)
    return np.stack([np.interp(steps, distances, knots[:, axis]) for axis in (0, 1)], axis=1)


def _jaw_and_brows(points: Shape) -> list[Shape]:
    jaw = np.empty((33, 2), np.float32)
    jaw[::2], jaw[1::2] = points[:17], (points[:16] + points[1:17]) / 2
    below = np.array([0, 0.022 * np.ptp(points[:, 1])], np.float32)
    return [jaw, points[17:22], points[[21, 20, 19, 18]] + below, points[22:27], points[[25, 24, 23, 22]] + below]


def _eyes(points: Shape, *, centers: bool = False) -> list[Shape]:
    left = [_along(points, (36, 37, 38, 39), 5), _along(points, (39, 40, 41, 36), 5)[1:4]]
    right = [_along(points, (42, 43, 44, 45), 5), _along(points, (45, 46, 47, 42), 5)[1:4]]
    middles = [points[36:42].mean(0, keepdims=True), points[42:48].mean(0, keepdims=True)]
    return [*left, *([middles[0]] if centers else []), *right, *([middles[1]] if centers else [])]


def _pupils(points: Shape) -> Shape:
    return np.stack([points[36:42].mean(0), points[42:48].mean(0)])


def _wflw(points: Shape) -> Shape:
    groups = [*_jaw_and_brows(points), points[27:36], *_eyes(points), points[48:68], _pupils(points)]
    return np.concatenate(groups).astype(np.float32)


def _nose(points: Shape) -> tuple[Shape, Shape]:
    """Return the points down the left side of the nose and up its right side: bridge, above the wing, wing."""
    tip, left, right = points[30], points[31], points[35]
    bridge = [points[27] * 0.55 + points[39] * 0.45, points[27] * 0.55 + points[42] * 0.45]
    wings = [left + (left - tip) * (0.35, 0.1), right + (right - tip) * (0.35, 0.1)]
    above = [wings[0] * 0.55 + bridge[0] * 0.45, wings[1] * 0.55 + bridge[1] * 0.45]
    left_side, right_side = np.stack([bridge[0], above[0], wings[0]]), np.stack([wings[1], above[1], bridge[1]])
    return left_side.astype(np.float32), right_side.astype(np.float32)


def _lapa(points: Shape) -> Shape:
    left, right = _nose(points)
    nose = np.concatenate([left, points[31:36], right])
    groups = [
        *_jaw_and_brows(points),
        points[27:31],
        nose,
        *_eyes(points, centers=True),
        points[48:68],
        _pupils(points),
    ]
    return np.concatenate(groups).astype(np.float32)


def _fgnet(points: Shape) -> Shape:
    below = np.array([0, 0.03 * np.ptp(points[:, 1])], np.float32)
    brows = [
        points[[outer, high, inner, end, inner, high]] + np.array([0, 0, 0, 0, 1, 1], np.float32)[:, None] * below
        for outer, high, inner, end in ((26, 25, 23, 22), (17, 18, 20, 21))
    ]
    pupils = _pupils(points)
    corners, lids = points[[[36, 39], [45, 42]]], points[[[37, 40], [43, 46]]] / 2 + points[[[38, 41], [44, 47]]] / 2
    eyes = [np.stack([corners[i, 0], lids[i, 0], corners[i, 1], lids[i, 1], pupils[i]]) for i in (0, 1)]
    left, right = _nose(points)
    nostrils = [points[list(pair)].mean(0) - below / 2 for pair in ((31, 32), (34, 35))]
    nose = np.concatenate([left, points[[31, 33, 35]], right, nostrils])
    mouth = [points[48:60], points[[67, 66, 65, 63, 62, 61]], points[[62, 66]].mean(0, keepdims=True)]
    return np.concatenate([_along(points, tuple(range(17)), 15), *brows, *eyes, nose, *mouth, points[30:31]])


def _scut(points: Shape) -> Shape:
    angles = np.linspace(np.pi, 0, 11, dtype=np.float32)[1:-1, None]
    middle, half = (points[0] + points[16]) / 2, (points[16] - points[0]) / 2
    height = np.linalg.norm(half) * np.array([0, -_FOREHEAD], np.float32)
    forehead = middle + half * np.cos(angles) + height * np.sin(angles)
    outline = np.concatenate([forehead[4::-1], _along(points, tuple(range(17)), 13), forehead[:4:-1]])
    below = np.array([0, 0.03 * np.ptp(points[:, 1])], np.float32)
    left_brow, right_brow = points[21:16:-1], points[26:21:-1]
    brows = [left_brow, left_brow[::-1] + below, right_brow, right_brow[::-1] + below]
    eyes = [
        part
        for first, high, last, low in ((39, (38, 37), 36, (41, 40)), (45, (44, 43), 42, (47, 46)))
        for part in (_along(points, (first, *high, last), 5), _along(points, (last, *low, first), 5)[1:4])
    ]
    left, right = _nose(points)
    nose = [_along(left, (0, 1, 2), 5), points[[31, 33, 35]], _along(right, (0, 1, 2), 5)]
    lower_lip = _along(points, (48, 59, 58, 57, 56, 55, 54), 8)[1:7]
    return np.concatenate([outline, *brows, *eyes, _pupils(points), *nose, points[54:47:-1], lower_lip])
