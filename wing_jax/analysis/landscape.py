"""The loss surfaces around a network's parameters, along two random directions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from wing_jax.losses import mask_points, masked_mean
from wing_jax.types import Batch, Loss

NETWORKS_PER_BATCH = 8


class Landscape(NamedTuple):
    """The mean of each loss over the batch on a grid of networks, losses in the order they were passed.

    Args:
      places: positions along both directions `[places]`; 0: the network itself, 1: each filter changed by its own norm.
      values: the mean losses `[losses, places, places]`.

    >>> Landscape(jnp.zeros(3), jnp.zeros((2, 3, 3))).values.shape
    (2, 3, 3)
    """

    places: Float[Array, "places"]
    values: Float[Array, "losses places places"]


def landscapes(
    model: nn.Module,
    variables: Mapping[str, Any],
    batch: Batch,
    losses: Mapping[str, Loss],
    key: PRNGKeyArray,
    *,
    reach: float = 1.0,
    places: int = 21,
) -> Landscape:
    """Compute the losses of a grid of `places` x `places` networks around this one, along two random directions.

    The directions are Gaussian and *filter-normalized*: each filter's part of the direction is scaled to the norm of
    that filter, and biases and normalization do not change (Li et al., Visualizing the Loss Landscape of Neural Nets,
    NeurIPS 2018, https://arxiv.org/abs/1712.09913). This makes the surfaces of two networks comparable. Every network
    runs once for all losses, with the running statistics of BatchNorm.

    Args:
      model: a Flax linen module with an argument `train`.
      variables: its variables, with `params`.
      batch: a `wing_jax.types.Batch`: crops uint8 `[batch, size, size, 3]`, points `[batch, L, 2]` in pixels of the
        crop, and which of them are visible.
      losses: elementwise functions `(predicted, target) -> loss` by name, in pixels of the crop.
      key: a JAX random key for the directions.
      reach: the largest change along each direction, as a multiple of each filter's norm.
      places: the number of grid points along each direction.

    Returns:
      The places and the values `[losses, places, places]`.

    >>> from wing_jax import losses, models
    >>> model = models.PlainRegressor(points=5, channels=(4, 8), hidden=16)
    >>> batch = Batch(np.zeros((2, 16, 16, 3), np.uint8), np.ones((2, 5, 2), np.float32), np.ones((2, 5), bool))
    >>> variables = model.init(jax.random.key(0), batch.images)
    >>> both = {"Wing": losses.wing_loss, "L2": losses.l2_loss}

    >>> landscapes(model, variables, batch, both, jax.random.key(1), places=3).values.shape
    (2, 3, 3)
    """
    variables = jax.tree.map(jnp.asarray, dict(variables))
    params = variables["params"]
    first, second = (random_direction(part, params) for part in jax.random.split(key))
    along = jnp.linspace(-reach, reach, places)

    @jax.jit
    def losses_at(place: Float[Array, "2"]) -> Float[Array, "losses"]:
        moved = jax.tree.map(lambda p, a, b: p + place[0] * a + place[1] * b, params, first, second)
        predicted = jnp.asarray(model.apply({**variables, "params": moved}, jnp.asarray(batch.images), train=False))
        visible = jnp.asarray(batch.visible)
        shown, target = mask_points(predicted, jnp.asarray(batch.points), visible)
        return jnp.stack([masked_mean(loss(shown, target), visible) for loss in losses.values()])

    square = jnp.stack(jnp.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
    values = jax.lax.map(losses_at, square, batch_size=NETWORKS_PER_BATCH)
    return Landscape(along, jnp.moveaxis(values.reshape(places, places, len(losses)), -1, 0))


def random_direction(key: PRNGKeyArray, params: Any) -> Any:
    """Return a Gaussian direction, each filter (last axis) as long as the network's; 0 for vectors."""
    leaves, shape = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))

    def direction_of(key: PRNGKeyArray, leaf: Array) -> Array:
        if np.ndim(leaf) < 2:
            return jnp.zeros_like(leaf)
        direction, axes = jax.random.normal(key, leaf.shape, leaf.dtype), tuple(range(leaf.ndim - 1))
        length = jnp.sqrt(jnp.square(direction).sum(axes, keepdims=True))
        return direction * jnp.sqrt(jnp.square(leaf).sum(axes, keepdims=True)) / length

    return jax.tree.unflatten(shape, [direction_of(key, leaf) for key, leaf in zip(keys, leaves, strict=True)])
