"""The CPU kernel of `conv_pool`: compiled on first use, kept in the user's cache, and absent without harm.

It needs an x86 processor with AVX-512, a C++ compiler (`$CXX`, `c++` or `g++`) and a folder for caches: the library
lies in `kernels` of `wing_jax.processes.cache_folder` (`~/.cache/wing_jax`). The environment variable
`WING_JAX_CPU_KERNEL` and the context manager `switched` choose among

- "auto" (the default): the kernel, where JAX has one CPU device and no other. XLA cannot split the kernel's batch
  over the devices of a mesh, so that each would compute all of it;
- "on": also with several devices, right but slow on a mesh;
- "off": pure JAX.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import jax

from wing_jax.processes import cache_folder

Setting = Literal["auto", "on", "off"]
SWITCH = "WING_JAX_CPU_KERNEL"
SOURCE = Path(__file__).with_name("conv_pool.cc")
NEEDED = frozenset({"avx512f", "popcnt"})
FLAGS = ("-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-shared", *(f"-m{flag}" for flag in sorted(NEEDED)))
TARGETS = ("wing_jax_conv_pool", "wing_jax_conv_pool_input", "wing_jax_conv_pool_weights")
_setting: ContextVar[Setting | None] = ContextVar("setting", default=None)


class _AbsentError(Exception):
    """Why there is no kernel."""


def enabled() -> bool:
    """Whether an operation traced now on JAX's default backend is to use the kernel; builds it on the first call."""
    setting = _setting.get() or os.environ.get(SWITCH, "auto")
    if setting == "off" or jax.default_backend() != "cpu":
        return False
    return (setting == "on" or jax.device_count() == 1) and available()


@contextmanager
def switched(setting: Setting) -> Generator[None]:
    """Within the block, trace with the kernel "on", "off" or as is best ("auto").

    It is read while JAX traces: a function that `jax.jit` has compiled keeps the kernel that it was compiled with, so
    make the jitted function within the block. "off" allows `jax.jvp` and second derivatives, which the kernel has not.
    """
    token = _setting.set(setting)
    try:
        yield
    finally:
        _setting.reset(token)


def available() -> bool:
    """Whether the kernel is built and loaded, which the first call sees to (some seconds, once a machine)."""
    return _load()[0]


def status() -> str:
    """For people: "built: PATH" or "absent: REASON"."""
    return _load()[1]


@functools.cache
def _load() -> tuple[bool, str]:
    try:
        path = _build()
        library = ctypes.CDLL(str(path))
        for target in TARGETS:
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, target)), platform="cpu")
    # Whatever goes wrong with a compiler, a disk or a loader: the kernel is an extra.
    except Exception as error:
        return False, f"absent: {error}"
    return True, f"built: {path}"


def _build() -> Path:
    missing = NEEDED - _processor_flags()
    if missing:
        raise _AbsentError(f"the processor lacks {', '.join(sorted(missing))}")
    compiler = _compiler()
    cache = cache_folder()
    if cache is None:
        raise _AbsentError("no folder for a cache: set XDG_CACHE_HOME to one that can be written to")
    path = cache / "kernels" / f"conv_pool-{_fingerprint(compiler)}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, path)
    return path


def _processor_flags() -> set[str]:
    listing = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not listing.exists():
        return set()
    lines = listing.read_text(encoding="utf-8").splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _compiler() -> list[str]:
    given = os.environ.get("CXX", "").split()
    names = [given] if given else [["c++"], ["g++"]]
    for name in names:
        if shutil.which(name[0]):
            return name
    raise _AbsentError(f"no C++ compiler ({' or '.join(name[0] for name in names)})")


def _fingerprint(compiler: list[str]) -> str:
    """Of all that the library depends on: one that was built by other means is not taken for this one."""
    told = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    parts = (SOURCE.read_text(encoding="utf-8"), told, *compiler, *FLAGS, version("jaxlib"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _compile(compiler: list[str], path: Path) -> None:
    """Compile to a file of its own, then move it in place: another process may be doing the same."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        command = [*compiler, *FLAGS, "-isystem", jax.ffi.include_dir(), str(SOURCE), "-o", str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise _AbsentError(f"{compiler[0]} failed: {done.stderr.strip()[-500:]}")
        os.replace(fresh, path)
