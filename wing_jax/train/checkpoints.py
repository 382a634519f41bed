"""Checkpoints by Orbax: the newest and the best; resuming takes the newest that is whole.

Each is sealed when it is whole: a list of its files and their digests. One that does not fit its seal, or cannot be
read, is set aside (moved to `damaged/` beside the others, never deleted), which one line says, and the one before it
serves.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import shutil
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from wing_jax.errors import InputError
from wing_jax.train import devices
from wing_jax.train.state import TrainState

logging.getLogger("absl").setLevel(logging.CRITICAL)  # whatever Orbax complains of, it raises as well
METRIC, SEAL = "validation_nme", "seal.json"


class Damaged(Exception):
    """A checkpoint cannot be read, or does not hold what was saved."""


class Checkpoints:
    """The checkpoints of one stage, in one folder. Use as a context manager, so that the last write is finished."""

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self.folder, self._keep = Path(folder).absolute(), keep
        self._failed: Exception | None = None  # of the write in the background
        self._told = False  # that a write has failed
        self._sealing = threading.Thread()
        self._sealing.start()

    @functools.cached_property
    def _saver(self) -> Any:
        """Opened when first needed: Orbax takes half a second to import, and the first step need not wait for it."""
        from orbax.checkpoint import v1 as ocp

        training: Any = ocp.training  # its own annotations do not fit together
        keeping = training.preservation_policies
        return training.Checkpointer(
            self.folder,
            save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=keeping.AnyPreservationPolicy(
                [
                    keeping.LatestN(self._keep),
                    keeping.BestN(
                        get_metric_fn=lambda metrics: metrics[METRIC],
                        reverse=True,
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

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
        with self._writing():
            saving = self._saver.save_async(step, jax.tree.map(jnp.copy, state), metrics=metrics)
        if jax.process_index() == 0:
            self._sealing = threading.Thread(target=self._seal_when, args=(saving, self.folder / str(step)))
            self._sealing.start()

    def wait(self) -> None:
        """Until all that was saved is on disk.

        Raises:
          InputError: it cannot be written; what was there before is kept.
        """
        with self._writing():
            self._saver.wait()
            self._sealing.join()
            failed, self._failed = self._failed, None
            if failed is not None:
                raise failed

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
          Damaged: it cannot be read, or is not what was saved.
        """
        self.wait()
        try:
            with _no_complaints():
                self._check_shapes(step, self._saver.metadata(step).metadata["variables"], like)
                return self._saver.load(step, like)
        except InputError:
            raise
        except Exception as error:  # of any of the libraries below
            raise Damaged(f"{type(error).__name__} while it was read") from error

    def _seal_when(self, saving: Any, checkpoint: Path) -> None:
        try:
            saving.result()
            seal(checkpoint)
        except Exception as error:
            self._failed = error

    def _first_whole(self, choose: Callable[[], int | None], like: TrainState) -> tuple[TrainState, int] | None:
        while (step := choose()) is not None:
            try:
                return self.restore(step, like), step
            except Damaged as found:
                self._set_aside(step, str(found))
        return None

    def _set_aside(self, step: int, why: str) -> None:
        """Move the checkpoint out of the way, by one process where there are many."""
        _together("all have read the damaged checkpoint")
        if jax.process_index() == 0:
            names = itertools.chain([str(step)], (f"{step}-{number}" for number in itertools.count(2)))
            aside = next(path for name in names if not (path := self.folder.parent / "damaged" / name).exists())
            aside.parent.mkdir(exist_ok=True)
            shutil.move(self.folder / str(step), aside)
            print(
                f"wing-jax: checkpoint {self.folder / str(step)} is damaged ({why}): the one before it serves; it was "
                f"moved to {aside}",
                file=sys.stderr,
            )
        _together("the damaged checkpoint is set aside")
        if "_saver" in vars(self):
            self._saver.reload()

    def _steps(self) -> list[int]:
        """Of all checkpoints, those set aside that do not fit their seals when first asked."""
        if not self.folder.exists():
            return []
        if "_saver" not in vars(self):  # Orbax would not open a folder with broken metrics in it
            for path in sorted(self.folder.iterdir()):
                if path.name.isdigit() and (broken := broken_seal(path)):
                    self._set_aside(int(path.name), broken)
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


def seal(checkpoint: Path) -> None:
    """Write beside the files of a whole checkpoint what their sizes and contents are."""
    unsealed = checkpoint / f"{SEAL}.new"
    with contextlib.suppress(OSError):  # no room, or already deleted: an unsealed checkpoint serves as well
        unsealed.write_text(json.dumps(_digests(checkpoint)))
        unsealed.replace(checkpoint / SEAL)


def broken_seal(checkpoint: Path) -> str:
    """What does not fit the seal of a checkpoint; empty where all does, or there is none."""
    if not (checkpoint / SEAL).exists():
        return ""
    try:
        sealed = json.loads((checkpoint / SEAL).read_bytes())
        found = _digests(checkpoint)
        changed = [name for name in sorted(sealed.keys() | found.keys()) if sealed.get(name) != found.get(name)]
    except (OSError, ValueError, AttributeError):
        return f"{SEAL} cannot be read"
    return f"{changed[0]} is not as it was written" if changed else ""


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for path in files
    }


def _together(moment: str) -> None:
    """All processes wait for one another."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(moment)


def _but_for_late_calls(hook: Callable, unraisable: Any) -> None:
    """Of a write that has failed, which `wait` tells, TensorStore's threads still call the loop that is gone."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        hook(unraisable)


@contextlib.contextmanager
def _no_complaints() -> Generator[None]:
    """What libraries log of a damaged file is said in one line by us."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio", None)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
