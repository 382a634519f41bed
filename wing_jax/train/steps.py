"""One step of training, as a pure function `(state, batch) -> (state, metrics)`, by `jit` over a mesh or by `pmap`.

Metrics are (sum, count) pairs, so that masked points and any split over devices come out right.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from wing_jax.runtime.devices import AXIS
from wing_jax.train.state import TrainState
from wing_jax.types import Loss

Batch = dict[str, Array | np.ndarray]
Metrics = dict[str, tuple[Array, Array]]
Predict = Callable[[Any, Array | np.ndarray], Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Reduction = Literal["sum_over_points_mean_over_batch", "mean"]
NORM_EVERY = 10  # steps


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    *,
    reduction: Reduction,
    eyes: tuple[int, int],
    ema: float = 0.0,
    seed: int | Array = 0,
    axis: str | None = None,
) -> Step:
    """The step, not yet compiled. `eyes` are the two points whose distance normalises the NME that is logged.

    With `axis` it is one replica's step of a `pmap` over that axis: sums, counts, gradients and batch statistics
    are added over the replicas, so that the result equals the step of the whole batch. Dropout depends on `seed` and
    the step's number; each replica draws its own.
    """

    objective = make_objective(model, loss, reduction=reduction, seed=seed, axis=axis)

    def everywhere(value):
        return value if axis is None else jax.lax.psum(value, axis)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        variables = state.variables
        gradient, (batch_stats, predicted, loss_pair) = jax.grad(objective, has_aux=True)(
            variables["params"], variables["batch_stats"], batch, state.step
        )
        gradient = everywhere(gradient)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, variables["params"])
        variables = {"params": optax.apply_updates(variables["params"], updates), "batch_stats": batch_stats}
        metrics = {
            "loss": loss_pair,
            "nme": normalised_error(predicted, batch, eyes=eyes),
            "gradient_norm": jax.tree.map(lambda x: _once(x, axis), _sampled_norm(gradient, state.step)),
        }
        new_state = TrainState(
            step=state.step + 1,
            variables=variables,
            optimizer=optimizer_state,
            averaged=_average(state, variables, ema),
        )
        return new_state, everywhere(metrics)

    return step


def make_objective(
    model: nn.Module, loss: Loss, *, reduction: Reduction, seed: int | Array, axis: str | None = None
) -> Callable[[Any, Any, Batch, Array], tuple[Array, tuple[Any, Array, tuple[Array, Array]]]]:
    """What a step descends: `(params, batch_stats, batch, number of the step) -> value, (new batch statistics,
    predicted points, (sum, count) of the loss)`; with `axis` the share of one replica in it."""

    def dropout_key(number: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(seed), number)
        return key if axis is None else jax.random.fold_in(key, jax.lax.axis_index(axis))

    def objective(params, batch_stats, batch: Batch, number: Array):
        predicted, new = model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["images"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key(number)},
        )
        shown = batch["visible"]
        target = jnp.where(shown[..., None], batch["points"], jax.lax.stop_gradient(predicted))
        total = jnp.where(shown[..., None], loss(predicted, target), 0).sum()
        count = (
            jnp.asarray(len(shown), jnp.float32)
            if reduction == "sum_over_points_mean_over_batch"
            else 2.0 * shown.sum().astype(jnp.float32)
        )
        share = total / jnp.maximum(count if axis is None else jax.lax.psum(count, axis), 1)
        return share, (new.get("batch_stats", {}), predicted, (total, count))

    return objective


def compile_step(step: Step, *, parallel: Literal["jit", "pmap"]) -> Step:
    """Compile `step`, its state donated. For "pmap" it must have been made with `axis=AXIS`."""
    return jax.jit(step, donate_argnums=0) if parallel == "jit" else jax.pmap(step, axis_name=AXIS, donate_argnums=0)


def normalised_error(predicted: Array, batch: Batch, *, eyes: tuple[int, int]) -> tuple[Array, Array]:
    """(sum, count) over the batch of the NME (fractions) by the distance of the two eye points; faces whose eyes
    are hidden are left out."""
    points, shown = batch["points"], batch["visible"]
    distance = jnp.linalg.norm(points[:, eyes[0]] - points[:, eyes[1]], axis=-1)
    counted = shown[:, eyes[0]] & shown[:, eyes[1]] & (distance > 0)
    visible = jnp.maximum(shown.sum(-1), 1).astype(points.dtype)
    errors = jnp.where(shown, jnp.linalg.norm(predicted - points, axis=-1), 0).sum(-1) / visible
    return jnp.where(counted, errors / jnp.where(counted, distance, 1), 0).sum(), counted.sum().astype(jnp.float32)


def make_predict(model: nn.Module) -> Predict:
    """Compiled `(variables, crops [batch, size, size, 3]) -> points [batch, points, 2]` in pixels of the crop."""
    return jax.jit(lambda variables, images: model.apply(variables, images, train=False))


def _sampled_norm(gradient: Any, step: Array) -> tuple[Array, Array]:
    """The gradient's norm as (sum, count) in every `NORM_EVERY`-th step, (0, 0) in the others: at batch 8 on a CPU
    reading all gradients once more takes a tenth of a step."""
    one, zero = jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
    return jax.lax.cond(
        step % NORM_EVERY == 0, lambda: (jnp.asarray(optax.tree.norm(gradient)), one), lambda: (zero, zero)
    )


def _average(state: TrainState, variables, decay: float):
    """Exponential moving average, its decay rising from 0 so that the first steps are forgotten."""
    if state.averaged is None:
        return None
    step = state.step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, state.averaged, variables)


def _once(value: Array, axis: str | None) -> Array:
    """A value that every replica has alike, so that adding over replicas gives it once."""
    return value if axis is None else value / jax.lax.axis_size(axis)
