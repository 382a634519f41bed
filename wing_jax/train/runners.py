"""What advances a training: steps that make their batches on the device, many in one program, or steps that are fed.

Both have `advance(state, first, last) -> (state, metrics)`: steps first + 1 .. last, and each metric as a pair of
arrays, sums and counts, a value a step. Nothing is waited for: the metrics can be read when the next steps run.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from wing_jax.input.on_device import DeviceInput
from wing_jax.input.sampling import BatchIndices, EpochSampler, TrainingFaces
from wing_jax.runtime import devices
from wing_jax.runtime.devices import AXIS
from wing_jax.train.replicas import Replicas
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics, Step
from wing_jax.types import Batch


@runtime_checkable
class Runner(Protocol):
    """What the loop drives."""

    compile_seconds: float

    def place(self, state: TrainState) -> TrainState:
        """`state` on the devices, as `advance` takes it."""
        ...

    def whole(self, state: TrainState) -> TrainState:
        """A placed state as one, whatever it is spread over."""
        ...

    def advance(self, state: TrainState, first: int, last: int) -> tuple[TrainState, Metrics]:
        """The state after step `last` (it is given away), and the metrics of each step since `first`."""
        ...


class _OnReplicas:
    """Where a training's state lies, and what its programs took to compile."""

    def __init__(self, replicas: Replicas):
        self._replicas, self.compile_seconds = replicas, 0.0

    def place(self, state: TrainState) -> TrainState:
        """`state` on all devices of the mesh."""
        return self._replicas.place_state(state)

    def whole(self, state: TrainState) -> TrainState:
        """The state of one replica; they are all alike."""
        return self._replicas.whole_state(state)

    @contextlib.contextmanager
    def _count_compile_time(self) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.compile_seconds += time.perf_counter() - start


class DeviceInputRunner(_OnReplicas):
    """Steps whose batches are made in the program itself, from faces that lie on the devices; each program is of
    `steps_per_call` steps."""

    def __init__(
        self, step: Step, batches: DeviceInput, faces: TrainingFaces, *, replicas: Replicas, steps_per_call: int = 1
    ):
        super().__init__(replicas)
        self._longest = steps_per_call
        self._faces = _place_faces(faces, replicas)
        self._sampler = EpochSampler(np.asarray(faces.order), batch_size=batches.batch_size, seed=batches.seed)
        self._program = make_program(step, batches, replicas=replicas)
        self._compiled: dict[int, Callable] = {}

    def advance(self, state: TrainState, first: int, last: int) -> tuple[TrainState, Metrics]:
        """A program is compiled when its length is first asked for."""
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
    """`(state, faces, indices) -> (state, metrics)` over all steps of the indices, not yet compiled, its state donated.

    One step makes no loop: XLA's CPU backend convolves very slowly inside of loops (jaxlib 0.10.2).
    """

    def program(state: TrainState, faces: TrainingFaces, indices: BatchIndices) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, chosen: BatchIndices) -> tuple[TrainState, Metrics]:
            return step(state, batches.batch(faces, chosen, axis=AXIS))

        if len(indices.index) > 1:
            return jax.lax.scan(one, state, indices)
        state, metrics = one(state, BatchIndices(*(values[0] for values in indices)))
        return state, jax.tree.map(lambda x: x[None], metrics)

    return replicas.compile(program, split=(_faces_split(), False))


def _faces_split() -> TrainingFaces:
    """The images are split over the devices, the rest is on each."""
    return TrainingFaces._make(name == "images" for name in TrainingFaces._fields)


def _place_faces(faces: TrainingFaces, replicas: Replicas) -> TrainingFaces:
    images = devices.local_part(np.asarray(faces.images))
    return replicas.replicate(faces._replace(images=images[:0]))._replace(images=replicas.split(images))


class HostInputRunner(_OnReplicas):
    """Steps fed with batches from the host: the next one is on its way to the device while a step runs."""

    def __init__(self, step: Step, batches: Callable[[int], Iterator[Batch]], *, replicas: Replicas):
        super().__init__(replicas)
        self._step: Any = replicas.compile(step, split=(True,))
        self._batches = batches
        self._stream: Iterator[Batch] | None = None
        self._next: Batch | None = None
        self._compiled: Callable | None = None

    def advance(self, state: TrainState, first: int, last: int) -> tuple[TrainState, Metrics]:
        """One program a step. The stream starts at the first step that is asked for, and goes on from there."""
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
    """The programs' metrics one after the other; steps are the last axis."""
    return history[0] if len(history) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), *history)
