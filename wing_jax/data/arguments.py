"""Convert the images and boxes passed to public functions into arrays; reject unclear ones with a precise message.

All public functions use `as_image` and `as_boxes` for this.
"""

import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float

from wing_jax.data.images import LARGEST_PICTURE, Embedded, load_picture
from wing_jax.errors import InputError
from wing_jax.text import cut, quoted, reason
from wing_jax.types import Image

# Arguments of `as_image` and `as_boxes`. `Any` to a type checker: the functions check the types themselves.
ImageLike: TypeAlias = Any
BoxesLike: TypeAlias = Any
IMAGE_REQUIREMENT = "must be RGB uint8 [height, width, 3]"
EXPECTED_BOXES = "pass x0 y0 x1 y1 for each face, in pixels"


def as_image(value: ImageLike, *, name: str = "the image") -> Image:
    """Convert `value` to an RGB uint8 array `[height, width, 3]`.

    Accepted are: such a NumPy array, which is returned unchanged; a JAX array, or another object with `__array__`, of
    that shape and dtype; the path of a file (`wing_jax.data.images.read_image`); a PIL image of any mode, which is
    rotated by its EXIF orientation and loses its alpha channel; a picture of a `FaceSet`. `name` is the name of the
    argument in messages.

    Raises:
      InputError: `value` is something else; the message says what it is and how to convert it.
    """
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[-1] == 3:
        if value.size and not isinstance(value, np.ma.MaskedArray):
            return value
    elif value is None:
        raise InputError(
            f"{name} is None, not an image: cv2.imread returns None for a file that it cannot read: check the path"
        )
    elif isinstance(value, str | os.PathLike | Embedded):
        if value == "":
            raise InputError(
                f"{name} is an empty path: pass a file's path or {IMAGE_REQUIREMENT.removeprefix('must be ')}"
            )
        return load_picture(value if isinstance(value, Embedded) else Path(value))
    elif isinstance(value, PIL.Image.Image):
        return _convert_pil(value, name)
    elif isinstance(value, list | tuple):
        received = f"a {type(value).__name__} of {len(value)} entries"
        raise InputError(f"{name} {IMAGE_REQUIREMENT}, not {received}: pass np.asarray(image, np.uint8)")
    elif not is_array_like(value):
        raise InputError(f"{name} {IMAGE_REQUIREMENT}, a PIL image or a file's path, not {_describe(value)}")
    array = to_array(value, f"{name} {IMAGE_REQUIREMENT}")
    if advice := _suggest_conversion(array):
        raise InputError(f"{name} {IMAGE_REQUIREMENT}, not {_describe(value, array)}: {advice}")
    return array


def as_images(values: Any) -> list[Image]:
    """Return the images of a list, a tuple, an iterator or an array `[n, height, width, 3]`.

    Raises:
      InputError: `values` is none of these, or an entry is not an image (`as_image`); the message says which.
    """
    entries = to_list(values, "images")
    total = len(entries)
    names = ["the image"] if total == 1 else [f"image {number} of {total}" for number in range(1, total + 1)]
    return [as_image(value, name=name) for value, name in zip(entries, names, strict=True)]


def as_boxes(value: BoxesLike, *, name: str = "the boxes") -> Float[np.ndarray, "faces 4"]:
    """Convert `value` to float32 `[faces, 4]`.

    Accepted are: an array of NumPy, JAX or another library; a list, tuple or iterator of boxes; a single box. The
    numbers themselves are not checked.

    Raises:
      InputError: `value` is something else; the message says what it is.
    """
    if value is None:
        raise InputError(f"{name} are None: {EXPECTED_BOXES}, or let wing_jax.FaceLandmarker find the faces")
    if isinstance(value, str | bytes | Mapping | Set) or (not isinstance(value, Iterable) and not is_array_like(value)):
        raise InputError(f"{name} are {_describe(value)}: {EXPECTED_BOXES}")
    if not is_array_like(value):
        value = [list(box) if _is_iterable(box) else box for box in value]
        sizes = sorted({len(box) for box in value if isinstance(box, list | tuple)})
        if len(sizes) > 1:
            raise InputError(f"{name} have {' and '.join(map(str, sizes))} numbers: {EXPECTED_BOXES}")
    boxes = to_array(value, f"{name} must be [faces, 4]")
    is_numeric = jnp.issubdtype(boxes.dtype, jnp.floating) or jnp.issubdtype(boxes.dtype, jnp.integer)
    if boxes.shape == (0,) or (boxes.ndim == 2 and boxes.shape == (0, 4)):
        return np.zeros((0, 4), np.float32)
    if not is_numeric or isinstance(boxes, np.ma.MaskedArray):
        raise InputError(f"{name} are {_describe(value, boxes)}, not numbers: {EXPECTED_BOXES}")
    boxes = boxes[None] if boxes.ndim == 1 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{name} must be [faces, 4], not {list(boxes.shape)}: {EXPECTED_BOXES}")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite; later checks reject those
        return boxes.astype(np.float32)


def split_boxes(values: Any, images: int) -> list[BoxesLike]:
    """Return one entry of boxes for each of `images` images, not yet converted.

    Raises:
      InputError: the number of entries differs from the number of images.
    """
    if values is None:
        raise InputError(
            f"the boxes are None: pass a list of boxes for each of {images} image(s) ([] for an image without a face)"
        )
    boxes = to_list(values, "boxes")
    if len(boxes) != images:
        raise InputError(f"{images} images and boxes for {len(boxes)}: pass a list of boxes for each image")
    return boxes


def to_list(values: Any, argument: str) -> list[Any]:
    """Return the entries of a list, a tuple, an iterator or an array with a leading axis.

    Raises:
      InputError: `values` is none of these; the message starts with `argument`.
    """
    single = isinstance(values, str | bytes | Mapping | Set | os.PathLike | PIL.Image.Image | Embedded)
    if single or not (isinstance(values, Iterable) or is_array_like(values)):
        raise InputError(f"{argument} must be a list, one entry for each image, not {_describe(values)}")
    if not is_array_like(values):
        return list(values)
    array = to_array(values, f"{argument} must be a list, one entry for each image")
    if argument == "images" and array.ndim != 4:
        raise InputError(
            f"images are {_describe(values, array)}: pass a list of images, or [n, height, width, 3]; "
            "for one image [image]"
        )
    if not array.ndim:
        raise InputError(f"{argument} must be a list, one entry for each image, not {_describe(values, array)}")
    return list(array)


def _convert_pil(picture: PIL.Image.Image, name: str) -> Image:
    """Return the pixels of a PIL image in the form in which `read_image` returns those of a file."""
    if picture.width * picture.height > LARGEST_PICTURE:
        raise InputError(f"{name} has more than {LARGEST_PICTURE:,} pixels: shrink it and its points")
    try:
        upright = PIL.ImageOps.exif_transpose(picture)
        if upright.mode in ("I;16", "I;16L", "I;16B", "I"):  # 16-bit gray: Pillow would clip it at 255
            gray = np.asarray(upright)
            gray = (gray >> 8 if upright.mode != "I" or gray.max(initial=0) > 255 else gray).clip(0, 255)
            pixels = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=-1)
        elif upright.mode == "F":
            raise InputError(f"{name} is a PIL image of mode F (floats of any range): convert it to RGB first")
        else:
            pixels = np.asarray(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name} is a PIL image of mode {picture.mode} that cannot be read ({reason(error)}): "
            "open it again or convert it"
        ) from error
    if not pixels.size:
        raise InputError(f"{name} is a PIL image without pixels: check how it was cropped")
    return pixels


def _suggest_conversion(array: np.ndarray) -> str:
    """Say how to convert `array` to an image, or why it cannot be one; empty if it already is one."""
    shape = array.shape
    if isinstance(array, np.ma.MaskedArray):
        return "fill its masked pixels first: image.filled(0)"
    if not array.size:
        return "it has no pixels: check how it was cropped"
    if array.ndim == 2 or (array.ndim == 3 and shape[-1] == 1):
        return "repeat its single channel three times: np.stack([image.squeeze()] * 3, axis=-1)"
    if array.ndim == 4:
        return "pass one image at a time, or several to predict_batch"
    if array.ndim == 3 and shape[-1] == 4:
        return "drop its fourth channel: image[..., :3]"
    if array.ndim == 3 and shape[0] == 3 and shape[-1] != 3:
        return "move its channels to the last axis: image.transpose(1, 2, 0)"
    if array.ndim != 3 or shape[-1] != 3:
        return "an image has rows, columns and three channels"
    if jnp.issubdtype(array.dtype, jnp.floating):
        up_to_one = float(np.nan_to_num(array).max()) <= 1
        return f"convert it: {'(255 * image)' if up_to_one else 'image'}.round().clip(0, 255).astype(np.uint8)"
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of either byte order
        return "convert it: (image >> 8).astype(np.uint8) if it uses all 16 bits"
    if array.dtype == np.uint8:
        return ""
    if array.dtype == bool:
        return "convert it: 255 * image.astype(np.uint8)"
    integer = np.issubdtype(array.dtype, np.integer)
    return f"convert it: image{'.clip(0, 255)' if integer else ''}.astype(np.uint8)"


def to_array(value: Any, requirement: str) -> np.ndarray:
    """Convert `value` to a NumPy array of any shape and dtype; `requirement` starts the error message.

    Raises:
      InputError: `value` cannot be converted, or JAX is tracing it.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, jax.core.Tracer):
        raise InputError(f"{requirement}, not traced by JAX ({value.aval}): call this outside jax.jit, vmap and grad")
    try:
        return np.asarray(jax.device_get(value) if isinstance(value, jax.Array) else value)
    except Exception as error:  # another library's array may raise anything
        raise InputError(f"{requirement}, not a {type(value).__name__} ({cut(str(error), length=160)})") from error


def _describe(value: Any, array: np.ndarray | None = None) -> str:
    """Describe `value`: its type, and the dtype and shape of its array."""
    kind = type(value).__name__
    article = "an" if kind[0] in "aeioAEIO" else "a"
    if value is None:
        return "None"
    if array is None:
        return f"{article} {kind} {quoted(value)}"
    facts = f"{array.dtype} {list(array.shape)}"
    if isinstance(value, np.ma.MaskedArray):
        return f"masked {facts}"
    return facts if isinstance(value, np.ndarray | np.generic | jax.Array) else f"{article} {kind} ({facts})"


def is_array_like(value: Any) -> bool:
    """Return whether NumPy treats it as an array.

    Python cannot iterate over a memoryview of several dimensions itself.
    """
    return hasattr(value, "__array__") or isinstance(value, memoryview)


def _is_iterable(value: Any) -> bool:
    return (
        isinstance(value, Iterable) and not is_array_like(value) and not isinstance(value, str | bytes | Mapping | Set)
    )
