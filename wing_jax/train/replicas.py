"""Running one replica's program on all devices, by `shard_map` or by `pmap`.

No other file depends on which one is used.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import P as Spec
from jax.sharding import Mesh

from wing_jax.choices import Parallel
from wing_jax.runtime import devices
from wing_jax.runtime.devices import AXIS


class Replicas:
    """The devices of a mesh, each running the same program on its part of the data.

    `parallel="jit"` compiles by `jax.jit(jax.shard_map(...))`, for any number of devices and processes; "pmap" by
    `jax.pmap`, for the devices of one process. `split` says whether an argument is split over the devices (True) or
    replicated (False). It may be a pytree of these that is a prefix of the argument.
    """

    def __init__(self, mesh: Mesh, *, parallel: Parallel = "jit"):
        self.mesh, self.parallel = mesh, parallel

    def compile(self, program: Callable, *, split: tuple[Any, ...]) -> Any:
        """Compile one replica's `program(state, *arguments) -> (state, metrics)`, in which the mapped axis is `AXIS`.

        Returns a jitted function of arguments that are on the devices already. `split` has one entry per argument. The
        state is donated.
        """
        if self.parallel == "pmap":
            in_axes = jax.tree.map(lambda part: 0 if part else None, split)
            return jax.pmap(program, axis_name=AXIS, in_axes=(0, *in_axes), donate_argnums=0)
        specs = jax.tree.map(lambda part: Spec(AXIS) if part else Spec(), split)
        mapped = jax.shard_map(program, mesh=self.mesh, in_specs=(Spec(), *specs), out_specs=Spec(), check_vma=False)
        return jax.jit(mapped, donate_argnums=0)

    def place_state(self, state: Any) -> Any:
        """Copy `state` to all devices."""
        if self.parallel == "jit":
            return devices.replicate(state, self.mesh)
        # A leading axis over the devices. As device arrays, because `pmap` would compile again for host arrays.
        stacked = jax.tree.map(lambda x: np.broadcast_to(x, (self.mesh.size, *np.shape(x))), jax.device_get(state))
        return devices.shard_batch(stacked, self.mesh)

    def whole_state(self, state: Any) -> Any:
        """Return the state of one replica; all replicas have the same."""
        return self._first(state, np.asarray)

    def first_metrics(self, metrics: Any) -> Any:
        """Return the metrics of one replica; all replicas have the same."""
        return self._first(metrics, jnp.asarray)

    def split(self, batch: Any) -> Any:
        """Split a batch `[faces, ...]` evenly over the devices. Each process passes its own part of the batch."""
        if self.parallel == "jit":
            return devices.shard_batch(batch, self.mesh)
        parts = jax.tree.map(lambda x: np.asarray(x).reshape(self.mesh.size, -1, *x.shape[1:]), batch)
        return devices.shard_batch(parts, self.mesh)

    def replicate(self, tree: Any) -> Any:
        """Copy a pytree to every device."""
        return devices.replicate(tree, self.mesh) if self.parallel == "jit" else jax.tree.map(jnp.asarray, tree)

    def wait(self, metrics: Any) -> None:
        """Wait for a program to finish, on several virtual CPU devices only.

        Otherwise several running programs with sums over the devices can deadlock in XLA's few threads, and XLA aborts
        the process.
        """
        if self.mesh.size > 1 and jax.default_backend() == "cpu":
            jax.block_until_ready(metrics)

    def _first(self, tree: Any, convert: Callable) -> Any:
        return tree if self.parallel == "jit" else jax.tree.map(lambda x: convert(x[0]), tree)
