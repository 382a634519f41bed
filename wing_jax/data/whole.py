"""Whether an encoded picture is whole: its parts are walked by their lengths. What follows its end is not part of it:
phones put a video or a depth map behind a JPEG, screenshot tools and forums put text or zeros behind a PNG."""

import itertools
import re
import struct
from collections.abc import Callable

MOST_PARTS = 1 << 18  # that are walked; a file of more is left to the decoder

SOI, EOI, SOS, TEM = 0xD8, 0xD9, 0xDA, 0x01
# Within a scan FF 00 stands for the byte FF, and FF D0 to FF D7 restart the coding. FF before a marker is filling.
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
FOREIGN = frozenset((SOI, *range(TEM, 0xC0), *range(0xF0, 0xFE)))  # a decoder stops at these within a scan
NETPBM_BYTES = {b"5": 1, b"6": 3, b"f": 4, b"F": 12}  # of a pixel
_GAP = rb"(?:\s|#[^\n]*\n)+"
NETPBM = re.compile(
    rb"P(?:(?P<bits>4)|(?P<kind>[56Ff]))"
    + 2 * (_GAP + rb"(\d{1,9})")
    + rb"(?(kind)"
    + _GAP
    + rb"(?P<most>-?[\d.]{1,9}))\s"
)
# Of a tag: the bytes of one value, and how struct calls it where it is a whole number.
TIFF_KINDS = {1: (1, "B"), 2: (1, ""), 3: (2, "H"), 4: (4, "I"), 5: (8, ""), 6: (1, ""), 7: (1, ""), 8: (2, ""),
              9: (4, ""), 10: (8, ""), 11: (4, ""), 12: (8, ""), 13: (4, ""), 16: (8, "Q")}  # fmt: skip
TIFF_PLACES = ((273, 279), (324, 325))  # of strips and of tiles: tags of their offsets and of their lengths


def lacks_its_end(content: bytes) -> bool:
    """Whether `content` is a JPEG or a PNG without its end: cut short, or cut and filled up with zeros. Or a JPEG 2000
    that was cut.

    Decoders may fill the rest of such a JPEG with gray and say nothing, and OpenCV 4.11 ends the process at such a
    JPEG 2000. What is odd in another way is left to them.
    """
    if content.startswith(b"\xff\xd8"):
        return _jpeg_lacks_its_end(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_lacks_its_end(content)
    return content[4:8] == b"jP  " and announces_more(content)


def announces_more(content: bytes) -> bool:
    """Whether `content`, which could not be decoded, announces more bytes than there are: it was cut short.

    Of BMP, GIF, TIFF, WebP, JPEG 2000, AVIF, binary PBM, PGM and PPM, and PFM; False of anything else.
    """
    check = next((check for start, check in CHECKS if re.match(start, content, re.DOTALL)), None)
    try:
        return check is not None and check(content)
    except (struct.error, IndexError):  # it ends within its header
        return True
    except (ValueError, OverflowError):  # absurd numbers
        return False


def _jpeg_lacks_its_end(content: bytes) -> bool:
    at, scanning = 2, False
    for _ in range(MOST_PARTS):
        found = MARKER.search(content, at)
        if found is None:
            return True
        at = found.end()
        kind = content[at - 1]
        if kind == EOI:
            return False
        if kind in FOREIGN:  # before a scan decoders refuse most of them themselves
            return scanning
        scanning |= kind == SOS
        at += max(int.from_bytes(content[at : at + 2], "big"), 2)
    return False


def _png_lacks_its_end(content: bytes) -> bool:
    at = 8
    for _ in range(MOST_PARTS):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        at += 12 + length
        if at > len(content):
            return True
        if kind == b"IEND" or not kind.isalpha():
            return False
    return False


def _riff(content: bytes) -> bool:
    return 8 + struct.unpack_from("<I", content, 4)[0] > len(content)


def _bmp(content: bytes) -> bool:
    start, header = struct.unpack_from("<II", content, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        coded = length = 0
    else:
        width, height, _, bits, coded, length = struct.unpack_from("<iiHHII", content, 18)
    uncoded = (width * bits + 31) // 32 * 4 * abs(height)
    return start + (length if coded in (1, 2) else uncoded) > len(content)


def _gif(content: bytes) -> bool:
    at = 13 + _colors(content[10])
    for _ in range(MOST_PARTS):
        kind = content[at]
        if kind == 0x2C:
            at += 11 + _colors(content[at + 9])
        elif kind == 0x21:
            at += 2
        else:  # 3B, its end
            return False
        for _ in range(MOST_PARTS):
            length = content[at]
            at += 1 + length
            if not length:
                break
    return False


def _colors(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _tiff(content: bytes) -> bool:
    order = "<" if content.startswith(b"II") else ">"
    big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    counted, offset, step, inside = ("Q", "Q", 20, 12) if big else ("H", "I", 12, 8)
    (start,) = struct.unpack_from(order + offset, content, 8 if big else 4)
    (count,) = struct.unpack_from(order + counted, content, start)
    start += struct.calcsize(f"={counted}")
    tags = {}
    for entry in range(start, start + step * min(count, MOST_PARTS), step):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", content, entry)
        size, letter = TIFF_KINDS.get(kind, (0, ""))
        place = entry + inside
        if size * number > step - inside:
            (place,) = struct.unpack_from(order + offset, content, place)
            if place + size * number > len(content):
                return True
        if letter and number <= MOST_PARTS:
            tags[tag] = struct.unpack_from(f"{order}{number}{letter}", content, place)
    places = (zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False) for starts, lengths in TIFF_PLACES)
    return any(place + length > len(content) for place, length in itertools.chain(*places))


def _boxes(content: bytes) -> bool:
    """The boxes of JPEG 2000 and AVIF; one of them holds the picture's code."""
    at, coded = 0, False
    for _ in range(MOST_PARTS):
        if at == len(content):
            return not coded
        length, kind = struct.unpack_from(">I4s", content, at)
        coded |= kind in (b"jp2c", b"mdat")
        if length == 1:
            (length,) = struct.unpack_from(">Q", content, at + 8)
        if length < 8:  # 0: up to the file's end
            return kind == b"jp2c" and _codestream(content)
        at += length
        if at > len(content) or kind == b"jp2c":
            return at > len(content)
    return False


def _codestream(content: bytes) -> bool:
    return b"\xff\xd9" not in content


def _netpbm(content: bytes) -> bool:
    found = NETPBM.match(content[:4096])
    if found is None:
        return len(content) < 16
    width, height = int(found[3]), int(found[4])
    if found["bits"]:
        return found.end() + (width + 7) // 8 * height > len(content)
    pixel = NETPBM_BYTES[found["kind"]] * (2 if found["kind"] in b"56" and float(found["most"]) > 255 else 1)
    return found.end() + width * height * pixel > len(content)


CHECKS: tuple[tuple[bytes, Callable[[bytes], bool]], ...] = (
    (rb"RIFF....WEBP", _riff),
    (rb"BM", _bmp),
    (rb"GIF8[79]a", _gif),
    (rb"II[*+]\0|MM\0[*+]", _tiff),
    (rb"....(jP  |ftyp)", _boxes),
    (rb"\xff\x4f\xff\x51", _codestream),
    (rb"P[4-6Ff]\s", _netpbm),
)
