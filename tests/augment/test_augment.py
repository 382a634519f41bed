"""Augmentations: one matrix for image and points, samples within their limits, independent random numbers per name."""

import dataclasses
import pickle

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.dots import COLORS, PLACES, SIZE, dot_near, dotted, keys_of, plain_transforms
from wing_jax import augment
from wing_jax.augment.augmentation import AUGMENTATIONS, Augmentation, make_augmentation, mirrored
from wing_jax.augment.geometric import augmented_transforms, points_in_crop, supersampling
from wing_jax.augment.operations import gaussian_taps
from wing_jax.config import AugmentConfig
from wing_jax.errors import InputError
from wing_jax.from_config.augment import augmentations_of
from wing_jax.input.on_host import cut_crops
from wing_jax.schemes import MTFL_5

FLIP = 2600395861  # CRC-32 of "flip"
HARD = AugmentConfig(
    rotation=40.0,
    translation=0.1,
    scale=0.2,
    aspect=0.15,
    flip=0.5,
    blur=0.5,
    downscale=1.0,
    color=0.3,
    noise=9.0,
    occlusion=0.5,
    jpeg=0.5,
)


@pytest.mark.slow
def test_points_stay_on_the_dots_drawn_at_them():
    augmentations = augmentations_of(HARD)
    params = augment.sample_params(augmentations, keys_of(40))
    matrices = augment.apply_geometry(augmentations, params, count=40)
    transforms = np.asarray(augmented_transforms(plain_transforms(40), matrices, size=SIZE))
    face_crops = dotted(*PLACES)[None].repeat(40, 0)
    crops = cut_crops(face_crops, np.arange(40), transforms, size=SIZE)
    flipped = np.asarray(mirrored(matrices))
    np.testing.assert_array_equal(flipped, params["flip"])
    points, _ = points_in_crop(PLACES[None].repeat(40, 0), np.ones((40, 5), bool), transforms, flipped, MTFL_5.flip)
    assert 5 < flipped.sum() < 35
    for crop, places, mirror in zip(crops, np.asarray(points), flipped, strict=True):
        for i, place in enumerate(places):
            center, color = dot_near(crop, place, reach=6)
            np.testing.assert_allclose(center, place, atol=0.1)
            name = MTFL_5.flip[i] if mirror else i  # a mirrored left eye is drawn where the right eye was
            np.testing.assert_allclose(color, COLORS[name] / COLORS[name].sum(), atol=0.01)
    eyes = points[:, MTFL_5.right_eye[0], 0] - points[:, MTFL_5.left_eye[0], 0]
    assert (eyes > 0).all()  # left stays left, flipped or not


def moved(pixel, **params) -> np.ndarray:
    """Return the position of `pixel` of a crop of 101 pixels after geometric augmentations with these parameters."""
    augmentations = {
        "aspect_jitter": augment.aspect_jitter(0.5),
        "rotation": augment.rotation(90),
        "scale": augment.scale(0.9),
        "flip": augment.flip(),
        "translation": augment.translation(1),
    }
    used = [augmentations[name] for name in augmentations if name in params]
    arrays = {
        name: jnp.asarray(np.array([value], bool if name == "flip" else np.float32)) for name, value in params.items()
    }
    matrices = augment.apply_geometry(used, arrays, count=1)
    identity = np.eye(2, 3, dtype=np.float32)[None]
    transform = np.asarray(augmented_transforms(identity, matrices, size=101))[0]
    return np.linalg.solve(transform[:, :2], np.subtract(pixel, transform[:, 2]))


@pytest.mark.slow
def test_each_matrix_moves_a_pixel_as_expected():
    np.testing.assert_allclose(moved((10, 20)), (10, 20), atol=1e-5)
    np.testing.assert_allclose(moved((10, 20), flip=True), (90, 20), atol=1e-4)
    np.testing.assert_allclose(moved((60, 50), rotation=90.0), (50, 60), atol=1e-4)  # x towards y
    np.testing.assert_allclose(moved((60, 50), scale=2.0), (70, 50), atol=1e-4)
    np.testing.assert_allclose(moved((60, 50), translation=(0.1, -0.2)), (70.1, 29.8), atol=1e-4)
    np.testing.assert_allclose(moved((60, 70), aspect_jitter=2.0), (70, 60), atol=1e-4)  # wider and shorter
    np.testing.assert_allclose(moved((60, 70), aspect_jitter=2.0, rotation=90.0), (40, 70), atol=1e-4)  # then rotated
    combined = moved((60, 50), flip=True, rotation=30.0, scale=2.0, translation=(0.1, 0.0))
    x, y = cv2.getRotationMatrix2D((50, 50), -30.0, 2.0) @ (60, 50, 1)  # OpenCV counts y towards x
    np.testing.assert_allclose(combined, (100 - x + 10.1, y), atol=1e-3)


@pytest.mark.slow
def test_samples_fill_their_range():
    augmentations = augmentations_of(HARD)
    samples = jax.device_get(jax.jit(lambda keys: augment.sample_params(augmentations, keys))(keys_of(4000)))

    def spans(values, low, high):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high >= values.max() > high - 0.05 * (high - low)

    spans(samples["rotation"], -40, 40)
    spans(samples["scale"], 0.8, 1.2)
    spans(samples["aspect_jitter"], 0.85, 1.15)
    spans(samples["translation"], -0.1, 0.1)
    spans(samples["color"].contrast, 0.7, 1.3)
    spans(samples["noise"].deviation, 0, 9)
    spans(samples["occlusion"].shade, 0, 255)
    spans(samples["downscale"], 0.5, 1)
    assert abs(samples["color"].gain - 1).max() <= 0.3
    assert abs(samples["flip"].mean() - 0.5) < 0.04
    assert abs(samples["blur"].mean() - 0.5) < 0.04
    box = samples["occlusion"].box
    sides = box[:, 2:] - box[:, :2]
    shown = (sides > 0).all(1)
    assert abs(shown.mean() - 0.5) < 0.04
    spans(sides[shown], 0, 0.4)
    assert box.min() >= 0
    assert box.max() <= 1
    quality = samples["jpeg"]
    assert abs((quality < 100).mean() - 0.5) < 0.04
    assert set(quality[quality < 100].tolist()) == set(map(float, range(20, 91)))
    single = [samples[name] for name in ("rotation", "scale", "aspect_jitter", "downscale")]
    more = (samples["color"].contrast, samples["noise"].deviation, samples["occlusion"].shade)
    numbers = np.stack([*single, *more, *samples["translation"].T])
    off_diagonal = np.corrcoef(numbers) - np.eye(len(numbers))
    assert np.abs(off_diagonal).max() < 0.08  # sampled independently


@pytest.mark.slow
def test_an_augmentation_does_not_change_the_numbers_of_others():
    all_params = augment.sample_params(augmentations_of(HARD), keys_of(40))
    assert list(all_params) == [augmentation.name for augmentation in augmentations_of(HARD)]
    for removed in all_params:
        rest = [augmentation for augmentation in reversed(augmentations_of(HARD)) if augmentation.name != removed]
        fewer = augment.sample_params(rest, keys_of(40))
        assert fewer.keys() == all_params.keys() - {removed}
        for name, params in fewer.items():
            for value, expected in zip(jax.tree.leaves(params), jax.tree.leaves(all_params[name]), strict=True):
                np.testing.assert_array_equal(value, expected)


@pytest.mark.slow
def test_samples_do_not_depend_on_the_batch_or_process():
    augmentations, keys = augmentations_of(HARD), keys_of(40)
    all_params, alone = augment.sample_params(augmentations, keys), augment.sample_params(augmentations, keys[5:6])
    for value, expected in zip(jax.tree.leaves(all_params), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(value[5:6], expected)
    key = jax.random.fold_in(keys[2], FLIP)
    assert bool(all_params["flip"][2]) == bool(jax.random.uniform(key) < 0.5)


def test_augmentations_can_be_pickled_and_hashed():
    augmentation = augment.rotation(20)
    assert repr(augmentation) == "<Augmentation 'rotation' on geometry>"
    copy = pickle.loads(pickle.dumps(augmentation))
    np.testing.assert_array_equal(copy.sample(jax.random.key(0)), augmentation.sample(jax.random.key(0)))
    assert len({augmentation, augmentation, augment.flip()}) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.rotation(400), "degrees=400 must be between 0 and 360"),
        (lambda: augment.scale(1.5), r"fraction=1\.5 must be between 0 and 0\.9"),
        (lambda: augment.translation(-0.1), r"fraction=-0\.1 must be"),
        (lambda: augment.flip(probability=3), "probability=3 must be between 0 and 1"),
        (lambda: augment.blur(0.5, sigma=0), "sigma=0 must be"),
        (lambda: augment.jpeg(float("nan")), "probability=nan must be between 0 and 1"),
        (lambda: make_augmentation("rotate", degrees=3), "no augmentation is called 'rotate': did you mean rotation"),
        (lambda: make_augmentation("rotation", degrees=3, angle=3), "augmentation 'rotation': .*'angle'"),
        (lambda: make_augmentation("rotation"), "augmentation 'rotation': .*'degrees'"),
        (lambda: make_augmentation("rotation", degrees=400), "augmentation 'rotation': degrees=400 must be"),
        (lambda: dataclasses.replace(augment.flip(), name=""), "pass a non-empty name"),
        (lambda: dataclasses.replace(augment.flip(), on="points"), "'points' of the augmentation 'flip': use geometry"),
        (
            lambda: augmentations_of(dataclasses.replace(HARD, extra={"flip": {}})),
            "two augmentations are called 'flip'",
        ),
        (lambda: augmentations_of(dataclasses.replace(HARD, extra={"smear": {}})), "no augmentation is called 'smear'"),
    ],
)
def test_invalid_arguments_raise(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_all_factories_are_registered():
    geometric = {"rotation", "translation", "scale", "aspect_jitter", "flip"}
    assert set(AUGMENTATIONS) >= geometric | {"blur", "downscale", "color", "noise", "occlusion", "jpeg"}
    for name in geometric:
        assert AUGMENTATIONS[name] is getattr(augment, name)


def test_nonzero_config_fields_become_augmentations_in_order():
    names = [augmentation.name for augmentation in augmentations_of(HARD)]
    assert names == [
        "aspect_jitter", "rotation", "scale", "flip", "translation",
        "blur", "downscale", "color", "noise", "occlusion", "jpeg",
    ]  # fmt: skip
    still = AugmentConfig(rotation=0.0, translation=0.0, scale=0.0, flip=0.0, blur=0.0)
    assert augmentations_of(still) == ()
    extra = augmentations_of(dataclasses.replace(still, extra={"rotation": {"degrees": 5.0}}))
    assert [type(augmentation) for augmentation in extra] == [Augmentation]


def test_visibility_is_mirrored_with_the_points():
    visible = np.array([[True, False, True, False, True]] * 2)
    flip = np.array([False, True])
    _, mirrored_visible = points_in_crop(PLACES[None].repeat(2, 0), visible, plain_transforms(2), flip, MTFL_5.flip)
    np.testing.assert_array_equal(mirrored_visible[0], visible[0])
    np.testing.assert_array_equal(mirrored_visible[1], visible[1][MTFL_5.flip])


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.3])
def test_gaussian_taps_match_opencv(sigma):
    width = 2 * int(np.ceil(3 * sigma)) + 1
    np.testing.assert_allclose(gaussian_taps(sigma), cv2.getGaussianKernel(width, sigma)[:, 0], atol=1e-6)


@pytest.mark.parametrize(("step", "samples"), [(0.4, 1), (1.0, 1), (1.25, 1), (1.7, 2), (3.2, 3)])
def test_crops_that_shrink_their_source_are_supersampled(step, samples):
    assert supersampling(np.float32([[[0, -step, 3], [step, 0, 4]]])) == samples


@pytest.mark.parametrize(
    ("on", "apply", "message"),
    [
        ("geometry", lambda matrices, sample: matrices[:, :, :2], r"matrices \[2, 2, 2\] for \[2, 2, 3\]"),
        ("pixels", lambda images, sample: images.mean(-1), r"images \[2, 4, 4\] for \[2, 4, 4, 3\]"),
    ],
)
def test_an_augmentation_that_changes_the_shape_is_an_error(on, apply, message, unchecked):
    mine = Augmentation(name="mine", on=on, sample=jax.random.uniform, apply=apply)
    params = augment.sample_params([mine], jax.random.split(jax.random.key(0), 2))
    apply_all = {
        "geometry": lambda: augment.apply_geometry([mine], params, count=2),
        "pixels": lambda: augment.apply_pixels([mine], jnp.zeros((2, 4, 4, 3)), params),
    }[on]
    with pytest.raises(InputError, match=f"augmentation 'mine': apply returned {message}: return the same shape"):
        apply_all()
