"""Draw pictures with dots at known positions, and locate dots in pictures."""

import jax
import numpy as np

SIZE, CROP = 72, 140
PLACES = np.float32([[52.3, 55.2], [86.7, 54.1], [70.2, 74.4], [55.6, 92.9], [85.1, 91.3]])  # of a face crop
COLORS = np.array([[200, 150, 150], [150, 200, 150], [150, 150, 200], [200, 200, 150], [150, 200, 200]])


def dotted(*places, sigma: float = 2.0, side: int = CROP) -> np.ndarray:
    """Draw a face crop with one Gaussian dot for each of `places`, each in another color."""
    rows, columns = np.mgrid[:side, :side]
    face_crop = np.zeros((side, side, 3))
    for (x, y), color in zip(places, COLORS, strict=True):
        face_crop += np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))[..., None] * color
    return np.round(np.clip(face_crop, 0, 255)).astype(np.uint8)


def dot_near(crop: np.ndarray, place: np.ndarray, *, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the centroid (x, y) of the brightness within `reach` pixels of `place`, and its color as fractions."""
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]]
    near = np.hypot(columns - place[0], rows - place[1]) < reach
    crop = crop.astype(float)
    weight = crop.sum(-1) * near
    color = (crop * near[..., None]).sum((0, 1))
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum(), color / color.sum()


def keys_of(count: int, *, seed: int = 3) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def plain_transforms(count: int) -> np.ndarray:
    """Return transforms to the middle of the face crop, at 1.25 face crop pixels per pixel of the crop."""
    transform = np.float32([[1.25, 0, 25.5], [0, 1.25, 25.5]])
    return np.broadcast_to(transform, (count, 2, 3)).copy()


def picture_of_dots(height: int, width: int, *places, sigma: float) -> np.ndarray:
    """Draw a black picture with Gaussian dots at `places` (x, y)."""
    rows, columns = np.mgrid[:height, :width]
    dots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) for x, y in places]
    return np.repeat(np.round(250 * np.clip(sum(dots), 0, 1)).astype(np.uint8)[..., None], 3, -1)


def center_of_dot(face_crop: np.ndarray, place: np.ndarray, *, reach: float) -> np.ndarray:
    """Return the centroid (x, y) of the brightness within `reach` pixels of `place`."""
    rows, columns = np.mgrid[: face_crop.shape[0], : face_crop.shape[1]]
    weight = face_crop[..., 0] * (np.hypot(columns - place[0], rows - place[1]) < reach).astype(np.float64)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
