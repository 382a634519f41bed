"""The training loop of one network: from its newest checkpoint, if there is one, to its best variables."""

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
LARGEST_GRADIENT_NORM = 1e6  # far above the gradients of a converging run with a loss in pixels
Validate = Callable[[Variables], tuple[jax.Array, jax.Array]]  # sum and count of NMEs


class DivergedError(Exception):
    """A training run diverged: the step, the name of the quantity, and its value."""

    def __init__(self, step: int, quantity: str, value: float):
        super().__init__(f"the {quantity} is {value:.3g} at step {step}")
        self.step = step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long one network is trained, and how often it is validated, logged and saved, in steps."""

    stage: int
    steps: int
    batch_size: int
    evaluate_every: int
    log_every: int
    keep: int  # number of newest checkpoints to keep; the best one is also kept


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LoopResult(Value):
    """The best variables, the rows of the log, and whether Ctrl-C ended the training early."""

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
) -> LoopResult:
    """Train from `state`, or from the newest checkpoint, and log the means of the metrics every `log_every` steps.

    Every `evaluate_every` steps and at the end, the variables are validated by `validate` and saved in a checkpoint, in
    `folder` or in memory. The variables with the lowest validation NME are returned.

    Raises:
      InputError: the checkpoints in `folder` are of a different network, or one cannot be written.
      DivergedError: the loss, gradient or validation NME is not finite, or the gradient explodes.
      TrainingInterrupted: SIGTERM arrived, and the state is saved (`wing_jax.runtime.termination`).
    """
    title, steps = f"stage {schedule.stage}", schedule.steps
    with termination.deferred(), open_checkpoints(folder, keep=schedule.keep) as checkpoints:
        state, first_step = checkpoints.restore_newest(state)
        history, ended = [] if folder is None else read_history(folder), False
        if first_step < steps:
            log_options = {"title": title, "first_step": first_step, "steps": steps, "batch_size": schedule.batch_size}
            with (TrainingLog if devices.is_first_process() else SilentLog)(folder, **log_options, quiet=quiet) as log:
                remaining_spans = spans(
                    first_step, steps, evaluate_every=schedule.evaluate_every, longest=schedule.log_every
                )
                recorder = _Recorder(log, callbacks, schedule)
                placed = runner.place(state)
                for first, last in remaining_spans:
                    placed, metrics = runner.advance(placed, first, last)
                    if first == first_step:
                        log.report_compile_time(runner.compile_seconds)
                    recorder.write_pending()  # the previous span, while the device computes this one
                    recorder.pending = (first, last, metrics)
                    is_validation = last % schedule.evaluate_every == 0 or last == steps
                    stopping, ended = termination.stop_requested(), recorder.stop or termination.interrupted()
                    if is_validation or stopping or ended:
                        state, row = runner.whole(placed), means(first, last, metrics)
                        with log.paused():
                            values = _measure(last, validate, state) if is_validation or ended else {}
                        recorder.pending = None
                        # Log before saving: if the process is killed in between, the line is not lost.
                        recorder.write(last, **row, **values)
                        checkpoints.save(last, state, **values)
                        ended = ended or recorder.stop
                    if stopping:
                        checkpoints.wait()
                        location = "" if folder is None else f", which is saved in {folder}"
                        raise TrainingInterrupted(f"{title}: stopped at step {last} of {steps}{location}")
                    if ended:
                        break
                history = log.history
        variables = jax.device_get(checkpoints.restore_best(state).best_variables)
        return LoopResult(variables=variables, history=history, interrupted=termination.interrupted())


class _Recorder:
    """Logs the means of each span and calls the callbacks.

    It is one span behind, because reading metrics waits for the device.
    """

    def __init__(self, log: TrainingLog | SilentLog, callbacks: Sequence[Callback], schedule: Schedule):
        self._log, self._callbacks, self._schedule = log, callbacks, schedule
        self.pending: tuple[int, int, Metrics] | None = None
        self.stop = False  # True once a callback has returned True

    def write_pending(self) -> None:
        """Write the pending span, if there is one."""
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
    """Yield (first, last) of consecutive spans of at most `longest` steps, each ending at an evaluation or before."""
    while first_step < steps:
        last = min(first_step + longest, steps, (first_step // evaluate_every + 1) * evaluate_every)
        yield first_step, last
        first_step = last


def make_validate(network: Network, validation: Batch, *, eyes: tuple[int, int], mesh: Mesh) -> Validate:
    """Return a function `variables -> (sum, count)` of the NMEs over the validation crops.

    The NMEs are fractions of the distance of the two `eyes` points. The crops are copied to the devices once.
    """
    count = len(validation.images)
    rows = min(VALIDATION_BATCH, count)
    padding = -count % rows

    def batches(values: Any) -> np.ndarray:
        values = np.asarray(values)
        padded = np.concatenate([values, np.zeros_like(values[:1]).repeat(padding, 0)])  # the padding is not visible
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
    """Return the means of the metrics over the steps after `first`, without metrics that no step has measured.

    Raises:
      DivergedError: a loss or gradient is not finite, or a gradient's norm is above `LARGEST_GRADIENT_NORM`.
    """
    pairs = jax.device_get(metrics)
    for name, limit in (("loss", np.inf), ("gradient_norm", LARGEST_GRADIENT_NORM)):
        valid = np.isfinite(pairs[name][0]) & (pairs[name][0] < limit)
        if not valid.all():
            index = int(np.argmin(valid))
            raise DivergedError(first + 1 + index, name.replace("_", " "), float(pairs[name][0][index]))
    return {name: float(sums.sum() / counts.sum()) for name, (sums, counts) in pairs.items() if counts.sum() > 0}


def _measure(step: int, validate: Validate, state: TrainState) -> dict[str, float]:
    """Return the mean validation NME after `step`. Raises DivergedError if it is not finite."""
    total, count = jax.device_get(validate(state.best_variables))
    mean = float(total / max(count, 1))
    if not np.isfinite(mean):
        raise DivergedError(step, "validation NME", mean)
    return {"validation_nme": mean}
