"""The tf.data pipeline: a seed gives the same stream however it is run, each duplicate has its own augmentation, and
the batches are those of the on-device input."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest

from wing_jax import augment
from wing_jax.data.encoded import JpegImages, encode_jpeg
from wing_jax.data.face_crops import FaceCrops
from wing_jax.errors import InputError
from wing_jax.input.on_device import DeviceInput, training_faces
from wing_jax.input.on_host import HostInput, fixed_crops
from wing_jax.input.sampling import EpochSampler
from wing_jax.input.tfdata import training_batches
from wing_jax.schemes import MTFL_5
from wing_jax.types import Batch

SIZE, CROP, FACES = 24, 40, 7
GEOMETRY = (
    augment.aspect_jitter(0.1),
    augment.rotation(20.0),
    augment.scale(0.1),
    augment.flip(),
    augment.translation(0.1),
)
AUGMENT = (*GEOMETRY, augment.blur(0.5), augment.color(0.2), augment.noise(5.0))
ORDER = np.array([0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 6])  # an epoch of eleven faces, with duplicates


def smooth_image(seed: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (CROP, CROP, 3), np.uint8), (0, 0), 2)


@pytest.fixture(scope="module")
def face_crops() -> FaceCrops:
    random = np.random.default_rng(0)
    return FaceCrops(
        images=np.stack([smooth_image(i) for i in range(FACES)]),
        crop_to_image=np.broadcast_to(np.eye(2, 3, dtype=np.float32), (FACES, 2, 3)).copy(),
        boxes=np.broadcast_to(np.float32([10, 10, 30, 30]), (FACES, 4)).copy(),
        points=random.uniform(10, 30, (FACES, 5, 2)).astype(np.float32),
        visible=random.uniform(size=(FACES, 5)) < 0.7,
    )


def make_transforms(crops_per_face: int = 1) -> np.ndarray:
    """Return the transforms of `crops_per_face` crops of each face, each shifted by one more pixel."""
    shift = 5 + np.arange(crops_per_face, dtype=np.float32)
    transforms = np.zeros((FACES, crops_per_face, 2, 3), np.float32)
    transforms[..., 0, 0] = transforms[..., 1, 1] = 1.25
    transforms[..., 2] = shift[None, :, None]
    return transforms


def make_input(face_crops: FaceCrops, **changes) -> HostInput:
    settings = {"order": ORDER, "flip": MTFL_5.flip, "augment": AUGMENT, "size": SIZE, "batch_size": 4, "seed": 3}
    return HostInput(face_crops=face_crops, **({"crop_to_image": make_transforms()} | settings | changes))


def stream(
    face_crops: FaceCrops, *, first_step: int = 0, last_step: int = 9, threads: int = 2, **changes
) -> list[Batch]:
    batches = training_batches(
        make_input(face_crops, **changes), first_step=first_step, last_step=last_step, threads=threads
    )
    return list(batches)


@pytest.fixture(scope="module")
def batches(face_crops) -> list[Batch]:
    """The first nine batches, to compare with."""
    return stream(face_crops)


def assert_same(batches: list[Batch], others: list[Batch]) -> None:
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for name in Batch._fields:
            np.testing.assert_array_equal(getattr(batch, name), getattr(other, name), err_msg=name)


def concatenate(batches: list, name: str) -> np.ndarray:
    return np.concatenate([getattr(batch, name) for batch in batches])


@pytest.mark.slow
def test_types_and_shapes_of_a_batch(batches):
    assert len(batches) == 9
    types = {name: (value.dtype.name, value.shape) for name, value in batches[0]._asdict().items()}
    assert types == {
        "images": ("uint8", (4, SIZE, SIZE, 3)),
        "points": ("float32", (4, 5, 2)),
        "visible": ("bool", (4, 5)),
    }


@pytest.mark.slow
def test_streams_of_one_seed_are_identical_and_of_two_seeds_are_not(face_crops, batches):
    assert_same(stream(face_crops), batches)
    assert (concatenate(batches, "points") != concatenate(stream(face_crops, seed=4), "points")).any()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_has_no_effect(face_crops, batches, threads):
    assert_same(stream(face_crops, threads=threads), batches)


def test_tf_data_gives_the_batches_of_the_host_input(face_crops, batches):
    host_input = make_input(face_crops)
    assert_same([host_input(step) for step in range(9)], batches)


@pytest.mark.slow
def test_processes_that_share_a_batch_get_its_parts(face_crops, batches):
    parts = [list(training_batches(make_input(face_crops), last_step=9, part=part, parts=2)) for part in range(2)]
    joined = [Batch(*map(np.concatenate, zip(*pair, strict=True))) for pair in zip(*parts, strict=True)]
    assert_same(joined, batches)


def test_face_crops_stored_as_jpeg_make_nearly_the_same_batches(face_crops, batches):
    images = JpegImages([encode_jpeg(image) for image in face_crops.images], CROP, CROP)
    for batch, expected in zip(stream(dataclasses.replace(face_crops, images=images)), batches, strict=True):
        np.testing.assert_array_equal(batch.points, expected.points)
        assert np.abs(batch.images.astype(int) - expected.images).mean() < 3


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 3, 8])
def test_a_stream_from_a_later_step_has_the_same_batches(face_crops, batches, first):
    assert_same(stream(face_crops, first_step=first), batches[first:])


def test_a_stream_from_after_the_last_step_is_empty(face_crops):
    assert stream(face_crops, first_step=9) == []


@pytest.mark.parametrize("batch_size", [3, 11, 25])
def test_every_epoch_has_each_face_as_often_as_the_order(face_crops, batch_size):
    steps = -(-44 // batch_size)
    host_input = make_input(face_crops, batch_size=batch_size)
    index = np.concatenate([host_input.indices(step).index for step in range(steps)])
    epochs = [index[i : i + 11] for i in range(0, 44, 11)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), ORDER)
    assert any((epoch != epochs[0]).any() for epoch in epochs[1:])


@pytest.mark.slow
def test_the_stream_does_not_depend_on_the_batch_size(face_crops, batches):
    twos = stream(face_crops, batch_size=2, last_step=18)
    for name in Batch._fields:
        np.testing.assert_array_equal(concatenate(twos, name), concatenate(batches, name))


@pytest.mark.slow
def test_each_duplicate_has_its_own_augmentation_within_and_between_epochs(face_crops):
    host_input = make_input(face_crops, batch_size=11)
    cuts = [host_input.cut(step) for step in range(6)]
    transforms = [cut.crop_to_image[cut.index == 1] for cut in cuts]
    assert [len(of_step) for of_step in transforms] == [3] * 6
    different = {tuple(transform.ravel()) for transform in np.concatenate(transforms)}
    assert len(different) == 18
    crops = np.concatenate([cut.batch.images[cut.index == 1] for cut in cuts]).astype(int)
    differences = [np.abs(a - b).mean() for i, a in enumerate(crops) for b in crops[:i]]
    assert min(differences) > 1


def test_points_and_visibility_match_the_transform_and_the_flip(face_crops):
    flips, host_input = 0, make_input(face_crops)
    for batch, indices, transforms, mirrored in map(host_input.cut, range(9)):
        for points, visible, index, transform, is_mirrored in zip(
            batch.points, batch.visible, indices, transforms, mirrored, strict=True
        ):
            has_reflection = np.linalg.det(transform[:, :2]) < 0
            assert has_reflection == is_mirrored
            flips += has_reflection
            order = MTFL_5.flip if has_reflection else np.arange(5)
            in_face_crop = points @ transform[:, :2].T + transform[:, 2]
            np.testing.assert_allclose(in_face_crop, face_crops.points[index][order], atol=1e-3)
            np.testing.assert_array_equal(visible, face_crops.visible[index][order])
    assert 6 < flips < 30


def test_without_augmentation_the_stream_has_the_fixed_crops(face_crops):
    images, points, visible = fixed_crops(face_crops, make_transforms()[:, 0], size=SIZE)
    host_input = make_input(face_crops, augment=())
    for step, batch in enumerate(stream(face_crops, augment=())):
        index = host_input.indices(step).index
        np.testing.assert_allclose(batch.images.astype(int), images[index], atol=1)
        np.testing.assert_allclose(batch.points, points[index], atol=1e-3)
        np.testing.assert_array_equal(batch.visible, visible[index])
    reference = cv2.warpAffine(
        face_crops.images[2], make_transforms()[2, 0], (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    assert np.abs(images[2].astype(int) - reference).mean() < 1
    np.testing.assert_allclose(points, (face_crops.points - 5) / 1.25, atol=1e-4)


def test_each_of_several_crops_of_a_face_is_drawn_about_equally_often(face_crops):
    host_input = make_input(face_crops, crop_to_image=make_transforms(4), augment=(), batch_size=25)
    chosen = np.concatenate([host_input.cut(step).crop_to_image for step in range(24)])[:, 0, 2] - 5
    assert set(chosen.tolist()) == {0, 1, 2, 3}
    counts = np.bincount(chosen.astype(int))
    assert np.abs(counts - 150).max() < 45  # four standard deviations
    assert len({tuple(epoch) for epoch in chosen[:594].reshape(54, 11)}) > 50


def host_and_device_batches(face_crops: FaceCrops, host: HostInput, steps: int) -> list[tuple[Batch, Batch]]:
    """Return the batches of the host input, and of the on-device input with the same settings."""
    settings = {"augment": host.augment, "size": SIZE, "batch_size": host.batch_size, "seed": host.seed}
    device = DeviceInput(image_size=face_crops.size, supersample=1, **settings)
    faces = training_faces(face_crops, host.crop_to_image, order=host.order, flip=host.flip)
    sampler, make = EpochSampler(host.order, batch_size=host.batch_size, seed=host.seed), jax.jit(device.batch)
    indices = jax.device_get(sampler(0, steps))
    pairs = []
    for step in range(steps):
        np.testing.assert_array_equal(host.indices(step).index, indices.index[step])
        batch = make(jax.device_put(faces), jax.tree.map(lambda x, step=step: x[step], indices))
        pairs.append((host(step), jax.device_get(batch)))
    return pairs


# Augmentations, and the largest mean and maximum difference in gray levels on smooth images. Both inputs round once in
# the warp. Then the host rounds after each augmentation, and the device at the end: color multiplies rounded values by
# up to 1.2 * 1.2, and downscaling rounds twice. JPEG amplifies a difference of one level to a step of its quantization.
TOLERANCES = {
    "none": ((), 0.01, 1),
    "geometry": (GEOMETRY, 0.01, 1),
    "pixels": ((*AUGMENT, augment.downscale(1.0)), 0.4, 3),
    "occlusion": ((*AUGMENT, augment.occlusion(0.5)), 0.5, 3),
    "jpeg": ((*AUGMENT, augment.jpeg(0.5)), 1.5, 50),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "crops_per_face"), [("none", 1), ("geometry", 3), ("pixels", 1), ("occlusion", 3), ("jpeg", 1)]
)
def test_both_inputs_make_the_same_batches(face_crops, kind, crops_per_face):
    augmentations, mean, maximum = TOLERANCES[kind]
    host_input = make_input(face_crops, augment=augmentations, crop_to_image=make_transforms(crops_per_face))
    for host, device in host_and_device_batches(face_crops, host_input, 6):
        np.testing.assert_allclose(host.points, device.points, atol=1e-4)
        np.testing.assert_array_equal(host.visible, device.visible)
        difference = np.abs(host.images.astype(int) - device.images)
        assert difference.mean() < mean
        assert difference.max() <= maximum


def test_two_augmentations_of_the_same_name_are_refused_by_both_inputs(face_crops):
    duplicates = (augment.rotation(20.0), augment.rotation(10.0))
    with pytest.raises(InputError, match="two augmentations are called 'rotation'"):
        make_input(face_crops, augment=duplicates)
    with pytest.raises(InputError, match="two augmentations are called 'rotation'"):
        DeviceInput(augment=duplicates, size=SIZE, image_size=1, batch_size=4, supersample=1, seed=0)
