"""Losses of landmark coordinates. `wing_jax.losses` documents the rules that all of them follow.

`predicted` and `target` are coordinates `[..., points, 2]` (any shape works). They and the hyper-parameters that are
lengths have the same unit. The defaults are pixels of the crop that each docstring names: use
`wing_jax.losses.make_loss` if the network works in another unit or size. In comments, x is predicted - target.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.losses.inputs import (
    Mask,
    Scalar,
    Values,
    convert_result,
    difference,
    is_checkable,
    magnitude,
    nonnegative_scalars,
    scalars_above,
)
from wing_jax.losses.registry import register_loss


@register_loss(name="l2", lengths=(), degree=2)
def l2_loss(predicted: Values, target: Values, *, where: Mask | None = None) -> Float[Array, "*shape"]:
    """Compute half the squared error, in squared units.

    Args:
      predicted: coordinates `[..., points, 2]`, of a floating dtype.
      target: coordinates of the same shape.
      where: boolean, broadcastable to the shape of `predicted`: elements to include. Others have loss 0
        and gradient 0, whatever their values. None: all.

    Returns:
      The loss of each coordinate, with the shape and dtype of the coordinates.

    Raises:
      ValueError: shapes or dtypes are invalid.

    References:
      Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018.

    >>> import numpy as np
    >>> l2_loss(np.asarray([3.0, 0.0]), np.asarray([0.0, 4.0])).tolist()
    [4.5, 8.0]
    """
    error, dtype = difference(predicted, target, where=where)
    # L2(x) = x^2 / 2
    return convert_result(0.5 * jnp.square(error), dtype)


@register_loss(name="l1", lengths=())
def l1_loss(predicted: Values, target: Values, *, where: Mask | None = None) -> Float[Array, "*shape"]:
    """Compute the absolute error, in the coordinates' unit.

    Args:
      predicted: coordinates `[..., points, 2]`, of a floating dtype.
      target: coordinates of the same shape.
      where: boolean, broadcastable to the shape of `predicted`: elements to include. Others have loss 0
        and gradient 0, whatever their values. None: all.

    Returns:
      The loss of each coordinate, with the shape and dtype of the coordinates.

    Raises:
      ValueError: shapes or dtypes are invalid.

    References:
      Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018.

    >>> import numpy as np
    >>> l1_loss(np.asarray([3.0, 0.0]), np.asarray([0.0, 4.0])).tolist()
    [3.0, 4.0]
    """
    error, dtype = difference(predicted, target, where=where)
    # L1(x) = |x|
    return convert_result(magnitude(error), dtype)


@register_loss(name="smooth_l1", lengths=("beta",))
def smooth_l1_loss(
    predicted: Values, target: Values, *, beta: Scalar = 1.0, where: Mask | None = None
) -> Float[Array, "*shape"]:
    """Compute smooth L1: L2 / `beta` below `beta`, L1 minus a constant above it.

    The paper uses `beta=1`. Huber's loss is beta times this.

    Args:
      predicted: coordinates `[..., points, 2]`, of a floating dtype.
      target: coordinates of the same shape.
      beta: the error below which the loss is quadratic, in the coordinates' unit.
      where: boolean, broadcastable to the shape of `predicted`: elements to include. Others have loss 0
        and gradient 0, whatever their values. None: all.

    Returns:
      The loss of each coordinate, with the shape and dtype of the coordinates.

    Raises:
      ValueError: shapes or dtypes are invalid, or `beta` is not positive.

    References:
      Girshick, Fast R-CNN, ICCV 2015; Feng et al., CVPR 2018.

    >>> import numpy as np
    >>> smooth_l1_loss(np.asarray([0.5, 3.0]), np.zeros(2)).tolist()
    [0.125, 2.5]
    """
    error, dtype = difference(predicted, target, where=where)
    (beta,) = scalars_above(0.0, error.dtype, beta=beta)
    distance = magnitude(error)
    near = _zero_beyond(beta, distance)
    # smoothL1(x) = x^2 / (2 beta)   if |x| < beta
    #               |x| - beta / 2   otherwise
    return convert_result(jnp.where(distance < beta, jnp.square(near) / (2 * beta), distance - beta / 2), dtype)


@register_loss(name="charbonnier", lengths=("width",), degree=2)
def charbonnier_loss(
    predicted: Values, target: Values, *, width: Scalar = 1.0, where: Mask | None = None
) -> Float[Array, "*shape"]:
    """Compute the Charbonnier (pseudo-Huber) loss.

    It is L2 well below `width`, `width` times L1 far above it, and smooth between.

    The slope is x / sqrt(1 + (x / width)^2): that of L2 next to 0, and `width` for outliers, which it never exceeds.

    Args:
      predicted: coordinates `[..., points, 2]`, of a floating dtype.
      target: coordinates of the same shape.
      width: the error at which the loss changes from quadratic to linear, in the coordinates' unit.
      where: boolean, broadcastable to the shape of `predicted`: elements to include. Others have loss 0
        and gradient 0, whatever their values. None: all.

    Returns:
      The loss of each coordinate, in squared units, with the shape and dtype of the coordinates.

    Raises:
      ValueError: shapes or dtypes are invalid, or `width` is not positive.

    References:
      Charbonnier et al., Two Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging, ICIP 1994,
      https://doi.org/10.1109/ICIP.1994.413553

    >>> import numpy as np
    >>> [round(float(value), 3) for value in charbonnier_loss(np.asarray([0.0, 0.75, 100.0]), np.zeros(3))]
    [0.0, 0.25, 99.005]
    """
    error, dtype = difference(predicted, target, where=where)
    (width,) = scalars_above(0.0, error.dtype, width=width)
    distance = magnitude(error)
    # charbonnier(x) = w^2 (sqrt(1 + (x / w)^2) - 1), as a sum without cancellation and without overflow:
    #                  x^2 / (1 + sqrt(1 + (x / w)^2))                         if |x| < w
    #                  w (|x| - w) + w^2 r / (1 + sqrt(1 + r^2)),  r = w / |x|   otherwise
    near = _zero_beyond(width, distance)
    quadratic = jnp.square(near) / (1 + jnp.sqrt(1 + jnp.square(near / width)))
    ratio = width / jnp.where(distance < width, width, distance)
    linear = width * (distance - width) + jnp.square(width) * ratio / (1 + jnp.sqrt(1 + jnp.square(ratio)))
    return convert_result(jnp.where(distance < width, quadratic, linear), dtype)


@register_loss(name="wing", lengths=("width", "epsilon"))
def wing_loss(
    predicted: Values, target: Values, *, width: Scalar = 10.0, epsilon: Scalar = 2.0, where: Mask | None = None
) -> Float[Array, "*shape"]:
    """Compute the Wing loss: a logarithm that amplifies errors below `width`, L1 minus a constant above it.

    The slope is width / (epsilon + |x|) below `width`: it falls from width / epsilon next to 0 (5 with the defaults) to
    width / (epsilon + width) (0.833). For |x| >= width it is 1. A small `epsilon` makes the gradient explode; with
    width < epsilon small errors weigh *less* than large ones. The defaults are the paper's, in pixels of a 64 x 64
    crop: on coordinates in [0, 1] they would reduce the loss to a scaled L1.

    Args:
      predicted: coordinates `[..., points, 2]`, of a floating dtype.
      target: coordinates of the same shape.
      width: the error below which the loss is logarithmic, in the coordinates' unit.
      epsilon: the length that limits the curvature of the logarithm, in the coordinates' unit; a smaller value makes
        the loss steeper at 0.
      where: boolean, broadcastable to the shape of `predicted`: elements to include. Others have loss 0
        and gradient 0, whatever their values. None: all.

    Returns:
      The loss of each coordinate, with the shape and dtype of the coordinates.

    Raises:
      ValueError: shapes or dtypes are invalid, or a length is not positive.

    References:
      Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018; the defaults: its table 2.

    >>> import numpy as np
    >>> [round(float(value), 3) for value in wing_loss(np.asarray([0.0, 2.0, 20.0]), np.zeros(3))]
    [0.0, 6.931, 27.918]
    >>> where = np.asarray([True, False])
    >>> [round(float(value), 3) for value in wing_loss(np.asarray([2.0, np.nan]), np.zeros(2), where=where)]
    [6.931, 0.0]
    """
    error, dtype = difference(predicted, target, where=where)
    width, epsilon = scalars_above(0.0, error.dtype, width=width, epsilon=epsilon)
    distance = magnitude(error)
    # wing(x) = w ln(1 + |x| / e)   if |x| < w
    #           |x| - C             otherwise,   C = w - w ln(1 + w / e)
    logarithm = width * jnp.log1p(_zero_beyond(width, distance) / epsilon)
    constant = width - width * jnp.log1p(width / epsilon)
    return convert_result(jnp.where(distance < width, logarithm, distance - constant), dtype)


@register_loss(name="rectified_wing", lengths=("width", "epsilon", "rectification"))
def rectified_wing_loss(
    predicted: Values,
    target: Values,
    *,
    width: Scalar = 10.0,
    epsilon: Scalar = 2.0,
    rectification: Scalar = 0.2,
    where: Mask | None = None,
) -> Float[Array, "*shape"]:
    """Compute the rectified Wing loss: 0 for errors below `rectification` (annotation noise).

    With `rectification=0` it is the Wing loss.

    Its slope jumps from 0 to width / epsilon at |x| = rectification. The defaults are those of the authors'
    lossRWingNorm.m, in pixels of a 64 x 64 crop (that file also divides by 2L: see `masked_mean`).

    Args:
      predicted: coordinates `[..., points, 2]`, of a floating dtype.
      target: coordinates of the same shape.
      width: the error below which the loss is logarithmic, in the coordinates' unit.
      epsilon: the length that limits the curvature of the logarithm, in the coordinates' unit; a smaller value makes
        the loss steeper at 0.
      rectification: the error below which the loss is 0, in the coordinates' unit.
      where: boolean, broadcastable to the shape of `predicted`: elements to include. Others have loss 0 and
        gradient 0, whatever their values. None: all.

    Returns:
      The loss of each coordinate, with the shape and dtype of the coordinates.

    Raises:
      ValueError: shapes or dtypes are invalid, or not 0 <= rectification < width, or a length is not positive.

    References:
      Feng et al., Rectified Wing Loss for Efficient and Robust Facial Landmark Localisation with Convolutional
      Neural Networks, IJCV 2020, https://doi.org/10.1007/s11263-019-01275-0

    >>> import numpy as np
    >>> [round(float(value), 3) for value in rectified_wing_loss(np.asarray([0.1, 2.2]), np.zeros(2))]
    [0.0, 6.931]
    """
    error, dtype = difference(predicted, target, where=where)
    checkable = is_checkable("width", width) and is_checkable("rectification", rectification)
    if checkable and 0 < float(width) <= float(rectification):
        raise ValueError(f"rectification is {rectification}: it must be below the width, {width}")
    width, epsilon = scalars_above(0.0, error.dtype, width=width, epsilon=epsilon)
    (rectification,) = nonnegative_scalars(error.dtype, rectification=rectification)
    distance = magnitude(error)
    # rwing(x) = 0                         if |x| < r
    #            w ln(1 + (|x| - r) / e)   if r <= |x| < w
    #            |x| - C                   otherwise,   C = w - w ln(1 + (w - r) / e)
    curved = (rectification <= distance) & (distance < width)
    logarithm = width * jnp.log1p(jnp.where(curved, distance - rectification, 0) / epsilon)
    constant = width - width * jnp.log1p((width - rectification) / epsilon)
    return convert_result(jnp.where(distance < width, logarithm, distance - constant), dtype)


@register_loss(name="soft_wing", lengths=("linear_width", "width", "epsilon"), reference_size=256)
def soft_wing_loss(
    predicted: Values,
    target: Values,
    *,
    linear_width: Scalar = 2.0,
    width: Scalar = 20.0,
    epsilon: Scalar = 0.5,
    where: Mask | None = None,
) -> Float[Array, "*shape"]:
    """Compute the soft Wing loss: L1 below `linear_width` (annotation noise), then a logarithm, which limits outliers.

    Its slope is 1, then width / (epsilon + |x|): with the defaults 8 just past |x| = 2 and 1 again at 19.5.
    The paper and mmpose call `linear_width`, `width` and `epsilon` omega1, omega2 and epsilon. Theirs, and the defaults
    here, are in pixels of a 256 x 256 crop.

    Args:
      predicted: coordinates `[..., points, 2]`, of a floating dtype.
      target: coordinates of the same shape.
      linear_width: the error below which the loss is L1, in the coordinates' unit.
      width: the factor of the logarithm, in the coordinates' unit.
      epsilon: the length that limits the curvature of the logarithm, in the coordinates' unit; a smaller value makes
        the loss steeper at 0.
      where: boolean, broadcastable to the shape of `predicted`: elements to include. Others have loss 0 and
        gradient 0, whatever their values. None: all.

    Returns:
      The loss of each coordinate, with the shape and dtype of the coordinates.

    Raises:
      ValueError: shapes or dtypes are invalid, `linear_width` is negative, or another length is not positive.

    References:
      Lin et al., Structure-Coherent Deep Feature Learning for Robust Face Alignment, TIP 2021,
      https://doi.org/10.1109/TIP.2021.3082319; as coded in https://github.com/open-mmlab/mmpose

    >>> import numpy as np
    >>> [round(float(value), 3) for value in soft_wing_loss(np.asarray([1.0, 20.0]), np.zeros(2))]
    [1.0, 44.083]
    """
    error, dtype = difference(predicted, target, where=where)
    width, epsilon = scalars_above(0.0, error.dtype, width=width, epsilon=epsilon)
    (linear_width,) = nonnegative_scalars(error.dtype, linear_width=linear_width)
    distance = magnitude(error)
    # softwing(x) = |x|                         if |x| < w1
    #               w2 ln(1 + |x| / e) + B      otherwise,   B = w1 - w2 ln(1 + w1 / e)
    logarithm = width * jnp.log1p(distance / epsilon)
    constant = linear_width - width * jnp.log1p(linear_width / epsilon)
    return convert_result(jnp.where(distance < linear_width, distance, logarithm + constant), dtype)


def _zero_beyond(limit: Float[Array, ""], distance: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return `distance` where it is below `limit`, else 0, so that an unused branch cannot overflow or leak NaN."""
    return jnp.where(distance < limit, distance, 0)
