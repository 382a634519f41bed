"""Stress tests: what each change does to the pixels, boxes and points, and the results of a localizer."""

import json

import cv2
import numpy as np
import pytest

from tests.support.tiny_model import save_random_model
from wing_jax.cli import main
from wing_jax.data.face_crops import FaceCrops, crop_faces
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.evaluation import evaluate, stress
from wing_jax.evaluation.stress import STRESSES, stress_points
from wing_jax.geometry import larger_side, tight_box
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import IBUG_68

SIZE, SIDE = 96, 48.0  # pixels: of the face crops, of the boxes
MARKS = np.array([[30.0, 30.0], [66.0, 34.0], [44.0, 62.0]], np.float32)  # points of the faces


def face_crops(images, *, visible=None):
    """Return face crops with the points `MARKS` and the box 24 .. 72, shifted by half a pixel in its picture."""
    images = np.asarray(images, np.uint8)
    count = len(images)
    return FaceCrops(
        images=images,
        crop_to_image=np.tile(np.float32([[2, 0, 5], [0, 2, 7]]), (count, 1, 1)),
        boxes=np.tile(np.float32([24, 24, 72, 72]), (count, 1)),
        points=np.tile(MARKS, (count, 1, 1)),
        visible=np.ones((count, 3), bool) if visible is None else visible,
    )


def constant(value, count=1):
    return face_crops(np.full((count, SIZE, SIZE, 3), value))


def apply(name, crops, level, seed=0):
    (change,) = (change for change in STRESSES if change.name == name)
    return change.apply(crops, level, np.random.default_rng(seed))


def marked(count=2):
    """Return face crops with a white blob at each of `MARKS`."""
    y, x = np.mgrid[:SIZE, :SIZE]
    blobs = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in MARKS)
    return face_crops(np.repeat(np.repeat(255 * blobs[None, :, :, None], 3, -1), count, 0))


def find_marks(images, boxes):
    """A localizer that finds the three white blobs: (x, y) in pixels of the images, in any order."""
    found = []
    for image in images:
        *_, centers = cv2.connectedComponentsWithStats((image[..., 0] > 64).astype(np.uint8))
        weights = image[..., 0].astype(float) * (image[..., 0] > 64)
        labels = cv2.connectedComponents((image[..., 0] > 64).astype(np.uint8))[1]
        y, x = np.mgrid[: len(image), : len(image)]
        found.append([[np.average(values, weights=weights * (labels == part)) for values in (x, y)]
                      for part in range(1, len(centers))])  # fmt: skip
    return [np.float32(found)]


@pytest.mark.parametrize("degrees", [15, 60, 90, 180])
def test_points_found_in_rotated_pictures_are_returned_in_pixels_of_the_unchanged_ones(degrees):
    change = next(change for change in STRESSES if change.name == "rotation")
    crops = marked()
    points = stress_points(find_marks, crops, change, degrees, seed=0)
    expected = 2 * crops.points + np.float32([5, 7])
    for face, target in zip(points, expected, strict=True):
        ordered = face[np.argsort(face @ [1, 1000])]
        np.testing.assert_allclose(ordered, target[np.argsort(target @ [1, 1000])], atol=0.3)


def test_a_quarter_turn_is_clockwise_and_moves_the_box_with_the_points():
    crops = marked(1)
    turned = apply("rotation", crops, 90)
    np.testing.assert_array_equal(turned.images[0], np.rot90(crops.images[0], -1))
    x, y = MARKS.T  # (x, y) goes to (size - 1 - y, x)
    expected = np.array([SIZE - 1 - y.max(), x.min(), SIZE - 1 - y.min(), x.max()])
    gaps = np.array([24 - 30, 24 - 30, 72 - 66, 72 - 62])  # of the box to the tight one, at each side
    np.testing.assert_allclose(turned.boxes[0], expected + gaps, atol=1e-4)


def test_without_visible_points_the_box_of_a_rotated_face_keeps_its_size():
    crops = face_crops(np.zeros((1, SIZE, SIZE, 3)), visible=np.zeros((1, 3), bool))
    boxes = apply("rotation", crops, 45).boxes
    assert larger_side(boxes) == pytest.approx(SIDE, abs=1e-4)
    assert tight_box(boxes.reshape(1, 2, 2)).ravel() == pytest.approx([23.5 - 0.0, 23.5, 71.5, 71.5], abs=0.8)


def test_boxes_move_by_up_to_the_level():
    crops = constant(0, count=500)
    moved = apply("box error", crops, 30)
    np.testing.assert_array_equal(moved.images, crops.images)
    shift = np.abs((moved.boxes[:, :2] + moved.boxes[:, 2:]) / 2 - 48)
    size = larger_side(moved.boxes)[:, 0] / SIDE
    assert 0.28 * SIDE < shift.max() <= 0.3 * SIDE
    assert (size.min(), size.max()) == (pytest.approx(0.7, abs=0.01), pytest.approx(1.3, abs=0.01))


def test_shrinking_removes_details_below_the_new_pixels():
    stripes = np.tile(255 * (np.arange(SIZE) % 2)[None, None, :, None], (1, SIZE, 1, 3))
    crops = face_crops(stripes)
    np.testing.assert_array_equal(apply("face size", crops, 48).images, crops.images)  # not smaller
    assert np.ptp(apply("face size", crops, 24).images.astype(int)[:, 4:-4, 4:-4]) <= 2


def test_light_multiplies_and_clips():
    assert (apply("dark", constant(200), 0.25).images == 50).all()
    assert (apply("bright", constant(100), 2).images == 200).all()
    assert (apply("bright", constant(100), 4).images == 255).all()


def test_noise_has_its_standard_deviation_and_differs_by_seed():
    noisy, other = (apply("noise", constant(128, 4), 20, seed=seed).images.astype(float) for seed in (0, 1))
    assert noisy.std() == pytest.approx(20, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.3)
    assert (noisy != other).mean() > 0.9


def test_blur_spreads_a_point_by_its_part_of_the_box():
    image = np.zeros((1, SIZE, SIZE, 3))
    image[0, 48, 48] = 255
    image[0, :, 40:56] = 255  # a line: its edge becomes the normal distribution
    spread = apply("blur", face_crops(image), 4).images[0, 48, :, 0].astype(float)
    slope = np.abs(np.diff(spread[48:]))
    middle = np.average(np.arange(len(slope)), weights=slope)
    deviation = np.sqrt(np.average((np.arange(len(slope)) - middle) ** 2, weights=slope))
    assert deviation == pytest.approx(0.04 * SIDE, rel=0.1)


def test_jpeg_loses_more_at_lower_quality():
    images = load_faces("synthetic", "test", count=2).pictures
    crops = face_crops(np.stack([cv2.resize(np.asarray(image), (SIZE, SIZE)) for image in images]))
    losses = [np.abs(apply("JPEG quality", crops, q).images - crops.images.astype(float)).mean() for q in (50, 20, 5)]
    assert 0 < losses[0] < losses[1] < losses[2]
    image = crops.images[0]
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    expected = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(apply("JPEG quality", crops, 20).images[0] - expected.astype(float)).mean() < losses[1]


def test_a_square_of_one_color_covers_part_of_the_face():
    covered = apply("occlusion", constant(100, 40), 60).images
    sides, colors = [], set()
    for image in covered:
        changed = (image != 100).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert len(np.unique(image[changed], axis=0)) == 1
        colors.add(tuple(image[changed][0]))
        sides.append((len(rows), len(columns)))
    assert len(colors) == 40
    assert np.max(sides) == pytest.approx(0.6 * SIDE, abs=1)
    assert np.median(sides) > 0.4 * SIDE  # some are cut off by the border


def test_gray_pictures_have_equal_channels_and_the_same_luminance():
    picture = np.asarray(load_faces("synthetic", "test", count=1).pictures[0])
    crops = face_crops(cv2.resize(picture, (SIZE, SIZE))[None])
    gray = apply("gray", crops, 1).images[0]
    assert (gray == gray[..., :1]).all()
    expected = crops.images[0] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray[..., 0], expected, atol=1)


def test_random_changes_depend_only_on_seed_name_and_level():
    crops = constant(100)
    boxes = []

    def record(images, boxes_given):
        boxes.append((images, boxes_given))
        return [np.zeros((1, 3, 2), np.float32)]

    box_error = next(change for change in STRESSES if change.name == "box error")
    noise = next(change for change in STRESSES if change.name == "noise")
    for change, level, seed in ((box_error, 10, 0), (noise, 10, 0), (box_error, 10, 0), (box_error, 10, 1)):
        stress_points(record, crops, change, level, seed=seed)
    (_, first), _, (_, again), (_, other) = boxes
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    x, y = np.meshgrid(np.linspace(0.2, 0.8, 17), np.linspace(0.2, 0.8, 4))
    mean = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    return save_random_model(tmp_path_factory.mktemp("model"), IBUG_68, mean)


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "test", count=6)


@pytest.mark.slow
def test_each_level_has_a_result_and_the_unchanged_faces_the_first(model, faces, tmp_path):
    localizer = Localizer.load(model)
    evaluation = evaluate(localizer, faces, metrics=["box-size"], stress=True)
    count = 1 + sum(len(change.levels) for change in STRESSES)
    assert len(evaluation.stress) == count
    unchanged = evaluation.stress[0].measurement
    assert 100 * unchanged.values.mean() == pytest.approx(evaluation.nme["box-size"])
    crops = crop_faces(faces, size=localizer.stages[-1].face_crop_size)
    rotated = next(result for result in evaluation.stress if (result.name, result.level) == ("rotation", 45))
    change = next(change for change in STRESSES if change.name == "rotation")
    alone = stress_points(localizer.locate, crops, change, 45, seed=0)
    assert rotated.measurement.values.shape == (6,)
    assert not np.array_equal(rotated.measurement.values, unchanged.values)
    assert alone.shape == (6, 68, 2)
    text = str(evaluation)
    assert "Stress, stage 1, NME by box-size (%)" in text
    for label in ("unchanged", "rotation 45°", "box error 30 %", "JPEG quality 5", "dark 0.25 times", "gray"):
        assert f"\n{label}  " in text
    index = evaluation.report(tmp_path)
    page = index.read_text(encoding="utf-8")
    assert "<h2>Stress</h2>" in page
    assert "stress.png" in page
    assert (tmp_path / "stress.png").stat().st_size > 10_000
    assert len(evaluation.to_dict()["stress"]) == count
    entry = json.loads((tmp_path / "stress.json").read_text())[1]
    assert (entry["change"], entry["level"], entry["level_unit"]) == ("rotation", 15, "°")
    assert (entry["metric"], entry["unit"], entry["faces"]) == ("box-size", "%", 6)


@pytest.mark.slow
def test_without_stress_there_is_no_plot(model, faces):
    evaluation = evaluate(Localizer.load(model), faces, metrics=["box-size"])
    assert evaluation.stress == ()
    assert "stress" not in evaluation.to_dict()
    with pytest.raises(InputError, match="no changed faces were measured: use evaluate"):
        evaluation.plot_stress()


@pytest.mark.slow
def test_the_command_prints_and_reports_it(model, capsys, tmp_path):
    main(["evaluate", str(model), "--data", "synthetic", "--faces", "4", "--stress", "--output", str(tmp_path)])
    assert "rotation 180°" in capsys.readouterr().out
    assert (tmp_path / "stress.json").exists()


def test_every_change_is_described():
    assert all(change.about and change.levels for change in STRESSES)
    names = [change.name for change in stress.STRESSES]
    assert len(set(names)) == len(names)
