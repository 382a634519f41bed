"""Compare speeds: each baseline runs in a separate process; they take turns, so that only one works at a time.

Every baseline has a separate interpreter, thread pools and environment. It starts before the first round and waits for
its standard input while others work. Rounds are interleaved (A B C A B C ...), so that a slower machine affects all
baselines equally, and ratios are computed within a round. Baselines that cannot run are listed with the reason.

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
RIVALS = ".venv-benchmarks"
THREADS = 2
REST = 0.3  # seconds between turns, until the threads of the last baseline are idle
COMMON = {
    **SETTINGS,  # of the allocator, as in `wing-jax train`
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS)),
    "PYTHONPATH": os.pathsep.join((str(FOLDER.parent), str(FOLDER))),  # this checkout, not an installed package
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # it would access the network
}
OURS = ("XLA_FLAGS", "JAX_", "WING_JAX_CPU_KERNEL", "MALLOC_", "OMP_", "TF_", "LD_PRELOAD", "PYTHONPATH")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """A script in benchmarks/baselines with its settings; a rival runs in the virtual environment `venv`."""

    name: str
    script: str
    settings: dict = dataclasses.field(default_factory=dict)
    rival: bool = False
    venv: str = RIVALS
    environment: dict = dataclasses.field(default_factory=dict)  # None removes a name
    patience: float = 300  # seconds until it must be ready


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The `seconds` of a unit of work by name and round, why others are `absent`, versions, notes and check numbers."""

    seconds: dict[str, list[float]]
    absent: dict[str, str]
    versions: dict[str, str]
    notes: dict[str, str]
    checks: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def best(self, names: Iterable[str]) -> str | None:
        """Return the fastest of `names` that took part."""
        return min((name for name in names if name in self.seconds), key=self.median, default=None)

    def ratios(self, fast: str, slow: str) -> list[float]:
        """Return the ratio of the speeds of `fast` and `slow` for each round; empty if one is absent."""
        if fast not in self.seconds or slow not in self.seconds:
            return []
        return [b / a for a, b in zip(self.seconds[fast], self.seconds[slow], strict=True)]

    def disagreement(self) -> float:
        """Return the largest difference between the baselines' check numbers."""
        columns = zip(*(values for values in self.checks.values() if values), strict=True)
        return max((max(column) - min(column) for column in columns), default=0.0)


def run(baselines: Sequence[Baseline], *, rounds: int, turn: float) -> Outcome:
    """Let all baselines take turns of about `turn` seconds; an additional first round is not counted."""
    with tempfile.TemporaryFile("a+") as errors:
        processes = {baseline.name: _Process(baseline, errors) for baseline in baselines}
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
            elapsed = processes[name].work(count) / count
            if number > 0:
                seconds[name].append(elapsed)
    return {name: values for name, values in seconds.items() if not processes[name].absent}


class _Process:
    """A baseline's process; `absent` is the reason why it does not take part, or empty."""

    def __init__(self, baseline: Baseline, errors: IO[str]):
        self.baseline, self.errors = baseline, errors
        self.process: subprocess.Popen | None = None
        self.greeting: dict = {}
        self.absent = ""

    def start(self) -> None:
        venv = self.baseline.venv if self.baseline.rival else None
        if venv and (reason := absence(venv)):
            self.absent = reason
            return
        self.process = subprocess.Popen(
            command(self.baseline.script, self.baseline.settings, venv=venv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment(self.baseline.environment),
            start_new_session=True,
        )
        self.greeting = self._answer(self.baseline.patience)

    def count_for(self, turn: float) -> int:
        """Return the number of units of work that take about `turn` seconds."""
        self.work(1)
        once = self.work(1)
        several = max(1, math.ceil(turn / 4 / max(once, 1e-6)))
        once = self.work(several) / several
        return 0 if self.absent else max(1, round(turn / max(once, 1e-6)))

    def work(self, count: int) -> float:
        """Return the seconds of `count` units; infinite if the baseline no longer takes part."""
        if self.absent or self.process is None or self.process.stdin is None:
            return math.inf
        time.sleep(REST)
        try:
            self.process.stdin.write(json.dumps({"count": count}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # reported below, as there is no answer
        return self._answer(limit=600).get("seconds", math.inf)

    def _answer(self, limit: float) -> dict:
        """Read the next line of the process; without a valid one, the baseline no longer takes part."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        line = self.process.stdout.readline() if ready else b""
        answer = json.loads(line) if line else {}
        if not ready:
            self.absent = f"gave no answer within {limit:.0f} s"
        elif not line:
            self.absent = f"ended with exit status {self.process.wait()}: {self._last_error()}"
        elif "missing" in answer:
            self.absent = f"not installed: {answer['missing']}"
        elif "failed" in answer:
            self.absent = f"failed: {answer['failed']}"
        if self.absent:
            say(f"{self.baseline.name}: {self.absent}")
            self.end()
        return answer

    def _last_error(self) -> str:
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or ["no output"])[-1][:200]

    def end(self) -> None:
        """Close its input, so that it ends; kill it and its child processes if it does not."""
        if self.process is None or self.process.stdin is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(timeout=0 if self.absent else 20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def python_of(venv: str) -> Path:
    """Return the interpreter of a virtual environment in the root of the repository."""
    return FOLDER.parent / venv / "bin" / "python"


def absence(venv: str) -> str:
    """Return why baselines in this virtual environment cannot run; empty if it exists."""
    return "" if python_of(venv).exists() else f"not installed: create {venv} as described in benchmarks/README.md"


def command(script: str, settings: dict, *, venv: str | None = None) -> list[str]:
    """Return the command line of a script in benchmarks/baselines, by this interpreter or that of `venv`."""
    python = str(python_of(venv)) if venv else sys.executable
    return [python, str(FOLDER / "baselines" / script), json.dumps(settings)]


def environment(more: dict | None = None) -> dict[str, str]:
    """Return the environment of all baselines, and `more`; the caller's settings are removed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {name: value for name, value in {**kept, **COMMON, **(more or {})}.items() if value is not None}


def call(script: str, settings: dict, *, rival: bool = False, optional: bool = False) -> None:
    """Run a script in benchmarks/baselines that prepares files for a comparison.

    An `optional` script may be missing or fail; baselines that need its files then report that in the comparison.
    """
    venv = RIVALS if rival else None
    if optional and venv and absence(venv):
        return
    subprocess.run(command(script, settings, venv=venv), env=environment(), check=not optional)


def say(progress: str) -> None:
    """Print progress to standard error."""
    print(progress, file=sys.stderr, flush=True)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the median (smallest to largest)."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def speeds(outcome: Outcome, name: str, faces: int) -> str:
    """Format the faces a second of a baseline whose unit of work has `faces` faces, as a cell of a table."""
    return status(outcome, name) or spread([faces / seconds for seconds in outcome.seconds[name]], digits=0)


def status(outcome: Outcome, name: str) -> str:
    """Return the text of a baseline's cell if it has no results, otherwise an empty string."""
    if name in outcome.seconds:
        return ""
    reason = outcome.absent.get(name, "-")
    return reason if reason == "-" else "not installed" if reason.startswith("not installed") else "failed"


def remarks(outcomes: Iterable[Outcome]) -> list[str]:
    """Return a Markdown list: why baselines did not take part, and the notes of the others."""
    lines: dict[str, None] = {}
    for outcome in outcomes:
        lines.update(dict.fromkeys(f"- {name}: {text}" for name, text in (outcome.absent | outcome.notes).items()))
    return list(lines)
