"""The crops of each stage before augmentation, and the mean shape."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from wing_jax import geometry
from wing_jax.augment.augmentation import Augmentation
from wing_jax.augment.geometric import supersampling
from wing_jax.choices import Input
from wing_jax.data.face_crops import MARGIN, FaceCrops
from wing_jax.inference.stage import Stage
from wing_jax.input.on_device import DeviceInput, training_faces
from wing_jax.input.on_host import HostInput, fixed_crops
from wing_jax.input.sampling import BatchIndices, CutBatch, EpochSampler
from wing_jax.models.networks import as_network
from wing_jax.train.steps import make_predict

ROWS = 64  # crops per batch
FACE_CROP_STEP = 1.25  # face crop pixels per pixel of a crop: sharp, with hardly any downscaling


def face_crop_size(*, input_size: int, margin: float) -> int:
    """Return the size in pixels of the face crop for crops of `input_size` pixels and `margin` face box sides."""
    return round(input_size * MARGIN / margin * FACE_CROP_STEP)


def mean_shape(
    points: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"], *, flip: Int[np.ndarray, "points"]
) -> Float[np.ndarray, "points 2"]:
    """Return the mean of shapes in fractions of their crops, made left-right symmetric by the permutation `flip`."""
    mask = visible[..., None]
    mean = np.where(mask, points, 0).sum(0) / np.maximum(mask.sum(0), 1)
    mirrored = np.stack([1 - mean[flip, 0], mean[flip, 1]], axis=1)
    return ((mean + mirrored) / 2).astype(np.float32)


def template_of(
    mean: Float[np.ndarray, "points 2"], *, margin: float, points: int | None = None
) -> Float[np.ndarray, "points 2"]:
    """Return the mean shape, centered and scaled so that the crop's side is `margin` times its box's larger side.

    The box is that of the first `points`; None: of all.
    """
    first = mean[:points]
    placed = geometry.place_shape(first, center=(0.5, 0.5), side=1 / margin)
    return np.asarray(geometry.transform(geometry.fit_similarity(first, placed), mean), np.float32)


def points_in_crops(points: Float[np.ndarray, "n points 2"], transforms: Float[np.ndarray, "n 2 3"]) -> np.ndarray:
    """Convert points from face crop pixels to pixels of the crops that `transforms` define, `[n, points, 2]`."""
    return np.asarray(geometry.transform(geometry.invert(transforms), points))


def first_transforms(stage: Stage, face_crops: FaceCrops) -> Float[np.ndarray, "n 2 3"]:
    """Return the transforms of a trained first stage's crops, from crop pixels to face crop pixels."""
    size, margin = stage.input_size, stage.margin
    return np.asarray(geometry.crop_of_box(face_crops.boxes, size=size, margin=margin, center=stage.center))


def predicted_transforms(
    stage: Stage, face_crops: FaceCrops, *, template: Float[np.ndarray, "points 2"], size: int, target_size: int
) -> Float[np.ndarray, "n 2 3"]:
    """Return the transforms of second-stage crops of `size` pixels from the first stage's points, without augmentation.

    The `template` has the first points of those that the stage predicts, or all of them. `face_crops` have the first
    stage's face crop size. The transforms are to pixels of the same face crops at `target_size`.
    """
    predict = make_predict(as_network(stage.model))
    transforms = first_transforms(stage, face_crops)
    images = fixed_crops(face_crops, transforms, size=stage.input_size).images
    rows = np.pad(np.arange(len(images)), (0, -len(images) % ROWS), mode="edge").reshape(-1, ROWS)
    in_crop = np.concatenate([np.asarray(predict(stage.variables, images[row])) for row in rows])[: len(images)]
    in_crop = in_crop[:, : len(template)]
    in_face_crop = np.asarray(geometry.transform(transforms, in_crop))
    return np.asarray(geometry.crop_of_shape(_at_size(in_face_crop, face_crops, target_size), template, size=size))


def augmented_predicted_transforms(
    stage: Stage,
    face_crops: FaceCrops,
    *,
    template: Float[np.ndarray, "points 2"],
    size: int,
    target_size: int,
    augment: tuple[Augmentation, ...],
    flip: Int[np.ndarray, "points"],
    crops_per_face: int,
    seed: int,
    input: Input = "device",
) -> Float[np.ndarray, "n crops_per_face 2 3"]:
    """Return `predicted_transforms` for `crops_per_face` augmentations of each face.

    Points predicted on a mirrored crop are mirrored back, because the second stage's crops are cut from faces that are
    not mirrored. The first stage's crops are cut on the device or the host, as `input` says for the training run.
    """
    predict = make_predict(as_network(stage.model))
    transforms = np.zeros((len(face_crops.images), crops_per_face, 2, 3), np.float32)
    filled = np.zeros(len(transforms), np.int64)
    common = {"augment": augment, "size": stage.input_size, "batch_size": ROWS, "seed": seed}
    cut = (_device_cuts if input == "device" and isinstance(face_crops.images, np.ndarray) else _host_cuts)(
        face_crops, first_transforms(stage, face_crops)[:, None], flip, common
    )
    for step in range(-(-len(transforms) * crops_per_face // ROWS)):
        batch, index, crop_to_image, mirrored = cut(step)
        in_crop = predict(stage.variables, batch.images)
        in_face_crop = np.asarray(geometry.transform(np.asarray(crop_to_image), np.asarray(in_crop)))
        in_face_crop = np.where(np.asarray(mirrored)[:, None, None], in_face_crop[:, flip], in_face_crop)
        placed = _at_size(in_face_crop[:, : len(template)], face_crops, target_size)
        batch_transforms = geometry.crop_of_shape(placed, template, size=size)
        for face, transform in zip(np.asarray(index), batch_transforms, strict=True):
            if filled[face] < crops_per_face:
                transforms[face, filled[face]] = transform
                filled[face] += 1
    return transforms


def _at_size(
    points: Float[np.ndarray, "n points 2"], face_crops: FaceCrops, size: int
) -> Float[np.ndarray, "n points 2"]:
    return np.asarray(geometry.rescale_points(points, size / face_crops.size))


def _host_cuts(
    face_crops: FaceCrops,
    transforms: Float[np.ndarray, "n 1 2 3"],
    flip: Int[np.ndarray, "points"],
    common: dict[str, Any],
) -> Callable[[int], CutBatch]:
    return HostInput(
        face_crops=face_crops, crop_to_image=transforms, order=np.arange(len(transforms)), flip=flip, **common
    ).cut


def _device_cuts(
    face_crops: FaceCrops,
    transforms: Float[np.ndarray, "n 1 2 3"],
    flip: Int[np.ndarray, "points"],
    common: dict[str, Any],
) -> Callable[[int], CutBatch]:
    order = np.arange(len(transforms))
    faces = jax.device_put(training_faces(face_crops, transforms, order=order, flip=flip))
    sampler = EpochSampler(order, batch_size=common["batch_size"], seed=common["seed"])
    cut = jax.jit(DeviceInput(image_size=face_crops.size, supersample=supersampling(transforms), **common).cut)
    return lambda step: cut(faces, BatchIndices(*(values[0] for values in sampler(step, 1))))
