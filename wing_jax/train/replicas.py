"""The one file that knows how a replica's program becomes that of all devices: by `shard_map`, or by `pmap`."""

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
    """The devices of a mesh, each of which runs the same program on its part of the data.

    `parallel="jit"` compiles by `jax.jit(jax.shard_map(...))`, for any number of devices and processes; "pmap" by
    `jax.pmap`, for the devices of one process. Arguments of a program are split over the devices or the same on each,
    as `split` says: True, False, or a pytree of these that is a prefix of the argument.
    """

    def __init__(self, mesh: Mesh, *, parallel: Parallel = "jit"):
        self.mesh, self.parallel = mesh, parallel

    def compile(self, program: Callable, *, split: tuple[Any, ...]) -> Any:
        """`program(state, *arguments) -> (state, metrics)` of one replica, which names its axis `AXIS`, as a jitted
        function of placed arguments; `split` says for each of them how it lies. The state is donated."""
        if self.parallel == "pmap":
            in_axes = jax.tree.map(lambda part: 0 if part else None, split)
            return jax.pmap(program, axis_name=AXIS, in_axes=(0, *in_axes), donate_argnums=0)
        specs = jax.tree.map(lambda part: Spec(AXIS) if part else Spec(), split)
        mapped = jax.shard_map(program, mesh=self.mesh, in_specs=(Spec(), *specs), out_specs=Spec(), check_vma=False)
        return jax.jit(mapped, donate_argnums=0)

    def place_state(self, state: Any) -> Any:
        """`state` on all devices."""
        if self.parallel == "jit":
            return devices.replicate(state, self.mesh)
        # With a leading axis of devices; as arrays of the device, for `pmap` would compile apart for host arrays.
        stacked = jax.tree.map(lambda x: np.broadcast_to(x, (self.mesh.size, *np.shape(x))), jax.device_get(state))
        return devices.shard_batch(stacked, self.mesh)

    def whole_state(self, state: Any) -> Any:
        """The state of one replica; they are all alike."""
        return self._first(state, np.asarray)

    def first_metrics(self, metrics: Any) -> Any:
        """The metrics of one replica; they are all alike."""
        return self._first(metrics, jnp.asarray)

    def split(self, batch: Any) -> Any:
        """A batch `[faces, ...]`, in equal parts on the devices; each process gives its own part of it."""
        if self.parallel == "jit":
            return devices.shard_batch(batch, self.mesh)
        parts = jax.tree.map(lambda x: np.asarray(x).reshape(self.mesh.size, -1, *x.shape[1:]), batch)
        return devices.shard_batch(parts, self.mesh)

    def replicate(self, tree: Any) -> Any:
        """The same pytree on every device."""
        return devices.replicate(tree, self.mesh) if self.parallel == "jit" else jax.tree.map(jnp.asarray, tree)

    def wait(self, metrics: Any) -> None:
        """On several virtual CPU devices wait for each program: several in flight, each adding up over the devices,
        can lock one another out of XLA's few threads, upon which XLA aborts the process."""
        if self.mesh.size > 1 and jax.default_backend() == "cpu":
            jax.block_until_ready(metrics)

    def _first(self, tree: Any, convert: Callable) -> Any:
        return tree if self.parallel == "jit" else jax.tree.map(lambda x: convert(x[0]), tree)
