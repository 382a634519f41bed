"""The log of a training run: a progress bar, JSON lines, and TensorBoard events."""

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
from wing_jax.runtime.files import write_atomic

METRICS = "metrics.jsonl"
Row = dict[str, int | float]  # "step" and the values logged at it


class TrainingLog:
    """The log of one stage.

    On a terminal it shows a progress bar, elsewhere it prints a line at each validation; with `quiet`, nothing. With a
    `folder` it writes `metrics.jsonl` and TensorBoard events. `history` has all rows, including those of earlier runs.

    When a killed run is resumed, lines of steps after `first_step` are removed, so that each step is logged once.

    Raises:
      InputError: the log cannot be written, here or in a method; its earlier lines are kept.
    """

    def __init__(
        self, folder: Path | None, *, title: str, first_step: int, steps: int, batch_size: int, quiet: bool = False
    ):
        self._folder, self._first_step, self._file = folder, first_step, None
        self.history: list[Row] = []
        if folder is not None:
            with self._writing():
                folder.mkdir(parents=True, exist_ok=True)
                self._truncate(folder / METRICS, first_step)
                self.history = read_history(folder)
                self._file = (folder / METRICS).open("a", encoding="utf-8")
        self._batch_size, self._steps, self._title, self._quiet = batch_size, steps, title, quiet
        self._last = (time.perf_counter(), first_step)
        self.console = make_console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[values]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not is_terminal(sys.stderr),
        )
        self._task = self._bar.add_task(title, total=steps, completed=first_step, values="")
        if first_step and not quiet:
            say(self.console, f"{title}: resumed from step {first_step} of {steps}")

    @functools.cached_property
    def _board(self) -> "_Board":
        assert self._folder is not None
        return _Board(self._folder, self._first_step)

    def __enter__(self) -> "TrainingLog":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._bar.stop()
        # During another error, a failure to write is not worth reporting.
        with self._writing() if kind is None else contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        if "_board" in vars(self):
            with self._writing() if kind is None else contextlib.suppress(OSError):
                self._board.close()

    def report_compile_time(self, seconds: float) -> None:
        """Print how long the first program took to compile. Measuring the speed starts afterwards."""
        if not self._quiet:
            say(self.console, f"{self._title}: step compiled in {seconds:.1f} s")
        self._last = (time.perf_counter(), self._last[1])

    @contextlib.contextmanager
    def paused(self) -> Generator[None]:
        """Leave out the time of a validation when the faces per second are computed."""
        started = time.perf_counter()
        yield
        last_time, last_step = self._last
        self._last = (last_time + time.perf_counter() - started, last_step)

    def write(self, step: int, **values: float) -> None:
        """Log `values` at `step`, and the faces trained on per second since the last call."""
        now, (last_time, last_step) = time.perf_counter(), self._last
        if step > last_step:
            values["faces_per_second"] = (step - last_step) * self._batch_size / (now - last_time)
            self._last = (now, step)
        row = {"step": step, **{k: round(float(v), 7) for k, v in values.items()}}
        self.history.append(row)
        if self._file is not None:
            with self._writing():
                self._file.write(json.dumps(row) + "\n")
                self._file.flush()
                self._board.write(step, values)
        text = "  ".join(_format_value(name, value) for name, value in values.items())
        self._bar.update(self._task, completed=step, values=text)
        if self._bar.disable and not self._quiet and "validation_nme" in values:
            say(self.console, f"{self._title} {step}/{self._steps}  {text}")

    @staticmethod
    def _truncate(path: Path, step: int) -> None:
        """Remove the lines of steps after `step`."""
        if path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_atomic(path, "".join(line + "\n" for line in lines))

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._folder}: the log cannot be written ({error.strerror}): free disk space or fix "
                f"permissions, and run "
                "the same command again; saved checkpoints are kept"
            ) from error


class _Board:
    """TensorBoard's events, written synchronously.

    tensorboardX's SummaryWriter writes in a thread. The thread dies if the disk is full, and then the eleventh value
    blocks training forever.
    """

    def __init__(self, folder: Path, first_step: int):
        from tensorboardX.event_file_writer import EventsWriter  # a slow import, which would delay the first step
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar

        messages: Any = event_pb2  # its classes are created at import, which type checkers do not see
        self._event, self._scalar = messages.Event, scalar
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}.{first_step}")
        start = messages.SessionLog(status=messages.SessionLog.START)  # TensorBoard drops earlier events of later steps
        self._file.write_event(self._event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write values by name, and flush the file at each validation."""
        for name, value in values.items():
            summary = self._scalar(name, float(value))
            self._file.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        if "validation_nme" in values:
            self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


class SilentLog:
    """The log of every process but the first; it writes nothing."""

    def __init__(self, folder: Path | None, **_: str | int):
        self.history: list[Row] = []

    def __enter__(self) -> "SilentLog":
        return self

    def __exit__(self, *_) -> None:
        pass

    def report_compile_time(self, seconds: float) -> None:
        """Do nothing."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def write(self, step: int, **values: float) -> None:
        """Do nothing."""


def read_history(folder: Path) -> list[Row]:
    """Read the rows of the log in `folder`; none if there is no log. An incomplete line of a killed run is skipped."""
    path = folder / METRICS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) < float("inf")]


def _step_of(line: str) -> float:
    """Return the line's step; infinity for an incomplete line of a killed run."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")


def _format_value(name: str, value: float) -> str:
    if "nme" in name:
        return f"{name.replace('_nme', ' NME').replace('nme', 'NME')} {100 * value:.2f} %"
    return f"{name.replace('_', ' ')} {value:.4g}"
