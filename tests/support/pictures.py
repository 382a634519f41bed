"""Make test pictures, encode them, and add EXIF data."""

import struct

import cv2
import numpy as np


def gradient(height: int = 48, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 3, rows * 4, 200 - rows - columns], -1).astype(np.uint8)


def encoded(image: np.ndarray, ending: str = ".jpg", *options: int) -> bytes:
    return cv2.imencode(ending, np.ascontiguousarray(image[..., ::-1]), list(options))[1].tobytes()


def with_exif(jpeg: bytes, *, orientation: int, thumbnail: bytes = b"") -> bytes:
    """Insert an EXIF block with an orientation and a thumbnail (a complete JPEG) after the start marker of `jpeg`."""
    first = struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0)
    thumbnail_tags = 8 + len(first) + 4
    start = struct.pack("<HHII", 0x0201, 4, 1, thumbnail_tags + 30)
    length = struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    second = struct.pack("<H", 2) + start + length + struct.pack("<I", 0)
    body = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + struct.pack("<I", thumbnail_tags) + second + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
