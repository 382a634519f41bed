"""Checks of the environment of this process: whether it can use JAX, and its folder for caches.

JAX runs threads, which `fork` does not copy: if a parent has used JAX, a child forked after that hangs when it uses
JAX. A child that was forked before, or started by "spawn" or "forkserver", can use JAX.
"""

import os
import sys
import threading
from pathlib import Path

from wing_jax.errors import InputError

TASKS = "/proc/self/task"  # Linux: a folder for each thread, including those of libraries
FORKED = (
    "this process was forked from one that had used JAX, and would hang if it used JAX too: start it with "
    'multiprocessing.get_context("spawn") (PyTorch: DataLoader(..., multiprocessing_context="spawn")), or fork before '
    "JAX is used and load the model in each worker"
)
_started = False  # JAX has started its backend
_forked = False  # forked after that: JAX cannot be used


def check_fork() -> None:
    """Raise InputError in a child that was forked after JAX was used."""
    if _forked:
        raise InputError(FORKED)


def check_jax() -> None:
    """Start JAX, unless it has started.

    Raises:
      InputError: this process was forked after JAX was used, or the requested platform is not available.
    """
    global _started
    check_fork()
    if _started:
        return
    import jax

    try:
        jax.devices()
    except Exception as error:  # a RuntimeError or an AssertionError, by platform
        platforms = jax.config.values["jax_platforms"]
        message = " ".join(str(error).split()).split(" (set JAX_PLATFORMS")[0]
        if not platforms:
            raise InputError(f"JAX cannot start ({message or type(error).__name__}): fix its installation") from error
        raise InputError(
            f"JAX_PLATFORMS={platforms}: not available ({message or 'JAX has no plugin for it'}): unset "
            "JAX_PLATFORMS, set it to cpu, or install JAX for that platform"
        ) from error
    _started = True


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path | None:
    """Return the folder for caches, which may not exist yet: `$XDG_CACHE_HOME/wing_jax` or `~/.cache/wing_jax`.

    None if the folder is not writable or there is no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # unset, or relative, which the XDG specification says to ignore
        home = home_folder()
        if home is None:
            return None
        base = home / ".cache"
    folder = base / "wing_jax"
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, ValueError):  # a parent is not readable, or the name is invalid
        return None
    return folder if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK) else None


def home_folder() -> Path | None:
    """Return the user's home folder, or None: in containers and batch systems, users may not have one."""
    try:
        home = Path(os.environ["HOME"]) if "HOME" in os.environ else Path.home()
    except RuntimeError:  # the system does not know the user
        return None
    return home if home.is_absolute() and home.is_dir() else None


def has_started() -> bool:
    """Return whether JAX has started its backend, and so its threads.

    No public function of JAX reports this without starting them.
    """
    return _started or bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def _after_fork() -> None:
    global _forked
    _forked = _forked or has_started()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
    if has_started() and os.path.isdir(TASKS):  # imported after a fork, if JAX's threads are missing
        _forked = len(os.listdir(TASKS)) <= threading.active_count()
