"""The CPU kernel of 3 x 3 convolutions: one library for AVX-512, AVX2 and NEON, and absent without harm. In bfloat16
it has them for processors with AMX.

`load` looks for the library beside this file, where the wheel for Linux on x86-64 has it, then in the folder `kernels`
of `wing_jax.runtime.processes.cache_folder` (`~/.cache/wing_jax`), and else compiles it there: some seconds, once a
machine, with a C++ compiler (`$CXX`, `c++` or `g++`). Every training and `wing-jax devices` call `load()`; predictions
take what is built. Nothing is compiled or loaded while a function is traced: without a `load` before, networks are pure
JAX.

The environment variable `WING_JAX_CPU_KERNEL` and the context manager `switched` choose among

- "auto" (the default): the kernel with the best instructions that the processor has, in programs of one CPU device:
  where JAX has no other, and within `shard_map` and `pmap`, as in trainings on several devices. In other programs XLA
  cannot split the kernel's batch over the devices of a mesh, so that each would compute all of it;
- "on": in all programs, right but slow where XLA splits a batch over a mesh;
- "avx512", "avx2", "neon": as "on", with these instructions alone, to compare them;
- "off": pure JAX.
"""

import ctypes
import dataclasses
import os
import platform
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import jax

from wing_jax.errors import InputError
from wing_jax.models import cpu_kernel_build
from wing_jax.models.cpu_kernel_build import AbsentError
from wing_jax.runtime.processes import cache_folder, check_jax
from wing_jax.text import quoted

Instructions = Literal["avx512", "avx2", "neon"]
Setting = Literal["auto", "on", "off"] | Instructions
SETTINGS = ("auto", "on", "off", *get_args(Instructions))
SWITCH = "WING_JAX_CPU_KERNEL"
SHIPPED = cpu_kernel_build.HERE / cpu_kernel_build.LIBRARY  # in the wheels for Linux on x86-64
PASSES = ("conv", "conv_input", "conv_weights", "conv_pool", "conv_pool_input", "conv_pool_weights")
_switched: ContextVar[Setting | None] = ContextVar("switched", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processor:
    """What is told of a processor before the kernel runs on it."""

    system: str  # as `platform.system()` names it
    machine: str  # as `platform.machine()` names it
    flags: frozenset[str] = frozenset()  # its instructions, as far as Linux lists them; none: not known

    @classmethod
    def of_this_machine(cls) -> "Processor":
        """The processor at hand."""
        listing = Path("/proc/cpuinfo")
        lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        return cls(system=platform.system(), machine=platform.machine(), flags=frozenset(flags))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Library:
    path: Path
    bfloat16: bool  # whether it has convolutions in bfloat16 that run here
    sets: tuple[Instructions, ...]  # that it has and this processor supports, the best first


_library: _Library | None = None
_tried: set[bool] = set()  # calls of `load` by their `build`
_absent = "not loaded: wing_jax.models.cpu_kernel.load() does it"


def load(*, build: bool = True) -> bool:
    """Load the library, building it where it is not built yet unless `build` is false. Returns whether it is there.

    What a process has tried once it does not try again. Where the kernel is switched off, or JAX works on another kind
    of device, nothing is done.

    Raises:
      InputError: JAX cannot start, or `WING_JAX_CPU_KERNEL` is none of `SETTINGS`, or names instructions that are not
        to be had here.
    """
    global _library, _absent
    check_jax()
    asked = setting()
    if asked != "off" and jax.default_backend() == "cpu" and not _tried & {True, build}:
        _tried.add(build)
        try:
            _library = _register(find_library(build=build, cache=cache_folder()))
        # Whatever goes wrong with a compiler, a disk or a loader: the kernel is an extra.
        except Exception as error:
            _absent = str(error) or type(error).__name__
    _check(asked)
    return _library is not None


def _check(asked: Setting) -> None:
    if asked in get_args(Instructions) and asked not in supported():
        there = f"there are {', '.join(supported())}" if _library else f"no CPU kernel: {_absent}"
        raise InputError(f"the CPU kernel cannot use {asked} here ({there}): set {SWITCH} to auto")


def supported() -> tuple[Instructions, ...]:
    """The instructions that the loaded library has and this processor supports, the best first; none before `load`."""
    return _library.sets if _library else ()


def enabled() -> bool:
    """Whether an operation traced now on JAX's default backend is to use the kernel. Builds and loads nothing."""
    asked = setting()
    if _library is None or asked == "off" or jax.default_backend() != "cpu":
        return False
    return asked != "auto" or jax.device_count() == 1 or bool(jax.sharding.get_abstract_mesh().manual_axes)


def instructions(*, dtype: Any = "float32") -> Instructions | Literal["amx"] | None:
    """The instructions that an operation in `dtype` traced now uses, or None where it is pure JAX.

    Raises:
      InputError: what is asked for are instructions that are not to be had here.
    """
    if not enabled() or _library is None:
        return None
    _check(setting())
    if dtype == "bfloat16":
        return "amx" if _library.bfloat16 and setting() in ("auto", "on") else None
    if dtype != "float32":
        return None
    return next((name for name in _library.sets if name == setting()), _library.sets[0])


def setting() -> Setting:
    """What is asked for: by `switched`, else by the environment variable, else "auto".

    Raises:
      InputError: the environment variable is set to something else.
    """
    asked = _switched.get() or os.environ.get(SWITCH) or "auto"
    for known in SETTINGS:
        if asked == known:
            return known
    raise InputError(f"{SWITCH}={quoted(asked)}: choose one of {', '.join(SETTINGS)}")


@contextmanager
def switched(to: Setting) -> Generator[None]:
    """Within the block, trace with the kernel "on", "off", as is best ("auto"), or with instructions of a name.

    It is read while JAX traces: a function that `jax.jit` has compiled keeps the kernel that it was compiled with, so
    make the jitted function within the block. "off" allows `jax.jvp` and second derivatives, which the kernel has not.
    """
    token = _switched.set(to)
    try:
        yield
    finally:
        _switched.reset(token)


def status() -> str:
    """For people: which instructions run and why, or why pure JAX does."""
    asked = setting()
    if jax.default_backend() != "cpu":
        return f"not used: JAX works on {jax.default_backend()}"
    if asked == "off":
        return f"not used: {SWITCH}=off"
    if _library is None:
        return f"absent, JAX's own convolutions run: {_absent}"
    has = f"this processor has {' and '.join(_library.sets)}{', amx for bfloat16' * _library.bfloat16}"
    if not enabled():
        return f"in trainings alone, for JAX has {jax.device_count()} devices ({has}; {_library.path})"
    return f"{instructions()} ({has}; {SWITCH}={asked}; {_library.path})"


def find_library(
    *, build: bool, shipped: Path = SHIPPED, cache: Path | None, processor: Processor | None = None
) -> Path:
    """The path of the library, compiled where it is neither shipped nor built yet and `build` is true.

    Args:
      build: whether to compile it.
      shipped: where a wheel has it.
      cache: the folder in whose `kernels` it is kept; None: there is no such folder.
      processor: it must run on; None: this one.

    Raises:
      AbsentError: there is none, and why.
    """
    processor = processor or Processor.of_this_machine()
    cpu_kernel_build.instruction_sets(machine=processor.machine, system=processor.system)  # raises for other kinds
    needed = {"avx2", "fma"} if processor.machine == "x86_64" and processor.flags else set()
    if missing := sorted(needed - processor.flags):
        raise AbsentError(f"the processor lacks {' and '.join(missing)}")
    return shipped if shipped.exists() and _loads(shipped) else _built(build, cache)


def _loads(path: Path) -> bool:
    """Whether the library is of this system; where it is not, the source is here too."""
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


def _built(build: bool, cache: Path | None) -> Path:
    """The path of the library for this compiler and jaxlib in the cache; compiled unless it is there."""
    if cache is None:
        raise AbsentError("no folder for a cache: set XDG_CACHE_HOME to one that can be written to")
    compiler = cpu_kernel_build.find_compiler()
    own = cpu_kernel_build.fingerprint(compiler, more=version("jaxlib"))
    path = cache / "kernels" / f"conv3x3-{own}.so"
    if not path.exists():
        if not build:
            raise AbsentError("not built yet: `wing-jax devices` and every training build it")
        path.parent.mkdir(parents=True, exist_ok=True)
        cpu_kernel_build.build(compiler, path, include=jax.ffi.include_dir())
    return path


def _register(path: Path) -> _Library:
    """Raises OSError where the library cannot be loaded, AbsentError where it has nothing for this processor."""
    library = ctypes.CDLL(str(path))
    library.wing_jax_instructions.restype = ctypes.c_char_p
    there = library.wing_jax_instructions().decode().split()
    sets = tuple(name for name in get_args(Instructions) if name in there)
    if not sets:
        raise AbsentError("the processor has none of the instructions that the kernel is built for")
    for name in (*PASSES, *(f"{name}_bf16" for name in PASSES)):
        function = jax.ffi.pycapsule(getattr(library, f"wing_jax_{name}"))
        jax.ffi.register_ffi_target(f"wing_jax_{name}", function, platform="cpu")
    return _Library(path=path, bfloat16="amx" in there, sets=sets)
