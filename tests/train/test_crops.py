"""The crops of both stages before augmentation, the mean shape, and second-stage crops from a first stage's points."""

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
    # Face crop pixels per crop pixel: a face crop spans 2 box sides, a crop spans `margin` of them.
    assert abs((size / 2.0) / (64 / 1.3) - crops.FACE_CROP_STEP) < 0.01


def test_points_in_crops_inverts_the_transforms_of_box_crops(face_crops):
    transforms = geometry.crop_of_box(face_crops.boxes, size=32, margin=1.5)
    in_crop = crops.points_in_crops(face_crops.points, transforms)
    sides = (face_crops.boxes[:, 2:] - face_crops.boxes[:, :2]).max(1)
    centers = (face_crops.boxes[:, :2] + face_crops.boxes[:, 2:]) / 2
    expected = (face_crops.points - centers[:, None]) / (1.5 * sides[:, None, None]) * 32 + 15.5
    np.testing.assert_allclose(in_crop, expected, atol=1e-4)
    in_face_crop = np.einsum("nij,npj->npi", transforms[..., :2], in_crop) + transforms[:, None, :, 2]
    np.testing.assert_allclose(in_face_crop, face_crops.points, atol=1e-4)


def test_center_corrects_boxes_that_are_shifted_from_the_faces(face_crops):
    sides = (face_crops.boxes[:, 2:] - face_crops.boxes[:, :2]).max(1)[:, None]
    assert shape_in_box(face_crops).center == pytest.approx((0, 0), abs=2e-2)
    offset = sides * np.float32([0.2, -0.1, 0.2, -0.1])
    shifted = dataclasses.replace(face_crops, boxes=face_crops.boxes + offset)
    centers = [shape_in_box(faces).center for faces in (shifted, face_crops)]
    np.testing.assert_allclose(np.subtract(*centers), [-0.2, 0.1], atol=2e-4)
    transforms = geometry.crop_of_box(shifted.boxes, size=32, margin=1.5, center=(-0.2, 0.1))
    np.testing.assert_allclose(transforms, geometry.crop_of_box(face_crops.boxes, size=32, margin=1.5), atol=1e-4)


def test_shape_in_box_is_in_fractions_of_the_box_side(face_crops):
    """The template is 0.4 wide and high, in boxes of side 0.8 from 0.2 on: half a side, its center up and left."""
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


def test_the_template_fills_its_crop_up_to_the_margin():
    template = crops.template_of(TEMPLATE * 3 + 7, margin=1.25)
    low, high = template.min(0), template.max(0)
    np.testing.assert_allclose((high - low).max(), 1 / 1.25, atol=1e-6)
    np.testing.assert_allclose((low + high) / 2, 0.5, atol=1e-6)


def test_in_second_stage_crops_every_face_is_on_the_template(face_crops):
    transforms = geometry.crop_of_shape(face_crops.points, TEMPLATE, size=48)
    in_crop = crops.points_in_crops(face_crops.points, transforms)
    np.testing.assert_allclose((in_crop + 0.5) / 48, np.broadcast_to(TEMPLATE, in_crop.shape), atol=1e-4)


class Oracle(nn.Module):
    """A network that predicts the annotated points, shifted by `error` crop pixels to the right.

    It reads the crop's position from the pixels (red and green are three times x and y) and the face's index (blue).
    """

    points: np.ndarray  # of all faces, pixels of the face crop
    error: float

    def __call__(self, images, *, train):
        middle = images[:, 10:22, 10:22].astype(jnp.float32)
        offsets = jnp.arange(-5.5, 6.0)
        slopes = [jnp.einsum("nyxc,x->nc", middle, offsets), jnp.einsum("nyxc,y->nc", middle, offsets)]
        linear = jnp.stack(slopes, -1)[:, :2] / (12 * (offsets**2).sum()) / 3
        mean = middle.mean((1, 2))
        faces = jnp.round(mean[:, 2] / 50).astype(jnp.int32)
        mirror = jnp.linalg.det(linear) < 0
        shapes = jnp.asarray(self.points)[faces]
        shapes = jnp.where(mirror[:, None, None], shapes[:, MTFL_5.flip], shapes)
        relative = shapes - mean[:, None, :2] / 3
        shift = 15.5 + jnp.array([[[self.error, 0.0]]])
        return jnp.einsum("nij,npj->npi", jnp.linalg.inv(linear), relative) + shift


def with_oracle_images(face_crops: FaceCrops) -> FaceCrops:
    """Return the face crops with images that encode positions for the oracle."""
    ramp = 3 * np.arange(80, dtype=np.uint8)
    images = np.empty((FACES, 80, 80, 3), np.uint8)
    images[..., 0], images[..., 1] = ramp[None, None], ramp[None, :, None]
    images[..., 2] = 50 * np.arange(FACES)[:, None, None]
    return dataclasses.replace(face_crops, images=images)


def oracle_stage(face_crops: FaceCrops, *, error: float) -> Stage:
    """Return a first stage whose points are `error` crop pixels too far to the right."""
    model = Oracle(face_crops.points, error)
    return Stage(model=model, variables={}, input_size=32, face_crop_size=80, margin=1.5, center=(0.05, -0.05))


def augmented_transforms(
    face_crops: FaceCrops, *, error: float, crops_per_face: int = 3, seed: int = 1, extra=()
) -> np.ndarray:
    """Return the transforms of second-stage crops from the oracle's points on augmented crops."""
    return crops.augmented_predicted_transforms(
        oracle_stage(face_crops, error=error),
        with_oracle_images(face_crops),
        template=TEMPLATE,
        size=48,
        target_size=160,
        augment=(augment.rotation(30.0), augment.translation(0.1), augment.scale(0.1), *extra),
        flip=MTFL_5.flip,
        crops_per_face=crops_per_face,
        seed=seed,
    )


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), (augment.flip(),)], ids=["upright", "with flips"])
def test_a_perfect_first_stage_gives_the_crops_of_the_annotation(face_crops, extra):
    transforms = augmented_transforms(face_crops, error=0.0, extra=extra)
    assert transforms.shape == (FACES, 3, 2, 3)
    larger = (face_crops.points + 0.5) * 2 - 0.5  # the same face crops at 160 pixels
    expected = geometry.crop_of_shape(larger, TEMPLATE, size=48)
    expected = np.broadcast_to(expected[:, None], transforms.shape)
    np.testing.assert_allclose(transforms[..., :2], expected[..., :2], atol=0.05)  # the oracle reads whole gray levels
    np.testing.assert_allclose(transforms[..., 2], expected[..., 2], atol=1.5)


def test_crops_without_augmentation_are_those_of_the_predicted_points(face_crops):
    stage, images = oracle_stage(face_crops, error=2.0), with_oracle_images(face_crops)
    transforms = crops.predicted_transforms(stage, images, template=TEMPLATE, size=48, target_size=160)
    scale = 1.5 * (face_crops.boxes[:, 2:] - face_crops.boxes[:, :2]).max(1) / 32  # face crop pixels per crop pixel
    predicted = face_crops.points + scale[:, None, None] * np.float32([2.0, 0.0])
    expected = geometry.crop_of_shape((predicted + 0.5) * 2 - 0.5, TEMPLATE, size=48)
    assert transforms.shape == (FACES, 2, 3)
    np.testing.assert_allclose(transforms[..., :2], expected[..., :2], atol=0.05)
    np.testing.assert_allclose(transforms[..., 2], expected[..., 2], atol=1.5)


@pytest.mark.slow
def test_an_imperfect_first_stage_gives_every_draw_a_different_crop(face_crops):
    transforms = augmented_transforms(face_crops, error=4.0, crops_per_face=4)
    assert (np.abs(transforms[..., 0, 0]) > 0).all()
    assert len({tuple(transform.ravel()) for transform in transforms.reshape(-1, 2, 3)}) == FACES * 4
    larger = (face_crops.points + 0.5) * 2 - 0.5
    for face, points in zip(transforms, larger, strict=True):
        in_crop = crops.points_in_crops(np.broadcast_to(points, (4, 5, 2)).copy(), face)
        error = ((in_crop + 0.5) / 48 - TEMPLATE).mean(1) * 48  # the first stage's error, rotated by the augmentation
        assert (np.hypot(*error.T) > 1).all()
        assert np.ptp(np.arctan2(error[:, 1], error[:, 0])) > 0.05
