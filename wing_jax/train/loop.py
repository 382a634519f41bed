"""The loop: train one network, from its newest checkpoint if there is one, and return its best variables."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Bool, Float, UInt8

from wing_jax.errors import InputError
from wing_jax.train import devices
from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.engines import Engine
from wing_jax.train.logs import SilentLog, TrainingLog
from wing_jax.train.state import TrainState, Variables
from wing_jax.train.steps import Metrics, normalised_error

VALIDATION_BATCH = 64
Validate = Callable[[Variables], tuple[jax.Array, jax.Array]]  # sum and count of NMEs


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
    engine: Engine,
    validate: Validate,
    steps: int,
    batch_size: int,
    evaluate_every: int,
    log_every: int,
    keep: int,
) -> Variables:
    """Train from `state` for `steps` steps, logging their means every `log_every` of them.

    Every `evaluate_every` steps, and at the end, the variables are measured by `validate` and a checkpoint is written
    below `folder`. Returns the variables of the checkpoint with the lowest validation NME.

    Raises:
      InputError: the checkpoints in `folder` are of another network, or the loss is no longer finite.
    """
    with Checkpoints(folder / "checkpoints", keep=keep) as checkpoints:
        state, first_step = _resume(checkpoints, state)
        if first_step < steps:
            said = {"title": title, "first_step": first_step, "steps": steps, "batch_size": batch_size}
            with (TrainingLog if devices.is_first_process() else SilentLog)(folder, **said) as log:
                placed, unread = engine.place(state), None
                for first, last in spans(first_step, steps, evaluate_every=evaluate_every, longest=log_every):
                    placed, metrics = engine.advance(placed, first, last)
                    if first == first_step:
                        log.tell_compiled(engine.compile_seconds)
                    if unread is not None:  # of the span before, while the device works on this one
                        log.write(unread[1], **means(*unread))
                    unread = (first, last, metrics)
                    if last % evaluate_every == 0 or last == steps:
                        values, whole = means(*unread), engine.whole(placed)
                        total, count = jax.device_get(validate(whole.best_variables))
                        values["validation_nme"] = float(total / max(count, 1))
                        log.write(last, **values)  # before the checkpoint: a kill between them must not lose the line
                        checkpoints.save(last, whole, validation_nme=values["validation_nme"])
                        unread, state = None, whole
        best = checkpoints.best
        assert best is not None
        return jax.device_get(checkpoints.restore(best, state).best_variables)


def spans(first_step: int, steps: int, *, evaluate_every: int, longest: int) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive spans of at most `longest` steps; none goes past an evaluation."""
    while first_step < steps:
        last = min(first_step + longest, steps, (first_step // evaluate_every + 1) * evaluate_every)
        yield first_step, last
        first_step = last


def make_validate(model: nn.Module, validation: ValidationSet, *, eyes: tuple[int, int], mesh: Mesh) -> Validate:
    """`variables -> (sum, count)` of the NMEs (fractions, by the distance of the two `eyes` points) over the
    validation crops, which lie on the devices from now on."""
    count = len(validation.images)
    rows = min(VALIDATION_BATCH, count)
    padding = -count % rows

    def batches(values: np.ndarray) -> np.ndarray:
        padded = np.concatenate([values, np.zeros_like(values[:1]).repeat(padding, 0)])  # hidden: they do not count
        return padded.reshape(-1, rows, *values.shape[1:])

    split = {name: batches(getattr(validation, name)) for name in ("images", "points", "visible")}
    held = [
        devices.replicate({name: batch[i] for name, batch in split.items()}, mesh) for i in range(-(-count // rows))
    ]

    @jax.jit
    def measure(variables: Variables, batch: dict):
        predicted = jnp.asarray(model.apply(variables, batch["images"], train=False))
        return jnp.stack(normalised_error(predicted, batch, eyes=eyes))

    def validate(variables: Variables) -> tuple[jax.Array, jax.Array]:
        total, faces = jnp.stack([measure(variables, batch) for batch in held]).sum(0)
        return total, faces

    return validate


def means(first: int, last: int, metrics: Metrics) -> dict[str, float]:
    """Means of the metrics over the steps after `first`, without those that no step has measured.

    Raises:
      InputError: a loss is not finite.
    """
    pairs = jax.device_get(metrics)
    losses = pairs["loss"][0]
    if not np.isfinite(losses).all():
        step = first + 1 + int(np.argmin(np.isfinite(losses)))
        raise InputError(
            f"the loss is not finite at step {step}: lower the learning rate, or set optimizer.clip; "
            "the checkpoints before that step are kept"
        )
    return {name: float(sums.sum() / counts.sum()) for name, (sums, counts) in pairs.items() if counts.sum() > 0}


def _resume(checkpoints: Checkpoints, state: TrainState) -> tuple[TrainState, int]:
    newest = checkpoints.newest
    return (state, 0) if newest is None else (checkpoints.restore(newest, state), newest)
