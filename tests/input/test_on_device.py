"""The on-device input: every epoch a permutation, each face augmented anew, whatever the batch or the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.device_input import CROP, FACES, ORDER, SIZE, make_face_crops, source, transforms
from wing_jax.data.encoded import JpegImages
from wing_jax.data.face_crops import FaceCrops
from wing_jax.errors import InputError
from wing_jax.input.on_device import DeviceInput, take_rows, training_faces
from wing_jax.input.sampling import EpochSampler
from wing_jax.runtime import devices
from wing_jax.schemes import MTFL_5
from wing_jax.types import Batch


@pytest.fixture(scope="module")
def face_crops() -> FaceCrops:
    return make_face_crops()


@pytest.fixture(scope="module")
def faces(face_crops):
    return training_faces(face_crops, transforms(), order=ORDER, flip=MTFL_5.flip)


def indices_of(faces, given: DeviceInput, first: int, steps: int):
    return jax.device_get(EpochSampler(faces.order, batch_size=given.batch_size, seed=given.seed)(first, steps))


@pytest.mark.parametrize("batch_size", [3, 4, 11, 25])
def test_every_epoch_shows_each_face_as_often_as_listed(faces, batch_size):
    steps = -(-55 // batch_size)
    indices = indices_of(faces, source(batch_size=batch_size), 0, steps)
    shown = indices.index.ravel()[:55].reshape(5, 11)
    for epoch in shown:
        np.testing.assert_array_equal(np.sort(epoch), ORDER)
    assert any((epoch != shown[0]).any() for epoch in shown[1:])
    np.testing.assert_array_equal(indices.epoch.ravel()[:55], np.repeat(np.arange(5), 11))
    np.testing.assert_array_equal(indices.place.ravel()[:55], np.tile(np.arange(11), 5))


@pytest.mark.parametrize(("first", "steps"), [(0, 1), (3, 2), (8, 1), (2, 6)])
def test_indices_started_anywhere_is_a_part_of_the_whole(faces, first, steps):
    whole, part = indices_of(faces, source(), 0, 9), indices_of(faces, source(), first, steps)
    for all_of_it, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_it[first : first + steps], some)


def test_the_indices_do_not_depend_on_the_batch_but_on_the_seed(faces):
    fours, twos = indices_of(faces, source(), 0, 6), indices_of(faces, source(batch_size=2), 0, 12)
    for mine, theirs in zip(fours, twos, strict=True):
        np.testing.assert_array_equal(mine.ravel(), theirs.ravel())
    assert (indices_of(faces, source(seed=4), 0, 6).index != fours.index).any()


def test_steps_indexed_one_by_one_are_those_indexed_together(faces):
    whole, sampler = indices_of(faces, source(), 0, 9), EpochSampler(faces.order, batch_size=4, seed=3)
    for step in (*range(9), 0, 5):
        for all_of_it, one in zip(whole, sampler(step, 1), strict=True):
            np.testing.assert_array_equal(all_of_it[step], one[0])


def batches_of(faces, given: DeviceInput, steps: int) -> list[Batch]:
    indices = indices_of(faces, given, 0, steps)
    make, held = jax.jit(given.batch), jax.tree.map(jnp.asarray, faces)
    return [jax.device_get(make(held, jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), indices))) for i in range(steps)]


@pytest.fixture(scope="module")
def whole(faces):
    return batches_of(faces, source(), 6)


def test_a_batch_is_as_promised(whole):
    kinds = {name: (value.dtype.name, value.shape) for name, value in whole[0]._asdict().items()}
    assert kinds == {
        "images": ("uint8", (4, SIZE, SIZE, 3)),
        "points": ("float32", (4, 5, 2)),
        "visible": ("bool", (4, 5)),
    }


def test_crops_depend_on_place_in_the_training_alone(faces, whole):
    twos = batches_of(faces, source(batch_size=2), 12)
    for name in Batch._fields:
        mine, theirs = (np.concatenate([getattr(batch, name) for batch in batches]) for batches in (whole, twos))
        np.testing.assert_allclose(mine, theirs, atol=1 if name == "images" else 1e-5)


def test_each_duplicate_is_augmented_anew_within_and_between_epochs(faces):
    indices = indices_of(faces, source(batch_size=11), 0, 4)
    points = np.concatenate([batch.points for batch in batches_of(faces, source(batch_size=11), 4)])
    thrice = points[indices.index.ravel() == 1]
    assert len({tuple(face.ravel()) for face in thrice}) == len(thrice) == 12


def test_of_several_crops_of_a_face_each_is_drawn(face_crops):
    several = training_faces(face_crops, transforms(4), order=ORDER, flip=MTFL_5.flip)
    given = source(batch_size=110, augment=())
    batch, indices = batches_of(several, given, 1)[0], indices_of(several, given, 0, 1)
    shift = (face_crops.points[indices.index[0]] - batch.points * 1.25)[:, 0, 0] - 5
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-4)
    counts = np.bincount(np.round(shift).astype(int), minlength=4)
    assert counts.min() > 10


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_replicas_make_the_batch_of_one_device_from_faces_split_over_them(face_crops, faces, whole, count, parallel):
    mesh, given = devices.make_mesh(count), source()
    split = training_faces(face_crops, transforms(), order=ORDER, flip=MTFL_5.flip, parts=count)
    images = split.images.reshape(count, len(split.images) // count, *split.images.shape[1:])
    indices = indices_of(faces, given, 0, 6)

    def make(images, indices):
        return given.batch(split._replace(images=images), indices, axis=devices.AXIS)

    if parallel == "pmap":
        mapped = jax.pmap(make, axis_name=devices.AXIS, in_axes=(0, None))
    else:
        specs = (jax.P(devices.AXIS), jax.P())
        mapped = jax.jit(jax.shard_map(make, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False))
        images = split.images
    for step, expected in enumerate(whole):
        batch = jax.device_get(mapped(images, jax.tree.map(lambda x, i=step: x[i], indices)))
        for name in Batch._fields:
            found, wanted = getattr(batch, name), getattr(expected, name)
            np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1 if name == "images" else 1e-5)


def test_rows_are_taken_from_whoever_holds_them():
    rows = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    index = np.array([7, 0, 3, 3, 5, 1, 6, 2])
    taken = jax.pmap(lambda part: take_rows(part, jnp.asarray(index), axis="x"), axis_name="x")(
        rows.reshape(4, 2, 2, 2, 3)
    )
    np.testing.assert_array_equal(np.asarray(taken).reshape(8, 2, 2, 3), rows[index])


@pytest.mark.parametrize("parts", [1, 4, 16])
def test_images_split_evenly_however_few_they_are(face_crops, parts):
    split = training_faces(face_crops, transforms(), order=ORDER, flip=MTFL_5.flip, parts=parts)
    assert len(split.images) % parts == 0
    np.testing.assert_array_equal(split.images[:FACES], face_crops.images)


def test_encoded_face_crops_are_refused_in_one_line(face_crops):
    import dataclasses

    held = dataclasses.replace(face_crops, images=JpegImages([b""] * FACES, CROP, CROP))
    with pytest.raises(InputError, match='set input to "tfdata"'):
        training_faces(held, transforms(), order=ORDER, flip=MTFL_5.flip)
