"""The loop: train one network, from its newest checkpoint if there is one, and return its best variables."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from wing_jax.errors import TrainingInterrupted
from wing_jax.models.networks import Network, Variables
from wing_jax.runtime import devices, termination
from wing_jax.train.logs import Row, SilentLog, TrainingLog, read_history
from wing_jax.train.memory_checkpoints import open_checkpoints
from wing_jax.train.runners import Runner
from wing_jax.train.spec import Callback, Progress
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics, normalized_error
from wing_jax.types import Batch
from wing_jax.values import Value

VALIDATION_BATCH = 64
EXPLODED = 1e6  # length of a gradient: far beyond what a loss in pixels gives while it learns
Validate = Callable[[Variables], tuple[jax.Array, jax.Array]]  # sum and count of NMEs


class DivergedError(Exception):
    """The numbers of a training have gone out of hand: at which step, which of them, and its value."""

    def __init__(self, step: int, what: str, value: float):
        super().__init__(f"the {what} is {value:.3g} at step {step}")
        self.step = step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long one network is trained, and how often it is measured, logged and saved; in steps."""

    stage: int
    steps: int
    batch_size: int
    evaluate_every: int
    log_every: int
    keep: int  # newest checkpoints kept, beside the best


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Trained(Value):
    """What a loop leaves: the best variables, the rows of its log, and whether Ctrl-C ended it early."""

    variables: Variables
    history: list[Row]
    interrupted: bool = False


def train_network(
    folder: Path | None,
    *,
    state: TrainState,
    runner: Runner,
    validate: Validate,
    schedule: Schedule,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Trained:
    """Train from `state`, logging the means of the metrics every `log_every` steps.

    Every `evaluate_every` steps, and at the end, the variables are measured by `validate` and a checkpoint is written
    below `folder`, or kept in memory without one. The variables returned are those of the lowest validation NME.

    Raises:
      InputError: the checkpoints in `folder` are of another network, or one cannot be written.
      DivergedError: loss, gradient or validation are no longer finite, or the gradient explodes.
      TrainingInterrupted: SIGTERM came, and the state is saved (`wing_jax.runtime.termination`).
    """
    title, steps = f"stage {schedule.stage}", schedule.steps
    with termination.deferred(), open_checkpoints(folder, keep=schedule.keep) as checkpoints:
        state, first_step = checkpoints.restore_newest(state)
        history, ended = [] if folder is None else read_history(folder), False
        if first_step < steps:
            shown = {"title": title, "first_step": first_step, "steps": steps, "batch_size": schedule.batch_size}
            with (TrainingLog if devices.is_first_process() else SilentLog)(folder, **shown, quiet=quiet) as log:
                spans_ahead = spans(
                    first_step, steps, evaluate_every=schedule.evaluate_every, longest=schedule.log_every
                )
                recorder = _Recorder(log, callbacks, schedule)
                placed = runner.place(state)
                for first, last in spans_ahead:
                    placed, metrics = runner.advance(placed, first, last)
                    if first == first_step:
                        log.tell_compiled(runner.compile_seconds)
                    recorder.write_pending()  # of the span before, while the device works on this one
                    recorder.pending = (first, last, metrics)
                    measured = last % schedule.evaluate_every == 0 or last == steps
                    stopping, ended = termination.stop_requested(), recorder.stop or termination.interrupted()
                    if measured or stopping or ended:
                        whole, row = runner.whole(placed), means(first, last, metrics)
                        values = _measure(last, validate, whole) if measured or ended else {}
                        recorder.pending = None
                        # Before the checkpoint: a kill between them must not lose the line.
                        recorder.write(last, **row, **values)
                        checkpoints.save(last, whole, **values)
                        state = whole
                        ended = ended or recorder.stop
                    if stopping:
                        checkpoints.wait()
                        where = "" if folder is None else f", which is saved in {folder}"
                        raise TrainingInterrupted(f"{title}: stopped at step {last} of {steps}{where}")
                    if ended:
                        break
                history = log.history
        variables = jax.device_get(checkpoints.restore_best(state).best_variables)
        return Trained(variables=variables, history=history, interrupted=termination.interrupted())


class _Recorder:
    """Writes the means of each span to the log and shows them to the callbacks, one span late: reading them waits for
    the device."""

    def __init__(self, log: TrainingLog | SilentLog, callbacks: Sequence[Callback], schedule: Schedule):
        self._log, self._callbacks, self._schedule = log, callbacks, schedule
        self.pending: tuple[int, int, Metrics] | None = None
        self.stop = False  # a callback asked for it

    def write_pending(self) -> None:
        """Write the span that is waiting; nothing where none is."""
        if self.pending is not None:
            first, last, metrics = self.pending
            self.pending = None
            self.write(last, **means(first, last, metrics))

    def write(self, step: int, **values: float) -> None:
        """Write the `values` of the span that ends with `step`."""
        self._log.write(step, **values)
        progress = Progress(stage=self._schedule.stage, step=step, steps=self._schedule.steps, values=values)
        for callback in self._callbacks:
            self.stop = bool(callback(progress)) or self.stop


def spans(first_step: int, steps: int, *, evaluate_every: int, longest: int) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive spans of at most `longest` steps; none goes past an evaluation."""
    while first_step < steps:
        last = min(first_step + longest, steps, (first_step // evaluate_every + 1) * evaluate_every)
        yield first_step, last
        first_step = last


def make_validate(network: Network, validation: Batch, *, eyes: tuple[int, int], mesh: Mesh) -> Validate:
    """`variables -> (sum, count)` of the NMEs (fractions, by the distance of the two `eyes` points) over the
    validation crops, which lie on the devices from now on."""
    count = len(validation.images)
    rows = min(VALIDATION_BATCH, count)
    padding = -count % rows

    def batches(values: Any) -> np.ndarray:
        values = np.asarray(values)
        padded = np.concatenate([values, np.zeros_like(values[:1]).repeat(padding, 0)])  # not visible: do not count
        return padded.reshape(-1, rows, *values.shape[1:])

    parts = Batch(*map(batches, validation))
    placed = [devices.replicate(Batch(*(values[i] for values in parts)), mesh) for i in range(-(-count // rows))]

    @jax.jit
    def measure(variables: Variables, batch: Batch):
        predicted, _ = network.apply(variables, jnp.asarray(batch.images), train=False)
        return jnp.stack(normalized_error(predicted, batch, eyes=eyes))

    def validate(variables: Variables) -> tuple[jax.Array, jax.Array]:
        total, faces = jnp.stack([measure(variables, batch) for batch in placed]).sum(0)
        return total, faces

    return validate


def means(first: int, last: int, metrics: Metrics) -> dict[str, float]:
    """Means of the metrics over the steps after `first`, without those that no step has measured.

    Raises:
      DivergedError: a loss or a gradient is not finite, or a gradient is longer than EXPLODED.
    """
    pairs = jax.device_get(metrics)
    for name, limit in (("loss", np.inf), ("gradient_norm", EXPLODED)):
        fine = np.isfinite(pairs[name][0]) & (pairs[name][0] < limit)
        if not fine.all():
            at = int(np.argmin(fine))
            raise DivergedError(first + 1 + at, name.replace("_", " "), float(pairs[name][0][at]))
    return {name: float(sums.sum() / counts.sum()) for name, (sums, counts) in pairs.items() if counts.sum() > 0}


def _measure(step: int, validate: Validate, state: TrainState) -> dict[str, float]:
    """The mean validation NME after `step`. Raises DivergedError where the parameters no longer give one."""
    total, count = jax.device_get(validate(state.best_variables))
    mean = float(total / max(count, 1))
    if not np.isfinite(mean):
        raise DivergedError(step, "validation NME", mean)
    return {"validation_nme": mean}
