"""The on-device input: each epoch is a permutation, each use of a face has its own augmentation, and the batch size and
the number of devices have no effect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.device_input import CROP, FACES, ORDER, SIZE, make_face_crops, make_input, make_transforms
from wing_jax.data.encoded import JpegImages
from wing_jax.data.face_crops import FaceCrops
from wing_jax.errors import InputError
from wing_jax.input.on_device import DeviceInput, splits_images, take_rows, training_faces
from wing_jax.input.sampling import EpochSampler
from wing_jax.runtime import devices
from wing_jax.schemes import MTFL_5
from wing_jax.types import Batch


@pytest.fixture(scope="module")
def face_crops() -> FaceCrops:
    return make_face_crops()


@pytest.fixture(scope="module")
def faces(face_crops):
    return training_faces(face_crops, make_transforms(), order=ORDER, flip=MTFL_5.flip)


def indices_of(faces, batches: DeviceInput, first: int, steps: int):
    return jax.device_get(EpochSampler(faces.order, batch_size=batches.batch_size, seed=batches.seed)(first, steps))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3, 4, 11, 25])
def test_every_epoch_has_each_face_as_often_as_the_order(faces, batch_size):
    steps = -(-55 // batch_size)
    indices = indices_of(faces, make_input(batch_size=batch_size), 0, steps)
    epochs = indices.index.ravel()[:55].reshape(5, 11)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), ORDER)
    assert any((epoch != epochs[0]).any() for epoch in epochs[1:])
    np.testing.assert_array_equal(indices.epoch.ravel()[:55], np.repeat(np.arange(5), 11))
    np.testing.assert_array_equal(indices.place.ravel()[:55], np.tile(np.arange(11), 5))


@pytest.mark.slow
@pytest.mark.parametrize(("first", "steps"), [(0, 1), (3, 2), (8, 1), (2, 6)])
def test_indices_from_any_step_are_a_part_of_all_indices(faces, first, steps):
    all_indices, part = indices_of(faces, make_input(), 0, 9), indices_of(faces, make_input(), first, steps)
    for all_values, values in zip(all_indices, part, strict=True):
        np.testing.assert_array_equal(all_values[first : first + steps], values)


@pytest.mark.slow
def test_indices_depend_on_the_seed_and_not_on_the_batch_size(faces):
    fours, twos = indices_of(faces, make_input(), 0, 6), indices_of(faces, make_input(batch_size=2), 0, 12)
    for values_of_fours, values_of_twos in zip(fours, twos, strict=True):
        np.testing.assert_array_equal(values_of_fours.ravel(), values_of_twos.ravel())
    assert (indices_of(faces, make_input(seed=4), 0, 6).index != fours.index).any()


@pytest.mark.slow
def test_indices_of_single_steps_equal_those_of_many_steps(faces):
    all_indices, sampler = indices_of(faces, make_input(), 0, 9), EpochSampler(faces.order, batch_size=4, seed=3)
    for step in (*range(9), 0, 5):
        for all_values, values in zip(all_indices, sampler(step, 1), strict=True):
            np.testing.assert_array_equal(all_values[step], values[0])


def batches_of(faces, batches: DeviceInput, steps: int) -> list[Batch]:
    indices = indices_of(faces, batches, 0, steps)
    make, faces = jax.jit(batches.batch), jax.tree.map(jnp.asarray, faces)
    return [jax.device_get(make(faces, jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), indices))) for i in range(steps)]


@pytest.fixture(scope="module")
def batches(faces):
    """The first six batches, to compare with."""
    return batches_of(faces, make_input(), 6)


@pytest.mark.slow
def test_types_and_shapes_of_a_batch(batches):
    types = {name: (value.dtype.name, value.shape) for name, value in batches[0]._asdict().items()}
    assert types == {
        "images": ("uint8", (4, SIZE, SIZE, 3)),
        "points": ("float32", (4, 5, 2)),
        "visible": ("bool", (4, 5)),
    }


@pytest.mark.slow
def test_crops_depend_on_the_place_in_the_training_only(faces, batches):
    twos = batches_of(faces, make_input(batch_size=2), 12)
    for name in Batch._fields:
        expected, values = (np.concatenate([getattr(batch, name) for batch in stream]) for stream in (batches, twos))
        np.testing.assert_allclose(expected, values, atol=1 if name == "images" else 1e-5)


@pytest.mark.slow
def test_each_duplicate_has_its_own_augmentation_within_and_between_epochs(faces):
    indices = indices_of(faces, make_input(batch_size=11), 0, 4)
    points = np.concatenate([batch.points for batch in batches_of(faces, make_input(batch_size=11), 4)])
    points_of_face = points[indices.index.ravel() == 1]  # face 1 is three times in each of four epochs
    assert len({tuple(face.ravel()) for face in points_of_face}) == len(points_of_face) == 12


@pytest.mark.slow
def test_each_of_several_crops_of_a_face_is_drawn(face_crops):
    faces = training_faces(face_crops, make_transforms(4), order=ORDER, flip=MTFL_5.flip)
    settings = make_input(batch_size=110, augment=())
    batch, indices = batches_of(faces, settings, 1)[0], indices_of(faces, settings, 0, 1)
    shift = (face_crops.points[indices.index[0]] - batch.points * 1.25)[:, 0, 0] - 5
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-4)
    counts = np.bincount(np.round(shift).astype(int), minlength=4)
    assert counts.min() > 10


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("split_images", [True, False])
def test_replicas_make_the_batch_of_one_device(face_crops, faces, batches, count, parallel, split_images):
    mesh, settings = devices.make_mesh(count), make_input(split=split_images)
    split = training_faces(face_crops, make_transforms(), order=ORDER, flip=MTFL_5.flip, parts=count)
    images = split.images.reshape(count, len(split.images) // count, *split.images.shape[1:])
    if not split_images:
        images = np.broadcast_to(split.images, (count, *split.images.shape))
    indices = indices_of(faces, settings, 0, 6)

    def make(images, indices):
        return settings.batch(split._replace(images=images), indices, axis=devices.AXIS)

    if parallel == "pmap":
        mapped = jax.pmap(make, axis_name=devices.AXIS, in_axes=(0, None))
    else:
        axis, everywhere = jax.P(devices.AXIS), jax.P()
        specs = (axis if split_images else everywhere, everywhere)
        mapped = jax.jit(jax.shard_map(make, mesh=mesh, in_specs=specs, out_specs=axis, check_vma=False))
        images = split.images
    for step, expected_batch in enumerate(batches):
        batch = jax.device_get(mapped(images, jax.tree.map(lambda x, i=step: x[i], indices)))
        for name in Batch._fields:
            values, expected = getattr(batch, name), getattr(expected_batch, name)
            np.testing.assert_allclose(values.reshape(expected.shape), expected, atol=1 if name == "images" else 1e-5)


def test_take_rows_from_all_replicas():
    rows = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    index = np.array([7, 0, 3, 3, 5, 1, 6, 2])
    result = jax.pmap(lambda part: take_rows(part, jnp.asarray(index), axis="x"), axis_name="x")(
        rows.reshape(4, 2, 2, 2, 3)
    )
    np.testing.assert_array_equal(np.asarray(result).reshape(8, 2, 2, 3), rows[index])


@pytest.mark.slow
def test_a_tpu_makes_the_same_batches_from_images_in_whole_tiles(face_crops, batches):
    settings = make_input()
    with devices.compiling_for("tpu"):
        packed = training_faces(face_crops, make_transforms(), order=ORDER, flip=MTFL_5.flip)
        make = jax.jit(settings.batch).lower(packed, jax.tree.map(lambda x: x[0], indices_of(packed, settings, 0, 6)))
        make = make.compile()
    assert packed.images.shape == (FACES, 64, 128)  # 40 x 40 x 3 bytes are 1.2 tiles of 32 x 128
    for step, expected in enumerate(batches):
        batch = make(packed, jax.tree.map(lambda x, i=step: x[i], indices_of(packed, settings, 0, 6)))
        assert np.abs(np.asarray(batch.images, int) - expected.images).max() <= 2  # after blur and color
        np.testing.assert_allclose(batch.points, expected.points, atol=1e-5)
        np.testing.assert_array_equal(batch.visible, expected.visible)


@pytest.mark.parametrize("parts", [1, 4, 16])
def test_any_number_of_images_splits_evenly(face_crops, parts):
    split = training_faces(face_crops, make_transforms(), order=ORDER, flip=MTFL_5.flip, parts=parts)
    assert len(split.images) % parts == 0
    np.testing.assert_array_equal(split.images[:FACES], face_crops.images)


def test_encoded_face_crops_are_refused_in_one_line(face_crops):
    import dataclasses

    as_jpeg = dataclasses.replace(face_crops, images=JpegImages([b""] * FACES, CROP, CROP))
    with pytest.raises(InputError, match='set input="tfdata"'):
        training_faces(as_jpeg, make_transforms(), order=ORDER, flip=MTFL_5.flip)


def test_only_the_chips_of_a_tpu_store_all_images_of_a_small_data_set():
    assert splits_images(1)
    with devices.compiling_for("tpu"):
        assert (splits_images(5 * 2**30), splits_images(5 * 2**30 + 1)) == (False, True)
