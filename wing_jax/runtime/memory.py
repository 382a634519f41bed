"""How much memory there is, so that what cannot fit is refused before it is allocated."""

import contextlib
import os
from pathlib import Path

from wing_jax.errors import InputError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container's limit
STATM = Path("/proc/self/statm")


def available(*, meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Bytes that this process can still allocate: the least of the machine's free memory (with swap), the limit of its
    container and the limit of its address space (`ulimit -v`). None where the system says nothing of it.

    `meminfo` and `cgroup` are the files in which Linux tells the first two.
    """
    known = [value for value in (_of_machine(meminfo), _of_container(cgroup), _of_process()) if value is not None]
    return min(known, default=None)


def refuse_beyond(needed: int, *, what: str, fix: str) -> None:
    """Raises InputError where `needed` bytes are more than are `available`; the message is about `what`, and `fix` says
    what to change."""
    room = available()
    if room is not None and needed > room:
        raise InputError(f"{what}: needs {gigabytes(needed)} of memory and {gigabytes(room)} are free: {fix}")


def gigabytes(count: int) -> str:
    """`count` bytes in words, such as "1.5 GB"."""
    return f"{count / 1e9:,.1f} GB"


def ran_out(error: BaseException) -> bool:
    """Whether `error`, of Python, NumPy, OpenCV or JAX, says that memory could not be allocated."""
    kind = type(error)
    if kind.__module__.split(".")[0] == "cv2":
        return getattr(error, "code", 0) == -4  # cv2.Error.StsNoMem
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error))


def _of_machine(meminfo: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        rows = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        return 1024 * sum(int(rows[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_container(cgroup: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        return int(cgroup.read_text(encoding="ascii"))
    return None


def _of_process() -> int | None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return max(0, limit - int(STATM.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    return None
