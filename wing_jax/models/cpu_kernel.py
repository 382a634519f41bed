"""The CPU kernel of convolutions: an optional library for AVX-512, AVX2 and NEON, and for AMX in bfloat16.

It has 3 x 3 convolutions (`conv3x3`), and depthwise ones in float32 (`depthwise`).

`load` searches for the library next to this file, where the wheel for Linux on x86-64 has it, then in the folder
`kernels` of `wing_jax.runtime.processes.cache_folder` (`~/.cache/wing_jax`). If it is in neither, `load` compiles it
there with a C++ compiler (`$CXX`, `c++` or `g++`), which takes a few seconds, once per machine. Training and `wing-jax
devices` call `load()`; prediction only loads a library that is already built. Nothing is compiled or loaded while a
function is traced: without a previous `load`, networks are pure JAX.

The environment variable `WING_JAX_CPU_KERNEL` and the context manager `switched` select one of

- "auto" (the default): use the kernel with the processor's best instructions in programs of one CPU device: if JAX has
  only one, and within `shard_map` and `pmap`, as in training on several devices. In other programs XLA cannot split the
  kernel's batch over the devices of a mesh, so that each device would compute the complete batch;
- "on": use it in all programs; correct, but slow where XLA splits a batch over a mesh;
- "avx512", "avx2", "neon": as "on", with these instructions only, to compare them;
- "off": use pure JAX.
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
from wing_jax.models.cpu_kernel_build import KernelUnavailableError
from wing_jax.runtime import devices
from wing_jax.runtime.processes import cache_folder, check_jax
from wing_jax.text import quoted

Instructions = Literal["avx512", "avx2", "neon"]
Setting = Literal["auto", "on", "off"] | Instructions
SETTINGS = ("auto", "on", "off", *get_args(Instructions))
SWITCH = "WING_JAX_CPU_KERNEL"
SHIPPED = cpu_kernel_build.HERE / cpu_kernel_build.LIBRARY  # in the wheels for Linux on x86-64
CONV_PASSES = ("conv", "conv_input", "conv_weights", "conv_pool", "conv_pool_input", "conv_pool_weights")
DEPTHWISE_PASSES = ("depthwise_conv", "depthwise_input", "depthwise_weights")  # only in float32
PASSES = (*CONV_PASSES, *(f"{name}_bf16" for name in CONV_PASSES), *DEPTHWISE_PASSES)
_switched: ContextVar[Setting | None] = ContextVar("switched", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processor:
    """Properties of a processor, to check whether the kernel runs on it."""

    system: str  # from `platform.system()`
    machine: str  # from `platform.machine()`
    flags: frozenset[str] = frozenset()  # its instructions, from Linux's list; empty: unknown

    @classmethod
    def of_this_machine(cls) -> "Processor":
        """Return the processor of this machine."""
        listing = Path("/proc/cpuinfo")
        lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        return cls(system=platform.system(), machine=platform.machine(), flags=frozenset(flags))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Library:
    path: Path
    bfloat16: bool  # whether it has bfloat16 convolutions for this processor
    sets: tuple[Instructions, ...]  # instruction sets that the library has and this processor supports, best first


_library: _Library | None = None
_tried: set[bool] = set()  # values of `build` with which `load` was called
_unavailable_reason = "not loaded: call wing_jax.models.cpu_kernel.load()"


def load(*, build: bool = True) -> bool:
    """Load the library, and build it first if needed and if `build` is true. Return whether it is loaded.

    A process tries each only once. If the kernel is switched off, or JAX does not use CPUs, nothing is done.

    Raises:
      InputError: JAX cannot start, or `WING_JAX_CPU_KERNEL` is not one of `SETTINGS`, or names instructions that are
        not available on this machine.
    """
    global _library, _unavailable_reason
    check_jax()
    requested = setting()
    if requested != "off" and jax.default_backend() == "cpu" and not _tried & {True, build}:
        _tried.add(build)
        try:
            _library = _register(find_library(build=build, cache=cache_folder()))
        # The kernel is optional: ignore any error of the compiler, disk or loader.
        except Exception as error:
            _unavailable_reason = str(error) or type(error).__name__
    _check_available(requested)
    return _library is not None


def _check_available(requested: Setting) -> None:
    if requested in get_args(Instructions) and requested not in supported():
        available = f"available: {', '.join(supported())}" if _library else f"no CPU kernel: {_unavailable_reason}"
        raise InputError(f"the CPU kernel cannot use {requested} on this machine ({available}): set {SWITCH} to auto")


def supported() -> tuple[Instructions, ...]:
    """Return the instructions that the loaded library and this processor support, best first; empty before `load`."""
    return _library.sets if _library else ()


def enabled() -> bool:
    """Return whether an operation traced now on JAX's default backend uses the kernel. Builds and loads nothing."""
    requested = setting()
    if _library is None or requested == "off" or devices.platform() != "cpu":
        return False
    return requested != "auto" or jax.device_count() == 1 or bool(jax.sharding.get_abstract_mesh().manual_axes)


def instructions(*, dtype: Any = "float32") -> Instructions | Literal["amx"] | None:
    """Return the instructions that an operation in `dtype` traced now uses, or None if it is pure JAX.

    Raises:
      InputError: the requested instructions are not available on this machine.
    """
    if not enabled() or _library is None:
        return None
    _check_available(setting())
    if dtype == "bfloat16":
        return "amx" if _library.bfloat16 and setting() in ("auto", "on") else None
    if dtype != "float32":
        return None
    return next((name for name in _library.sets if name == setting()), _library.sets[0])


def setting() -> Setting:
    """Return the requested setting: of `switched`, else of the environment variable, else "auto".

    Raises:
      InputError: the environment variable is not one of `SETTINGS`.
    """
    requested = _switched.get() or os.environ.get(SWITCH) or "auto"
    for value in SETTINGS:
        if requested == value:
            return value
    raise InputError(f"{SWITCH}={quoted(requested)}: choose one of {', '.join(SETTINGS)}")


@contextmanager
def switched(to: Setting) -> Generator[None]:
    """Set the kernel within the block: "on", "off", "auto", or the name of an instruction set.

    JAX reads the setting while it traces: a function that `jax.jit` has compiled keeps the kernel it was compiled with,
    so create the jitted function within the block. "off" allows `jax.jvp` and second derivatives, which the kernel does
    not support.
    """
    token = _switched.set(to)
    try:
        yield
    finally:
        _switched.reset(token)


def status() -> str:
    """Describe for users which instructions are used and why, or why pure JAX is used."""
    requested = setting()
    if jax.default_backend() != "cpu":
        return f"not used: JAX uses {jax.default_backend()}"
    if requested == "off":
        return f"not used: {SWITCH}=off"
    if _library is None:
        return f"not available, using JAX's convolutions: {_unavailable_reason}"
    supports = f"this processor has {' and '.join(_library.sets)}{', amx for bfloat16' * _library.bfloat16}"
    if not enabled():
        return f"used only in training, because JAX has {jax.device_count()} devices ({supports}; {_library.path})"
    return f"{instructions()} ({supports}; {SWITCH}={requested}; {_library.path})"


def find_library(
    *, build: bool, shipped: Path = SHIPPED, cache: Path | None, processor: Processor | None = None
) -> Path:
    """Return the path of the library; compile it if it is neither shipped nor built and `build` is true.

    Args:
      build: whether to compile it.
      shipped: its path in a wheel.
      cache: the folder whose subfolder `kernels` stores it; None: there is no cache folder.
      processor: the processor that it must run on; None: the one of this machine.

    Raises:
      KernelUnavailableError: there is no library; the message says why.
    """
    processor = processor or Processor.of_this_machine()
    cpu_kernel_build.instruction_sets(
        machine=processor.machine, system=processor.system
    )  # raises for unsupported kinds
    needed = {"avx2", "fma"} if processor.machine == "x86_64" and processor.flags else set()
    if missing := sorted(needed - processor.flags):
        raise KernelUnavailableError(f"the processor lacks {' and '.join(missing)}")
    return shipped if shipped.exists() and _loads(shipped) else _find_or_build(build, cache)


def _loads(path: Path) -> bool:
    """Return whether the library is for this system; if it is not, the source is in the package too."""
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


def _find_or_build(build: bool, cache: Path | None) -> Path:
    """Return the path of the library for this compiler and jaxlib in the cache; compile it if it is missing."""
    if cache is None:
        raise KernelUnavailableError("there is no cache folder: set XDG_CACHE_HOME to a writable folder")
    compiler = cpu_kernel_build.find_compiler()
    key = cpu_kernel_build.fingerprint(compiler, more=version("jaxlib"))
    path = cache / "kernels" / f"kernel-{key}.so"
    if not path.exists():
        if not build:
            raise KernelUnavailableError("not built yet: run `wing-jax devices` or a training run to build it")
        path.parent.mkdir(parents=True, exist_ok=True)
        cpu_kernel_build.build(compiler, path, include=jax.ffi.include_dir())
    return path


def _register(path: Path) -> _Library:
    """Register the library's functions with JAX.

    Raises:
      OSError: the library cannot be loaded.
      KernelUnavailableError: it does not support this processor.
    """
    library = ctypes.CDLL(str(path))
    library.wing_jax_instructions.restype = ctypes.c_char_p
    available = library.wing_jax_instructions().decode().split()
    sets = tuple(name for name in get_args(Instructions) if name in available)
    if not sets:
        raise KernelUnavailableError("the processor supports none of the kernel's instruction sets")
    for name in PASSES:
        function = jax.ffi.pycapsule(getattr(library, f"wing_jax_{name}"))
        jax.ffi.register_ffi_target(f"wing_jax_{name}", function, platform="cpu")
    return _Library(path=path, bfloat16="amx" in available, sets=sets)
