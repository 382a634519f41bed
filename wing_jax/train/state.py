"""The whole of a training in one immutable pytree."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from wing_jax.runtime import devices

Variables = dict[str, Any]  # what Flax calls variables: {"params": ..., "batch_stats": ...}


@flax.struct.dataclass
class TrainState:
    """Step number, the network's variables, the optimiser's state and the averaged variables.

    `averaged` is None where nothing is averaged; the variables themselves are then evaluated and kept. The fields
    are declared loosely, for Orbax and `jax.tree.map` rebuild this pytree with other things as leaves.
    """

    step: Any  # int32 scalar
    variables: Any  # Variables
    optimizer: Any  # optax.OptState
    averaged: Any  # Variables or None

    @property
    def best_variables(self) -> Variables:
        return self.variables if self.averaged is None else self.averaged


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    stage: int = 0,
    input_size: int,
    mean_shape: Float[np.ndarray, "points 2"] | None = None,
    average: bool = False,
) -> TrainState:
    """Draw the network's first parameters, others for each `seed` and `stage`. With `mean_shape` (pixels of the crop)
    the untrained network answers that shape to every face, by its method `start_at`; one without it starts as it is."""

    @devices.jit_once  # as a whole: array by array it would take longer than the first step
    def draw(seed: Array, stage: Array) -> TrainState:
        key = jax.random.fold_in(jax.random.key(seed), stage)
        variables = {"batch_stats": {}, **model.init(key, jnp.zeros((1, input_size, input_size, 3), jnp.uint8))}
        if mean_shape is not None and hasattr(model, "start_at"):
            variables = model.start_at(variables, mean_shape)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables=variables,
            optimizer=optimizer.init(variables["params"]),
            averaged=jax.tree.map(jnp.copy, variables) if average else None,
        )

    return draw(np.uint32(seed % 2**32), np.uint32(stage))
