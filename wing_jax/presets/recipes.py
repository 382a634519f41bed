"""Two recipes shared by the configs and `wing_jax.reproduce`: the paper's training, and a stronger one.

A recipe sets the fields that its training runs share. `stage1` and `stage2` set the fields that depend on the data set;
they accept any field of `StageConfig` and `SecondStageConfig`, and override the recipe.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from wing_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    Reduction,
    SecondStageConfig,
    StageConfig,
)

Fields: TypeAlias = Mapping[str, Any]

# Lengths of the Wing loss in pixels, by crop size.
LENGTHS = {64: {"width": 10.0, "epsilon": 2.0}, 128: {"width": 15.0, "epsilon": 3.0}}
CNN6 = (32, 64, 128, 256, 512)  # channels, for crops of 64 pixels
CNN7 = (64, 64, 128, 256, 512, 512)  # for crops of 128 pixels


def paper_recipe(*, name: str, data: DataConfig, stage1: Fields, stage2: Fields, **fields: Any) -> Config:
    """Make the config of the paper's training run.

    It has CNN-6 at 64 x 64, then CNN-7 at 128 x 128, Wing loss, SGD, and 120,000 steps of 8 faces for each stage.

    Args:
      name: name of the run.
      data: the training faces.
      stage1: fields of the first stage: `margin` (side of the crop divided by that of the face box), `augment`, and any
        others.
      stage2: fields of the second stage: the same; its `margin` is relative to the larger side of the mean shape.
      **fields: other fields of `Config`, such as `balance`.

    Returns:
      The config.

    >>> from wing_jax.config import AugmentConfig
    >>> fields = {"margin": 1.0, "augment": AugmentConfig(rotation=30.0, translation=0.05, scale=0.05)}
    >>> config = paper_recipe(name="mine", data=DataConfig(name="aflw"), stage1=fields, stage2=fields)
    >>> config.stage1.steps, config.stage2.loss.params["width"]
    (120000, 15.0)
    """
    schedule: Fields = {"batch_size": 8, "steps": 120_000, "evaluate_every": 5_000}
    first: Fields = {
        "input_size": 64,  # pixels
        "model": ModelConfig(name="plain", params={"channels": CNN6}),
        "loss": wing(64, reduction="sum_over_points_mean_over_batch"),
        "optimizer": sgd(3e-5, 3e-7),  # 3e-6 to 3e-8 for L2
    }
    second: Fields = {
        "input_size": 128,  # pixels
        "model": ModelConfig(name="plain", params={"channels": CNN7}),
        "loss": wing(128, reduction="sum_over_points_mean_over_batch"),
        "optimizer": sgd(1e-5, 1e-7),
        "stage2_crops": "annotated",
    }
    return Config(
        name=name,
        data=data,
        stage1=StageConfig(**{**schedule, **first, **stage1}),
        stage2=SecondStageConfig(**{**schedule, **second, **stage2}),
        **fields,
    )


def strong_recipe(
    *,
    name: str,
    data: DataConfig,
    stage1: Fields,
    stage2: Fields,
    optimizer: OptimizerConfig | None = None,
    batch_size: int = 32,
    **fields: Any,
) -> Config:
    """Make the config of a two-stage training run that reaches a lower error in a tenth of the paper's steps.

    It uses AdamW with cosine decay and averaged parameters, BatchNorm, outputs that start at the mean shape, and the
    Wing loss averaged over points and batch.

    Args:
      name: name of the run.
      data: the training faces.
      stage1: fields of the first stage: `margin` (side of the crop divided by that of the face box), `augment`,
        `steps`, `evaluate_every`, and any others. Default: CNN-6 at 64 x 64.
      stage2: fields of the second stage: the same; its `margin` is relative to the larger side of the mean shape.
        `model` is required; the default `input_size` is 128.
      optimizer: optimizer of both stages; None: `adamw()`.
      batch_size: faces per step, of both stages.
      **fields: other fields of `Config`, such as `balance`.

    Returns:
      The config.

    >>> from wing_jax.config import AugmentConfig
    >>> augment = AugmentConfig(rotation=20.0, translation=0.05, scale=0.1)
    >>> fields = {"margin": 1.3, "augment": augment, "steps": 4_000, "evaluate_every": 500}
    >>> second = {**fields, "model": voting((16, 32, 64, 128, 256, 512))}
    >>> config = strong_recipe(name="mine", data=DataConfig(name="pts"), stage1=fields, stage2=second)
    >>> config.stage1.optimizer.learning_rate, config.stage2.input_size, config.stage2.model.name
    (0.001, 128, 'voting')
    """
    common: dict[str, Any] = {"optimizer": optimizer or adamw(), "batch_size": batch_size}
    first: dict[str, Any] = {"input_size": 64, "model": plain(CNN6), **common, **stage1}
    second: dict[str, Any] = {"input_size": 128, **common, **stage2}
    for stage in (first, second):
        stage.setdefault("loss", wing(stage["input_size"], reduction="mean"))
    return Config(name=name, data=data, stage1=StageConfig(**first), stage2=SecondStageConfig(**second), **fields)


def wing(input_size: int, *, reduction: Reduction) -> LossConfig:
    """Make the Wing loss with the paper's lengths for crops of 64 or 128 pixels; other sizes are scaled from 64.

    >>> wing(128, reduction="mean").params
    {'width': 15.0, 'epsilon': 3.0}
    """
    reference = input_size if input_size in LENGTHS else 64
    return LossConfig(name="wing", reference_size=reference, reduction=reduction, params=LENGTHS[reference])


def sgd(learning_rate: float, final_learning_rate: float) -> OptimizerConfig:
    """Make the paper's optimizer: SGD with exponential decay of the learning rate."""
    return OptimizerConfig(
        name="sgd",
        learning_rate=learning_rate,
        final_learning_rate=final_learning_rate,
        decay="exponential",
        weight_decay=5e-4,
        momentum=0.9,
    )


def adamw(
    *, learning_rate: float = 1e-3, weight_decay: float = 5e-2, warmup: int = 200, ema: float = 0.999
) -> OptimizerConfig:
    """Make AdamW with `warmup` steps and cosine decay of the learning rate to a hundredth.

    `ema` is the decay of the averaged parameters.

    >>> adamw(learning_rate=2e-3).final_learning_rate
    2e-05
    """
    return OptimizerConfig(
        name="adamw",
        learning_rate=learning_rate,
        final_learning_rate=learning_rate / 100,
        decay="cosine",
        weight_decay=weight_decay,
        warmup=warmup,
        ema=ema,
    )


def plain(channels: tuple[int, ...], **params: Any) -> ModelConfig:
    """Make the paper's network, by its channels, with BatchNorm and outputs that start at the mean shape."""
    return _make_network("plain", channels=channels, **params)


def voting(channels: tuple[int, ...], **params: Any) -> ModelConfig:
    """Make the voting network (`wing_jax.models.voting`), the best second stage, in the same way."""
    return _make_network("voting", channels=channels, **{"hidden": 64, "dropout": 0.3, **params})


def _make_network(name: str, **params: Any) -> ModelConfig:
    return ModelConfig(name=name, params={"norm": "batch", **params}, output_bias="mean_shape")
