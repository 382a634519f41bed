"""What befalls the pixels of crops, on the device: pure, batched, the same as `wing_jax.input.cutting` does.

Blur, lower resolution, colour, noise, occlusion and JPEG compression, in the order in which a picture meets them.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8, UInt32

from wing_jax.augment.perturb import Draw, gaussian_taps, pixels_left
from wing_jax.config import PerturbConfig

BLOCK = 8  # pixels a side that JPEG transforms together
TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)  # luminance and two colour differences
COSINES = np.array(
    [
        [np.sqrt((1 if u == 0 else 2) / BLOCK) * np.cos((2 * i + 1) * u * np.pi / (2 * BLOCK)) for i in range(BLOCK)]
        for u in range(BLOCK)
    ],
    np.float32,
)
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
COLOUR = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *4 * ((99,) * BLOCK,),
)  # fmt: skip
TABLES = np.array([LUMINANCE, COLOUR, COLOUR], np.float32)  # ITU-T T.81, tables K.1 and K.2: steps at quality 50

BYTES_DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)  # of the sum of four uniform bytes
# Fitted to its quantiles, by least squares, and scaled to variance 1; for x^7, x^5, x^3, x, of the standardised sum.
TO_NORMAL = (3.17702513e-04, -2.03201070e-03, 1.66711925e-02, 9.58845204e-01)


def photometric(
    crops: Float[Array, "n size size 3"], drawn: Draw, perturb: PerturbConfig, *, keys: Array
) -> UInt8[Array, "n size size 3"]:
    """Crops in 0..255 as the draw changes them, rounded; what the config leaves at 0 costs nothing. `keys` `[n]` are
    the faces' own, for the noise."""
    if perturb.blur > 0:
        blurred = gaussian_blur(crops, sigma=perturb.blur_sigma)
        crops = jnp.where(_each(drawn.blur), blurred, crops)
    if perturb.shrink > 0:
        crops = coarse(crops, jnp.asarray(pixels_left(drawn.pixels, size=crops.shape[1])))
    if perturb.colour > 0:
        mean, contrast = crops.mean((1, 2, 3), keepdims=True), _each(drawn.contrast)
        crops = ((crops - mean) * contrast + mean) * drawn.gain[:, None, None, :]
    if perturb.noise > 0:
        crops = crops + _each(drawn.noise) * gaussian(keys, crops.shape[1:])
    if perturb.occlusion > 0:
        crops = jnp.where(inside(drawn.occluder, size=crops.shape[1]), _each(drawn.shade), crops)
    crops = jnp.clip(jnp.round(crops), 0, 255)
    if perturb.jpeg > 0:
        crops = jnp.where(_each(drawn.quality) < 100, compressed(crops, drawn.quality), crops)
    return crops.astype(jnp.uint8)


def gaussian(keys: Array, shape: tuple[int, ...]) -> Float[Array, "n ..."]:
    """Numbers of the standard normal distribution, of `shape` for each of `keys` `[n]`; none is beyond 4.9.

    Each is a hash of its place and of two words drawn from the key, which a CPU computes faster than
    `jax.random.normal`. The sum of the hash's four bytes is nearly normal, and a polynomial corrects it. The shares
    beyond 1, 2, 3 and 3.5 deviations are right to 4 % (`tests/test_photometric.py`).
    """
    first, second = jnp.moveaxis(jax.vmap(lambda key: jax.random.bits(key, (2,)))(keys), 1, 0)
    ones = (1,) * len(shape)
    place = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(1, *shape)
    words = _scrambled(_scrambled(place + first.reshape(-1, *ones)) + second.reshape(-1, *ones))
    pairs = (words & 0x00FF00FF) + (words >> 8 & 0x00FF00FF)
    total = ((pairs & 0xFFFF) + (pairs >> 16)).astype(jnp.int32).astype(jnp.float32)
    x = (total - 510) / np.float32(BYTES_DEVIATION)
    return x * jnp.polyval(np.array(TO_NORMAL, np.float32), x * x)


def _scrambled(words: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """Each word as another that tells nothing of it: one to one (the "lowbias32" of C. Wellons)."""
    words = (words ^ words >> 16) * np.uint32(0x7FEB352D)
    words = (words ^ words >> 15) * np.uint32(0x846CA68B)
    return words ^ words >> 16


def gaussian_blur(
    crops: Float[Array, "n height width channels"], *, sigma: float
) -> Float[Array, "n height width channels"]:
    """Separable Gaussian blur, `sigma` in pixels, over 3 sigma, the edge repeated.

    As two small matrix products, which both CPUs and GPUs do faster than a sum of shifted images.
    """
    rows, columns = (_blur_matrix(crops.shape[axis], sigma) for axis in (1, 2))
    crops = jnp.einsum("ij,njwc->niwc", rows, crops, precision="highest")
    return jnp.einsum("ij,nhjc->nhic", columns, crops, precision="highest")


def _blur_matrix(size: int, sigma: float) -> Float[np.ndarray, "size size"]:
    """Row i holds what each pixel of a line adds to the blurred pixel i."""
    taps = gaussian_taps(sigma)
    reach = len(taps) // 2
    matrix = np.zeros((size, size), np.float32)
    for offset, weight in enumerate(taps, -reach):
        np.add.at(matrix, (np.arange(size), np.clip(np.arange(size) + offset, 0, size - 1)), weight)
    return matrix


def coarse(
    crops: Float[Array, "n size size channels"], pixels: Float[Array, "n"]
) -> Float[Array, "n size size channels"]:
    """Square crops brought to so many `pixels` a side by area averaging, and back by bilinear interpolation."""
    size = crops.shape[1]
    small, large = jnp.arange(size, dtype=jnp.float32)[:, None], jnp.arange(size, dtype=jnp.float32)[None]

    def there_and_back(pixels: Array) -> Array:
        step = size / pixels  # small pixel i covers [i, i + 1) steps
        covered = jnp.minimum((small + 1) * step, large + 1) - jnp.maximum(small * step, large)
        down = jnp.where(small < pixels, jnp.maximum(covered, 0) / step, 0)
        place = jnp.clip((large + 0.5) / step - 0.5, 0, pixels - 1)
        up = jnp.maximum(1 - jnp.abs(place - small), 0)
        return up.T @ down

    matrices = jax.vmap(there_and_back)(pixels)
    crops = jnp.einsum("nij,njwc->niwc", matrices, crops, precision="highest")
    return jnp.einsum("nij,nhjc->nhic", matrices, crops, precision="highest")


def compressed(crops: Float[Array, "n size size 3"], quality: Float[Array, "n"]) -> Float[Array, "n size size 3"]:
    """What JPEG at `quality` (1 to 100, as libjpeg counts) leaves of crops in 0..255; colour at full resolution.

    Whole grey levels in and out. The colours, transform and tables of ITU-T T.81 | ISO/IEC 10918-1, and of JFIF.
    """
    size = crops.shape[1]
    room = -size % BLOCK
    padded = jnp.pad(crops, ((0, 0), (0, room), (0, room), (0, 0)), mode="edge")
    across = (size + room) // BLOCK
    planes = jnp.round(jnp.einsum("cd,nhwd->nchw", TO_YCC, padded, precision="highest"))  # about 0, all three
    planes = planes - jnp.array([128, 0, 0], jnp.float32)[None, :, None, None]
    blocks = planes.reshape(-1, 3, across, BLOCK, across, BLOCK)
    scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)[:, None, None, None]
    steps = jnp.clip(jnp.floor((TABLES[None] * scale + 50) / 100), 1, 255)[:, :, None, :, None, :]
    waves = _transformed(blocks, COSINES)
    planes = _transformed(jnp.round(waves / steps) * steps, COSINES.T).reshape(planes.shape)
    planes = jnp.round(planes) + jnp.array([128, 0, 0], jnp.float32)[None, :, None, None]
    colours = jnp.einsum("dc,nchw->nhwd", np.linalg.inv(TO_YCC), planes, precision="highest")
    return jnp.clip(jnp.round(colours), 0, 255)[:, :size, :size]


def _transformed(blocks: Array, matrix: np.ndarray) -> Array:
    """Rows and columns of each block times `matrix`."""
    blocks = jnp.einsum("vj,nchiwj->nchiwv", matrix, blocks, precision="highest")
    return jnp.einsum("ui,nchiwv->nchuwv", matrix, blocks, precision="highest")


def inside(boxes: Float[Array, "n 4"], *, size: int) -> Bool[Array, "n size size 1"]:
    """Mask of the pixels whose centres lie inside boxes given in fractions of the crop."""
    at = ((jnp.arange(size, dtype=jnp.float32) + 0.5) / size)[None]
    columns = (at >= boxes[:, :1]) & (at < boxes[:, 2:3])
    rows = (at >= boxes[:, 1:2]) & (at < boxes[:, 3:4])
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _each(values: Array) -> Array:
    """One value a face, to be used for all its pixels."""
    return values[:, None, None, None]
