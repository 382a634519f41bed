"""Faces that are not valid are tried again; a valid face, and one without a better attempt, keep their first result."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax import geometry
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.evaluation.stress import move_boxes, rotate
from wing_jax.inference.crop_sources import Requests
from wing_jax.inference.forward import Located
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.retry import FACES, ROUNDS, change_requests, retry
from wing_jax.inference.uncertainty import Evidence, expected_error

LIMIT = 0.5
TURNED, MOVED = map(len, ROUNDS)


def located_of(errors, marks):
    """Results whose expected error is `errors`, and whose points and evidence are `marks`."""
    marks = np.asarray(marks, np.float32)
    covariance = np.ones((len(marks), 3, 2, 2), np.float32) * marks[:, None, None, None]
    moved, transforms = np.ones((len(marks), 3, 2)) * marks[:, None, None], np.ones((len(marks), 2, 3))
    evidence = Evidence(
        covariance=covariance,
        moved=moved.astype(np.float32),
        crop_to_unit=transforms.astype(np.float32) * marks[:, None, None],
        expected_error=np.asarray(errors, np.float32),
    )
    return Located(np.ones((2, len(marks), 3, 2), np.float32) * marks[None, :, None, None], evidence)


def requests_of(count):
    boxes = np.float32([[10, 20, 30, 60]]) + np.arange(count, dtype=np.float32)[:, None]
    return Requests(faces=np.arange(count), boxes=boxes, degrees=np.zeros(count, np.float32))


def run_retry(first_errors, error_of):
    """Return the result of `retry`, and its requests; `error_of(face, degrees, box)` is that of an attempt."""
    calls = []

    def locate(more):
        calls.append(more)
        errors = [error_of(*row) for row in zip(more.faces.tolist(), more.degrees.tolist(), more.boxes, strict=True)]
        return located_of(errors, 100 + more.faces)

    count = len(first_errors)
    first = located_of(first_errors, np.arange(count))
    return retry(locate, requests_of(count), first, limit=LIMIT), calls


def marks_of(result):
    """The faces' marks, which must be the same in all results."""
    marks = result.points[0, :, 0, 0]
    for values in (*result.points, *result.evidence[:3]):
        assert (values == marks.reshape(-1, *[1] * (values.ndim - 1))).all()
    return marks.tolist()


def test_valid_faces_are_not_tried_again():
    result, calls = run_retry([0.1, 0.5], lambda *_: 0.0)
    assert not calls
    assert marks_of(result) == [0, 1]


def test_the_valid_attempt_with_the_smallest_error_is_kept():
    errors = {90.0: 0.4, 135.0: 0.2, 180.0: 0.3}
    result, calls = run_retry([0.1, 0.9, 0.2], lambda face, degrees, box: errors.get(degrees, 0.8))
    assert [len(call) for call in calls] == [TURNED]  # none with a moved box
    assert marks_of(result) == [0, 101, 2]
    assert result.evidence.expected_error.tolist() == pytest.approx([0.1, 0.2, 0.2])


def test_an_attempt_that_is_not_valid_is_kept_only_if_it_is_much_better():
    result, calls = run_retry([0.9, 0.8], lambda *_: 0.6)  # 0.67 and 0.75 of the first expected errors
    assert [len(call) for call in calls] == [2 * TURNED, 2 * MOVED]
    assert marks_of(result) == [100, 1]
    assert result.evidence.expected_error.tolist() == pytest.approx([0.6, 0.8])


def test_only_faces_that_the_first_round_does_not_make_valid_get_moved_boxes():
    def error_of(face, degrees, box):
        return 0.1 if (face == 0 and degrees == 45.0) or (face == 2 and box[2] > 50) else 0.9

    result, calls = run_retry([0.9] * 3, error_of)
    assert sorted(set(calls[1].faces.tolist())) == [1, 2]
    assert not calls[1].degrees.any()
    assert marks_of(result) == [100, 1, 102]


def test_many_faces_are_tried_in_parts():
    count = FACES + 3
    result, calls = run_retry([0.9] * count, lambda face, degrees, box: 0.1 if degrees == 315.0 else 0.9)
    assert [len(call) for call in calls] == [FACES * TURNED, 3 * TURNED]
    assert marks_of(result) == [100 + face for face in range(count)]


def test_the_attempts_are_all_eighths_of_a_turn_and_other_boxes():
    turned, moved = (change_requests(requests_of(3), np.array([2]), attempts) for attempts in ROUNDS)
    assert turned.degrees.tolist() == [45, 90, 135, 180, 225, 270, 315, 0]
    assert turned.faces.tolist() == [2] * 8
    np.testing.assert_allclose(turned.boxes[:7], [[2, 22, 42, 62]] * 7)  # a square around the box 12 22 32 62
    np.testing.assert_allclose(turned.boxes[7], [-3, 17, 47, 67])
    assert moved.degrees.tolist() == [0] * 9
    expected = [[6, 26, 38, 58], [-8, 22, 32, 62], [12, 22, 52, 62], [2, 12, 42, 52], [2, 32, 42, 72]]
    np.testing.assert_allclose(moved.boxes[:5], expected)
    larger = [[-13, 7, 37, 57], [-13, 27, 37, 77], [7, 7, 57, 57], [7, 27, 57, 77]]
    np.testing.assert_allclose(moved.boxes[5:], larger)


def test_turned_crops_show_a_turned_face_as_upright_ones_show_it_upright():
    """The crop of a turned picture by `degrees` equals the upright crop, also with an offset of its center."""
    box, options = np.float32([20, 30, 60, 80]), {"size": 32, "margin": 1.3, "center": (0.1, -0.2)}
    upright = np.asarray(geometry.crop_of_box(box, **options))
    middle = np.float32([40, 55])
    for degrees in (0.0, 45.0, 90.0, 200.0):
        turn = np.array(geometry.similarity(degrees=degrees), np.float32)
        turn[:, 2] = middle - turn[:, :2] @ middle
        crop = geometry.crop_of_box(jnp.asarray(box[None]), **options, degrees=jnp.asarray([degrees]))[0]
        np.testing.assert_allclose(crop, geometry.compose(turn, upright), atol=1e-4)


@pytest.fixture(scope="module")
def crops():
    localizer = Localizer.load("w300")
    return localizer, crop_faces(load_faces("synthetic_2d", "test", count=6), size=localizer.stages[-1].face_crop_size)


@pytest.mark.slow
@pytest.mark.parametrize(("cut_on", "degrees"), [("host", 90.0), ("host", 180.0), ("host", 225.0), ("device", 90.0)])
def test_w300_locates_turned_faces_as_upright_ones(crops, cut_on, degrees):
    localizer, faces = crops
    localizer = dataclasses.replace(localizer, cut_on=cut_on)
    turned = rotate(faces, degrees, np.random.default_rng(0))
    transforms = np.broadcast_to(turned.to_face_crop, (6, 2, 3))
    upright = localizer.locate(faces.images, faces.boxes)
    again = [geometry.transform(transforms, points) for points in localizer.locate(turned.images, turned.boxes)]
    plain = dataclasses.replace(localizer, retry_invalid=False)
    once = geometry.transform(transforms, plain.locate(turned.images, turned.boxes)[-1])
    side = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1)
    for points, expected in zip(again, upright, strict=True):
        assert (np.linalg.norm(points - expected, axis=-1).mean(1) / side < 0.04).all()
    assert (np.linalg.norm(once - upright[-1], axis=-1).mean(1) / side > 0.1).all()


@pytest.mark.slow
def test_w300_recovers_from_wrong_boxes_and_details_are_those_of_the_kept_attempt(crops):
    localizer, faces = crops
    plain = dataclasses.replace(localizer, retry_invalid=False)
    moved = faces.boxes + np.float32([90, 0, 90, 0])
    expected = localizer.locate(faces.images, faces.boxes)[-1]
    side = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1)
    distances = [
        np.linalg.norm(model.locate(faces.images, moved)[-1] - expected, axis=-1).mean(1) / side
        for model in (localizer, plain)
    ]
    assert (distances[0] < 0.05).sum() > (distances[1] < 0.05).sum()
    for image, box in zip(faces.images[:2], moved[:2], strict=True):
        (details,) = localizer.predict_details([image], [box[None]])
        (first,) = plain.predict_details([image], [box[None]])
        np.testing.assert_array_equal(localizer.predict(image, box[None]), details.points)
        assert details.valid[0] or not first.valid[0]
        assert details.expected_error[0] <= first.expected_error[0]


@pytest.mark.slow
def test_the_compiled_program_computes_the_expected_errors_of_the_calibration(crops):
    localizer, faces = crops
    size = localizer.stages[-1].input_size
    for cut_on in ("host", "device"):
        model = dataclasses.replace(localizer, cut_on=cut_on)
        located = model.locate_details(faces.images, faces.boxes)
        expected = expected_error(located.evidence, localizer.calibration.weights, size=size)
        np.testing.assert_allclose(located.expected_error, expected, rtol=1e-3)
        (details,) = model.predict_details([faces.images[0]], [faces.boxes[:1]])
        spreads = details.spread / np.linalg.norm(located.evidence.crop_to_unit[0, 0, :2]) / size
        np.testing.assert_allclose(details.expected_error, spreads.mean(1), rtol=0.02)
    uncalibrated = dataclasses.replace(localizer, calibration=None)
    located = uncalibrated.locate_details(faces.images, faces.boxes)
    assert located.evidence.expected_error is None
    assert located.expected_error.shape == (0,)


@pytest.mark.slow
def test_moved_boxes_of_the_stress_are_recovered(crops):
    localizer, faces = crops
    boxes = move_boxes(faces, 30, np.random.default_rng(3)).boxes
    located = localizer.locate_details(faces.images, boxes)
    once = dataclasses.replace(localizer, retry_invalid=False).locate_details(faces.images, boxes)
    errors = [x.evidence.expected_error for x in (located, once)]
    assert (errors[0] <= errors[1]).all()
    np.testing.assert_array_equal(
        (located.points == once.points).all((0, 2, 3)),
        (errors[1] <= localizer.calibration.limit) | (errors[0] == errors[1]),
    )


@pytest.mark.slow
def test_the_commands_have_an_option_that_switches_it_off(crops, tmp_path):
    from wing_jax.cli import main

    errors = {}
    for name, options in {"on": (), "off": ("--no_retry_invalid",)}.items():
        folder = tmp_path / name
        data = ("--data", "synthetic_2d", "--faces", "4", "--jitter", "0.5", "--metrics", "box-size")
        main(["evaluate", "w300", *data, "--output", str(folder), *options])
        rows = json.loads((folder / "results.json").read_text())
        (errors[name],) = [
            row["mean"] for row in rows if row["condition"] != "landmarks boxes" and row["stage"] == "stage 2"
        ]
        shown = f"<dt>invalid faces tried again</dt><dd>{'yes' if name == 'on' else 'no'}</dd>"
        assert shown in (folder / "index.html").read_text(encoding="utf-8")
    assert errors["on"] < errors["off"]

    faces = load_faces("synthetic_2d", "test", count=1)
    write_image(tmp_path / "face.png", np.ascontiguousarray(faces.picture(0)[::-1, ::-1]))
    side = len(faces.picture(0)) - 1
    box = [side - faces.boxes[0, 2], side - faces.boxes[0, 3], side - faces.boxes[0, 0], side - faces.boxes[0, 1]]
    for name, options in {"on": (), "off": ("--no_retry_invalid",)}.items():
        output = str(tmp_path / f"predicted-{name}")
        main(["predict", "w300", str(tmp_path / "face.png"), "--box", *map(str, box), "--output", output, *options])
        (face,) = json.loads((tmp_path / f"predicted-{name}" / "face.json").read_text())["faces"]
        assert face["valid"] == (name == "on")


def test_models_without_a_calibration_try_once(crops):
    localizer, faces = crops
    plain = dataclasses.replace(localizer, calibration=None)
    images, boxes = np.zeros_like(faces.images[:1]), faces.boxes[:1]
    once = dataclasses.replace(localizer, retry_invalid=False)
    np.testing.assert_array_equal(plain.locate(images, boxes), once.locate(images, boxes))
