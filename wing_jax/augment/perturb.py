"""Random perturbation of crops, a batch at a time: draw numbers first, then apply them.

`draw` turns uniform numbers into a `Draw`; `perturbed_frames` makes ONE frame of flip, stretch, rotation, scale and
translation, and that frame moves both the image and its points. It is one algebra for both inputs: given NumPy arrays
it computes with NumPy (the tf.data pipeline), given JAX arrays with JAX (the on-device input), in float32.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from wing_jax import geometry
from wing_jax.config import PerturbConfig
from wing_jax.types import Affine, Points, Visible

UNIFORMS = 24  # uniform numbers used for one face
CHOICE = 17  # which of them chooses among a face's unperturbed crops


class Draw(NamedTuple):
    """The perturbation of a batch `[n]` of faces; units as in `PerturbConfig`."""

    flip: Any  # bool
    degrees: Any
    scale: Any  # factor by which the face grows
    stretch: Any  # factor by which the upright face grows along x and shrinks along y
    translation: Any  # [n, 2], fractions of the crop
    blur: Any  # bool
    gain: Any  # [n, 3]
    contrast: Any
    noise: Any  # grey levels
    occluder: Any  # [n, 4]: x0, y0, x1, y1 in fractions of the crop; empty where there is none
    shade: Any  # grey level of the occluder
    pixels: Any  # share of the crop's pixels, along each side, that are left of its resolution
    quality: Any  # of JPEG compression, a whole number; 100 where there is none


def draw(uniform: Float[Array | np.ndarray, "n uniforms"], perturb: PerturbConfig) -> Draw:
    """Uniform numbers in [0, 1), `[n, UNIFORMS]`, to a `Draw`."""
    xp = geometry.namespace(uniform)
    signed = 2 * uniform - 1
    hides = (uniform[:, 10:11] < perturb.occlusion).astype(uniform.dtype)
    sides = perturb.occlusion_side * uniform[:, 11:13] * hides
    corner = uniform[:, 13:15] * (1 - sides)
    return Draw(
        flip=uniform[:, 0] < perturb.flip,
        degrees=perturb.rotation * signed[:, 1],
        scale=1 + perturb.scale * signed[:, 2],
        stretch=1 + perturb.stretch * signed[:, 19],
        translation=perturb.translation * signed[:, 3:5],
        blur=uniform[:, 5] < perturb.blur,
        gain=1 + perturb.colour * (0.7 * signed[:, 6:7] + 0.3 * signed[:, 7:10]),
        contrast=1 + perturb.colour * signed[:, 15],
        noise=perturb.noise * uniform[:, 16],
        occluder=xp.concatenate([corner, corner + sides], axis=1),
        shade=255 * uniform[:, 18],
        pixels=1 / (1 + perturb.shrink * uniform[:, 20]),
        quality=xp.where(uniform[:, 21] < perturb.jpeg, xp.floor(20 + 71 * uniform[:, 22]), np.float32(100)),
    )


def perturbed_frames(frames: Affine, drawn: Draw, *, size: int) -> Affine:
    """Frames `[n, 2, 3]` of the perturbed crops of `size` pixels: the face stretches, turns and grows about the crop's
    centre, flips, shifts. `frames` are those of the unperturbed crops."""
    xp = geometry.namespace(frames)
    radians = drawn.degrees * np.float32(np.pi / 180)
    cosine, sine = xp.cos(radians) / drawn.scale, xp.sin(radians) / drawn.scale
    mirror = xp.where(drawn.flip, np.float32(-1), np.float32(1))
    # M is the mirror, R the inverse of turn and scale, S that of the stretch:
    # crop pixel p shows the unperturbed S R M (p - c - t) + c.
    linear = xp.stack([xp.stack([cosine * mirror, sine], 1), xp.stack([-sine * mirror, cosine], 1)], 1)
    linear = linear * xp.stack([1 / drawn.stretch, drawn.stretch], 1)[:, :, None]
    centre = np.float32((size - 1) / 2)
    shift = centre - (linear * (centre + drawn.translation * size)[:, None, :]).sum(2)
    return geometry.compose(frames, xp.concatenate([linear, shift[:, :, None]], axis=2))


def points_in_crop(
    points: Points,
    visible: Visible,
    frames: Affine,
    flip: Bool[Array | np.ndarray, "n"],
    permutation: Int[Array | np.ndarray, "points"],
) -> tuple[Points, Visible]:
    """Points of the chip `[n, points, 2]`, and whether they are visible, seen in the crops of `frames`; mirrored
    faces get their points' names swapped by the scheme's `permutation`."""
    xp = geometry.namespace(points)
    seen = geometry.transform(geometry.invert(frames), points)
    seen = xp.where(flip[:, None, None], seen[:, permutation], seen)
    return seen, xp.where(flip[:, None], visible[:, permutation], visible)


def pixels_left(share: Float[Array | np.ndarray, "n"], *, size: int) -> Float[Array | np.ndarray, "n"]:
    """How many pixels a side are left of crops of `size` at these shares of their resolution; whole numbers."""
    xp = geometry.namespace(share)
    return xp.maximum(xp.round(share * size), np.float32(1))


def gaussian_taps(sigma: float) -> Float[np.ndarray, "taps"]:
    """Weights of the blur along one axis, over 3 sigma (pixels) to both sides; they sum to 1."""
    radius = max(1, int(np.ceil(3 * sigma)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def supersampling(frames: Float[np.ndarray, "*n 2 3"]) -> int:
    """How many samples a side each crop pixel needs, so that no crop reads its chip coarser than 1.5 pixels."""
    step = float(np.median(np.sqrt(np.abs(np.linalg.det(frames[..., :2])))))
    return max(1, round(step))
