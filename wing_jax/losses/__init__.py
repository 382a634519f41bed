"""Losses for landmark coordinates and heat maps: elementwise and unreduced; reductions and units are separate.

    loss = make_loss("wing", reference_size=64, working_extent=64.0, width=10.0, epsilon=2.0)
    predicted, target = mask_points(predicted, target, visible)
    objective = sum_over_points_mean_over_batch(loss(predicted, target), visible)

Each loss also accepts a boolean mask as `where=`. `LOSSES` holds the losses by name; `register_loss` adds more.

Every loss of this package follows these rules:

- It is pure. `predicted` and `target` have the same shape (broadcasting raises ValueError), and the result has that
  shape and their dtype. Inputs narrower than float32 are computed in float32, and the result is cast back.
- The gradient at zero error is 0, the center of the subdifferential: a correct point does not move. At every other kink
  the derivative is that of the outer branch (|x| >= w). First and second derivatives, forward or reverse, are finite
  for finite errors and never NaN.
- Hyper-parameters are keyword-only scalars. Python and NumPy numbers out of range raise ValueError. JAX scalars are
  not checked, so that a sweep can `vmap` over them.
"""

from wing_jax.choices import Reduction as Reduction
from wing_jax.losses.heatmap import adaptive_wing_loss as adaptive_wing_loss
from wing_jax.losses.heatmap import adaptive_wing_weights as adaptive_wing_weights
from wing_jax.losses.reduction import mask_points as mask_points
from wing_jax.losses.reduction import masked_mean as masked_mean
from wing_jax.losses.reduction import sum_over_points_mean_over_batch as sum_over_points_mean_over_batch
from wing_jax.losses.reduction import total_and_count as total_and_count
from wing_jax.losses.registry import LOSSES as LOSSES
from wing_jax.losses.registry import RegisteredLoss as RegisteredLoss
from wing_jax.losses.registry import register_loss as register_loss
from wing_jax.losses.regression import charbonnier_loss as charbonnier_loss
from wing_jax.losses.regression import l1_loss as l1_loss
from wing_jax.losses.regression import l2_loss as l2_loss
from wing_jax.losses.regression import rectified_wing_loss as rectified_wing_loss
from wing_jax.losses.regression import smooth_l1_loss as smooth_l1_loss
from wing_jax.losses.regression import soft_wing_loss as soft_wing_loss
from wing_jax.losses.regression import wing_loss as wing_loss
from wing_jax.losses.units import at_crop_size as at_crop_size
from wing_jax.losses.units import check_units as check_units
from wing_jax.losses.units import make_loss as make_loss
