"""Training states of a tiny network, and folders of checkpoints."""

import jax
import jax.numpy as jnp

from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.optimizer import make_optimizer
from wing_jax.train.state import TrainState


def make_state(*, points=5, value=0.0, step=0, average=True):
    params = {
        "output": {"kernel": jnp.full((4, 2 * points), value), "bias": jnp.zeros(2 * points)},
        "Dense_0": {"kernel": jnp.full((3, 4), value, jnp.float32)},
    }
    variables = {"params": params, "batch_stats": {"norm": {"mean": jnp.full(4, value)}}}
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        variables=variables,
        optimizer=make_optimizer("adamw", lambda _: 0.1, weight_decay=0.1).init(params),
        averaged=jax.tree.map(lambda x: x + 1, variables) if average else None,
    )


def write(folder, nmes, **kind):
    """Write one checkpoint for each NME, at steps 10, 20 and so on."""
    with Checkpoints(folder, keep=2) as checkpoints:
        for i, nme in enumerate(nmes, 1):
            checkpoints.save(10 * i, make_state(value=float(i), step=10 * i, **kind), validation_nme=nme)
