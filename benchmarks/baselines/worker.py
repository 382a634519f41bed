"""The baseline's side of a comparison: a process that makes itself ready and then answers how long its work took.

It reads JSON lines on standard input ({"count": 10}) and answers JSON lines on what was its standard output
({"seconds": 0.8}); whatever libraries print goes to standard error.
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
    """A baseline that can start at once."""

    seconds: Callable[[int], float]  # does so many units of work and returns how long they took
    packages: Sequence[str] = ()  # those whose versions are to be named
    check: Sequence[float] = ()  # numbers in which all baselines must agree
    note: str = ""  # what the reader of the table must know


class NotInstalledError(Exception):
    """Something this baseline needs is not there; the message says what."""


def serve(prepare: Callable[[dict], Ready]) -> None:
    """Get ready as the first argument (JSON) says, then work when told to, until the input ends."""
    say = _answers()
    try:
        ready = prepare(json.loads(sys.argv[1]))
    except (ModuleNotFoundError, NotInstalledError) as error:  # an ImportError of a name is a fault
        return say(missing=getattr(error, "name", None) or str(error))
    except Exception as error:
        traceback.print_exc()
        return say(failed=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    say(
        versions={name: version(name) for name in ready.packages},
        check=[float(value) for value in ready.check],
        note=ready.note,
    )
    for line in sys.stdin:
        say(seconds=ready.seconds(json.loads(line)["count"]))


def timed(work: Callable[[int], object]) -> Callable[[int], float]:
    """`work(count)`, which returns when all of it is done, as seconds."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        work(count)
        return time.perf_counter() - start

    return seconds


def stream(advance: Callable[[], object], *, drained: int = 8, pause: float = 0.5) -> Callable[[int], float]:
    """Seconds until a stream has given so many batches, after what lay ready in its buffers has been used up."""

    def seconds(count: int) -> float:
        start, taken = time.perf_counter(), 0
        while taken < drained or time.perf_counter() - start < pause:
            advance()
            taken += 1
        start = time.perf_counter()
        for _ in range(count):
            advance()
        return time.perf_counter() - start

    return seconds


def _answers() -> Callable[..., None]:
    """Keep standard output for the answers alone."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda **answer: print(json.dumps(answer), file=channel, flush=True)
