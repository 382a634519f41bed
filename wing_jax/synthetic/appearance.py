"""The appearance of a synthetic face, sampled from (seed, index). `render` draws it."""

import dataclasses
import math

import numpy as np

Number = int | float
Color = tuple[Number, Number, Number]  # sRGB, 0 to 255

SKINS: tuple[Color, ...] = (
    (246, 217, 197), (236, 198, 170), (222, 177, 143), (196, 146, 108), (160, 110, 76), (120, 80, 56), (86, 57, 42),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (28, 24, 24), (46, 34, 28), (70, 48, 34), (104, 72, 46), (150, 112, 70), (196, 160, 108), (126, 60, 34),
    (150, 148, 146), (214, 210, 204),
)  # fmt: skip
IRISES: tuple[Color, ...] = (
    (60, 36, 22),
    (92, 60, 32),
    (118, 96, 52),
    (86, 110, 84),
    (92, 126, 156),
    (120, 134, 142),
)
CLOTHES: tuple[Color, ...] = (
    (40, 44, 58), (178, 42, 48), (226, 224, 216), (58, 92, 130), (84, 112, 74), (30, 30, 32), (214, 168, 70),
    (142, 120, 148), (120, 86, 64), (200, 120, 110),
)  # fmt: skip
HAIR_STYLES = ("bald", "buzz", "short", "parted", "fringe", "curly", "afro", "long", "bob", "bun")
HATS = ("none", "beanie", "cap", "headscarf")
GLASSES = ("none", "round", "square", "sun")
OCCLUDERS = ("none", "hand", "microphone", "cup", "phone", "mask", "scarf", "strands")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles in degrees: yaw > 0 turns the nose to image right, pitch > 0 lifts it, roll > 0 turns x towards y."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    distance: float = 900.0  # camera to head, mm
    scale: float = 0.5  # side of the landmarks' box / side of the picture
    center: tuple[float, float] = (0.0, 0.0)  # offset of that box from the picture's center, in sides of the picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """The identity, in standard deviations from a mean head."""

    width: float = 0.0
    jaw_width: float = 0.0
    chin_length: float = 0.0
    chin_forward: float = 0.0
    forehead: float = 0.0
    brow_ridge: float = 0.0
    brow_height: float = 0.0
    brow_arch: float = 0.0
    cheekbones: float = 0.0
    cheek_fat: float = 0.0
    nose_length: float = 0.0
    nose_height: float = 0.0
    nose_width: float = 0.0
    nose_hump: float = 0.0
    nose_tilt: float = 0.0
    eye_gap: float = 0.0
    eye_size: float = 0.0
    eye_tilt: float = 0.0
    mouth_width: float = 0.0
    mouth_height: float = 0.0
    lips: float = 0.0
    head_depth: float = 0.0
    ears: float = 0.0
    neck: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expression:
    """The expression; pairs are (image left, image right) of a face that looks at the camera."""

    mouth_open: float = 0.0  # 0 closed to 1 wide open
    smile: tuple[float, float] = (0.0, 0.0)  # -1 to 1
    pout: float = 0.0
    lids: tuple[float, float] = (1.0, 1.0)  # 0 closed, 1 open, 1.25 wide
    brows: tuple[float, float] = (0.0, 0.0)  # -1 frown to 1 raised
    gaze: tuple[float, float] = (0.0, 0.0)  # iris shift, mm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paint:
    """Colors and marks."""

    skin: Color = SKINS[1]
    hair: Color = HAIRS[2]
    iris: Color = IRISES[0]
    clothes: Color = CLOTHES[0]
    accent: Color = CLOTHES[1]  # hat, mask, scarf, frames
    age: float = 0.3  # 0 child, 1 old
    female: float = 0.5
    beard: float = 0.0  # 0 none, 1 full
    moustache: float = 0.0
    makeup: float = 0.0
    freckles: int = 0
    blush: float = 0.3
    brow_weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Light:
    """A lamp and an ambient light, in camera axes (x right, y down, z to the viewer)."""

    direction: tuple[float, float, float] = (-0.4, -0.5, 0.77)
    color: Color = (1.0, 0.97, 0.92)
    ambient: Color = (0.42, 0.43, 0.46)
    shine: float = 0.3
    rim: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appearance:
    """All properties of a picture except its size; `detail_seed` is for small details (strands, pores, background)."""

    pose: Pose = Pose()
    shape: Shape = Shape()
    expression: Expression = Expression()
    paint: Paint = Paint()
    light: Light = Light()
    hair: str = "short"
    hair_volume: float = 1.0
    hairline: float = 0.0  # standard deviations, > 0 recedes
    hat: str = "none"
    glasses: str = "none"
    occluder: str = "none"
    background: str = "studio"
    blur: float = 0.0  # of the camera, pixels at size 256
    noise: float = 3.0  # of the camera, gray levels
    gray: bool = False
    detail_seed: int = 0


BACKGROUNDS = ("studio", "bokeh", "wall", "window", "foliage", "stripes", "clutter")


def sample_appearance(*, seed: int, index: int) -> Appearance:
    """Sample face `index` of the stream `seed`, independent of the other faces, their order and the process."""
    random = np.random.default_rng([seed, index])
    female, age = float(random.random()), float(random.beta(2.0, 2.6))
    hat = _sample_option(random, HATS, (0.86, 0.05, 0.05, 0.04))
    return Appearance(
        pose=_sample_pose(random),
        shape=_sample_shape(random, female, age),
        expression=_sample_expression(random),
        paint=_sample_paint(random, female, age),
        light=_sample_light(random),
        hair=_sample_hair(random, female, age),
        hair_volume=float(random.uniform(0.7, 1.3)),
        hairline=float(random.normal(0.0 if female > 0.5 else 0.5 + age, 0.6)),
        hat=hat,
        glasses=_sample_option(random, GLASSES, (0.76, 0.08, 0.11, 0.05)),
        occluder=_sample_option(random, OCCLUDERS, (0.76, 0.06, 0.03, 0.02, 0.02, 0.04, 0.03, 0.04)),
        background=_sample_option(random, BACKGROUNDS, (0.22, 0.2, 0.14, 0.1, 0.14, 0.08, 0.12)),
        blur=float(max(0.0, random.normal(0.2, 0.5))),
        noise=float(random.gamma(2.0, 1.6)),
        gray=bool(random.random() < 0.05),
        detail_seed=int(random.integers(2**31)),
    )


def _sample_option(random: np.random.Generator, options: tuple[str, ...], odds: tuple[float, ...]) -> str:
    return options[int(np.searchsorted(np.cumsum(odds), random.random() * sum(odds)))]


def _sample_color(random: np.random.Generator, colors: tuple[Color, ...], jitter: Number) -> Color:
    """Sample a color between two neighbors of the list, with jitter."""
    position = random.uniform(0, len(colors) - 1)
    first = min(int(position), len(colors) - 2)
    near, far = np.asarray(colors[first]), np.asarray(colors[first + 1])
    mixed = near + (far - near) * (position - first) + random.normal(0, jitter, 3)
    return tuple(np.clip(mixed, 8, 250).tolist())


def _sample_pose(random: np.random.Generator) -> Pose:
    """Sample a pose with a long-tailed yaw: three quarters within about 30 degrees, the others up to 90."""
    if random.random() < 0.74:
        yaw = random.normal(0, 13)
    else:
        yaw = math.copysign(15 + 75 * random.beta(1.1, 1.5), random.random() - 0.5)
    return Pose(
        yaw=float(np.clip(yaw, -90, 90)),
        pitch=float(np.clip(random.normal(0, 9), -27, 27)),
        roll=float(np.clip(random.normal(0, 8), -24, 24)),
        distance=float(random.uniform(550, 1800)),
        scale=float(random.uniform(0.44, 0.55)),
        center=tuple(random.normal(0, 0.018, 2).tolist()),
    )


def _sample_shape(random: np.random.Generator, female: float, age: float) -> Shape:
    names = [field.name for field in dataclasses.fields(Shape)]
    values = dict(zip(names, np.clip(random.normal(0, 1, len(names)), -2.2, 2.2).tolist(), strict=True))
    male, child = 1 - 2 * female, max(0.0, 0.3 - age) / 0.3
    for name, per_male, per_child in (
        ("jaw_width", 0.8, -0.8), ("chin_length", 0.5, -1.6), ("brow_ridge", 0.9, -1.0), ("lips", -0.5, 0.0),
        ("eye_size", -0.5, 1.6), ("nose_length", 0.5, -1.6), ("nose_height", 0.4, -1.4), ("neck", 0.8, -1.2),
        ("cheek_fat", 0.0, 1.6), ("cheekbones", -0.3, -0.5), ("forehead", -0.2, 0.8), ("brow_height", -0.6, 0.5),
    ):  # fmt: skip
        values[name] = 0.85 * values[name] + per_male * male + per_child * child
    return Shape(**values)


def _sample_expression(random: np.random.Generator) -> Expression:
    smile = random.choice([0.0, 0.9, -0.35], p=[0.45, 0.42, 0.13]) + random.normal(0, 0.15)
    opening = random.beta(1.2, 2.4) * 0.9 if random.random() < 0.42 else 0.0
    lids = np.clip(random.normal(0.95, 0.12) + random.normal(0, 0.02, 2), 0.35, 1.25)
    if random.random() < 0.06:
        lids = np.zeros(2) + random.uniform(0, 0.15)
    elif random.random() < 0.02:
        lids[int(random.integers(2))] = 0.03
    brows = np.clip(random.normal(0, 0.35) + random.normal(0, 0.1, 2), -1, 1)
    sides = np.clip(smile + random.normal(0, 0.08, 2), -0.7, 1.2)
    return Expression(
        mouth_open=float(opening),
        smile=tuple(sides.tolist()),
        pout=float(max(0.0, random.normal(-0.6, 0.5))),
        lids=tuple(lids.tolist()),
        brows=tuple(brows.tolist()),
        gaze=tuple(np.clip(random.normal(0, [1.6, 0.7]), -3.5, 3.5).tolist()),
    )


def _sample_paint(random: np.random.Generator, female: float, age: float) -> Paint:
    skin = _sample_color(random, SKINS, 4)
    fair = (sum(skin) / 3 - 60) / 150
    hair = _sample_color(random, HAIRS[:3] if random.random() > fair else HAIRS[1:7], 5)
    if age > 0.62 and random.random() < 0.75:
        hair = _sample_color(random, HAIRS[7:], 5)
    man = female < 0.5 and age > 0.25
    return Paint(
        skin=skin,
        hair=hair,
        iris=_sample_color(random, IRISES[:2] if random.random() > fair else IRISES, 6),
        clothes=_sample_color(random, CLOTHES, 10),
        accent=CLOTHES[int(random.integers(len(CLOTHES)))],
        age=age,
        female=female,
        beard=float(random.choice([0, 0.25, 0.6, 1.0], p=[0.5, 0.25, 0.13, 0.12])) if man else 0.0,
        moustache=float(random.choice([0, 0.8], p=[0.85, 0.15])) if man else 0.0,
        makeup=float(random.beta(1.3, 1.5)) if female > 0.55 and age > 0.2 else 0.0,
        freckles=int(random.integers(15, 70)) if fair > 0.7 and random.random() < 0.2 else 0,
        blush=float(random.uniform(0.1, 0.8)),
        brow_weight=float(random.uniform(0.75, 1.25) * (1.15 - 0.35 * female)),
    )


def _sample_light(random: np.random.Generator) -> Light:
    azimuth = np.deg2rad(random.normal(0, 42))
    height = np.deg2rad(np.clip(random.normal(28, 16), -15, 70))
    warm, strength = random.normal(0, 0.06), random.uniform(0.35, 0.82)
    fill = random.uniform(0.22, 0.5) if strength > 0.7 else random.uniform(0.35, 0.62)
    return Light(
        direction=(
            float(np.sin(azimuth) * np.cos(height)),
            float(-np.sin(height)),
            float(np.cos(azimuth) * np.cos(height)),
        ),
        color=(
            float(strength * (1 + warm)),
            float(strength * (1 + 0.2 * warm)),
            float(strength * (1 - warm)),
        ),
        ambient=tuple((fill * (1 + random.normal(0, 0.04, 3))).tolist()),
        shine=float(random.uniform(0.05, 0.5)),
        rim=float(max(0.0, random.normal(-0.1, 0.25))),
    )


def _sample_hair(random: np.random.Generator, female: float, age: float) -> str:
    if female > 0.5:
        odds = (0.005, 0.02, 0.07, 0.06, 0.08, 0.09, 0.05, 0.33, 0.17, 0.125)
    else:
        bald = 0.1 + 0.2 * max(0.0, age - 0.4)
        odds = (bald, 0.16, 0.34, 0.2, 0.1, 0.08, 0.05, 0.03, 0.01, 0.01)
    return _sample_option(random, HAIR_STYLES, odds)
