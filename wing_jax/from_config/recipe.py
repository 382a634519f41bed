"""The stages, losses, models, optimizers and settings that a config names, as objects."""

import dataclasses
import functools
from typing import Any, TypeVar

import optax
from jax.sharding import Mesh

from wing_jax import balance, losses
from wing_jax.balance import Balance
from wing_jax.config import BalanceConfig, Config, LossConfig, ModelConfig, OptimizerConfig, StageConfig
from wing_jax.errors import InputError
from wing_jax.from_config.augment import augmentations_of
from wing_jax.models import MODELS, make_model
from wing_jax.runtime.parameters import check_params
from wing_jax.text import quoted
from wing_jax.train.fit import prepare_devices
from wing_jax.train.optimizer import learning_rates, make_optimizer
from wing_jax.train.setup import TrainSettings
from wing_jax.train.spec import Recipe, StageSpec
from wing_jax.types import Loss

WARMUP_SHARE = 0.05  # of the steps, at least, where a batch is larger than the schedule was made for
AnyConfig = TypeVar("AnyConfig", bound=Config)
AnyStage = TypeVar("AnyStage", bound=StageConfig)


def recipe_of(config: Config) -> Recipe:
    """The stages and the balancing of `config`.

    Raises:
      InputError: a name is unknown, or a number does not fit.
    """
    config = at_large_batch(config)
    stages = [config.stage1] if config.stage2 is None else [config.stage1, config.stage2]
    return Recipe(stages=tuple(map(stage_of, stages)), balance=balance_of(config.balance))


def stage_of(stage: StageConfig) -> StageSpec:
    """One stage.

    Raises:
      InputError: a name is unknown, or a number does not fit.
    """
    second = {name: getattr(stage, name) for name in ("stage2_crops", "draws") if hasattr(stage, name)}
    return StageSpec(
        model=model_of(stage.model),
        loss=loss_of(stage.loss, input_size=stage.input_size),
        optimizer=optimizer_of(stage.optimizer, steps=stage.steps),
        input_size=stage.input_size,
        steps=stage.steps,
        batch_size=stage.batch_size,
        margin=stage.margin,
        augment=augmentations_of(stage.augment),
        reduction=stage.loss.reduction,
        ema=stage.optimizer.ema,
        start="mean_shape" if stage.model.output_bias == "mean_shape" else "random",
        evaluate_every=stage.evaluate_every,
        keep=stage.keep,
        precision=stage.model.precision,
        center=stage.center,
        **second,
    )


def model_of(model: ModelConfig) -> Any:
    """What makes the model of the number of points; always in float32, in which it is kept.

    Raises:
      InputError: no network is called so, or it has no such parameters.
    """
    entry = MODELS[model.name]
    check_params(f"the network {quoted(model.name)}", model.params, known=entry.parameters, required=entry.required)
    return functools.partial(make_model, model.name, **model.params)


def loss_of(loss: LossConfig, *, input_size: int) -> Loss:
    """The loss, its lengths rescaled from pixels of its reference size to pixels of the crop.

    Raises:
      InputError: no loss is called so, or it does not take these parameters.
    """
    try:
        return losses.make_loss(
            loss.name, reference_size=loss.reference_size, working_extent=float(input_size), **loss.params
        )
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"loss {quoted(loss.name)}: {error}") from error


def optimizer_of(chosen: OptimizerConfig, *, steps: int) -> optax.GradientTransformation:
    """The optimizer with its schedule."""
    rates = learning_rates(
        first=chosen.learning_rate,
        last=chosen.final_learning_rate,
        steps=steps,
        decay=chosen.decay,
        warmup=chosen.warmup,
    )
    return make_optimizer(
        chosen.name, rates, weight_decay=chosen.weight_decay, momentum=chosen.momentum, clip=chosen.clip
    )


def balance_of(config: BalanceConfig) -> Balance | None:
    """How often each face comes in an epoch."""
    if config.method == "none":
        return None
    return (
        balance.hsm(bins=config.bins, cap=config.cap)
        if config.method == "hsm"
        else balance.official_hsm(bins=config.bins)
    )


def mesh_of(config: Config) -> Mesh:
    """The devices to train on, of all processes.

    Raises:
      InputError: there are fewer.
    """
    return prepare_devices(config.devices, processes=config.processes, parallel=config.parallel)


def settings_of(config: Config, mesh: Mesh) -> TrainSettings:
    """How the training is computed."""
    return TrainSettings(
        mesh=mesh,
        seed=config.seed,
        parallel=config.parallel,
        input=config.input,
        steps_per_call=config.steps_per_call,
    )


def at_large_batch(config: AnyConfig) -> AnyConfig:
    """The config with every stage rescaled to `large_batch` faces a step, where it asks for that."""
    if not config.large_batch:
        return config
    second = config.stage2
    return dataclasses.replace(
        config,
        stage1=scaled_to_batch(config.stage1, config.large_batch),
        stage2=None if second is None else scaled_to_batch(second, config.large_batch),
        large_batch=0,
    )


def scaled_to_batch(stage: AnyStage, batch_size: int) -> AnyStage:
    """`stage` trained on as many faces with `batch_size` faces a step.

    With k times the batch there are 1 / k of the steps. The learning rate is k times as large for SGD (Goyal et al.,
    arXiv 1706.02677), sqrt(k) times for Adam (Malladi et al., arXiv 2205.10287), behind a warm-up of 5 % of the steps
    at least; decoupled weight decay is scaled so that all steps together decay as much, and the averaging of the
    parameters so that it reaches as many faces back.
    """
    ratio, chosen = batch_size / stage.batch_size, stage.optimizer
    faster = ratio if chosen.name == "sgd" else ratio**0.5
    steps = max(1, round(stage.steps / ratio))
    warmup = max(round(chosen.warmup / ratio), round(WARMUP_SHARE * steps) if ratio > 1 else 0)
    optimizer = dataclasses.replace(
        chosen,
        learning_rate=chosen.learning_rate * faster,
        final_learning_rate=chosen.final_learning_rate * faster,
        warmup=warmup,
        weight_decay=chosen.weight_decay * (ratio / faster if chosen.name == "adamw" else 1),
        ema=chosen.ema**ratio,
    )
    return dataclasses.replace(
        stage,
        batch_size=batch_size,
        steps=steps,
        evaluate_every=max(1, round(stage.evaluate_every / ratio)),
        optimizer=optimizer,
    )
