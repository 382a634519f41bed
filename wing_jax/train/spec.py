"""The description of a training run: stages, recipes of stages, and the progress that callbacks see."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from wing_jax import augment, losses
from wing_jax.augment import Augmentation
from wing_jax.balance import Balance
from wing_jax.choices import LARGEST_INPUT, Center, OutputBias, Precision, Reduction, Stage2Crops
from wing_jax.errors import InputError
from wing_jax.runtime import devices
from wing_jax.runtime.parameters import check_choice
from wing_jax.text import quoted
from wing_jax.train.optimizer import default_optimizer
from wing_jax.train.start import as_start
from wing_jax.types import Loss
from wing_jax.values import Value

EVALUATIONS = 20  # validations of a stage by default


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StageSpec(Value):
    """One stage of training: its network, loss, optimizer, augmentations and schedule.

    Args:
      model: the network: a Flax linen module, or any object with `init` and `apply`
        (`wing_jax.models.networks.as_network`). It maps uint8 crops `[batch, input_size, input_size, 3]` to points
        `[batch, L, 2]`, (x, y) in pixels of the crop. Or a class or function that takes `points=L` and returns such a
        network, such as `wj.models.CNN6`.
      loss: an elementwise function `(predicted, target) -> loss`. The losses of `wing_jax.losses` have lengths (such as
        `width`) in pixels of a reference crop and are rescaled to `input_size`; any other function gets pixels of the
        crop.
      optimizer: an optax transformation, with its schedule. None: AdamW with cosine decay from 1e-3 to 1e-5.
      input_size: side of the crop in pixels.
      steps: number of training steps.
      batch_size: faces per step, over all devices.
      margin: side of the crop as a multiple of the larger side of the face box (second stage: of the mean shape's
        box). None: with `start` from a landmark model, the one that shows faces as large as that model saw them; else
        1.2 for the first stage, 1.12 for the second.
      augment: augmentations of the crops (`wing_jax.augment`). None: those passed to `fit`, or the defaults.
      reduction: reduction of the loss over a batch: "mean" over all visible coordinates, or
        "sum_over_points_mean_over_batch".
      ema: decay of the exponential moving average of the parameters. The average is evaluated and saved; 0: no average.
      output_bias: "mean_shape": the untrained network predicts the mean shape, if its model has a method
        `start_at(variables, points)`. "zero": its initial parameters are left unchanged.
      evaluate_every: steps between validations, and between checkpoints; 0: a twentieth of all steps.
      keep_checkpoints: number of newest checkpoints on disk; the best one is also kept.
      precision: precision of activations in training, for a linen module with a field `dtype`: "float32", "bfloat16",
        or "auto" (bfloat16 on GPU and TPU). None: the module's own.
      center: center of the first stage's crop: the center of the "box", or the mean position of the "shape" in the box.
      start: a trained model to start from: its name, its folder, a `Localizer`, ImageNet weights, or a `wing_jax.Start`
        with any of these. None: the parameters are initialized.
      stage2_crops: source of the second stage's training crops: "predicted" (the first stage's points on
        `crops_per_face` augmentations of each face) or "annotated" (the annotated points).
      crops_per_face: crops per face with stage2_crops="predicted".

    Raises:
      InputError: a number is out of range, or the model, loss or optimizer is not of the required kind.

    >>> import wing_jax as wj
    >>> wj.StageSpec(model=wj.models.CNN6, loss=wj.losses.wing_loss, steps=100).input_size
    64
    """

    model: Any
    loss: Any = losses.wing_loss  # Loss, checked below
    optimizer: Any = None  # optax.GradientTransformation | None
    input_size: int = 64
    steps: int = 2_000
    batch_size: int = 32
    margin: float | None = None
    augment: Sequence[Augmentation] | None = None
    reduction: Reduction = "mean"
    ema: float = 0.999
    output_bias: OutputBias = "mean_shape"
    start: Any = None  # Start | None, from a name, a path, a Localizer or arrays
    evaluate_every: int = 0
    keep_checkpoints: int = 2
    precision: Precision | None = None
    center: Center = "box"
    stage2_crops: Stage2Crops = "predicted"
    crops_per_face: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", as_start(self.start))
        for name in ("input_size", "steps", "batch_size", "keep_checkpoints", "crops_per_face"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"StageSpec: {name}={quoted(value)} must be a whole number of at least 1")
        if self.input_size > LARGEST_INPUT:
            raise InputError(f"StageSpec: input_size={self.input_size} must be at most {LARGEST_INPUT:,}")
        if not callable(self.loss):
            raise InputError(
                f"StageSpec: loss={quoted(self.loss)} must be a function (predicted, target) -> loss, "
                "such as wj.losses.wing_loss"
            )
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise InputError(f"StageSpec: optimizer={quoted(self.optimizer)} must be an optax transformation")
        check_choice("StageSpec: reduction", self.reduction, Reduction)
        check_choice("StageSpec: center", self.center, Center)
        check_choice("StageSpec: stage2_crops", self.stage2_crops, Stage2Crops)
        check_choice("StageSpec: output_bias", self.output_bias, OutputBias)
        if self.precision is not None:
            check_choice("StageSpec: precision", self.precision, Precision)
        if not 0 <= self.ema < 1:
            raise InputError(f"StageSpec: ema={self.ema} must be at least 0 and below 1")

    @property
    def validation_steps(self) -> int:
        """Number of steps between two validations."""
        return self.evaluate_every or max(1, self.steps // EVALUATIONS)

    def build_model(self, points: int) -> Any:
        """Return the model for this number of points: `model` itself, or what `model(points=points)` returns."""
        is_factory = isinstance(self.model, type | functools.partial) or not hasattr(self.model, "apply")
        if not is_factory:
            return self.model
        if not callable(self.model):
            raise InputError(
                f"StageSpec: model={quoted(self.model)} has no `init` and `apply` and is not callable: pass a "
                f"Flax linen module or a class of wing_jax.models"
            )
        return self.model(points=points)

    def build_optimizer(self) -> optax.GradientTransformation:
        """Return `optimizer`, or the default one."""
        return self.optimizer or default_optimizer(steps=self.steps)

    def scaled_loss(self) -> Loss:
        """Return `loss`, rescaled to pixels of this stage's crop."""
        return losses.at_crop_size(self.loss, self.input_size)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Recipe(Value):
    """A complete training setup: one or two stages, and how to balance the faces. See `wing_jax.presets` for examples.

    `balance` sets how often each face appears in an epoch, such as `wing_jax.balance.hsm()`; None: once.
    """

    stages: Sequence[StageSpec]
    balance: Balance | None = None


def default_augmentations(number: int) -> tuple[Augmentation, ...]:
    """Return the default augmentations of stage `number`, those of the preset "w300".

    They are strong for the first stage, which only has to locate the face, and weaker for the second.
    """
    if number == 1:
        geometry = (augment.rotation(25), augment.scale(0.1), augment.flip(), augment.translation(0.06))
        return (*geometry, augment.blur(0.5), augment.color(0.3), augment.occlusion(0.3))
    geometry = (augment.aspect_jitter(0.1), augment.rotation(15), augment.scale(0.1), augment.flip())
    pixels = (augment.blur(0.5), augment.color(0.4), augment.noise(8), augment.occlusion(0.4))
    return (*geometry, augment.translation(0.05), *pixels)


def training_model(model: Any, *, precision: str | None, axis: str | None) -> Any:
    """Return `model` for training.

    A linen module with a field `dtype` gets the `precision`. One with a field `axis` gets the name of the mapped axis,
    so that its batch statistics are those of all replicas.
    """
    if not isinstance(model, nn.Module):
        return model
    fields = {field.name for field in dataclasses.fields(model)}
    changes: dict[str, Any] = {}
    if precision is not None and "dtype" in fields:
        changes["dtype"] = jnp.dtype(devices.precision(precision))
    if axis is not None and "axis" in fields:
        changes["axis"] = axis
    return model.clone(**changes) if changes else model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Progress(Value):
    """The progress of a training run, passed to its callbacks whenever values are logged.

    A callback that returns True ends the stage.
    """

    stage: int  # counted from 1
    step: int  # steps done
    steps: int  # all steps of the stage
    values: dict[str, float]  # loss, nme (fraction), and after a validation validation_nme (fraction)


Callback = Callable[[Progress], bool | None]
