"""The state of a training run, as one immutable pytree."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from wing_jax.inference.bundle import flatten
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
    arrays: Mapping[str, np.ndarray] | None = None,
) -> TrainState:
    """Initialize the network and the optimizer; the parameters depend on `seed` and `stage`.

    With `start` (pixels of the crop) the untrained network predicts that shape for every face, if its model has a
    method `start_at(variables, points)`. The `arrays` of a trained model, by the names of
    `wing_jax.inference.bundle.flatten`, replace those of the untrained one.
    """
    start_at = getattr(getattr(network, "model", network), "start_at", None)

    @devices.jit_once  # one program: array by array, this would take longer than the first step
    def initialize(seed: Array, stage: Array, arrays: Mapping[str, Array]) -> TrainState:
        key = jax.random.fold_in(jax.random.key(seed), stage)
        variables = network.init(key, jnp.zeros((1, input_size, input_size, 3), jnp.uint8))
        if start is not None and start_at is not None:
            variables = start_at(variables, jnp.asarray(start, jnp.float32))
        variables = insert_arrays(variables, arrays)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables=variables,
            optimizer=optimizer.init(variables["params"]),
            averaged=jax.tree.map(jnp.copy, variables) if average else None,
        )

    return initialize(np.uint32(seed % 2**32), np.uint32(stage), dict(arrays or {}))


def insert_arrays(variables: Variables, arrays: Mapping[str, Array | np.ndarray]) -> Variables:
    """Return `variables` with `arrays` instead of those of the same name."""
    leaves, structure = jax.tree.flatten(variables)
    names = flatten(jax.tree.unflatten(structure, leaves))
    replaced = [jnp.asarray(arrays.get(name, leaf), leaf.dtype) for name, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, replaced)
