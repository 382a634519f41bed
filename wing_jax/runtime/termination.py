"""SIGTERM, by which schedulers announce that a machine is taken away: what is trained is saved, and the status is 0."""

import contextlib
import os
import signal
import threading
from collections.abc import Generator
from typing import Any

from wing_jax.errors import TrainingInterrupted

_terminated, _interrupted, _training = threading.Event(), threading.Event(), threading.Event()


@contextlib.contextmanager
def handle_sigterm(*, last: bool = False) -> Generator[None]:
    """SIGTERM ends what is within by `TrainingInterrupted`: at once where nothing is trained, else when the loop has
    saved.

    Where that is the `last` that the process does, SIGTERM is ignored from then on: what is left is the process's end.
    """
    if not _in_main_thread():
        yield
        return
    _terminated.clear()
    before = signal.signal(signal.SIGTERM, _note_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if last else before)


@contextlib.contextmanager
def deferred() -> Generator[None]:
    """Within, SIGTERM and the first Ctrl-C are only noted, for `stop_requested` and `interrupted`; a second Ctrl-C
    raises KeyboardInterrupt at once."""
    _interrupted.clear()
    catches = _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if catches:
        signal.signal(signal.SIGINT, _note_sigint)
    _training.set()
    try:
        yield
    finally:
        _training.clear()
        if catches:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def stop_requested() -> bool:
    """Whether training is to end now: any of its processes got SIGTERM. All of them must ask alike."""
    import jax  # not before: importing it takes a second, in which SIGTERM is to be handled as well
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return _terminated.is_set()
    return bool(np.any(multihost_utils.process_allgather(np.array(_terminated.is_set()))))


def interrupted() -> bool:
    """Whether Ctrl-C was pressed since the training began; of several processes each is ended by its own."""
    return _interrupted.is_set()


def exit_now() -> None:
    """End a process of several at once, with status 0: an orderly end would wait for the others, and they for this."""
    import jax

    if jax.distributed.is_initialized():
        os._exit(0)


def _in_main_thread() -> bool:
    """Python hands signals to the main thread alone."""
    return threading.current_thread() is threading.main_thread()


def _note_sigterm(*_: Any) -> None:
    _terminated.set()
    if not _training.is_set():
        raise TrainingInterrupted(
            "stopped before a step was trained since the last checkpoint: nothing is lost", together=False
        )


def _note_sigint(*_: Any) -> None:
    import jax

    if _interrupted.is_set() or jax.process_count() > 1:
        raise KeyboardInterrupt
    _interrupted.set()
