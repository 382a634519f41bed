"""Images held as JPEG: the same images, decoded one at a time and brought to any size."""

import cv2
import numpy as np
import pytest

from wing_jax.data.encoded import JpegImages, encoded
from wing_jax.data.face_crops import resize_images


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([cv2.GaussianBlur(random.integers(0, 256, (96, 96, 3), np.uint8), (0, 0), 4) for _ in range(3)])


@pytest.fixture(scope="module")
def held(images) -> JpegImages:
    return JpegImages([encoded(image) for image in images], 96, 96)


def test_they_look_as_before(images, held):
    assert held.shape == images.shape
    assert len(held) == 3
    for index, image in enumerate(images):
        assert held[index].dtype == np.uint8
        assert np.abs(held[index].astype(int) - image).mean() < 1.5  # and red is still red
    assert sum(map(len, held.records)) < images.nbytes / 8


@pytest.mark.parametrize("size", [64, 48, 40, 24, 17])
def test_at_another_size_they_are_what_area_averaging_makes(images, held, size):
    smaller = resize_images(held, size)
    assert smaller.shape == (3, size, size, 3)
    for mine, theirs in zip((smaller[i] for i in range(3)), resize_images(images, size), strict=True):
        assert mine.shape == (size, size, 3)
        assert np.abs(mine.astype(int) - theirs).mean() < 2
