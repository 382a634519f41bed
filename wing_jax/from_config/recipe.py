"""Stages, losses, models, optimizers and settings from a config."""

import dataclasses
import functools
from typing import Any, TypeVar

import optax
from jax.sharding import Mesh

from wing_jax import balance, losses
from wing_jax.balance import Balance
from wing_jax.config import (
    BalanceConfig,
    Config,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    StageConfig,
    StartConfig,
)
from wing_jax.errors import InputError
from wing_jax.from_config.augment import augmentations_of
from wing_jax.models import MODELS, make_model
from wing_jax.runtime.parameters import check_params
from wing_jax.text import quoted
from wing_jax.train.fit import prepare_devices
from wing_jax.train.optimizer import learning_rates, make_optimizer
from wing_jax.train.setup import TrainSettings
from wing_jax.train.spec import Recipe, StageSpec
from wing_jax.train.start import Start, trained_network
from wing_jax.types import Loss

TRAINED = "trained"  # name of the network of the trained model that a stage starts from
WARMUP_SHARE = 0.05  # least share of warm-up steps when the batch is larger than the schedule's
AnyConfig = TypeVar("AnyConfig", bound=Config)
AnyStage = TypeVar("AnyStage", bound=StageConfig)


def recipe_of(config: Config) -> Recipe:
    """Return the stages and the balancing of `config`.

    Raises:
      InputError: a name is unknown, or a number is invalid.
    """
    config = at_large_batch(config)
    stages = [config.stage1] if config.stage2 is None else [config.stage1, config.stage2]
    return Recipe(
        stages=tuple(stage_of(stage, number, start=config.start) for number, stage in enumerate(stages, 1)),
        balance=balance_of(config.balance),
    )


def stage_of(stage: StageConfig, number: int, *, start: str = "") -> StageSpec:
    """Return stage `number`; `start` is the trained model that it starts from if it names no other.

    Raises:
      InputError: a name is unknown, a number is invalid, or the trained model cannot be loaded.
    """
    trained = start_of(stage.start, model=start)
    if stage.model.name == TRAINED:
        if trained is None:
            raise InputError(f"stage {number}: model.name={quoted(TRAINED)} needs a trained model: pass --start")
        model, trained_size = trained_network(trained, number)
    else:
        model, trained_size = model_of(stage.model), 0
    input_size = stage.input_size or trained_size
    second_stage_options = {
        name: getattr(stage, name) for name in ("stage2_crops", "crops_per_face") if hasattr(stage, name)
    }
    return StageSpec(
        model=model,
        loss=loss_of(stage.loss, input_size=input_size),
        optimizer=optimizer_of(stage.optimizer, steps=stage.steps),
        input_size=input_size,
        steps=stage.steps,
        batch_size=stage.batch_size,
        margin=stage.margin or None,
        augment=augmentations_of(stage.augment),
        reduction=stage.loss.reduction,
        ema=stage.optimizer.ema,
        output_bias=stage.model.output_bias,
        evaluate_every=stage.evaluate_every,
        keep_checkpoints=stage.keep_checkpoints,
        precision=stage.model.precision,
        center=stage.center,
        start=trained,
        **second_stage_options,
    )


def model_of(model: ModelConfig) -> Any:
    """Return a function that makes the model for a number of points. The model is in float32, as it is saved.

    Raises:
      InputError: the network's name or one of its parameters is unknown.
    """
    entry = MODELS[model.name]
    check_params(f"the network {quoted(model.name)}", model.params, known=entry.parameters, required=entry.required)
    return functools.partial(make_model, model.name, **model.params)


def loss_of(loss: LossConfig, *, input_size: int) -> Loss:
    """Return the loss, its lengths rescaled from pixels of its reference size to pixels of the crop.

    Raises:
      InputError: the loss's name is unknown, or it does not take these parameters.
    """
    try:
        return losses.make_loss(
            loss.name, reference_size=loss.reference_size, working_extent=float(input_size), **loss.params
        )
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"loss {quoted(loss.name)}: {error}") from error


def optimizer_of(config: OptimizerConfig, *, steps: int) -> optax.GradientTransformation:
    """Return the optimizer with its learning rate schedule."""
    rates = learning_rates(
        first=config.learning_rate,
        last=config.final_learning_rate,
        steps=steps,
        decay=config.decay,
        warmup=config.warmup,
    )
    return make_optimizer(
        config.name, rates, weight_decay=config.weight_decay, momentum=config.momentum, clip=config.clip
    )


def start_of(config: StartConfig, *, model: str = "") -> Start | None:
    """Return how a stage starts; `model` is the trained model if `config` names no other. None: from none.

    Raises:
      InputError: a number is invalid, or there is no trained model for the other fields.
    """
    model = config.model or model
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name != "model"}
    if not model:
        if config != StartConfig():
            raise InputError("start: the stage starts from no trained model: pass --start, or omit the other fields")
        return None
    return Start(model, **fields)


def balance_of(config: BalanceConfig) -> Balance | None:
    """Return the rule for how often each face is in an epoch; None: once."""
    if config.method == "none":
        return None
    return (
        balance.hsm(bins=config.bins, cap=config.cap)
        if config.method == "hsm"
        else balance.official_hsm(bins=config.bins)
    )


def mesh_of(config: Config) -> Mesh:
    """Return the devices to train on, of all processes.

    Raises:
      InputError: there are fewer.
    """
    return prepare_devices(config.devices, processes=config.processes, parallel=config.parallel)


def settings_of(config: Config, mesh: Mesh) -> TrainSettings:
    """Return the settings of the training run."""
    return TrainSettings(
        mesh=mesh,
        seed=config.seed,
        parallel=config.parallel,
        input=config.input,
        steps_per_call=config.steps_per_call,
    )


def at_large_batch(config: AnyConfig) -> AnyConfig:
    """Return the config with every stage rescaled to `large_batch` faces per step, if that is set."""
    if not config.large_batch:
        return config
    stage2 = config.stage2
    return dataclasses.replace(
        config,
        stage1=scaled_to_batch(config.stage1, config.large_batch),
        stage2=None if stage2 is None else scaled_to_batch(stage2, config.large_batch),
        large_batch=0,
    )


def scaled_to_batch(stage: AnyStage, batch_size: int) -> AnyStage:
    """Return `stage` with `batch_size` faces per step, trained on the same total number of faces.

    With k times the batch there are 1 / k of the steps. The learning rate is k times as large for SGD (Goyal et al.,
    arXiv 1706.02677) and sqrt(k) times for Adam (Malladi et al., arXiv 2205.10287), after a warm-up of at least 5 % of
    the steps. Decoupled weight decay is scaled so that the total decay is the same, and the decay of the averaged
    parameters so that they average over the same number of faces.
    """
    ratio, optimizer = batch_size / stage.batch_size, stage.optimizer
    rate_factor = ratio if optimizer.name == "sgd" else ratio**0.5
    steps = max(1, round(stage.steps / ratio))
    warmup = max(round(optimizer.warmup / ratio), round(WARMUP_SHARE * steps) if ratio > 1 else 0)
    optimizer = dataclasses.replace(
        optimizer,
        learning_rate=optimizer.learning_rate * rate_factor,
        final_learning_rate=optimizer.final_learning_rate * rate_factor,
        warmup=warmup,
        weight_decay=optimizer.weight_decay * (ratio / rate_factor if optimizer.name == "adamw" else 1),
        ema=optimizer.ema**ratio,
    )
    return dataclasses.replace(
        stage,
        batch_size=batch_size,
        steps=steps,
        evaluate_every=max(1, round(stage.evaluate_every / ratio)),
        optimizer=optimizer,
    )
