"""Read and write pictures with OpenCV; reject pictures that are corrupt or too large."""

import dataclasses
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import PIL.Image
from jaxtyping import UInt8

from wing_jax.data import whole
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import quoted
from wing_jax.types import Image
from wing_jax.values import Value

# The endings that every reader and command looks for, in upper or lower case. OpenCV decodes all of them.
PICTURE_ENDINGS = (
    ".jpg", ".png", ".jpeg", ".ppm", ".bmp", ".webp", ".tif", ".tiff", ".jpe", ".jfif", ".dib", ".pgm", ".pbm", ".pnm",
    ".jp2", ".avif", ".gif",
)  # fmt: skip
LARGEST_PICTURE = 80_000_000  # pixels: a decoded picture then takes at most 240 MB


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A picture inside a larger file: a frame of a video, a cell of a .mat, a record."""

    name: str  # for messages: the file and the position in it
    read: Callable[[], Image]  # RGB uint8; raises InputError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class InMemory(Value):
    """A picture in memory, as `Embedded.read`."""

    pixels: UInt8[np.ndarray, "height width 3"]

    def __call__(self) -> Image:
        return self.pixels


Picture: TypeAlias = Path | Embedded


def is_picture(path: Path) -> bool:
    """Return whether the name of `path` has one of `PICTURE_ENDINGS`, in upper or lower case."""
    return path.suffix.lower() in PICTURE_ENDINGS


def picture_name(picture: Picture) -> str:
    """Return the name of `picture` for messages."""
    return picture.name if isinstance(picture, Embedded) else str(picture)


def load_picture(picture: Picture) -> Image:
    """Return the pixels of `picture`, RGB uint8 `[height, width, 3]`.

    Raises:
      InputError: it is missing, corrupt or larger than `LARGEST_PICTURE`.
    """
    return picture.read() if isinstance(picture, Embedded) else read_image(picture)


def read_image(path: str | Path) -> Image:
    """Read the picture at `path` as RGB uint8 `[height, width, 3]`, with the EXIF rotation applied.

    Gray, palette, 16-bit and CMYK pictures are converted; an alpha channel is dropped.

    Raises:
      InputError: the file is missing, empty, truncated, not a picture that OpenCV reads, or has more than
        `LARGEST_PICTURE` pixels.
    """
    return decode_image(read_bytes(path), name=str(path))


def read_bytes(path: str | Path) -> bytes:
    """Return the content of the picture file `path`.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return files.read_bytes(path)
    except OSError as error:
        lists = ", or pass the images' folder (--images) if an annotation file names it"
        hint = f"check the path{lists if isinstance(error, FileNotFoundError) else ''}"
        raise InputError(f"{path}: cannot read this image ({error.strerror}): {hint}") from error
    except (ValueError, TypeError) as error:  # a name with a zero byte, or not a name
        raise InputError(f"expected the path of an image file, got {quoted(path)}: check the path") from error


def decode_image(content: bytes, *, name: str) -> Image:
    """Decode `content`, that of a file called `name`; see `read_image`.

    Raises:
      InputError: see `read_image`.
    """
    truncated = f"{name}: the image file is truncated: copy or download it again"
    if whole.is_truncated(content):
        raise InputError(truncated)
    _check_size(content, name)
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:  # an impossible size in a corrupt header
        bgr = None
    if bgr is None and whole.declares_more_bytes(content):
        raise InputError(truncated)
    if bgr is None:
        raise InputError(f"{name}: not an image that can be decoded: use JPEG, PNG, BMP, WebP or TIFF")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _check_size(content: bytes, name: str) -> None:
    """Reject a picture that is too large by its header, before its pixels take memory."""
    try:
        width, height = _size_in_header(content)
        too_large = width * height > LARGEST_PICTURE
    except PIL.Image.DecompressionBombError:  # some formats check this themselves
        too_large = True
    except Exception:  # a format unknown to Pillow, or corrupt: OpenCV decides
        too_large = False
    if too_large:
        raise InputError(f"{name}: more than {LARGEST_PICTURE:,} pixels: shrink the picture and its points")


def _size_in_header(content: bytes) -> tuple[int, int]:
    """Return (width, height).

    `PIL.Image.open` would also warn about large pictures, and warnings can be disabled only for all threads at once.
    So this tries the formats one by one, as that function does, the common ones first.
    """
    for prepare in (PIL.Image.preinit, PIL.Image.init):
        prepare()
        for factory, accept in [PIL.Image.OPEN[form] for form in PIL.Image.ID]:
            accepted = accept is None or accept(content[:16])
            if not accepted or isinstance(accepted, str):  # a string is the reason why it cannot be read
                continue
            try:
                with factory(io.BytesIO(content), "") as picture:
                    return picture.size
            except (SyntaxError, IndexError, TypeError, struct.error):  # another format after all
                continue
    raise ValueError("not a format that Pillow knows")


def resize_square(image: UInt8[np.ndarray, "side side 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Resize a square image to `size` pixels: bilinearly to `size` times a power of two, then by means of 2 x 2 pixels.

    The bilinear step reduces it by less than half, so no pixel is skipped. OpenCV has fast code for both steps, and
    none for area averaging by other ratios.
    """
    halvings = max(0, (len(image) // size).bit_length() - 1)
    if len(image) != size << halvings:
        image = cv2.resize(image, 2 * (size << halvings,), interpolation=cv2.INTER_LINEAR)
    while len(image) > size:
        image = cv2.resize(image, 2 * (len(image) // 2,), interpolation=cv2.INTER_AREA)
    return image


def write_overlay(path: str | Path, image: Image) -> None:
    """Write a picture with drawn points as PNG, with a marker so that it is never used as a photo.

    Raises:
      InputError: see `write_image`.
    """
    write_image(path, image, chunk=OVERLAY)


def is_overlay(path: Path) -> bool:
    """Return whether `write_overlay` wrote the file `path`."""
    if path.suffix.lower() != ".png":
        return False
    try:
        with path.open("rb") as file:
            return OVERLAY in file.read(PNG_HEAD + len(OVERLAY))
    except OSError:
        return False


def _text_chunk(text: bytes) -> bytes:
    """Return a text chunk of a PNG (https://www.w3.org/TR/png-3/#11tEXt)."""
    return struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))


PNG_HEAD = 33  # bytes: the signature and the first chunk
OVERLAY = _text_chunk(b"Comment\0landmarks drawn by wing-jax predict")


def write_image(path: str | Path, image: Image, *, chunk: bytes = b"") -> None:
    """Write RGB uint8 `[height, width, 3]` completely or not at all; the file's ending selects the format.

    `chunk` is inserted after the header of a PNG.

    Raises:
      InputError: the folder is not writable, the ending is unknown, or the picture is too large for the format.
    """
    path = Path(path)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,) or not image.size:
        raise InputError(f"{path}: not an image ({quoted(image)}): pass RGB uint8 [height, width, 3]")
    try:
        encoded, content = cv2.imencode(path.suffix, np.ascontiguousarray(image[:, :, ::-1]))
        if not encoded:
            raise InputError(f"{path}: cannot write this image: the format does not support {image.shape[:2]} pixels")
        path.parent.mkdir(parents=True, exist_ok=True)
        written = content.tobytes()
        # cv2.imwrite does not report a full disk
        files.write_atomic(path, written[:PNG_HEAD] + chunk + written[PNG_HEAD:])
    except OSError as error:
        raise InputError(
            f"{path}: cannot write this image ({error.strerror}): free disk space or choose another folder"
        ) from error
    except cv2.error as error:
        raise InputError(f"{path}: cannot write this image: use a name that ends in .png or .jpg") from error
