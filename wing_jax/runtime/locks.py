"""Locks, so that only one process at a time writes to a folder."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from filelock import FileLock, Timeout

from wing_jax.errors import InputError


@contextlib.contextmanager
def only_writer(folder: str | Path, *, doing: str, instead: str) -> Generator[None]:
    """Lock `folder` in this block against other processes that use this lock; a process that dies releases it.

    The lock is an empty hidden file beside the folder. Its holder deletes it at the end. A process that locks the old
    file at that moment notices, through filelock, that the file no longer exists.

    Args:
      folder: to write to; it need not exist.
      doing: what this process and its like do, for the message: "trains".
      instead: what else the user can do, for the message.

    Raises:
      InputError: another process holds the lock, or the folder cannot be written to.
    """
    folder = Path(folder).absolute()
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder}: another process {doing} in this folder: wait until it ends, or {instead}"
        ) from None
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written to ({error.strerror}): fix its permissions, or {instead}"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
