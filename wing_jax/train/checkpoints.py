"""Checkpoints by Orbax: the newest and the best; resuming takes the newest that is whole.

A checkpoint counts as written when it was read back and every bit is as it was to be saved. Then it is sealed (a list
of its files and their digests), and only then are older ones deleted. One that does not fit its seal, or cannot be
read, is set aside (moved to `damaged/` beside the others, never deleted), which one line says, and the one before it
serves.

Orbax is given the folder by a path that it takes as it is (`wing_jax.runtime.files.plain_path`), whatever the folder's
name.
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
TALKERS = ("absl", "asyncio", None)  # loggers that Orbax writes to: whatever it complains of, it raises as well


class CorruptCheckpointError(Exception):
    """A checkpoint cannot be read, or does not hold what was saved."""


class VerificationError(Exception):
    """A checkpoint was written, and cannot be read back as it was to be saved."""

    def __init__(self, step: int, why: str):
        super().__init__(why)
        self.step = step


class Checkpoints:
    """The checkpoints of one stage, in one folder. Use as a context manager, so that the last write is finished.

    The newest `keep` of them stay, and the best.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self.folder, self._keep = Path(folder).absolute(), keep
        self._held = contextlib.ExitStack()  # what is open as long as the saver is
        self._failed: Exception | None = None  # of the write in the background
        self._told = False  # that a write has failed
        self._unread: tuple[int, TrainState, dict[str, float] | None] | None = None  # what many processes have saved
        self._grown = False  # since older checkpoints were deleted
        self._sealing = threading.Thread()
        self._sealing.start()

    @functools.cached_property
    def _saver(self) -> Any:
        """Opened when first needed: Orbax takes half a second to import, and the first step need not wait for it."""
        from orbax.checkpoint import v1 as ocp

        training: Any = ocp.training  # its own annotations do not fit together
        for name in TALKERS:
            logging.getLogger(name).addFilter(_not_of_orbax)
        return training.Checkpointer(
            self._place,
            save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=training.preservation_policies.PreserveAll(),  # `_delete_older` does it
            cleanup_tmp_directories=True,
        )

    @functools.cached_property
    def _place(self) -> Path:
        """The folder, which is made where it is missing, by a path that Orbax and TensorStore take as it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._held.enter_context(files.plain_path(self.folder))

    def __enter__(self) -> "Checkpoints":
        self._hook = sys.unraisablehook
        sys.unraisablehook = functools.partial(_but_for_late_calls, self._hook)
        return self

    def __exit__(self, *_) -> None:
        if "_saver" in vars(self):
            try:
                self.wait()
            finally:
                with contextlib.suppress(Exception):  # which has been told by now
                    self._saver.close()
        if not self._told:  # else late calls may be still to come
            sys.unraisablehook = self._hook
            for name in TALKERS:
                logging.getLogger(name).removeFilter(_not_of_orbax)
        self._held.close()

    @property
    def newest(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return max(self._steps(), default=None)

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation NME."""
        measured = self._measured()
        return min(measured, key=lambda step: measured[step]) if measured else None

    def save(self, step: int, state: TrainState, *, validation_nme: float | None = None) -> None:
        """Write `state` in the background, from a copy: the next step is given the state's own memory. Without a
        `validation_nme` it is for going on from alone.

        Raises:
          InputError: this checkpoint, or the one before, cannot be written; what was there before is kept.
        """
        if "_saver" in vars(self):
            self.wait()
        metrics = None if validation_nme is None else {METRIC: float(validation_nme)}
        copy = jax.tree.map(jnp.copy, state)
        with self._writing():
            saving, self._grown = self._saver.save_async(step, copy, metrics=metrics), True
        if jax.process_count() > 1:
            self._unread = step, copy, metrics
        else:
            self._sealing = threading.Thread(target=self._checksum_when, args=(saving, step, copy, metrics))
            self._sealing.start()

    def wait(self) -> None:
        """Until all that was saved is on disk and was read back; older checkpoints are deleted then.

        Raises:
          InputError: it cannot be written or read back; what was there before is kept.
        """
        try:
            with self._writing():
                self._saver.wait()
                self._sealing.join()
                failed, self._failed = self._failed, None
                if failed is not None:
                    raise failed
                if self._unread is not None:
                    self._checksum_together(*self._unread)
                if self._grown:
                    self._delete_older()
        except VerificationError as found:
            aside = self._move_aside(found.step)
            raise InputError(
                f"{self.folder / str(found.step)}: written but cannot be read back ({found}): it was moved to {aside}; "
                "look after the disk, and run the same command again; the checkpoints before it are kept"
            ) from found

    def restore_newest(self, like: TrainState) -> tuple[TrainState, int]:
        """The newest state that is whole and its step, as `restore` gives it; `like` and 0 where there is none."""
        return self._first_whole(lambda: self.newest, like) or (like, 0)

    def restore_best(self, like: TrainState) -> TrainState:
        """The state with the lowest validation NME of those that are whole, as `restore` gives it.

        Raises:
          InputError: there is none.
        """
        found = self._first_whole(lambda: self.best, like)
        if found is None:
            raise InputError(f"{self.folder}: no checkpoint in it is whole: delete its folder, and train again")
        return found[0]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved at `step`, in the shapes and on the devices of `like`.

        Raises:
          InputError: the checkpoint was written by another network (another scheme, say) or optimiser.
          CorruptCheckpointError: it cannot be read, or is not what was saved.
        """
        self.wait()
        try:
            self._check_shapes(step, self._saver.metadata(step).metadata["variables"], like)
            return self._saver.load(step, like)
        except InputError:
            raise
        except Exception as error:  # of any of the libraries below
            raise CorruptCheckpointError(f"{type(error).__name__} while it was read") from error

    def _checksum_when(self, saving: Any, step: int, saved: TrainState, metrics: dict[str, float] | None) -> None:
        try:
            saving.result()
            self._read_back(step, saved, metrics)
            write_checksums(self.folder / str(step))
        except Exception as error:
            self._failed = error

    def _checksum_together(self, step: int, saved: TrainState, metrics: dict[str, float] | None) -> None:
        """As `_checksum_when`, by many processes: all of them read, for Orbax lets them wait for one another."""
        self._unread = failed = None
        try:
            self._read_back(step, saved, metrics)
        except VerificationError as found:
            failed = found
        if np.any(multihost_utils.process_allgather(np.array(failed is not None))):
            raise failed or VerificationError(step, "by another process")
        if devices.is_first_process():
            write_checksums(self.folder / str(step))
        _together("the checkpoint is sealed")

    def _read_back(self, step: int, saved: TrainState, metrics: dict[str, float] | None) -> None:
        """Read the checkpoint into the host's memory and compare it with what was to be saved.

        Raises:
          VerificationError: it cannot be read, or differs.
        """
        from orbax.checkpoint import v1 as ocp

        wanted = jax.device_get(saved)
        try:
            found = ocp.load(str(self._place / str(step)), wanted, checkpointable_name="state")
            measured = metrics and json.loads(files.read_bytes(self.folder / str(step) / METRICS))
        except Exception as error:  # of any of the libraries below
            raise VerificationError(step, f"{type(error).__name__}: {cut(str(error), length=160)}") from error
        if measured != metrics:
            raise VerificationError(step, f"{measured} was read, {metrics} written")
        for (path, leaf), back in zip(jax.tree.leaves_with_path(wanted), jax.tree.leaves(found), strict=True):
            if not _same_bits(leaf, back):
                raise VerificationError(step, f"{_name(path)} is another")

    def _delete_older(self) -> None:
        """All but the newest and the best. Orbax's own policy would do it before the new one is read back."""
        best = self.best
        for step in sorted(self._steps())[: -self._keep]:
            if step != best:
                self._saver.delete(step)
        self._grown = False

    def _first_whole(self, choose: Callable[[], int | None], like: TrainState) -> tuple[TrainState, int] | None:
        while (step := choose()) is not None:
            try:
                return self.restore(step, like), step
            except CorruptCheckpointError as found:
                self._quarantine(step, str(found))
        return None

    def _quarantine(self, step: int, why: str) -> None:
        """Move the checkpoint out of the way, and say so."""
        aside = self._move_aside(step)
        if devices.is_first_process():
            print(
                printable(
                    f"wing-jax: checkpoint {self.folder / str(step)} is damaged ({why}): the one before it serves; it "
                    f"was moved to {aside}"
                ),
                file=sys.stderr,
            )

    def _move_aside(self, step: int) -> Path:
        """Move the checkpoint out of the way, by one process where there are many; returns where to."""
        _together("all have read the damaged checkpoint")
        names = itertools.chain([str(step)], (f"{step}-{number}" for number in itertools.count(2)))
        aside = next(path for name in names if not (path := self.folder.parent / "damaged" / name).exists())
        _together("all know where it goes")
        if devices.is_first_process():
            aside.parent.mkdir(exist_ok=True)
            shutil.move(self.folder / str(step), aside)
        _together("the damaged checkpoint is set aside")
        if "_saver" in vars(self):
            self._saver.reload()
        return aside

    def _steps(self) -> list[int]:
        """Of all checkpoints, those set aside that do not fit their seals when first asked."""
        if not self.folder.exists():
            return []
        if "_saver" not in vars(self):  # Orbax would not open a folder with broken metrics in it
            for path in sorted(self.folder.iterdir()):
                if path.name.isdigit() and (broken := checksum_fault(path)):
                    self._quarantine(int(path.name), broken)
        return [checkpoint.step for checkpoint in self._saver.checkpoints]

    def _measured(self) -> dict[int, float]:
        """The validation NME of each checkpoint that has one."""
        self._steps()
        return {c.step: c.metrics[METRIC] for c in self._saver.checkpoints if c.metrics and METRIC in c.metrics}

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:  # TensorStore's errors are ValueErrors
            if jax.process_count() > 1 and devices.is_loss(error):
                raise
            self._told = True
            raise InputError(
                f"{self.folder}: no checkpoint can be written ({' '.join(str(error).split())[:200]}): make room or mend"
                " permissions, and run the same command again; the checkpoints before it are kept"
            ) from error

    def _check_shapes(self, step: int, variables: Any, like: TrainState) -> None:
        saved = _shapes(variables)
        wanted = _shapes(like.variables)
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise InputError(
                    f"{self.folder / str(step)}: this checkpoint is of another network: {name} is {saved.get(name)}"
                    f" there and {wanted.get(name)} in the config; use the config it was trained with, or another"
                    " --name to start afresh"
                )


def _together(moment: str) -> None:
    """All processes wait for one another."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(moment)


def _but_for_late_calls(hook: Callable, unraisable: Any) -> None:
    """Of a write that has failed, which `wait` tells, TensorStore's threads still call the loop that is gone."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        hook(unraisable)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """A filter of loggers: what Orbax logs of a damaged file, or of a full disk, is said in one line by us."""
    error = record.exc_info[1] if record.exc_info else None
    frames = traceback.extract_tb(error.__traceback__) if error else []
    ours = any("orbax" in Path(name).parts for name in (record.pathname, *(frame.filename for frame in frames)))
    return not ours and "tensorstore_spec" not in str(error)


def _same_bits(one: Any, another: Any) -> bool:
    one, another = np.asarray(one), np.asarray(another)
    if (one.dtype, one.shape) != (another.dtype, another.shape):
        return False
    one, another = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, another))
    return np.array_equal(one, another)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
