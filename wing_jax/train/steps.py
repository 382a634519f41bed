"""One step of training: a pure function of one replica, `(state, batch) -> (state, metrics)`.

A replica is one device of the mesh, with its part of the batch. Sums, counts, gradients and batch statistics are
summed over the replicas along the named axis `AXIS`, so the result does not depend on the number of replicas.
`wing_jax.train.replicas` compiles the step, by `shard_map` or by `pmap`. Metrics are (sum, count) pairs, so that their
means are correct with masked points and with any split over devices.
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
    """Return the training step of one replica, not compiled.

    Args:
      network: the network to train (`wing_jax.models.networks.as_network`).
      optimizer: any optax transformation.
      loss: elementwise `(predicted, target) -> loss`, in pixels of the crop.
      reduction: reduction of the loss over a batch.
      eyes: the two points whose distance normalizes the logged NME.
      ema: decay of the averaged parameters, which are updated if the state has them.
      seed: the seed of dropout. The dropout key also depends on the step number and the replica.
      axis: the mapped axis over the replicas; None for a step outside of any mapped axis.
    """
    objective = make_objective(network, loss, reduction=reduction, seed=seed, axis=axis)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        variables = state.variables
        gradient, (collections, predicted, loss_pair) = jax.grad(objective, has_aux=True)(
            variables["params"], _collections(variables), batch, state.step
        )
        gradient = add_replicas(gradient, axis)
        with jax.named_scope("update"):
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, variables["params"])
            variables = {**collections, "params": optax.apply_updates(variables["params"], updates)}
            averaged = _average(state, variables, ema)
        metrics = {
            "loss": loss_pair,
            "nme": normalized_error(predicted, batch, eyes=eyes),
            "gradient_norm": jax.tree.map(lambda x: x / replica_count(axis), _sampled_norm(gradient, state.step)),
        }
        new_state = TrainState(
            step=state.step + 1,
            variables=variables,
            optimizer=optimizer_state,
            averaged=averaged,
        )
        return new_state, add_replicas(metrics, axis)

    return step


def make_objective(
    network: Network, loss: Loss, *, reduction: losses.Reduction, seed: int | Array, axis: str | None = None
) -> Callable[[Any, Any, Batch, Array], tuple[Array, tuple[Any, Array, tuple[Array, Array]]]]:
    """Return the function that a step minimizes.

    It is `(params, other collections, batch, step number) -> value, (new collections, predicted points, (sum, count) of
    the loss)`. With `axis`, the value is one replica's share.
    """

    def dropout_key(step: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(seed), step)
        return key if replica_count(axis) == 1 else jax.random.fold_in(key, jax.lax.axis_index(axis))

    def objective(params, collections, batch: Batch, step: Array):
        variables = {**collections, "params": params}
        predicted, new = network.apply(variables, batch.images, train=True, key=dropout_key(step))
        if predicted.shape != batch.points.shape:
            raise InputError(
                f"the model returned {list(predicted.shape)} for crops {list(batch.images.shape)}: it must return "
                f"[batch, points, 2], here {list(batch.points.shape)}, in pixels of the crop"
            )
        values = loss(*losses.mask_points(predicted, batch.points, batch.visible))
        if jnp.shape(values) != predicted.shape:
            raise InputError(
                f"the loss returned {list(jnp.shape(values))} for points {list(predicted.shape)}: it must be "
                "elementwise and not reduced, so that masks and batches over several devices work"
            )
        total, count = losses.total_and_count(values, batch.visible, reduction=reduction)
        share = total / jnp.maximum(add_replicas(count, axis), 1)
        replicas = replica_count(axis)
        if replicas > 1:  # for layers that do not average their statistics over the replicas themselves
            new = jax.tree.map(lambda x: jax.lax.pmean(x, axis) if jnp.issubdtype(x.dtype, jnp.inexact) else x, new)
        return share, ({**collections, **new}, predicted, (total, count))

    return objective


def add_replicas(tree: Any, axis: str | None) -> Any:
    """Sum over all replicas of `axis`."""
    return tree if replica_count(axis) == 1 else jax.lax.psum(tree, axis)


def replica_count(axis: str | None) -> int:
    """Return the number of replicas of the mapped axis, 1 without one."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def normalized_error(predicted: Array, batch: Batch, *, eyes: tuple[int, int]) -> tuple[Array, Array]:
    """Return (sum, count) over the batch of the NME, as a fraction of the distance of the two eye points.

    Faces whose eyes are not visible do not count.
    """
    points, visible = jnp.asarray(batch.points), jnp.asarray(batch.visible)
    distance = jnp.linalg.norm(points[:, eyes[0]] - points[:, eyes[1]], axis=-1)
    counted = visible[:, eyes[0]] & visible[:, eyes[1]] & (distance > 0)
    count = jnp.maximum(visible.sum(-1), 1).astype(points.dtype)
    errors = jnp.where(visible, jnp.linalg.norm(predicted - points, axis=-1), 0).sum(-1) / count
    return jnp.where(counted, errors / jnp.where(counted, distance, 1), 0).sum(), counted.sum().astype(jnp.float32)


def make_predict(network: Network) -> Predict:
    """Return a jitted `(variables, crops [batch, size, size, 3]) -> points [batch, points, 2]`, in crop pixels."""
    return jax.jit(lambda variables, images: network.apply(variables, images, train=False)[0])


def _collections(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if name != "params"}


def _sampled_norm(gradient: Any, step: Array) -> tuple[Array, Array]:
    """Return the gradient's norm as (sum, count) in every `NORM_EVERY`-th step, and (0, 0) in the others.

    At batch 8 on a CPU, reading all gradients once more takes a tenth of a step.
    """
    one, zero = jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
    return jax.lax.cond(
        step % NORM_EVERY == 0, lambda: (jnp.asarray(optax.tree.norm(gradient)), one), lambda: (zero, zero)
    )


def _average(state: TrainState, variables, decay: float):
    """Return the exponential moving average. Its decay rises from 0, so that the first steps have little weight."""
    if state.averaged is None:
        return None
    step = state.step.astype(jnp.float32)
    share = jnp.minimum(decay, (1 + step) / (10 + step))

    def average(old: Array, new: Array) -> Array:
        return share * old + (1 - share) * new if jnp.issubdtype(new.dtype, jnp.inexact) else new

    return jax.tree.map(average, state.averaged, variables)
