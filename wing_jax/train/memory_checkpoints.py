"""Checkpoints of a training run that has no folder: the best variables, in the host's memory."""

import dataclasses
from pathlib import Path

import jax

from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.state import TrainState


class MemoryCheckpoints:
    """The interface of `wing_jax.train.checkpoints.Checkpoints` without a disk. Keeps only the best state."""

    def __init__(self) -> None:
        self._best: tuple[float, TrainState] | None = None

    def __enter__(self) -> "MemoryCheckpoints":
        return self

    def __exit__(self, *_) -> None:
        pass

    def restore_newest(self, like: TrainState) -> tuple[TrainState, int]:
        """Return `like` and 0: nothing was saved before."""
        return like, 0

    def save(self, step: int, state: TrainState, *, validation_nme: float | None = None) -> None:
        """Copy the variables to the host if they are the best so far."""
        if validation_nme is not None and (self._best is None or validation_nme < self._best[0]):
            self._best = validation_nme, jax.device_get(dataclasses.replace(state, optimizer=None))

    def wait(self) -> None:
        """Do nothing: `save` is synchronous."""

    def restore_best(self, like: TrainState) -> TrainState:
        """Return the state with the lowest validation NME; `like` if none was measured."""
        return like if self._best is None else self._best[1]


def open_checkpoints(folder: Path | None, *, keep: int) -> Checkpoints | MemoryCheckpoints:
    """Return the checkpoints of a training run in `folder`, or in memory if it is None."""
    return MemoryCheckpoints() if folder is None else Checkpoints(folder / "checkpoints", keep=keep)
