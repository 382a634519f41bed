"""The one file that knows of devices: the mesh, where arrays live, and XLA's settings."""

import contextlib
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
from wing_jax.runtime.locks import only_writer
from wing_jax.runtime.processes import cache_folder, check_jax, has_started
from wing_jax.text import reason

AXIS = "faces"
LOST = 3  # exit status of a process that has lost another of its cluster
SIGNS_OF_LOSS = ("Gloo", "NCCL", "UNAVAILABLE", "Barrier", "heartbeat", "oordination")  # in what JAX says of it
HEARTBEAT = 30  # seconds without a sign of a process of a cluster after which it counts as dead
# By version, for XLA aborts the process over a flag that it does not know. 0.10.2: only single matrix products go to
# the YNN library (its other fusions transpose the hidden layer's weights at every step, or crash on some reductions).
CPU_FLAGS = {"0.10.2": "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def prepare_xla() -> None:
    """Set XLA's flags and the compile cache, where the user has not. The command line and `fit` call it; where JAX has
    started already, nothing is changed.

    The cache lies in `wing_jax.runtime.processes.cache_folder`; where there is none, nothing is kept.
    """
    if has_started():
        return
    if "XLA_FLAGS" not in os.environ and os.environ.get("JAX_PLATFORMS", "cpu") == "cpu":
        os.environ["XLA_FLAGS"] = CPU_FLAGS.get(version("jaxlib"), "")
    if jax.config.values["jax_compilation_cache_dir"] is None and (cache := cache_folder()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)  # the small ones add up
    keep_utf8_cache_only()


def keep_utf8_cache_only() -> None:
    """Keep no compiled programs where the path to them is not UTF-8: JAX ends with a TypeError there."""
    path = jax.config.values["jax_compilation_cache_dir"] or ""
    if os.fsencode(path).decode(errors="replace") != path:
        jax.config.update("jax_compilation_cache_dir", None)


@contextlib.contextmanager
def usual_settings() -> Generator[None]:
    """Within, JAX promotes dtypes and transfers arrays as it does by default, whatever the program or the environment
    has set: optax and Flax do not work otherwise. Prediction needs neither."""
    with jax.numpy_dtype_promotion("standard"), jax.transfer_guard("allow"):
        yield


def jit_once(function: Callable) -> Callable:
    """`jax.jit` for what runs once: on CPUs compiled without optimisation, which is done much sooner."""
    quickly = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=quickly)


def join_processes() -> None:
    """Join the other processes of one training; to be called before JAX is first used.

    They are found by JAX itself on Slurm, Open MPI, Kubernetes and TPU pods, or by the environment variables
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      InputError: the environment does not say which processes there are.
    """
    if jax.distributed.is_initialized():
        return
    count, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM (`wing_jax.runtime.termination`)
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count),
            process_id=None if number is None else int(number),
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f'processes="many" found no cluster ({reason(error)}): set JAX_COORDINATOR_ADDRESS, '
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID for each process, or leave processes at one"
        ) from error


def is_loss(error: Exception) -> bool:
    """Whether what JAX raised tells that another process of the cluster is gone."""
    return any(sign in str(error) for sign in SIGNS_OF_LOSS)


@contextlib.contextmanager
def ended_with_the_others() -> Generator[None]:
    """Of many processes: where one has ended, the others cannot add up with it, and end with one line instead of the
    libraries' pages. At once: an orderly end would wait for the one that is gone."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # JAX turns those of starting a program into ValueErrors
        said = reason(error)
        if jax.process_count() == 1 or not is_loss(error):
            raise
        print(
            f"wing-jax: process {jax.process_index()} of {jax.process_count()} has lost another ({said}): see what that"
            " one said, and start all of them again: they go on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(LOST)


def is_first_process() -> bool:
    """Whether this process is the one that writes logs and models."""
    return jax.process_index() == 0


@contextlib.contextmanager
def only_trainer(folder: Path) -> Generator[None]:
    """Within, no other training writes to `folder`; of many processes the first sees to it.

    Raises:
      InputError: another does.
    """
    with contextlib.ExitStack() as held:
        if is_first_process():
            held.enter_context(only_writer(folder, doing="trains", instead="give another --name or --output"))
        yield


def precision(asked: str) -> str:
    """The dtype's name for "auto": bfloat16 on GPUs and TPUs; on CPUs float32, for XLA is slower in bfloat16 there, and
    only processors with AMX gain by it (`wing_jax.models.cpu_kernel`)."""
    if asked != "auto":
        return asked
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def steps_per_call() -> int:
    """Steps in one program: many where starting a program takes as long as a small step. On CPUs one: XLA's CPU
    backend convolves very slowly inside of loops (jaxlib 0.10.2)."""
    return 1 if jax.default_backend() == "cpu" else 250


def make_mesh(count: int = 0) -> Mesh:
    """A one-dimensional mesh of `count` devices (0: all of them), its axis named "faces".

    Raises:
      InputError: there are fewer devices, or none that JAX can use (`wing_jax.runtime.processes.check_jax`).
    """
    check_jax()
    devices = jax.devices()
    if count > len(devices):
        raise InputError(f"devices={count}, but JAX sees {len(devices)}: {devices[0].platform}; ask for fewer")
    count = count or len(devices)
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices[:count])


def shard_batch(batch, mesh: Mesh):
    """Put a batch (pytree of arrays, faces first) on the mesh, split over its devices. Each process gives its own
    equal part of the batch, in the order of the processes."""
    return _put(batch, NamedSharding(mesh, Spec(AXIS)))


def replicate(tree, mesh: Mesh):
    """Put a pytree on every device of the mesh; every process gives the same."""
    return _put(tree, NamedSharding(mesh, Spec()))


def local_part(rows: np.ndarray) -> np.ndarray:
    """This process's part of `rows`, which divide evenly: all of them where there is one process."""
    part = len(rows) // jax.process_count()
    return rows[jax.process_index() * part :][:part]


def _put(tree, sharding: NamedSharding):
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def check_divides(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError where a batch cannot be split evenly over the mesh."""
    if batch_size % mesh.size:
        raise InputError(f"batch_size={batch_size} does not divide by {mesh.size} devices: make it a multiple")
