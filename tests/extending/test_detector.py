"""A detector of an external package, used with a trained model from Python and from the command line."""

import csv

import numpy as np
import pytest

import wing_jax as wj
from wing_jax.data.images import write_image
from wing_jax.errors import InputError
from wing_jax.inference.detectors import detect_faces, get_detector

PACKAGE = """
    import numpy as np
    from wing_jax.data.boxes import ShapeInBox
    from wing_jax.inference.detectors import Detector, register_detector

    @register_detector(name="middle_boxes")
    def make():
        def find(image):
            height, width = image.shape[:2]
            return np.array([[0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height]]), np.array([0.9])

        box = ShapeInBox(center=(0.0, 0.08), side=0.5)
        return Detector(name="middle_boxes", find=find, five_point_box=box, score_threshold=0.5)

    def missing():
        from wing_jax.errors import InputError

        raise InputError("the detector 'missing' needs a package that is not installed")
"""


@pytest.fixture
def package(install):
    entries = {"middle_boxes": "make", "missing": "missing"}
    return install(PACKAGE, name="other_detectors", entry_points={"wing_jax.detectors": entries})


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_it_works_with_a_trained_model(train_small, tmp_path):
    result, _ = train_small()
    faces = wj.load_faces("synthetic", "test", count=2)
    detections = wj.FaceLandmarker.load(result.localizer, detector="middle_boxes")(faces.picture(0))
    assert (detections.points.shape, detections.boxes.shape) == ((1, 68, 2), (1, 4))
    np.testing.assert_array_equal(detections.scores, np.float32([0.9]))
    np.testing.assert_array_equal(detections.points, result.localizer.predict(faces.picture(0), detections.boxes))
    loaded = wj.FaceLandmarker.load(tmp_path / "saved", detector="middle_boxes")(faces.picture(0))
    np.testing.assert_array_equal(loaded.points, detections.points)


@pytest.mark.usefixtures("package")
def test_its_recall_is_measured():
    faces = wj.load_faces("synthetic", "test", count=4)
    recall = detect_faces(get_detector("middle_boxes"), faces)
    assert recall.detected.shape == (4,)


@pytest.mark.usefixtures("package")
def test_a_detector_that_cannot_be_used_reports_the_reason():
    with pytest.raises(InputError, match="'missing' needs a package that is not installed"):
        get_detector("missing")
    with pytest.raises(InputError, match=r"use auto or one of .*middle_boxes"):
        get_detector("middle")


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_the_command_line_predicts_with_it(run_command, tmp_path):
    write_image(tmp_path / "face.png", wj.load_faces("synthetic", "test", count=1).picture(0))
    result = run_command("predict", "mtfl", "face.png", "--detector", "middle_boxes", "--output", "out")
    assert result.returncode == 0, result.stderr
    (table,) = (tmp_path / "out").glob("*.csv")
    with table.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    rejected = run_command("predict", "mtfl", "face.png", "--detector", "middle_box", "--output", "out2")
    assert rejected.returncode == 2
    assert "middle_boxes" in rejected.stderr.splitlines()[-1]
