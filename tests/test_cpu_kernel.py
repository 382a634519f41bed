"""The library of the CPU kernel: built once, on request only, and absent without harm."""

import dataclasses
import importlib.util
import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.models import cpu_kernel, cpu_kernel_build
from wing_jax.models.conv3x3 import conv_pool
from wing_jax.runtime.devices import make_mesh

kernel_needed = pytest.mark.skipif(not cpu_kernel.load(), reason=cpu_kernel.status())


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The state of a new process with an empty cache; a library that is built registers nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(cpu_kernel.SWITCH, raising=False)
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: None)
    monkeypatch.setattr(cpu_kernel, "SHIPPED", tmp_path / cpu_kernel_build.LIBRARY)

    def again():
        monkeypatch.setattr(cpu_kernel, "_library", None)
        monkeypatch.setattr(cpu_kernel, "_tried", set())

    again()
    return again


@pytest.fixture
def fitting(monkeypatch):
    """A processor that has what the kernel needs, as far as can be seen before it runs."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu_kernel, "_processor_flags", lambda: {"avx2", "fma"})


def test_no_compiler_no_harm(monkeypatch, fresh, fitting, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    assert not cpu_kernel.load()
    assert not cpu_kernel.enabled()
    assert cpu_kernel.status() == (
        "absent, JAX's own convolutions run: no C++ compiler (no-such-compiler): install one, or name it in CXX"
    )
    fresh()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not cpu_kernel.load()
    assert "no C++ compiler (c++ or g++)" in cpu_kernel.status()


def test_failing_compiler_no_harm(monkeypatch, fresh, fitting, tmp_path):
    compiler = tmp_path / "failing"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho no headers >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert not cpu_kernel.load()
    assert cpu_kernel.status().endswith(f"{compiler} failed: no headers")
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.parametrize(
    ("machine", "flags", "why"),
    [
        ("x86_64", {"popcnt"}, "the processor lacks avx2 and fma"),
        ("x86_64", {"fma", "avx"}, "the processor lacks avx2"),
        ("riscv64", set(), "there is none for Linux on riscv64"),
    ],
)
def test_other_processor_no_harm(monkeypatch, fresh, machine, flags, why):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu_kernel, "_processor_flags", lambda: flags)
    assert not cpu_kernel.load()
    assert cpu_kernel.status() == f"absent, JAX's own convolutions run: {why}"


def test_no_cache_no_harm(monkeypatch, fresh, fitting):
    monkeypatch.setattr(cpu_kernel, "cache_folder", lambda: None)
    assert not cpu_kernel.load()
    assert "set XDG_CACHE_HOME" in cpu_kernel.status()


def test_without_a_compiler_and_a_fitting_processor_the_commands_work(tmp_path):
    """Of a new process: a network runs, and the command says why the kernel does not."""
    environment = os.environ | {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "CXX": "no-such-compiler"}
    environment.pop(cpu_kernel.SWITCH, None)
    program = (
        "from wing_jax.models import cpu_kernel; cpu_kernel._processor_flags = lambda: {'sse2'}\n"
        "from wing_jax.cli.main import main; main(['devices'])\n"
        "import jax, wing_jax.models as m; net = m.make_model('plain', points=5, channels=(8, 8), hidden=8)\n"
        "x = jax.numpy.zeros((1, 16, 16, 3), 'uint8'); print(net.init_with_output(jax.random.key(0), x)[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "CPU kernel: absent, JAX's own convolutions run: " in done.stdout
    assert done.stdout.splitlines()[-1] == "(1, 5, 2)"


@kernel_needed
def test_library_is_built_once_and_only_on_request(fresh, tmp_path):
    assert not cpu_kernel.load(build=False)
    assert "not built yet" in cpu_kernel.status()
    assert not list(tmp_path.rglob("*.so"))
    assert cpu_kernel.load()
    (library,) = tmp_path.rglob("*.so")
    with cpu_kernel.switched("on"):
        assert str(library) in cpu_kernel.status()
    built = os.stat(library).st_mtime_ns
    fresh()
    assert cpu_kernel.load(build=False)
    assert os.stat(library).st_mtime_ns == built


@kernel_needed
def test_shipped_library_needs_no_compiler(monkeypatch, fresh, tmp_path):
    compiler, include = cpu_kernel_build.find_compiler(), jax.ffi.include_dir()
    cpu_kernel_build.build(compiler, cpu_kernel.SHIPPED, include=include, link=cpu_kernel_build.PORTABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert cpu_kernel.load(build=False)
    assert cpu_kernel.supported()


def test_shipped_library_of_another_system_is_passed_over(monkeypatch, fresh, fitting, tmp_path):
    cpu_kernel.SHIPPED.write_bytes(b"of another system")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not cpu_kernel.load()
    assert "no C++ compiler" in cpu_kernel.status()


def test_shipped_library_is_not_taken_for_a_module():
    name = cpu_kernel_build.LIBRARY.partition(".")[0]
    assert importlib.util.find_spec(f"wing_jax.models.{name}") is None


def test_nothing_is_built_while_a_function_is_traced(monkeypatch, fresh, tmp_path):
    monkeypatch.setattr(cpu_kernel_build, "build", lambda *_, **__: pytest.fail("built"))
    with cpu_kernel.switched("on"):
        jaxpr = jax.make_jaxpr(lambda x: conv_pool(x, jnp.ones((3, 3, 1, 1)), relu=True))(jnp.ones((1, 2, 2, 1)))
    assert "wing_jax_conv" not in str(jaxpr)
    assert not list(tmp_path.rglob("*"))


def test_what_was_tried_is_not_tried_again(monkeypatch, fresh, fitting):
    calls = []
    monkeypatch.setattr(cpu_kernel_build, "find_compiler", lambda: calls.append(1) or [])
    for build in (False, False, True, True, False):
        assert not cpu_kernel.load(build=build)
    assert len(calls) == 2


def test_unknown_setting_names_the_choice(monkeypatch):
    monkeypatch.setenv(cpu_kernel.SWITCH, "fast")
    with pytest.raises(InputError, match="WING_JAX_CPU_KERNEL='fast': choose one of auto, on, off, avx512, avx2, neon"):
        cpu_kernel.load()


@kernel_needed
def test_instructions_that_are_not_here_are_refused(monkeypatch):
    there = cpu_kernel.supported()
    monkeypatch.setattr(cpu_kernel, "_library", dataclasses.replace(cpu_kernel._library, sets=there[:1]))
    other = "neon" if there[0] != "neon" else "avx2"
    monkeypatch.setenv(cpu_kernel.SWITCH, other)
    with pytest.raises(InputError, match=f"there are {there[0]}"):
        cpu_kernel.load()
    monkeypatch.delenv(cpu_kernel.SWITCH)
    with cpu_kernel.switched(other), pytest.raises(InputError, match=f"there are {there[0]}"):
        conv_pool(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)), relu=True)


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


def test_trainings_build_it_and_predictions_take_what_is_built(monkeypatch):
    calls = []
    monkeypatch.setattr(cpu_kernel, "load", lambda *, build=True: calls.append(build))
    make_mesh(1)
    assert calls == [True]
    Localizer.load("mtfl").predict(np.zeros((64, 64, 3), np.uint8), [[10, 10, 50, 50]])
    assert calls == [True, False]
