"""The library of the CPU kernel: built once, only on request, and optional."""

import importlib.util
import inspect
import os
import platform
import re
import subprocess
import sys
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import pytest

from wing_jax.errors import InputError
from wing_jax.models import cpu_kernel, cpu_kernel_build
from wing_jax.models.conv3x3 import conv_pool
from wing_jax.models.cpu_kernel import Processor, find_library
from wing_jax.models.cpu_kernel_build import KernelUnavailableError

kernel_needed = pytest.mark.skipif(not cpu_kernel.load(), reason=cpu_kernel.status())
not_shipped = pytest.mark.skipif(
    cpu_kernel.SHIPPED.exists(), reason="the package contains the library: no compiler is needed"
)
x86_needed = pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for x86-64")
SUPPORTED = Processor(system="Linux", machine="x86_64", flags=frozenset({"avx2", "fma"}))


@pytest.fixture
def find(tmp_path):
    """`find_library` with an empty cache, no shipped library, and a supported processor."""
    return partial(find_library, build=True, shipped=tmp_path / "shipped.so", cache=tmp_path, processor=SUPPORTED)


@pytest.fixture
def failing(tmp_path):
    """A compiler that fails, and logs its arguments in a file beside it."""
    compiler = tmp_path / "failing"
    compiler.write_text('#!/bin/sh\necho "$@" >>$0.log\n[ $1 = --version ] && exit 0\necho no headers >&2\nexit 1\n')
    compiler.chmod(0o755)
    return compiler


def count_calls(failing):
    """Return how often the compiler was called with --version, and how often to compile."""
    log = failing.with_name("failing.log")
    lines = log.read_text().splitlines() if log.exists() else []
    return lines.count("--version"), sum(" -c " in line for line in lines)


def run_python(program, **environment):
    """Run a program in a new Python process; return the lines that it prints."""
    inherited = {name: value for name, value in os.environ.items() if name != cpu_kernel.SWITCH}
    process = subprocess.run(
        [sys.executable, "-c", program], env=inherited | environment, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def test_no_compiler(monkeypatch, find, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    message = r"^no C\+\+ compiler \(no-such-compiler\): install one, or set CXX$"
    with pytest.raises(KernelUnavailableError, match=message):
        find()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelUnavailableError, match=r"no C\+\+ compiler \(c\+\+ or g\+\+\)"):
        find()


@x86_needed
def test_failing_compiler(monkeypatch, find, failing, tmp_path):
    monkeypatch.setenv("CXX", str(failing))
    with pytest.raises(KernelUnavailableError, match=rf"{failing} failed: no headers$"):
        find()
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.parametrize(
    ("system", "machine", "flags", "why"),
    [
        ("Linux", "x86_64", {"popcnt"}, "the processor lacks avx2 and fma"),
        ("Linux", "x86_64", {"fma", "avx"}, "the processor lacks avx2"),
        ("Linux", "riscv64", set(), "there is none for Linux on riscv64"),
        ("Windows", "x86_64", set(), "there is none for Windows on x86_64"),
    ],
)
def test_other_processor(find, system, machine, flags, why):
    with pytest.raises(KernelUnavailableError, match=f"^{why}$"):
        find(processor=Processor(system=system, machine=machine, flags=frozenset(flags)))


def test_no_cache(find):
    with pytest.raises(KernelUnavailableError, match="set XDG_CACHE_HOME"):
        find(cache=None)


@pytest.mark.slow
@not_shipped
def test_without_a_compiler_the_commands_work(tmp_path):
    """In a new process a network runs, and the command says why the kernel does not."""
    program = (
        "from wing_jax.cli.main import main; main(['devices'])\n"
        "import jax, wing_jax.models as m; net = m.make_model('plain', points=5, channels=(8, 8), hidden=8)\n"
        "x = jax.numpy.zeros((1, 16, 16, 3), 'uint8'); print(net.init_with_output(jax.random.key(0), x)[0].shape)"
    )
    lines = run_python(program, PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), CXX="no-such-compiler")
    assert any("CPU kernel: not available, using JAX's convolutions: " in line for line in lines)
    assert lines[-1] == "(1, 5, 2)"


@pytest.mark.slow
@kernel_needed
def test_library_is_built_once_and_only_on_request(find, tmp_path):
    find = partial(find, processor=None)
    with pytest.raises(KernelUnavailableError, match="not built yet"):
        find(build=False)
    assert not list(tmp_path.rglob("*.so"))
    library = find()
    assert library == next(tmp_path.rglob("*.so"))
    built = os.stat(library).st_mtime_ns
    assert find(build=False) == library
    assert os.stat(library).st_mtime_ns == built


@pytest.mark.slow
@kernel_needed
def test_shipped_library_needs_no_compiler(monkeypatch, find, tmp_path):
    shipped = tmp_path / "shipped.so"
    compiler, include = cpu_kernel_build.find_compiler(), jax.ffi.include_dir()
    cpu_kernel_build.build(compiler, shipped, include=include, link=cpu_kernel_build.PORTABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert find(build=False) == shipped


def test_shipped_library_of_another_system_is_ignored(monkeypatch, find, tmp_path):
    (tmp_path / "shipped.so").write_bytes(b"of another system")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(KernelUnavailableError, match=r"no C\+\+ compiler"):
        find()


def test_shipped_library_is_not_a_python_module():
    name = cpu_kernel_build.LIBRARY.partition(".")[0]
    assert importlib.util.find_spec(f"wing_jax.models.{name}") is None
    assert "." in (inspect.getmodulename(cpu_kernel_build.LIBRARY) or "")  # pkgutil ignores such names


TRACED = """
import jax, jax.numpy as jnp
from wing_jax.models import cpu_kernel
from wing_jax.models.conv3x3 import conv_pool
with cpu_kernel.switched("on"):
    print(jax.make_jaxpr(lambda x: conv_pool(x, jnp.ones((3, 3, 1, 1)), relu=True))(jnp.ones((1, 2, 2, 1))))
"""


@pytest.mark.slow
def test_nothing_is_built_while_a_function_is_traced(failing, tmp_path):
    """Check it in a process that has not loaded the library."""
    lines = run_python(TRACED, CXX=str(failing), XDG_CACHE_HOME=str(tmp_path))
    assert any("conv_general_dilated" in line for line in lines)
    assert not any("wing_jax_conv" in line for line in lines)
    assert count_calls(failing) == (0, 0)


@pytest.mark.slow
@not_shipped
@kernel_needed
def test_training_builds_the_library_once_and_prediction_never(failing, tmp_path):
    """Check in a process whose compiler fails that nothing is tried twice."""
    program = (
        "from wing_jax import Localizer; from wing_jax.models import cpu_kernel; import numpy as np\n"
        "from wing_jax.train.fit import prepare_devices; from pathlib import Path\n"
        f"log = Path({str(failing.with_name('failing.log'))!r})\n"
        "for _ in range(2): Localizer.load('mtfl').predict(np.zeros((64, 64, 3), np.uint8), [[10, 10, 50, 50]])\n"
        "print(log.read_text().split())\n"
        "for _ in range(2): prepare_devices(1)\n"
        "print(cpu_kernel.load(), cpu_kernel.load(build=False), cpu_kernel.status())"
    )
    predicted, trained = run_python(program, CXX=str(failing), XDG_CACHE_HOME=str(tmp_path))
    assert predicted == "['--version']"
    assert trained.startswith("False False not available, using JAX's convolutions: ")
    assert trained.endswith(f"{failing} failed: no headers")
    version_calls, compile_calls = count_calls(failing)
    assert version_calls == 2
    assert 0 < compile_calls <= 6  # two for each float32 instruction set, one for bfloat16, and one for the handlers


def test_unknown_setting_lists_the_choices(monkeypatch):
    monkeypatch.setenv(cpu_kernel.SWITCH, "fast")
    with pytest.raises(InputError, match="WING_JAX_CPU_KERNEL='fast': choose one of auto, on, off, avx512, avx2, neon"):
        cpu_kernel.load()


@kernel_needed
def test_unavailable_instructions_raise(monkeypatch):
    available = cpu_kernel.supported()
    other = next(name for name in get_args(cpu_kernel.Instructions) if name not in available)
    message = re.escape(f"available: {', '.join(available)}")
    monkeypatch.setenv(cpu_kernel.SWITCH, other)
    with pytest.raises(InputError, match=message):
        cpu_kernel.load()
    monkeypatch.delenv(cpu_kernel.SWITCH)
    with cpu_kernel.switched(other), pytest.raises(InputError, match=message):
        conv_pool(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)), relu=True)


def enabled_within(parallel, count):
    """Return whether the kernel is enabled while a replica's program is traced."""
    enabled = []

    def program(x):
        enabled.append(cpu_kernel.enabled())
        return x

    x = jnp.zeros((count, 1))
    if parallel == "pmap":
        jax.pmap(program, axis_name="faces")(x)
    else:
        mesh = jax.make_mesh(
            (count,), ("faces",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:count]
        )
        jax.jit(jax.shard_map(program, mesh=mesh, in_specs=jax.P("faces"), out_specs=jax.P("faces")))(x)
    assert enabled
    return all(enabled)


@kernel_needed
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("count", [1, 4])
def test_each_replica_of_several_devices_uses_the_kernel(monkeypatch, parallel, count):
    monkeypatch.delenv(cpu_kernel.SWITCH, raising=False)
    assert not cpu_kernel.enabled()  # eight devices, and no replica of one
    assert enabled_within(parallel, count)
    with cpu_kernel.switched("off"):
        assert not enabled_within(parallel, count)


@kernel_needed
def test_best_instructions_are_chosen(monkeypatch):
    monkeypatch.delenv(cpu_kernel.SWITCH, raising=False)
    assert cpu_kernel.instructions() is None  # eight devices
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert cpu_kernel.instructions() == cpu_kernel.supported()[0]
    for name in cpu_kernel.supported():
        with cpu_kernel.switched(name):
            assert cpu_kernel.instructions() == name
            assert cpu_kernel.instructions(dtype="bfloat16") is None
            assert cpu_kernel.instructions(dtype="float16") is None
            assert cpu_kernel.status().startswith(f"{name} (this processor has ")
