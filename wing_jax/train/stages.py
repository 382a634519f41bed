"""What each stage is trained on: crops around the boxes, then crops made by the first stage or by the annotation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.augment import Augmentation
from wing_jax.choices import Input
from wing_jax.data.chips import Chips
from wing_jax.geometry import crop_fractions, crop_of_box, crop_of_shape
from wing_jax.inference.stage import Stage
from wing_jax.train import crops
from wing_jax.train.data import TrainingData, margin_of
from wing_jax.train.setup import StageSetup
from wing_jax.train.spec import StageSpec


def first_setup(spec: StageSpec, data: TrainingData, *, augment: Sequence[Augmentation]) -> StageSetup:
    """The first stage's training, on crops around the boxes; its `mean` is in fractions of the crop."""
    data, margin = data.at(data.chip_sizes[0]), margin_of(spec, 1)
    center = data.shape.centre if spec.center == "shape" else (0.0, 0.0)
    size = spec.input_size

    def place(chips: Chips) -> np.ndarray:
        return np.asarray(crop_of_box(chips.boxes, size=size, margin=margin, center=center))

    frames = place(data.train)
    points = crops.points_in(data.train.points, frames)
    return StageSetup(
        **_common(spec, data, augment, number=1),
        margin=margin,
        frames=frames[:, None],
        mean=crops.mean_shape(np.asarray(crop_fractions(points, size=size)), data.train.visible, flip=data.scheme.flip),
        validation_frames=place(data.validation),
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
    """The second stage's training, on crops made by the first or by the annotation; validated behind the first.

    `first_augment` are the augmentations on which the first stage makes crops. With `first`=None nothing is made by a
    first stage, the crops of the validation neither: for stage2_crops="annotated" alone.
    """
    size = data.chip_sizes[1]
    resized = data.at(size)

    def place(chips: Chips) -> np.ndarray:
        return np.asarray(crop_of_shape(chips.points, template, size=spec.input_size))

    frames = place(resized.train)[:, None]  # of the annotated points
    if first is None:
        assert spec.stage2_crops == "annotated"
        validation_frames = place(resized.validation)
    else:
        through = {"template": template, "size": spec.input_size, "target_size": size}
        small = data.at(first.chip_size)
        if spec.stage2_crops == "predicted":
            frames = crops.augmented_frames_through(
                first,
                small.train,
                augment=tuple(first_augment),
                flip=data.scheme.flip,
                draws=spec.draws,
                seed=seed,
                input=input,
                **through,
            )
        validation_frames = crops.frames_through(first, small.validation, **through)
    return StageSetup(
        **_common(spec, resized, augment, number=2),
        margin=margin_of(spec, 2),
        frames=frames,
        mean=template,
        validation_frames=validation_frames,
    )


def template_for(spec: StageSpec, mean: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
    """The mean shape in fractions of the second stage's crop, of the mean shape in the first's."""
    return crops.template_of(mean, margin=margin_of(spec, 2))


def _common(spec: StageSpec, data: TrainingData, augment: Sequence[Augmentation], *, number: int) -> dict[str, Any]:
    return {
        "spec": spec,
        "model": spec.build_model(data.scheme.points),
        "augment": tuple(augment),
        "number": number,
        "chips": data.train,
        "names": data.names,
        "order": data.order,
        "scheme": data.scheme,
        "validation": data.validation,
    }
