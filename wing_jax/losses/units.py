"""Configure a loss in pixels of one crop size, and use it in any unit and crop size.

Wing's `width` and `epsilon` are lengths. On coordinates in [0, 1], the paper's 10 and 2 reduce the Wing loss to a
scaled L1 without any error: the most common mistake with this loss.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.errors import InputError
from wing_jax.losses.registry import LOSSES
from wing_jax.runtime.parameters import check_params
from wing_jax.text import quoted, reason
from wing_jax.types import Loss

# Range of a batch's mean coordinate, in crop sides. A crop is cut around its face: on 856 faces of 300-W the mean is
# 0.35 to 0.62 for one face and 0.42 to 0.54 for batches of 8. A wrong unit or size multiplies it by a factor: in
# practice at least 2, for 64 against 128 pixels.
CENTER = (0.3, 0.8)


def make_loss(
    name: str, *, reference_size: float | int | None = None, working_extent: float | int = 64.0, **params: Any
) -> Loss:
    """Make the elementwise loss `(predicted, target) -> loss` called `name`, for coordinates in the given unit.

    Args:
      name: a key of `LOSSES`.
      reference_size: side in pixels of the reference crop: those `params` that are lengths are in pixels of this crop.
        None: the loss's default, the size its default lengths are meant for. Not allowed for a loss that declares no
        lengths.
      working_extent: length of the crop's side in the unit of `predicted` and `target`: 64.0 for pixels of a 64 x 64
        crop, 128.0 for pixels of a 128 x 128 crop, 1.0 for fractions of the crop.
      **params: the loss's parameters, numbers or JAX scalars (a sweep by `vmap`). Others have the loss's defaults;
        default lengths are also *in reference pixels*.

    Returns:
      A pure function of `predicted` and `target`, arrays of the same shape. Its result has that shape.

      Value: the loss in pixels of the reference crop, whatever the unit. So values are comparable between units and
      sizes, and the balance with weight decay, clipping and the learning rate does not change.

      Gradient: with r = reference_size / working_extent it is r times the reference's slope at the same place (w / e
      next to 0, for Wing). A network that computes in reference pixels and returns them divided by r has 1 / r in its
      chain rule: its parameters receive the same gradient as in reference pixels, and any learning rate stays valid.
      A network without such a fixed factor needs a last layer 1 / r as large, which receives r times the gradient:
      add the factor to it, or, with plain SGD, multiply the learning rate by 1 / r ** 2.

      A loss without declared lengths is returned with its parameters and otherwise unchanged.

    Raises:
      InputError: no loss is called `name` (the adaptive Wing loss is not a loss of coordinates), it has no such
        parameter, or a number is out of range.

    >>> import numpy as np
    >>> loss = make_loss("wing", reference_size=64, working_extent=1.0, width=10.0, epsilon=2.0)
    >>> round(float(loss(np.asarray(2 / 64), np.asarray(0.0))), 3)  # 2 pixels of 64, in fractions of the crop
    6.931
    """
    if not isinstance(name, str):
        raise InputError(f"the name of a loss must be a string, got {quoted(name)}: use one of {', '.join(LOSSES)}")
    loss = LOSSES[name]
    check_params(f"the loss {quoted(name)}", params, known=loss.parameters, required=loss.required)
    if not loss.rescaled and reference_size is not None:
        raise InputError(
            f"reference_size is {quoted(reference_size)}, but the loss {quoted(name)} declares no lengths and is not "
            "rescaled: leave reference_size out, or register the loss with lengths="
        )
    reference_size = loss.reference_size if reference_size is None else reference_size
    for label, extent in (("reference_size", reference_size), ("working_extent", working_extent)):
        if isinstance(extent, bool) or not isinstance(extent, int | float | np.number) or not 0 < extent < np.inf:
            raise InputError(f"{label} is {quoted(extent)}: it must be a finite length above 0")
    params = loss.parameters | params
    _check_numbers(name, functools.partial(loss.function, **params))
    if not loss.rescaled:
        return functools.partial(loss.function, **params)
    ratio = reference_size / working_extent
    lengths = loss.lengths or ()
    working = {label: value / ratio if label in lengths else value for label, value in params.items()}
    gain = ratio**loss.degree
    return lambda predicted, target: gain * loss.function(predicted, target, **working)


def at_crop_size(loss: Loss, input_size: int) -> Loss:
    """Adapt `loss` to a network whose points are pixels of crops of `input_size`.

    Args:
      loss: an elementwise function. One that is registered with lengths (those of this package are), alone or as a
        `functools.partial` with its parameters, is rescaled from its reference crop; any other is returned unchanged.
      input_size: side of the crop in pixels.

    Returns:
      The loss in pixels of that crop.

    Raises:
      InputError: the loss rejects its parameters.

    >>> import numpy as np
    >>> from wing_jax.losses import wing_loss
    >>> loss = at_crop_size(wing_loss, 128)
    >>> float(loss(np.asarray(4.0), np.asarray(0.0))) == float(wing_loss(2.0, 0.0))
    True
    """
    function, params = loss, {}
    if isinstance(loss, functools.partial) and not loss.args:
        function, params = loss.func, loss.keywords
    for name, registered in LOSSES.registered().items():
        if registered.function is function and registered.rescaled:
            return make_loss(name, working_extent=float(input_size), **params)
    return loss


def _check_numbers(name: str, loss: Loss) -> None:
    """Trace the loss to run its checks now, so that an error shows a number as the caller passed it, not rescaled.

    Raises:
      InputError: the loss rejects its parameters, or is not elementwise.
    """
    values = jax.ShapeDtypeStruct((2, 3, 2), jnp.float32)
    try:
        result = jax.eval_shape(loss, values, values)
    except Exception as error:  # a loss of another package may raise anything
        raise InputError(f"loss {quoted(name)}: {reason(error)}") from error
    if getattr(result, "shape", None) != values.shape:
        raise InputError(
            f"loss {quoted(name)}: returned {getattr(result, 'shape', result)} for coordinates {values.shape}: "
            "a loss is elementwise and not reduced, so return an array of their shape"
        )


def check_units(
    target: Float[Array | np.ndarray, "batch points 2"],
    *,
    working_extent: float | int,
    visible: Bool[Array | np.ndarray, "batch points"] | None = None,
) -> None:
    """Raise ValueError if the targets are clearly not in the unit in which the crop's side is `working_extent` long.

    Faces are near the middle of their crops, so the mean of all visible coordinates must be between 0.3 and 0.8 of the
    side. This distinguishes pixels from fractions, and also 64 from 128 pixels. Coordinates that are not finite are
    ignored. Call it once, outside `jit`, on a complete batch: a single point may be anywhere.

    Args:
      target: points `[batch, L, 2]`, (x, y).
      working_extent: length of the crop's side in the unit that the targets should have: 64.0 for pixels of a 64 x 64
        crop, 1.0 for fractions of the crop.
      visible: bool `[batch, L]`, the points to include; None: all.

    Raises:
      ValueError: the unit is wrong, the target is traced, or `visible` does not have one value for each point.

    >>> check_units(np.full((2, 5, 2), 32.0), working_extent=64)
    >>> check_units(np.full((2, 5, 2), 0.5), working_extent=64)
    Traceback (most recent call last):
    ValueError: the targets' mean coordinate is 0.5, but the middle of a crop with working_extent=64 is 32: ...
    """
    if isinstance(target, jax.core.Tracer):
        raise ValueError("check_units reads the target's values: call it outside jit, on a concrete batch")
    if target is None:
        raise ValueError("the target is None: pass a batch of points")
    try:
        coordinates = np.asarray(target, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the target is {quoted(target)}: it cannot be converted to an array of numbers") from error
    if visible is not None:
        visible = np.asarray(visible)
        if visible.shape != coordinates.shape[:-1]:
            raise ValueError(f"visible is {visible.shape} for a target {coordinates.shape}: pass one value per point")
        coordinates = coordinates[np.asarray(visible)]
    coordinates = coordinates[np.isfinite(coordinates)]
    if not coordinates.size:
        return
    mean, (low, high) = coordinates.mean(), CENTER
    if not low * working_extent <= mean <= high * working_extent:
        raise ValueError(
            f"the targets' mean coordinate is {mean:.4g}, but the middle of a crop with working_extent="
            f"{working_extent:g} is {working_extent / 2:g}: they are in another unit or size, or not of this crop; "
            "convert them, or set working_extent to the length of the crop's side in their unit"
        )
