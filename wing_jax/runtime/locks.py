"""Locks, so that only one process at a time writes to a folder."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from filelock import FileLock, Timeout

from wing_jax.errors import InputError


@contextlib.contextmanager
def exclusive_access(folder: str | Path, *, verb: str, hint: str) -> Generator[None]:
    """Lock `folder` in this block against other processes that use this lock; a process that dies releases it.

    The lock is an empty hidden file beside the folder. Its holder deletes it at the end. A process that locks the old
    file at that moment notices, through filelock, that the file no longer exists.

    Args:
      folder: to write to; it need not exist.
      verb: what the holder does, for the message, such as "trains".
      hint: what the user can do instead, for the message.

    Raises:
      InputError: another process holds the lock, or the folder cannot be written to.
    """
    folder = Path(folder).absolute()
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"{folder}: another process {verb} in this folder: wait until it ends, or {hint}") from None
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written to ({error.strerror}): fix its permissions, or {hint}"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
