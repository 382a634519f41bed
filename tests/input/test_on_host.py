"""The tf.data pipeline: the same stream for one seed however it is run, each duplicate augmented anew, and the same
training as the input on the device."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest

from wing_jax import augment
from wing_jax.data.encoded import JpegImages, encoded
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
ORDER = np.array([0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 6])  # an epoch of eleven faces, some twice and thrice


def smooth(seed: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (CROP, CROP, 3), np.uint8), (0, 0), 2)


@pytest.fixture(scope="module")
def face_crops() -> FaceCrops:
    draws = np.random.default_rng(0)
    return FaceCrops(
        images=np.stack([smooth(i) for i in range(FACES)]),
        crop_to_image=np.broadcast_to(np.eye(2, 3, dtype=np.float32), (FACES, 2, 3)).copy(),
        boxes=np.broadcast_to(np.float32([10, 10, 30, 30]), (FACES, 4)).copy(),
        points=draws.uniform(10, 30, (FACES, 5, 2)).astype(np.float32),
        visible=draws.uniform(size=(FACES, 5)) < 0.7,
    )


def transforms(draws: int = 1) -> np.ndarray:
    """`draws` crops of each face, told apart by where they lie."""
    shift = 5 + np.arange(draws, dtype=np.float32)
    placed = np.zeros((FACES, draws, 2, 3), np.float32)
    placed[..., 0, 0] = placed[..., 1, 1] = 1.25
    placed[..., 2] = shift[None, :, None]
    return placed


def source(face_crops: FaceCrops, **changes) -> HostInput:
    settings = {"order": ORDER, "flip": MTFL_5.flip, "augment": AUGMENT, "size": SIZE, "batch_size": 4, "seed": 3}
    return HostInput(face_crops=face_crops, **({"crop_to_image": transforms()} | settings | changes))


def stream(
    face_crops: FaceCrops, *, first_step: int = 0, last_step: int = 9, threads: int = 2, **changes
) -> list[Batch]:
    batches = training_batches(
        source(face_crops, **changes), first_step=first_step, last_step=last_step, threads=threads
    )
    return list(batches)


@pytest.fixture(scope="module")
def whole(face_crops) -> list[Batch]:
    """The nine batches that all changes are compared with."""
    return stream(face_crops)


def assert_same(batches: list[Batch], others: list[Batch]) -> None:
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for name in Batch._fields:
            np.testing.assert_array_equal(getattr(batch, name), getattr(other, name), err_msg=name)


def joined(batches: list, name: str) -> np.ndarray:
    return np.concatenate([getattr(batch, name) for batch in batches])


def test_a_batch_is_as_promised(whole):
    assert len(whole) == 9
    kinds = {name: (value.dtype.name, value.shape) for name, value in whole[0]._asdict().items()}
    assert kinds == {
        "images": ("uint8", (4, SIZE, SIZE, 3)),
        "points": ("float32", (4, 5, 2)),
        "visible": ("bool", (4, 5)),
    }


def test_two_streams_of_one_seed_are_identical_and_of_two_seeds_are_not(face_crops, whole):
    assert_same(stream(face_crops), whole)
    assert (joined(whole, "points") != joined(stream(face_crops, seed=4), "points")).any()


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_nothing(face_crops, whole, threads):
    assert_same(stream(face_crops, threads=threads), whole)


def test_tf_data_gives_what_the_host_input_makes(face_crops, whole):
    cut = source(face_crops)
    assert_same([cut(step) for step in range(9)], whole)


def test_processes_that_share_a_batch_cut_its_parts(face_crops, whole):
    parts = [list(training_batches(source(face_crops), last_step=9, part=part, parts=2)) for part in range(2)]
    together = [Batch(*map(np.concatenate, zip(one, two, strict=True))) for one, two in zip(*parts, strict=True)]
    assert_same(together, whole)


def test_face_crops_held_as_jpeg_make_nearly_the_same_batches(face_crops, whole):
    held = JpegImages([encoded(image) for image in face_crops.images], CROP, CROP)
    for batch, other in zip(stream(dataclasses.replace(face_crops, images=held)), whole, strict=True):
        np.testing.assert_array_equal(batch.points, other.points)
        assert np.abs(batch.images.astype(int) - other.images).mean() < 3


@pytest.mark.parametrize("first", [1, 3, 8])
def test_a_stream_started_at_a_step_goes_on_as_the_whole_one(face_crops, whole, first):
    assert_same(stream(face_crops, first_step=first), whole[first:])


def test_nothing_is_left_to_give_after_the_last_step(face_crops):
    assert stream(face_crops, first_step=9) == []


@pytest.mark.parametrize("batch_size", [3, 11, 25])
def test_every_epoch_shows_each_face_as_often_as_listed(face_crops, batch_size):
    steps = -(-44 // batch_size)
    made = source(face_crops, batch_size=batch_size)
    shown = np.concatenate([made.indices(step).index for step in range(steps)])
    epochs = [shown[i : i + 11] for i in range(0, 44, 11)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), ORDER)
    assert any((epoch != epochs[0]).any() for epoch in epochs[1:])


def test_the_stream_does_not_depend_on_how_it_is_batched(face_crops, whole):
    twos = stream(face_crops, batch_size=2, last_step=18)
    for name in Batch._fields:
        np.testing.assert_array_equal(joined(twos, name), joined(whole, name))


def test_each_duplicate_is_augmented_anew_within_and_between_epochs(face_crops):
    made = source(face_crops, batch_size=11)
    cuts = [made.cut(step) for step in range(6)]
    placed = [cut.crop_to_image[cut.index == 1] for cut in cuts]
    assert [len(each) for each in placed] == [3] * 6
    different = {tuple(transform.ravel()) for transform in np.concatenate(placed)}
    assert len(different) == 18
    crops = np.concatenate([cut.batch.images[cut.index == 1] for cut in cuts]).astype(int)
    apart = [np.abs(a - b).mean() for i, a in enumerate(crops) for b in crops[:i]]
    assert min(apart) > 1


def test_points_and_visibility_follow_frame_and_flip(face_crops):
    flips, made = 0, source(face_crops)
    for batch, indices, transforms, mirrors in map(made.cut, range(9)):
        for points, visible, index, transform, mirror in zip(
            batch.points, batch.visible, indices, transforms, mirrors, strict=True
        ):
            mirrored = np.linalg.det(transform[:, :2]) < 0
            assert mirrored == mirror
            flips += mirrored
            names = MTFL_5.flip if mirrored else np.arange(5)
            in_face_crop = points @ transform[:, :2].T + transform[:, 2]
            np.testing.assert_allclose(in_face_crop, face_crops.points[index][names], atol=1e-3)
            np.testing.assert_array_equal(visible, face_crops.visible[index][names])
    assert 6 < flips < 30


def test_without_augmentation_the_stream_shows_the_fixed_crops(face_crops):
    images, points, visible = fixed_crops(face_crops, transforms()[:, 0], size=SIZE)
    made = source(face_crops, augment=())
    for step, batch in enumerate(stream(face_crops, augment=())):
        index = made.indices(step).index
        np.testing.assert_allclose(batch.images.astype(int), images[index], atol=1)
        np.testing.assert_allclose(batch.points, points[index], atol=1e-3)
        np.testing.assert_array_equal(batch.visible, visible[index])
    reference = cv2.warpAffine(
        face_crops.images[2], transforms()[2, 0], (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    assert np.abs(images[2].astype(int) - reference).mean() < 1
    np.testing.assert_allclose(points, (face_crops.points - 5) / 1.25, atol=1e-4)


def test_of_several_crops_of_a_face_each_is_drawn_about_as_often(face_crops):
    made = source(face_crops, crop_to_image=transforms(4), augment=(), batch_size=25)
    drawn = np.concatenate([made.cut(step).crop_to_image for step in range(24)])[:, 0, 2] - 5
    assert set(drawn.tolist()) == {0, 1, 2, 3}
    counts = np.bincount(drawn.astype(int))
    assert np.abs(counts - 150).max() < 45  # four standard deviations
    assert len({tuple(epoch) for epoch in drawn[:594].reshape(54, 11)}) > 50


def both(face_crops: FaceCrops, made: HostInput, steps: int) -> list[tuple[Batch, Batch]]:
    """Batches of the host input and of the device's, from the same numbers."""
    device = DeviceInput(augment=made.augment, size=SIZE, batch_size=made.batch_size, supersample=1, seed=made.seed)
    faces = training_faces(face_crops, made.crop_to_image, order=made.order, flip=made.flip)
    sampler, make = EpochSampler(made.order, batch_size=made.batch_size, seed=made.seed), jax.jit(device.batch)
    indices = jax.device_get(sampler(0, steps))
    pairs = []
    for step in range(steps):
        np.testing.assert_array_equal(made.indices(step).index, indices.index[step])
        batch = make(jax.device_put(faces), jax.tree.map(lambda x, step=step: x[step], indices))
        pairs.append((made(step), jax.device_get(batch)))
    return pairs


# Gray levels, the mean of a batch and the most, on smooth images. The warp alone rounds once by either. Then the host
# rounds after each augmentation and the device at the end: color multiplies what was rounded by up to 1.2 * 1.2, and
# lower resolution is rounded twice. JPEG makes a step of its tables of a difference of one level.
APART = {
    "none": ((), 0.01, 1),
    "geometry": (GEOMETRY, 0.01, 1),
    "pixels": ((*AUGMENT, augment.downscale(1.0)), 0.4, 3),
    "occlusion": ((*AUGMENT, augment.occlusion(0.5)), 0.5, 3),
    "jpeg": ((*AUGMENT, augment.jpeg(0.5)), 1.5, 50),
}


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("kind", APART)
def test_both_inputs_make_one_batch(face_crops, kind, draws):
    augmentations, mean, most = APART[kind]
    for host, device in both(face_crops, source(face_crops, augment=augmentations, crop_to_image=transforms(draws)), 6):
        np.testing.assert_allclose(host.points, device.points, atol=1e-4)
        np.testing.assert_array_equal(host.visible, device.visible)
        apart = np.abs(host.images.astype(int) - device.images)
        assert apart.mean() < mean
        assert apart.max() <= most


def test_two_augmentations_of_one_name_are_refused_by_both(face_crops):
    twice = (augment.rotation(20.0), augment.rotation(10.0))
    with pytest.raises(InputError, match="two augmentations are called 'rotation'"):
        source(face_crops, augment=twice)
    with pytest.raises(InputError, match="two augmentations are called 'rotation'"):
        DeviceInput(augment=twice, size=SIZE, batch_size=4, supersample=1, seed=0)
