"""The process of a training restarts once, with the allocator's settings, and is otherwise the same."""

import json
import os
import subprocess
import sys

import pytest

from wing_jax.runtime import allocator

CODE = """
import json, os, sys
from wing_jax.runtime import allocator
allocator.reexec_with_malloc_env()
print(json.dumps({"process": os.getpid(), "arguments": sys.argv, "flags": sys.flags.dev_mode, **os.environ}))
"""

# Prints the arenas of sixty threads that allocate at the same time.
THREADS = """
import ctypes, threading
from wing_jax.runtime import allocator
%s
libc, barrier = ctypes.CDLL(None), threading.Barrier(60)
libc.fdopen.restype = ctypes.c_void_p
def allocate():
    barrier.wait()
    ctypes.create_string_buffer(100_000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(60)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


def clean_environment():
    """Return the environment without the allocator's settings."""
    return {name: value for name, value in os.environ.items() if name not in allocator.SETTINGS}


def run_with_settings(*arguments, **environment):
    command = [sys.executable, "-X", "dev", "-c", CODE, *arguments]
    process = subprocess.Popen(command, env=clean_environment() | environment, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(output), process.pid


@pytest.mark.skipif(not allocator.has_glibc(), reason="the C library is not glibc: nothing is set")
def test_a_restarted_process_keeps_its_id_and_arguments_and_has_the_settings():
    state, pid = run_with_settings("train", "a b.py", "--name", "ä")
    assert state["process"] == pid
    assert state["arguments"] == ["-c", "train", "a b.py", "--name", "ä"]
    assert state["flags"]
    assert {name: state[name] for name in allocator.SETTINGS} == allocator.SETTINGS


def count_arenas(setup: str) -> int:
    command = [sys.executable, "-c", THREADS % setup]
    run = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True, timeout=60)
    return run.stdout.count("<heap nr=")


@pytest.mark.skipif(not allocator.has_glibc(), reason="the C library is not glibc: nothing is set")
def test_the_c_library_limits_the_number_of_arenas():
    limit = (os.cpu_count() or 1) + 1
    assert count_arenas("allocator.reexec_with_malloc_env()") <= limit
    if limit < 50:
        assert count_arenas("") > limit


def test_settings_of_the_user_are_not_changed():
    state, _ = run_with_settings(MALLOC_TOP_PAD_="1")
    assert {name: state.get(name) for name in allocator.SETTINGS} == dict.fromkeys(allocator.SETTINGS) | {
        "MALLOC_TOP_PAD_": "1"
    }


def test_nothing_is_set_for_another_c_library(monkeypatch):
    monkeypatch.setattr(os, "confstr_names", {})
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("restarted"))
    allocator.reexec_with_malloc_env()
