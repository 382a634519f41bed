"""The process of a baseline in a comparison: it gets ready, and then reports the seconds of its work.

It reads JSON lines from standard input ({"count": 10}) and writes JSON lines to standard output ({"seconds": 0.8});
the output of libraries goes to standard error.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NamedTuple


class Ready(NamedTuple):
    """A baseline that is ready to start."""

    seconds: Callable[[int], float]  # does `count` units of work and returns the seconds
    packages: Sequence[str] = ()  # packages whose versions are reported
    check: Sequence[float] = ()  # numbers in which all baselines must agree
    note: str = ""  # a remark for the readers of the table


class NotInstalledError(Exception):
    """A requirement of this baseline is not installed; the message names it."""


def serve(prepare: Callable[[dict], Ready]) -> None:
    """Get ready with the settings in the first argument (JSON), then work on request until the input ends."""
    answer = _make_answer()
    try:
        ready = prepare(json.loads(sys.argv[1]))
    except (ModuleNotFoundError, NotInstalledError) as error:  # an ImportError of a name in a module is a failure
        return answer(missing=getattr(error, "name", None) or str(error))
    except Exception as error:
        traceback.print_exc()
        return answer(failed=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    answer(
        versions={name: version(name) for name in ready.packages},
        check=[float(value) for value in ready.check],
        note=ready.note,
    )
    for line in sys.stdin:
        answer(seconds=ready.seconds(json.loads(line)["count"]))


def timed(work: Callable[[int], object]) -> Callable[[int], float]:
    """Return a function of the seconds of `work(count)`, which must return when the work is complete."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        work(count)
        return time.perf_counter() - start

    return seconds


def stream(advance: Callable[[], object], *, drained: int = 8, pause: float = 0.5) -> Callable[[int], float]:
    """Return a function of the seconds in which a stream yields `count` batches, after its buffers are emptied."""

    def seconds(count: int) -> float:
        start, consumed = time.perf_counter(), 0
        while consumed < drained or time.perf_counter() - start < pause:
            advance()
            consumed += 1
        start = time.perf_counter()
        for _ in range(count):
            advance()
        return time.perf_counter() - start

    return seconds


def _make_answer() -> Callable[..., None]:
    """Reserve standard output for the answers."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda **fields: print(json.dumps(fields), file=channel, flush=True)
