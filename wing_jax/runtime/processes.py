"""What the surroundings of this process allow: JAX or not, and a folder for caches or none.

JAX runs threads, which `fork` does not copy: a child that uses JAX after its parent has used it waits for ever. A child
that was forked before, or made by "spawn" or "forkserver", can use JAX.
"""

import os
import sys
import threading
from pathlib import Path

from wing_jax.errors import InputError

TASKS = "/proc/self/task"  # Linux: a folder for each thread, those of libraries included
FORKED = (
    "this process was forked from one that had used JAX, and would wait for ever if it used JAX too: start it with "
    'multiprocessing.get_context("spawn") (PyTorch: DataLoader(..., multiprocessing_context="spawn")), or fork before '
    "JAX is used and load the model in each worker"
)
_started = False  # JAX has a device to work on
_forked = False  # JAX cannot be used


def check_fork() -> None:
    """Raises InputError in a child that was forked after JAX was used, whatever it wants to do with JAX."""
    if _forked:
        raise InputError(FORKED)


def check_jax() -> None:
    """Start JAX, unless it has started.

    Raises:
      InputError: this process was forked after JAX was used, or the platform that was asked for is not there.
    """
    global _started
    check_fork()
    if _started:
        return
    import jax

    try:
        jax.devices()
    except Exception as error:  # a RuntimeError or an AssertionError, by platform
        asked, why = jax.config.values["jax_platforms"], " ".join(str(error).split()).split(" (set JAX_PLATFORMS")[0]
        if not asked:
            raise InputError(f"JAX cannot start ({why or type(error).__name__}): correct its installation") from error
        raise InputError(
            f"JAX_PLATFORMS={asked}: there is no such platform here ({why or 'JAX has no plugin for it'}): unset "
            "JAX_PLATFORMS, set it to cpu, or install the JAX for that platform"
        ) from error
    _started = True


def cache_folder() -> Path | None:
    """The folder for what is computed once and can be computed again, which may not be there yet:
    `$XDG_CACHE_HOME/wing_jax` or `~/.cache/wing_jax`. None where it could not be written to, or there is no home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # also where it is not set: the XDG specification says so of relative ones
        home = home_folder()
        if home is None:
            return None
        base = home / ".cache"
    folder = base / "wing_jax"
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
    except (OSError, ValueError):  # a parent is closed, or the name is none
        return None
    return folder if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else None


def home_folder() -> Path | None:
    """The user's folder, if it is there: containers and batch systems run users without one."""
    try:
        home = Path(os.environ["HOME"]) if "HOME" in os.environ else Path.home()
    except RuntimeError:  # the system does not know the user
        return None
    return home if home.is_absolute() and home.is_dir() else None


def has_started() -> bool:
    """Whether JAX has a device to work on, and so threads. It has no public function that asks this without starting
    them."""
    return _started or bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def _after_fork() -> None:
    global _forked
    _forked = _forked or has_started()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
    if has_started() and os.path.isdir(TASKS):  # imported after the fork: then JAX's threads are missing
        _forked = len(os.listdir(TASKS)) <= threading.active_count()
