"""The camera of the synthetic faces: pose, projection, light, and the rendering of textured sheets of vertices."""

import dataclasses
import functools

import cv2
import numpy as np
from jaxtyping import Float

from wing_jax.synthetic.appearance import Light, Pose
from wing_jax.synthetic.clothing import Sheet
from wing_jax.synthetic.mesh import AZIMUTH, ROWS, bumps, grid_normals, grid_triangles, smoothstep
from wing_jax.synthetic.raster import Fragments, rasterize
from wing_jax.values import Value


def _rotation(pose: Pose, share: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Float[np.ndarray, "3 3"]:
    """Return the rotation from head to camera axes: yaw about y, then pitch about x, then roll about z."""
    angles = np.deg2rad([pose.yaw, pose.pitch, pose.roll]) * share
    (a, b, c), (s, t, u) = np.cos(angles), np.sin(angles)
    yaw = np.array([[a, 0, s], [0, 1, 0], [-s, 0, a]])
    pitch = np.array([[1, 0, 0], [0, b, -t], [0, t, b]])
    roll = np.array([[c, -u, 0], [u, c, 0], [0, 0, 1]])
    return (roll @ pitch @ yaw).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Camera(Value):
    """A perspective camera, aimed so that the points' box has the pose's size and position."""

    head: Float[np.ndarray, "3 3"]
    body: Float[np.ndarray, "3 3"]
    distance: float
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def aim(cls, pose: Pose, landmarks: Float[np.ndarray, "68 3"], size: int) -> "Camera":
        camera = cls(_rotation(pose), _rotation(pose, (0.35, 0.25, 0.3)), pose.distance)
        flat = camera.project(landmarks)[:, :2]
        low, high = flat.min(0), flat.max(0)
        scale = pose.scale * size / float((high - low).max())
        shift = size * (0.5 + np.asarray(pose.center)) - 0.5 - scale * (low + high) / 2
        return dataclasses.replace(camera, scale=scale, shift=tuple(shift.tolist()))

    def to_camera(self, vertices: np.ndarray, with_head: np.ndarray | float = 1.0) -> np.ndarray:
        """Transform head axes to camera axes, mm; the body's vertices turn less than the head's."""
        turned = vertices @ self.head.T
        if np.ndim(with_head) == 0 and with_head == 1.0:
            return turned
        neck = np.array([0.0, 60.0, -12.0], np.float32)
        body = (vertices - neck) @ self.body.T + self.head @ neck
        return body + (turned - body) * with_head

    def to_pixels(self, camera_vertices: np.ndarray) -> np.ndarray:
        """Project camera axes to pixels and depth."""
        zoom = self.scale * self.distance / (self.distance - camera_vertices[..., 2:])
        return np.concatenate(
            [camera_vertices[..., :2] * zoom + np.asarray(self.shift, np.float32), camera_vertices[..., 2:]], axis=-1
        ).astype(np.float32)

    def project(self, vertices: np.ndarray) -> np.ndarray:
        """Project head axes (mm) to x, y in pixels and a depth in mm."""
        return self.to_pixels(self.to_camera(np.asarray(vertices, np.float32)))


@functools.cache
def _light_reach() -> Float[np.ndarray, "rows columns"]:
    """Return the share of light that reaches each vertex of the head: less in the sockets, under nose and jaw."""
    dark = bumps(
        (0.2, 17, -36, 7, 7), (0.12, 31, -42, 15, 4), (0.3, 0, 18.5, 13, 3), (0.14, 0, 54, 15, 4), (0.1, 20, -6, 5, 12),
        (0.12, 122, 0, 10, 40),
    )  # fmt: skip
    under = smoothstep(ROWS, 76, 92) * (1 - 0.45 * smoothstep(ROWS, 105, 170))
    front = smoothstep(np.cos(AZIMUTH), 0.1, 0.75)[None]
    return ((1 - dark) * (1 - 0.42 * under[:, None] * front)).astype(np.float32)


@functools.cache
def _head_share() -> Float[np.ndarray, "rows 1 1"]:
    """Return the share of the head's rotation that each row of its grid follows: the shoulders turn less."""
    return (1 - smoothstep(ROWS, 80, 165)).astype(np.float32)[:, None, None]


def assemble(
    sheets: list[Sheet], camera: Camera, light: Light, *, size: int
) -> tuple[Fragments, Float[np.ndarray, "2 hits"], Float[np.ndarray, "4 hits"]]:
    """Transform, light and rasterize the sheets; the first is the head's.

    Returns the fragments and, for each of them, its position on the texture (page mm) and its light: three factors for
    the texture and a shine to add.
    """
    vertices, triangles, page_positions, lights, count = [], [], [], [], 0
    for sheet in sheets:
        rows, columns = sheet.grid.shape[:2]
        is_head = sheet is sheets[0]
        share = np.linspace(1, sheet.with_head, rows, dtype=np.float32)[:, None, None]
        camera_vertices = camera.to_camera(sheet.grid, _head_share() if is_head else share)
        normals = grid_normals(camera_vertices)
        vertex_indices = grid_triangles(rows, columns) + count
        triangles.append(vertex_indices)
        if sheet.two_sided:
            triangles.append(vertex_indices[:, ::-1])
            normals = np.where(normals[..., 2:] < 0, -normals, normals)
        vertices.append(camera.to_pixels(camera_vertices).reshape(-1, 3))
        page_positions.append(sheet.page_positions.reshape(-1, 2))
        light_reach = _light_reach()[..., None] if is_head else np.full((1, 1, 1), sheet.shade, np.float32)
        lights.append(_light(normals, light, light_reach).reshape(-1, 4))
        count += rows * columns
    vertex_indices = np.concatenate(triangles)
    fragments = rasterize(np.concatenate(vertices), vertex_indices, size=size)
    attributes = np.concatenate([np.concatenate(page_positions), np.concatenate(lights)], axis=1).T
    corners = vertex_indices.T.take(fragments.triangles, axis=1)
    interpolated = np.stack(
        [(row.take(corners) * fragments.weights).sum(0) for row in np.ascontiguousarray(attributes)]
    )
    return fragments, interpolated[:2], interpolated[2:]


def _light(normals: np.ndarray, light: Light, light_reach: np.ndarray) -> Float[np.ndarray, "rows columns 4"]:
    """Compute wrapped diffuse light, redder at the terminator as on skin, as sRGB factors (gamma 2), and the shine."""
    direction = np.asarray(light.direction, np.float32)
    facing = normals @ direction
    wrap = np.array([0.32, 0.2, 0.14], np.float32)
    diffuse = np.clip((facing[..., None] + wrap) / (1 + wrap), 0, None)
    sky = 0.85 - 0.25 * normals[..., 1:2]
    energy = (np.asarray(light.ambient, np.float32) * sky + np.asarray(light.color, np.float32) * diffuse) * light_reach
    halfway = direction + np.array([0, 0, 1], np.float32)
    shine = np.clip(normals @ (halfway / (np.linalg.norm(halfway) + 1e-6)), 0, 1) ** 18 * (60 * light.shine)
    rim = light.rim * 70 * np.clip(1 - normals[..., 2], 0, 1) ** 3 * (normals[..., 0] * direction[0] < 0)
    return np.concatenate([np.sqrt(energy), shine[..., None] * light_reach + rim[..., None]], axis=-1)


def shade(
    picture: np.ndarray,
    fragments: Fragments,
    page_positions: np.ndarray,
    texture: np.ndarray,
    lights: np.ndarray,
    *,
    lit: bool,
) -> None:
    """Draw the texture [height, width, 3] at `page_positions` (texels, [2, hits]) on `picture`, lit or not."""
    count = page_positions.shape[1]
    lookup = np.full((2, -(-count // 256) * 256), -1, np.float32)  # cv2.remap does not support rows of 32768 pixels
    lookup[:, :count] = page_positions - np.float32(0.5)
    x, y = lookup.reshape(2, -1, 256)
    colors = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colors = colors.reshape(-1, 3)[:count].T
    if lit:
        colors = colors * lights[:3] + lights[3]
    picture.reshape(-1, 3)[fragments.pixels] = np.clip(colors, 0, 255).astype(np.uint8).T
