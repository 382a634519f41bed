"""The unit guard: a loss is configured in pixels of one crop size and works in any unit and size.

Wing's `width` and `epsilon` are lengths. Used on coordinates in [0, 1], the paper's 10 and 2 leave nothing of the
Wing loss but a scaled L1, and no error is raised: the commonest mistake with this loss.
"""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.losses import regression
from wing_jax.losses.inputs import Scalar
from wing_jax.text import quoted
from wing_jax.types import Loss

LOSSES: dict[str, Callable[..., Array]] = {
    "l2": regression.l2_loss,
    "l1": regression.l1_loss,
    "smooth_l1": regression.smooth_l1_loss,
    "wing": regression.wing_loss,
    "rectified_wing": regression.rectified_wing_loss,
    "soft_wing": regression.soft_wing_loss,
}

# Each loss is homogeneous: f(x / s; lengths / s) = f(x; lengths) / s ** degree. All its parameters are lengths.
DEGREES: dict[str, int] = {"l2": 2, "l1": 1, "smooth_l1": 1, "wing": 1, "rectified_wing": 1, "soft_wing": 1}

# Side, in pixels, of the crop that a loss's defaults are meant for, where it is not the 64 of the Wing loss.
REFERENCE_SIZES: dict[str, int] = {"soft_wing": 256}

# Where the mean coordinate of a batch of faces may lie, in crop sides. A crop is cut around its face: on 856 faces of
# 300-W it is 0.35 to 0.62 for one face and 0.42 to 0.54 for batches of 8. Another unit or size puts it off by a
# factor, the smallest in practice the 2 of 64 against 128 pixels.
CENTRE = (0.3, 0.8)


def make_loss(
    name: str, *, reference_size: float | int | None = None, working_extent: float | int = 64.0, **lengths: Scalar
) -> Loss:
    """The elementwise loss `(predicted, target) -> loss` called `name`, for a network that works in any unit.

    Args:
      name: a key of `LOSSES`.
      reference_size: side in pixels of the crop in whose pixels `lengths` are given; None is the loss's own, for which
        its defaults are meant (`own_reference_size`).
      working_extent: length of the crop's side in the unit of `predicted` and `target`: 64.0 for pixels of a 64 x 64
        crop, 128.0 for pixels of a 128 x 128 crop, 1.0 for fractions of the crop.
      **lengths: the loss's own hyper-parameters, numbers or JAX scalars (a sweep by `vmap`). Those left out have the
        loss's defaults *as reference pixels*.

    Value: the loss in pixels of the reference crop, whatever the unit. It is one objective, so its numbers compare
    between units and sizes, and its balance with weight decay, clipping and the learning rate stays.

    Gradient: with r = reference_size / working_extent it is r times the reference's slope at the same place (w / e
    next to 0, for Wing). A network that computes in reference pixels and returns them divided by r has 1 / r in its
    chain rule, so that its parameters receive exactly the gradient they had, and any learning rate holds. A network
    without such a fixed factor needs a last layer 1 / r as large, which feels r times the gradient: give it the
    factor, or, with plain SGD, 1 / r ** 2 of the learning rate.

    Raises:
      ValueError: no loss is called `name` (the adaptive Wing loss is none of coordinates), it has no such parameter,
        or a number is out of range.
    """
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"no loss is called {quoted(name)}: use one of {', '.join(LOSSES)}")
    loss, choices = LOSSES[name], parameters(name)
    if unknown := sorted(set(lengths) - set(choices)):
        known = f"use {', '.join(choices)}" if choices else "it has none"
        raise ValueError(f"the loss {quoted(name)} has no parameter {', '.join(unknown)}: {known}")
    reference_size = own_reference_size(name) if reference_size is None else reference_size
    for label, extent in (("reference_size", reference_size), ("working_extent", working_extent)):
        if isinstance(extent, bool) or not isinstance(extent, int | float | np.number) or not 0 < extent < np.inf:
            raise ValueError(f"{label} is {quoted(extent)}: it must be a finite length above 0")
    lengths, scalar = choices | lengths, jax.ShapeDtypeStruct((), jnp.float32)
    # Traced for its checks alone, so that a number out of range is named now and as it was given.
    jax.eval_shape(functools.partial(loss, **lengths), scalar, scalar)
    ratio = reference_size / working_extent
    working = {label: length / ratio for label, length in lengths.items()}
    gain = ratio ** DEGREES[name]
    return lambda predicted, target: gain * loss(predicted, target, **working)


def own_reference_size(name: str) -> int:
    """Side in pixels of the crop that the defaults of the loss called `name` are meant for."""
    return REFERENCE_SIZES.get(name, 64)


def parameters(name: str) -> dict[str, float]:
    """Names and defaults of a loss's hyper-parameters, in pixels."""
    signature = inspect.signature(LOSSES[name])
    return {label: given.default for label, given in signature.parameters.items() if given.kind is given.KEYWORD_ONLY}


def check_units(
    target: Float[Array | np.ndarray, "batch points 2"],
    *,
    working_extent: float | int,
    visible: Bool[Array | np.ndarray, "batch points"] | None = None,
) -> None:
    """Refuse targets whose unit is clearly not the one in which the crop's side is `working_extent` long.

    Faces stand about the middle of their crops, so the mean of all visible coordinates must lie between 0.3 and 0.8
    of the side. This tells pixels from fractions, and also 64 from 128 pixels. Coordinates that are not finite are
    passed over. Call it once, outside `jit`, on a whole batch: a single point may lie anywhere.

    Raises:
      ValueError: the unit is another one, the target is traced, or `visible` is not one value for each point.
    """
    if isinstance(target, jax.core.Tracer):
        raise ValueError("check_units reads the target's values: call it outside jit, on a concrete batch")
    if target is None:
        raise ValueError("the target is None: give a batch of points")
    try:
        coordinates = np.asarray(target, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the target is {quoted(target)}, which makes no array of numbers") from error
    if visible is not None:
        visible = np.asarray(visible)
        if visible.shape != coordinates.shape[:-1]:
            raise ValueError(f"visible is {visible.shape} for a target {coordinates.shape}: give one value a point")
        coordinates = coordinates[np.asarray(visible)]
    coordinates = coordinates[np.isfinite(coordinates)]
    if not coordinates.size:
        return
    mean, (low, high) = coordinates.mean(), CENTRE
    if not low * working_extent <= mean <= high * working_extent:
        raise ValueError(
            f"the targets' mean coordinate is {mean:.4g}, but the middle of a crop with working_extent="
            f"{working_extent:g} is {working_extent / 2:g}: they are in another unit or size, or not of this crop; "
            "convert them, or give the length of the crop's side in their unit"
        )
