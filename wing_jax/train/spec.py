"""What a training is asked for: stages of objects, and recipes of them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import optax

from wing_jax import augment, losses
from wing_jax.augment import Augmentation
from wing_jax.balance import Balance
from wing_jax.choices import LARGEST_INPUT, Center, Precision, Reduction, Stage2Crops
from wing_jax.errors import InputError
from wing_jax.runtime import devices
from wing_jax.text import quoted
from wing_jax.train.optimizer import default_optimizer
from wing_jax.types import Loss
from wing_jax.values import Value

EVALUATIONS = 20  # over a training whose stage does not say how often


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StageSpec(Value):
    """One network and its training, as objects.

    Args:
      model: a Flax linen module, or anything else with `init` and `apply` (`wing_jax.models.as_network`), that maps
        uint8 crops `[batch, input_size, input_size, 3]` to points `[batch, L, 2]`, (x, y) in pixels of the crop; or a
        class or function that makes one of the number of points: `wj.models.CNN6`.
      loss: an elementwise function `(predicted, target) -> loss`. A loss of `wing_jax.losses`, which declares its
        lengths in pixels of a reference crop, is rescaled to the crop; any other function is taken as it is, in pixels
        of the crop.
      optimizer: any optax transformation, with its schedule. None: AdamW, from 1e-3 to 1e-5 by a cosine.
      input_size: side of the crop in pixels.
      steps: steps of training.
      batch_size: faces a step, on all devices together.
      margin: side of the crop, per larger side of the face box (of the second stage: of the mean shape's box). None:
        1.2 for the first stage, 1.12 for the second.
      augment: what is done to the crops (`wing_jax.augment`). None: what `fit` is given, or the usual ones.
      reduction: of the loss over a batch, "mean" over all visible coordinates, or "sum_over_points_mean_over_batch".
      ema: decay of the averaged parameters, which are those evaluated and kept; 0: none are averaged.
      start: the untrained network answers the "mean_shape", where its model has a method `start_at(variables, points)`,
        or is as it was drawn ("random").
      evaluate_every: steps between measurements on the validation faces, and between checkpoints; 0: a twentieth of
        all steps.
      keep: newest checkpoints kept on disk, beside the best.
      precision: of activations in training, for a linen module with a field `dtype`: "float32", "bfloat16", "auto"
        (bfloat16 on GPU and TPU). None: as the module says.
      center: of the first stage's crop: the center of the "box", or where the mean "shape" lies in the boxes.
      stage2_crops: the second stage's training crops are made by the first stage's points on `draws` augmentations
        of each face ("predicted"), or from the annotated points ("annotated").
      draws: crops a face, for stage2_crops="predicted".

    Raises:
      InputError: a number is out of range.

    >>> import wing_jax as wj
    >>> wj.StageSpec(model=wj.models.CNN6, loss=wj.losses.wing_loss, steps=100).input_size
    64
    """

    model: Any
    loss: Any = losses.wing_loss  # Loss; that it is one is checked below, in one line
    optimizer: Any = None  # optax.GradientTransformation | None
    input_size: int = 64
    steps: int = 2_000
    batch_size: int = 32
    margin: float | None = None
    augment: Sequence[Augmentation] | None = None
    reduction: Reduction = "mean"
    ema: float = 0.999
    start: Literal["mean_shape", "random"] = "mean_shape"
    evaluate_every: int = 0
    keep: int = 2
    precision: Precision | None = None
    center: Center = "box"
    stage2_crops: Stage2Crops = "predicted"
    draws: int = 8

    def __post_init__(self) -> None:
        for name in ("input_size", "steps", "batch_size", "keep", "draws"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"StageSpec: {name}={quoted(value)} must be a whole number of at least 1")
        if self.input_size > LARGEST_INPUT:
            raise InputError(f"StageSpec: input_size={self.input_size} must be at most {LARGEST_INPUT:,}")
        if not callable(self.loss):
            raise InputError(f"StageSpec: loss={quoted(self.loss)} must be a function (predicted, target) -> loss")
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise InputError(f"StageSpec: optimizer={quoted(self.optimizer)} must be an optax transformation")
        if not 0 <= self.ema < 1:
            raise InputError(f"StageSpec: ema={self.ema} must be at least 0 and below 1")

    @property
    def validation_steps(self) -> int:
        """Steps between two measurements."""
        return self.evaluate_every or max(1, self.steps // EVALUATIONS)

    def build_model(self, points: int) -> Any:
        """The model for so many points: `model` itself, or what it makes of that number."""
        made = isinstance(self.model, type | functools.partial) or not hasattr(self.model, "apply")
        if not made:
            return self.model
        if not callable(self.model):
            raise InputError(f"StageSpec: model={quoted(self.model)} has no `init` and `apply`, and cannot be called")
        return self.model(points=points)

    def build_optimizer(self) -> optax.GradientTransformation:
        """`optimizer`, or the usual one."""
        return self.optimizer or default_optimizer(steps=self.steps)

    def scaled_loss(self) -> Loss:
        """`loss` in pixels of this stage's crop."""
        return losses.at_crop_size(self.loss, self.input_size)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Recipe(Value):
    """A whole training: its stages, and how its faces are balanced; what `wing_jax.presets` gives.

    `stages` are one or two; `balance` says how often each face comes in an epoch (`wing_jax.balance.hsm`), None: once.
    """

    stages: Sequence[StageSpec]
    balance: Balance | None = None


def usual_augmentations(number: int) -> tuple[Augmentation, ...]:
    """What is done to the crops of stage `number` where nothing else is said: as the preset "w300" has it, strong for
    the first stage, which need only find where the face is, and weaker for the second."""
    if number == 1:
        geometry = (augment.rotation(25), augment.scale(0.1), augment.flip(), augment.translation(0.06))
        return (*geometry, augment.blur(0.5), augment.color(0.3), augment.occlusion(0.3))
    geometry = (augment.aspect_jitter(0.1), augment.rotation(15), augment.scale(0.1), augment.flip())
    pixels = (augment.blur(0.5), augment.color(0.4), augment.noise(8), augment.occlusion(0.4))
    return (*geometry, augment.translation(0.05), *pixels)


def training_model(model: Any, *, precision: str | None, axis: str | None) -> Any:
    """`model` as it is trained: a linen module with a field `dtype` in the `precision`, and one with a field `axis`
    with the name of the mapped axis, so that its statistics are those of all replicas."""
    if not isinstance(model, nn.Module):
        return model
    fields = {field.name for field in dataclasses.fields(model)}
    changed: dict[str, Any] = {}
    if precision is not None and "dtype" in fields:
        changed["dtype"] = jnp.dtype(devices.precision(precision))
    if axis is not None and "axis" in fields:
        changed["axis"] = axis
    return model.clone(**changed) if changed else model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Progress(Value):
    """Where a training stands, as its callbacks see it.

    A callback is called with it whenever values are logged. It may return True, which ends the stage there.
    """

    stage: int  # from 1
    step: int  # steps done
    steps: int  # of the stage
    values: dict[str, float]  # loss, nme (fraction), and after a measurement validation_nme (fraction)


Callback = Callable[[Progress], bool | None]
