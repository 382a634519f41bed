"""Reduce an elementwise loss to the scalar that is minimized. Sums are computed and returned in float32 or wider.

A coordinate without an annotation is often stored as NaN. Masking its *loss* is not enough: the gradient would still
be 0 * NaN. So mask the coordinate before the loss is computed:

    predicted, target = mask_points(predicted, target, visible)
    objective = sum_over_points_mean_over_batch(loss(predicted, target), visible)
"""

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.choices import Reduction
from wing_jax.losses.inputs import as_array, at_least_float32

Coordinates: TypeAlias = Float[Array | np.ndarray, "batch points 2"]
Visible: TypeAlias = Bool[Array | np.ndarray, "batch points"]


def mask_points(
    predicted: Coordinates, target: Coordinates, visible: Visible | None
) -> tuple[Float[Array, "batch points 2"], Float[Array, "batch points 2"]]:
    """Set `predicted` and `target` to 0 at hidden points, so that error, loss and gradient are 0 there.

    Args:
      predicted: coordinates `[batch, points, 2]`, in any unit.
      target: coordinates of the same shape and unit.
      visible: boolean `[batch, points]`; None: all points are visible.

    Returns:
      `predicted` and `target`, masked.

    Raises:
      ValueError: `visible` is not a boolean for each point.

    >>> import numpy as np
    >>> target = np.asarray([[[3.0, 4.0], [np.nan, np.nan]]])
    >>> mask_points(target + 1, target, np.asarray([[True, False]]))[1].tolist()
    [[[3.0, 4.0], [0.0, 0.0]]]
    """
    return _zero_hidden(as_array("predicted", predicted), visible), _zero_hidden(as_array("target", target), visible)


def sum_over_points_mean_over_batch(loss: Coordinates, visible: Visible | None = None) -> Float[Array, ""]:
    """Sum over each face's 2L coordinates, then average over the batch: the paper's objective.

    The paper's learning rates are for this objective.
    The authors sum over coordinates and batch, and their trainer divides the gradient by the batch size. Averaging over
    the coordinates too (`masked_mean`) needs a learning rate 2L times as large. Hidden points contribute 0, so a face
    with fewer visible points weighs less.

    Args:
      loss: unreduced loss `[batch, points, 2]`.
      visible: boolean `[batch, points]`; None: all points are visible.

    Returns:
      A scalar, float32 or wider.

    Raises:
      ValueError: `visible` is not a boolean for each point.

    References:
      https://github.com/FengZhenhua/Wing-Loss (lgLoss.m); MatConvNet 1.0-beta25, examples/cnn_train_dag.m

    >>> import numpy as np
    >>> float(sum_over_points_mean_over_batch(np.ones((4, 19, 2))))
    38.0
    """
    total, count = total_and_count(loss, visible, reduction="sum_over_points_mean_over_batch")
    return total / jnp.maximum(count, 1)


def masked_mean(loss: Coordinates, visible: Visible | None = None) -> Float[Array, ""]:
    """Average over the coordinates of all visible points of the batch; 0 if none is visible.

    This is not the mean of per-device means: on several devices, add up the sums and the counts (`total_and_count`).

    Args:
      loss: unreduced loss `[batch, points, 2]`.
      visible: boolean `[batch, points]`; None: all points are visible.

    Returns:
      A scalar, float32 or wider.

    Raises:
      ValueError: `visible` is not a boolean for each point.

    >>> import numpy as np
    >>> float(masked_mean(np.ones((1, 2, 2)), np.asarray([[True, False]])))
    1.0
    """
    total, count = total_and_count(loss, visible, reduction="mean")
    return total / jnp.maximum(count, 1)


def total_and_count(
    loss: Coordinates, visible: Visible | None = None, *, reduction: Reduction
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the sum of the loss and the count to divide it by.

    To combine the parts of a batch, add the sums and the counts, then divide.

    Args:
      loss: unreduced loss `[batch, points, 2]`.
      visible: boolean `[batch, points]`; None: all points are visible.
      reduction: "sum_over_points_mean_over_batch" counts faces, "mean" the coordinates of visible points.

    Returns:
      Two scalars, float32 or wider.

    Raises:
      ValueError: `visible` is not a boolean for each point.

    >>> import numpy as np
    >>> total, count = total_and_count(np.ones((4, 19, 2)), reduction="mean")
    >>> float(total), float(count)
    (152.0, 152.0)
    """
    masked = _zero_hidden(_widen(loss), visible)
    if reduction == "mean":
        count = masked.size if visible is None else masked.shape[-1] * jnp.sum(jnp.asarray(visible))
    else:
        count = len(masked)
    return masked.sum(), jnp.asarray(count, masked.dtype)


def _widen(loss: Coordinates) -> Float[Array, "batch points 2"]:
    loss = as_array("loss", loss)
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(f"loss is {loss.dtype}: convert it to a floating dtype")
    return loss.astype(at_least_float32(loss.dtype))


def _zero_hidden(values: Float[Array, "batch points 2"], visible: Visible | None) -> Float[Array, "batch points 2"]:
    if visible is None:
        return values
    if not hasattr(visible, "dtype"):
        visible = np.asarray(visible)
    if visible.shape != values.shape[:-1] or visible.dtype != bool:
        raise ValueError(
            f"visible is {visible.dtype} {visible.shape} for coordinates {values.shape}: pass a boolean for each point"
        )
    return jnp.where(visible[..., None], values, 0)
