"""Backgrounds, glasses and occluders of the synthetic faces, and the camera's blur and noise."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from wing_jax.synthetic.appearance import CLOTHES, SKINS, Appearance, Number
from wing_jax.synthetic.texture import curve, mix, tile

Picture = UInt8[np.ndarray, "size size 3"]


def _to_fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(points * 16).astype(np.int32)


def paint_background(appearance: Appearance, size: int, random: np.random.Generator) -> Picture:
    """Paint a background of `size` pixels with uneven light and objects, mostly out of focus."""
    base = np.asarray(CLOTHES[int(random.integers(len(CLOTHES)))], np.float32) * random.uniform(0.5, 1.1)
    base = mix(base, random.uniform(50, 220, 3), random.uniform(0.1, 0.6))
    base = mix(base, np.full(3, base.mean()), random.uniform(0.1, 0.75))
    corners = np.stack([base * random.uniform(0.5, 1.35) for _ in range(4)]).reshape(2, 2, 3).astype(np.float32)
    side = 96
    scene = cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR)
    scene += 7 * tile("blotches", side, side, random)[..., None]
    scene = np.clip(scene, 0, 255).astype(np.uint8)
    blur = _BACKGROUNDS[appearance.background](scene, base, random)
    if blur > 0:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    return cv2.resize(scene, (size, size), interpolation=cv2.INTER_LINEAR)


def _color(base: np.ndarray, random: np.random.Generator, spread: Number) -> tuple:
    return tuple(np.clip(base * random.uniform(0.5, 1.5) + random.normal(0, spread, 3), 0, 255).tolist())


def _studio(scene: np.ndarray, base: np.ndarray, random: np.random.Generator) -> float:
    at = _to_fixed_point(random.uniform(20, 76, 2)).tolist()
    glow = np.zeros_like(scene)
    cv2.circle(glow, at, 30 * 16, (90, 88, 84), -1, cv2.LINE_AA, 4)
    cv2.add(scene, cv2.GaussianBlur(glow, (0, 0), 16), scene)
    return 0.0


def _bokeh(scene: np.ndarray, base: np.ndarray, random: np.random.Generator) -> float:
    for _ in range(int(random.integers(14, 34))):
        layer_color = _color(base * 1.3 + 30, random, 22)
        cv2.circle(scene, random.integers(0, 96, 2).tolist(), int(random.integers(2, 9)), layer_color, -1, cv2.LINE_AA)
    return float(random.uniform(0.6, 2.0))


def _wall(scene: np.ndarray, base: np.ndarray, random: np.random.Generator) -> float:
    line, high, wide = _color(base * 0.7, random, 8), int(random.integers(7, 14)), int(random.integers(14, 30))
    for row, y in enumerate(range(0, 96, high)):
        cv2.line(scene, (0, y), (96, y), line, 1, cv2.LINE_AA)
        for x in range((row % 2) * wide // 2, 96, wide):
            cv2.line(scene, (x, y), (x, y + high), line, 1, cv2.LINE_AA)
    return float(random.uniform(0.3, 1.2))


def _window(scene: np.ndarray, base: np.ndarray, random: np.random.Generator) -> float:
    x, y = random.integers(-30, 70, 2).tolist()
    wide, high = random.integers(30, 80, 2).tolist()
    cv2.rectangle(scene, (x, y), (x + wide, y + high), (232, 238, 244), -1)
    frame = _color(base * 0.6, random, 12)
    for k in range(3):
        cv2.line(scene, (x + wide * k // 2, y), (x + wide * k // 2, y + high), frame, 2)
        cv2.line(scene, (x, y + high * k // 2), (x + wide, y + high * k // 2), frame, 2)
    return float(random.uniform(0.8, 2.2))


def _foliage(scene: np.ndarray, base: np.ndarray, random: np.random.Generator) -> float:
    green = mix(np.array([random.uniform(50, 130), random.uniform(90, 140), random.uniform(40, 80)]), base, 0.3)
    for _ in range(70):
        axes = random.integers(2, 9, 2).tolist()
        at = random.integers(0, 96, 2).tolist()
        cv2.ellipse(scene, at, axes, float(random.uniform(0, 180)), 0, 360, _color(green, random, 14), -1, cv2.LINE_AA)
    return float(random.uniform(0.5, 2.0))


def _stripes(scene: np.ndarray, base: np.ndarray, random: np.random.Generator) -> float:
    angle, gap = random.uniform(0, np.pi), random.integers(7, 22)
    across, along = np.array([np.cos(angle), np.sin(angle)]), 200 * np.array([-np.sin(angle), np.cos(angle)])
    color, width = _color(base, random, 30), max(1, int(gap * random.uniform(0.2, 0.6)))
    for offset in range(-100, 100, int(gap)):
        middle = 48 + across * offset
        cv2.line(
            scene,
            _to_fixed_point(middle - along).tolist(),
            _to_fixed_point(middle + along).tolist(),
            color,
            width,
            cv2.LINE_AA,
            4,
        )
    return float(random.uniform(0.3, 1.8))


def _clutter(scene: np.ndarray, base: np.ndarray, random: np.random.Generator) -> float:
    for _ in range(24):
        x, y = random.integers(-10, 96, 2).tolist()
        wide, high = random.integers(6, 34, 2).tolist()
        cv2.rectangle(scene, (x, y), (x + wide, y + high), _color(base, random, 20), -1)
    return float(random.uniform(0.6, 2.4))


_BACKGROUNDS = {
    "studio": _studio, "bokeh": _bokeh, "wall": _wall, "window": _window, "foliage": _foliage, "stripes": _stripes,
    "clutter": _clutter,
}  # fmt: skip


def draw_glasses(
    picture: Picture, appearance: Appearance, project, depth: np.ndarray, bridge_z: Number, eye_p: Number
) -> None:
    """Draw frames as 3-D curves, hidden where the head is nearer; `project` maps head millimeters to (x, y, depth)."""
    if appearance.glasses == "none":
        return
    turn = np.linspace(0, 2 * np.pi, 41)
    sun = appearance.glasses == "sun"
    wide, high, power = {"round": (22.5, 21.5, 1.0), "square": (25.5, 18.5, 0.62), "sun": (26.5, 21.5, 0.78)}[
        appearance.glasses
    ]
    frame = np.asarray(appearance.paint.accent if appearance.detail_seed % 3 == 0 else (36, 32, 34)) * 0.75
    scale = (
        float(np.linalg.norm(project(np.array([[10.0, 0, 80]]))[0, :2] - project(np.array([[0.0, 0, 80]]))[0, :2])) / 10
    )
    scale = max(
        scale, float(abs(project(np.array([[0.0, 10, 80]]))[0, 1] - project(np.array([[0.0, 0, 80]]))[0, 1])) / 10
    )
    width = max(1, round((2.6 if appearance.detail_seed % 2 else 1.7) * scale))

    def line(points: np.ndarray) -> None:
        projected = project(points)
        middle = (projected[1:] + projected[:-1]) / 2
        cell = np.round(middle[:, :2]).astype(int).clip(0, len(depth) - 1)
        visible = middle[:, 2] > depth[cell[:, 1], cell[:, 0]] - 2.0
        segments = _to_fixed_point(np.stack([projected[:-1, :2], projected[1:, :2]], axis=1)[visible])
        cv2.polylines(picture, list(segments), False, frame.tolist(), width, cv2.LINE_AA, 4)

    for sign in (-1, 1):
        x = sign * (eye_p + 0.5) + wide * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
        y = -31 + high * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
        y += 2 * sun * np.maximum(0, sign * np.cos(turn))
        rim = np.stack([x, y, bridge_z + 11 - 0.0042 * x * x], axis=1)
        _draw_lens(picture, project(rim), depth, sun, appearance)
        outer = np.array(
            [(sign * (eye_p + wide), -38, rim[:, 2].min() - 1), (sign * 76, -37, 30), (sign * 80, -36, -8)]
        )
        line(curve(outer, count=10))
        line(rim)
    arch = np.array(
        [
            (-(eye_p - wide) - 0.5, -34, bridge_z + 10.5),
            (0, -37, bridge_z + 12.5),
            (eye_p - wide + 0.5, -34, bridge_z + 10.5),
        ]
    )
    line(curve(arch, count=6))


def _draw_lens(picture: Picture, rim: np.ndarray, depth: np.ndarray, sun: bool, appearance: Appearance) -> None:
    cover = np.zeros(depth.shape, np.uint8)
    cv2.fillPoly(cover, [_to_fixed_point(rim[:, :2])], 255, cv2.LINE_AA, 4)
    rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    if not rows.size:
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    tint, strength = (
        (np.array([26, 24, 26]), 0.84 + 0.1 * (appearance.detail_seed % 2))
        if sun
        else (np.array([214, 224, 232]), 0.07)
    )
    plane = np.linalg.lstsq(np.c_[rim[:, :2], np.ones(len(rim))], rim[:, 2], rcond=None)[0]
    y, x = np.mgrid[window[0], window[1]]
    front = plane[0] * x + plane[1] * y + plane[2] > depth[window] - 4
    alpha = cover[window] * front * np.float32(strength / 255)
    glare = np.clip(
        1 - np.abs((x - columns[0]) - 0.6 * (y - rows[0]) - 0.25 * len(columns)) / (0.12 * len(columns) + 1), 0, 1
    )
    tint = tint + glare[..., None] * np.float32(70 if sun else 30)
    alpha = np.clip(alpha + 0.14 * glare * (alpha > 0), 0, 1)[..., None]
    picture[window] = picture[window] * (1 - alpha) + tint * alpha


def draw_occluder(
    picture: Picture, appearance: Appearance, points: Float[np.ndarray, "68 2"], random: np.random.Generator
) -> Bool[np.ndarray, "height width"]:
    """Draw an object in front of the face with these `points`; return which pixels it covers."""
    painter = {"hand": _hand, "microphone": _microphone, "cup": _cup, "phone": _phone, "strands": _strands}.get(
        appearance.occluder
    )
    no_hair = appearance.hair in ("bald", "buzz") or appearance.hat != "none"
    if painter is None or (appearance.occluder == "strands" and no_hair):
        return np.zeros(picture.shape[:2], bool)
    size = len(picture)
    layer, cover = picture.copy(), np.zeros((size, size), np.uint8)
    painter(layer, cover, appearance, points, random)
    soft = size / 200 if appearance.occluder == "hand" else size / 500
    layer = cv2.GaussianBlur(layer, (0, 0), soft)
    cover = cv2.GaussianBlur(cover, (0, 0), size / 260)
    alpha = cover[..., None] * np.float32(1 / 255)
    picture[:] = picture + (layer.astype(np.float32) - picture) * alpha
    return cover > 127


def _tube(layer: np.ndarray, cover: np.ndarray, path: np.ndarray, width: Number, color: np.ndarray) -> None:
    """Draw a rod along `path`: a thick line with lighter ones inside, so that it looks round."""
    path = curve(path.astype(np.float32), count=6)
    cv2.polylines(cover, [_to_fixed_point(path)], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    for share, shift, tone in (
        (1.0, 0.0, 0.72),
        (0.9, 0.02, 0.84),
        (0.7, 0.05, 0.94),
        (0.45, 0.09, 1.0),
        (0.2, 0.12, 1.04),
    ):
        place = path - np.array([shift, shift]) * width
        shade = np.clip(color * tone, 0, 255).tolist()
        cv2.polylines(layer, [_to_fixed_point(place)], False, shade, max(1, round(width * share)), cv2.LINE_AA, 4)


def _hand(
    layer: np.ndarray, cover: np.ndarray, appearance: Appearance, points: np.ndarray, random: np.random.Generator
) -> None:
    """Draw fingers over a cheek, the chin or the mouth, from below or the side."""
    span = float(np.ptp(points[:, 1]))
    skin = np.asarray(
        appearance.paint.skin if random.random() < 0.7 else SKINS[int(random.integers(len(SKINS)))], np.float32
    )
    side = 1 if random.random() < 0.5 else -1
    goal = points[[48, 54, 8, 57, 4, 12][int(random.integers(6))]] + random.normal(0, 0.05 * span, 2)
    angle = np.deg2rad(random.uniform(25, 75))
    along = np.array([-side * np.cos(angle), -np.sin(angle)])
    across, width = np.array([-along[1], along[0]]), 0.115 * span
    degrees = float(np.rad2deg(np.arctan2(along[1], along[0])))
    wrist = goal - along * span * 1.25
    _tube(layer, cover, np.stack([wrist - along * span * 0.5, wrist + along * span * 0.3]), 0.38 * span, skin * 0.92)
    palm = wrist + along * span * 0.42
    _tube(layer, cover, np.stack([palm - along * 0.32 * span, palm - along * 0.1 * span]), 0.42 * span, skin * 0.95)
    thumb = palm - along * 0.3 * span - across * 0.16 * span
    _tube(layer, cover, np.stack([thumb, thumb + along * 0.3 * span - across * 0.1 * span]), 0.14 * span, skin * 0.97)
    for k in range(4):
        knuckle = palm + across * (k - 1.5) * width * 0.98
        _tube(layer, cover, np.stack([knuckle - along * 0.3 * span, knuckle]), width * 1.15, skin * 0.98)
    for k, length in enumerate((0.78, 0.92, 0.9, 0.74)):
        base = palm + across * (k - 1.5) * width * 1.02
        tip = base + along * span * length * 0.85 + across * (k - 1.5) * width * 0.22
        bend = (base + tip) / 2 + across * 0.02 * span
        _tube(layer, cover, np.stack([base, bend, tip]), width * (0.95 if k < 3 else 0.85), skin)
        nail = _to_fixed_point(tip + along * width * 0.12).tolist()
        axes = _to_fixed_point(np.array([width * 0.3, width * 0.24])).tolist()
        tone = np.clip(skin * (1.1, 0.95, 0.93) + 14, 0, 255).tolist()
        cv2.ellipse(layer, nail, axes, degrees, 0, 360, tone, -1, cv2.LINE_AA, 4)


def _microphone(
    layer: np.ndarray, cover: np.ndarray, appearance: Appearance, points: np.ndarray, random: np.random.Generator
) -> None:
    span = float(np.ptp(points[:, 1]))
    head = points[57] + random.normal(0, 0.07 * span, 2) + (0, 0.22 * span)
    direction = np.array([random.normal(0, 0.5), 1.0])
    _tube(layer, cover, np.stack([head, head + direction * span * 1.4]), 0.15 * span, np.array([54, 54, 58]))
    radius = 0.15 * span
    for share, tone in ((1.0, 40), (0.85, 62), (0.6, 92), (0.3, 130)):
        at = _to_fixed_point(head - radius * 0.35 * (1 - share)).tolist()
        cv2.circle(layer, at, int(radius * share * 16), (tone, tone, tone + 3), -1, cv2.LINE_AA, 4)
    cv2.circle(cover, _to_fixed_point(head).tolist(), int(radius * 16), 255, -1, cv2.LINE_AA, 4)


def _cup(
    layer: np.ndarray, cover: np.ndarray, appearance: Appearance, points: np.ndarray, random: np.random.Generator
) -> None:
    span = float(np.ptp(points[:, 1]))
    top = points[62] + random.normal(0, 0.05 * span, 2)
    wide, high = 0.24 * span, 0.62 * span
    color = np.asarray(appearance.paint.accent, np.float32)
    for k in np.linspace(-1, 1, 25):
        shade = np.clip(color * (1.05 - 0.5 * abs(k + 0.25)), 0, 255).tolist()
        strip = top + np.array(
            [(k * wide, 0), ((k + 0.12) * wide, 0), ((k + 0.12) * wide * 0.74, high), (k * wide * 0.74, high)]
        )
        for target, value in ((layer, shade), (cover, 255)):
            cv2.fillPoly(target, [_to_fixed_point(strip)], value, cv2.LINE_AA, 4)
    rim = _to_fixed_point(np.array([wide * 1.04, 0.06 * span])).tolist()
    cv2.ellipse(cover, _to_fixed_point(top).tolist(), rim, 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
    cv2.ellipse(layer, _to_fixed_point(top).tolist(), rim, 0, 0, 360, (246, 244, 240), -1, cv2.LINE_AA, 4)


def _phone(
    layer: np.ndarray, cover: np.ndarray, appearance: Appearance, points: np.ndarray, random: np.random.Generator
) -> None:
    span = float(np.ptp(points[:, 1]))
    goal = points[[4, 12, 57, 8][int(random.integers(4))]] + (0, 0.3 * span)
    angle = random.normal(0, 0.35)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    box = np.array([(-0.26, -0.5), (0.26, -0.5), (0.26, 0.5), (-0.26, 0.5)]) * span
    for target, value in ((layer, (28, 28, 32)), (cover, 255)):
        cv2.fillPoly(target, [_to_fixed_point(goal + box @ turn.T)], value, cv2.LINE_AA, 4)
    cv2.polylines(
        layer,
        [_to_fixed_point(goal + 0.95 * box @ turn.T)],
        True,
        (88, 88, 96),
        max(1, round(0.02 * span)),
        cv2.LINE_AA,
        4,
    )
    lens = goal + np.array([-0.16, -0.38]) * span @ turn.T
    cv2.circle(layer, _to_fixed_point(lens).tolist(), int(0.055 * span * 16), (70, 74, 86), -1, cv2.LINE_AA, 4)


def _strands(
    layer: np.ndarray, cover: np.ndarray, appearance: Appearance, points: np.ndarray, random: np.random.Generator
) -> None:
    """Draw loose hair that falls over the face from above the brows."""
    span = float(np.ptp(points[:, 1]))
    side = 17 if random.random() < 0.5 else 26
    root = points[side] * 0.6 + points[27] * 0.4 - (0, 0.55 * span)
    hair = np.asarray(appearance.paint.hair, np.float32)
    for _ in range(int(random.integers(10, 26))):
        start = root + random.normal(0, 0.07 * span, 2)
        goal = points[side] + random.normal(0, 0.09 * span, 2) + (0, random.uniform(0.1, 0.8) * span)
        path = curve(
            np.stack([start, (start + goal) / 2 + random.normal(0, 0.05 * span, 2), goal]).astype(np.float32), count=8
        )
        width = max(1, round(random.uniform(0.008, 0.022) * span))
        shade = np.clip(hair * random.uniform(0.7, 1.35), 0, 255).tolist()
        cv2.polylines(layer, [_to_fixed_point(path)], False, shade, width, cv2.LINE_AA, 4)
        cv2.polylines(cover, [_to_fixed_point(path)], False, 235, width, cv2.LINE_AA, 4)


def apply_camera(picture: Picture, appearance: Appearance, random: np.random.Generator) -> Picture:
    """Apply the camera's blur and noise, and convert to gray if the appearance asks for it."""
    size = len(picture)
    sigma = appearance.blur * size / 256
    result = cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.25 else picture
    grain = tile("grain", size, size, random) * np.float32(appearance.noise * 0.55)
    result = np.clip(result + grain[..., None], 0, 255).astype(np.uint8)
    return np.repeat(cv2.cvtColor(result, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2) if appearance.gray else result
