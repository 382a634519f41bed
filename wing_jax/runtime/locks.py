"""One process writes to a folder at a time."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from filelock import FileLock, Timeout

from wing_jax.errors import InputError


@contextlib.contextmanager
def only_writer(folder: str | Path, *, doing: str, instead: str) -> Generator[None]:
    """Within, no other process that asks can write to `folder`; a process that dies gives it free.

    The lock is an empty hidden file beside the folder. It is taken away by who holds it; whoever waits for it then
    finds, by filelock, that the file it has locked is no longer there.

    Raises:
      InputError: another process writes there, `doing` ("trains"), with what to do `instead`; or nobody may.
    """
    folder = Path(folder).absolute()
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"{folder}: another process {doing} here: wait until it has ended, or {instead}") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}): mend that, or {instead}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
