"""Which photo a picture is a copy of, as far as files say it.

Roboflow writes each photo several times, perturbed, as `NAME_jpg.rf.HASH.jpg`, and in its COCO files the photo's own
name as `images[].extra.name`. Such copies are one photo: `FaceSet.split` must not part them.
"""

import re
import unicodedata
from typing import Any

from wing_jax.data.images import PICTURE_ENDINGS

# NAME, the ending of the photo as it was given, the hash, and the ending of the copy, which a .pts file's name lacks.
COPY = re.compile(r"(.+)_([A-Za-z0-9]{2,4})\.rf\.[0-9A-Za-z_-]{6,64}(\.[A-Za-z0-9]+)?")


def original_photo(photo: str) -> str:
    """The name of the photo that the picture `photo` is a copy of: `a/NAME.jpg` of `a/NAME_jpg.rf.HASH.jpg`, and
    without endings `a/NAME` of `a/NAME_jpg.rf.HASH`; others as they are."""
    match = COPY.fullmatch(photo)
    if match is None or f".{match[2].lower()}" not in PICTURE_ENDINGS:
        return photo
    return f"{match[1]}.{match[2]}" if match[3] else match[1]


def told_photo(image: dict[str, Any]) -> str:
    """The name of the photo that an image of a COCO file is a copy of, as Roboflow says it; empty where nothing is
    said."""
    extra = image.get("extra")
    name = extra.get("name") if isinstance(extra, dict) else None
    return unicodedata.normalize("NFC", name.strip()) if isinstance(name, str) else ""
