"""Synthetic faces: a 3-D head rendered from (seed, index), with its 68 iBUG/300-W points known exactly.

They replace a data set: identity, expression, skin, light, hair, glasses, background and occluders vary, and the yaw
has a long tail to 90 degrees, as pose-based balancing needs. They use no scan, photograph or network: `mesh` shapes
the head, `texture` paints its skin, `clothing` adds hair and clothes, `camera` and `raster` project it, and
`background` adds the background and the objects in front of it.
"""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from wing_jax.choices import Landmarks
from wing_jax.runtime.parameters import check_choice
from wing_jax.synthetic.appearance import Appearance, sample_appearance
from wing_jax.synthetic.background import apply_camera, draw_glasses, draw_occluder, paint_background
from wing_jax.synthetic.camera import Camera, assemble, shade
from wing_jax.synthetic.clothing import cloth_thickness, extra_sheets, head_sheet, paint_cloth, paint_hair, paint_strip
from wing_jax.synthetic.mesh import head_grid, landmark_sites, sample_grid
from wing_jax.synthetic.outline import outline_sites
from wing_jax.synthetic.texture import paint_features, paint_skin
from wing_jax.values import Value

_AT_ONCE = 256  # faces that are rendered ahead
_OVERSAMPLING = 1.5
_HIDDEN = 4.5  # mm: a point this far behind the nearest surface is not visible


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SyntheticFace(Value):
    """A picture and its ground truth, in the project's coordinates (`wing_jax.types`).

    A point is `visible` unless the head, its hair or its hat hides it; its coordinates are exact in any case. A point
    is `covered` if a hand, a cup or another object is in front of it. Angles are in degrees: yaw > 0 turns the nose to
    image right, pitch > 0 lifts it, roll > 0 turns x towards y. Points 0-16 are fixed points of the 3-D jaw line ("3d"
    landmarks), or on the visible outline of the face ("2d").
    """

    image: UInt8[np.ndarray, "size size 3"]
    points: Float[np.ndarray, "68 2"]
    visible: Bool[np.ndarray, "68"]
    covered: Bool[np.ndarray, "68"]
    yaw: float
    pitch: float
    roll: float


def render_face(*, seed: int, index: int, size: int = 256, landmarks: Landmarks = "3d") -> SyntheticFace:
    """Render face `index` of the stream `seed`, as a `size` x `size` picture.

    It depends only on (seed, index), not on earlier calls or on the process. The box of its points is about half as
    wide as the picture, and near its center. The picture is the same for both kinds of `landmarks`.

    Raises:
      ValueError: `seed` or `index` is negative, `size` is below 32, or `landmarks` has another value.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be at least 0, got {seed} and {index}")
    return draw_face(sample_appearance(seed=seed, index=index), size=size, landmarks=landmarks)


def render_faces(
    count: int, *, seed: int, size: int = 256, landmarks: Landmarks = "3d", workers: int | None = None
) -> tuple[SyntheticFace, ...]:
    """Render faces 0 to `count` - 1 of the stream `seed` by `workers` threads (None: one for each core).

    Raises:
      ValueError: `count` is negative, or as `render_face`.
    """
    return tuple(iterate_faces(count, seed=seed, size=size, landmarks=landmarks, workers=workers))


def iterate_faces(
    count: int, *, seed: int, size: int = 256, landmarks: Landmarks = "3d", workers: int | None = None
) -> Iterator[SyntheticFace]:
    """Yield the faces of `render_faces`, without keeping them in memory.

    Raises:
      ValueError: as `render_faces`.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    draw = functools.partial(_render_index, seed=seed, size=size, landmarks=landmarks)
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers <= 1:
        yield from map(draw, range(count))
        return
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for first in range(0, count, _AT_ONCE):
            yield from pool.map(draw, range(first, min(first + _AT_ONCE, count)))


def texels_per_mm(size: int) -> float:
    """Return the texels per millimeter of the texture for a picture of `size` pixels."""
    return float(np.clip(size / 180, 0.7, 2.0))


def _render_index(index: int, *, seed: int, size: int, landmarks: Landmarks) -> SyntheticFace:
    return render_face(seed=seed, index=index, size=size, landmarks=landmarks)


def draw_face(
    appearance: Appearance,
    *,
    size: int,
    landmarks: Landmarks = "3d",
    texture: Float[np.ndarray, "3 height width"] | None = None,
) -> SyntheticFace:
    """Draw `appearance`; for tests, a `texture` replaces the painted one, without light, glasses and occluders.

    Raises:
      ValueError: `size` is below 32, or `landmarks` has another value.
    """
    check_choice("landmarks", landmarks, Landmarks)
    if size < 32:
        raise ValueError(f"a face needs a picture of at least 32 pixels, got {size}")
    render_size = round(size * _OVERSAMPLING)
    random = np.random.default_rng(appearance.detail_seed)
    skin = head_grid(appearance.shape, appearance.expression)
    sites = landmark_sites(appearance.shape, appearance.expression)
    camera = Camera.aim(appearance.pose, sample_grid(skin, sites), render_size)
    sheets = [head_sheet(appearance, skin, random), *extra_sheets(appearance, skin, random)]
    corners = camera.project(sample_grid(skin, sites))
    texels = texels_per_mm(size)
    painted = _paint(appearance, sites, texels, random) if texture is None else texture
    fragments, page_positions, shading = assemble(sheets, camera, appearance.light, size=render_size)
    picture = paint_background(appearance, render_size, random)
    shade(picture, fragments, page_positions * texels, cv2.merge(list(painted)), shading, lit=texture is None)
    hidden_pixels = np.zeros(picture.shape[:2], bool)
    if texture is None:
        bridge = sample_grid(skin, np.array([(0.0, -34.0)], np.float32))[0, 2]
        eye = sample_grid(skin, np.array([(float(sites[42:48, 0].mean()), -33.0)], np.float32))[0, 0]
        draw_glasses(picture, appearance, camera.project, fragments.depth, float(bridge), float(eye))
        hidden_pixels = draw_occluder(picture, appearance, corners[:, :2], random)
    if landmarks == "2d":
        sites = outline_sites(skin, sites, camera.project, roll=appearance.pose.roll)
        corners = camera.project(sample_grid(skin, sites))
    column, row = np.round(corners[:, :2]).astype(int).clip(0, render_size - 1).T
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    if texture is None:
        picture = apply_camera(picture, appearance, random)
    points = ((corners[:, :2] + 0.5) * (size / render_size) - 0.5).astype(np.float32)
    cloth = cloth_thickness(appearance, sites)
    visible = _visible(corners, fragments.depth, _HIDDEN + 2 * cloth)
    covered = hidden_pixels[row, column] | (cloth > 2)
    return SyntheticFace(
        picture, points, visible, covered, appearance.pose.yaw, appearance.pose.pitch, appearance.pose.roll
    )


def _paint(appearance: Appearance, sites: np.ndarray, texels: float, random: np.random.Generator) -> np.ndarray:
    canvas = paint_skin(appearance, texels, random)
    paint_features(canvas, appearance, sites, random)
    paint_hair(canvas, appearance, random)
    paint_cloth(canvas, appearance, random)
    return np.concatenate([canvas.page, paint_strip(appearance, texels, random)], axis=1)


def _visible(
    corners: Float[np.ndarray, "68 3"], depth: Float[np.ndarray, "height width"], slack: np.ndarray
) -> Bool[np.ndarray, "68"]:
    """Return the points with no surface within a pixel that is nearer by more than `slack` mm."""
    size = len(depth)
    cell = np.round(corners[:, :2]).astype(int)
    near = np.full(68, np.inf, np.float32)
    for x in (-1, 0, 1):
        for y in (-1, 0, 1):
            column, row = (cell + np.array([x, y])).clip(0, size - 1).T
            near = np.minimum(near, depth[row, column])
    return near - corners[:, 2] < slack
