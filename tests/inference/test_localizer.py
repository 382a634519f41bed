"""The two-stage localizer: its geometry with exact models, and a small real network."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax import geometry
from wing_jax.augment.warp import warp
from wing_jax.data.face_crops import crop_face, crop_squares, cut_square, resize_images
from wing_jax.data.readers.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.inference import batching, crop_sources
from wing_jax.inference import localizer as module
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.metadata import Metadata
from wing_jax.models import make_model
from wing_jax.schemes import MTFL_5, Scheme

THREE = Scheme(
    name="three", names=("red", "green", "blue"), mirrored=((0, 1),), left_eye=(0,), right_eye=(1,),
    left_outer=0, right_outer=1, lines=((0, 1, 2),), about="a red, a green and a blue dot",
)  # fmt: skip
TEMPLATE = np.array([[0.25, 0.3], [0.75, 0.3], [0.5, 0.75]], np.float32)


class FindsDots:
    """Returns the center of gravity of each color channel: an exact model for pictures of three dots."""

    def init(self, key, images):
        return {}

    def apply(self, params, crops):
        positions = jnp.arange(crops.shape[1], dtype=jnp.float32)
        mass = crops.sum((1, 2))
        x = (crops.sum(1) * positions[None, :, None]).sum(1) / mass
        y = (crops.sum(2) * positions[None, :, None]).sum(1) / mass
        return jnp.stack([x, y], axis=-1)


class FindsDotsBadly(FindsDots):
    """The same with an error of some pixels."""

    def apply(self, params, crops):
        error = jnp.array([[3.0, -2.0], [2.0, 3.0], [-2.0, 2.0]])
        return super().apply(params, crops) + error[None]


class ReturnsTemplate(FindsDots):
    """Always returns the template, which is correct only if the crop is placed exactly."""

    def apply(self, params, crops):
        points = jnp.asarray(TEMPLATE * crops.shape[1] - 0.5)
        return jnp.broadcast_to(points[None], (len(crops), 3, 2))


def make_stage(model, *, input_size=48, face_crop_size=96, margin=1.4):
    return Stage(
        model=model, variables={"params": {}}, input_size=input_size, face_crop_size=face_crop_size, margin=margin
    )


def make_localizer(*models, cut_on="auto"):
    stages = [make_stage(models[0])]
    stages += [make_stage(model, input_size=64, face_crop_size=128) for model in models[1:]]
    return Localizer(scheme=THREE, box_convention="landmarks", stages=tuple(stages), template=TEMPLATE, cut_on=cut_on)


def turned_template(*, degrees, scale=90.0, center=(150.3, 120.6)):
    turn = np.exp(1j * np.deg2rad(degrees)) * scale
    z = ((TEMPLATE - 0.5) @ [1, 1j]) * turn + complex(*center)
    return np.stack([z.real, z.imag], axis=-1)


def dots(points, *, height=260, width=300, sigma=3.0):
    """Return a picture with a Gaussian dot at each point, one color channel each."""
    y, x = np.mgrid[:height, :width]
    bells = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points]
    return np.round(255 * np.stack(bells, axis=-1)).astype(np.uint8)


def box_around(points, *, margin=4.0):
    return [*(points.min(0) - margin), *(points.max(0) + margin)]


@pytest.mark.slow
@pytest.mark.parametrize("models", [(FindsDots(),), (FindsDots(), FindsDots()), (FindsDotsBadly(), FindsDots())])
@pytest.mark.parametrize("degrees", [0, -20, 40])
@pytest.mark.parametrize("cut_on", ["host", "device"])
def test_dots_are_found_in_image_pixels(models, degrees, cut_on):
    points = turned_template(degrees=degrees)
    actual = make_localizer(*models, cut_on=cut_on).predict(dots(points), [box_around(points)])
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual[0], points, atol=0.1)


def test_the_inexact_model_alone_has_errors():
    points = turned_template(degrees=0)
    actual = make_localizer(FindsDotsBadly()).predict(dots(points), [box_around(points)])
    assert np.abs(actual[0] - points).max() > 2


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [0, -35, 60])
def test_second_crop_is_upright_and_placed_on_the_template(degrees):
    """The second model returns the template: the result is correct only if its crop is upright and scaled right."""
    points = turned_template(degrees=degrees)
    actual = make_localizer(FindsDots(), ReturnsTemplate()).predict(dots(points), [box_around(points)])
    np.testing.assert_allclose(actual[0], points, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("cut_on", ["host", "device"])
def test_face_at_the_edge_and_large_face(cut_on):
    localizer = make_localizer(FindsDots(), FindsDots(), cut_on=cut_on)
    points = turned_template(degrees=10, center=(42.0, 40.0))
    actual = localizer.predict(dots(points), [box_around(points)])
    np.testing.assert_allclose(actual[0], points, atol=0.15)
    large = turned_template(degrees=10, scale=420.0, center=(600.5, 500.2))
    picture = dots(large, height=1000, width=1200, sigma=12.0)
    actual = localizer.predict(picture, [box_around(large)])
    np.testing.assert_allclose(actual[0], large, atol=0.4)  # 0.1 pixels of its face crop


NETWORK = {"name": "plain", "points": 5, "channels": (8, 8), "hidden": 16, "norm": "batch", "precision": "float32"}


def random_variables(size):
    model, random = make_model(**NETWORK), np.random.default_rng(size)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
    variables = jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)
    statistics = jax.tree.map(lambda leaf: np.abs(leaf) + 1, variables["batch_stats"])
    # Spread the points over the crop, like those of a trained model, so that the second crop is plausible.
    variables["params"]["output"]["bias"] = np.float32([9, 10, 22, 11, 15, 18, 10, 24, 21, 23]) * size / 32
    variables["params"]["output"]["kernel"] *= 0.3
    return {"params": variables["params"], "batch_stats": statistics}


@pytest.fixture(scope="module")
def small():
    """Two stages with random weights, which suffice to detect mixed-up faces and coordinates."""
    stages = tuple(
        Stage(
            model=make_model(**NETWORK),
            variables=random_variables(size),
            input_size=size,
            face_crop_size=face_crop,
            margin=margin,
        )
        for size, face_crop, margin in ((16, 40, 1.2), (32, 64, 1.25))
    )
    template = np.float32([[0.3, 0.3], [0.7, 0.3], [0.5, 0.55], [0.35, 0.8], [0.65, 0.8]])
    return Localizer(
        scheme=MTFL_5, box_convention="landmarks", stages=stages, template=template, metadata=Metadata(name="x")
    )


@pytest.fixture(scope="module")
def picture():
    """Blocks of color, so that a shift of a hundredth of a pixel changes little."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


BOXES = [[60, 50, 119, 109], [100, 90, 179, 169], [30, 100, 89, 159]]


@pytest.mark.slow
def test_several_faces_equal_one_at_a_time(small, picture):
    together = small.predict(picture, BOXES)
    single = np.concatenate([small.predict(picture, [box]) for box in BOXES])
    assert together.shape == (3, 5, 2)
    np.testing.assert_allclose(together, single, atol=0.02)
    assert np.abs(together[0] - together[1]).max() > 5


@pytest.mark.slow
@pytest.mark.parametrize("largest", [4, 5, 1])
def test_more_faces_than_the_largest_batch(small, largest):
    random = np.random.default_rng(0)
    face_crops = random.integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    boxes = np.float32([16, 16, 47, 47]) + random.uniform(-2, 2, (7, 4)).astype(np.float32)
    expected = small.locate(face_crops, boxes)
    limited = dataclasses.replace(small, largest_batch=largest)
    for actual, points in zip(limited.locate(face_crops, boxes), expected, strict=True):
        assert actual.shape == (7, 5, 2)
        np.testing.assert_allclose(actual, points, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("flip_average", [False, True])
def test_each_face_equals_a_step_by_step_computation(small, picture, flip_average):
    """The reference cuts, resizes and locates in two stages without batches, buckets or `jit`."""
    localizer = dataclasses.replace(small, flip_average=flip_average)
    for box, actual in zip(np.float32(BOXES), localizer.predict(picture, BOXES), strict=True):
        face_crop, transform = crop_face(picture, box, size=64)
        points = None
        for stage in small.stages:
            size, ratio = stage.input_size, 64 / stage.face_crop_size
            if points is None:
                in_face_crop = (box.reshape(2, 2) - transform[:, 2]) / transform[0, 0]
                crop_transform = geometry.crop_of_box(in_face_crop.reshape(4), size=size, margin=stage.margin)
            else:
                crop_transform = geometry.crop_of_shape(points, small.template, size=size)
            local = np.array(crop_transform) / ratio
            local[:, 2] += 0.5 / ratio - 0.5
            level = jnp.asarray(resize_images(face_crop[None], stage.face_crop_size))
            crop = np.round(warp(level, local[None], size=size))
            result = np.array(stage.model.apply(stage.on_device, crop))[0]
            if flip_average:
                mirrored = np.array(stage.model.apply(stage.on_device, crop[:, :, ::-1]))[0, MTFL_5.flip]
                result = (result + np.float32([size - 1, 0]) + mirrored * np.float32([-1, 1])) / 2
            points = np.asarray(geometry.transform(crop_transform, result))
        np.testing.assert_allclose(actual, points * transform[0, 0] + transform[:, 2], atol=1e-3)


@pytest.mark.slow
def test_faces_of_several_photos_equal_one_photo_at_a_time(small, picture):
    photos = [picture, picture[30:230, 20:], picture[:0:-1], picture]
    boxes = [BOXES, BOXES[:1], [], BOXES[1:]]
    together = small.predict_batch(photos, boxes)
    assert [len(points) for points in together] == [3, 1, 0, 2]
    for points, photo, photo_boxes in zip(together, photos, boxes, strict=True):
        assert points.dtype == np.float32
        np.testing.assert_allclose(points, small.predict(photo, photo_boxes), atol=1e-3)


def test_crop_squares_equal_the_squares_of_crop_face():
    random = np.random.default_rng(0)
    corners = random.uniform(-20, 90, (500, 2)).astype(np.float32).round(1)
    boxes = np.concatenate([corners, corners + random.uniform(2, 60, (500, 2)).astype(np.float32).round(1)], axis=1)
    squares = crop_squares(boxes)
    for box, (left, top, side) in zip(boxes, squares, strict=True):
        _, transform = crop_face(np.zeros((100, 110, 3), np.uint8), box, size=64)
        np.testing.assert_allclose(transform[:, 2], 0.5 * side / 64 - 0.5 + np.float32([left, top]), atol=1e-4)
        assert transform[0, 0] == pytest.approx(side / 64)


OVER_THE_EDGE = [[-20, -10, 60, 70], [150, 190, 239, 300], [-300, 100, 10, 400], [100, 100, 105, 104]]


@pytest.mark.slow
def test_results_are_the_same_cut_on_device_and_host(small, picture):
    smooth = np.ascontiguousarray(picture[::8, ::8]).repeat(20, 0).repeat(20, 1)  # enlarged
    boxes = [[*BOXES, *OVER_THE_EDGE], 2.5 * np.float32(BOXES), np.float32([[-50, -70, 700, 640]])]
    on_host = small.predict_batch([picture, smooth, smooth], boxes)
    on_device = dataclasses.replace(small, cut_on="device").predict_batch([picture, smooth, smooth], boxes)
    for device_points, host_points, photo_boxes in zip(on_device, on_host, boxes, strict=True):
        side = np.ptp(np.float32(photo_boxes).reshape(-1, 2, 2), axis=1).max(1)
        difference = np.abs(device_points - host_points).max((1, 2)) / (2 * side / 64)  # pixels of the face crop
        assert (difference < 0.15).all()
        assert np.median(difference) < 0.02


@pytest.mark.slow
def test_results_are_the_same_cut_on_device_and_host_for_real_photos(small, data_root):
    faces = read_w300(data_root / "300w", "test")
    indices = np.linspace(0, len(faces) - 1, 16).astype(int).tolist()
    photos, boxes = [faces.picture(i) for i in indices], [faces.boxes[i : i + 1] for i in indices]
    on_host = np.concatenate(small.predict_batch(photos, boxes))
    on_device = np.concatenate(dataclasses.replace(small, cut_on="device").predict_batch(photos, boxes))
    sides = np.ptp(np.concatenate(boxes).reshape(-1, 2, 2), axis=1).max(1)
    assert (np.abs(on_device - on_host).max((1, 2)) < 0.1 * 2 * sides / 64).all()  # pixels of the face crop


@pytest.mark.slow
def test_locate_has_the_same_results_on_host_and_device(small):
    face_crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    boxes = np.tile(np.float32([16, 16, 47, 47]), (3, 1))
    on_device = dataclasses.replace(small, cut_on="device").locate(face_crops, boxes)
    for points, expected in zip(on_device, small.locate(face_crops, boxes), strict=True):
        np.testing.assert_allclose(points, expected, atol=0.1)
    assert [stage.shape for stage in small.locate(face_crops[:0], boxes[:0])] == [(0, 5, 2)] * 2


@pytest.mark.slow
def test_cut_on_auto_depends_on_the_platform(small, picture, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "cut_square", lambda *args, size: calls.append(args) or cut_square(*args, size=size))
    for backend, cut_on, expected in (("cpu", "auto", 1), ("gpu", "auto", 0), ("cpu", "device", 0), ("gpu", "host", 1)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        calls.clear()
        dataclasses.replace(small, cut_on=cut_on).predict(picture, BOXES[:1])
        assert len(calls) == expected


@pytest.mark.slow
def test_large_photos_are_cut_in_smaller_batches_or_on_the_host(small, picture, monkeypatch):
    on_device = dataclasses.replace(small, cut_on="device")
    expected = on_device.predict(picture, BOXES)
    monkeypatch.setattr(crop_sources, "LARGEST_PIXELS", 50_000)  # two parts of 192 x 192 are more
    np.testing.assert_allclose(on_device.predict(picture, BOXES), expected, atol=0.02)
    monkeypatch.setattr(crop_sources, "LARGEST_PIXELS", 1_000)
    np.testing.assert_array_equal(on_device.predict(picture, BOXES), small.predict(picture, BOXES))


@pytest.mark.slow
@pytest.mark.parametrize("cut_on", ["host", "device"])
def test_nothing_compiles_after_warm_up(small, picture, cut_on):
    localizer = dataclasses.replace(small, cut_on=cut_on)
    durations = localizer.warm_up(sizes=(1, 2, 4, 8), face_side=90)
    assert list(durations) == [1, 2, 4, 8]
    assert all(seconds > 0 for seconds in durations.values())
    with jax.no_tracing():
        for count in (1, 2, 3, 5, 7, 8, 11):
            assert localizer.predict(picture, np.tile(np.float32(BOXES[1:2]) + 1, (count, 1))).shape == (count, 5, 2)
        localizer.predict_batch([picture[:200], picture[:, 30:]], [BOXES[1:2], BOXES[1:2]])  # photos of other sizes


def test_models_that_differ_only_in_their_weights_share_a_program(small, picture):
    squared = dataclasses.replace(small.stages[0], variables=jax.tree.map(np.square, small.stages[0].variables))
    other = dataclasses.replace(small, stages=(squared, small.stages[1]), template=small.template + np.float32(0.01))
    points = small.predict(picture, BOXES)
    with jax.no_tracing():
        assert not np.allclose(other.predict(picture, BOXES), points)


def test_batches_cover_all_faces_with_little_padding():
    for largest in (1, 4, 64):
        for count in range(200):
            batches = list(batching.batch_ranges(count, largest=largest))
            assert [face for faces, _ in batches for face in faces] == list(range(count))
            for faces, bucket in batches:
                assert bucket.bit_count() == 1
                assert 0.75 * bucket <= len(faces) <= bucket <= largest


@pytest.mark.slow
def test_weights_are_transferred_once(small, picture):
    other = dataclasses.replace(small, flip_average=True)
    expected = [jax.tree.leaves(stage.on_device) for stage in small.stages]
    other.predict(picture, BOXES)
    for stage, leaves in zip(other.stages, expected, strict=True):
        assert all(isinstance(leaf, jax.Array) for leaf in leaves)
        assert all(a is b for a, b in zip(jax.tree.leaves(stage.on_device), leaves, strict=True))


@pytest.mark.slow
def test_a_crop_and_its_mirror_image_are_in_one_batch():
    class RecordsShapes(FindsDots):
        shapes: ClassVar[list] = []

        def apply(self, params, crops):
            self.shapes.append(crops.shape)
            return super().apply(params, crops)

    points = turned_template(degrees=0)
    localizer = dataclasses.replace(make_localizer(RecordsShapes(), RecordsShapes()), flip_average=True)
    localizer.predict(dots(points), [box_around(points)] * 4)
    assert RecordsShapes.shapes == [(8, 48, 48, 3), (8, 64, 64, 3)]


def test_points_move_with_image_and_box(small, picture):
    moved = np.zeros((300, 320, 3), np.uint8)
    moved[37:277, 53:293] = picture
    shift = np.float32([53, 37])
    inside = [[70, 70, 129, 129], [100, 90, 159, 149]]
    np.testing.assert_allclose(
        small.predict(moved, np.float32(inside) + np.tile(shift, 2)), small.predict(picture, inside) + shift, atol=0.05
    )


@pytest.mark.slow
def test_center_of_the_stage_corrects_shifted_boxes(small, picture):
    first = dataclasses.replace(small.stages[0], center=(0.1, -0.2))
    corrected = dataclasses.replace(small, stages=(first, small.stages[1]))
    box = np.float32([[70, 60, 149, 139]])
    shift = np.float32([[-7.9, 15.8, -7.9, 15.8]])  # of the side of 79
    np.testing.assert_allclose(corrected.predict(picture, box + shift), small.predict(picture, box), atol=0.05)
    assert np.abs(small.predict(picture, box + shift) - small.predict(picture, box)).max() > 0.5


@pytest.mark.slow
def test_mirror_average_is_the_same_for_the_mirror_image(small, picture):
    averaging = dataclasses.replace(small, flip_average=True)
    box = np.float32([[70, 60, 149, 139]])
    mirrored_box = np.float32([[239 - 149, 60, 239 - 70, 139]])
    points = averaging.predict(picture, box)[0]
    mirrored = averaging.predict(np.ascontiguousarray(picture[:, ::-1]), mirrored_box)[0][MTFL_5.flip]
    np.testing.assert_allclose(np.stack([239 - mirrored[:, 0], mirrored[:, 1]], 1), points, atol=0.05)
    assert np.abs(points - small.predict(picture, box)[0]).max() > 0.5  # averaging has an effect


def test_saving_and_loading_keeps_the_results(small, picture, tmp_path):
    loaded = Localizer.load(small.save(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict(picture, BOXES[:1]), small.predict(picture, BOXES[:1]))
    assert loaded.metadata == Metadata(name="x")
    assert loaded.describe() == small.describe()
    assert "5 points" in loaded.describe()


@pytest.mark.parametrize("cut_on", ["host", "device"])
def test_no_box_gives_no_face(small, picture, cut_on):
    localizer = dataclasses.replace(small, cut_on=cut_on)
    assert localizer.predict(picture, []).shape == (0, 5, 2)
    assert localizer.predict_batch([], []) == []


def test_each_image_needs_its_boxes(small, picture):
    with pytest.raises(InputError, match="2 images and boxes for 1"):
        small.predict_batch([picture, picture], [BOXES])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([10, 10, 10, 50], "is empty"),
        ([50, 50, 10, 10], "is empty"),
        ([np.nan, 0, 10, 10], "is empty"),
        ([np.inf, 0, 10, 10], "is empty"),
        ([500, 10, 600, 50], "outside the image of 240 x 240"),
        ([10, -90, 60, -20], "outside the image"),
        ([10, 10, 60], "must be"),
    ],
)
def test_bad_box_is_refused_in_one_line(small, picture, box, message):
    with pytest.raises(InputError, match=message) as error:
        small.predict(picture, [BOXES[0], box] if len(box) == 4 else [box])
    assert "\n" not in str(error.value)


def test_single_flat_box_is_accepted(small, picture):
    np.testing.assert_array_equal(small.predict(picture, BOXES[0]), small.predict(picture, BOXES[:1]))


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_bad_image_is_refused(small, image):
    with pytest.raises(InputError, match="must be RGB uint8"):
        small.predict(image, BOXES)
