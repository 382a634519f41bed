"""SIGTERM, which schedulers send before they stop a machine: the training run is saved, and the exit status is 0."""

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
    """Raise `TrainingInterrupted` in this block on SIGTERM: at once outside of training, else after the loop has saved.

    With `last`, SIGTERM is ignored after the block: only the exit of the process follows.
    """
    if not _in_main_thread():
        yield
        return
    _terminated.clear()
    before = signal.signal(signal.SIGTERM, _record_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if last else before)


@contextlib.contextmanager
def deferred() -> Generator[None]:
    """Defer SIGTERM and the first Ctrl-C inside the block.

    They are recorded for `stop_requested` and `interrupted`; a second Ctrl-C raises KeyboardInterrupt at once.
    """
    _interrupted.clear()
    handle_sigint = _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handle_sigint:
        signal.signal(signal.SIGINT, _record_sigint)
    _training.set()
    try:
        yield
    finally:
        _training.clear()
        if handle_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def stop_requested() -> bool:
    """Return whether any process of the training run has received SIGTERM. All must call this at the same step."""
    import jax  # imported late: it takes a second, during which SIGTERM must be handled too
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return _terminated.is_set()
    return bool(np.any(multihost_utils.process_allgather(np.array(_terminated.is_set()))))


def interrupted() -> bool:
    """Return whether Ctrl-C was pressed since training started; always False with several processes."""
    return _interrupted.is_set()


def exit_now() -> None:
    """Exit one of several processes at once, with status 0: in a normal exit, they would wait for each other."""
    import jax

    if jax.distributed.is_initialized():
        os._exit(0)


def _in_main_thread() -> bool:
    """Return whether this is the main thread, the only one that can handle signals in Python."""
    return threading.current_thread() is threading.main_thread()


def _record_sigterm(*_: Any) -> None:
    _terminated.set()
    if not _training.is_set():
        raise TrainingInterrupted(
            "stopped before the first training step: there is nothing to save", all_processes=False
        )


def _record_sigint(*_: Any) -> None:
    import jax

    if _interrupted.is_set() or jax.process_count() > 1:
        raise KeyboardInterrupt
    _interrupted.set()
