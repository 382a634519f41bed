"""Optimisers and schedules, from keyword numbers, and the rule that carries a schedule to another batch size."""

import dataclasses
from typing import TypeVar

import optax

from wing_jax.config import StageConfig

WARMUP_SHARE = 0.05  # of the steps, at least, where a batch is larger than the schedule was made for
AnyStage = TypeVar("AnyStage", bound=StageConfig)


def learning_rates(*, first: float, last: float, steps: int, decay: str, warmup: int = 0) -> optax.Schedule:
    """From `first` to `last` in `steps` steps: "exponential" (the paper's "reduced from .. to ..", evenly in the
    logarithm) or "cosine"; before it, `warmup` steps of linear rise that count within `steps`."""
    span = max(1, steps - warmup)
    if decay == "exponential":
        falling = optax.exponential_decay(first, span, last / first, end_value=last)
    else:
        falling = optax.cosine_decay_schedule(first, span, alpha=last / first)
    rising = optax.linear_schedule(first / max(1, warmup), first, warmup)
    return optax.join_schedules([rising, falling], [warmup]) if warmup else falling


def make_optimizer(
    name: str,
    learning_rate: optax.Schedule,
    *,
    weight_decay: float,
    momentum: float = 0.9,
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """ "sgd": momentum with weight decay coupled into the gradient, of weights and biases alike, as the paper's
    toolbox MatConvNet has it; "adamw": decoupled, of matrices and kernels only."""
    if name == "sgd":
        rule = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=momentum))
    else:
        rule = optax.adamw(learning_rate, weight_decay=weight_decay, mask=_kernels)
    return optax.chain(optax.clip_by_global_norm(clip), rule) if clip > 0 else rule


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


def _kernels(params):
    import jax

    return jax.tree.map(lambda x: x.ndim > 1, params)
