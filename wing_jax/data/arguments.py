"""Images and boxes as people give them to Python functions: taken where the meaning is plain, else refused by name.

`as_image` and `as_boxes` are the one place where arguments of the public functions become arrays.
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

# What `as_image` and `as_boxes` take. To a type checker anything: they say themselves what is wrong.
ImageLike: TypeAlias = Any
BoxesLike: TypeAlias = Any
WANTED = "must be RGB uint8 [height, width, 3]"
WANTED_BOXES = "give x0 y0 x1 y1 for each face, in pixels"


def as_image(value: ImageLike, *, name: str = "the image") -> Image:
    """`value` as an RGB uint8 array `[height, width, 3]`.

    Taken are: such a NumPy array, as it is; a JAX array, or another with `__array__`, of that shape and dtype; the path
    of a file (`wing_jax.data.images.read_image`); a PIL image of any mode, turned as its EXIF says, without its
    transparency; a picture of a `FaceSet`. `name` is what a message calls it.

    Raises:
      InputError: it is something else; the message says what came and how to convert it.
    """
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[-1] == 3:
        if value.size and not isinstance(value, np.ma.MaskedArray):
            return value
    elif value is None:
        raise InputError(
            f"{name} is None, which is no image: cv2.imread returns None for a file that it cannot read: check its path"
        )
    elif isinstance(value, str | os.PathLike | Embedded):
        if value == "":
            raise InputError(f"{name} is an empty path: give a file's path or {WANTED.removeprefix('must be ')}")
        return load_picture(value if isinstance(value, Embedded) else Path(value))
    elif isinstance(value, PIL.Image.Image):
        return _of_pil(value, name)
    elif isinstance(value, list | tuple):
        came = f"a {type(value).__name__} of {len(value)} entries"
        raise InputError(f"{name} {WANTED}, not {came}: give np.asarray(image, np.uint8)")
    elif not is_arrayed(value):
        raise InputError(f"{name} {WANTED}, a PIL image or a file's path, not {_came(value)}")
    array = array_of(value, f"{name} {WANTED}")
    if fault := _fault(array):
        raise InputError(f"{name} {WANTED}, not {_came(value, array)}: {fault}")
    return array


def as_images(values: Any) -> list[Image]:
    """The images of a list, a tuple, an iterator or an array `[n, height, width, 3]`.

    Raises:
      InputError: it is none of these, or one is no image (`as_image`); the message says which.
    """
    several = entries_of(values, "images")
    total = len(several)
    names = ["the image"] if total == 1 else [f"image {number} of {total}" for number in range(1, total + 1)]
    return [as_image(value, name=name) for value, name in zip(several, names, strict=True)]


def as_boxes(value: BoxesLike, *, name: str = "the boxes") -> Float[np.ndarray, "faces 4"]:
    """`value` as float32 `[faces, 4]`: an array of NumPy, JAX or another library, a list, tuple or iterator of boxes,
    or one box alone. Nothing is asked of the numbers.

    Raises:
      InputError: it is something else; the message says what came.
    """
    if value is None:
        raise InputError(f"{name} are None: {WANTED_BOXES}, or let wing_jax.FaceLandmarker find the faces")
    if isinstance(value, str | bytes | Mapping | Set) or (not isinstance(value, Iterable) and not is_arrayed(value)):
        raise InputError(f"{name} are {_came(value)}: {WANTED_BOXES}")
    if not is_arrayed(value):
        value = [list(box) if _lazy(box) else box for box in value]
        sizes = sorted({len(box) for box in value if isinstance(box, list | tuple)})
        if len(sizes) > 1:
            raise InputError(f"{name} hold {' and '.join(map(str, sizes))} numbers: {WANTED_BOXES}")
    boxes = array_of(value, f"{name} must be [faces, 4]")
    number = jnp.issubdtype(boxes.dtype, jnp.floating) or jnp.issubdtype(boxes.dtype, jnp.integer)
    if boxes.shape == (0,) or (boxes.ndim == 2 and boxes.shape == (0, 4)):
        return np.zeros((0, 4), np.float32)
    if not number or isinstance(boxes, np.ma.MaskedArray):
        raise InputError(f"{name} are {_came(value, boxes)}, not numbers: {WANTED_BOXES}")
    boxes = boxes[None] if boxes.ndim == 1 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{name} must be [faces, 4], not {list(boxes.shape)}: {WANTED_BOXES}")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused as such
        return boxes.astype(np.float32)


def boxes_of_each(values: Any, images: int) -> list[BoxesLike]:
    """The boxes of each of so many images, still as they were given.

    Raises:
      InputError: there is not one entry for each image.
    """
    if values is None:
        raise InputError(f"the boxes are None: give each of {images} image(s) its list of boxes ([] without a face)")
    boxes = entries_of(values, "boxes")
    if len(boxes) != images:
        raise InputError(f"{images} images and boxes for {len(boxes)}: give each image its list of boxes")
    return boxes


def entries_of(values: Any, what: str) -> list[Any]:
    """The entries of a list, a tuple, an iterator or an array with a leading axis.

    Raises:
      InputError: it is none of these; the message begins with `what`.
    """
    single = isinstance(values, str | bytes | Mapping | Set | os.PathLike | PIL.Image.Image | Embedded)
    if single or not (isinstance(values, Iterable) or is_arrayed(values)):
        raise InputError(f"{what} must be a list, one entry for each image, not {_came(values)}")
    if not is_arrayed(values):
        return list(values)
    array = array_of(values, f"{what} must be a list, one entry for each image")
    if what == "images" and array.ndim != 4:
        raise InputError(
            f"images are {_came(values, array)}: give a list of images, or [n, height, width, 3]; for one image [image]"
        )
    if not array.ndim:
        raise InputError(f"{what} must be a list, one entry for each image, not {_came(values, array)}")
    return list(array)


def _of_pil(picture: PIL.Image.Image, name: str) -> Image:
    """Its pixels as `read_image` gives those of a file."""
    if picture.width * picture.height > LARGEST_PICTURE:
        raise InputError(f"{name} has more than {LARGEST_PICTURE:,} pixels: shrink it and its points")
    try:
        upright = PIL.ImageOps.exif_transpose(picture)
        if upright.mode in ("I;16", "I;16L", "I;16B", "I"):  # 16-bit gray: Pillow would cut it off at 255
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
            "open it again, or convert it"
        ) from error
    if not pixels.size:
        raise InputError(f"{name} is a PIL image without pixels: check how it was cut")
    return pixels


def _fault(array: np.ndarray) -> str:
    """The way from `array` to an image, or what keeps it from being one; empty: nothing."""
    shape = array.shape
    if isinstance(array, np.ma.MaskedArray):
        return "fill its masked pixels first: image.filled(0)"
    if not array.size:
        return "it has no pixels: check how it was cut"
    if array.ndim == 2 or (array.ndim == 3 and shape[-1] == 1):
        return "make three of its one channel: np.stack([image.squeeze()] * 3, axis=-1)"
    if array.ndim == 4:
        return "give one image at a time, or several to predict_batch"
    if array.ndim == 3 and shape[-1] == 4:
        return "drop its fourth channel: image[..., :3]"
    if array.ndim == 3 and shape[0] == 3 and shape[-1] != 3:
        return "bring its channels to the end: image.transpose(1, 2, 0)"
    if array.ndim != 3 or shape[-1] != 3:
        return "one image has rows, columns and three channels"
    if jnp.issubdtype(array.dtype, jnp.floating):
        up_to_one = float(np.nan_to_num(array).max()) <= 1
        return f"convert it: {'(255 * image)' if up_to_one else 'image'}.round().clip(0, 255).astype(np.uint8)"
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of either byte order
        return "convert it: (image >> 8).astype(np.uint8) where it uses all 16 bits"
    if array.dtype == np.uint8:
        return ""
    if array.dtype == bool:
        return "convert it: 255 * image.astype(np.uint8)"
    integer = np.issubdtype(array.dtype, np.integer)
    return f"convert it: image{'.clip(0, 255)' if integer else ''}.astype(np.uint8)"


def array_of(value: Any, must: str) -> np.ndarray:
    """`value` as a NumPy array of any shape and dtype; `must` begins the message where that cannot be.

    Raises:
      InputError: it makes no array, or JAX is tracing it.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, jax.core.Tracer):
        raise InputError(f"{must}, not traced by JAX ({value.aval}): call this outside of jax.jit, vmap and grad")
    try:
        return np.asarray(jax.device_get(value) if isinstance(value, jax.Array) else value)
    except Exception as error:  # whatever another library's array says
        raise InputError(f"{must}, not a {type(value).__name__} ({cut(str(error), length=160)})") from error


def _came(value: Any, array: np.ndarray | None = None) -> str:
    """What `value` is, and what array it makes."""
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


def is_arrayed(value: Any) -> bool:
    """Whether NumPy takes it as an array. Python itself cannot iterate over a memoryview of several dimensions."""
    return hasattr(value, "__array__") or isinstance(value, memoryview)


def _lazy(value: Any) -> bool:
    return isinstance(value, Iterable) and not is_arrayed(value) and not isinstance(value, str | bytes | Mapping | Set)
