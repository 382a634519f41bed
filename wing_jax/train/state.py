"""The state of a training run, as one immutable pytree."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from wing_jax.models.networks import Network, Variables
from wing_jax.runtime import devices


@flax.struct.dataclass
class TrainState:
    """The step number, the network's variables, the optimizer's state and the averaged variables.

    Without averaging `averaged` is None, and `variables` are evaluated and saved. The fields are typed loosely because
    Orbax and `jax.tree.map` rebuild this pytree with leaves of other types.
    """

    step: Any  # int32 scalar
    variables: Any  # Variables
    optimizer: Any  # optax.OptState
    averaged: Any  # Variables or None

    @property
    def best_variables(self) -> Variables:
        """The variables to evaluate and save: the averaged ones if there are any."""
        return self.variables if self.averaged is None else self.averaged


def init_state(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    stage: int = 0,
    input_size: int,
    start: Float[np.ndarray, "points 2"] | None = None,
    average: bool = False,
) -> TrainState:
    """Initialize the network and the optimizer; the parameters depend on `seed` and `stage`.

    With `start` (pixels of the crop) the untrained network predicts that shape for every face, if its model has a
    method `start_at(variables, points)`.
    """
    start_at = getattr(getattr(network, "model", network), "start_at", None)

    @devices.jit_once  # one program: array by array, this would take longer than the first step
    def initialize(seed: Array, stage: Array) -> TrainState:
        key = jax.random.fold_in(jax.random.key(seed), stage)
        variables = network.init(key, jnp.zeros((1, input_size, input_size, 3), jnp.uint8))
        if start is not None and start_at is not None:
            variables = start_at(variables, jnp.asarray(start, jnp.float32))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables=variables,
            optimizer=optimizer.init(variables["params"]),
            averaged=jax.tree.map(jnp.copy, variables) if average else None,
        )

    return initialize(np.uint32(seed % 2**32), np.uint32(stage))
