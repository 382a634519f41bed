"""Detect truncated pictures by walking their parts by length.

Bytes after the end of a picture are ignored: phones append a video or a depth map to a JPEG, and screenshot tools and
forums append text or zeros to a PNG.
"""

import itertools
import re
import struct
from collections.abc import Callable

MAX_PARTS = 1 << 18  # parts that are walked; a file with more is left to the decoder

SOI, EOI, SOS, TEM = 0xD8, 0xD9, 0xDA, 0x01
# Within a scan FF 00 means the byte FF, and FF D0 to FF D7 restart the coding. FF before a marker is padding.
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
FOREIGN = frozenset((SOI, *range(TEM, 0xC0), *range(0xF0, 0xFE)))  # a decoder stops at these within a scan
NETPBM_BYTES = {b"5": 1, b"6": 3, b"f": 4, b"F": 12}  # per pixel
_SEPARATOR = rb"(?:\s|#[^\n]*\n)+"
NETPBM = re.compile(
    rb"P(?:(?P<bits>4)|(?P<kind>[56Ff]))"
    + 2 * (_SEPARATOR + rb"(\d{1,9})")
    + rb"(?(kind)"
    + _SEPARATOR
    + rb"(?P<maximum>-?[\d.]{1,9}))\s"
)
# For each kind of tag: the bytes of one value, and its struct format if it is an integer.
TIFF_KINDS = {1: (1, "B"), 2: (1, ""), 3: (2, "H"), 4: (4, "I"), 5: (8, ""), 6: (1, ""), 7: (1, ""), 8: (2, ""),
              9: (4, ""), 10: (8, ""), 11: (4, ""), 12: (8, ""), 13: (4, ""), 16: (8, "Q")}  # fmt: skip
TIFF_OFFSETS = ((273, 279), (324, 325))  # strips and tiles: tags of their offsets and of their lengths


def is_truncated(content: bytes) -> bool:
    """Return whether `content` is a truncated JPEG, PNG or JPEG 2000.

    This includes a JPEG or PNG whose missing end is filled with zeros.

    Decoders may fill the rest of such a JPEG with gray without an error, and such a JPEG 2000 crashes OpenCV 4.11. All
    other faults are left to the decoder.
    """
    if content.startswith(b"\xff\xd8"):
        return _jpeg_lacks_its_end(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_lacks_its_end(content)
    return content[4:8] == b"jP  " and declares_more_bytes(content)


def declares_more_bytes(content: bytes) -> bool:
    """Return whether `content`, which could not be decoded, declares more bytes than it has: it was truncated.

    For BMP, GIF, TIFF, WebP, JPEG 2000, AVIF, binary PBM, PGM and PPM, and PFM; False for anything else.
    """
    check = next((check for start, check in CHECKS if re.match(start, content, re.DOTALL)), None)
    try:
        return check is not None and check(content)
    except (struct.error, IndexError):  # it ends within its header
        return True
    except (ValueError, OverflowError):  # impossible numbers
        return False


def _jpeg_lacks_its_end(content: bytes) -> bool:
    position, in_scan = 2, False
    for _ in range(MAX_PARTS):
        match = MARKER.search(content, position)
        if match is None:
            return True
        position = match.end()
        kind = content[position - 1]
        if kind == EOI:
            return False
        if kind in FOREIGN:  # before a scan decoders reject most of them themselves
            return in_scan
        in_scan |= kind == SOS
        position += max(int.from_bytes(content[position : position + 2], "big"), 2)
    return False


def _png_lacks_its_end(content: bytes) -> bool:
    position = 8
    for _ in range(MAX_PARTS):
        length, kind = int.from_bytes(content[position : position + 4], "big"), content[position + 4 : position + 8]
        position += 12 + length
        if position > len(content):
            return True
        if kind == b"IEND" or not kind.isalpha():
            return False
    return False


def _is_riff_cut(content: bytes) -> bool:
    return 8 + struct.unpack_from("<I", content, 4)[0] > len(content)


def _is_bmp_cut(content: bytes) -> bool:
    start, header = struct.unpack_from("<II", content, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = length = 0
    else:
        width, height, _, bits, compression, length = struct.unpack_from("<iiHHII", content, 18)
    uncompressed = (width * bits + 31) // 32 * 4 * abs(height)
    return start + (length if compression in (1, 2) else uncompressed) > len(content)


def _is_gif_cut(content: bytes) -> bool:
    position = 13 + _count_color_bytes(content[10])
    for _ in range(MAX_PARTS):
        kind = content[position]
        if kind == 0x2C:
            position += 11 + _count_color_bytes(content[position + 9])
        elif kind == 0x21:
            position += 2
        else:  # 3B, the end
            return False
        for _ in range(MAX_PARTS):
            length = content[position]
            position += 1 + length
            if not length:
                break
    return False


def _count_color_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _is_tiff_cut(content: bytes) -> bool:
    order = "<" if content.startswith(b"II") else ">"
    big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    count_format, offset, step, value_offset = ("Q", "Q", 20, 12) if big else ("H", "I", 12, 8)
    (start,) = struct.unpack_from(order + offset, content, 8 if big else 4)
    (count,) = struct.unpack_from(order + count_format, content, start)
    start += struct.calcsize(f"={count_format}")
    tags = {}
    for entry in range(start, start + step * min(count, MAX_PARTS), step):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", content, entry)
        size, letter = TIFF_KINDS.get(kind, (0, ""))
        place = entry + value_offset
        if size * number > step - value_offset:
            (place,) = struct.unpack_from(order + offset, content, place)
            if place + size * number > len(content):
                return True
        if letter and number <= MAX_PARTS:
            tags[tag] = struct.unpack_from(f"{order}{number}{letter}", content, place)
    places = (zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False) for starts, lengths in TIFF_OFFSETS)
    return any(place + length > len(content) for place, length in itertools.chain(*places))


def _is_box_file_cut(content: bytes) -> bool:
    """Check the boxes of JPEG 2000 and AVIF; one of them contains the encoded pixels."""
    position, has_pixels = 0, False
    for _ in range(MAX_PARTS):
        if position == len(content):
            return not has_pixels
        length, kind = struct.unpack_from(">I4s", content, position)
        has_pixels |= kind in (b"jp2c", b"mdat")
        if length == 1:
            (length,) = struct.unpack_from(">Q", content, position + 8)
        if length < 8:  # 0: up to the end of the file
            return kind == b"jp2c" and _is_codestream_cut(content)
        position += length
        if position > len(content) or kind == b"jp2c":
            return position > len(content)
    return False


def _is_codestream_cut(content: bytes) -> bool:
    return b"\xff\xd9" not in content


def _is_netpbm_cut(content: bytes) -> bool:
    match = NETPBM.match(content[:4096])
    if match is None:
        return len(content) < 16
    width, height = int(match[3]), int(match[4])
    if match["bits"]:
        return match.end() + (width + 7) // 8 * height > len(content)
    pixel = NETPBM_BYTES[match["kind"]] * (2 if match["kind"] in b"56" and float(match["maximum"]) > 255 else 1)
    return match.end() + width * height * pixel > len(content)


CHECKS: tuple[tuple[bytes, Callable[[bytes], bool]], ...] = (
    (rb"RIFF....WEBP", _is_riff_cut),
    (rb"BM", _is_bmp_cut),
    (rb"GIF8[79]a", _is_gif_cut),
    (rb"II[*+]\0|MM\0[*+]", _is_tiff_cut),
    (rb"....(jP  |ftyp)", _is_box_file_cut),
    (rb"\xff\x4f\xff\x51", _is_codestream_cut),
    (rb"P[4-6Ff]\s", _is_netpbm_cut),
)
