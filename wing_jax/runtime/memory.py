"""Available memory, so that requests that cannot fit are rejected before allocation."""

import contextlib
import os
from pathlib import Path

from wing_jax.errors import InputError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container's limit
STATM = Path("/proc/self/statm")


def available(*, meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Return the bytes that this process can still allocate; None if the system does not report any limit.

    It is the minimum of the machine's free memory (with swap), the limit of the container and the limit of the address
    space (`ulimit -v`). `meminfo` and `cgroup` are the files in which Linux reports the first two.
    """
    limits = (_read_free_memory(meminfo), _read_container_limit(cgroup), _read_process_limit())
    return min((limit for limit in limits if limit is not None), default=None)


def require_memory(needed: int, *, what: str, fix: str) -> None:
    """Raise InputError if `needed` bytes are not `available`; `what` needs them, and `fix` says what to change."""
    free = available()
    if free is not None and needed > free:
        raise InputError(f"{what}: needs {gigabytes(needed)} of memory, but only {gigabytes(free)} are free: {fix}")


def gigabytes(count: int) -> str:
    """Format `count` bytes, such as "1.5 GB"."""
    return f"{count / 1e9:,.1f} GB"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error`, of Python, NumPy, OpenCV or JAX, means that memory could not be allocated."""
    if type(error).__module__.split(".")[0] == "cv2":
        return getattr(error, "code", 0) == -4  # cv2.Error.StsNoMem
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error))


def _read_free_memory(meminfo: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        rows = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        return 1024 * sum(int(rows[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _read_container_limit(cgroup: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max" if there is no limit
        return int(cgroup.read_text(encoding="ascii"))
    return None


def _read_process_limit() -> int | None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return max(0, limit - int(STATM.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    return None
