"""Which errors a loss listens to: the share of its whole gradient that small, medium and large errors send.

The gradient of a loss with respect to the predicted coordinates is f'(e) for each signed error e of a coordinate; a
band's share is the sum of |f'(e)| over the errors in the band by the sum over all.
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
EDGES = (0.5, 2.0)  # pixels of a 64 x 64 crop: what is small, medium and large


def error_shares(errors: Errors, visible: Shown, *, edges: Sequence[float] = EDGES) -> Float[np.ndarray, "bands"]:
    """Shares of the errors themselves: how many of the visible coordinates are in each band.

    Args:
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points that count.
      edges: where the bands end, in the unit of the errors.

    Returns:
      `[bands]`, which add up to 1.

    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> error_shares(errors, visible).tolist()
    [0.25, 0.25, 0.5]
    """
    counted = np.abs(np.asarray(errors)[np.asarray(visible)]).reshape(-1)
    band = np.searchsorted(edges, counted, side="right")
    return np.bincount(band, minlength=len(edges) + 1) / max(len(band), 1)


def gradient_shares(
    loss: Loss, errors: Errors, visible: Shown, *, edges: Sequence[float] = EDGES
) -> Float[Array, "bands"]:
    """Shares of small (|e| < edges[0]), medium and large errors of all visible coordinates; they add up to 1.

    `errors` are signed (x, y), in the unit that `loss` works in, and so are `edges`. All are 0 where nothing pulls.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`, in the unit of the errors.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points that count.
      edges: where the bands end, in the unit of the errors.

    Returns:
      `[bands]`.

    >>> from wing_jax.losses import l1_loss
    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> gradient_shares(l1_loss, errors, visible).tolist()
    [0.25, 0.25, 0.5]
    """
    return _shares(_pulls(loss, errors), jnp.asarray(errors), visible, edges, axes=(0, 1, 2))


def landmark_shares(
    loss: Loss, errors: Errors, visible: Shown, *, edges: Sequence[float] = EDGES
) -> Float[Array, "points bands"]:
    """For each landmark the shares of the *whole* gradient: they add up to 1 over landmarks and bands.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`, in the unit of the errors.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points that count.
      edges: where the bands end, in the unit of the errors.

    Returns:
      `[L, bands]`.

    >>> from wing_jax.losses import l1_loss
    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> landmark_shares(l1_loss, errors, visible).tolist()
    [[0.25, 0.25, 0.0], [0.0, 0.0, 0.5]]
    """
    pulls = _pulls(loss, errors)
    whole = jnp.where(jnp.asarray(visible)[..., None], pulls, 0).sum()
    return _shares(pulls, jnp.asarray(errors), visible, edges, axes=(0, 2), whole=whole)


def group_shares(
    loss: Loss,
    errors: Errors,
    visible: Shown,
    members: Bool[np.ndarray, "groups faces"],
    *,
    edges: Sequence[float] = EDGES,
) -> Float[Array, "groups bands"]:
    """For each group of faces (pose bins, say) the shares of the whole gradient of all faces.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`, in the unit of the errors.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points that count.
      members: bool `[groups, faces]`, who is in which group.
      edges: where the bands end, in the unit of the errors.

    Returns:
      `[groups, bands]`.

    >>> from wing_jax.losses import l1_loss
    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> group_shares(l1_loss, errors, visible, np.array([[True], [False]])).tolist()
    [[0.25, 0.25, 0.5], [0.0, 0.0, 0.0]]
    """
    pulls = _pulls(loss, errors)
    whole = jnp.where(jnp.asarray(visible)[..., None], pulls, 0).sum()

    def of_one(members: Array) -> Array:
        shown = jnp.asarray(visible) & members[:, None]
        return _shares(pulls, jnp.asarray(errors), shown, edges, axes=(0, 1, 2), whole=whole)

    return jax.vmap(of_one)(jnp.asarray(members))


def wing_shares(
    widths: Float[Array, "widths"],
    epsilons: Float[Array, "epsilons"],
    errors: Errors,
    visible: Shown,
    *,
    edges: Sequence[float] = EDGES,
) -> Float[Array, "widths epsilons bands"]:
    """`gradient_shares` of the Wing loss for each width and epsilon.

    Args:
      widths: `[widths]`, in the unit of the errors.
      epsilons: `[epsilons]`, likewise.
      errors: signed errors `[faces, L, 2]` of x and y.
      visible: bool `[faces, L]`, the points that count.
      edges: where the bands end, in the unit of the errors.

    Returns:
      `[widths, epsilons, bands]`.

    >>> errors, visible = np.float32([[[0.1, 1.0], [3.0, -3.0]]]), np.ones((1, 2), bool)

    >>> wing_shares(jnp.array([10.0]), jnp.array([2.0, 3.0]), errors, visible).shape
    (1, 2, 3)
    """

    def of_one(width: Array, epsilon: Array) -> Array:
        return gradient_shares(lambda p, t: wing_loss(p, t, width=width, epsilon=epsilon), errors, visible, edges=edges)

    return jax.vmap(jax.vmap(of_one, (None, 0)), (0, None))(widths, epsilons)


def _pulls(loss: Loss, errors: Errors) -> Float[Array, "faces points 2"]:
    """|f'(e)| of each coordinate."""
    errors = jnp.asarray(errors)
    _, pull = jax.vjp(lambda e: loss(e, jnp.zeros_like(e)), errors)
    return jnp.abs(pull(jnp.ones_like(errors))[0])


def _shares(
    pulls: Array,
    errors: Array,
    shown: Shown,
    edges: Sequence[float],
    *,
    axes: tuple[int, ...],
    whole: Array | None = None,
) -> Array:
    band = jnp.searchsorted(jnp.asarray(edges, errors.dtype), jnp.abs(errors), side="right")
    counted = jnp.where(jnp.asarray(shown)[..., None], pulls, 0)
    sums = jnp.where(jax.nn.one_hot(band, len(edges) + 1, dtype=bool), counted[..., None], 0).sum(axes)
    total = sums.sum() if whole is None else whole
    return sums / jnp.where(total > 0, total, 1)
