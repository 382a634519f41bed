"""Compile the CPU kernel: each source for each instruction set, linked to one library.

Imports only the standard library, because `hatch_build.py` loads this file before wing_jax is installed.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = "libkernel.cpu.so"  # beside this file in a wheel; two dots, so that Python does not take it for a module
FLOAT32, BFLOAT16 = ("conv3x3.cc", "depthwise.cc"), ("conv3x3_bf16.cc",)  # sources by precision
HANDLERS = "cpu_kernel_ffi.cc"
HEADERS = ("cpu_kernel.h", "cpu_kernel_parts.h", "cpu_kernel_vectors.h", "conv3x3_amx.h")
SOURCES = tuple(HERE / name for name in (*FLOAT32, *BFLOAT16, HANDLERS, *HEADERS))
Sets = dict[str, tuple[str, ...]]
X86: Sets = {
    "avx512": ("-mavx512f",),
    "avx2": ("-mavx2", "-mfma"),
    "amx": ("-mamx-tile", "-mamx-bf16", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),  # in bfloat16
}
ARM: Sets = {"neon": ()}
SETS = {"x86_64": X86, "aarch64": ARM, "arm64": ARM}  # compiler flags of each instruction set, by `platform.machine()`
FLAGS = ("-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-ffp-contract=fast")
PORTABLE = ("-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL")  # for a library that is distributed


class KernelUnavailableError(Exception):
    """The kernel is not available; the message says why."""


def instruction_sets(*, machine: str | None = None, system: str | None = None) -> Sets:
    """Return the compiler flags of each instruction set that the kernel supports on a kind of processor.

    `machine` and `system` are named as by `platform`; None: this machine's.

    Raises:
      KernelUnavailableError: the kernel supports none.
    """
    machine = platform.machine() if machine is None else machine
    system = platform.system() if system is None else system
    if machine not in SETS or system == "Windows":
        raise KernelUnavailableError(f"there is none for {system} on {machine or 'this processor'}")
    return SETS[machine]


def find_compiler() -> list[str]:
    """Return the command of the C++ compiler: `$CXX`, `c++` or `g++`.

    Raises:
      KernelUnavailableError: none is found.
    """
    command = os.environ.get("CXX", "").split()
    names = [command] if command else [["c++"], ["g++"]]
    for name in names:
        if shutil.which(name[0]):
            return name
    raise KernelUnavailableError(f"no C++ compiler ({' or '.join(name[0] for name in names)}): install one, or set CXX")


def fingerprint(compiler: Sequence[str], *, more: str) -> str:
    """Return a hash of everything that a library depends on, including `more`, so that no outdated one is used."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = (source.read_text(encoding="utf-8") for source in SOURCES)
    return hashlib.sha256("\0".join((*sources, version, *compiler, *FLAGS, more)).encode()).hexdigest()[:16]


def build(compiler: Sequence[str], path: Path, *, include: str, link: Sequence[str] = ()) -> None:
    """Compile and link the library `path`, with the folder `include` of XLA's headers and the linker flags `link`.

    It is built in a temporary folder and then moved, because another process may be building it too.

    Raises:
      KernelUnavailableError: the compiler failed, or took longer than 5 minutes.
    """
    sets = instruction_sets()
    if "amx" in sets and not _accepts(compiler, sets["amx"]):  # g++ before 11, clang++ before 12
        sets = {name: flags for name, flags in sets.items() if name != "amx"}
    command = (*compiler, *FLAGS, "-c")
    defined = [f"-DWING_JAX_SET_{name.upper()}" for name in sets]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        units = [(HANDLERS, "handlers", (*defined, "-isystem", include))]
        for name, flags in sets.items():
            sources = BFLOAT16 if name == "amx" else FLOAT32
            units += [(source, f"{name}-{source}", (f"-DWING_JAX_SET={name}", *flags)) for source in sources]
        objects = [str(Path(folder, f"{output}.o")) for _, output, _ in units]
        _run(
            *(
                [*command, *flags, str(HERE / source), "-o", output]
                for (source, _, flags), output in zip(units, objects, strict=True)
            )
        )
        library = Path(folder, path.name)
        _run([*compiler, "-shared", *objects, "-o", str(library), *link])
        os.replace(library, path)


def _accepts(compiler: Sequence[str], flags: Sequence[str]) -> bool:
    command = [*compiler, *flags, "-fsyntax-only", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def _run(*commands: Sequence[str]) -> None:
    """Run all commands in parallel and wait for them."""
    started = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in started]
    except subprocess.TimeoutExpired as error:
        raise KernelUnavailableError(f"{commands[0][0]} took longer than 5 minutes") from error
    finally:
        for process in started:
            process.kill()
            process.wait()
    for process, text in zip(started, outputs, strict=True):
        if process.returncode:
            raise KernelUnavailableError(f"{commands[0][0]} failed: {text.strip()[-500:]}")
