"""Images and boxes that Python users pass: accepted if the meaning is clear, otherwise rejected in one line that names
what was passed and what is expected."""

import pathlib
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from wing_jax import FaceLandmarker
from wing_jax.data.arguments import as_boxes, as_image, as_images
from wing_jax.data.images import Embedded, read_image, write_image
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.inference.detectors import get_detector
from wing_jax.inference.tracking import Tracker, Tracks

PIXELS = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
BOXES = [[10, 10, 50, 50]]


class Tensor:
    """An array of another library, in host memory or (content None) on a GPU."""

    def __init__(self, content):
        self.content = content

    def __array__(self, dtype=None, copy=None):
        if self.content is None:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.content


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker.load("mtfl", detector="libfacedetection")


@pytest.mark.parametrize(
    "image",
    [PIXELS, jnp.asarray(PIXELS), Tensor(PIXELS), PIL.Image.fromarray(PIXELS), Embedded("cell 1", lambda: PIXELS)],
    ids=["numpy", "jax", "__array__", "pil", "embedded"],
)
def test_images_with_a_clear_meaning_are_accepted(image):
    np.testing.assert_array_equal(as_image(image), PIXELS)


def test_an_rgb_array_is_not_copied():
    for view in (PIXELS, PIXELS[:, :, ::-1], PIXELS[:, ::-1], np.broadcast_to(PIXELS[:1], PIXELS.shape)):
        assert as_image(view) is view


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_paths_are_read(tmp_path, kind):
    write_image(tmp_path / "x.png", PIXELS)
    np.testing.assert_array_equal(as_image(kind(tmp_path / "x.png")), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16"])
def test_pil_images_of_any_mode_are_converted_to_rgb(mode):
    image = as_image(PIL.Image.new(mode, (8, 6)))
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16"])
def test_a_pil_image_has_the_same_pixels_as_its_file(tmp_path, mode):
    path = tmp_path / "x.png"
    if mode == "I;16":
        cv2.imwrite(str(path), np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300)
    else:
        PIL.Image.fromarray(PIXELS).convert(mode).save(path)
    with PIL.Image.open(path) as picture:
        np.testing.assert_array_equal(as_image(picture), read_image(path))


def test_a_pil_image_is_rotated_by_its_exif_orientation(tmp_path):
    picture, exif = PIL.Image.fromarray(PIXELS), PIL.Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "x.jpg", exif=exif, quality=95)
    expected = read_image(tmp_path / "x.jpg")
    assert expected.shape == (80, 60, 3)
    with PIL.Image.open(tmp_path / "x.jpg") as picture:
        assert np.abs(as_image(picture).astype(int) - expected).mean() < 2  # the JPEG decoders differ


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "the image is None, .* cv2.imread returns None"),
        (PIXELS.tolist(), r"not a list of 60 entries: pass np.asarray\(image, np.uint8\)"),
        (PIXELS / 255, r"not float64 \[60, 80, 3\]: convert it: \(255 \* image\)"),
        (PIXELS.astype(np.float32), r"convert it: image.round\(\)"),
        (PIXELS[..., 0], r"not uint8 \[60, 80\]: repeat its single channel"),
        (PIXELS[..., :1], "repeat its single channel"),
        (np.zeros((60, 80, 4), np.uint8), r"image\[..., :3\]"),
        (PIXELS.transpose(2, 0, 1), r"image.transpose\(1, 2, 0\)"),
        (PIXELS[None], "one image at a time"),
        (PIXELS[:0], "no pixels"),
        (PIXELS.astype(np.uint16), "image >> 8"),
        (PIXELS.astype(int), "clip"),
        (PIXELS > 9, "not bool"),
        (np.array([None]), "not object"),
        (np.ma.masked_array(PIXELS), "masked pixels"),
        (np.uint8(3), "must be RGB uint8"),
        (3, "not an int 3"),
        ({}, "not a dict"),
        (b"bytes", "not a bytes"),
        (Tensor(None), "cuda:0"),
        (PIL.Image.new("F", (8, 6)), "mode F"),
        (PIL.Image.new("RGB", (0, 6)), "PIL image"),
        ("", "empty path"),
        ("no\0file", "check the path"),
        ("nowhere.jpg", "nowhere.jpg: cannot read"),
    ],
)
def test_an_invalid_image_is_refused_in_one_line(image, message):
    with pytest.raises(InputError, match=message) as error:
        as_image(image)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [None, PIXELS / 255, "nowhere.jpg"], ids=["none", "floats", "path"])
def test_every_function_refuses_an_invalid_image(landmarker, bad):
    for call in (
        lambda: landmarker.localizer.predict(bad, BOXES),
        lambda: landmarker(bad),
        lambda: landmarker.boxes(bad),
        lambda: landmarker.detector(bad),
        lambda: Tracker(landmarker=landmarker)(Tracks(), bad, seconds=0.0),
    ):
        with pytest.raises(InputError):
            call()


def test_an_invalid_image_or_box_among_several_is_named(landmarker):
    localizer = landmarker.localizer
    with pytest.raises(InputError, match="image 2 of 3 is None"):
        localizer.predict_batch([PIXELS, None, PIXELS], [BOXES] * 3)
    with pytest.raises(InputError, match="image 2 of 2 must be RGB uint8"):
        landmarker.batch([PIXELS, PIXELS[..., 0]])
    with pytest.raises(InputError, match="the boxes of image 2 of 2 are None"):
        localizer.predict_batch([PIXELS, PIXELS], [BOXES, None])
    with pytest.raises(InputError, match="the box 9 9 5 20 of image 2 of 2 is empty"):
        localizer.predict_batch([PIXELS, PIXELS], [BOXES, [[9, 9, 5, 20]]])


@pytest.mark.slow
def test_predict_returns_the_same_for_every_type_of_input(landmarker, tmp_path):
    localizer = landmarker.localizer
    write_image(tmp_path / "x.png", PIXELS)
    points = localizer.predict(PIXELS, BOXES)
    for image in (jnp.asarray(PIXELS), PIL.Image.fromarray(PIXELS), tmp_path / "x.png"):
        np.testing.assert_array_equal(localizer.predict(image, jnp.asarray(BOXES)), points)
    for images in (np.stack([PIXELS] * 2), jnp.stack([PIXELS] * 2), iter([PIXELS] * 2), (PIXELS, PIXELS)):
        batch_points = localizer.predict_batch(images, (boxes for boxes in (BOXES, BOXES)))
        np.testing.assert_allclose(batch_points, [points] * 2, atol=0.02)


@pytest.mark.parametrize("images", [None, PIXELS, "x.jpg", pathlib.Path("x.jpg"), 3, {1: PIXELS}, {1, 2}, b"x"])
def test_an_invalid_list_of_images_is_refused(images):
    with pytest.raises(InputError, match="list"):
        as_images(images)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([[1, 2, 3, 4]], [[1, 2, 3, 4]]),
        (((1, 2, 3.5, 4),), [[1, 2, 3.5, 4]]),
        ([1, 2, 3, 4], [[1, 2, 3, 4]]),
        ([np.array([1, 2, 3, 4])], [[1, 2, 3, 4]]),
        (np.array([[1, 2, 3, 4]], np.uint8), [[1, 2, 3, 4]]),
        (jnp.array([[1, 2, 3, 4]], jnp.bfloat16), [[1, 2, 3, 4]]),
        ([[jnp.int32(1), 2, jnp.float32(3), np.int64(4)]], [[1, 2, 3, 4]]),
        (iter([iter([1, 2, 3, 4])]), [[1, 2, 3, 4]]),
        ([], np.zeros((0, 4))),
        (np.zeros((0, 4)), np.zeros((0, 4))),
    ],
)
def test_boxes_with_a_clear_meaning_are_accepted(boxes, expected):
    array = as_boxes(boxes)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.asarray(expected, np.float32))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (None, "are None: .* wing_jax.FaceLandmarker"),
        ([[1, 2, 3, 4], [1, 2, 3]], "have 3 and 4 numbers"),
        ([1, [2, 3], 4, 5], "must be"),
        ([[1, 2, 3, 4, 5]], r"not \[1, 5\]"),
        ([1, 2, 3], r"not \[1, 3\]"),
        ([[[1, 2, 3, 4]]], r"not \[1, 1, 4\]"),
        ([[]], "must be"),
        ("abcd", "a str 'abcd'"),
        (["a", "b"], "not numbers"),
        ({"x0": 1}, "a dict"),
        ([{"x0": 1}], "not numbers"),
        ({1, 2, 3, 4}, "a set"),
        ([[True] * 4], "bool"),
        ([[1j, 2, 3, 4]], "complex"),
        ([[None, 1, 2, 3]], "not numbers"),
        ([[10**400, 1, 2, 3]], "not numbers"),
        (np.ma.masked_array([[1, 2, 3, 4]]), "masked"),
        (3, "an int 3"),
        (np.float32(3), "must be"),
        (Tensor(None), "cuda:0"),
    ],
)
def test_invalid_boxes_are_refused_in_one_line(boxes, message):
    with pytest.raises(InputError, match=message) as error:
        as_boxes(boxes)
    assert len(str(error.value)) < 400


def test_a_traced_image_is_refused(landmarker):
    with pytest.raises(InputError, match=r"call this outside jax\.jit"):
        jax.jit(lambda image: landmarker.localizer.predict(image, BOXES))(PIXELS)


def test_invalid_detector_names_are_refused(landmarker):
    for name in (None, 3, [], "yunet"):
        with pytest.raises(InputError, match="detector="):
            get_detector(name)
    assert FaceLandmarker.load("mtfl", detector=landmarker.detector) == landmarker


def test_faces_are_selected_by_indices_or_by_a_mask():
    faces = load_faces("synthetic", "test", count=3)
    assert faces.take([2, 0]).photos == (faces.photos[2], faces.photos[0])
    assert faces.take(np.array([False, True, True])).photos == faces.photos[1:]
    assert len(faces.take([])) == 0
    for bad in (None, 1, "a", [0.5], [3], [-4], [True, False], [[0]], {0}):
        with pytest.raises(InputError):
            faces.take(bad)


INVALID_ARGUMENTS = """
import warnings
import numpy as np
from wing_jax import FaceLandmarker, Localizer, losses
from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
localizer, faces = Localizer.load("mtfl"), load_faces("synthetic", "test", count=3)
points = np.zeros((1, 5, 2), np.float32)
calls = {
    "load": [Localizer.load, [None, 3, "", [1], b"x"]],
    "FaceLandmarker.load": [FaceLandmarker.load, [None, 3, "", [1], b"x"]],
    "warm_up": [lambda bad: localizer.warm_up(sizes=bad), [0, None, (0,), ("a",), (1.5,)]],
    "face_side": [lambda bad: localizer.warm_up(face_side=bad), [0, None, "a"]],
    "save": [localizer.save, [None, 3]],
    "FaceLandmarker": [lambda bad: FaceLandmarker(localizer=bad, detector=bad), [None, 3]],
    "split": [faces.split, [None, "0.1", -1, 2, float("nan")]],
    "without": [faces.without, [None, faces.photos[0], 3]],
    "write_image": [lambda bad: write_image("x.png", bad), [None, [1], points]],
    "predicted": [lambda bad: losses.wing_loss(bad, points), [None, "a", [[1], [1, 2]], {}, 3]],
    "target": [lambda bad: losses.wing_loss(points, bad), [None, "a", 3, [1.0]]],
    "width": [lambda bad: losses.wing_loss(points, points, width=bad), [None, "a", -1, [1], True]],
    "visible": [lambda bad: losses.sum_over_points_mean_over_batch(points, bad), [3, [1.0], "a", [[1, 0, 1, 1, 1]]]],
    "loss": [lambda bad: losses.masked_mean(bad), [None, "a", [1, 2]]],
    "maps": [losses.adaptive_wing_weights, [None, 3, [1.0]]],
    "name": [losses.make_loss, [None, [], "wign", 3]],
    "size": [lambda bad: losses.make_loss("wing", reference_size=bad), ["a", 0, float("nan")]],
    "units": [lambda bad: losses.check_units(bad, working_extent=1.0), [None, "a", [["b"]]]],
}
for name, (call, values) in calls.items():
    for value in values:
        try:
            call(value)
        except ValueError as error:  # includes InputError
            if "\\n" in str(error) or len(str(error)) > 400:
                print(name, repr(value), "is long:", error)
        except BaseException as error:
            print(name, repr(value), type(error).__name__, error)
        else:
            print(name, repr(value), "passes")
visible = [[True, True, False, True, True]]
assert losses.sum_over_points_mean_over_batch(np.ones((1, 5, 2), np.float32), visible) == 8
print("done")
"""


@pytest.mark.slow
def test_invalid_arguments_are_refused_with_their_name(tmp_path):
    """In a new process, because here the type checks would refuse them first."""
    run = subprocess.run([sys.executable, "-c", INVALID_ARGUMENTS], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout == "done\n", run.stdout + run.stderr[-2000:]


def test_a_memoryview_is_accepted_as_an_array():
    boxes = np.array(BOXES, np.float32)
    np.testing.assert_array_equal(as_boxes(memoryview(boxes)), boxes)
    np.testing.assert_array_equal(as_image(memoryview(PIXELS)), PIXELS)
    with pytest.raises(InputError, match=r"must be \[faces, 4\]"):
        as_boxes(memoryview(np.zeros((2, 3, 4))))
