"""What every loss asks of its arguments, and the distance they are all written in."""

import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real

from wing_jax.runtime.processes import check_fork
from wing_jax.text import quoted

Values: TypeAlias = Float[Array | np.ndarray, "*shape"]
Mask: TypeAlias = Bool[Array | np.ndarray, "..."] | bool
Scalar: TypeAlias = float | int | np.floating | np.integer | Real[Array, ""]


def difference(
    predicted: Values, target: Values, *, where: Mask | None = None
) -> tuple[Float[Array, "*shape"], jnp.dtype]:
    """predicted - target in float32 or wider, 0 where `where` is False, and the dtype that the loss is to be returned
    in.

    Raises:
      ValueError: the shapes differ, a dtype is not floating, or `where` is no mask of them.
    """
    predicted, target = as_array("predicted", predicted), as_array("target", target)
    if predicted.shape != target.shape:
        raise ValueError(f"predicted is {predicted.shape}, target {target.shape}: make the shapes alike")
    for name, values in (("predicted", predicted), ("target", target)):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise ValueError(f"{name} is {values.dtype}: convert it to a floating dtype")
    dtype = jnp.result_type(predicted, target)
    wide = at_least_float32(dtype)
    predicted, target = included(predicted, where), included(target, where)
    return predicted.astype(wide) - target.astype(wide), dtype


def included(values: Float[Array, "*shape"], where: Mask | None) -> Float[Array, "*shape"]:
    """`values`, 0 where `where` is False: before the loss, so that no NaN that stood there reaches a gradient.

    Raises:
      ValueError: `where` is not boolean, or cannot be broadcast to the shape of `values`.
    """
    if where is None:
        return values
    where = np.asarray(where) if isinstance(where, bool) or not hasattr(where, "dtype") else where
    try:
        fits = where.dtype == bool and jnp.broadcast_shapes(where.shape, values.shape) == values.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"where is {where.dtype} {where.shape} for values {values.shape}: give booleans that broadcast to them, "
            "such as visible[..., None] for one a point"
        )
    return jnp.where(jnp.broadcast_to(where, values.shape), values, 0)


def as_array(name: str, values: Any) -> Array:
    """`values` as a JAX array.

    Raises:
      ValueError: they are none.
      InputError: JAX cannot be used in this process (`wing_jax.runtime.processes`).
    """
    check_fork()
    if values is None:
        raise ValueError(f"{name} is None: give an array of coordinates")
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {quoted(values)}, which makes no array of numbers") from error


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """`dtype`, or float32 where that is wider: JAX's strict promotion has no way between the two."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def narrowed(loss: Float[Array, "*shape"], dtype: jnp.dtype) -> Float[Array, "*shape"]:
    """`loss` in `dtype`. A finite value too large for it becomes the largest there is, and keeps its derivative."""
    if jnp.finfo(dtype).bits >= jnp.finfo(loss.dtype).bits:
        return loss.astype(dtype)
    largest = jnp.asarray(jnp.finfo(dtype).max, loss.dtype)
    saturated = largest + (loss - jax.lax.stop_gradient(loss))
    return jnp.where((loss > largest) & jnp.isfinite(loss), saturated, loss).astype(dtype)


def magnitude(error: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|error| with the derivative sign(error), which is 0 at 0; `jnp.abs` has the derivative 1 there."""
    return error * jnp.sign(error)


def above(limit: float, dtype: jnp.dtype, **parameters: Scalar) -> tuple[Float[Array, ""], ...]:
    """The parameters as scalars of `dtype`.

    Raises:
      ValueError: one is not a scalar, or is a Python or NumPy number that is not finite and > `limit`.
    """
    for name, value in parameters.items():
        if known(name, value) and not limit < float(value) < math.inf:
            raise ValueError(f"{name} is {value}: it must be a finite number above {limit:g}")
    return tuple(jnp.asarray(value, dtype) for value in parameters.values())


def not_negative(dtype: jnp.dtype, **parameters: Scalar) -> tuple[Float[Array, ""], ...]:
    """The parameters as scalars of `dtype`.

    Raises:
      ValueError: one is not a scalar, or is a Python or NumPy number that is not finite and >= 0.
    """
    for name, value in parameters.items():
        if known(name, value) and not 0 <= float(value) < math.inf:
            raise ValueError(f"{name} is {value}: it must be a finite number, 0 or more")
    return tuple(jnp.asarray(value, dtype) for value in parameters.values())


def known(name: str, value: Scalar) -> bool:
    """Whether a scalar parameter can be checked now: JAX arrays may be traced, or on a device that it costs to ask.

    Raises:
      ValueError: it is not a scalar.
    """
    if value is None or isinstance(value, str | bytes | bool):
        raise ValueError(f"{name} is {quoted(value)}: give a number")
    if np.shape(value) != ():
        raise ValueError(f"{name} has shape {np.shape(value)}: give one number, and vmap to try several")
    return not isinstance(value, jax.Array)
