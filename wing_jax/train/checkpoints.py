"""Orbax checkpoints: the newest ones and the best one. Training resumes from the newest valid checkpoint.

Each checkpoint is verified after writing: it is read back and compared bit for bit. Then the checksums of its files are
written beside them (`wing_jax.train.checksums`), and only then are older checkpoints deleted. A checkpoint that does
not match its checksums, or cannot be read, is reported in one line and quarantined: it is moved to the folder `damaged`
beside the checkpoints, never deleted, and the previous checkpoint is used.

Orbax gets the folder by a path without special characters (`wing_jax.runtime.files.plain_path`), so any folder name
works.
"""

import contextlib
import functools
import itertools
import json
import logging
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from wing_jax.errors import InputError
from wing_jax.runtime import devices, files
from wing_jax.text import cut, printable
from wing_jax.train.checksums import METRICS, checksum_fault, write_checksums
from wing_jax.train.state import TrainState

METRIC = "validation_nme"
ORBAX_LOGGERS = ("absl", "asyncio", None)  # loggers that Orbax writes to; it also raises every error that it logs


class CorruptCheckpointError(Exception):
    """A checkpoint cannot be read, or its contents are not those that were saved."""


class VerificationError(Exception):
    """A checkpoint was written, but reading it back failed or gave different values."""

    def __init__(self, step: int, reason: str):
        super().__init__(reason)
        self.step = step


class Checkpoints:
    """The checkpoints of one stage, in one folder. Use it as a context manager, which waits for the last write.

    The newest `keep` checkpoints and the best one are kept.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self.folder, self._keep = Path(folder).absolute(), keep
        self._exit_stack = contextlib.ExitStack()  # closed after the saver
        self._background_error: Exception | None = None
        self._write_failed = False
        # Arguments of the verification that all processes do together, when there are several.
        self._unverified: tuple[int, TrainState, dict[str, float] | None] | None = None
        self._has_new = False  # a checkpoint was written since older ones were deleted
        self._verification = threading.Thread()
        self._verification.start()

    @functools.cached_property
    def _saver(self) -> Any:
        """Orbax's checkpointer, opened on first use.

        Importing Orbax takes half a second, which would delay the first step.
        """
        from orbax.checkpoint import v1 as ocp

        training: Any = ocp.training  # its type annotations contradict each other
        for name in ORBAX_LOGGERS:
            logging.getLogger(name).addFilter(_is_not_from_orbax)
        return training.Checkpointer(
            self._plain_folder,
            save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=training.preservation_policies.PreserveAll(),  # `_delete_older` deletes instead
            cleanup_tmp_directories=True,
        )

    @functools.cached_property
    def _plain_folder(self) -> Path:
        """A path to the folder without characters that are special to Orbax or TensorStore. Creates the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._exit_stack.enter_context(files.plain_path(self.folder))

    def __enter__(self) -> "Checkpoints":
        self._hook = sys.unraisablehook
        sys.unraisablehook = functools.partial(_ignore_late_calls, self._hook)
        return self

    def __exit__(self, *_) -> None:
        if "_saver" in vars(self):
            try:
                self.wait()
            finally:
                with contextlib.suppress(Exception):  # `wait` has already raised it
                    self._saver.close()
        if not self._write_failed:  # after a failed write, late calls may still follow
            sys.unraisablehook = self._hook
            for name in ORBAX_LOGGERS:
                logging.getLogger(name).removeFilter(_is_not_from_orbax)
        self._exit_stack.close()

    @property
    def newest(self) -> int | None:
        """Step of the newest checkpoint; None if there is none."""
        return max(self._steps(), default=None)

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation NME; None if none has one."""
        nmes = self._validation_nmes()
        return min(nmes, key=lambda step: nmes[step]) if nmes else None

    def save(self, step: int, state: TrainState, *, validation_nme: float | None = None) -> None:
        """Write a checkpoint in the background.

        It is written from a copy, because the next step reuses the memory of `state`. A checkpoint without a
        `validation_nme` can be resumed from, but is never the best.

        Raises:
          InputError: this checkpoint, or the one before, cannot be written; earlier checkpoints are kept.
        """
        if "_saver" in vars(self):
            self.wait()
        metrics = None if validation_nme is None else {METRIC: float(validation_nme)}
        copy = jax.tree.map(jnp.copy, state)
        with self._writing():
            saving, self._has_new = self._saver.save_async(step, copy, metrics=metrics), True
        if jax.process_count() > 1:
            self._unverified = step, copy, metrics
        else:
            self._verification = threading.Thread(target=self._verify_when_saved, args=(saving, step, copy, metrics))
            self._verification.start()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk and verified, then delete older ones.

        Raises:
          InputError: it cannot be written or verified; earlier checkpoints are kept.
        """
        try:
            with self._writing():
                self._saver.wait()
                self._verification.join()
                background_error, self._background_error = self._background_error, None
                if background_error is not None:
                    raise background_error
                if self._unverified is not None:
                    self._verify_by_all(*self._unverified)
                if self._has_new:
                    self._delete_older()
        except VerificationError as error:
            destination = self._move_to_quarantine(error.step)
            raise InputError(
                f"{self.folder / str(error.step)}: written, but reading it back failed ({error}): it was moved to "
                f"{destination}; check the disk, and run the same command again; earlier checkpoints are kept"
            ) from error

    def restore_newest(self, like: TrainState) -> tuple[TrainState, int]:
        """Return the newest valid state and its step, as from `restore`; `like` and 0 if there is none."""
        return self._restore_valid(lambda: self.newest, like) or (like, 0)

    def restore_best(self, like: TrainState) -> TrainState:
        """Return the valid state with the lowest validation NME, as from `restore`.

        Raises:
          InputError: there is none.
        """
        result = self._restore_valid(lambda: self.best, like)
        if result is None:
            raise InputError(f"{self.folder}: no valid checkpoint in it: delete this folder, and train again")
        return result[0]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Return the state saved at `step`, in the shapes and on the devices of `like`.

        Raises:
          InputError: the checkpoint is of a different network (of a different scheme, for example) or optimizer.
          CorruptCheckpointError: it cannot be read, or is not what was saved.
        """
        self.wait()
        try:
            self._check_shapes(step, self._saver.metadata(step).metadata["variables"], like)
            return self._saver.load(step, like)
        except InputError:
            raise
        except Exception as error:  # from Orbax or any library that it uses
            raise CorruptCheckpointError(f"{type(error).__name__} while reading it") from error

    def _verify_when_saved(self, saving: Any, step: int, saved: TrainState, metrics: dict[str, float] | None) -> None:
        try:
            saving.result()
            self._read_back(step, saved, metrics)
            write_checksums(self.folder / str(step))
        except Exception as error:
            self._background_error = error

    def _verify_by_all(self, step: int, saved: TrainState, metrics: dict[str, float] | None) -> None:
        """Verify in several processes. All of them have to read, because Orbax synchronizes them."""
        self._unverified = failure = None
        try:
            self._read_back(step, saved, metrics)
        except VerificationError as error:
            failure = error
        if np.any(multihost_utils.process_allgather(np.array(failure is not None))):
            raise failure or VerificationError(step, "in another process")
        if devices.is_first_process():
            write_checksums(self.folder / str(step))
        _sync_processes("checksums written")

    def _read_back(self, step: int, saved: TrainState, metrics: dict[str, float] | None) -> None:
        """Read the checkpoint into host memory and compare it with the saved values.

        Raises:
          VerificationError: it cannot be read, or differs.
        """
        from orbax.checkpoint import v1 as ocp

        expected = jax.device_get(saved)
        try:
            state = ocp.load(str(self._plain_folder / str(step)), expected, checkpointable_name="state")
            metrics_on_disk = metrics and json.loads(files.read_bytes(self.folder / str(step) / METRICS))
        except Exception as error:  # from Orbax or any library that it uses
            raise VerificationError(step, f"{type(error).__name__}: {cut(str(error), length=160)}") from error
        if metrics_on_disk != metrics:
            raise VerificationError(step, f"read {metrics_on_disk}, wrote {metrics}")
        for (path, leaf), leaf_on_disk in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(state), strict=True):
            if not _same_bits(leaf, leaf_on_disk):
                raise VerificationError(step, f"{_path_name(path)} differs")

    def _delete_older(self) -> None:
        """Delete all but the newest and the best. Orbax's policy would delete before the new one is verified."""
        best = self.best
        for step in sorted(self._steps())[: -self._keep]:
            if step != best:
                self._saver.delete(step)
        self._has_new = False

    def _restore_valid(self, choose: Callable[[], int | None], like: TrainState) -> tuple[TrainState, int] | None:
        """Restore the step that `choose` returns, quarantining corrupt checkpoints until one is valid."""
        while (step := choose()) is not None:
            try:
                return self.restore(step, like), step
            except CorruptCheckpointError as error:
                self._quarantine(step, str(error))
        return None

    def _quarantine(self, step: int, reason: str) -> None:
        """Quarantine a corrupt checkpoint and report it."""
        destination = self._move_to_quarantine(step)
        if devices.is_first_process():
            print(
                printable(
                    f"wing-jax: checkpoint {self.folder / str(step)} is corrupt ({reason}): it was moved to "
                    f"{destination}; training continues from the previous checkpoint, or from the start without one"
                ),
                file=sys.stderr,
            )

    def _move_to_quarantine(self, step: int) -> Path:
        """Move a corrupt checkpoint, in the first process only, and return its new path."""
        _sync_processes("corrupt checkpoint read")
        names = itertools.chain([str(step)], (f"{step}-{number}" for number in itertools.count(2)))
        destination = next(path for name in names if not (path := self.folder.parent / "damaged" / name).exists())
        _sync_processes("quarantine path chosen")
        if devices.is_first_process():
            destination.parent.mkdir(exist_ok=True)
            shutil.move(self.folder / str(step), destination)
        _sync_processes("corrupt checkpoint moved")
        if "_saver" in vars(self):
            self._saver.reload()
        return destination

    def _steps(self) -> list[int]:
        """Return the steps of all checkpoints. The first call quarantines those that do not match their checksums."""
        if not self.folder.exists():
            return []
        if "_saver" not in vars(self):  # Orbax would not open a folder with broken metrics in it
            for path in sorted(self.folder.iterdir()):
                if path.name.isdigit() and (fault := checksum_fault(path)):
                    self._quarantine(int(path.name), fault)
        return [checkpoint.step for checkpoint in self._saver.checkpoints]

    def _validation_nmes(self) -> dict[int, float]:
        """Return the validation NME of each checkpoint that has one, by step."""
        self._steps()
        return {c.step: c.metrics[METRIC] for c in self._saver.checkpoints if c.metrics and METRIC in c.metrics}

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:  # TensorStore's errors are ValueErrors
            if jax.process_count() > 1 and devices.is_loss(error):
                raise
            self._write_failed = True
            raise InputError(
                f"{self.folder}: cannot write a checkpoint ({' '.join(str(error).split())[:200]}): free disk "
                f"space or fix"
                " permissions, and run the same command again; earlier checkpoints are kept"
            ) from error

    def _check_shapes(self, step: int, variables: Any, like: TrainState) -> None:
        saved = _shapes(variables)
        expected = _shapes(like.variables)
        for name in sorted(saved.keys() | expected.keys()):
            if saved.get(name) != expected.get(name):
                raise InputError(
                    f"{self.folder / str(step)}: this checkpoint belongs to a different network: {name} is "
                    f"{saved.get(name)} in it and {expected.get(name)} in the config; use the config it was trained "
                    "with, or pass a new --name to start over"
                )


def _sync_processes(label: str) -> None:
    """Wait until all processes have reached this call."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(label)


def _ignore_late_calls(hook: Callable, unraisable: Any) -> None:
    """Handle unraisable errors by `hook`, except for late ones of a failed write, which `wait` has raised already.

    After a failed write, TensorStore's threads may still call an event loop that is closed.
    """
    if "Event loop is closed" not in str(unraisable.exc_value):
        hook(unraisable)


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    """Filter out what Orbax logs of a corrupt file or a full disk: this module reports it in one line."""
    error = record.exc_info[1] if record.exc_info else None
    frames = traceback.extract_tb(error.__traceback__) if error else []
    is_orbax = any("orbax" in Path(name).parts for name in (record.pathname, *(frame.filename for frame in frames)))
    return not is_orbax and "tensorstore_spec" not in str(error)


def _same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    a, b = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (a, b))
    return np.array_equal(a, b)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {_path_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _path_name(path) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
