"""What a training says while it runs: a progress bar, JSON lines, TensorBoard."""

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingLog:
    """Progress bar on a terminal (else a line at each evaluation), `metrics.jsonl` and TensorBoard events in `folder`.

    Lines of steps after `first_step`, left by a run that was killed, are dropped: the log holds every step once.
    """

    def __init__(self, folder: Path, *, title: str, first_step: int, steps: int, batch_size: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._keep_until(first_step)
        self._file = self._path.open("a")
        self._folder, self._first_step = folder, first_step
        self._batch_size, self._steps, self._title = batch_size, steps, title
        self._last = (time.perf_counter(), first_step)
        self.console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[said]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(title, total=steps, completed=first_step, said="")

    @functools.cached_property
    def _board(self) -> Any:
        from tensorboardX import SummaryWriter  # not for the first step to wait for

        return SummaryWriter(str(self._folder), purge_step=self._first_step + 1)

    def __enter__(self) -> "TrainingLog":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()
        self._file.close()
        if "_board" in vars(self):
            self._board.close()

    def tell_compiled(self, seconds: float) -> None:
        """Say how long the first program took to compile; the clock of the speed starts afterwards."""
        self.console.print(f"{self._title}: step compiled in {seconds:.1f} s", highlight=False)
        self._last = (time.perf_counter(), self._last[1])

    def write(self, step: int, **values: float) -> None:
        """Record `values` at `step`; the faces a second since the last record are added."""
        now, (then, last_step) = time.perf_counter(), self._last
        if step > last_step:
            values["faces_per_second"] = (step - last_step) * self._batch_size / (now - then)
            self._last = (now, step)
        self._file.write(json.dumps({"step": step, **{k: round(float(v), 7) for k, v in values.items()}}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, float(value), step)
        said = "  ".join(_said(name, value) for name, value in values.items())
        self._bar.update(self._task, completed=step, said=said)
        if self._bar.disable and "validation_nme" in values:
            self.console.print(f"{self._title} {step}/{self._steps}  {said}", highlight=False, soft_wrap=True)

    def _keep_until(self, step: int) -> None:
        if self._path.exists():
            lines = [line for line in self._path.read_text().splitlines() if _step_of(line) <= step]
            self._path.write_text("".join(line + "\n" for line in lines))


class SilentLog:
    """The log of a process that is not the first: nothing is said twice."""

    def __init__(self, folder: Path, **_: str | int):
        pass

    def __enter__(self) -> "SilentLog":
        return self

    def __exit__(self, *_) -> None:
        pass

    def tell_compiled(self, seconds: float) -> None:
        """Nothing."""

    def write(self, step: int, **values: float) -> None:
        """Nothing."""


def _step_of(line: str) -> float:
    """The line's step; a line cut short by a kill counts as never written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")


def _said(name: str, value: float) -> str:
    if "nme" in name:
        return f"{name.replace('_nme', ' NME').replace('nme', 'NME')} {100 * value:.2f} %"
    return f"{name.replace('_', ' ')} {value:.4g}"
