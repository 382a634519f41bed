"""The curves of a loss over the error: value, gradient, curvature, and the paper's optimal step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.losses import wing_loss
from wing_jax.types import Loss


class Curves(NamedTuple):
    """The curves of a loss: arrays of the shape of the errors.

    Args:
      value: the value of the loss.
      gradient: the derivative with respect to the error; 0 at zero error.
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
    """Compute value, gradient, curvature and optimal step of the loss at each of `errors` (predicted - target).

    The paper's argument (section 4.1) uses `gradient` and `step`: L1 has the gradient 1 at every error and the optimal
    step |x|, L2 has |x| and 1, ln|x| has 1 / |x| and x^2. The errors with the largest gradients determine the direction
    of an update, those with the largest optimal steps its length. With the logarithm, small errors determine the
    direction and large errors the length.

    Args:
      loss: an elementwise function `(predicted, target) -> loss`.
      errors: signed, of any shape, in the unit of the loss.

    Returns:
      Four arrays of the shape of `errors`.

    >>> from wing_jax.losses import l2_loss
    >>> curve = curves(l2_loss, jnp.array([-2.0, 4.0]))
    >>> curve.gradient.tolist(), curve.step.tolist()
    ([-2.0, 4.0], [1.0, 1.0])
    """

    def value_at(error: Float[Array, ""]) -> Float[Array, ""]:
        return loss(error, jnp.zeros_like(error))

    def curves_at(error: Float[Array, ""]) -> Curves:
        slope, curvature = jax.jvp(jax.grad(value_at), (error,), (jnp.ones_like(error),))
        nonzero = slope != 0
        step = jnp.where(nonzero, jnp.abs(error) / jnp.abs(jnp.where(nonzero, slope, 1)), 0)
        return Curves(value_at(error), slope, curvature, step)

    flat = jax.vmap(curves_at)(errors.reshape(-1))
    return Curves(*(part.reshape(errors.shape) for part in flat))


def wing_slopes(
    widths: Float[Array, "widths"], epsilons: Float[Array, "epsilons"], errors: Float[Array, "errors"]
) -> Float[Array, "widths epsilons errors"]:
    """Return the Wing loss's gradient for each width, epsilon and error, all in one unit of length.

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
