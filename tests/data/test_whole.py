"""Complete pictures are read, with any bytes after their end; pictures truncated at any byte are rejected."""

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
from wing_jax.data.whole import declares_more_bytes, is_truncated
from wing_jax.errors import InputError

PIXELS = np.clip(gradient(24, 40) + np.random.default_rng(0).integers(0, 25, (24, 40, 3)), 0, 255).astype(np.uint8)


def save(kind: str, mode: str = "RGB", **options) -> bytes:
    content = io.BytesIO()
    PIL.Image.fromarray(PIXELS).convert(mode).save(content, kind, **options)
    return content.getvalue()


def save_animation(kind: str) -> bytes:
    frames = [PIL.Image.fromarray(PIXELS[::-1].copy()) for _ in range(2)]
    return save(kind, save_all=True, append_images=frames, duration=40)


def tiled_tiff() -> bytes:
    """Return a gray TIFF of two tiles, in the byte order that Pillow does not write."""
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
    "baseline": save("JPEG", quality=92),
    "progressive": save("JPEG", progressive=True),
    "restarts": encoded(PIXELS, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "thumbnail": with_exif(save("JPEG"), orientation=1, thumbnail=save("JPEG", quality=20)),
    "gray": save("JPEG", "L"),
    "CMYK": save("JPEG", "CMYK"),
    "comment": save("JPEG", comment=b"\xff\xd9\xff\xda\xff\xd8" * 9),
}
PNGS = {"PNG": save("PNG"), "palette": save("PNG", "P"), "APNG": save_animation("PNG")}
OTHERS = {
    "BMP": save("BMP"),
    "BMP palette": save("BMP", "P"),
    "GIF": save("GIF"),
    "GIF animated": save_animation("GIF"),
    "WebP": save("WEBP"),
    "WebP lossless": save("WEBP", lossless=True),
    "TIFF": save("TIFF"),
    "TIFF LZW": save("TIFF", compression="tiff_lzw"),
    "TIFF strips": encoded(PIXELS, ".tiff"),
    "BigTIFF": save("TIFF", big_tiff=True),
    "PPM": save("PPM"),
    "PGM": save("PPM", "L"),
    "PBM": save("PPM", "1"),
    "JPEG 2000": save("JPEG2000"),
    "AVIF": save("AVIF") if "AVIF" in PIL.Image.SAVE else b"",
}
PICTURES = {**JPEGS, **PNGS, **OTHERS}


def zip_file() -> bytes:
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
    "a zip": zip_file(),
    "a video": b"\0\0\0\x18ftypmp42" + bytes(12) + noise,
}


def pixels_of(content: bytes) -> np.ndarray | None:
    try:
        return decode_image(content, name="a")
    except InputError:
        return None


@pytest.fixture
def readable(request):
    content = PICTURES[request.param]
    if request.param in ("AVIF", "GIF", "GIF animated") and pixels_of(content) is None:
        pytest.skip("this OpenCV does not read it")
    return content


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("readable", PICTURES, indirect=True)
def test_bytes_after_the_end_of_a_picture_are_ignored(readable, trailer):
    np.testing.assert_array_equal(decode_image(readable + TRAILERS[trailer], name="a"), pixels_of(readable))


@pytest.mark.parametrize("kind", {**JPEGS, **PNGS})
def test_a_picture_truncated_at_any_byte_is_rejected(kind):
    content = PICTURES[kind]
    for length in range(8, len(content)):
        with pytest.raises(InputError, match="a: the image file is truncated: copy or download it again"):
            decode_image(content[:length], name="a")


@pytest.mark.parametrize("kind", [*JPEGS, "PNG", "palette"])  # such an APNG crashes OpenCV 4.11
def test_a_picture_with_zeros_at_its_end_is_rejected_or_unchanged(kind, capfd):
    content = PICTURES[kind]
    expected = pixels_of(content)
    for length in range(2, len(content), 3):
        pixels = pixels_of(content[:length] + bytes(len(content) - length))
        assert pixels is None or np.array_equal(pixels, expected)
    capfd.readouterr()  # warnings of the decoder


@pytest.mark.parametrize("kind", JPEGS)
def test_a_truncated_jpeg_followed_by_another_is_rejected(kind):
    content = PICTURES[kind]
    start = content.rindex(b"\xff\xda") + 20
    for length in range(start, len(content) - 1):
        assert is_truncated(content[:length] + JPEGS["baseline"])


@pytest.mark.slow
@pytest.mark.parametrize("readable", OTHERS, indirect=True)
def test_other_truncated_pictures_are_rejected(readable, capfd):
    reports = []
    for length in range(1, len(readable)):
        with pytest.raises(InputError, match=r"truncated|not an image") as caught:
            decode_image(readable[:length], name="a")
        reports.append("truncated" in str(caught.value))
    assert all(reports[12:])
    assert not declares_more_bytes(readable)
    capfd.readouterr()


def test_odd_parts_between_segments_are_left_to_the_decoder():
    content = JPEGS["baseline"]
    second = 2 + 2 + int.from_bytes(content[4:6], "big")
    for odd in (b"\xff\xff\xff", b"garbage", b"\xff\0\xff\0", b"\xff\xfe\0\0", b"\xff\xd0"):
        assert not is_truncated(content[:second] + odd + content[second:])
    for start in (b"\xff\xd8\xff\xd8", b"\xff\xd8\xff\x02", b"\xff\xd8\xff\xd9"):
        assert not is_truncated(start + content)
        assert pixels_of(start + content) is None  # the decoder rejects it


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
def test_malicious_bytes_are_walked_once(content):
    """A walk that returned to earlier bytes would take hours here."""
    assert isinstance(is_truncated(content), bool)
    assert isinstance(declares_more_bytes(content), bool)


def test_a_tiled_tiff_is_complete_if_its_tiles_are():
    content = tiled_tiff()
    assert not declares_more_bytes(content)
    assert all(declares_more_bytes(content[:length]) for length in range(8, len(content) - 4))
    assert declares_more_bytes(content.replace(struct.pack(">II", 8, 264), struct.pack(">II", 8, 9000)))


def test_headers_of_other_pictures_never_raise():
    draw = np.random.default_rng(2)
    for content in OTHERS.values():
        for _ in range(300):
            damaged = bytearray(content)
            for place in draw.integers(0, min(len(content), 120), 4) if content else ():
                damaged[place] = draw.choice([0, 1, 127, 255])
            assert declares_more_bytes(bytes(damaged)) in (True, False)


def test_real_photos_as_phones_write_them(data_root, tmp_path):
    """Photos followed by a video (motion photos) or by another picture (portraits), and truncated ones."""
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
