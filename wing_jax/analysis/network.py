"""The losses' gradients on a network and a batch: their norms by layer, and the cosines between losses."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wing_jax.losses import mask_points, masked_mean
from wing_jax.types import Batch, Loss


class LayerGradients(NamedTuple):
    """The gradients of several losses on one batch, in the order of the losses.

    Args:
      layers: the names of the layers, from the input to the output.
      norms: the gradient norms with respect to each layer's parameters, `[losses, layers]`.
      cosines: the cosines between the losses' gradients with respect to all parameters, `[losses, losses]`.

    >>> LayerGradients(("Conv_0",), np.ones((2, 1)), np.eye(2)).layers
    ('Conv_0',)
    """

    layers: tuple[str, ...]
    norms: Float[Array, "losses layers"]
    cosines: Float[Array, "losses losses"]


def layer_gradients(
    model: nn.Module, variables: Mapping[str, Any], batch: Batch, losses: Mapping[str, Loss]
) -> LayerGradients:
    """Compute the gradients of the mean of each loss over the visible coordinates, with respect to all parameters.

    The network runs in training mode (BatchNorm with batch statistics, dropout with a fixed key). It runs only once:
    `vmap` over one `vjp` propagates the gradients of all losses.

    Args:
      model: a Flax linen module with an argument `train`.
      variables: its variables, with `params`.
      batch: a `wing_jax.types.Batch`: crops uint8 `[batch, size, size, 3]`, points `[batch, L, 2]` in pixels of the
        crop, and which of them are visible.
      losses: elementwise functions `(predicted, target) -> loss` by name, in pixels of the crop.

    Returns:
      The layers, the norms and the cosines.

    >>> from wing_jax import losses, models
    >>> model = models.PlainRegressor(points=5, channels=(4, 8), hidden=16)
    >>> batch = Batch(np.zeros((2, 16, 16, 3), np.uint8), np.ones((2, 5, 2), np.float32), np.ones((2, 5), bool))
    >>> variables = model.init(jax.random.key(0), batch.images)
    >>> both = {"Wing": losses.wing_loss, "L2": losses.l2_loss}

    >>> gradients = layer_gradients(model, variables, batch, both)
    >>> gradients.norms.shape == (2, len(gradients.layers)), gradients.cosines.shape
    (True, (2, 2))
    """
    gradients = _make_gradients(model, losses)(variables, batch)
    layers = _order_layers(gradients)
    squares = jnp.stack([_dots(gradients[name], gradients[name]).diagonal() for name in layers], axis=1)
    products = jnp.stack([_dots(gradients[name], gradients[name]) for name in layers]).sum(0)
    lengths = jnp.sqrt(products.diagonal())
    cosines = products / jnp.maximum(lengths[:, None] * lengths[None], jnp.finfo(products.dtype).tiny)
    return LayerGradients(layers, jnp.sqrt(squares), cosines)


def gradient_agreement(
    model: nn.Module,
    variables: Mapping[str, Any],
    batches: Sequence[Batch],
    losses: Mapping[str, Loss],
) -> Float[np.ndarray, "losses"]:
    """Return the mean cosine between a loss's gradients on different batches, for each loss.

    Each batch is compared to the next, the last one to the first. 1 means a gradient without noise; a lower value means
    that more of a step is noise.

    Args:
      model: a Flax linen module with an argument `train`.
      variables: its variables, with `params`.
      batches: two or more batches of different faces, each as for `layer_gradients`.
      losses: elementwise functions `(predicted, target) -> loss` by name, in pixels of the crop.

    Returns:
      The mean cosine of each loss, `[losses]`.

    Raises:
      ValueError: there are fewer than two batches.

    >>> from wing_jax import losses, models
    >>> model = models.PlainRegressor(points=5, channels=(4, 8), hidden=16)
    >>> batch = Batch(np.zeros((2, 16, 16, 3), np.uint8), np.ones((2, 5, 2), np.float32), np.ones((2, 5), bool))
    >>> variables = model.init(jax.random.key(0), batch.images)
    >>> both = {"Wing": losses.wing_loss, "L2": losses.l2_loss}

    >>> gradient_agreement(model, variables, [batch, batch], both).round(3).tolist()
    [1.0, 1.0]
    """
    if len(batches) < 2:
        raise ValueError(f"{len(batches)} batches: pass two or more batches of different faces")
    compute_gradients = _make_gradients(model, losses)
    gradients = [compute_gradients(variables, batch) for batch in batches]
    lengths = [jnp.sqrt(_dots(part, part).diagonal()) for part in gradients]
    cosines = [
        _dots(gradients[i - 1], gradients[i]).diagonal() / (lengths[i - 1] * lengths[i]) for i in range(len(batches))
    ]
    return np.asarray(jnp.stack(cosines).mean(0))


def _make_gradients(model: nn.Module, losses: Mapping[str, Loss]):
    """Make the compiled function of variables and a batch that returns the losses' gradients.

    The losses are along a leading axis of each parameter's gradient.
    """

    @jax.jit
    def compute_gradients(variables: Mapping[str, Any], batch: Batch) -> Any:
        def predict(params: Any) -> Array:
            predicted, _ = model.apply(
                {**variables, "params": params},
                batch.images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            return predicted

        predicted, pullback = jax.vjp(predict, variables["params"])
        cotangents = jnp.stack([jax.grad(_make_objective(loss, batch))(predicted) for loss in losses.values()])
        (gradients,) = jax.vmap(pullback)(cotangents)
        return gradients

    return compute_gradients


def _make_objective(loss: Loss, batch: Batch):
    def objective(predicted: Array) -> Array:
        shown, target = mask_points(predicted, batch.points, batch.visible)
        return masked_mean(loss(shown, target), batch.visible)

    return objective


def _dots(first: Any, second: Any) -> Float[Array, "losses losses"]:
    """Return the inner products of the losses' gradients, summed over all arrays of the layer."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return jnp.stack([a.reshape(len(a), -1) @ b.reshape(len(b), -1).T for a, b in pairs]).sum(0)


def _order_layers(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the layers from the input to the output; Flax names them by kind and number."""
    kinds = ("Conv", "Batch", "Bottleneck", "Dense", "Shift", "output")

    def sort_key(name: str) -> tuple[int, int, str]:
        kind = next((i for i, start in enumerate(kinds) if name.startswith(start)), len(kinds))
        number = name.rpartition("_")[2]
        return kind, int(number) if number.isdigit() else 0, name

    return tuple(sorted(params, key=sort_key))
