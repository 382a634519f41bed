"""Find the original photo of a picture that is an augmented copy.

Roboflow writes several augmented copies of each photo as `NAME_jpg.rf.HASH.jpg`, and the name of the photo to its COCO
files as `images[].extra.name`. Such copies are one photo: `FaceSet.split` must keep them together.
"""

import re
import unicodedata
from typing import Any

from wing_jax.data.images import PICTURE_ENDINGS

# NAME, the ending of the photo, the hash, and the ending of the copy, which the name of a .pts file lacks.
COPY = re.compile(r"(.+)_([A-Za-z0-9]{2,4})\.rf\.[0-9A-Za-z_-]{6,64}(\.[A-Za-z0-9]+)?")


def original_photo(photo: str) -> str:
    """Return the name of the photo that the picture `photo` is a copy of; `photo` itself if it is no copy.

    This is `a/NAME.jpg` for `a/NAME_jpg.rf.HASH.jpg`, and without endings `a/NAME` for `a/NAME_jpg.rf.HASH`.
    """
    match = COPY.fullmatch(photo)
    if match is None or f".{match[2].lower()}" not in PICTURE_ENDINGS:
        return photo
    return f"{match[1]}.{match[2]}" if match[3] else match[1]


def roboflow_photo(image: dict[str, Any]) -> str:
    """Return the name that Roboflow writes for the original photo of an image in a COCO file; empty if absent."""
    extra = image.get("extra")
    name = extra.get("name") if isinstance(extra, dict) else None
    return unicodedata.normalize("NFC", name.strip()) if isinstance(name, str) else ""
