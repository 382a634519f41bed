"""The loop: train one network, from its newest checkpoint if there is one, and return its best variables."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, UInt8

from wing_jax.errors import InputError
from wing_jax.train import devices
from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.logs import TrainingLog
from wing_jax.train.state import TrainState, Variables
from wing_jax.train.steps import Batch, Predict, Step, compile_step, normalised_error

LOG_EVERY = 20  # steps
ON_DEVICE = ("images", "points", "visible")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """Fixed crops of held-out training photos."""

    images: UInt8[np.ndarray, "n size size 3"]
    points: Float[np.ndarray, "n points 2"]
    visible: Bool[np.ndarray, "n points"]


def train_network(
    folder: Path,
    *,
    title: str,
    state: TrainState,
    step: Step,
    predict: Predict,
    batches: Callable[[int], Iterator[Batch]],
    validation: ValidationSet,
    eyes: tuple[int, int],
    steps: int,
    batch_size: int,
    evaluate_every: int,
    keep: int,
    mesh: Mesh,
    parallel: Literal["jit", "pmap"] = "jit",
) -> Variables:
    """Train from `state` for `steps` steps; `batches(first_step)` gives the stream from that step on.

    Every `evaluate_every` steps, and at the end, the variables are measured on `validation` and a checkpoint is
    written below `folder`. Returns the variables of the checkpoint with the lowest validation NME.

    Raises:
      InputError: the checkpoints in `folder` are of another network, or the loss is no longer finite.
    """
    with Checkpoints(folder / "checkpoints", keep=keep) as checkpoints:
        state, first_step = _resume(checkpoints, state)
        if first_step < steps:
            compiled, state = compile_step(step, parallel=parallel), _place(state, mesh, parallel)
            with TrainingLog(folder, title=title, first_step=first_step, steps=steps, batch_size=batch_size) as log:
                stream, running = batches(first_step), []
                for number in range(first_step + 1, steps + 1):
                    state, metrics = compiled(state, _to_devices(next(stream), mesh, parallel))
                    running.append(metrics)
                    evaluates = number % evaluate_every == 0 or number == steps
                    if number % LOG_EVERY == 0 or evaluates:
                        values = _means(running, number)
                        running, whole = [], _unplace(state, parallel)
                        if evaluates:
                            values["validation_nme"] = validate(predict, whole.best_variables, validation, eyes=eyes)
                        log.write(number, **values)  # before the checkpoint: a kill between them must not lose the line
                        if evaluates:
                            checkpoints.save(number, whole, validation_nme=values["validation_nme"])
        best = checkpoints.best
        assert best is not None
        return jax.device_get(checkpoints.restore(best, _unplace(state, parallel)).best_variables)


def validate(
    predict: Predict, variables: Variables, validation: ValidationSet, *, eyes: tuple[int, int], batch_size: int = 64
) -> float:
    """Mean NME (fractions, by the distance of the two `eyes` points) over the validation crops."""
    total = count = 0.0
    for start in range(0, len(validation.images), batch_size):
        part = slice(start, start + batch_size)
        predicted = predict(variables, validation.images[part])
        batch: Batch = {"points": validation.points[part], "visible": validation.visible[part]}
        error, faces = normalised_error(predicted, batch, eyes=eyes)
        total, count = total + float(error), count + float(faces)
    return total / max(count, 1)


def _resume(checkpoints: Checkpoints, state: TrainState) -> tuple[TrainState, int]:
    newest = checkpoints.newest
    return (state, 0) if newest is None else (checkpoints.restore(newest, state), newest)


def _place(state: TrainState, mesh: Mesh, parallel: str) -> TrainState:
    if parallel == "jit":
        return devices.replicate(state, mesh)
    return devices.replicate_for_pmap(state, mesh)


def _unplace(state: TrainState, parallel: str) -> TrainState:
    stacked = parallel == "pmap" and np.ndim(state.step) == 1
    return jax.tree.map(lambda x: x[0], state) if stacked else state


def _to_devices(batch: Batch, mesh: Mesh, parallel: str) -> Batch:
    batch = {name: batch[name] for name in ON_DEVICE}
    return devices.shard_batch(batch, mesh) if parallel == "jit" else devices.stack_for_pmap(batch, mesh)


def _means(running: list, number: int) -> dict[str, float]:
    """Means over the steps since the last record. Raises InputError where the loss is not finite."""
    pairs = jax.device_get(running)
    sums, counts = ({name: [np.ravel(step[name][i])[0] for step in pairs] for name in pairs[0]} for i in (0, 1))
    if not math.isfinite(sum(sums["loss"])):
        first = number - len(pairs) + 1 + next(i for i, value in enumerate(sums["loss"]) if not math.isfinite(value))
        raise InputError(
            f"the loss is not finite at step {first}: lower the learning rate, or set optimizer.clip; "
            "the checkpoints before that step are kept"
        )
    return {name: float(sum(sums[name]) / max(sum(counts[name]), 1e-9)) for name in sums}
