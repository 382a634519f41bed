"""Face crops: a dot at a known position of the picture is found where the transform says it is."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.dots import center_of_dot, picture_of_dots
from wing_jax.data.face_crops import MARGIN, crop_face, crop_faces, resize_face_crops, resize_images, to_face_crop
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5


def crop_position(transform: np.ndarray, place) -> np.ndarray:
    inverse = np.linalg.inv(np.vstack([transform.astype(np.float64), [0, 0, 1]]))
    return (inverse @ (*place, 1))[:2]


@pytest.mark.parametrize(
    ("box", "place", "size"),
    [
        ((100, 80, 220, 190), (141.3, 120.7), 96),  # shrinks by 2.5
        ((100.4, 80.9, 200.3, 190.2), (180.0, 160.0), 64),  # a fractional box, an odd side
        ((150, 120, 180, 151), (160.6, 140.2), 124),  # enlarges by 2
        ((150, 120, 171, 140), (165.2, 131.9), 60),
        ((100, 100, 132, 132), (110.4, 117.8), 64),  # neither
        ((0, 0, 100, 100), (40.2, 30.1), 80),  # over the corner
        ((290, 230, 390, 330), (330.3, 260.8), 80),  # over the other corner
    ],
)
def test_a_dot_is_found_where_the_transform_says(box, place, size):
    side = round(MARGIN * max(box[2] - box[0], box[3] - box[1]))
    sigma = 3 * max(1, side / size)
    face_crop, transform = crop_face(picture_of_dots(300, 360, place, sigma=sigma), np.float32(box), size=size)
    assert face_crop.shape == (size, size, 3)
    assert transform.dtype == np.float32
    expected = crop_position(transform, place)
    actual = center_of_dot(face_crop, expected, reach=4 * sigma * size / side)
    np.testing.assert_allclose(actual, expected, atol=0.1)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.floats(-200, 400),
    st.floats(-200, 400),
    st.floats(0, 300),
    st.floats(0, 300),
    st.integers(8, 90),
)
def test_the_face_crop_of_any_box_is_centered_on_it(left, top, width, height, size):
    box = np.float32([left, top, left + width, top + height])
    face_crop, transform = crop_face(np.zeros((40, 50, 3), np.uint8), box, size=size)
    assert face_crop.shape == (size, size, 3)
    side = max(2, MARGIN * max(width, height))
    assert transform[0, 0] == transform[1, 1]
    assert abs(transform[0, 0] * size - side) <= 0.51
    middle = transform[:, :2] @ np.full(2, (size - 1) / 2) + transform[:, 2]
    np.testing.assert_allclose(middle, (box[:2] + box[2:]) / 2, atol=0.51)


def test_the_edge_of_the_picture_is_repeated():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 0], image[:, -1] = (10, 20, 30), (200, 100, 50)
    face_crop, _ = crop_face(image, np.float32([0, 0, 19, 19]), size=38)
    np.testing.assert_array_equal(face_crop[:, 0], np.broadcast_to([10, 20, 30], (38, 3)))
    np.testing.assert_array_equal(face_crop[:, -1], np.broadcast_to([200, 100, 50], (38, 3)))


def test_shrinking_averages_the_area():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    face_crop, transform = crop_face(image, np.float32([15.5, 15.5, 47.5, 47.5]), size=16)
    blocks = image.reshape(16, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(face_crop, blocks, atol=1.01)  # two halvings, each rounded
    np.testing.assert_array_equal(transform, [[4, 0, 1.5], [0, 4, 1.5]])


PLACES = np.float32([[60.3, 50.2], [120.7, 52.1], [90.2, 90.4], [66.6, 121.9], [118.1, 120.3]])


@pytest.fixture
def faces():
    pictures = np.stack([picture_of_dots(180, 180, *(PLACES + shift), sigma=4) for shift in (0, 7.4, -11.3)])
    points = np.stack([PLACES + np.float32(shift) for shift in (0, 7.4, -11.3)])
    return FaceSet(
        name="dots",
        scheme=MTFL_5,
        pictures=pictures,
        points=points,
        visible=np.ones((3, 5), bool),
        boxes=np.concatenate([points.min(1), points.max(1)], 1),
        box_convention="landmarks",
        photos=("a", "b", "c"),
        subsets=("",) * 3,
    )


@pytest.mark.parametrize("size", [70, 36, 143])
def test_points_of_face_crops_are_on_the_dots_also_after_shrinking(faces, size):
    face_crops = resize_face_crops(crop_faces(faces, size=143), size=size)
    assert face_crops.size == size
    for face_crop, points in zip(face_crops.images, face_crops.points, strict=True):
        for place in points:
            np.testing.assert_allclose(center_of_dot(face_crop, place, reach=12 * size / 143), place, atol=0.12)


def test_shrunk_face_crops_keep_transforms_boxes_and_points_consistent(faces):
    large = crop_faces(faces, size=143)
    small = resize_face_crops(large, size=57)
    np.testing.assert_allclose(to_face_crop(small.crop_to_image, faces.points), small.points, atol=1e-3)
    np.testing.assert_allclose(
        to_face_crop(small.crop_to_image, faces.boxes.reshape(-1, 2, 2)).reshape(-1, 4), small.boxes, atol=1e-3
    )
    # The outer edges of a face crop are the same place of the picture at any size.
    for edge in (0.0, 1.0):
        places = [
            np.einsum("nij,j->ni", face_crops.crop_to_image[:, :, :2], [edge * face_crops.size - 0.5] * 2)
            + face_crops.crop_to_image[:, :, 2]
            for face_crops in (large, small)
        ]
        np.testing.assert_allclose(places[0], places[1], atol=1e-3)
    np.testing.assert_array_equal(resize_face_crops(large, size=143).images, large.images)


def test_the_number_of_threads_changes_nothing(faces):
    serial, parallel = (crop_faces(faces, size=40, workers=workers) for workers in (1, 3))
    np.testing.assert_array_equal(serial.images, parallel.images)
    np.testing.assert_array_equal(serial.crop_to_image, parallel.crop_to_image)


def test_hidden_points_may_be_anywhere(faces):
    faces.points[1, 4] = -1000
    with pytest.raises(InputError, match=r"^dots face 1: point 5 of its annotation is 1000 pixels outside"):
        crop_faces(faces, size=40)
    faces.visible[1, 4] = False
    assert len(crop_faces(faces, size=40).images) == 3


def resized_exactly(image, size):
    """Return the square resized bilinearly to `size` times a power of two, then by means, without rounding."""
    side, fine = len(image), size
    while 2 * fine <= side:
        fine *= 2
    position = np.clip((np.arange(fine) + 0.5) * side / fine - 0.5, 0, side - 1)
    weights = np.maximum(1 - np.abs(position[:, None] - np.arange(side)), 0)
    means = np.kron(np.eye(size), np.full((1, fine // size), size / fine)) @ weights
    return np.einsum("ai,bj,ijc->abc", means, means, image)


@pytest.mark.parametrize("size", [137, 90, 61, 60, 59, 45, 31, 30, 29, 20, 15, 7, 1])
def test_resizing_is_bilinear_then_by_means(size):
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    halvings = max(0, int(np.log2(60 / size)))
    result = resize_images(image[None], size)[0]
    np.testing.assert_allclose(result, resized_exactly(image, size), atol=1.02 + 0.5 * halvings)
    assert np.abs(result - resized_exactly(image, size)).mean() < 0.5 + 0.125 * halvings
    assert result.dtype == np.uint8


def test_resizing_to_the_same_size_returns_the_images():
    images = np.zeros((2, 40, 40, 3), np.uint8)
    assert resize_images(images, 40) is images


@pytest.mark.parametrize("size", [200, 150, 100, 70, 33])
def test_resized_photos_are_close_to_area_averages(size):
    photo = picture_of_dots(300, 300, *(np.random.default_rng(0).uniform(0, 300, (60, 2))), sigma=2)
    expected = cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA).astype(float)
    difference = resize_images(photo[None], size)[0] - expected
    assert np.sqrt(np.square(difference).mean()) < 0.05 * expected.std()
