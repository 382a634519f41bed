"""SIGTERM, by which schedulers announce that a machine is taken away: what is trained is saved, and the status is 0."""

import contextlib
import os
import signal
import threading
from collections.abc import Generator
from typing import Any

from wing_jax.errors import Stopped

_asked, _training = threading.Event(), threading.Event()


@contextlib.contextmanager
def heeded(*, last: bool = False) -> Generator[None]:
    """SIGTERM ends what is within by `Stopped`: at once where nothing is trained, else when the loop has saved.

    Where that is the `last` that the process does, SIGTERM is ignored from then on: what is left is the process's end.
    """
    if threading.current_thread() is not threading.main_thread():  # Python hands signals to the main thread alone
        yield
        return
    _asked.clear()
    before = signal.signal(signal.SIGTERM, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if last else before)


@contextlib.contextmanager
def deferred() -> Generator[None]:
    """Within, SIGTERM is only noted, for `asked`."""
    _training.set()
    try:
        yield
    finally:
        _training.clear()


def asked() -> bool:
    """Whether training is to end now: any of its processes was told to. All of them must ask alike."""
    import jax  # not before: importing it takes a second, in which SIGTERM is to be heeded as well
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return _asked.is_set()
    return bool(np.any(multihost_utils.process_allgather(np.array(_asked.is_set()))))


def leave() -> None:
    """End a process of several at once, with status 0: an orderly end would wait for the others, and they for this."""
    import jax

    if jax.distributed.is_initialized():
        os._exit(0)


def _note(*_: Any) -> None:
    _asked.set()
    if not _training.is_set():
        raise Stopped("stopped before a step was trained since the last checkpoint: nothing is lost", together=False)
