"""The adaptive Wing loss of heat maps. Its errors are gray values, not lengths, so `make_loss` does not offer it."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from wing_jax.losses.inputs import (
    Mask,
    Scalar,
    Values,
    as_array,
    convert_result,
    difference,
    magnitude,
    nonnegative_scalars,
    scalars_above,
    zero_excluded,
)


def adaptive_wing_loss(
    predicted: Values,
    target: Values,
    *,
    alpha: Scalar = 2.1,
    omega: Scalar = 14.0,
    epsilon: Scalar = 1.0,
    theta: Scalar = 0.5,
    where: Mask | None = None,
) -> Float[Array, "*shape"]:
    """Compute the adaptive Wing loss: Wing-like where the target heat map is bright, L2-like where it is dark.

    Values are in [0, 1]. Multiply by `adaptive_wing_weights(target)` for the paper's weighted loss map. The value and
    the slope are continuous at |x| = theta. The exponent alpha - target is above 1, so the slope is 0 at zero error.
    Where it is below 2, the curvature is unbounded near zero error and defined as 0 at zero error. Derivatives with
    respect to `target` are exact: they include the exponent.

    Args:
      predicted: heat maps `[..., height, width, points]`, gray values in [0, 1].
      target: true heat maps of the same shape.
      alpha: above 2; the exponent next to zero error is alpha - target.
      omega: height of the curved part of the loss.
      epsilon: sharpness of the curved part, a gray value.
      theta: the error, a gray value, at which the loss becomes linear.
      where: bool, broadcastable to the shape: pixels to include; the others have loss 0. None: all.

    Returns:
      The loss of each pixel, with the shape and dtype of `predicted`.

    Raises:
      ValueError: shapes or dtypes are invalid, `alpha` is not above 2, or another parameter is not above 0.

    References:
      Wang et al., Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression, ICCV 2019,
      https://arxiv.org/abs/1904.07399

    >>> predicted, target = jnp.zeros((4, 4, 1)), jnp.zeros((4, 4, 1)).at[2, 2].set(1.0)
    >>> loss = adaptive_wing_loss(predicted, target) * adaptive_wing_weights(target)
    >>> loss.shape, float(loss[0, 0, 0])
    ((4, 4, 1), 0.0)
    """
    error, dtype = difference(predicted, target, where=where)
    (alpha,) = scalars_above(2.0, error.dtype, alpha=alpha)
    omega, epsilon, theta = scalars_above(0.0, error.dtype, omega=omega, epsilon=epsilon, theta=theta)
    distance, power = magnitude(error), alpha - zero_excluded(jnp.asarray(target, error.dtype), where)
    curved = (distance > 0) & (distance < theta)
    near = jnp.where(curved, distance, theta)  # never 0: the logarithm in the derivative of 0 ** power is infinite
    # awing(x) = w ln(1 + |x / e|^p)   if |x| < t,   p = alpha - y
    #            A |x| - C             otherwise,    C = t A - w ln(1 + (t / e)^p)
    # A = w p (t / e)^(p - 1) / (e (1 + (t / e)^p))
    ratio = theta / epsilon
    logarithm = omega * jnp.log1p((near / epsilon) ** power)
    slope = omega * power * ratio ** (power - 1) / (epsilon * (1 + ratio**power))
    constant = theta * slope - omega * jnp.log1p(ratio**power)
    far = jnp.where(distance > 0, slope * distance - constant, distance)
    return convert_result(jnp.where(curved, logarithm, far), dtype)


def adaptive_wing_weights(
    target: Float[Array, "*batch height width points"], *, threshold: Scalar = 0.2, gain: Scalar = 10.0
) -> Float[Array, "*batch height width points"]:
    """Return the weight map `gain * M + 1`.

    M is 1 where any target in the 3 x 3 neighborhood is >= `threshold`, else 0.

    No gradient flows through the map, which has the target's dtype.

    Args:
      target: true heat maps `[..., height, width, points]`, gray values in [0, 1].
      threshold: the value from which a pixel counts as foreground.
      gain: extra weight of the pixels at and next to foreground pixels.

    Returns:
      The weight of each pixel, with the target's shape and dtype.

    Raises:
      ValueError: `target` is not `[..., height, width, points]`, or a parameter is negative.

    References:
      Wang et al., ICCV 2019; dilation and threshold as in https://github.com/ZhenglinZhou/STAR, lib/loss/awingLoss.py

    >>> adaptive_wing_weights(jnp.zeros((4, 4, 1)).at[0, 0].set(1.0))[0, :, 0].tolist()
    [11.0, 11.0, 1.0, 1.0]
    """
    target = as_array("target", target)
    if target.ndim < 3:
        raise ValueError(f"the target heat maps have shape {target.shape}: pass [..., height, width, points]")
    threshold, gain = nonnegative_scalars(target.dtype, threshold=threshold, gain=gain)
    bright = (target >= threshold).astype(target.dtype)
    window = (1,) * (target.ndim - 3) + (3, 3, 1)
    mask = lax.reduce_window(bright, -jnp.inf, lax.max, window, (1,) * target.ndim, "SAME")
    return gain * mask + 1
