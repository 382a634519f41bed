"""The unperturbed crops of both stages, the mean shape, and second-stage crops made by a first stage."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax import augment, geometry
from wing_jax.data.boxes import shape_in_box
from wing_jax.data.face_crops import FaceCrops
from wing_jax.inference.stage import Stage
from wing_jax.schemes import MTFL_5
from wing_jax.train import crops

FACES = 5
TEMPLATE = np.float32([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])


@pytest.fixture
def face_crops() -> FaceCrops:
    """Faces that are the template turned and scaled, on face crops of 80 pixels."""
    motions = geometry.similarity(
        scale=jnp.float32([30, 35, 40, 45, 50]),
        degrees=jnp.float32([-20, -10, 0, 10, 20]),
        translation=jnp.float32([[25, 20], [22, 20], [20, 20], [18, 16], [16, 10]]),
    )
    points = np.asarray(geometry.transform(motions, np.broadcast_to(TEMPLATE, (FACES, 5, 2)).copy()))
    return FaceCrops(
        images=np.full((FACES, 80, 80, 3), 100, np.uint8),
        crop_to_image=np.broadcast_to(np.eye(2, 3, dtype=np.float32), (FACES, 2, 3)).copy(),
        boxes=np.concatenate([points.min(1), points.max(1)], 1),
        points=points,
        visible=np.ones((FACES, 5), bool),
    )


def test_a_face_crop_has_a_quarter_more_pixels_than_its_crop():
    size = crops.face_crop_size(input_size=64, margin=1.3)
    assert size == 123
    # A face crop spans 2 box sides, its crop margin of them: face crop pixels for each pixel of the crop.
    assert abs((size / 2.0) / (64 / 1.3) - crops.FACE_CROP_STEP) < 0.01


def test_box_frames_and_points_in_are_inverse_to_each_other(face_crops):
    transforms = geometry.crop_of_box(face_crops.boxes, size=32, margin=1.5)
    seen = crops.points_in_crops(face_crops.points, transforms)
    sides = (face_crops.boxes[:, 2:] - face_crops.boxes[:, :2]).max(1)
    middles = (face_crops.boxes[:, :2] + face_crops.boxes[:, 2:]) / 2
    expected = (face_crops.points - middles[:, None]) / (1.5 * sides[:, None, None]) * 32 + 15.5
    np.testing.assert_allclose(seen, expected, atol=1e-4)
    np.testing.assert_allclose(
        np.einsum("nij,npj->npi", transforms[..., :2], seen) + transforms[:, None, :, 2], face_crops.points, atol=1e-4
    )


def test_crops_of_boxes_off_the_faces_are_brought_onto_them(face_crops):
    sides = (face_crops.boxes[:, 2:] - face_crops.boxes[:, :2]).max(1)[:, None]
    assert shape_in_box(face_crops).center == pytest.approx((0, 0), abs=2e-2)
    off = sides * np.float32([0.2, -0.1, 0.2, -0.1])
    moved = dataclasses.replace(face_crops, boxes=face_crops.boxes + off)
    centers = [shape_in_box(faces).center for faces in (moved, face_crops)]
    np.testing.assert_allclose(np.subtract(*centers), [-0.2, 0.1], atol=2e-4)
    transforms = geometry.crop_of_box(moved.boxes, size=32, margin=1.5, center=(-0.2, 0.1))
    np.testing.assert_allclose(transforms, geometry.crop_of_box(face_crops.boxes, size=32, margin=1.5), atol=1e-4)


def test_the_shape_is_measured_in_sides_of_its_box(face_crops):
    """A template 0.4 wide and high, in boxes of side 0.8 that begin at 0.2: half a side, its center up and left."""
    sizes = np.float32([20, 30, 40, 50, 60])[:, None]
    boxes = sizes * np.float32([0.2, 0.2, 1.0, 1.0])
    shape = shape_in_box(dataclasses.replace(face_crops, points=sizes[:, None] * TEMPLATE, boxes=boxes))
    assert shape.side == pytest.approx(0.5)
    assert shape.center == pytest.approx((-0.125, -0.0625), abs=1e-4)


def test_the_shape_in_the_box_counts_visible_points_only(face_crops):
    points, visible = face_crops.points.copy(), face_crops.visible.copy()
    points[0, 2], visible[0, 2] = np.nan, False
    hidden = shape_in_box(dataclasses.replace(face_crops, points=points, visible=visible))
    assert hidden.center == pytest.approx(shape_in_box(face_crops).center, abs=1e-3)


def test_the_mean_shape_is_symmetric_and_counts_visible_points_only():
    shapes = np.stack([TEMPLATE, TEMPLATE + np.float32([0.1, 0.02])])
    visible = np.ones((2, 5), bool)
    mean = crops.mean_shape(shapes, visible, flip=MTFL_5.flip)
    np.testing.assert_allclose(mean, TEMPLATE + np.float32([0, 0.01]), atol=1e-6)
    shapes[1, 2] = 1e6
    visible[1, 2] = False
    shown = crops.mean_shape(shapes, visible, flip=MTFL_5.flip)
    np.testing.assert_allclose(shown[2], TEMPLATE[2], atol=1e-6)
    for shape in (mean, shown):
        assert shape.dtype == np.float32
        np.testing.assert_allclose(shape[MTFL_5.flip] * (-1, 1) + (1, 0), shape, atol=1e-6)


def test_the_template_fills_its_crop_by_the_margin():
    template = crops.template_of(TEMPLATE * 3 + 7, margin=1.25)
    low, high = template.min(0), template.max(0)
    np.testing.assert_allclose((high - low).max(), 1 / 1.25, atol=1e-6)
    np.testing.assert_allclose((low + high) / 2, 0.5, atol=1e-6)


def test_in_second_stage_crops_every_face_lies_on_the_template(face_crops):
    transforms = geometry.crop_of_shape(face_crops.points, TEMPLATE, size=48)
    seen = crops.points_in_crops(face_crops.points, transforms)
    np.testing.assert_allclose((seen + 0.5) / 48, np.broadcast_to(TEMPLATE, seen.shape), atol=1e-4)


class Oracle(nn.Module):
    """A network that knows the answer, but for an `error` in crop pixels to the right: the pixels of its faces tell
    where they lie (red, green: three times x, y) and whose they are (blue)."""

    points: np.ndarray  # of all faces, pixels of the face crop
    error: float

    def __call__(self, images, *, train):
        middle = images[:, 10:22, 10:22].astype(jnp.float32)
        at = jnp.arange(-5.5, 6.0)
        slopes = [jnp.einsum("nyxc,x->nc", middle, at), jnp.einsum("nyxc,y->nc", middle, at)]
        linear = jnp.stack(slopes, -1)[:, :2] / (12 * (at**2).sum()) / 3
        mean = middle.mean((1, 2))
        faces = jnp.round(mean[:, 2] / 50).astype(jnp.int32)
        mirror = jnp.linalg.det(linear) < 0
        shapes = jnp.asarray(self.points)[faces]
        shapes = jnp.where(mirror[:, None, None], shapes[:, MTFL_5.flip], shapes)
        off = shapes - mean[:, None, :2] / 3
        shift = 15.5 + jnp.array([[[self.error, 0.0]]])
        return jnp.einsum("nij,npj->npi", jnp.linalg.inv(linear), off) + shift


def readable(face_crops: FaceCrops) -> FaceCrops:
    """The face crops with pictures in which the oracle reads where it is."""
    line = 3 * np.arange(80, dtype=np.uint8)
    images = np.empty((FACES, 80, 80, 3), np.uint8)
    images[..., 0], images[..., 1] = line[None, None], line[None, :, None]
    images[..., 2] = 50 * np.arange(FACES)[:, None, None]
    return dataclasses.replace(face_crops, images=images)


def oracle_stage(face_crops: FaceCrops, *, error: float) -> Stage:
    """A first stage that is wrong by `error` crop pixels to the right."""
    model = Oracle(face_crops.points, error)
    return Stage(model=model, variables={}, input_size=32, face_crop_size=80, margin=1.5, center=(0.05, -0.05))


def through(face_crops: FaceCrops, *, error: float, draws: int = 3, seed: int = 1, more=()) -> np.ndarray:
    """Second-stage frames behind a first stage that is wrong by `error` crop pixels to the right."""
    return crops.augmented_predicted_transforms(
        oracle_stage(face_crops, error=error),
        readable(face_crops),
        template=TEMPLATE,
        size=48,
        target_size=160,
        augment=(augment.rotation(30.0), augment.translation(0.1), augment.scale(0.1), *more),
        flip=MTFL_5.flip,
        draws=draws,
        seed=seed,
    )


@pytest.mark.parametrize("more", [(), (augment.flip(),)], ids=["upright", "with flips"])
def test_a_perfect_first_stage_gives_the_crops_of_the_annotation(face_crops, more):
    transforms = through(face_crops, error=0.0, more=more)
    assert transforms.shape == (FACES, 3, 2, 3)
    larger = (face_crops.points + 0.5) * 2 - 0.5  # the same face crops at 160 pixels
    expected = geometry.crop_of_shape(larger, TEMPLATE, size=48)
    expected = np.broadcast_to(expected[:, None], transforms.shape)
    np.testing.assert_allclose(transforms[..., :2], expected[..., :2], atol=0.05)  # the oracle reads whole gray levels
    np.testing.assert_allclose(transforms[..., 2], expected[..., 2], atol=1.5)


def test_crops_of_the_faces_as_they_are_are_those_of_the_points_that_the_first_stage_finds(face_crops):
    stage = oracle_stage(face_crops, error=2.0)
    transforms = crops.predicted_transforms(stage, readable(face_crops), template=TEMPLATE, size=48, target_size=160)
    step = 1.5 * (face_crops.boxes[:, 2:] - face_crops.boxes[:, :2]).max(1) / 32  # face crop pixels of a crop pixel
    found = face_crops.points + step[:, None, None] * np.float32([2.0, 0.0])
    expected = geometry.crop_of_shape((found + 0.5) * 2 - 0.5, TEMPLATE, size=48)
    assert transforms.shape == (FACES, 2, 3)
    np.testing.assert_allclose(transforms[..., :2], expected[..., :2], atol=0.05)
    np.testing.assert_allclose(transforms[..., 2], expected[..., 2], atol=1.5)


def test_an_imperfect_first_stage_gives_each_draw_a_crop_of_its_own_all_filled(face_crops):
    transforms = through(face_crops, error=4.0, draws=4)
    assert (np.abs(transforms[..., 0, 0]) > 0).all()
    assert len({tuple(transform.ravel()) for transform in transforms.reshape(-1, 2, 3)}) == FACES * 4
    larger = (face_crops.points + 0.5) * 2 - 0.5
    for face, points in zip(transforms, larger, strict=True):
        seen = crops.points_in_crops(np.broadcast_to(points, (4, 5, 2)).copy(), face)
        off = ((seen + 0.5) / 48 - TEMPLATE).mean(1) * 48  # the error of the first stage, turned by its augmentation
        assert (np.hypot(*off.T) > 1).all()
        assert np.ptp(np.arctan2(off[:, 1], off[:, 0])) > 0.05
