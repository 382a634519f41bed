"""Whole pictures, whatever follows their end, are read; one that was cut is refused, wherever it was cut."""

import io
import re
import struct
import zipfile

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.support.pictures import encoded, gradient, with_exif
from wing_jax.data.images import decode_image, read_image
from wing_jax.data.whole import announces_more, lacks_its_end
from wing_jax.errors import InputError

PIXELS = np.clip(gradient(24, 40) + np.random.default_rng(0).integers(0, 25, (24, 40, 3)), 0, 255).astype(np.uint8)


def saved(kind: str, mode: str = "RGB", **options) -> bytes:
    content = io.BytesIO()
    PIL.Image.fromarray(PIXELS).convert(mode).save(content, kind, **options)
    return content.getvalue()


def animated(kind: str) -> bytes:
    more = [PIL.Image.fromarray(PIXELS[::-1].copy()) for _ in range(2)]
    return saved(kind, save_all=True, append_images=more, duration=40)


def tiled_tiff() -> bytes:
    """Gray, of two tiles, in the order of bytes that Pillow does not write."""
    tiles = np.random.default_rng(0).integers(0, 256, 512, np.uint8).tobytes()
    tags = (
        (256, 4, 32), (257, 4, 16), (258, 3, 8 << 16), (259, 3, 1 << 16), (262, 3, 1 << 16), (322, 4, 16), (323, 4, 16),
        (324, 4, 520), (325, 4, 528),
    )  # fmt: skip
    entries = b"".join(struct.pack(">HHII", tag, kind, 2 if tag > 323 else 1, value) for tag, kind, value in tags)
    places = struct.pack(">IIII", 8, 264, 256, 256)
    start = 8 + len(tiles) + len(places)
    return b"MM\0*" + struct.pack(">I", start) + tiles + places + struct.pack(">H", len(tags)) + entries + bytes(4)


JPEGS = {
    "baseline": saved("JPEG", quality=92),
    "progressive": saved("JPEG", progressive=True),
    "restarts": encoded(PIXELS, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "thumbnail": with_exif(saved("JPEG"), orientation=1, thumbnail=saved("JPEG", quality=20)),
    "gray": saved("JPEG", "L"),
    "CMYK": saved("JPEG", "CMYK"),
    "comment": saved("JPEG", comment=b"\xff\xd9\xff\xda\xff\xd8" * 9),
}
PNGS = {"PNG": saved("PNG"), "palette": saved("PNG", "P"), "APNG": animated("PNG")}
OTHERS = {
    "BMP": saved("BMP"),
    "BMP palette": saved("BMP", "P"),
    "GIF": saved("GIF"),
    "GIF animated": animated("GIF"),
    "WebP": saved("WEBP"),
    "WebP lossless": saved("WEBP", lossless=True),
    "TIFF": saved("TIFF"),
    "TIFF LZW": saved("TIFF", compression="tiff_lzw"),
    "TIFF strips": encoded(PIXELS, ".tiff"),
    "BigTIFF": saved("TIFF", big_tiff=True),
    "PPM": saved("PPM"),
    "PGM": saved("PPM", "L"),
    "PBM": saved("PPM", "1"),
    "JPEG 2000": saved("JPEG2000"),
    "AVIF": saved("AVIF") if "AVIF" in PIL.Image.SAVE else b"",
}
WHOLE = {**JPEGS, **PNGS, **OTHERS}


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("notes.txt", "hidden")
    return content.getvalue()


noise = np.random.default_rng(1).integers(0, 256, 200_000, np.uint8).tobytes()
TRAILERS = {
    "zeros": bytes(5000),
    "line end": b"\n",
    "FF": b"\xff" * 5000,
    "text": b"<!-- served by a forum -->\r\n" * 9,
    "a beginning": JPEGS["baseline"][:-2],
    "markers": b"\xff\xd8\xff\xda\0\x02" * 9,
    "a JPEG": JPEGS["progressive"],
    "a PNG": PNGS["PNG"],
    "a zip": zipped(),
    "a video": b"\0\0\0\x18ftypmp42" + bytes(12) + noise,
}


def pixels_of(content: bytes) -> np.ndarray | None:
    try:
        return decode_image(content, name="a")
    except InputError:
        return None


@pytest.fixture
def readable(request):
    content = WHOLE[request.param]
    if request.param in ("AVIF", "GIF", "GIF animated") and pixels_of(content) is None:
        pytest.skip("this OpenCV does not read it")
    return content


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("readable", WHOLE, indirect=True)
def test_what_follows_a_whole_picture_is_not_part_of_it(readable, trailer):
    np.testing.assert_array_equal(decode_image(readable + TRAILERS[trailer], name="a"), pixels_of(readable))


@pytest.mark.parametrize("kind", {**JPEGS, **PNGS})
def test_cut_at_any_place_a_picture_is_refused_as_truncated(kind):
    content = WHOLE[kind]
    for length in range(8, len(content)):
        with pytest.raises(InputError, match="a: the image file is truncated: copy or download it again"):
            decode_image(content[:length], name="a")


@pytest.mark.parametrize("kind", [*JPEGS, "PNG", "palette"])  # at such an APNG OpenCV 4.11 ends the process
def test_cut_and_filled_up_with_zeros_it_is_refused_or_nothing_was_lost(kind, capfd):
    content = WHOLE[kind]
    whole = pixels_of(content)
    for length in range(2, len(content), 3):
        read = pixels_of(content[:length] + bytes(len(content) - length))
        assert read is None or np.array_equal(read, whole)
    capfd.readouterr()  # what the decoder says of it


@pytest.mark.parametrize("kind", JPEGS)
def test_cut_within_its_pixels_and_followed_by_another_it_is_refused(kind):
    content = WHOLE[kind]
    start = content.rindex(b"\xff\xda") + 20
    for length in range(start, len(content) - 1):
        assert lacks_its_end(content[:length] + JPEGS["baseline"])


@pytest.mark.parametrize("readable", OTHERS, indirect=True)
def test_other_pictures_that_were_cut_are_refused(readable, capfd):
    said = []
    for length in range(1, len(readable)):
        with pytest.raises(InputError, match=r"truncated|not an image") as caught:
            decode_image(readable[:length], name="a")
        said.append("truncated" in str(caught.value))
    assert all(said[12:])
    assert not announces_more(readable)
    capfd.readouterr()


def test_odd_parts_between_segments_are_left_to_the_decoder():
    content = JPEGS["baseline"]
    second = 2 + 2 + int.from_bytes(content[4:6], "big")
    for odd in (b"\xff\xff\xff", b"garbage", b"\xff\0\xff\0", b"\xff\xfe\0\0", b"\xff\xd0"):
        assert not lacks_its_end(content[:second] + odd + content[second:])
    for start in (b"\xff\xd8\xff\xd8", b"\xff\xd8\xff\x02", b"\xff\xd8\xff\xd9"):
        assert not lacks_its_end(start + content)
        assert pixels_of(start + content) is None  # as the decoder says


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8" + b"\xff" * 5_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 1_250_000,
        b"\xff\xd8\xff\xda\0\2" + b"\xff\0" * 2_500_000,
        b"\xff\xd8\xff\xda\0\2" + b"\xff\xd0" * 2_500_000,
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0teXt\0\0\0\0" * 400_000,
        b"GIF89a" + bytes(7) + b"\x21\xf9\1\0\0" * 1_000_000,
        b"\0\0\0\x0cjP  " + b"\0\0\0\x08free" * 600_000,
        b"II*\0\x08\0\0\0\xff\xff" + b"\x11\1\4\0\1\0\0\0\0\0\0\0" * 65_535,
        b"P6\n" + b"#\n" * 2_500_000,
    ],
)
def test_hostile_bytes_are_walked_once(content):
    """A walk that came back to what it has seen would take hours here."""
    assert isinstance(lacks_its_end(content), bool)
    assert isinstance(announces_more(content), bool)


def test_a_tiled_tiff_is_whole_where_its_tiles_are():
    content = tiled_tiff()
    assert not announces_more(content)
    assert all(announces_more(content[:length]) for length in range(8, len(content) - 4))  # the rest links to no other
    assert announces_more(content.replace(struct.pack(">II", 8, 264), struct.pack(">II", 8, 9000)))


def test_headers_of_other_pictures_never_raise():
    draw = np.random.default_rng(2)
    for content in OTHERS.values():
        for _ in range(300):
            damaged = bytearray(content)
            for place in draw.integers(0, min(len(content), 120), 4) if content else ():
                damaged[place] = draw.choice([0, 1, 127, 255])
            assert announces_more(bytes(damaged)) in (True, False)


def test_real_photos_as_phones_write_them(data_root, tmp_path):
    """With a video behind (motion photos), with another picture behind (portraits), and cut."""
    paths = sorted((data_root / "photos").glob("*.jpg"))[:6]
    assert paths
    for number, path in enumerate(paths):
        content, pixels = path.read_bytes(), read_image(path)
        draw = np.random.default_rng(number)
        video = b"\0\0\0\x18ftypmp42" + bytes(12) + draw.integers(0, 256, 2_000_000, np.uint8).tobytes()
        for trailer in (video, content, paths[0].read_bytes()[:5000]):
            (tmp_path / "PXL.MP.jpg").write_bytes(content + trailer)
            np.testing.assert_array_equal(read_image(tmp_path / "PXL.MP.jpg"), pixels)
        for length in draw.integers(100, len(content), 40):
            (tmp_path / "cut.jpg").write_bytes(content[:length])
            with pytest.raises(InputError, match=re.escape("cut.jpg: the image file is truncated")):
                read_image(tmp_path / "cut.jpg")
