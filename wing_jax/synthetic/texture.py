"""The texture of the synthetic faces: skin, eyes, brows, lips and hair, painted in the flat coordinates (p, v).

The page is [3, height, width] float32 sRGB, 0 to 255. It has `texels` texels per millimeter in the middle and fewer at
the back of the head, above the forehead and below the jaw (`to_page`).
"""

import dataclasses
import functools

import cv2
import numpy as np
from jaxtyping import Float

from wing_jax.synthetic.appearance import Appearance, Number
from wing_jax.synthetic.mesh import ARC, CROWN, END

_FINE_P, _FINE_V, _COARSE = 130.0, 110.0, 3.0
_EDGE_P = _FINE_P + (np.pi * ARC - _FINE_P) / _COARSE + 1
_TOP, _BOTTOM = _FINE_V + (-CROWN - _FINE_V) / _COARSE + 1, _FINE_V + (END - _FINE_V) / _COARSE + 1
CORNER = np.array([_EDGE_P, _TOP])
_CIRCLE = np.stack([np.cos(np.linspace(0, 6, 20)), np.sin(np.linspace(0, 6, 20))], axis=1)
PAGE_SIZE = (float(2 * _EDGE_P), float(_TOP + _BOTTOM))  # width and height in millimeters


def to_page(sites: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Map positions (p, v) to millimeters from the page's upper left corner."""
    p, v = sites[..., 0], sites[..., 1]
    x = np.clip(p, -_FINE_P, _FINE_P) * (1 - 1 / _COARSE) + p / _COARSE + _EDGE_P
    y = np.clip(v, -_FINE_V, _FINE_V) * (1 - 1 / _COARSE) + v / _COARSE + _TOP
    return np.stack([x, y], axis=-1).astype(np.float32)


@functools.cache
def page_coordinates(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return p of each column and v of each row of a page of `width` x `height` texels."""
    x = (np.arange(width) + 0.5) / width * PAGE_SIZE[0] - _EDGE_P
    y = (np.arange(height) + 0.5) / height * PAGE_SIZE[1] - _TOP
    p = np.where(np.abs(x) > _FINE_P, np.sign(x) * (_FINE_P + (np.abs(x) - _FINE_P) * _COARSE), x)
    v = np.where(np.abs(y) > _FINE_V, np.sign(y) * (_FINE_V + (np.abs(y) - _FINE_V) * _COARSE), y)
    return p.astype(np.float32), v.astype(np.float32)


@functools.cache
def tiles(*, side: int = 512) -> dict[str, np.ndarray]:
    """Return tiles of periodic noise, mean 0 and deviation about 1, repeated 2 x 2; the same for all faces."""
    random = np.random.default_rng(68)

    def noise(spread_x: Number, spread_y: Number) -> np.ndarray:
        white = random.normal(size=(side, side)).astype(np.float32)
        wide = cv2.GaussianBlur(np.tile(white, (3, 3)), (0, 0), spread_x, sigmaY=spread_y)[side:-side, side:-side]
        return (wide - wide.mean()) / wide.std()

    fine = noise(0.8, 0.8)
    textures = {
        "pores": 0.6 * fine + 0.8 * noise(2.5, 2.5),
        "grain": noise(0.6, 0.6),
        "blotches": noise(14, 14),
        "strands": 0.85 * noise(0.9, 22) + 0.5 * noise(2.4, 40),
        "curls": noise(3, 3) + 0.5 * fine,
        "weave": np.sign(np.sin(np.arange(side) * np.pi / 2))[None] * 0.5 + noise(1, 1) * 0.6,
    }
    return {name: np.tile(texture, (2, 2)).astype(np.float32) for name, texture in textures.items()}


def tile(name: str, height: int, width: int, random: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """Cut a piece of a noise tile at a random position; a view if the tile is large enough."""
    texture = tiles()[name]
    side = len(texture) // 2
    row, column = random.integers(side, size=2).tolist()
    while min(texture.shape[0] - row - height, texture.shape[1] - column - width) < 0:
        texture = np.tile(texture, (2, 2))
    return texture[row : row + height, column : column + width]


@dataclasses.dataclass(eq=False, repr=False)
class Canvas:
    """A page to paint on. Brush sizes are in millimeters; `origin` is the position of the page's corner, in texels."""

    page: Float[np.ndarray, "3 height width"]
    texels: float
    origin: tuple[int, int] = (0, 0)

    def fill(self, outline: np.ndarray, color, strength: Number = 1.0, blur: Number = 0.0) -> None:
        """Blend `color` into the polygon `outline`, [n, 2] positions (p, v), or into several, [m, n, 2]."""
        self._blend(outline, color, strength, blur, width=0.0)

    def stroke(self, line: np.ndarray, color, width: Number, strength: Number = 1.0, blur: Number = 0.0) -> None:
        """Blend `color` along the open line [n, 2], or the lines [m, n, 2]."""
        self._blend(line, color, strength, blur, width)

    def disc(self, center: np.ndarray, radius: Number, color, strength: Number = 1.0, blur: Number = 0.0) -> None:
        self.fill(np.asarray(center) + radius * _CIRCLE, color, strength, blur)

    def cut(self, outline: np.ndarray, margin: Number) -> "Canvas":
        """Copy the page around `outline`, to paint on and `paste` back."""
        x, y, wide, high = self._box(self._to_fixed_point(outline), margin)
        return Canvas(self.page[:, y : y + high, x : x + wide].copy(), self.texels, (x, y))

    def paste(self, part: "Canvas", outline: np.ndarray, blur: Number) -> None:
        """Paste a painted copy back, only inside `outline`."""
        x, y = part.origin
        high, wide = part.page.shape[1:]
        alpha = self._mask(self._to_fixed_point(outline), (x, y, wide, high), 0.0, blur) * np.float32(1 / 255)
        patch = self.page[:, y : y + high, x : x + wide]
        patch += (part.page - patch) * alpha

    def _to_fixed_point(self, outline: np.ndarray) -> np.ndarray:
        """Return sixteenths of a texel from the page's first texel center; valid on the page's linear part only."""
        corner = CORNER - (np.asarray(self.origin) + 0.5) / self.texels
        return ((np.asarray(outline, np.float64) + corner) * (16 * self.texels)).astype(np.int32)

    def _box(self, fixed: np.ndarray, margin: Number) -> tuple[int, int, int, int]:
        x, y, wide, high = cv2.boundingRect(fixed.reshape(-1, 2))
        grow = int(margin * self.texels) + 2
        left, top = max((x >> 4) - grow, 0), max((y >> 4) - grow, 0)
        right = min(((x + wide) >> 4) + grow, self.page.shape[2])
        bottom = min(((y + high) >> 4) + grow, self.page.shape[1])
        return left, top, max(right - left, 0), max(bottom - top, 0)

    def _mask(self, fixed: np.ndarray, box: tuple[int, int, int, int], width: Number, blur: Number) -> np.ndarray:
        x, y, wide, high = box
        cover = np.zeros((high, wide), np.uint8)
        lines = fixed - np.array([16 * x, 16 * y], np.int32)
        lines = lines if lines.ndim == 3 else lines[None]
        if width > 0:
            pixels = max(1, round(width * self.texels))
            level = min(255, round(255 * width * self.texels / pixels))
            cv2.polylines(cover, list(lines), False, level, pixels, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(cover, list(lines), 255, lineType=cv2.LINE_AA, shift=4)
        sigma = blur * self.texels
        reach = 2 * round(2.5 * sigma) + 1
        return cv2.GaussianBlur(cover, (reach, reach), sigma) if sigma > 0.3 else cover

    def _blend(self, outline: np.ndarray, color, strength: Number, blur: Number, width: Number) -> None:
        if strength < 0.03:
            return
        fixed = self._to_fixed_point(outline)
        x, y, wide, high = box = self._box(fixed, 2.5 * blur + width)
        if wide * high == 0:
            return
        alpha = self._mask(fixed, box, width, blur) * np.float32(strength / 255)
        patch = self.page[:, y : y + high, x : x + wide]
        patch += (np.asarray(color, np.float32).reshape(3, 1, 1) - patch) * alpha


def curve(knots: np.ndarray, *, count: int = 6) -> Float[np.ndarray, "n axes"]:
    """Return the Catmull-Rom spline through `knots` [k, 2 or 3], with `count` steps between neighbors."""
    ends = np.concatenate([[2 * knots[0] - knots[1]], knots, [2 * knots[-1] - knots[-2]]])
    a, b, c, d = (ends[i : len(ends) - 3 + i, None] for i in range(4))
    t = (np.arange(count) / count)[None, :, None]
    path = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([path.reshape(-1, knots.shape[1]), knots[-1:]]).astype(np.float32)


def _downwards(millimeters: Number) -> np.ndarray:
    return np.array([0.0, millimeters])


def mix(color, other, amount: Number) -> np.ndarray:
    """Mix `color` with the share `amount` of `other`."""
    return np.asarray(color, np.float32) * (1 - amount) + np.asarray(other, np.float32) * amount


def _blob(p: np.ndarray, v: np.ndarray, at: tuple, spread: tuple) -> np.ndarray:
    across = np.exp(-(((np.abs(p) - at[0]) / spread[0]) ** 2) / 2)
    return np.outer(np.exp(-(((v - at[1]) / spread[1]) ** 2) / 2), across)


@functools.cache
def _skin_maps(width: int, height: int) -> dict[str, np.ndarray]:
    """Return maps of redder, darker, lighter and bearded skin, at a quarter of the page's resolution."""
    p, v = page_coordinates(width, height)
    moustache = _blob(p, v, (10, 25), (12, 3.6)) + _blob(p, v, (22, 31), (5, 5))
    chin = np.exp(-((np.maximum(0, 62 - v) / 14) ** 2))[:, None] * (v < 105)[:, None] * np.exp(-((p / 105) ** 6))[None]
    side = _blob(p, v, (88, 40), (26, 28)) + _blob(p, v, (110, 5), (7, 30))
    bare = 1 - 0.9 * np.clip(_blob(p, v, (0, 52), (15, 4)), 0, 1)
    return {
        "blush": _blob(p, v, (44, 4), (17, 13)) + 0.7 * _blob(p, v, (0, 4), (10, 9))
        + 0.3 * _blob(p, v, (0, 68), (14, 8)),
        "socket": _blob(p, v, (30, -33), (15, 8)) + 0.6 * _blob(p, v, (15, -34), (6, 8)),
        "light": _blob(p, v, (0, -78), (34, 18)) + 0.6 * _blob(p, v, (0, -18), (5, 20)),
        "beard": np.clip(np.maximum(chin, side) * bare, 0, 1),
        "moustache": np.clip(moustache, 0, 1),
        "neck": np.outer(np.exp(-(((v - 96) / 20) ** 2)), np.exp(-((p / 130) ** 4))),
    }  # fmt: skip


def paint_skin(appearance: Appearance, texels: Number, random: np.random.Generator) -> Canvas:
    """Paint a page of skin: blush, beard, pores and blotches."""
    paint = appearance.paint
    width, height = (round(side * texels) for side in PAGE_SIZE)
    maps = _skin_maps(width // 4, height // 4)
    skin = np.asarray(paint.skin, np.float32)
    low = np.repeat(skin[:, None, None], height // 4, 1).repeat(width // 4, 2)
    for name, tint, amount in (
        ("blush", (1.03, 0.8, 0.78), 0.55 * paint.blush),
        ("socket", (0.8, 0.72, 0.74), 0.3 + 0.25 * paint.age),
        ("light", (1.08, 1.08, 1.06), 0.6),
        ("neck", (0.84, 0.78, 0.76), 0.5),
    ):
        low *= 1 + (np.asarray(tint, np.float32)[:, None, None] - 1) * (amount * maps[name])
    low *= 1 + 0.02 * tile("blotches", low.shape[1], low.shape[2], random)
    shadow = maps["beard"] * min(paint.beard, 0.55) + maps["moustache"] * max(
        min(paint.beard, 0.55), paint.moustache * 0.3
    )
    low += (mix(skin * 0.55, paint.hair, 0.5)[:, None, None] - low) * (0.75 * np.clip(shadow, 0, 1))
    page = np.stack(
        [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in low.astype(np.float32)]
    )
    page += tile("pores", height, width, random) * np.float32(1.0 + 1.4 * paint.age)
    canvas = Canvas(page, texels)
    hairy = max(paint.beard, paint.moustache)
    if hairy > 0.55:
        full = cv2.resize(
            (maps["beard"] * (paint.beard > 0.55) + maps["moustache"]).astype(np.float32), (width, height)
        )
        rough = 0.9 + 0.16 * tile("strands", height, width, random) + 0.1 * tile("pores", height, width, random)
        alpha = np.clip((full - 0.42 + 0.13 * (rough - 0.9) * 6) * 3.2, 0, 1) * min(1.0, hairy + 0.05)
        page += (np.asarray(paint.hair, np.float32)[:, None, None] * rough - page) * alpha
    for _ in range(paint.freckles):
        spot = random.normal((0, -4), (36, 13))
        canvas.disc(spot, random.uniform(0.5, 1.1), skin * (0.78, 0.66, 0.58), random.uniform(0.25, 0.6))
    for _ in range(int(random.poisson(0.8))):
        spot = random.uniform((-75, -80), (75, 70))
        canvas.disc(spot, random.uniform(0.8, 1.6), skin * (0.45, 0.36, 0.33), 0.8, 0.3)
    return canvas


def paint_features(
    canvas: Canvas, appearance: Appearance, sites: Float[np.ndarray, "68 2"], random: np.random.Generator
) -> None:
    """Paint folds, nostrils, eyes, brows and lips at their positions (p, v)."""
    _paint_folds(canvas, appearance, sites)
    _paint_nose(canvas, appearance, sites)
    _paint_mouth(canvas, appearance, sites)
    for side, order in enumerate(((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46))):
        _paint_eye(canvas, appearance, sites[list(order)], side)
    for chain in (sites[17:22], sites[26:21:-1]):
        _paint_brow(canvas, appearance, chain, random)


def _paint_folds(canvas: Canvas, appearance: Appearance, sites: np.ndarray) -> None:
    skin, age = np.asarray(appearance.paint.skin), appearance.paint.age
    dark = skin * (0.62, 0.5, 0.46)
    for side, (wing, corner, inner, sign) in enumerate(((31, 48, 39, -1), (35, 54, 42, 1))):
        smile = max(0.0, appearance.expression.smile[side])
        fold = np.array([sites[wing] + (sign * 3.5, -4), sites[wing] + (sign * 11, 7), sites[corner] + (sign * 8, -3)])
        canvas.stroke(curve(fold), dark, 2.2, 0.12 + 0.3 * age + 0.34 * smile, 1.2)
        bag = sites[inner] + np.array([(sign * 1, 5), (sign * 10, 11.5), (sign * 22, 11)])
        canvas.stroke(curve(bag), dark, 2, 0.12 + 0.4 * max(0.0, age - 0.25) + 0.1 * smile, 1.2)
        if age > 0.55:
            outer = sites[45 if sign > 0 else 36]
            for rise in (-5, 0, 4):
                canvas.stroke(
                    outer + np.array([(sign * 4, rise * 0.5), (sign * 12, rise)]), dark, 0.8, 0.8 * (age - 0.4), 0.4
                )
    lines = 0.6 * max(0.0, age - 0.5) + 0.2 * max(0.0, float(np.mean(appearance.expression.brows)))
    wave = curve(np.array([(-34, 2), (-14, 0), (0, 1.5), (15, 0), (34, 2)]))
    canvas.stroke(wave + np.array([[[0, -70]], [[0, -78]], [[0, -86]]]), dark, 1.1, lines, 0.6)
    frown = 0.8 * max(0.0, -float(np.mean(appearance.expression.brows))) + 0.25 * max(0, age - 0.4)
    canvas.stroke(np.array([[(-5, -58), (-6, -46)], [(5, -58), (6, -46)]]), dark, 1.2, frown, 0.5)


def _paint_nose(canvas: Canvas, appearance: Appearance, sites: np.ndarray) -> None:
    skin = np.asarray(appearance.paint.skin)
    for wing, middle, sign in ((31, 32, -1), (35, 34, 1)):
        hole = sites[middle] + (sign * 0.4, -1.2)
        oval = hole + np.array([(-3.6, 0.8), (-1.5, -1.3), (2, -1.4), (3.6, 0.6), (1.5, 1.5), (-2, 1.6)]) * (sign, 1)
        canvas.fill(oval, skin * (0.22, 0.13, 0.12), 0.85, 0.45)
        crease = sites[wing] + np.array([(-sign * 0.5, 1.5), (sign * 2.8, -1.5), (sign * 2.8, -6.5), (0, -9.5)])
        canvas.stroke(curve(crease), skin * (0.55, 0.42, 0.4), 1.4, 0.45, 0.7)
    canvas.stroke(curve(sites[31:36] + _downwards(1)), skin * (0.55, 0.42, 0.4), 1.6, 0.35, 0.9)


def _paint_mouth(canvas: Canvas, appearance: Appearance, sites: np.ndarray) -> None:
    skin, paint = np.asarray(appearance.paint.skin), appearance.paint
    lips = skin * (0.86, 0.6, 0.6) + (14, 0, 2)
    if paint.makeup > 0.3:
        lips = mix(lips, (172, 32, 52) if paint.makeup > 0.7 else (196, 92, 96), 0.75 * paint.makeup)
    top, low = curve(sites[48:55]), curve(sites[[54, 55, 56, 57, 58, 59, 48]])
    inner_top, inner_low = curve(sites[60:65]), curve(sites[[64, 65, 66, 67, 60]])
    outline = np.concatenate([top, low])
    canvas.fill(outline, skin * 0.72, 0.3, 1.6)
    canvas.fill(outline, lips, 0.55 + 0.4 * paint.makeup + 0.2 * paint.female, 0.35)
    canvas.fill(np.concatenate([top, inner_top[::-1]]), lips * 0.78, 0.5, 0.5)
    canvas.stroke(curve(sites[[58, 57, 56]] * 0.5 + sites[[67, 66, 65]] * 0.5), lips * 1.25 + 14, 2.4, 0.3, 1.0)
    mouth = np.concatenate([inner_top, inner_low])
    if appearance.expression.mouth_open > 0.03:
        inside = canvas.cut(mouth, 1.5)
        _paint_inside(inside, sites)
        canvas.paste(inside, mouth, 0.25)
    canvas.stroke(inner_top, skin * (0.3, 0.16, 0.16), 1.3, 0.75, 0.35)
    for corner in (48, 54):
        canvas.disc(sites[corner], 1.7, skin * (0.42, 0.28, 0.26), 0.5, 0.9)


def _paint_inside(inside: Canvas, sites: np.ndarray) -> None:
    """Paint the inside of the mouth: dark, with upper teeth and the tongue."""
    inside.page[:] = np.array([52, 16, 18], np.float32)[:, None, None]
    gap = float(sites[66, 1] - sites[62, 1])
    upper, lower = curve(sites[60:65]), curve(sites[[64, 65, 66, 67, 60]])
    if gap > 7:
        inside.fill(np.concatenate([lower, upper * 0.35 + lower[::-1] * 0.65]), (158, 72, 74), 1.0, 1.2)
    teeth = np.concatenate([upper - _downwards(2), upper[::-1] + _downwards(min(7.5, 0.75 * gap))])
    teeth[:, 0] = sites[62, 0] + (teeth[:, 0] - sites[62, 0]) * 0.86
    inside.fill(teeth, (226, 216, 202), 1.0, 0.35)
    gaps = sites[62] + np.stack([np.stack([[p, -1], [p, min(6.5, 0.65 * gap)]]) for p in np.linspace(-12, 12, 5)])
    inside.stroke(gaps, (150, 132, 124), 0.6, 0.35)


def _paint_eye(canvas: Canvas, appearance: Appearance, eye: np.ndarray, side: int) -> None:
    """Paint an eye; `eye` is outer corner, upper lid (outer, inner), inner corner, lower lid (inner, outer)."""
    paint, expression = appearance.paint, appearance.expression
    skin, opened = np.asarray(paint.skin), min(1.0, expression.lids[side])
    sign = 1 if eye[0, 0] > eye[3, 0] else -1
    upper, lower = curve(eye[:4], count=8), curve(eye[[3, 4, 5, 0]], count=8)
    shade = mix(skin * (0.62, 0.5, 0.5), paint.accent, 0.35 * (paint.makeup > 0.75))
    lid = np.concatenate([upper - _downwards(0.5), upper[::-1] - _downwards(5.5)])
    canvas.fill(lid, shade, 0.25 + 0.55 * paint.makeup, 1.2)
    crease = upper[3:-3] + np.array([0, -4.4 - 1.2 * (1 - opened)])
    canvas.stroke(crease, skin * (0.5, 0.37, 0.34), 1.1, 0.6 * (0.35 + 0.65 * opened), 0.45)
    _paint_eyeball(canvas, appearance, eye, np.concatenate([upper, lower]))
    lash = np.asarray(paint.hair) * 0.35 + 8
    canvas.stroke(lower, skin * (0.72, 0.5, 0.48), 1.0, 0.6, 0.25)
    canvas.stroke(upper, lash, 1.2 + 0.7 * paint.makeup + 0.3 * paint.female, 0.88, 0.25)
    canvas.stroke(upper[: len(upper) // 2], lash, 1.5 + paint.makeup, 0.7, 0.3)
    if paint.female > 0.5:
        roots = upper[1:-4:2]
        tips = roots + np.stack(
            [sign * np.linspace(3.2, -0.5, len(roots)), np.full(len(roots), -3.0 + 2.4 * (1 - opened))], axis=1
        )
        canvas.stroke(np.stack([roots, tips], axis=1), lash, 0.6, 0.45 + 0.45 * paint.makeup)


def _paint_eyeball(canvas: Canvas, appearance: Appearance, eye: np.ndarray, outline: np.ndarray) -> None:
    ball = canvas.cut(outline, 1.5)
    ball.page[:] = np.array([226, 220, 214], np.float32)[:, None, None]
    center = (eye[0] + eye[3]) / 2 + np.array(appearance.expression.gaze) - _downwards(1.1)
    iris = np.asarray(appearance.paint.iris)
    for radius, color, blur in ((6.1, iris * 0.4, 0.35), (5.2, iris, 0.4), (2.4, (10, 9, 10), 0.25)):
        ball.disc(center, radius, color, 1.0, blur)
    ball.stroke(outline[: len(outline) // 2] + _downwards(1.2), (60, 44, 42), 3.0, 0.45, 1.0)
    ball.disc(eye[3], 1.8, (204, 128, 120), 0.8, 0.5)
    ball.disc(
        center + np.array([2.2 * np.sign(appearance.light.direction[0] or 1), -2.2]), 1.15, (255, 255, 255), 0.95, 0.2
    )
    canvas.paste(ball, outline, 0.2)


def _paint_brow(canvas: Canvas, appearance: Appearance, chain: np.ndarray, random: np.random.Generator) -> None:
    """Paint short hairs along the line through five points, from the tail inwards."""
    color = mix(np.asarray(appearance.paint.hair) * 0.75, (40, 30, 26), 0.35)
    sign, weight = np.sign(chain[0, 0] - chain[4, 0]), appearance.paint.brow_weight
    middle = curve(chain, count=8)
    thick = np.interp(np.linspace(0, 1, len(middle)), [0, 0.45, 0.85, 1], [0.7, 2.2, 3.1, 2.4]) * weight
    band = np.concatenate([middle - np.stack([0 * thick, thick], 1), (middle + np.stack([0 * thick, thick], 1))[::-1]])
    canvas.fill(band, color, 0.62, 0.7)
    count = 34
    indices = random.integers(1, len(middle), count)
    roots = middle[indices] + np.stack(
        [random.normal(0, 0.8, count), random.uniform(-0.2, 1.0, count) * thick[indices]], axis=1
    )
    offsets = np.stack(
        [sign * random.uniform(2, 4, count), -random.uniform(1.2, 3.2, count) * (0.4 + indices / len(middle))], axis=1
    )
    canvas.stroke(np.stack([roots, roots + offsets], axis=1), color * 0.8, 0.65, 0.6)
