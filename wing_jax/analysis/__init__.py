"""Analyze losses: their curves, their gradients on a model and its data, and over a training run.

    curve = curves(make_loss("wing"), errors)                      # value, gradient, curvature, optimal step
    shares = gradient_shares(loss, predicted - target, visible)    # of small, medium and large errors
    gradients = layer_gradients(model, variables, batch, losses)   # norms by layer, cosines between losses
    agreement = gradient_agreement(model, variables, batches, losses)   # cosines between batches
    surface = landscapes(model, variables, batch, losses, key)     # along two directions

Errors are signed, in pixels of the crop. Create losses with `wing_jax.losses.make_loss`.
"""

from wing_jax.analysis.curves import Curves as Curves
from wing_jax.analysis.curves import curves as curves
from wing_jax.analysis.curves import wing_slopes as wing_slopes
from wing_jax.analysis.landscape import Landscape as Landscape
from wing_jax.analysis.landscape import landscapes as landscapes
from wing_jax.analysis.network import LayerGradients as LayerGradients
from wing_jax.analysis.network import gradient_agreement as gradient_agreement
from wing_jax.analysis.network import layer_gradients as layer_gradients
from wing_jax.analysis.shares import EDGES as EDGES
from wing_jax.analysis.shares import error_shares as error_shares
from wing_jax.analysis.shares import gradient_shares as gradient_shares
from wing_jax.analysis.shares import group_shares as group_shares
from wing_jax.analysis.shares import landmark_shares as landmark_shares
from wing_jax.analysis.shares import wing_shares as wing_shares
