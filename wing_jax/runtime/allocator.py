"""Settings of the C library's allocator, which glibc reads only when a process starts."""

import os
import sys

# The temporaries of a training step are dozens of megabytes. By default, glibc returns them to the system and requests
# them again at every step, in pages of 4 KiB, each of which is cleared and mapped (benchmarks/allocator.py). So freed
# memory is retained instead, by each arena. glibc has eight arenas per core, and the threads of tf.data, XLA and Orbax
# move between them: memory grows as long as they use new ones. One arena per core plus one stops the growth, at the
# cost of some speed in small steps.
LARGE_PAGES = "glibc.malloc.hugetlb=1"  # of 2 MiB, by madvise
FEW_ARENAS = f"glibc.malloc.arena_max={(os.cpu_count() or 1) + 1}"
SETTINGS = {
    "GLIBC_TUNABLES": f"{LARGE_PAGES}:{FEW_ARENAS}",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),  # bytes; freed memory is retained
    "MALLOC_TOP_PAD_": str(1 << 26),  # bytes
}


def reexec_with_malloc_env() -> None:
    """Restart this process with `SETTINGS`, if the C library is glibc and the user has set none of them."""
    if has_glibc() and not SETTINGS.keys() & os.environ.keys():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **SETTINGS})


def has_glibc() -> bool:
    """Return whether the C library is glibc."""
    name = "CS_GNU_LIBC_VERSION"  # musl knows the name, but returns nothing for it
    return name in getattr(os, "confstr_names", ()) and (os.confstr(name) or "").startswith("glibc")
