"""The tf.data pipeline: the same stream for one seed however it is run, and each duplicate perturbed anew."""

import dataclasses

import cv2
import numpy as np
import pytest

from wing_jax.config import PerturbConfig
from wing_jax.data.chips import Chips
from wing_jax.data.encoded import JpegImages, encoded
from wing_jax.input.cutting import BatchCutter, fixed_crops, uniforms
from wing_jax.input.tfdata import training_batches
from wing_jax.schemes import MTFL_5

SIZE, CHIP, FACES = 24, 40, 7
PERTURB = PerturbConfig(rotation=20.0, translation=0.1, scale=0.1, flip=0.5, blur=0.5, colour=0.2, noise=5.0)
STILL = PerturbConfig(rotation=0.0, translation=0.0, scale=0.0, flip=0.0, blur=0.0)
ORDER = np.array([0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 6])  # an epoch of eleven faces, some twice and thrice


def smooth(seed: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (CHIP, CHIP, 3), np.uint8), (0, 0), 2)


@pytest.fixture(scope="module")
def chips() -> Chips:
    draws = np.random.default_rng(0)
    return Chips(
        images=np.stack([smooth(i) for i in range(FACES)]),
        frames=np.broadcast_to(np.eye(2, 3, dtype=np.float32), (FACES, 2, 3)).copy(),
        boxes=np.broadcast_to(np.float32([10, 10, 30, 30]), (FACES, 4)).copy(),
        points=draws.uniform(10, 30, (FACES, 5, 2)).astype(np.float32),
        visible=draws.uniform(size=(FACES, 5)) < 0.7,
    )


def frames(draws: int = 1) -> np.ndarray:
    """`draws` crops of each face, told apart by where they lie."""
    shift = 5 + np.arange(draws, dtype=np.float32)
    placed = np.zeros((FACES, draws, 2, 3), np.float32)
    placed[..., 0, 0] = placed[..., 1, 1] = 1.25
    placed[..., 2] = shift[None, :, None]
    return placed


def cutter(chips: Chips, **changes) -> BatchCutter:
    settings = {"order": ORDER, "flip": MTFL_5.flip, "perturb": PERTURB, "size": SIZE, "batch_size": 4, "seed": 3}
    return BatchCutter(chips=chips, **({"frames": frames()} | settings | changes))


def stream(chips: Chips, *, first_step: int = 0, last_step: int = 9, threads: int = 2, **changes) -> list[dict]:
    batches = training_batches(cutter(chips, **changes), first_step=first_step, last_step=last_step, threads=threads)
    return list(batches)


@pytest.fixture(scope="module")
def whole(chips) -> list[dict]:
    """The nine batches that all changes are compared with."""
    return stream(chips)


def assert_same(batches: list[dict], others: list[dict]) -> None:
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def joined(batches: list[dict], name: str) -> np.ndarray:
    return np.concatenate([batch[name] for batch in batches])


def test_a_batch_is_as_promised(whole):
    assert len(whole) == 9
    kinds = {name: (value.dtype.name, value.shape) for name, value in whole[0].items()}
    assert kinds == {
        "images": ("uint8", (4, SIZE, SIZE, 3)),
        "points": ("float32", (4, 5, 2)),
        "visible": ("bool", (4, 5)),
        "index": ("int64", (4,)),
        "frames": ("float32", (4, 2, 3)),
    }


def test_two_streams_of_one_seed_are_identical_and_of_two_seeds_are_not(chips, whole):
    assert_same(stream(chips), whole)
    assert (joined(whole, "index") != joined(stream(chips, seed=4), "index")).any()


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_nothing(chips, whole, threads):
    assert_same(stream(chips, threads=threads), whole)


def test_tf_data_gives_what_the_cutter_cuts(chips, whole):
    cut = cutter(chips)
    assert_same([cut(step) for step in range(9)], whole)


def test_processes_that_share_a_batch_cut_its_parts(chips, whole):
    parts = [list(training_batches(cutter(chips), last_step=9, part=part, parts=2)) for part in range(2)]
    together = [{name: np.concatenate([one[name], two[name]]) for name in one} for one, two in zip(*parts, strict=True)]
    assert_same(together, whole)


def test_chips_held_as_jpeg_make_nearly_the_same_batches(chips, whole):
    held = JpegImages([encoded(image) for image in chips.images], CHIP, CHIP)
    for batch, other in zip(stream(dataclasses.replace(chips, images=held)), whole, strict=True):
        np.testing.assert_array_equal(batch["points"], other["points"])
        assert np.abs(batch["images"].astype(int) - other["images"]).mean() < 3


def test_uniform_numbers_depend_on_seed_and_position_alone():
    together, alone = uniforms(seed=5, first=0, count=10), uniforms(seed=5, first=9, count=1)
    np.testing.assert_array_equal(together[9:], alone)
    assert (uniforms(seed=6, first=9, count=1) != alone).all()
    assert together.dtype == np.float32
    assert together.min() >= 0
    assert together.max() < 1
    many = uniforms(seed=5, first=0, count=5000)
    assert len(np.unique(many)) > 0.99 * many.size
    np.testing.assert_allclose(many.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(many.var(0), 1 / 12, atol=0.004)


@pytest.mark.parametrize("first", [1, 3, 8])
def test_a_stream_started_at_a_step_goes_on_as_the_whole_one(chips, whole, first):
    assert_same(stream(chips, first_step=first), whole[first:])


def test_nothing_is_left_to_give_after_the_last_step(chips):
    assert stream(chips, first_step=9) == []


@pytest.mark.parametrize("batch_size", [3, 11, 25])
def test_every_epoch_shows_each_face_as_often_as_listed(chips, batch_size):
    steps = -(-44 // batch_size)
    shown = joined(stream(chips, batch_size=batch_size, last_step=steps), "index")
    epochs = [shown[i : i + 11] for i in range(0, 44, 11)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), ORDER)
    assert any((epoch != epochs[0]).any() for epoch in epochs[1:])


def test_the_stream_does_not_depend_on_how_it_is_batched(chips, whole):
    twos = stream(chips, batch_size=2, last_step=18)
    for name in whole[0]:
        np.testing.assert_array_equal(joined(twos, name), joined(whole, name))


def test_each_duplicate_is_perturbed_anew_within_and_between_epochs(chips):
    batches = stream(chips, batch_size=11, last_step=6)
    placed = [batch["frames"][batch["index"] == 1] for batch in batches]
    assert [len(each) for each in placed] == [3] * 6
    different = {tuple(frame.ravel()) for frame in np.concatenate(placed)}
    assert len(different) == 18
    crops = np.concatenate([batch["images"][batch["index"] == 1] for batch in batches]).astype(int)
    apart = [np.abs(a - b).mean() for i, a in enumerate(crops) for b in crops[:i]]
    assert min(apart) > 1


def test_points_and_visibility_follow_frame_and_flip(chips, whole):
    flips = 0
    for batch in whole:
        for points, visible, index, frame in zip(
            batch["points"], batch["visible"], batch["index"], batch["frames"], strict=True
        ):
            mirrored = np.linalg.det(frame[:, :2]) < 0
            flips += mirrored
            names = MTFL_5.flip if mirrored else np.arange(5)
            in_chip = points @ frame[:, :2].T + frame[:, 2]
            np.testing.assert_allclose(in_chip, chips.points[index][names], atol=1e-3)
            np.testing.assert_array_equal(visible, chips.visible[index][names])
    assert 6 < flips < 30


def test_without_perturbation_the_stream_shows_the_fixed_crops(chips):
    images, points, visible = fixed_crops(chips, frames()[:, 0], size=SIZE)
    for batch in stream(chips, perturb=STILL):
        index = batch["index"]
        np.testing.assert_allclose(batch["images"].astype(int), images[index], atol=1)
        np.testing.assert_allclose(batch["points"], points[index], atol=1e-3)
        np.testing.assert_array_equal(batch["visible"], visible[index])
    reference = cv2.warpAffine(
        chips.images[2], frames()[2, 0], (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    assert np.abs(images[2].astype(int) - reference).mean() < 1
    np.testing.assert_allclose(points, (chips.points - 5) / 1.25, atol=1e-4)


def test_of_several_crops_of_a_face_each_is_drawn_about_as_often(chips):
    batches = stream(chips, frames=frames(4), perturb=STILL, batch_size=25, last_step=24)
    drawn = joined(batches, "frames")[:, 0, 2] - 5
    assert set(drawn.tolist()) == {0, 1, 2, 3}
    counts = np.bincount(drawn.astype(int))
    assert np.abs(counts - 150).max() < 45  # four standard deviations
    assert len({tuple(epoch) for epoch in drawn[:594].reshape(54, 11)}) > 50
