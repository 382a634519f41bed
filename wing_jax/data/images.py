"""Reading and writing pictures with OpenCV, refusing what is broken or too large."""

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

# Of all pictures that are looked for, by whatever reader or command; in any case. OpenCV decodes each of them.
PICTURE_ENDINGS = (
    ".jpg", ".png", ".jpeg", ".ppm", ".bmp", ".webp", ".tif", ".tiff", ".jpe", ".jfif", ".dib", ".pgm", ".pbm", ".pnm",
    ".jp2", ".avif", ".gif",
)  # fmt: skip
LARGEST_PICTURE = 80_000_000  # pixels: a decoded picture then takes at most 240 MB


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A picture inside a larger file: a frame of a video, a cell of a .mat, a record."""

    name: str  # for messages: the file and the place in it
    read: Callable[[], Image]  # RGB uint8; raises InputError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class InMemory(Value):
    """Reads a picture that is held as it is: `Embedded.read` of one."""

    pixels: UInt8[np.ndarray, "height width 3"]

    def __call__(self) -> Image:
        return self.pixels


Picture: TypeAlias = Path | Embedded


def is_picture(path: Path) -> bool:
    """Whether the name of `path` ends as a picture's (`PICTURE_ENDINGS`), in capitals or not."""
    return path.suffix.lower() in PICTURE_ENDINGS


def picture_name(picture: Picture) -> str:
    """What to call `picture` in a message."""
    return picture.name if isinstance(picture, Embedded) else str(picture)


def load_picture(picture: Picture) -> Image:
    """The pixels of `picture`, RGB uint8 `[height, width, 3]`.

    Raises:
      InputError: it is missing, broken or larger than `LARGEST_PICTURE`.
    """
    return picture.read() if isinstance(picture, Embedded) else read_image(picture)


def read_image(path: str | Path) -> Image:
    """The picture at `path` as RGB uint8 `[height, width, 3]`, EXIF rotation applied.

    Gray, palette, 16-bit and CMYK pictures are converted; an alpha channel is dropped.

    Raises:
      InputError: the file is missing, empty, cut short, no picture that OpenCV reads, or of more than
        `LARGEST_PICTURE` pixels.
    """
    return decode_image(read_bytes(path), name=str(path))


def read_bytes(path: str | Path) -> bytes:
    """The content of the picture file `path`.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return files.read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot read this image ({error.strerror}): check the path") from error
    except (ValueError, TypeError) as error:  # a name with a zero byte; no name at all
        raise InputError(f"an image is read from a file's path, not from {quoted(path)}: check the path") from error


def decode_image(content: bytes, *, name: str) -> Image:
    """The picture that `content`, of a file called `name`, encodes; see `read_image`.

    Raises:
      InputError: as `read_image`.
    """
    truncated = f"{name}: the image file is truncated: copy or download it again"
    if whole.lacks_its_end(content):
        raise InputError(truncated)
    _check_size(content, name)
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:  # an absurd size in a damaged header
        bgr = None
    if bgr is None and whole.announces_more(content):
        raise InputError(truncated)
    if bgr is None:
        raise InputError(f"{name}: not an image that can be decoded: use JPEG, PNG, BMP, WebP or TIFF")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _check_size(content: bytes, name: str) -> None:
    """Refuse by the header, before the pixels take memory."""
    try:
        width, height = _size_in_header(content)
        too_large = width * height > LARGEST_PICTURE
    except PIL.Image.DecompressionBombError:  # some formats ask this themselves
        too_large = True
    except Exception:  # not a format Pillow knows, or damaged: OpenCV has the word
        too_large = False
    if too_large:
        raise InputError(f"{name}: more than {LARGEST_PICTURE:,} pixels: shrink the picture and its points")


def _size_in_header(content: bytes) -> tuple[int, int]:
    """(width, height). `PIL.Image.open` would also warn of large pictures, and a warning can be kept back only for all
    threads at once: so its formats are asked here, as it asks them, the common ones first."""
    for prepare in (PIL.Image.preinit, PIL.Image.init):
        prepare()
        for factory, accept in [PIL.Image.OPEN[form] for form in PIL.Image.ID]:
            accepted = accept is None or accept(content[:16])
            if not accepted or isinstance(accepted, str):  # a text says why it cannot be read
                continue
            try:
                with factory(io.BytesIO(content), "") as picture:
                    return picture.size
            except (SyntaxError, IndexError, TypeError, struct.error):  # another format after all
                continue
    raise ValueError("no format that Pillow knows")


def write_overlay(path: str | Path, image: Image) -> None:
    """`write_image` of a picture that points were drawn into, as PNG, marked so that it is never taken for the photo.

    Raises:
      InputError: as `write_image`.
    """
    write_image(path, image, chunk=OVERLAY)


def is_overlay(path: Path) -> bool:
    """Whether the file `path` is a picture that `write_overlay` wrote."""
    if path.suffix.lower() != ".png":
        return False
    try:
        with path.open("rb") as file:
            return OVERLAY in file.read(PNG_HEAD + len(OVERLAY))
    except OSError:
        return False


def _text_chunk(text: bytes) -> bytes:
    """A chunk of a PNG (https://www.w3.org/TR/png-3/#11tEXt)."""
    return struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))


PNG_HEAD = 33  # bytes: the signature and the first chunk
OVERLAY = _text_chunk(b"Comment\0landmarks drawn by wing-jax predict")


def write_image(path: str | Path, image: Image, *, chunk: bytes = b"") -> None:
    """Write RGB uint8 `[height, width, 3]`, whole or not at all; the file's ending chooses the format. `chunk` is put
    behind the head of a PNG.

    Raises:
      InputError: the folder cannot be written to, the ending is of no known format, or that takes no picture so large.
    """
    path = Path(path)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,) or not image.size:
        raise InputError(f"{path}: not an image ({quoted(image)}): give RGB uint8 [height, width, 3]")
    try:
        encoded, content = cv2.imencode(path.suffix, np.ascontiguousarray(image[:, :, ::-1]))
        if not encoded:
            raise InputError(f"{path}: cannot write this image: the format does not take {image.shape[:2]} pixels")
        path.parent.mkdir(parents=True, exist_ok=True)
        written = content.tobytes()
        files.write_whole(
            path, written[:PNG_HEAD] + chunk + written[PNG_HEAD:]
        )  # cv2.imwrite says nothing of a full disk
    except OSError as error:
        raise InputError(
            f"{path}: cannot write this image ({error.strerror}): make room, or choose another folder"
        ) from error
    except cv2.error as error:
        raise InputError(f"{path}: cannot write this image: use a name that ends in .png or .jpg") from error
