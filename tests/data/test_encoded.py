"""Images stored as JPEG: they are decoded one at a time and resized to any size."""

import cv2
import numpy as np
import pytest

from wing_jax.data.encoded import JpegImages, encode_jpeg
from wing_jax.data.face_crops import resize_images


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([cv2.GaussianBlur(random.integers(0, 256, (96, 96, 3), np.uint8), (0, 0), 4) for _ in range(3)])


@pytest.fixture(scope="module")
def jpegs(images) -> JpegImages:
    return JpegImages([encode_jpeg(image) for image in images], 96, 96)


def test_decoded_images_match_the_originals(images, jpegs):
    assert jpegs.shape == images.shape
    assert len(jpegs) == 3
    for index, image in enumerate(images):
        assert jpegs[index].dtype == np.uint8
        assert np.abs(jpegs[index].astype(int) - image).mean() < 1.5  # and red is still red
    assert sum(map(len, jpegs.records)) < images.nbytes / 8


@pytest.mark.parametrize("size", [64, 48, 40, 24, 17])
def test_resizing_matches_area_averaging(images, jpegs, size):
    smaller = resize_images(jpegs, size)
    assert smaller.shape == (3, size, size, 3)
    for actual, expected in zip((smaller[i] for i in range(3)), resize_images(images, size), strict=True):
        assert actual.shape == (size, size, 3)
        assert np.abs(actual.astype(int) - expected).mean() < 2
