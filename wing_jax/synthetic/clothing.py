"""Ears, hair, hats and cloth of the synthetic head, as grids of vertices."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float

from wing_jax.synthetic.appearance import Appearance, Number
from wing_jax.synthetic.mesh import (
    ARC,
    AZIMUTH,
    COLUMNS,
    NECK,
    ROWS,
    bumps,
    grid_normals,
    sample_grid,
    smooth_polyline,
    smoothstep,
)
from wing_jax.synthetic.texture import CORNER, PAGE_SIZE, Canvas, page_coordinates, tile, to_page
from wing_jax.values import Value

STRIP = 66.0  # height in millimeters of the texture below the page: hanging hair, ear, brim
_HAIR_BOX, _EAR_BOX, _BRIM_BOX = (2.0, 212.0), (216.0, 262.0), (266.0, 318.0)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sheet(Value):
    """A grid of vertices and their positions on the texture (page millimeters)."""

    grid: Float[np.ndarray, "rows columns 3"]  # head axes, mm
    page_positions: Float[np.ndarray, "rows columns 2"]
    two_sided: bool = False
    with_head: float = 1.0  # share of the head's rotation that its lower end follows
    shade: float = 1.0


def head_sheet(appearance: Appearance, skin: Float[np.ndarray, "rows columns 3"], random: np.random.Generator) -> Sheet:
    """Return the head with its hair, hat or cloth raised over the skin."""
    raised, out = np.zeros(skin.shape[:2]), grid_normals(skin)
    if appearance.hat != "headscarf":
        raised = _hair_height(appearance, random)
    cloth = cloth_cover(appearance)
    if cloth is not None:
        cover, thickness = cloth
        raised = raised * (1 - cover) + thickness * cover
        if appearance.occluder in ("mask", "scarf"):  # cloth does not follow the hollows of the face
            smooth = cv2.GaussianBlur(skin, (0, 0), 2.5, borderType=cv2.BORDER_REPLICATE)
            skin = skin + (smooth - skin) * cover[..., None]
    grid = skin + out * raised[..., None]
    return Sheet(grid.astype(np.float32), _page_places())


def hairline(appearance: Appearance) -> Float[np.ndarray, "n 2"]:
    """Return the border of the hair as (p >= 0, v); hair grows above it."""
    recede = appearance.hairline
    front, temple = -94 + 2.5 * recede, -78 - 4 * min(0.0, recede)
    if appearance.hair == "bald":
        front, temple = -190, -190
    elif appearance.hair == "fringe":
        front, temple = -64, -62
    knots = {
        0: front, 22: front - 1 - 2.5 * max(0.0, recede), 45: front + 1 - 4 * max(0.0, recede), 62: temple + 2,
        74: temple + 10, 88: -46, 101: -34, 107: -14, 122: -6, 127: -40, 150: -38, 160: 20, 180: 58, 252: 66,
    }  # fmt: skip
    if appearance.hair == "bald":
        knots = {0: -300, 252: -300}
    p = np.linspace(0, np.pi * ARC, 60)
    return np.stack([p, smooth_polyline(knots, p, blur=3.5)], axis=1)


def paint_hair(canvas: Canvas, appearance: Appearance, random: np.random.Generator) -> None:
    """Paint hair on the scalp, above the hairline, with strands in its direction and a ragged edge."""
    height, width = canvas.page.shape[1:]
    p, v = page_coordinates(width, height)
    border = hairline(appearance)
    edge = np.interp(np.abs(p), border[:, 0], border[:, 1]).astype(np.float32)
    rows = slice(0, int(np.searchsorted(v, edge.max() + 14)))
    kind = "curls" if appearance.hair in ("curly", "afro") else "strands"
    strands = tile(kind, rows.stop, width, random)
    if appearance.hair in ("short", "parted", "bun"):
        tilt = random.uniform(-1.4, 1.4)
        shear = np.array([[1, tilt, 0], [0, 1, 0]], np.float32)
        strands = cv2.warpAffine(strands, shear, strands.shape[::-1], borderMode=cv2.BORDER_REFLECT)
    softness = {"buzz": 5.0, "afro": 4.0}.get(appearance.hair, 7.0)
    alpha = np.clip((edge[None] - v[rows, None] + 3 * strands) * np.float32(1 / softness), 0, 1)
    if appearance.hair == "buzz":
        alpha *= 0.82
    shade = (0.92 + (0.17 if kind == "strands" else 0.22) * strands).clip(0.5, 1.6)
    for plane, tone in zip(canvas.page[:, rows], appearance.paint.hair, strict=True):
        plane += (tone * shade - plane) * alpha


def _page_places() -> np.ndarray:
    sites = np.stack(np.meshgrid(COLUMNS, ROWS), axis=-1)
    return to_page(sites)


def _above_border(line: np.ndarray, softness: Number) -> np.ndarray:
    """Return 1 where the grid is above the border (p >= 0, v), 0 below; [rows, columns]."""
    edge = np.interp(np.abs(COLUMNS), line[:, 0], line[:, 1])
    return smoothstep(edge[None] - ROWS[:, None], -1.0, softness)


def _hair_height(appearance: Appearance, random: np.random.Generator) -> np.ndarray:
    heights = {
        "bald": 0,
        "buzz": 1.5,
        "short": 11,
        "parted": 15,
        "fringe": 12,
        "curly": 22,
        "afro": 46,
        "long": 11,
        "bob": 13,
        "bun": 6,
    }
    height = heights[appearance.hair] * appearance.hair_volume
    if appearance.hat != "none":
        height = min(height, 7.0)
    hair_mask = _above_border(
        hairline(appearance), {"afro": 30.0, "fringe": 12.0, "bob": 16.0, "long": 24.0}.get(appearance.hair, 30.0)
    )
    waves = (
        1 + 0.1 * np.sin(COLUMNS / 9 + random.uniform(0, 6))[None] * np.sin(ROWS / 17 + random.uniform(0, 6))[:, None]
    )
    if appearance.hair in ("curly", "afro"):
        clumps = cv2.GaussianBlur(random.normal(size=hair_mask.shape).astype(np.float32), (5, 5), 0.9)
        waves = waves + 0.24 * clumps
    raised = height * hair_mask * waves
    if appearance.hair in ("short", "parted", "curly"):
        side = smoothstep(np.abs(COLUMNS), 75, 115)
        raised *= 1 - (0.55 if appearance.hair != "curly" else 0.3) * side * smoothstep(ROWS, -110, -70)[:, None]
    if appearance.hair in ("short", "parted", "fringe"):
        part = random.choice([-38.0, 38.0, 0.0])
        raised += appearance.hair_volume * hair_mask * _one_sided_bump(5.0, -0.7 * part, -115, 38, 26)
        raised -= _one_sided_bump(0.5 * height, part, -130, 4.5, 40) * (appearance.hair == "parted")
    if appearance.hair == "bun":
        raised += appearance.hair_volume * bumps((34.0, 0, -182, 500, 13)) * hair_mask
    return raised


def _one_sided_bump(height: Number, p: Number, v: Number, wide: Number, high: Number) -> np.ndarray:
    """Return a Gaussian on only one side of the head."""
    single = bumps((height, abs(p), v, wide, high)) * (1.0 if p == 0 else smoothstep(COLUMNS * np.sign(p), -8, 8))
    return single


def cloth_cover(appearance: Appearance) -> tuple[np.ndarray, float] | None:
    """Return the cover of cloth, 0 to 1 on the grid, and its thickness in millimeters; None without cloth."""
    p, v = np.abs(COLUMNS)[None], ROWS[:, None]
    if appearance.hat in ("beanie", "cap"):
        line = np.stack(
            [
                np.linspace(0, np.pi * ARC, 30),
                smooth_polyline({0: -78, 90: -66, 130: -56, 252: -20}, np.linspace(0, np.pi * ARC, 30)),
            ],
            1,
        )
        return _above_border(line, 5.0), 11.0 if appearance.hat == "beanie" else 9.0
    if appearance.hat == "headscarf":
        oval = (p / 84) ** 2.6 + (np.abs(v + 14) / 76 * np.where(v > -14, 76 / 100, 1)) ** 2.6
        return smoothstep(oval, 0.97, 1.12), 9.0
    if appearance.occluder == "mask":
        return (smoothstep(v, -10, -6) * smoothstep(-v, -84, -74) * smoothstep(-p, -98, -86)).astype(np.float32), 5.0
    if appearance.occluder == "scarf":
        return (smoothstep(v + 0.0012 * p**2, 24, 40) * smoothstep(-v, -170, -150)).astype(np.float32), 15.0
    return None


def cloth_thickness(appearance: Appearance, sites: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    """Return the thickness in millimeters of hat, mask or scarf at these positions (p, v)."""
    cloth = cloth_cover(appearance)
    if cloth is None:
        return np.zeros(len(sites), np.float32)
    cover = np.broadcast_to(cloth[0], (len(ROWS), len(COLUMNS)))
    return sample_grid(cover[..., None].astype(np.float32), sites)[:, 0] * np.float32(cloth[1])


def paint_cloth(canvas: Canvas, appearance: Appearance, random: np.random.Generator) -> None:
    """Paint shirt, hat, headscarf, mask and scarf on the page."""
    height, width = canvas.page.shape[1:]
    x = (np.arange(width) + 0.5) / canvas.texels
    y = (np.arange(height) + 0.5) / canvas.texels
    rows_at, columns_at = (
        to_page(np.stack([0 * ROWS, ROWS], 1))[:, 1],
        to_page(np.stack([COLUMNS, 0 * COLUMNS], 1))[:, 0],
    )
    neckline = NECK + random.uniform(-22, 24)
    shirt = smoothstep(ROWS[:, None] - 18 * np.cos(AZIMUTH)[None] * random.uniform(-0.2, 1.2), neckline, neckline + 5)
    _blend_cloth(canvas, shirt, appearance.paint.clothes, (rows_at, columns_at), (y, x), random)
    cloth = cloth_cover(appearance)
    if cloth is not None:
        color = appearance.paint.accent
        if appearance.occluder == "mask" and appearance.hat == "none" and random.random() < 0.7:
            color = (150, 190, 214) if random.random() < 0.6 else (238, 240, 240)
        _blend_cloth(canvas, cloth[0], color, (rows_at, columns_at), (y, x), random)


def _blend_cloth(
    canvas: Canvas, cover: np.ndarray, color, lines: tuple, texels: tuple, random: np.random.Generator
) -> None:
    """Blend woven cloth where `cover` (on the grid) is above a half."""
    rows = np.interp(texels[0], lines[0], np.arange(len(ROWS)))
    columns = np.interp(texels[1], lines[1], np.arange(len(COLUMNS)))
    inside = np.flatnonzero((cover > 0.02).any(1))
    first = np.searchsorted(rows, inside[0] - 1.0)
    last = np.searchsorted(rows, inside[-1] + 1.0)
    rows = rows[first:last]
    r, c = rows.astype(int).clip(0, len(ROWS) - 2), columns.astype(int).clip(0, len(COLUMNS) - 2)
    down, across = (rows - r).astype(np.float32)[:, None], (columns - c).astype(np.float32)[None]
    cover = cover.astype(np.float32)
    left = cover[r][:, c] * (1 - across) + cover[r][:, c + 1] * across
    below = cover[r + 1][:, c] * (1 - across) + cover[r + 1][:, c + 1] * across
    alpha = np.clip((left * (1 - down) + below * down - 0.35) * 5, 0, 1)
    patch = canvas.page[:, first:last]
    high, wide = patch.shape[1:]
    woven = 1 + 0.045 * tile("weave", high, wide, random) + 0.04 * tile("blotches", high, wide, random)
    patch += (np.asarray(color, np.float32)[:, None, None] * woven - patch) * alpha


def paint_strip(
    appearance: Appearance, texels: Number, random: np.random.Generator
) -> Float[np.ndarray, "3 height width"]:
    """Paint the texture of the parts attached to the head: hanging hair, an ear, a brim."""
    height, width = round(STRIP * texels), round(PAGE_SIZE[0] * texels)
    strip = np.empty((3, height, width), np.float32)
    strip[:] = np.asarray(appearance.paint.hair, np.float32)[:, None, None]
    strip *= (0.92 + 0.24 * tile("strands", height, width, random)).clip(0.4, 1.6)
    canvas = Canvas(strip, texels)
    first, last = (round(edge * texels) for edge in (_EAR_BOX[0] - 2, _EAR_BOX[1] + 2))
    skin = np.asarray(appearance.paint.skin, np.float32) * (0.99, 0.9, 0.88)
    strip[:, :, first:last] = skin[:, None, None]
    center = np.array([sum(_EAR_BOX) / 2, STRIP / 2], np.float32)
    turn = np.linspace(0, 2 * np.pi, 24)
    for at, size, strength in (((1, 3), (6.5, 10), 0.75), ((-4, -13), (8, 5), 0.35), ((5, -4), (3, 12), 0.35)):
        oval = center + np.array(at) + np.stack([np.cos(turn) * size[0], np.sin(turn) * size[1]], 1)
        canvas.fill(oval - CORNER, skin * (0.5, 0.36, 0.33), strength, 1.6)
    strip[:, :, round((_BRIM_BOX[0] - 2) * texels) :] = np.asarray(appearance.paint.accent, np.float32)[:, None, None]
    return strip


def extra_sheets(appearance: Appearance, skin: np.ndarray, random: np.random.Generator) -> list[Sheet]:
    """Return the sheets of ears, hanging hair and a brim that the appearance has."""
    sheets = []
    if appearance.hat != "headscarf":
        sheets += [_ear(appearance, sign) for sign in (-1, 1)]
        if appearance.hair in ("long", "bob"):
            sheets.append(_hanging_hair(appearance, random))
    if appearance.hat == "cap":
        sheets.append(_brim(skin))
    return sheets


def _ear(appearance: Appearance, sign: int) -> Sheet:
    """Return an ear: a dish with a rim, open to the side and a little forward."""
    turn = np.linspace(0, 2 * np.pi, 19)[None]
    ring = np.array([0, 0.3, 0.55, 0.75, 0.88, 0.96, 1.0, 0.86])[:, None]
    height = np.array([-2, -2, 0, 4, 6.5, 6, 3, -6])[:, None]
    size = 1 + 0.07 * appearance.shape.ears
    along = ring * np.cos(turn) * (16.5 - 4.5 * np.sin(turn).clip(0, 1)) * size
    down = ring * np.sin(turn) * 30 * size
    lobe = np.sin(turn).clip(0, 1)
    tucked = appearance.hair in ("long", "bob")
    spread = np.deg2rad(12 if tucked else 28 + 7 * appearance.shape.ears)
    back = along * np.cos(spread) - 0.16 * down
    out = along * np.sin(spread) + height * (1 - 0.6 * lobe) + (4.0 if tucked else 7.5)
    wide = 71.5 * (1 + 0.022 * appearance.shape.width)
    grid = np.stack([sign * (wide + out), -16 + down, -17 - back], axis=-1)
    x = _EAR_BOX[0] + 23 - along / size
    page_positions = np.stack([x, STRIP / 2 + down / size], axis=-1)
    page_positions[..., 1] += PAGE_SIZE[1]
    if sign > 0:
        grid, page_positions = grid[:, ::-1], page_positions[:, ::-1]
    return Sheet(grid[::-1].astype(np.float32), page_positions[::-1].astype(np.float32), two_sided=True)


def _hanging_hair(appearance: Appearance, random: np.random.Generator) -> Sheet:
    """Return hair that hangs from one temple around the back to the other."""
    opening = np.deg2rad(random.uniform(66, 92))
    turn = np.linspace(-opening, opening - 2 * np.pi, 32)[::-1]  # columns run right when seen from outside
    t = np.linspace(0, 1, 21)[:, None]
    end = random.uniform(65, 95) if appearance.hair == "bob" else random.uniform(120, 235)
    volume = 11 * appearance.hair_volume
    y = np.interp(t, [0, 0.12, 0.25, 1], [-128, -100, -70, end])
    fit = np.interp(t, [0, 0.12, 0.25, 0.5, 1], [0.7, 0.93, 1.0, 1.0, random.uniform(0.9, 1.12)])
    x = (76 + volume) * np.sin(turn) * fit
    z = np.where(np.cos(turn) > 0, 78, 96 + volume) * np.cos(turn) * fit - 6
    wave = random.uniform(0.5, 5) * np.sin(t * random.uniform(5, 16) + 2.0 * np.sin(turn * 5)) * t
    ragged = random.normal(0, 6, turn.shape)[None] * t**3
    grid = np.stack([x + wave * np.sin(turn), y + ragged + 0 * x, z + wave * np.cos(turn)], axis=-1)
    page_positions = np.stack(
        [np.broadcast_to(np.linspace(*_HAIR_BOX, 32), x.shape), np.broadcast_to(PAGE_SIZE[1] + 3 + 60 * t, x.shape)],
        axis=-1,
    )
    return Sheet(grid.astype(np.float32), page_positions.astype(np.float32), two_sided=True, with_head=0.75, shade=0.95)


def _brim(skin: np.ndarray) -> Sheet:
    turn = np.deg2rad(np.linspace(-62, 62, 15))[None]
    t = np.linspace(0, 1, 5)[:, None]
    reach = 68 * np.cos(turn * 1.35).clip(0, 1) ** 0.6
    z = (101 + 0 * t) * np.cos(turn) + t * reach
    x = 86 * np.sin(turn) * (1 - 0.05 * t)
    y = -82 + 14 * np.sin(turn) ** 2 + t * (8 - 5 * np.cos(turn)) + 0 * x
    grid = np.stack([x, y, z], axis=-1)
    page_positions = np.stack(
        [np.broadcast_to(np.linspace(*_BRIM_BOX, 15), x.shape), PAGE_SIZE[1] + 6 + 50 * t + 0 * x], axis=-1
    )
    return Sheet(grid.astype(np.float32), page_positions.astype(np.float32), two_sided=True)
