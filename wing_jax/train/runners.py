"""Runners of training steps: many steps in one program with batches made on the device, or steps fed by the host.

Both have `advance(state, first, last) -> (state, metrics)`, which runs steps first + 1 .. last. Each metric is a pair
of arrays, sums and counts, with a value per step. `advance` does not wait for the device: read the metrics while the
next steps run.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from wing_jax.input.on_device import DeviceInput, TrainingFaces
from wing_jax.input.sampling import BatchIndices, EpochSampler
from wing_jax.runtime import devices
from wing_jax.runtime.devices import AXIS
from wing_jax.train.replicas import Replicas
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics, Step
from wing_jax.types import Batch


@runtime_checkable
class Runner(Protocol):
    """The interface of a runner, as the loop uses it."""

    compile_seconds: float

    def place(self, state: TrainState) -> TrainState:
        """Copy `state` to the devices, in the form that `advance` takes."""
        ...

    def whole(self, state: TrainState) -> TrainState:
        """Return a placed state as one `TrainState`, independent of the devices it is on."""
        ...

    def advance(self, state: TrainState, first: int, last: int) -> tuple[TrainState, Metrics]:
        """Run steps `first` + 1 .. `last`. Return the new state and each step's metrics; `state` is donated."""
        ...


class _ReplicaRunner:
    """The placement of the state on the replicas, and the compile time of the programs."""

    def __init__(self, replicas: Replicas):
        self._replicas, self.compile_seconds = replicas, 0.0

    def place(self, state: TrainState) -> TrainState:
        """Copy `state` to all devices of the mesh."""
        return self._replicas.place_state(state)

    def whole(self, state: TrainState) -> TrainState:
        """Return the state of one replica; all replicas have the same."""
        return self._replicas.whole_state(state)

    @contextlib.contextmanager
    def _count_compile_time(self) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.compile_seconds += time.perf_counter() - start


class DeviceInputRunner(_ReplicaRunner):
    """Runs programs of `steps_per_call` steps, each of which makes its batch from the faces in device memory."""

    def __init__(
        self, step: Step, batches: DeviceInput, faces: TrainingFaces, *, replicas: Replicas, steps_per_call: int = 1
    ):
        super().__init__(replicas)
        self._longest = steps_per_call
        self._faces = _place_faces(faces, replicas, split=batches.split)
        self._sampler = EpochSampler(np.asarray(faces.order), batch_size=batches.batch_size, seed=batches.seed)
        self._program = make_program(step, batches, replicas=replicas)
        self._compiled: dict[int, Callable] = {}

    def advance(self, state: TrainState, first: int, last: int) -> tuple[TrainState, Metrics]:
        """Run steps `first` + 1 .. `last`. A program is compiled the first time its number of steps is needed."""
        history = []
        for start in range(first, last, self._longest):
            steps = min(self._longest, last - start)
            indices = self._replicas.replicate(self._sampler(start, steps))
            if steps not in self._compiled:
                with self._count_compile_time():
                    self._compiled[steps] = self._program.lower(state, self._faces, indices).compile()
            state, metrics = self._compiled[steps](state, self._faces, indices)
            self._replicas.wait(metrics)
            history.append(metrics)
        return state, self._replicas.first_metrics(_join(history))


def make_program(step: Step, batches: DeviceInput, *, replicas: Replicas) -> Any:
    """Return `(state, faces, indices) -> (state, metrics)` over all steps of the indices, jitted, its state donated.

    A single step is not wrapped in `lax.scan`: XLA's CPU backend convolves very slowly inside loops (jaxlib 0.10.2).
    """

    def program(state: TrainState, faces: TrainingFaces, indices: BatchIndices) -> tuple[TrainState, Metrics]:
        def run_step(state: TrainState, step_indices: BatchIndices) -> tuple[TrainState, Metrics]:
            with jax.named_scope("input"):
                batch = batches.batch(faces, step_indices, axis=AXIS)
            return step(state, batch)

        if len(indices.index) > 1:
            return jax.lax.scan(run_step, state, indices)
        state, metrics = run_step(state, BatchIndices(*(values[0] for values in indices)))
        return state, jax.tree.map(lambda x: x[None], metrics)

    split = TrainingFaces._make(batches.split and name == "images" for name in TrainingFaces._fields)
    return replicas.compile(program, split=(split, False))


def _place_faces(faces: TrainingFaces, replicas: Replicas, *, split: bool) -> TrainingFaces:
    if not split:
        return replicas.replicate(faces)
    images = devices.local_part(np.asarray(faces.images))
    return replicas.replicate(faces._replace(images=images[:0]))._replace(images=replicas.split(images))


class HostInputRunner(_ReplicaRunner):
    """Runs steps with batches from the host; the next batch is copied to the device while a step runs."""

    def __init__(self, step: Step, batches: Callable[[int], Iterator[Batch]], *, replicas: Replicas):
        super().__init__(replicas)
        self._step: Any = replicas.compile(step, split=(True,))
        self._batches = batches
        self._stream: Iterator[Batch] | None = None
        self._next: Batch | None = None
        self._compiled: Callable | None = None

    def advance(self, state: TrainState, first: int, last: int) -> tuple[TrainState, Metrics]:
        """Run steps `first` + 1 .. `last`, one program per step. The first call starts the stream of batches."""
        if self._stream is None:
            self._stream = self._batches(first)
            self._next = self._fetch()
        history = []
        for _ in range(first, last):
            batch = self._next
            if self._compiled is None:
                with self._count_compile_time():
                    self._compiled = self._step.lower(state, batch).compile()
            state, metrics = self._compiled(state, batch)
            self._replicas.wait(metrics)
            history.append(metrics)
            self._next = self._fetch()
        return state, self._replicas.first_metrics(jax.tree.map(lambda *values: jnp.stack(values, axis=-1), *history))

    def _fetch(self) -> Batch | None:
        assert self._stream is not None
        batch = next(self._stream, None)
        return None if batch is None else self._replicas.split(batch)


def _join(history: list[Metrics]) -> Metrics:
    """Concatenate the metrics of several programs along their last axis, the steps."""
    return history[0] if len(history) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), *history)
