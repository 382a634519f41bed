"""A comparison of speed: each baseline in its own process, all taking turns, only one at work at a time.

Every baseline has its own interpreter, thread pools and environment, is started and made ready before the first
round, and sleeps on its standard input while others work. Rounds are interleaved (A B C A B C ...), so that a machine
that slows down slows all alike, and ratios are taken within a round. What cannot take part is named, with the reason.

    outcome = run([Baseline(name="ours", script="step_jax.py", settings={...}), ...], rounds=5, turn=2.0)
    outcome.ratios("ours", "theirs")
"""

import dataclasses
import json
import math
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from wing_jax.runtime.allocator import SETTINGS

FOLDER = Path(__file__).parent
RIVALS_PYTHON = FOLDER.parent / ".venv-benchmarks" / "bin" / "python"
RIVALS_MISSING = "not installed: make .venv-benchmarks as benchmarks/README.md says"
THREADS = 2
REST = 0.3  # seconds between turns, in which the threads of the last baseline fall asleep
COMMON = {
    **SETTINGS,  # of the allocator, as `wing-jax train` has them
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS)),
    "PYTHONPATH": os.pathsep.join((str(FOLDER.parent), str(FOLDER))),  # this checkout, whatever is installed
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # it would ask the network
}
OURS = ("XLA_FLAGS", "JAX_", "WING_JAX_CPU_KERNEL", "MALLOC_", "OMP_", "TF_", "LD_PRELOAD", "PYTHONPATH")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """`script` in benchmarks/baselines, given `settings`; a rival runs in the rivals' environment."""

    name: str
    script: str
    settings: dict = dataclasses.field(default_factory=dict)
    rival: bool = False
    environment: dict = dataclasses.field(default_factory=dict)  # None takes a name out
    patience: float = 300  # seconds it may take to get ready


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """`seconds` a unit of work by name, round by round; why others are `absent`; versions, notes and check numbers."""

    seconds: dict[str, list[float]]
    absent: dict[str, str]
    versions: dict[str, str]
    notes: dict[str, str]
    checks: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def best(self, names: Iterable[str]) -> str | None:
        """The fastest of `names` that took part."""
        return min((name for name in names if name in self.seconds), key=self.median, default=None)

    def ratios(self, fast: str, slow: str) -> list[float]:
        """How many times as fast the first is as the second, round by round; empty where one is absent."""
        if fast not in self.seconds or slow not in self.seconds:
            return []
        return [b / a for a, b in zip(self.seconds[fast], self.seconds[slow], strict=True)]

    def disagreement(self) -> float:
        """The largest difference between baselines' check numbers."""
        columns = zip(*(values for values in self.checks.values() if values), strict=True)
        return max((max(column) - min(column) for column in columns), default=0.0)


def run(baselines: Sequence[Baseline], *, rounds: int, turn: float) -> Outcome:
    """Let all take turns of about `turn` seconds, after a round that is not counted."""
    with tempfile.TemporaryFile("a+") as complaints:
        processes = {baseline.name: _Process(baseline, complaints) for baseline in baselines}
        try:
            seconds = _rounds(processes, rounds, turn)
        finally:
            for process in processes.values():
                process.end()
    taking_part = {name: process.greeting for name, process in processes.items() if not process.absent}
    return Outcome(
        seconds=seconds,
        absent={name: process.absent for name, process in processes.items() if process.absent},
        versions={k: v for greeting in taking_part.values() for k, v in greeting["versions"].items()},
        notes={name: greeting["note"] for name, greeting in taking_part.items() if greeting["note"]},
        checks={name: greeting["check"] for name, greeting in taking_part.items()},
    )


def _rounds(processes: dict[str, "_Process"], rounds: int, turn: float) -> dict[str, list[float]]:
    for name, process in processes.items():
        say(f"{name} gets ready")
        process.start()
    counts = {name: process.count_for(turn) for name, process in processes.items() if not process.absent}
    counts = {name: count for name, count in counts.items() if count}
    seconds: dict[str, list[float]] = {name: [] for name in counts}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        for name, count in counts.items():
            taken = processes[name].work(count) / count
            if number > 0:
                seconds[name].append(taken)
    return {name: values for name, values in seconds.items() if not processes[name].absent}


class _Process:
    """One baseline's process, and what kept it from taking part (`absent`, empty where nothing did)."""

    def __init__(self, baseline: Baseline, complaints: IO[str]):
        self.baseline, self.complaints = baseline, complaints
        self.process: subprocess.Popen | None = None
        self.greeting: dict = {}
        self.absent = ""

    def start(self) -> None:
        if self.baseline.rival and not RIVALS_PYTHON.exists():
            self.absent = RIVALS_MISSING
            return
        self.process = subprocess.Popen(
            command(self.baseline.script, self.baseline.settings, rival=self.baseline.rival),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            env=environment(self.baseline.environment),
            start_new_session=True,
        )
        self.greeting = self._answer(self.baseline.patience)

    def count_for(self, turn: float) -> int:
        """Units of work that take about `turn` seconds."""
        self.work(1)
        once = self.work(1)
        several = max(1, math.ceil(turn / 4 / max(once, 1e-6)))
        once = self.work(several) / several
        return 0 if self.absent else max(1, round(turn / max(once, 1e-6)))

    def work(self, count: int) -> float:
        """Seconds of `count` units; infinite where the baseline has dropped out."""
        if self.absent or self.process is None or self.process.stdin is None:
            return math.inf
        time.sleep(REST)
        try:
            self.process.stdin.write(json.dumps({"count": count}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # told by the missing answer
        return self._answer(limit=600).get("seconds", math.inf)

    def _answer(self, limit: float) -> dict:
        """The next line it says; on none, or on a refusal, it is out."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        line = self.process.stdout.readline() if ready else b""
        answer = json.loads(line) if line else {}
        if not ready:
            self.absent = f"gave no answer within {limit:.0f} s"
        elif not line:
            self.absent = f"ended with exit status {self.process.wait()}: {self._last_words()}"
        elif "missing" in answer:
            self.absent = f"not installed: {answer['missing']}"
        elif "failed" in answer:
            self.absent = f"failed: {answer['failed']}"
        if self.absent:
            say(f"{self.baseline.name}: {self.absent}")
            self.end()
        return answer

    def _last_words(self) -> str:
        self.complaints.seek(0)
        return (self.complaints.read().strip().splitlines() or ["it said nothing"])[-1][:200]

    def end(self) -> None:
        """Close its input, on which it ends; where it does not, end it and what it started."""
        if self.process is None or self.process.stdin is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(timeout=0 if self.absent else 20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def command(script: str, settings: dict, *, rival: bool = False) -> list[str]:
    """The command line of a script in benchmarks/baselines."""
    python = str(RIVALS_PYTHON) if rival else sys.executable
    return [python, str(FOLDER / "baselines" / script), json.dumps(settings)]


def environment(more: dict | None = None) -> dict[str, str]:
    """What all baselines find in their environment alike, and `more`; settings left in the caller's are taken out."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {name: value for name, value in {**own, **COMMON, **(more or {})}.items() if value is not None}


def call(script: str, settings: dict, *, rival: bool = False, optional: bool = False) -> None:
    """Run a script in benchmarks/baselines to its end: for what must be made before a comparison. What is `optional`
    may be missing or fail: who needs it then says so in the comparison."""
    if optional and rival and not RIVALS_PYTHON.exists():
        return
    subprocess.run(command(script, settings, rival=rival), env=environment(), check=not optional)


def say(progress: str) -> None:
    """Tell who waits what is going on."""
    print(progress, file=sys.stderr, flush=True)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (smallest to largest)."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def speeds(outcome: Outcome, name: str, faces: int) -> str:
    """Faces a second of a baseline whose unit of work has so many faces, as a cell of a table."""
    return status(outcome, name) or spread([faces / seconds for seconds in outcome.seconds[name]], digits=0)


def status(outcome: Outcome, name: str) -> str:
    """What stands in a baseline's cell instead of figures; empty where it took part."""
    if name in outcome.seconds:
        return ""
    why = outcome.absent.get(name, "-")
    return why if why == "-" else "not installed" if why.startswith("not installed") else "failed"


def remarks(outcomes: Iterable[Outcome]) -> list[str]:
    """Who did not take part and why, and the baselines' own notes; a Markdown list."""
    said: dict[str, None] = {}
    for outcome in outcomes:
        said.update(dict.fromkeys(f"- {name}: {why}" for name, why in (outcome.absent | outcome.notes).items()))
    return list(said)
