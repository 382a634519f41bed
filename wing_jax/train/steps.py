"""One step of training: a pure function of one replica, `(state, batch) -> (state, metrics)`.

A replica is one device of the mesh, with its part of the batch. Sums, counts, gradients and batch statistics are added
over the replicas by the named axis `AXIS`, so that the result is that of the whole batch, however many there are.
`wing_jax.train.replicas` compiles it, by `shard_map` or by `pmap`. Metrics are (sum, count) pairs, so that masked
points and any split over devices come out right.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from wing_jax import losses
from wing_jax.errors import InputError
from wing_jax.models.networks import Network
from wing_jax.runtime.devices import AXIS
from wing_jax.train.state import TrainState
from wing_jax.types import Batch, Loss

Metrics = dict[str, tuple[Array, Array]]
Predict = Callable[[Any, Any], Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
NORM_EVERY = 10  # steps


def make_train_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    *,
    reduction: losses.Reduction,
    eyes: tuple[int, int],
    ema: float = 0.0,
    seed: int | Array = 0,
    axis: str | None = AXIS,
) -> Step:
    """The step of one replica, not yet compiled.

    Args:
      network: what is trained (`wing_jax.models.as_network`).
      optimizer: any transformation of optax.
      loss: elementwise `(predicted, target) -> loss`, in pixels of the crop.
      reduction: how the loss of a batch becomes one number.
      eyes: the two points whose distance normalizes the NME that is logged.
      ema: decay of the averaged parameters; they are kept where the state has them.
      seed: of dropout, which depends on it and the step's number; each replica draws its own.
      axis: the mapped axis over the replicas; None for a step that is alone, outside of any.
    """

    objective = make_objective(network, loss, reduction=reduction, seed=seed, axis=axis)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        variables = state.variables
        gradient, (collections, predicted, loss_pair) = jax.grad(objective, has_aux=True)(
            variables["params"], _collections(variables), batch, state.step
        )
        gradient = add_replicas(gradient, axis)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, variables["params"])
        variables = {**collections, "params": optax.apply_updates(variables["params"], updates)}
        metrics = {
            "loss": loss_pair,
            "nme": normalized_error(predicted, batch, eyes=eyes),
            "gradient_norm": jax.tree.map(lambda x: x / replica_count(axis), _sampled_norm(gradient, state.step)),
        }
        new_state = TrainState(
            step=state.step + 1,
            variables=variables,
            optimizer=optimizer_state,
            averaged=_average(state, variables, ema),
        )
        return new_state, add_replicas(metrics, axis)

    return step


def make_objective(
    network: Network, loss: Loss, *, reduction: losses.Reduction, seed: int | Array, axis: str | None = None
) -> Callable[[Any, Any, Batch, Array], tuple[Array, tuple[Any, Array, tuple[Array, Array]]]]:
    """What a step descends: `(params, other collections, batch, number of the step) -> value, (new collections,
    predicted points, (sum, count) of the loss)`; with `axis` the share of one replica in it."""

    def dropout_key(number: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(seed), number)
        return key if replica_count(axis) == 1 else jax.random.fold_in(key, jax.lax.axis_index(axis))

    def objective(params, collections, batch: Batch, number: Array):
        variables = {**collections, "params": params}
        predicted, new = network.apply(variables, batch.images, train=True, key=dropout_key(number))
        if predicted.shape != batch.points.shape:
            raise InputError(
                f"the model answers {list(predicted.shape)} to crops {list(batch.images.shape)}: it must answer "
                f"[batch, points, 2], here {list(batch.points.shape)}, in pixels of the crop"
            )
        values = loss(*losses.mask_points(predicted, batch.points, batch.visible))
        if jnp.shape(values) != predicted.shape:
            raise InputError(
                f"the loss answers {list(jnp.shape(values))} to points {list(predicted.shape)}: it must be elementwise "
                "and unreduced, so that masks and batches over several devices come out right"
            )
        total, count = losses.total_and_count(values, batch.visible, reduction=reduction)
        share = total / jnp.maximum(add_replicas(count, axis), 1)
        replicas = replica_count(axis)
        if replicas > 1:  # statistics of layers that know of no replicas
            new = jax.tree.map(lambda x: jax.lax.pmean(x, axis) if jnp.issubdtype(x.dtype, jnp.inexact) else x, new)
        return share, ({**collections, **new}, predicted, (total, count))

    return objective


def add_replicas(tree: Any, axis: str | None) -> Any:
    """The sums over all replicas of `axis`; nothing is added where there is one."""
    return tree if replica_count(axis) == 1 else jax.lax.psum(tree, axis)


def replica_count(axis: str | None) -> int:
    """Replicas of the mapped axis, 1 without one."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def normalized_error(predicted: Array, batch: Batch, *, eyes: tuple[int, int]) -> tuple[Array, Array]:
    """(sum, count) over the batch of the NME (fractions) by the distance of the two eye points; faces whose eyes
    are not visible are left out."""
    points, visible = jnp.asarray(batch.points), jnp.asarray(batch.visible)
    distance = jnp.linalg.norm(points[:, eyes[0]] - points[:, eyes[1]], axis=-1)
    counted = visible[:, eyes[0]] & visible[:, eyes[1]] & (distance > 0)
    count = jnp.maximum(visible.sum(-1), 1).astype(points.dtype)
    errors = jnp.where(visible, jnp.linalg.norm(predicted - points, axis=-1), 0).sum(-1) / count
    return jnp.where(counted, errors / jnp.where(counted, distance, 1), 0).sum(), counted.sum().astype(jnp.float32)


def make_predict(network: Network) -> Predict:
    """Compiled `(variables, crops [batch, size, size, 3]) -> points [batch, points, 2]` in pixels of the crop."""
    return jax.jit(lambda variables, images: network.apply(variables, images, train=False)[0])


def _collections(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if name != "params"}


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
    share = jnp.minimum(decay, (1 + step) / (10 + step))

    def average(old: Array, new: Array) -> Array:
        return share * old + (1 - share) * new if jnp.issubdtype(new.dtype, jnp.inexact) else new

    return jax.tree.map(average, state.averaged, variables)
