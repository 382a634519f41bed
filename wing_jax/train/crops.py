"""The unperturbed crops that each stage starts from, and the mean shape."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from wing_jax import geometry
from wing_jax.augment.augmentation import Augmentation
from wing_jax.augment.geometric import supersampling
from wing_jax.choices import Input
from wing_jax.data.chips import MARGIN, Chips
from wing_jax.inference.stage import Stage
from wing_jax.input.on_device import DeviceInput, training_faces
from wing_jax.input.on_host import HostInput, fixed_crops
from wing_jax.input.sampling import BatchIndices, CutBatch, EpochSampler
from wing_jax.models.networks import as_network
from wing_jax.train.steps import make_predict

ROWS = 64  # crops at once
CHIP_STEP = 1.25  # chip pixels per pixel of an unperturbed crop: sharp, and yet hardly any shrinking is left


def chip_size(*, input_size: int, margin: float) -> int:
    """Pixels of the chip from which crops of `input_size` pixels and `margin` face box sides are cut."""
    return round(input_size * MARGIN / margin * CHIP_STEP)


def mean_shape(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], *, flip: Int[np.ndarray, "points"]
) -> Float[np.ndarray, "points 2"]:
    """Mean of shapes given in fractions of their crops, made left-right symmetric by the scheme's permutation."""
    shown = visible[..., None]
    mean = np.where(shown, points, 0).sum(0) / np.maximum(shown.sum(0), 1)
    mirrored = np.stack([1 - mean[flip, 0], mean[flip, 1]], axis=1)
    return ((mean + mirrored) / 2).astype(np.float32)


def template_of(mean: Float[np.ndarray, "points 2"], *, margin: float) -> Float[np.ndarray, "points 2"]:
    """The mean shape scaled and centred so that the crop's side is `margin` times the larger side of its box."""
    return geometry.place_shape(mean, center=(0.5, 0.5), side=1 / margin).astype(np.float32)


def points_in(points: Float[np.ndarray, "n points 2"], frames: Float[np.ndarray, "n 2 3"]) -> np.ndarray:
    """Points of the chips seen in the crops of `frames`, `[n, points, 2]`."""
    return np.asarray(geometry.transform(geometry.invert(frames), points))


def first_frames(stage: Stage, chips: Chips) -> Float[np.ndarray, "n 2 3"]:
    """The crops of a trained first stage, from crop pixels to chip pixels."""
    size, margin = stage.input_size, stage.margin
    return np.asarray(geometry.crop_of_box(chips.boxes, size=size, margin=margin, center=stage.center))


def frames_through(
    stage: Stage, chips: Chips, *, template: Float[np.ndarray, "points 2"], size: int, target_size: int
) -> Float[np.ndarray, "n 2 3"]:
    """Second-stage crops of `size` pixels as the trained first stage makes them of the faces as they are.

    `chips` are of the first stage's chip size; the frames are to pixels of the same chips at `target_size`.
    """
    predict = make_predict(as_network(stage.model))
    frames = first_frames(stage, chips)
    images = fixed_crops(chips, frames, size=stage.input_size).images
    rows = np.pad(np.arange(len(images)), (0, -len(images) % ROWS), mode="edge").reshape(-1, ROWS)
    in_crop = np.concatenate([np.asarray(predict(stage.variables, images[row])) for row in rows])[: len(images)]
    in_chip = np.asarray(geometry.transform(frames, in_crop))
    return np.asarray(geometry.crop_of_shape(_at_size(in_chip, chips, target_size), template, size=size))


def augmented_frames_through(
    stage: Stage,
    chips: Chips,
    *,
    template: Float[np.ndarray, "points 2"],
    size: int,
    target_size: int,
    augment: tuple[Augmentation, ...],
    flip: Int[np.ndarray, "points"],
    draws: int,
    seed: int,
    input: Input = "device",
) -> Float[np.ndarray, "n draws 2 3"]:
    """`frames_through` of `draws` augmentations of each face.

    What the first stage finds in a mirrored crop is mirrored back: crops of the second stage are of the faces as they
    are. The first stage's crops are cut where the `input` of the training cuts its own.
    """
    predict = make_predict(as_network(stage.model))
    frames = np.zeros((len(chips.images), draws, 2, 3), np.float32)
    filled = np.zeros(len(frames), np.int64)
    common = {"augment": augment, "size": stage.input_size, "batch_size": ROWS, "seed": seed}
    cut = (_device_cuts if input == "device" and isinstance(chips.images, np.ndarray) else _host_cuts)(
        chips, first_frames(stage, chips)[:, None], flip, common
    )
    for step in range(-(-len(frames) * draws // ROWS)):
        batch, index, crop_to_image, mirrored = cut(step)
        in_crop = predict(stage.variables, batch.images)
        in_chip = np.asarray(geometry.transform(np.asarray(crop_to_image), np.asarray(in_crop)))
        in_chip = np.where(np.asarray(mirrored)[:, None, None], in_chip[:, flip], in_chip)
        made = geometry.crop_of_shape(_at_size(in_chip, chips, target_size), template, size=size)
        for face, frame in zip(np.asarray(index), made, strict=True):
            if filled[face] < draws:
                frames[face, filled[face]] = frame
                filled[face] += 1
    return frames


def _at_size(points: Float[np.ndarray, "n points 2"], chips: Chips, size: int) -> Float[np.ndarray, "n points 2"]:
    return np.asarray(geometry.rescale_points(points, size / chips.size))


def _host_cuts(
    chips: Chips, frames: Float[np.ndarray, "n 1 2 3"], flip: Int[np.ndarray, "points"], common: dict[str, Any]
) -> Callable[[int], CutBatch]:
    return HostInput(chips=chips, crop_to_image=frames, order=np.arange(len(frames)), flip=flip, **common).cut


def _device_cuts(
    chips: Chips, frames: Float[np.ndarray, "n 1 2 3"], flip: Int[np.ndarray, "points"], common: dict[str, Any]
) -> Callable[[int], CutBatch]:
    order = np.arange(len(frames))
    faces = jax.device_put(training_faces(chips, frames, order=order, flip=flip))
    sampler = EpochSampler(order, batch_size=common["batch_size"], seed=common["seed"])
    cut = jax.jit(DeviceInput(supersample=supersampling(frames), **common).cut)
    return lambda step: cut(faces, BatchIndices(*(values[0] for values in sampler(step, 1))))
