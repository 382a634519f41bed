"""Cut crops and face crops from images on the device, by pure functions that can be jitted.

Each crop is resampled once: by an affine (bilinear), or, for upright squares, by the area that each pixel covers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from wing_jax.geometry import rescale_points
from wing_jax.runtime import devices
from wing_jax.runtime.processes import check_fork
from wing_jax.types import Affine

BLOCK = 16  # positions per side of a block, which a TPU interpolates from a window of rows of the image
WINDOW = 40  # rows: enough for a block of a crop that shrinks the image 2.6 times, or 1.8 times at any angle
BLOCKS_PER_PRODUCT = 256  # blocks whose weights a TPU keeps in its fast memory at a time
FACES_PER_PRODUCT = 8  # the same for complete images
FRACTIONS = 256  # of a pixel: the weights are then exact in bfloat16, as the pixels are


def warp(
    images: Shaped[Array, "batch height width channels"], transforms: Affine, *, size: int, supersample: int = 1
) -> Float[Array, "batch size size channels"]:
    """Cut crops of `size` pixels whose pixel p shows the image at `transforms` p; bilinear, with the edge repeated.

    `transforms` `[batch, 2, 3]` are from crop pixels to image pixels. `supersample` > 1 averages that many samples per
    side for each crop pixel, which prevents aliasing if the crop shrinks its image. Returns float32 in the images'
    range.
    """
    check_fork()
    positions = rescale_points(jnp.arange(size * supersample, dtype=jnp.float32), 1 / supersample)
    side = len(positions)
    grid = jnp.stack([jnp.tile(positions, side), jnp.repeat(positions, side), jnp.ones(side * side, jnp.float32)])
    # A matrix product is computed only once. XLA recomputes cheaper operations for each use and may round differently
    # each time. Near whole numbers, the pixel would then come from one floor and its weight from another.
    image_positions = jnp.einsum("bij,jp->bip", transforms, grid, precision="highest").reshape(-1, 2, side, side)
    x, y = image_positions[:, 0], image_positions[:, 1]
    height, width = images.shape[1:3]
    x, y = jnp.clip(x, 0, width - 1), jnp.clip(y, 0, height - 1)
    interpolate = interpolate_by_products if devices.platform() == "tpu" else interpolate_by_gathers
    crops = interpolate(images, x, y)
    if supersample > 1:
        crops = crops.reshape(-1, size, supersample, size, supersample, images.shape[-1]).mean((2, 4))
    return crops


def interpolate_by_gathers(
    images: Shaped[Array, "batch height width channels"],
    x: Float[Array, "batch rows columns"],
    y: Float[Array, "batch rows columns"],
) -> Float[Array, "batch rows columns channels"]:
    """Interpolate bilinearly at the positions (x, y), which must be in the images."""
    height, width = images.shape[1:3]
    floor_x, floor_y = jnp.floor(x), jnp.floor(y)
    left, top = floor_x.astype(jnp.int32), floor_y.astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
    along_x, along_y = (x - floor_x)[..., None], (y - floor_y)[..., None]
    face = jnp.arange(images.shape[0], dtype=jnp.int32)[:, None, None]
    upper = _mix(images[face, top, left], images[face, top, right], along_x)
    lower = _mix(images[face, bottom, left], images[face, bottom, right], along_x)
    return _mix(upper, lower, along_y)


def interpolate_by_products(
    images: Shaped[Array, "batch height width channels"],
    x: Float[Array, "batch rows columns"],
    y: Float[Array, "batch rows columns"],
) -> Float[Array, "batch rows columns channels"]:
    """Interpolate as `interpolate_by_gathers` does, by matrix products: a TPU gathers single pixels slowly.

    The images must be whole gray levels. The weights of an image's columns are a matrix with two numbers in each
    column, those of its rows as well. Each block of neighboring positions needs only a window of an image's rows; if
    one needs more, all are interpolated from complete images. `x` is rounded to multiples of 1 / `FRACTIONS`, which
    changes a gray level by at most 0.5, next to the sharpest edge.
    """
    planes = images.transpose(0, 3, 1, 2).astype(jnp.bfloat16)
    # The barrier makes XLA compute the positions once, instead of with each batch of blocks.
    x, y = jax.lax.optimization_barrier((jnp.round(x * FRACTIONS) / FRACTIONS, y))
    if images.shape[1] <= WINDOW:
        return _mix_images(planes, x, y)
    blocks_x, blocks_y = _split_in_blocks(x), _split_in_blocks(y)
    top = jnp.clip(jnp.floor(blocks_y.min(2)).astype(jnp.int32), 0, images.shape[1] - WINDOW)
    fits = (blocks_y.max(2) <= top + (WINDOW - 1)).all()

    def from_windows() -> Array:
        values = _mix_windows(planes, blocks_x, blocks_y, top)
        down, right = (-(-length // BLOCK) for length in x.shape[1:])
        values = values.reshape(-1, down, right, planes.shape[1], BLOCK, BLOCK).transpose(0, 1, 4, 2, 5, 3)
        return values.reshape(-1, down * BLOCK, right * BLOCK, planes.shape[1])[:, : x.shape[1], : x.shape[2]]

    def from_images() -> Array:
        with jax.named_scope("fallback"):
            return _mix_images(planes, x, y)

    return jax.lax.cond(fits, from_windows, from_images)


def _split_in_blocks(positions: Float[Array, "batch rows columns"]) -> Float[Array, "batch blocks block"]:
    """Split into blocks of BLOCK x BLOCK; the last row and column are repeated to fill the last ones."""
    rows, columns = positions.shape[1:]
    padded = jnp.pad(positions, ((0, 0), (0, -rows % BLOCK), (0, -columns % BLOCK)), mode="edge")
    blocks = padded.reshape(len(padded), padded.shape[1] // BLOCK, BLOCK, padded.shape[2] // BLOCK, BLOCK).swapaxes(
        2, 3
    )
    return blocks.reshape(len(padded), blocks.shape[1] * blocks.shape[2], BLOCK**2)


def _mix_windows(
    planes: Shaped[Array, "batch channels height width"],
    x: Float[Array, "batch blocks block"],
    y: Float[Array, "batch blocks block"],
    top: Int[Array, "batch blocks"],
) -> Float[Array, "batch blocks channels block"]:
    """Interpolate at the positions of blocks, each from the WINDOW rows below `top`."""

    def mix(block: tuple[Array, ...], plane: Array) -> Array:
        x, y, top = block
        return _mix_pixels(jax.lax.dynamic_slice_in_dim(plane, top, WINDOW, axis=1), x, y - top)

    def mix_face(face: tuple[Array, ...]) -> Array:
        plane, *blocks = face
        return jax.vmap(mix, in_axes=(0, None))(tuple(blocks), plane)

    return jax.lax.map(mix_face, (planes, x, y, top), batch_size=max(1, BLOCKS_PER_PRODUCT // x.shape[1]))


def _mix_images(
    planes: Shaped[Array, "batch channels height width"],
    x: Float[Array, "batch rows columns"],
    y: Float[Array, "batch rows columns"],
) -> Float[Array, "batch rows columns channels"]:
    """Interpolate at the positions from complete images."""

    def mix_face(face: tuple[Array, ...]) -> Array:
        plane, x, y = face
        return _mix_pixels(plane, x.ravel(), y.ravel())

    values = jax.lax.map(mix_face, (planes, x, y), batch_size=FACES_PER_PRODUCT)
    return values.reshape(*values.shape[:2], *x.shape[1:]).transpose(0, 2, 3, 1)


def _mix_pixels(
    pixels: Shaped[Array, "channels rows columns"], x: Float[Array, "positions"], y: Float[Array, "positions"]
) -> Float[Array, "channels positions"]:
    """Interpolate at the positions in pixels of one image."""
    rows, columns = pixels.shape[1:]
    along_x, along_y = _hat_weights(x, columns).astype(jnp.bfloat16), _hat_weights(y, rows)
    mixed = jnp.einsum("chw,wp->chp", pixels, along_x, preferred_element_type=jnp.float32)
    return (mixed * along_y[None]).sum(1)


def _hat_weights(positions: Float[Array, "positions"], size: int) -> Float[Array, "size positions"]:
    """Return the weights of a line's pixels for linear interpolation at the positions."""
    return jnp.maximum(1 - jnp.abs(positions[None] - jnp.arange(size, dtype=jnp.float32)[:, None]), 0)


def _mix(start: Array, stop: Array, share: Array) -> Array:
    start, stop = start.astype(jnp.float32), stop.astype(jnp.float32)
    return start + (stop - start) * share


def cut_squares(
    images: Shaped[Array | np.ndarray, "batch height width channels"],
    first: Int[Array | np.ndarray, "batch 2"],
    length: Int[Array | np.ndarray, "batch 2"],
    side: Int[Array | np.ndarray, "batch"],
    *,
    size: int,
) -> Float[Array, "batch size size channels"]:
    """Resize upright squares to `size` pixels: by area averaging to shrink, bilinearly to enlarge.

    Each image holds the part of a picture that its square of `side` pixels shows: `length` (x, y) columns and rows;
    the rest is padding of any content. Its pixel (0, 0) is pixel `first` (x, y) of the square. Outside of the part,
    the square repeats its edge. Returns float32 in the images' range, equal to OpenCV's INTER_AREA and INTER_LINEAR
    before rounding.
    """
    check_fork()
    height, width = images.shape[1:3]
    along_x = _shares(first[:, 0], length[:, 0], side, size=size, extent=width)
    along_y = _shares(first[:, 1], length[:, 1], side, size=size, extent=height)
    rows = jnp.einsum("nai,nijc->najc", along_y, jnp.asarray(images, jnp.float32), precision="highest")
    return jnp.einsum("nbj,najc->nabc", along_x, rows, precision="highest")


def _shares(
    first: Array | np.ndarray, length: Array | np.ndarray, side: Array | np.ndarray, *, size: int, extent: int
) -> Float[Array, "batch size extent"]:
    """Compute the share of each of `extent` image pixels in each of `size` output pixels, along one axis.

    Output pixel i covers [i, i + 1) side / size of the square. Areas are integers in units of 1 / size pixel and
    distances in units of 1 / (2 size), so that no share depends on the rounding of large numbers.
    """
    first, length, side = (jnp.asarray(a, jnp.int32)[:, None, None] for a in (first, length, side))
    pixel, output = (jnp.arange(count, dtype=jnp.int32)[None] for count in (extent, size))
    pixel, output = pixel[None], output[:, :, None]
    low = jnp.where(pixel == 0, jnp.minimum(first, 0), first + pixel)
    high = jnp.where(pixel == length - 1, jnp.maximum(first + length, side), first + pixel + 1)
    covered = jnp.minimum(high * size, (output + 1) * side) - jnp.maximum(low * size, output * side)
    area = jnp.maximum(covered, 0) / side
    unit = 2 * size
    middle = jnp.clip((2 * output + 1) * side - size, first * unit, (first + length - 1) * unit)
    nearness = jnp.maximum(unit - jnp.abs(middle - (first + pixel) * unit), 0) / unit
    return jnp.where(pixel < length, jnp.where(side > size, area, nearness), 0).astype(jnp.float32)
