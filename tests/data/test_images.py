"""Valid pictures are read as RGB uint8; corrupt ones are rejected in one line that names the file."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.support.pictures import encoded, gradient, with_exif
from wing_jax.data.arguments import as_image
from wing_jax.data.images import LARGEST_PICTURE, PICTURE_ENDINGS, is_picture, read_image, write_image
from wing_jax.errors import InputError


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff"])
def test_lossless_formats_keep_every_value_and_the_order_of_channels(tmp_path, ending):
    write_image(tmp_path / "new" / f"a{ending}", gradient())
    read = read_image(tmp_path / "new" / f"a{ending}")
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, gradient())


def test_jpeg_round_trip_is_close(tmp_path):
    write_image(tmp_path / "a.jpg", gradient())
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("share", [0.98, 0.7, 0.3])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_a_truncated_picture_is_rejected(tmp_path, ending, share):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    content = encoded(noise, ending)
    (tmp_path / "cut").write_bytes(content[: int(share * len(content))])
    assert "truncated" in refusal(tmp_path / "cut")


@pytest.mark.parametrize("length", [1, 2, 20, 100])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_the_first_bytes_of_a_picture_are_rejected(tmp_path, ending, length):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    (tmp_path / "start").write_bytes(encoded(noise, ending)[:length])
    refusal(tmp_path / "start")


def test_empty_text_missing_and_folder_are_rejected(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no picture\n" * 20)
    assert "not an image" in refusal(tmp_path / "empty.jpg")
    assert "not an image" in refusal(tmp_path / "text.jpg")
    assert "No such file or directory): check the path, or pass the images' folder" in refusal(tmp_path / "missing.jpg")
    assert "directory" in refusal(tmp_path)


def test_a_picture_with_an_enormous_size_is_rejected(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2_000_000, 2_000_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(png)
    refusal(tmp_path / "bomb.png")


def test_a_progressive_jpeg_is_read_and_rejected_when_cut(tmp_path):
    content = encoded(gradient(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert content.count(b"\xff\xda") > 1
    (tmp_path / "whole.jpg").write_bytes(content)
    (tmp_path / "cut.jpg").write_bytes(content[:-10])
    assert read_image(tmp_path / "whole.jpg").shape == (48, 64, 3)
    assert "truncated" in refusal(tmp_path / "cut.jpg")


def test_an_exif_thumbnail_does_not_affect_detecting_truncation(tmp_path):
    content = with_exif(encoded(gradient()), orientation=1, thumbnail=encoded(gradient(12, 16)))
    assert content.count(b"\xff\xd9") == 2
    (tmp_path / "whole.jpg").write_bytes(content)
    (tmp_path / "cut.jpg").write_bytes(content[:-40])
    assert read_image(tmp_path / "whole.jpg").shape == (48, 64, 3)
    assert "truncated" in refusal(tmp_path / "cut.jpg")


def test_bytes_after_the_end_of_a_jpeg_are_allowed(tmp_path):
    (tmp_path / "padded.jpg").write_bytes(encoded(gradient()) + b"\0" * 100)
    assert read_image(tmp_path / "padded.jpg").shape == (48, 64, 3)


def test_the_exif_rotation_is_applied(tmp_path):
    (tmp_path / "turned.jpg").write_bytes(with_exif(encoded(gradient()), orientation=6))
    turned = read_image(tmp_path / "turned.jpg")
    assert turned.shape == (64, 48, 3)
    assert np.abs(turned.astype(int) - np.rot90(gradient(), -1)).mean() < 4


def test_gray_alpha_and_16_bit_become_rgb_uint8(tmp_path):
    image = gradient()
    cv2.imwrite(str(tmp_path / "gray.png"), image[..., 0])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([image[..., ::-1], np.full((48, 64), 7, np.uint8)]))
    cv2.imwrite(str(tmp_path / "deep.png"), image[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(image[..., :1], 3, -1))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), image)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), image)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "a.unknown", tmp_path / "file" / "a.png"):
        with pytest.raises(InputError, match="cannot write this image") as caught:
            write_image(path, gradient())
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def blank_png(width: int, height: int) -> bytes:
    """Return a PNG of `width` x `height` black pixels, compressed row by row to use little memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_with_header(width: int, height: int) -> bytes:
    """Return a complete small PNG whose header declares another size."""
    content = blank_png(8, 8)
    body = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + body + struct.pack(">I", zlib.crc32(body)) + content[33:]


@pytest.mark.parametrize("side", [9_000, 10_000, 20_000, 60_000])
def test_a_huge_picture_is_rejected_by_its_header(tmp_path, side):
    assert side**2 > LARGEST_PICTURE
    (tmp_path / "a.png").write_bytes(png_with_header(side, side))
    assert f"more than {LARGEST_PICTURE:,} pixels: shrink" in refusal(tmp_path / "a.png")


@pytest.mark.slow
def test_a_picture_just_within_the_limit_is_read(tmp_path):
    height = LARGEST_PICTURE // 40_000
    (tmp_path / "a.png").write_bytes(blank_png(40_000, height))
    assert read_image(tmp_path / "a.png").shape == (height, 40_000, 3)


def test_a_palette_becomes_rgb(tmp_path):
    few = gradient() // 64 * 64
    PIL.Image.fromarray(few).quantize(64).save(tmp_path / "palette.png")
    assert np.abs(read_image(tmp_path / "palette.png").astype(int) - few).mean() < 8


def test_cmyk_becomes_rgb(tmp_path):
    image = gradient()
    PIL.Image.fromarray(image).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - image).mean() < 6


@pytest.mark.parametrize("ending", PICTURE_ENDINGS)
def test_every_ending_that_is_looked_for_is_decoded(ending, tmp_path):
    if ending == ".avif" and not cv2.haveImageWriter(ending):
        pytest.skip("this build of OpenCV has no AVIF")
    image = np.full((64, 80, 3), 90, np.uint8)
    path = tmp_path / f"picture{ending}"
    encoding = {".jfif": ".jpg", ".gif": ".png", ".pgm": ".pnm", ".pbm": ".pnm"}.get(ending, ending)
    path.write_bytes(cv2.imencode(encoding, image)[1].tobytes())
    if ending == ".gif":
        PIL.Image.fromarray(image).save(path)
    assert is_picture(path)
    assert is_picture(path.with_suffix(ending.upper()))
    assert np.abs(read_image(path).astype(int) - image).max() <= 3


def test_other_endings_are_not_pictures():
    assert not any(map(is_picture, map(Path, ("a.pts", "a", ".jpg", "a.mp4"))))


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "bool"])
def test_the_suggested_conversion_keeps_the_picture(dtype):
    expected = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    expected = 255 * (expected >> 7) if dtype == "bool" else expected
    image = (expected.astype(np.uint16) * 257).astype(dtype)
    with pytest.raises(InputError) as caught:
        as_image(image)
    advice = str(caught.value).rpartition("convert it: ")[2].removesuffix(" if it uses all 16 bits")
    np.testing.assert_array_equal(eval(advice, {"image": image, "np": np}), expected)
