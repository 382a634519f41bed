"""The C library's allocator: set before a training's process begins, for glibc reads its settings only then."""

import os
import sys

# A training step's temporaries are dozens of megabytes. glibc gives such back to the system and is given them again at
# every step, in pages of 4 KiB, each of which is cleared and looked up (benchmarks/allocator.py). What is kept instead
# is kept by each arena, and glibc has eight of them for each core, among which tf.data's, XLA's and Orbax's threads
# wander: memory grows for as long as they find new ones. With one for each core and one more it does not, which costs
# small steps some of the speed.
LARGE_PAGES = "glibc.malloc.hugetlb=1"  # of 2 MiB, by madvise
FEW_ARENAS = f"glibc.malloc.arena_max={(os.cpu_count() or 1) + 1}"
SETTINGS = {
    "GLIBC_TUNABLES": f"{LARGE_PAGES}:{FEW_ARENAS}",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),  # bytes; what was freed is kept
    "MALLOC_TOP_PAD_": str(1 << 26),  # bytes
}


def reexec_with_malloc_env() -> None:
    """Begin this process anew with `SETTINGS`, where the C library is glibc and the user has set none of them."""
    if has_glibc() and not SETTINGS.keys() & os.environ.keys():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **SETTINGS})


def has_glibc() -> bool:
    """Whether there is something to set."""
    name = "CS_GNU_LIBC_VERSION"  # musl knows the name, and answers nothing
    return name in getattr(os, "confstr_names", ()) and (os.confstr(name) or "").startswith("glibc")
