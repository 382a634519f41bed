"""SIGTERM: at once where nothing is trained, noted while it is; Ctrl-C: noted first, then it raises; and locks between
processes."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from wing_jax.errors import InputError, TrainingInterrupted
from wing_jax.runtime import termination
from wing_jax.runtime.locks import only_writer


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_before_training_it_ends_at_once_and_gives_the_handler_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match="nothing is lost"), termination.handle_sigterm():
        terminate()
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_training_it_is_noted():
    with termination.handle_sigterm():
        with termination.deferred():
            assert not termination.stop_requested()
            terminate()
            assert termination.stop_requested()
        with pytest.raises(TrainingInterrupted):
            terminate()
    with termination.handle_sigterm(), termination.deferred():
        assert not termination.stop_requested()  # a new training begins afresh


def test_when_the_last_is_done_the_process_may_end_in_peace():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with termination.handle_sigterm(last=True):
            pass
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        terminate()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_than_the_main_one_leaves_signals_alone():
    seen = []

    def work():
        with termination.handle_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.fixture
def pythons_own():
    """Python's handler of Ctrl-C, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pythons_own")
def test_the_first_ctrl_c_in_training_is_noted_and_the_second_raises():
    with termination.deferred():
        assert not termination.interrupted()
        interrupt()
        assert termination.interrupted()
        assert not termination.stop_requested()  # which is SIGTERM's
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert termination.interrupted()  # what the training ended by can be asked afterwards
    with termination.deferred():
        assert not termination.interrupted()  # a new training begins afresh


@pytest.mark.usefixtures("pythons_own")
def test_ctrl_c_is_pythons_own_before_and_after_a_training():
    before = signal.getsignal(signal.SIGINT)
    with termination.deferred():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_programs_own_handler_of_ctrl_c_stays():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with termination.deferred():
            interrupt()
            assert not termination.interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


@pytest.mark.usefixtures("pythons_own")
def test_a_training_in_another_thread_leaves_ctrl_c_alone():
    seen = []

    def work():
        with termination.deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


HOLD = """
import sys, time
from wing_jax.runtime.locks import only_writer
with only_writer(sys.argv[1], doing="trains", instead="give another"):
    print("held", flush=True)
    time.sleep(120)
"""


def test_a_lock_holds_against_another_process_and_not_beyond_its_death(tmp_path):
    folder = tmp_path / "runs" / "x"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        said = r"x: another process packs here: wait until it has ended, or go away"
        with pytest.raises(InputError, match=said), only_writer(folder, doing="packs", instead="go away"):
            pytest.fail("two at once")
    finally:
        holder.kill()
        holder.communicate()
    with only_writer(folder, doing="packs", instead="go away"):
        pass
    assert list(folder.parent.iterdir()) == []  # nothing is left of it


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    wrong = only_writer(tmp_path / "file" / "run", doing="trains", instead="give another")
    with pytest.raises(InputError, match="cannot be written to"), wrong:
        pytest.fail("no folder can be in a file")


CONTEND = """
import sys, time
from pathlib import Path
from wing_jax.errors import InputError
from wing_jax.runtime.locks import only_writer
counter = Path(sys.argv[2])
done = 0
while done < 200:
    try:
        with only_writer(sys.argv[1], doing="counts", instead="go away"):
            counter.write_text(str(int(counter.read_text()) + 1))
            done += 1
    except InputError:
        time.sleep(0.0002)
"""


def test_of_many_that_come_and_go_one_is_in_at_a_time(tmp_path):
    """The lock's file is taken away each time: who has opened the old one must not get in by it."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", CONTEND, str(tmp_path / "run"), str(counter)]
    for process in [subprocess.Popen(command) for _ in range(3)]:
        assert process.wait(timeout=120) == 0
    assert counter.read_text() == "600"
