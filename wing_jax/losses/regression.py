"""Losses of landmark coordinates: what holds for all of them is said in `wing_jax.losses`.

`predicted` and `target` are coordinates `[..., points, 2]` (any shape is taken) in one unit, and so are the lengths
among the hyper-parameters. The defaults are pixels, of the crop each docstring names: use
`wing_jax.losses.make_loss` where the network works in another unit or size. x stands for predicted - target.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from wing_jax.losses.inputs import Scalar, Values, above, difference, known, magnitude, narrowed, not_negative


def l2_loss(predicted: Values, target: Values) -> Float[Array, "*shape"]:
    """Half the squared error, in squared units.

    Raises:
      ValueError: shapes or dtypes are unfit.

    References:
      Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018.
    """
    error, dtype = difference(predicted, target)
    # L2(x) = x^2 / 2
    return narrowed(0.5 * jnp.square(error), dtype)


def l1_loss(predicted: Values, target: Values) -> Float[Array, "*shape"]:
    """The absolute error, in the coordinates' unit.

    Raises:
      ValueError: shapes or dtypes are unfit.

    References:
      Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018.
    """
    error, dtype = difference(predicted, target)
    # L1(x) = |x|
    return narrowed(magnitude(error), dtype)


def smooth_l1_loss(predicted: Values, target: Values, *, beta: Scalar = 1.0) -> Float[Array, "*shape"]:
    """L2 divided by `beta` for errors below `beta`, L1 beyond; the paper's is `beta=1`. Huber's loss is beta times it.

    Raises:
      ValueError: shapes or dtypes are unfit, or `beta` is not positive.

    References:
      Girshick, Fast R-CNN, ICCV 2015; Feng et al., CVPR 2018.
    """
    error, dtype = difference(predicted, target)
    (beta,) = above(0.0, error.dtype, beta=beta)
    distance = magnitude(error)
    near = _up_to(beta, distance)
    # smoothL1(x) = x^2 / (2 beta)   if |x| < beta
    #               |x| - beta / 2   otherwise
    return narrowed(jnp.where(distance < beta, jnp.square(near) / (2 * beta), distance - beta / 2), dtype)


def wing_loss(
    predicted: Values, target: Values, *, width: Scalar = 10.0, epsilon: Scalar = 2.0
) -> Float[Array, "*shape"]:
    """The Wing loss: a logarithm that amplifies errors below `width`, L1 shifted to meet it beyond.

    The slope is width / (epsilon + |x|), from width / epsilon next to 0 (5 with the defaults) down to
    width / (epsilon + width) (0.833), and 1 from |x| = width on. A small `epsilon` makes the gradient explode; with
    width < epsilon small errors weigh *less* than large ones. The defaults are the paper's, in pixels of a 64 x 64
    crop: on coordinates in [0, 1] they would reduce the loss to a scaled L1.

    Raises:
      ValueError: shapes or dtypes are unfit, or a length is not positive.

    References:
      Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018; the defaults: its table 2.
    """
    error, dtype = difference(predicted, target)
    width, epsilon = above(0.0, error.dtype, width=width, epsilon=epsilon)
    distance = magnitude(error)
    # wing(x) = w ln(1 + |x| / e)   if |x| < w
    #           |x| - C             otherwise,   C = w - w ln(1 + w / e)
    logarithm = width * jnp.log1p(_up_to(width, distance) / epsilon)
    constant = width - width * jnp.log1p(width / epsilon)
    return narrowed(jnp.where(distance < width, logarithm, distance - constant), dtype)


def rectified_wing_loss(
    predicted: Values,
    target: Values,
    *,
    width: Scalar = 10.0,
    epsilon: Scalar = 2.0,
    rectification: Scalar = 0.2,
) -> Float[Array, "*shape"]:
    """Wing loss that is 0 for errors below `rectification`, which may be the annotator's; `rectification=0` is Wing.

    Its slope jumps from 0 to width / epsilon at |x| = rectification. The defaults are those of the authors'
    lossRWingNorm.m, in pixels of a 64 x 64 crop (that file also divides by 2L: see `masked_mean`).

    Raises:
      ValueError: shapes or dtypes are unfit, or not 0 <= rectification < width, or a length is not positive.

    References:
      Feng et al., Rectified Wing Loss for Efficient and Robust Facial Landmark Localisation with Convolutional
      Neural Networks, IJCV 2020, https://doi.org/10.1007/s11263-019-01275-0
    """
    error, dtype = difference(predicted, target)
    checkable = known("width", width) and known("rectification", rectification)
    if checkable and 0 < float(width) <= float(rectification):
        raise ValueError(f"rectification is {rectification}: it must be below the width, {width}")
    width, epsilon = above(0.0, error.dtype, width=width, epsilon=epsilon)
    (rectification,) = not_negative(error.dtype, rectification=rectification)
    distance = magnitude(error)
    # rwing(x) = 0                         if |x| < r
    #            w ln(1 + (|x| - r) / e)   if r <= |x| < w
    #            |x| - C                   otherwise,   C = w - w ln(1 + (w - r) / e)
    curved = (rectification <= distance) & (distance < width)
    logarithm = width * jnp.log1p(jnp.where(curved, distance - rectification, 0) / epsilon)
    constant = width - width * jnp.log1p((width - rectification) / epsilon)
    return narrowed(jnp.where(distance < width, logarithm, distance - constant), dtype)


def soft_wing_loss(
    predicted: Values,
    target: Values,
    *,
    linear_width: Scalar = 2.0,
    width: Scalar = 20.0,
    epsilon: Scalar = 0.5,
) -> Float[Array, "*shape"]:
    """L1 for errors below `linear_width`, which annotation noise makes, a logarithm that tames outliers beyond.

    Its slope is 1, then width / (epsilon + |x|): with the defaults 8 just past |x| = 2 and 1 again at 19.5.
    `linear_width`, `width` and `epsilon` are called omega1, omega2 and epsilon elsewhere; there, and here by
    default, they are pixels of a 256 x 256 crop.

    Raises:
      ValueError: shapes or dtypes are unfit, `linear_width` is negative, or another length is not positive.

    References:
      Lin et al., Structure-Coherent Deep Feature Learning for Robust Face Alignment, TIP 2021,
      https://doi.org/10.1109/TIP.2021.3082319; as coded in https://github.com/open-mmlab/mmpose
    """
    error, dtype = difference(predicted, target)
    width, epsilon = above(0.0, error.dtype, width=width, epsilon=epsilon)
    (linear_width,) = not_negative(error.dtype, linear_width=linear_width)
    distance = magnitude(error)
    # softwing(x) = |x|                         if |x| < w1
    #               w2 ln(1 + |x| / e) + B      otherwise,   B = w1 - w2 ln(1 + w1 / e)
    logarithm = width * jnp.log1p(distance / epsilon)
    constant = linear_width - width * jnp.log1p(linear_width / epsilon)
    return narrowed(jnp.where(distance < linear_width, distance, logarithm + constant), dtype)


def _up_to(limit: Float[Array, ""], distance: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`distance` where it is below `limit`, else 0, so that a branch not taken can neither overflow nor leak NaN."""
    return jnp.where(distance < limit, distance, 0)
