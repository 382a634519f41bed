"""The shares of small, medium and large errors in a loss's gradient.

The gradient of a loss with respect to the predicted coordinates is f'(e) for each signed error e of a coordinate. The
share of a band is the sum of |f'(e)| over the errors in the band, divided by the sum over all errors.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.losses import wing_loss
from wing_jax.types import Loss

Errors = Float[Array | np.ndarray, "faces points 2"]
Shown = Bool[Array | np.ndarray, "faces points"]
EDGES = (0.5, 2.0)  # pixels of a 64 x 64 crop: between small, medium and large errors


def error_shares(errors: Errors, visible: Shown, *, edges: Sequence[float] = EDGES) -> Float[np.ndarray, "bands"]:
    """Return the fraction of the visible coordinates whose |error| is in each band between `edges`.

    Args:
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points to include.
      edges: the limits of |error| between the bands, ascending, in the unit of the errors.

    Returns:
      `[bands]`, which add up to 1.

    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> error_shares(errors, visible).tolist()
    [0.25, 0.25, 0.5]
    """
    sizes = np.abs(np.asarray(errors)[np.asarray(visible)]).reshape(-1)
    band = np.searchsorted(edges, sizes, side="right")
    return np.bincount(band, minlength=len(edges) + 1) / max(len(band), 1)


def gradient_shares(
    loss: Loss, errors: Errors, visible: Shown, *, edges: Sequence[float] = EDGES
) -> Float[Array, "bands"]:
    """Return the gradient shares of small (|e| < edges[0]), medium and large errors of all visible coordinates.

    The shares add up to 1, or are all 0 if the gradient is zero. `errors` and `edges` are in the unit of `loss`.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`, in the unit of the errors.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points to include.
      edges: the limits of |error| between the bands, ascending, in the unit of the errors.

    Returns:
      `[bands]`.

    >>> from wing_jax.losses import l1_loss
    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> gradient_shares(l1_loss, errors, visible).tolist()
    [0.25, 0.25, 0.5]
    """
    return _shares(_absolute_gradients(loss, errors), jnp.asarray(errors), visible, edges, axes=(0, 1, 2))


def landmark_shares(
    loss: Loss, errors: Errors, visible: Shown, *, edges: Sequence[float] = EDGES
) -> Float[Array, "points bands"]:
    """Return each landmark's shares of the *total* gradient; they add up to 1 over landmarks and bands.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`, in the unit of the errors.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points to include.
      edges: the limits of |error| between the bands, ascending, in the unit of the errors.

    Returns:
      `[L, bands]`.

    >>> from wing_jax.losses import l1_loss
    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> landmark_shares(l1_loss, errors, visible).tolist()
    [[0.25, 0.25, 0.0], [0.0, 0.0, 0.5]]
    """
    gradients = _absolute_gradients(loss, errors)
    total = jnp.where(jnp.asarray(visible)[..., None], gradients, 0).sum()
    return _shares(gradients, jnp.asarray(errors), visible, edges, axes=(0, 2), total=total)


def group_shares(
    loss: Loss,
    errors: Errors,
    visible: Shown,
    members: Bool[np.ndarray, "groups faces"],
    *,
    edges: Sequence[float] = EDGES,
) -> Float[Array, "groups bands"]:
    """Return the shares of each group of faces (such as a pose bin) in the total gradient of all faces.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`, in the unit of the errors.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points to include.
      members: bool `[groups, faces]`, the faces of each group.
      edges: the limits of |error| between the bands, ascending, in the unit of the errors.

    Returns:
      `[groups, bands]`.

    >>> from wing_jax.losses import l1_loss
    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> group_shares(l1_loss, errors, visible, np.array([[True], [False]])).tolist()
    [[0.25, 0.25, 0.5], [0.0, 0.0, 0.0]]
    """
    gradients = _absolute_gradients(loss, errors)
    total = jnp.where(jnp.asarray(visible)[..., None], gradients, 0).sum()

    def shares_of(members: Array) -> Array:
        shown = jnp.asarray(visible) & members[:, None]
        return _shares(gradients, jnp.asarray(errors), shown, edges, axes=(0, 1, 2), total=total)

    return jax.vmap(shares_of)(jnp.asarray(members))


def wing_shares(
    widths: Float[Array, "widths"],
    epsilons: Float[Array, "epsilons"],
    errors: Errors,
    visible: Shown,
    *,
    edges: Sequence[float] = EDGES,
) -> Float[Array, "widths epsilons bands"]:
    """Return `gradient_shares` of the Wing loss for each width and epsilon.

    Args:
      widths: `[widths]`, in the unit of the errors.
      epsilons: `[epsilons]`, in the unit of the errors.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points to include.
      edges: the limits of |error| between the bands, ascending, in the unit of the errors.

    Returns:
      `[widths, epsilons, bands]`.

    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> wing_shares(jnp.array([10.0]), jnp.array([2.0, 3.0]), errors, visible).shape
    (1, 2, 3)
    """

    def shares_of(width: Array, epsilon: Array) -> Array:
        return gradient_shares(lambda p, t: wing_loss(p, t, width=width, epsilon=epsilon), errors, visible, edges=edges)

    return jax.vmap(jax.vmap(shares_of, (None, 0)), (0, None))(widths, epsilons)


def _absolute_gradients(loss: Loss, errors: Errors) -> Float[Array, "faces points 2"]:
    """Return |f'(e)| of each coordinate."""
    errors = jnp.asarray(errors)
    _, pullback = jax.vjp(lambda e: loss(e, jnp.zeros_like(e)), errors)
    return jnp.abs(pullback(jnp.ones_like(errors))[0])


def _shares(
    gradients: Array,
    errors: Array,
    shown: Shown,
    edges: Sequence[float],
    *,
    axes: tuple[int, ...],
    total: Array | None = None,
) -> Array:
    band = jnp.searchsorted(jnp.asarray(edges, errors.dtype), jnp.abs(errors), side="right")
    visible_gradients = jnp.where(jnp.asarray(shown)[..., None], gradients, 0)
    sums = jnp.where(jax.nn.one_hot(band, len(edges) + 1, dtype=bool), visible_gradients[..., None], 0).sum(axes)
    total = sums.sum() if total is None else total
    return sums / jnp.where(total > 0, total, 1)
