"""SIGTERM ends the process at once outside of training and is recorded during it; the first Ctrl-C is recorded, the
second raises. Also locks between processes."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from wing_jax.errors import InputError, TrainingInterrupted
from wing_jax.runtime import termination
from wing_jax.runtime.locks import exclusive_access


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_before_training_raises_and_the_old_handler_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match="nothing to save"), termination.handle_sigterm():
        terminate()
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_in_training_is_recorded():
    with termination.handle_sigterm():
        with termination.deferred():
            assert not termination.stop_requested()
            terminate()
            assert termination.stop_requested()
        with pytest.raises(TrainingInterrupted):
            terminate()
    with termination.handle_sigterm(), termination.deferred():
        assert not termination.stop_requested()  # a new training starts without it


def test_sigterm_is_ignored_after_the_last_block():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with termination.handle_sigterm(last=True):
            pass
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        terminate()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_do_not_change_signal_handlers():
    handlers = []

    def work():
        with termination.handle_sigterm():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.fixture
def default_sigint():
    """Set Python's handler of Ctrl-C, which is ignored if the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_sigint")
def test_the_first_ctrl_c_in_training_is_recorded_and_the_second_raises():
    with termination.deferred():
        assert not termination.interrupted()
        interrupt()
        assert termination.interrupted()
        assert not termination.stop_requested()  # only SIGTERM sets this
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert termination.interrupted()  # still set after the training
    with termination.deferred():
        assert not termination.interrupted()  # a new training starts without it


@pytest.mark.usefixtures("default_sigint")
def test_the_default_handler_of_ctrl_c_is_restored_after_a_training():
    before = signal.getsignal(signal.SIGINT)
    with termination.deferred():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_custom_handler_of_ctrl_c_is_not_replaced():
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        with termination.deferred():
            interrupt()
            assert not termination.interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [1]


@pytest.mark.usefixtures("default_sigint")
def test_a_training_in_another_thread_does_not_change_ctrl_c():
    handlers = []

    def work():
        with termination.deferred():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


HOLD_LOCK = """
import sys, time
from wing_jax.runtime.locks import exclusive_access
with exclusive_access(sys.argv[1], verb="trains", hint="stop it"):
    print("locked", flush=True)
    time.sleep(120)
"""


def test_a_lock_excludes_other_processes_and_ends_with_its_process(tmp_path):
    folder = tmp_path / "runs" / "x"
    holder = subprocess.Popen([sys.executable, "-c", HOLD_LOCK, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        message = r"x: another process packs in this folder: wait until it ends, or go away"
        with pytest.raises(InputError, match=message), exclusive_access(folder, verb="packs", hint="go away"):
            pytest.fail("two processes have the lock")
    finally:
        holder.kill()
        holder.communicate()
    with exclusive_access(folder, verb="packs", hint="go away"):
        pass
    assert list(folder.parent.iterdir()) == []  # the lock file is deleted


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    lock = exclusive_access(tmp_path / "file" / "run", verb="trains", hint="stop it")
    with pytest.raises(InputError, match="cannot be written to"), lock:
        pytest.fail("a folder inside a file")


COUNT_WITH_LOCK = """
import sys, time
from pathlib import Path
from wing_jax.errors import InputError
from wing_jax.runtime.locks import exclusive_access
counter = Path(sys.argv[2])
count = 0
while count < 200:
    try:
        with exclusive_access(sys.argv[1], verb="counts", hint="go away"):
            counter.write_text(str(int(counter.read_text()) + 1))
            count += 1
    except InputError:
        time.sleep(0.0002)
"""


@pytest.mark.slow
def test_only_one_of_many_processes_has_the_lock_at_a_time(tmp_path):
    """The lock file is deleted each time; a process that opened the old file must not get the lock."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT_WITH_LOCK, str(tmp_path / "run"), str(counter)]
    for process in [subprocess.Popen(command) for _ in range(3)]:
        assert process.wait(timeout=120) == 0
    assert counter.read_text() == "600"
