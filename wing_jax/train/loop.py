"""The loop: train one network, from its newest checkpoint if there is one, and return its best variables."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from wing_jax.errors import Stopped
from wing_jax.runtime import devices, termination
from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.engines import Engine
from wing_jax.train.logs import SilentLog, TrainingLog
from wing_jax.train.state import TrainState, Variables
from wing_jax.train.steps import Metrics, normalised_error
from wing_jax.types import Batch

VALIDATION_BATCH = 64
EXPLODED = 1e6  # length of a gradient: far beyond what a loss in pixels gives while it learns
Validate = Callable[[Variables], tuple[jax.Array, jax.Array]]  # sum and count of NMEs


class Diverged(Exception):
    """The numbers of a training have gone out of hand: at which step, which of them, and its value."""

    def __init__(self, step: int, what: str, value: float):
        super().__init__(f"the {what} is {value:.3g} at step {step}")
        self.step = step


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
      InputError: the checkpoints in `folder` are of another network, or one cannot be written.
      Diverged: loss, gradient or validation are no longer finite, or the gradient explodes.
      Stopped: SIGTERM came, and the state is saved (`wing_jax.runtime.termination`).
    """
    with termination.deferred(), Checkpoints(folder / "checkpoints", keep=keep) as checkpoints:
        state, first_step = checkpoints.restore_newest(state)
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
                    measured = last % evaluate_every == 0 or last == steps
                    stopping = termination.asked()
                    if measured or stopping:
                        values, whole = means(*unread), engine.whole(placed)
                        if measured:
                            values["validation_nme"] = _mean(last, *jax.device_get(validate(whole.best_variables)))
                        log.write(last, **values)  # before the checkpoint: a kill between them must not lose the line
                        checkpoints.save(last, whole, validation_nme=values.get("validation_nme"))
                        unread, state = None, whole
                    if stopping:
                        checkpoints.wait()
                        raise Stopped(f"{title}: stopped at step {last} of {steps}, which is saved in {folder}")
        return jax.device_get(checkpoints.restore_best(state).best_variables)


def spans(first_step: int, steps: int, *, evaluate_every: int, longest: int) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive spans of at most `longest` steps; none goes past an evaluation."""
    while first_step < steps:
        last = min(first_step + longest, steps, (first_step // evaluate_every + 1) * evaluate_every)
        yield first_step, last
        first_step = last


def make_validate(model: nn.Module, validation: Batch, *, eyes: tuple[int, int], mesh: Mesh) -> Validate:
    """`variables -> (sum, count)` of the NMEs (fractions, by the distance of the two `eyes` points) over the
    validation crops, which lie on the devices from now on."""
    count = len(validation.images)
    rows = min(VALIDATION_BATCH, count)
    padding = -count % rows

    def batches(values: np.ndarray) -> np.ndarray:
        padded = np.concatenate([values, np.zeros_like(values[:1]).repeat(padding, 0)])  # hidden: they do not count
        return padded.reshape(-1, rows, *values.shape[1:])

    split = Batch(*map(batches, map(np.asarray, validation)))
    held = [devices.replicate(Batch(*(part[i] for part in split)), mesh) for i in range(-(-count // rows))]

    @jax.jit
    def measure(variables: Variables, batch: Batch):
        predicted = jnp.asarray(model.apply(variables, batch.images, train=False))
        return jnp.stack(normalised_error(predicted, batch, eyes=eyes))

    def validate(variables: Variables) -> tuple[jax.Array, jax.Array]:
        total, faces = jnp.stack([measure(variables, batch) for batch in held]).sum(0)
        return total, faces

    return validate


def means(first: int, last: int, metrics: Metrics) -> dict[str, float]:
    """Means of the metrics over the steps after `first`, without those that no step has measured.

    Raises:
      Diverged: a loss or a gradient is not finite, or a gradient is longer than EXPLODED.
    """
    pairs = jax.device_get(metrics)
    for name, limit in (("loss", np.inf), ("gradient_norm", EXPLODED)):
        fine = np.isfinite(pairs[name][0]) & (pairs[name][0] < limit)
        if not fine.all():
            at = int(np.argmin(fine))
            raise Diverged(first + 1 + at, name.replace("_", " "), float(pairs[name][0][at]))
    return {name: float(sums.sum() / counts.sum()) for name, (sums, counts) in pairs.items() if counts.sum() > 0}


def _mean(step: int, total: np.ndarray, count: np.ndarray) -> float:
    """The mean validation NME after `step`. Raises Diverged where the parameters no longer give one."""
    mean = float(total / max(count, 1))
    if not np.isfinite(mean):
        raise Diverged(step, "validation NME", mean)
    return mean
