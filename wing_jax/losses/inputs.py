"""The argument checks and the error distance that all losses share."""

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
    """Return predicted - target in float32 or wider, 0 where `where` is False, and the dtype of the loss to return.

    Raises:
      ValueError: the shapes differ, a dtype is not floating, or `where` is not a mask for them.
    """
    predicted, target = as_array("predicted", predicted), as_array("target", target)
    if predicted.shape != target.shape:
        raise ValueError(f"predicted is {predicted.shape}, target is {target.shape}: pass arrays of the same shape")
    for name, values in (("predicted", predicted), ("target", target)):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise ValueError(f"{name} is {values.dtype}: convert it to a floating dtype")
    dtype = jnp.result_type(predicted, target)
    wide = at_least_float32(dtype)
    predicted, target = zero_excluded(predicted, where), zero_excluded(target, where)
    return predicted.astype(wide) - target.astype(wide), dtype


def zero_excluded(values: Float[Array, "*shape"], where: Mask | None) -> Float[Array, "*shape"]:
    """Set `values` to 0 where `where` is False.

    This is done before the loss is computed, so that a NaN at an excluded element cannot reach the gradient.

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
            f"where is {where.dtype} {where.shape} for values {values.shape}: pass booleans that broadcast to them, "
            "such as visible[..., None] for one boolean per point"
        )
    return jnp.where(jnp.broadcast_to(where, values.shape), values, 0)


def as_array(name: str, values: Any) -> Array:
    """Convert `values` to a JAX array.

    Raises:
      ValueError: they cannot be converted.
      InputError: JAX cannot be used in this process (`wing_jax.runtime.processes`).
    """
    check_fork()
    if values is None:
        raise ValueError(f"{name} is None: pass an array of coordinates")
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {quoted(values)}: it cannot be converted to an array of numbers") from error


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """Return the wider of `dtype` and float32; JAX's strict promotion does not convert between them."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def convert_result(loss: Float[Array, "*shape"], dtype: jnp.dtype) -> Float[Array, "*shape"]:
    """Convert `loss` to `dtype`. A finite value too large for it becomes the largest one and keeps its derivative."""
    if jnp.finfo(dtype).bits >= jnp.finfo(loss.dtype).bits:
        return loss.astype(dtype)
    largest = jnp.asarray(jnp.finfo(dtype).max, loss.dtype)
    saturated = largest + (loss - jax.lax.stop_gradient(loss))
    return jnp.where((loss > largest) & jnp.isfinite(loss), saturated, loss).astype(dtype)


def magnitude(error: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return |error| with the derivative sign(error), which is 0 at 0; that of `jnp.abs` is 1 there."""
    return error * jnp.sign(error)


def scalars_above(limit: float, dtype: jnp.dtype, **parameters: Scalar) -> tuple[Float[Array, ""], ...]:
    """Convert the parameters to scalars of `dtype`.

    Raises:
      ValueError: one is not a scalar, or is a Python or NumPy number that is not finite and > `limit`.
    """
    for name, value in parameters.items():
        if is_checkable(name, value) and not limit < float(value) < math.inf:
            raise ValueError(f"{name} is {value}: it must be a finite number above {limit:g}")
    return tuple(jnp.asarray(value, dtype) for value in parameters.values())


def nonnegative_scalars(dtype: jnp.dtype, **parameters: Scalar) -> tuple[Float[Array, ""], ...]:
    """Convert the parameters to scalars of `dtype`.

    Raises:
      ValueError: one is not a scalar, or is a Python or NumPy number that is not finite and >= 0.
    """
    for name, value in parameters.items():
        if is_checkable(name, value) and not 0 <= float(value) < math.inf:
            raise ValueError(f"{name} is {value}: it must be a finite number, 0 or more")
    return tuple(jnp.asarray(value, dtype) for value in parameters.values())


def is_checkable(name: str, value: Scalar) -> bool:
    """Return whether a scalar parameter can be checked now: JAX arrays may be traced, or slow to read from a device.

    Raises:
      ValueError: it is not a scalar.
    """
    if value is None or isinstance(value, str | bytes | bool):
        raise ValueError(f"{name} is {quoted(value)}: pass a number")
    if np.shape(value) != ():
        raise ValueError(f"{name} has shape {np.shape(value)}: pass one number, and use vmap to try several")
    return not isinstance(value, jax.Array)
