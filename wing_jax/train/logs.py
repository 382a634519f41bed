"""What a training says while it runs: a progress bar, JSON lines, TensorBoard."""

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wing_jax.errors import InputError
from wing_jax.runtime.console import is_terminal, make_console, say
from wing_jax.runtime.files import write_whole

METRICS = "metrics.jsonl"
Row = dict[str, int | float]  # "step" and what was measured there


class TrainingLog:
    """Progress bar on a terminal (else a line at each evaluation), and where there is a `folder`, `metrics.jsonl` and
    TensorBoard events in it. With `quiet` nothing is printed. `history` holds all rows, those of earlier runs too.

    Lines of steps after `first_step`, left by a run that was killed, are dropped: the log holds every step once.

    Raises:
      InputError: here and in its methods: the log cannot be written. What is in it stays.
    """

    def __init__(
        self, folder: Path | None, *, title: str, first_step: int, steps: int, batch_size: int, quiet: bool = False
    ):
        self._folder, self._first_step, self._file = folder, first_step, None
        self.history: list[Row] = []
        if folder is not None:
            with self._writing():
                folder.mkdir(parents=True, exist_ok=True)
                self._keep_until(folder / METRICS, first_step)
                self.history = read_history(folder)
                self._file = (folder / METRICS).open("a", encoding="utf-8")
        self._batch_size, self._steps, self._title, self._quiet = batch_size, steps, title, quiet
        self._last = (time.perf_counter(), first_step)
        self.console = make_console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[said]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not is_terminal(sys.stderr),
        )
        self._task = self._bar.add_task(title, total=steps, completed=first_step, said="")

    @functools.cached_property
    def _board(self) -> "_Board":
        assert self._folder is not None
        return _Board(self._folder, self._first_step)

    def __enter__(self) -> "TrainingLog":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._bar.stop()
        # Where an error goes out already, that what was not written cannot be written now either is no news.
        with self._writing() if kind is None else contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        if "_board" in vars(self):
            with self._writing() if kind is None else contextlib.suppress(OSError):
                self._board.close()

    def tell_compiled(self, seconds: float) -> None:
        """Say how long the first program took to compile; the clock of the speed starts afterwards."""
        if not self._quiet:
            say(self.console, f"{self._title}: step compiled in {seconds:.1f} s")
        self._last = (time.perf_counter(), self._last[1])

    def write(self, step: int, **values: float) -> None:
        """Record `values` at `step`; the faces a second since the last record are added."""
        now, (then, last_step) = time.perf_counter(), self._last
        if step > last_step:
            values["faces_per_second"] = (step - last_step) * self._batch_size / (now - then)
            self._last = (now, step)
        row = {"step": step, **{k: round(float(v), 7) for k, v in values.items()}}
        self.history.append(row)
        if self._file is not None:
            with self._writing():
                self._file.write(json.dumps(row) + "\n")
                self._file.flush()
                self._board.write(step, values)
        said = "  ".join(_said(name, value) for name, value in values.items())
        self._bar.update(self._task, completed=step, said=said)
        if self._bar.disable and not self._quiet and "validation_nme" in values:
            say(self.console, f"{self._title} {step}/{self._steps}  {said}")

    @staticmethod
    def _keep_until(path: Path, step: int) -> None:
        if path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_whole(path, "".join(line + "\n" for line in lines))

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._folder}: the log cannot be written ({error.strerror}): make room or mend permissions, and run "
                "the same command again; what was saved is kept"
            ) from error


class _Board:
    """TensorBoard's events. Written here and now: the thread of tensorboardX's own SummaryWriter dies where the disk is
    full, and whoever gives it an eleventh value then waits for ever."""

    def __init__(self, folder: Path, first_step: int):
        from tensorboardX.event_file_writer import EventsWriter  # not for the first step to wait for
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar

        messages: Any = event_pb2  # made when it is imported
        self._event, self._scalar = messages.Event, scalar
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}.{first_step}")
        start = messages.SessionLog(status=messages.SessionLog.START)  # TensorBoard forgets what was behind it
        self._file.write_event(self._event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Values by their names; those at a validation go to the disk with all before them."""
        for name, value in values.items():
            summary = self._scalar(name, float(value))
            self._file.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        if "validation_nme" in values:
            self._file.flush()

    def close(self) -> None:
        """All on disk."""
        self._file.close()


class SilentLog:
    """The log of a process that is not the first: nothing is written twice."""

    def __init__(self, folder: Path | None, **_: str | int):
        self.history: list[Row] = []

    def __enter__(self) -> "SilentLog":
        return self

    def __exit__(self, *_) -> None:
        pass

    def tell_compiled(self, seconds: float) -> None:
        """Nothing."""

    def write(self, step: int, **values: float) -> None:
        """Nothing."""


def read_history(folder: Path) -> list[Row]:
    """The rows of the log in `folder`; none where there is no log. A line cut short by a kill is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) < float("inf")]


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
