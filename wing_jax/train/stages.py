"""The setup of each stage: crops around the boxes, then crops from the first stage's points or the annotated ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.augment import Augmentation
from wing_jax.choices import Input
from wing_jax.data.face_crops import FaceCrops
from wing_jax.geometry import crop_fractions, crop_of_box, crop_of_shape
from wing_jax.inference.stage import Stage
from wing_jax.train import crops
from wing_jax.train.data import TrainingData
from wing_jax.train.setup import StageSetup
from wing_jax.train.spec import StageSpec


def first_setup(spec: StageSpec, data: TrainingData, *, augment: Sequence[Augmentation]) -> StageSetup:
    """Return the setup of the first stage, on crops around the boxes. Its `mean` is in fractions of the crop."""
    data, margin = data.at(data.face_crop_sizes[0]), data.margins[0]
    center = data.shape.center if spec.center == "shape" else (0.0, 0.0)
    size = spec.input_size

    def place(face_crops: FaceCrops) -> np.ndarray:
        return np.asarray(crop_of_box(face_crops.boxes, size=size, margin=margin, center=center))

    transforms = place(data.train)
    points = crops.points_in_crops(data.train.points, transforms)
    return StageSetup(
        **_common(spec, data, augment, number=1),
        margin=margin,
        transforms=transforms[:, None],
        mean=crops.mean_shape(np.asarray(crop_fractions(points, size=size)), data.train.visible, flip=data.scheme.flip),
        validation_transforms=place(data.validation),
        center=center,
    )


def second_setup(
    spec: StageSpec,
    data: TrainingData,
    first: Stage | None,
    template: Float[np.ndarray, "points 2"],
    *,
    augment: Sequence[Augmentation],
    first_augment: Sequence[Augmentation] = (),
    seed: int = 0,
    input: Input = "device",
) -> StageSetup:
    """Return the setup of the second stage, on crops from the first stage's points or the annotated ones.

    Validation crops are from the first stage's points. `first_augment` are the augmentations of the crops on which the
    first stage predicts. `first`=None is allowed with stage2_crops="annotated" only; then the validation crops also
    come from the annotated points.
    """
    size, anchors = data.face_crop_sizes[1], template[: data.heads[0].points]
    resized = data.at(size)

    def place(face_crops: FaceCrops) -> np.ndarray:
        return np.asarray(crop_of_shape(face_crops.points[:, : len(anchors)], anchors, size=spec.input_size))

    transforms = place(resized.train)[:, None]  # from the annotated points
    if first is None:
        assert spec.stage2_crops == "annotated"
        validation_transforms = place(resized.validation)
    else:
        crop_options = {"template": anchors, "size": spec.input_size, "target_size": size}
        small = data.at(first.face_crop_size)
        if spec.stage2_crops == "predicted":
            transforms = crops.augmented_predicted_transforms(
                first,
                small.train,
                augment=tuple(first_augment),
                flip=data.scheme.flip,
                crops_per_face=spec.crops_per_face,
                seed=seed,
                input=input,
                **crop_options,
            )
        validation_transforms = crops.predicted_transforms(first, small.validation, **crop_options)
    return StageSetup(
        **_common(spec, resized, augment, number=2),
        margin=data.margins[1],
        transforms=transforms,
        mean=template,
        validation_transforms=validation_transforms,
    )


def _common(spec: StageSpec, data: TrainingData, augment: Sequence[Augmentation], *, number: int) -> dict[str, Any]:
    return {
        "spec": spec,
        "model": spec.build_model(data.scheme.points),
        "augment": tuple(augment),
        "number": number,
        "face_crops": data.train,
        "names": data.names,
        "order": data.order,
        "heads": data.heads,
        "validation": data.validation,
    }
