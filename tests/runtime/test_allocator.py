"""A training's process begins anew with the allocator's settings, once, and is otherwise the same."""

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
print(json.dumps({"process": os.getpid(), "words": sys.argv, "flags": sys.flags.dev_mode, **os.environ}))
"""

# How many arenas sixty threads have, which all allocate at once.
THREADS = """
import ctypes, threading
from wing_jax.runtime import allocator
%s
libc, together = ctypes.CDLL(None), threading.Barrier(60)
libc.fdopen.restype = ctypes.c_void_p
def allocate():
    together.wait()
    ctypes.create_string_buffer(100_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(60)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


def unset():
    """The environment without any of the settings."""
    return {name: value for name, value in os.environ.items() if name not in allocator.SETTINGS}


def answered(*words, **environment):
    command = [sys.executable, "-X", "dev", "-c", CODE, *words]
    process = subprocess.Popen(command, env=unset() | environment, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(said), process.pid


@pytest.mark.skipif(not allocator.has_glibc(), reason="the C library is not glibc: nothing is set")
def test_the_same_process_with_the_same_words_has_the_settings():
    told, number = answered("train", "a b.py", "--name", "ä")
    assert told["process"] == number
    assert told["words"] == ["-c", "train", "a b.py", "--name", "ä"]
    assert told["flags"]
    assert {name: told[name] for name in allocator.SETTINGS} == allocator.SETTINGS


def arenas(reexec_with_malloc_env: str) -> int:
    code = [sys.executable, "-c", THREADS % reexec_with_malloc_env]
    said = subprocess.run(code, env=unset(), capture_output=True, text=True, check=True, timeout=60).stdout
    return said.count("<heap nr=")


@pytest.mark.skipif(not allocator.has_glibc(), reason="the C library is not glibc: nothing is set")
def test_the_c_library_heeds_how_many_arenas():
    most = (os.cpu_count() or 1) + 1
    assert arenas("allocator.reexec_with_malloc_env()") <= most
    if most < 50:
        assert arenas("") > most


def test_what_the_user_has_set_is_left():
    told, _ = answered(MALLOC_TOP_PAD_="1")
    assert {name: told.get(name) for name in allocator.SETTINGS} == dict.fromkeys(allocator.SETTINGS) | {
        "MALLOC_TOP_PAD_": "1"
    }


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(os, "confstr_names", {})
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("begun anew"))
    allocator.reexec_with_malloc_env()
