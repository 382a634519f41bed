"""Checkpoints by Orbax: the newest and the best; resuming takes the newest that is whole."""

import functools
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from wing_jax.errors import InputError
from wing_jax.train.state import TrainState

logging.getLogger("absl").setLevel(logging.ERROR)
METRIC = "validation_nme"


class Checkpoints:
    """The checkpoints of one stage, in one folder. Use as a context manager, so that the last write is finished."""

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self.folder, self._keep = Path(folder).absolute(), keep

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
        return self

    def __exit__(self, *_) -> None:
        if "_saver" in vars(self):
            self._saver.close()

    @property
    def newest(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        if not self.folder.exists():
            return None
        return None if self._saver.latest is None else self._saver.latest.step

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation NME."""
        measured = [c for c in self._saver.checkpoints if c.metrics and METRIC in c.metrics]
        return min(measured, key=lambda c: c.metrics[METRIC]).step if measured else None

    def save(self, step: int, state: TrainState, *, validation_nme: float) -> None:
        """Write `state` in the background, from a copy: the next step is given the state's own memory."""
        self._saver.save_async(step, jax.tree.map(jnp.copy, state), metrics={METRIC: float(validation_nme)})

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved at `step`, in the shapes and on the devices of `like`.

        Raises:
          InputError: the checkpoint was written by another network (another scheme, say) or optimiser.
        """
        self._saver.wait()
        self._check_shapes(step, like)
        return self._saver.load(step, like)

    def _check_shapes(self, step: int, like: TrainState) -> None:
        saved = _shapes(self._saver.metadata(step).metadata["variables"])
        wanted = _shapes(like.variables)
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise InputError(
                    f"{self.folder / str(step)}: this checkpoint is of another network: {name} is {saved.get(name)}"
                    f" there and {wanted.get(name)} in the config; use the config it was trained with, or another"
                    " --name to start afresh"
                )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
