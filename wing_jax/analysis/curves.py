"""A loss over the error axis: value, gradient, curvature, and the paper's argument of the optimal step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.losses import wing_loss
from wing_jax.types import Loss


class Curves(NamedTuple):
    """One number for each error.

    Args:
      value: of the loss.
      gradient: by the error; 0 at zero error.
      curvature: the second derivative, where the loss has one.
      step: |x| / |f'(x)|: the step length that brings this error to zero; 0 at zero error.

    >>> from wing_jax.losses import l1_loss
    >>> curves(l1_loss, jnp.array([-2.0, 4.0])).value.tolist()
    [2.0, 4.0]
    """

    value: Float[Array, "*errors"]
    gradient: Float[Array, "*errors"]
    curvature: Float[Array, "*errors"]
    step: Float[Array, "*errors"]


def curves(loss: Loss, errors: Float[Array, "*errors"]) -> Curves:
    """The loss at each of `errors` (predicted - target, in the unit that the loss works in).

    The paper argues by `gradient` and `step` (section 4.1): L1 pulls with 1 at every error and needs steps of |x|, L2
    pulls with |x| and needs the step 1, ln|x| pulls with 1 / |x| and needs x^2. What pulls hardest rules the direction
    of an update, what needs the largest step its length: only with the logarithm these are not the same errors.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`.
      errors: signed, of any shape, in the unit that the loss works in.

    Returns:
      Four arrays of the shape of `errors`.

    >>> from wing_jax.losses import l2_loss
    >>> curve = curves(l2_loss, jnp.array([-2.0, 4.0]))
    >>> curve.gradient.tolist(), curve.step.tolist()
    ([-2.0, 4.0], [1.0, 1.0])
    """

    def at(error: Float[Array, ""]) -> Float[Array, ""]:
        return loss(error, jnp.zeros_like(error))

    def of_one(error: Float[Array, ""]) -> Curves:
        slope, curvature = jax.jvp(jax.grad(at), (error,), (jnp.ones_like(error),))
        pulled = slope != 0
        step = jnp.where(pulled, jnp.abs(error) / jnp.abs(jnp.where(pulled, slope, 1)), 0)
        return Curves(at(error), slope, curvature, step)

    flat = jax.vmap(of_one)(errors.reshape(-1))
    return Curves(*(part.reshape(errors.shape) for part in flat))


def wing_slopes(
    widths: Float[Array, "widths"], epsilons: Float[Array, "epsilons"], errors: Float[Array, "errors"]
) -> Float[Array, "widths epsilons errors"]:
    """The Wing loss's gradient for each width, epsilon and error, all lengths in one unit.

    Args:
      widths: `[widths]`.
      epsilons: `[epsilons]`.
      errors: `[errors]`, signed.

    Returns:
      `[widths, epsilons, errors]`.

    >>> wing_slopes(jnp.array([10.0]), jnp.array([2.0, 6.0]), jnp.array([2.0, 20.0])).tolist()
    [[[2.5, 1.0], [1.25, 1.0]]]
    """

    def slope(width: Array, epsilon: Array, error: Array) -> Array:
        return jax.grad(lambda x: wing_loss(x, jnp.zeros_like(x), width=width, epsilon=epsilon))(error)

    over_errors = jax.vmap(slope, (None, None, 0))
    return jax.vmap(jax.vmap(over_errors, (None, 0, None)), (0, None, None))(widths, epsilons, errors)
