"""The one file that knows of devices: the mesh, where arrays live, and XLA's settings."""

import os
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from jax import NamedSharding
from jax import P as Spec
from jax.sharding import AxisType, Mesh

from wing_jax.errors import InputError

AXIS = "faces"
# Measured on two cores: 1.3 to 1.5 times the steps a second. Newer versions do not know the last flag and abort.
CPU_FLAGS = {
    "0.10.2": "--xla_cpu_experimental_ynn_fusion_type= --xla_cpu_use_xnnpack=false --xla_cpu_use_fusion_emitters=false"
}


def prepare_xla() -> None:
    """Set XLA's flags and the compile cache, where the user has not; to be called before JAX is first used.

    The cache lies in `$XDG_CACHE_HOME/wing_jax` or `~/.cache/wing_jax`.
    """
    if "XLA_FLAGS" not in os.environ and os.environ.get("JAX_PLATFORMS", "cpu") == "cpu":
        os.environ["XLA_FLAGS"] = CPU_FLAGS.get(version("jaxlib"), "")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wing_jax" / "xla"
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(cache)))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def make_mesh(count: int = 0) -> Mesh:
    """A one-dimensional mesh of `count` devices (0: all of them), its axis named "faces".

    Raises:
      InputError: there are fewer devices.
    """
    devices = jax.devices()
    if count > len(devices):
        raise InputError(f"devices={count}, but JAX sees {len(devices)}: {devices[0].platform}; ask for fewer")
    count = count or len(devices)
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices[:count])


def shard_batch(batch, mesh: Mesh):
    """Put a batch (pytree of arrays, faces first) on the mesh, split over its devices."""
    return jax.device_put(batch, NamedSharding(mesh, Spec(AXIS)))


def replicate(tree, mesh: Mesh):
    """Put a pytree on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, Spec()))


def check_divides(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError where a batch cannot be split evenly over the mesh."""
    if batch_size % mesh.size:
        raise InputError(f"batch_size={batch_size} does not divide by {mesh.size} devices: make it a multiple")


def stack_for_pmap(batch, mesh: Mesh):
    """A batch `[faces, ...]` as `[devices, faces / devices, ...]` on the mesh, for `jax.pmap`."""
    return shard_batch(jax.tree.map(lambda x: np.asarray(x).reshape(mesh.size, -1, *x.shape[1:]), batch), mesh)


def replicate_for_pmap(tree, mesh: Mesh):
    """A pytree with a leading axis of devices, on the mesh, for `jax.pmap` (it would compile apart for host arrays)."""
    stacked = jax.tree.map(lambda x: np.broadcast_to(x, (mesh.size, *np.shape(x))), jax.device_get(tree))
    return shard_batch(stacked, mesh)
