"""JPEG artifacts on the device: color transform, 8 x 8 cosine transform and quantization, without entropy coding."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BLOCK = 8  # side in pixels of the blocks that JPEG transforms
TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)  # luminance and two color differences
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
COLOR = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *4 * ((99,) * BLOCK,),
)  # fmt: skip
TABLES = np.array([LUMINANCE, COLOR, COLOR], np.float32)  # ITU-T T.81, tables K.1 and K.2: steps for quality 50


def simulate_jpeg(crops: Float[Array, "n size size 3"], quality: Float[Array, "n"]) -> Float[Array, "n size size 3"]:
    """Compress crops in 0..255 by JPEG at `quality` (1 to 100, libjpeg's scale) and decompress them.

    Color has full resolution. Input and output are whole gray levels. Colors, transform and tables are those of
    ITU-T T.81 | ISO/IEC 10918-1, and of JFIF.
    """
    size = crops.shape[1]
    padding = -size % BLOCK
    padded = jnp.pad(crops, ((0, 0), (0, padding), (0, padding), (0, 0)), mode="edge")
    blocks_per_side = (size + padding) // BLOCK
    planes = jnp.round(jnp.einsum("cd,nhwd->nchw", TO_YCC, padded, precision="highest"))
    planes = planes - jnp.array([128, 0, 0], jnp.float32)[None, :, None, None]
    blocks = planes.reshape(-1, 3, blocks_per_side, BLOCK, blocks_per_side, BLOCK)
    scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)[:, None, None, None]
    steps = jnp.clip(jnp.floor((TABLES[None] * scale + 50) / 100), 1, 255)[:, :, None, :, None, :]
    coefficients = _transform_blocks(blocks, COSINES)
    planes = _transform_blocks(jnp.round(coefficients / steps) * steps, COSINES.T).reshape(planes.shape)
    planes = jnp.round(planes) + jnp.array([128, 0, 0], jnp.float32)[None, :, None, None]
    colors = jnp.einsum("dc,nchw->nhwd", np.linalg.inv(TO_YCC), planes, precision="highest")
    return jnp.clip(jnp.round(colors), 0, 255)[:, :size, :size]


def _transform_blocks(blocks: Array, matrix: np.ndarray) -> Array:
    """Multiply the rows and columns of each block by `matrix`."""
    blocks = jnp.einsum("vj,nchiwj->nchiwv", matrix, blocks, precision="highest")
    return jnp.einsum("ui,nchiwv->nchuwv", matrix, blocks, precision="highest")
