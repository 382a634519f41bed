"""The sources of the CPU kernel, each compiled alone for each instruction set and compiler, against plain loops."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

MODELS, CHECKS = ROOT / "wing_jax/models", ROOT / "tests/models"
SOURCES = ("conv3x3", "depthwise")
FLAGS = ("-std=c++17", "-DNDEBUG", "-ffp-contract=fast", "-pthread", "-Wall", "-Wextra", "-Werror")
SETS = {"avx512": {"avx512f"}, "avx2": {"avx2", "fma"}, "neon": set()}  # the best first, with its flags
ARM = platform.machine() in ("aarch64", "arm64")
LISTING = Path("/proc/cpuinfo")
PROCESSOR = set(LISTING.read_text(encoding="utf-8").split()) if LISTING.exists() else set()
SUPPORTED = [name for name, flags in SETS.items() if flags <= PROCESSOR and (name == "neon") == ARM]
DIRTY = {"MALLOC_PERTURB_": "128"}  # glibc fills new memory with huge numbers, to find reads of uninitialized memory


@pytest.fixture(params=SOURCES)
def source(request):
    return request.param


def check(folder, source, compiler, instructions, *flags, most, emulator=()):
    """Compile for `instructions` and run the cases with up to `most` million products."""
    program = folder / "check"
    flags = *FLAGS, f"-DWING_JAX_SET={instructions}", *(f"-m{flag}" for flag in sorted(SETS[instructions])), *flags
    files = MODELS / f"{source}.cc", CHECKS / f"check_{source}.cc"
    subprocess.run([compiler, *flags, "-I", MODELS, *files, "-o", program], check=True)
    process = subprocess.run([*emulator, program, str(most)], capture_output=True, text=True, env=os.environ | DIRTY)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count("right") > 60


def need(*programs, packages):
    if missing := [program for program in programs if not shutil.which(program)]:
        pytest.skip(f"no {' and no '.join(missing)} (in Debian: apt install {packages})")


@pytest.mark.slow
@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize(("compiler", "most"), [("g++", 40), ("clang++", 1)])
def test_passes_equal_plain_loops(tmp_path, source, compiler, most, instructions):
    need(compiler, packages=compiler.replace("clang++", "clang"))
    if instructions not in SUPPORTED:
        pytest.skip(f"this processor ({platform.machine()}) has no {instructions}")
    check(tmp_path, source, compiler, instructions, "-O3", most=most)


@pytest.mark.skipif(ARM, reason="on an Arm processor the test above runs it without an emulator")
def test_passes_equal_plain_loops_on_an_emulated_arm(tmp_path, source):
    need("aarch64-linux-gnu-g++", "qemu-aarch64", packages="g++-aarch64-linux-gnu qemu-user")
    check(tmp_path, source, "aarch64-linux-gnu-g++", "neon", "-O3", "-static", most=1, emulator=["qemu-aarch64"])


@pytest.mark.slow
@pytest.mark.skipif(not SUPPORTED, reason="this processor has none of the instruction sets")
def test_passes_stay_within_their_arrays(tmp_path, source):
    need("g++", packages="g++")
    check(tmp_path, source, "g++", SUPPORTED[0], "-O1", "-g", "-fsanitize=address", most=0.5)
