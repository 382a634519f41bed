"""Devices: the mesh, the placement of arrays, XLA's settings, and training with several processes."""

import contextlib
import contextvars
import os
import sys
from collections.abc import Callable, Generator
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from jax import NamedSharding
from jax import P as Spec
from jax.sharding import AxisType, Mesh

from wing_jax.errors import InputError
from wing_jax.runtime.locks import exclusive_access
from wing_jax.runtime.processes import cache_folder, check_jax, has_started
from wing_jax.text import reason

AXIS = "faces"
LOST = 3  # exit status of a process that lost contact with another process of its cluster
LOSS_MARKERS = ("Gloo", "NCCL", "UNAVAILABLE", "Barrier", "heartbeat", "oordination")  # in JAX's messages about it
_PLATFORM: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)
HEARTBEAT = 30  # seconds without a heartbeat after which a process of the cluster counts as dead
# By version, because XLA aborts the process on an unknown flag. 0.10.2: only single matrix products go to the YNN
# library (its other fusions transpose the hidden layer's weights at every step, or crash on some reductions).
CPU_FLAGS = {"0.10.2": "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def prepare_xla() -> None:
    """Set XLA's flags and the compile cache, unless the user has set them.

    The command line and `fit` call this. If JAX has already started, nothing is changed. The cache is in
    `wing_jax.runtime.processes.cache_folder`; if that is None, there is no cache.
    """
    if has_started():
        return
    if "XLA_FLAGS" not in os.environ and os.environ.get("JAX_PLATFORMS", "cpu") == "cpu":
        os.environ["XLA_FLAGS"] = CPU_FLAGS.get(version("jaxlib"), "")
    if jax.config.values["jax_compilation_cache_dir"] is None and (cache := cache_folder()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)  # small programs add up
    keep_utf8_cache_only()


def keep_utf8_cache_only() -> None:
    """Disable the compile cache if its path is not UTF-8: JAX would fail with a TypeError."""
    path = jax.config.values["jax_compilation_cache_dir"] or ""
    if os.fsencode(path).decode(errors="replace") != path:
        jax.config.update("jax_compilation_cache_dir", None)


@contextlib.contextmanager
def default_settings() -> Generator[None]:
    """Use JAX's default dtype promotion and array transfers in this block, whatever the program or environment has set.

    optax and Flax do not work under stricter settings. Prediction does not need this.
    """
    with jax.numpy_dtype_promotion("standard"), jax.transfer_guard("allow"):
        yield


def jit_once(function: Callable) -> Callable:
    """Apply `jax.jit` to a function that runs once: on CPUs without optimization, which compiles much faster."""
    options = {"xla_backend_optimization_level": "0"} if platform() == "cpu" else None
    return jax.jit(function, compiler_options=options)


def join_processes() -> None:
    """Join the other processes of a training run. Call this before JAX is first used.

    JAX finds the processes itself on Slurm, Open MPI, Kubernetes and TPU pods. Elsewhere, set the environment variables
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      InputError: the environment does not define the processes.
    """
    if jax.distributed.is_initialized():
        return
    count, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM; see `.termination`
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count),
            process_id=None if number is None else int(number),
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f'processes="many" found no cluster ({reason(error)}): set JAX_COORDINATOR_ADDRESS, '
            'JAX_NUM_PROCESSES and JAX_PROCESS_ID for each process, or use processes="one"'
        ) from error


def is_loss(error: Exception) -> bool:
    """Return whether JAX raised `error` because another process of the cluster is gone."""
    return any(marker in str(error) for marker in LOSS_MARKERS)


@contextlib.contextmanager
def ended_with_the_others() -> Generator[None]:
    """Exit with a one-line message if another process of the cluster is gone, instead of long library tracebacks.

    The exit is immediate: a normal exit would wait for the process that is gone.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # JAX raises ValueError if a program cannot start
        message = reason(error)
        if jax.process_count() == 1 or not is_loss(error):
            raise
        print(
            f"wing-jax: process {jax.process_index()} of {jax.process_count()} lost contact with another process "
            f"({message}): see its error, and restart all processes; training resumes from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(LOST)


def is_first_process() -> bool:
    """Return whether this process writes the logs and models."""
    return jax.process_index() == 0


@contextlib.contextmanager
def only_trainer(folder: Path) -> Generator[None]:
    """Lock `folder` in this block, so that no other training writes to it; of several processes, the first locks it.

    Raises:
      InputError: another training run is writing to it.
    """
    with contextlib.ExitStack() as stack:
        if is_first_process():
            stack.enter_context(exclusive_access(folder, verb="trains", hint="pass a different --name or --output"))
        yield


def platform() -> str:
    """Return the platform for which programs are traced: "cpu", "gpu" or "tpu".

    It is JAX's default backend, or that of `compiling_for`. Code that differs between platforms asks this function.
    """
    return _PLATFORM.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(name: str) -> Generator[None]:
    """Trace programs in this block for the platform `name`, to compile them for devices that are not here.

    Functions that were traced before keep their programs.
    """
    token = _PLATFORM.set(name)
    try:
        yield
    finally:
        _PLATFORM.reset(token)


def precision(name: str) -> str:
    """Return the dtype's name; "auto" is bfloat16 on GPUs and TPUs, and float32 on CPUs.

    On CPUs, XLA is slower in bfloat16, and only processors with AMX profit from it (`wing_jax.models.cpu_kernel`).
    """
    if name != "auto":
        return name
    return "float32" if platform() == "cpu" else "bfloat16"


def steps_per_call() -> int:
    """Return the number of steps in one program: many if starting a program takes as long as a small step.

    On CPUs it is one: convolutions in loops are very slow in XLA's CPU backend (jaxlib 0.10.2).
    """
    return 1 if platform() == "cpu" else 250


def make_mesh(count: int = 0) -> Mesh:
    """Make a one-dimensional mesh of `count` devices (0: all), with the axis "faces".

    Raises:
      InputError: there are fewer devices, or JAX has no usable device (`wing_jax.runtime.processes.check_jax`).
    """
    check_jax()
    devices = jax.devices()
    if count > len(devices):
        raise InputError(f"devices={count}, but JAX sees {len(devices)} ({devices[0].platform}): use at most that many")
    count = count or len(devices)
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices[:count])


def shard_batch(batch, mesh: Mesh):
    """Split a batch (pytree of arrays, faces first) over the devices of the mesh.

    Each process passes its equal part of the batch, in the order of the processes.
    """
    return _put(batch, NamedSharding(mesh, Spec(AXIS)))


def replicate(tree, mesh: Mesh):
    """Copy a pytree to every device of the mesh; every process passes the same."""
    return _put(tree, NamedSharding(mesh, Spec()))


def local_part(rows: np.ndarray) -> np.ndarray:
    """Return this process's part of `rows`, which must divide evenly; with one process, all of them."""
    part = len(rows) // jax.process_count()
    return rows[jax.process_index() * part :][:part]


def _put(tree, sharding: NamedSharding):
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def check_divides(batch_size: int, mesh: Mesh) -> None:
    """Raise InputError if a batch cannot be split evenly over the mesh."""
    if batch_size % mesh.size:
        raise InputError(
            f"batch_size={batch_size} is not divisible by {mesh.size} devices: use a multiple of {mesh.size}"
        )
