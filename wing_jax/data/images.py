"""Reading and writing pictures with OpenCV, refusing what is broken."""

from pathlib import Path

import cv2
import numpy as np

from wing_jax.errors import InputError
from wing_jax.types import Image


def read_image(path: str | Path) -> Image:
    """The picture at `path` as RGB uint8 `[height, width, 3]`, EXIF rotation applied.

    Raises:
      InputError: the file is missing, empty, cut short, or no picture that OpenCV reads.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read this image ({error.strerror}): check the path") from error
    if _is_cut_short(content):
        raise InputError(f"{path}: the image file is truncated: copy or download it again")
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if bgr is None:
        raise InputError(f"{path}: not an image that can be decoded: use JPEG, PNG, BMP, WebP or TIFF")
    return np.ascontiguousarray(bgr[:, :, ::-1])


def _is_cut_short(content: bytes) -> bool:
    """Decoders fill the missing rest of a JPEG with grey and only warn, so look for the end marker ourselves."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
    if content.startswith(b"\x89PNG"):
        return b"IEND" not in content[-64:]
    return False


def write_image(path: str | Path, image: Image) -> None:
    """Write RGB uint8 `[height, width, 3]`; the file's ending chooses the format.

    Raises:
      InputError: the folder cannot be written to, or the ending is of no known format.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = cv2.imwrite(str(path), np.ascontiguousarray(image[:, :, ::-1]))
    except OSError as error:
        raise InputError(f"{path}: cannot write this image ({error.strerror}): choose another folder") from error
    except cv2.error as error:
        raise InputError(f"{path}: cannot write this image: use a name that ends in .png or .jpg") from error
    if not done:
        raise InputError(f"{path}: cannot write this image: check that the folder may be written to")
