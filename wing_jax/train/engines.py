"""What advances a training: steps that make their batches on the device, many in one program, or steps that are fed.

Both have `advance(state, first, last) -> (state, metrics)`: steps first + 1 .. last, and each metric as a pair of
arrays, sums and counts, a value a step. Nothing is waited for: the metrics can be read when the next steps run.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import P as Spec
from jax.sharding import Mesh

from wing_jax.input.on_device import DeviceInput
from wing_jax.input.sampling import BatchIndices, EpochSampler, TrainingFaces
from wing_jax.runtime import devices
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics, Step, compile_step
from wing_jax.types import Batch

Parallel = Literal["jit", "pmap"]


@runtime_checkable
class Engine(Protocol):
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


class _Placing:
    """Where a training's state lies, by `jit` and by `pmap`."""

    def __init__(self, mesh: Mesh, parallel: Parallel):
        self.mesh, self.parallel, self.compile_seconds = mesh, parallel, 0.0

    def place(self, state: TrainState) -> TrainState:
        """`state` on all devices of the mesh."""
        return (devices.replicate if self.parallel == "jit" else devices.replicate_for_pmap)(state, self.mesh)

    def whole(self, state: TrainState) -> TrainState:
        """The state of one replica; they are all alike."""
        return state if self.parallel == "jit" else jax.tree.map(lambda x: np.asarray(x[0]), state)

    def _first_replica(self, metrics: Metrics) -> Metrics:
        return metrics if self.parallel == "jit" else jax.tree.map(lambda x: x[0], metrics)

    def _settle(self, metrics: Metrics) -> None:
        """On several virtual CPU devices wait for each program: several in flight, each adding up over the devices,
        can lock one another out of XLA's few threads, upon which XLA aborts the process."""
        if self.mesh.size > 1 and jax.default_backend() == "cpu":
            jax.block_until_ready(metrics)

    @contextlib.contextmanager
    def _counting(self) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.compile_seconds += time.perf_counter() - start


class DeviceEngine(_Placing):
    """Steps whose batches are made in the program itself, from faces that lie on the devices; each program is of
    `steps_per_call` steps."""

    def __init__(
        self,
        step: Step,
        batches: DeviceInput,
        faces: TrainingFaces,
        *,
        mesh: Mesh,
        parallel: Parallel = "jit",
        steps_per_call: int = 1,
    ):
        super().__init__(mesh, parallel)
        self._faces, self._longest = _spread(faces, mesh, parallel), steps_per_call
        self._indices = EpochSampler(np.asarray(faces.order), batch_size=batches.batch_size, seed=batches.seed)
        self._program = make_program(step, batches, mesh=mesh, parallel=parallel)
        self._compiled: dict[int, Callable] = {}

    def advance(self, state: TrainState, first: int, last: int) -> tuple[TrainState, Metrics]:
        """A program is compiled when its length is first asked for."""
        history = []
        for start in range(first, last, self._longest):
            steps = min(self._longest, last - start)
            indices = self._indices(start, steps)
            if self.parallel == "jit":
                indices = devices.replicate(indices, self.mesh)
            if steps not in self._compiled:
                with self._counting():
                    self._compiled[steps] = self._program.lower(state, self._faces, indices).compile()
            state, metrics = self._compiled[steps](state, self._faces, indices)
            self._settle(metrics)
            history.append(metrics)
        return state, self._first_replica(_joined(history))


def make_program(step: Step, batches: DeviceInput, *, mesh: Mesh, parallel: Parallel = "jit") -> Any:
    """`(state, faces, indices) -> (state, metrics)` over all steps of the indices, not yet compiled, its state donated.
    For "pmap" the step must have been made with `axis=AXIS`.

    One step makes no loop: XLA's CPU backend convolves very slowly inside of loops (jaxlib 0.10.2).
    """
    axis = devices.AXIS if parallel == "pmap" else None
    make_batch: Callable = functools.partial(batches.batch, axis=axis) if axis else batch_maker(batches, mesh)

    def program(state: TrainState, faces: TrainingFaces, indices: BatchIndices) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, at: BatchIndices) -> tuple[TrainState, Metrics]:
            batch: Batch = make_batch(faces, at)
            return step(state, batch)

        if len(indices.index) > 1:
            return jax.lax.scan(one, state, indices)
        state, metrics = one(state, BatchIndices(*(values[0] for values in indices)))
        return state, jax.tree.map(lambda x: x[None], metrics)

    if parallel == "jit":
        return jax.jit(program, donate_argnums=0)
    spread: Any = TrainingFaces._make(0 if name == "images" else None for name in TrainingFaces._fields)
    return jax.pmap(program, axis_name=devices.AXIS, in_axes=(0, spread, None), donate_argnums=0)


def batch_maker(batches: DeviceInput, mesh: Mesh) -> Callable[[TrainingFaces, BatchIndices], Any]:
    """`batches.batch` of the whole mesh: every device makes its part of the batch from the faces of all."""
    if mesh.size == 1:
        return batches.batch
    part = functools.partial(batches.batch, axis=devices.AXIS)
    held: Any = TrainingFaces._make(
        Spec(devices.AXIS) if name == "images" else Spec() for name in TrainingFaces._fields
    )
    return jax.shard_map(part, mesh=mesh, in_specs=(held, Spec()), out_specs=Spec(devices.AXIS), check_vma=False)


def _spread(faces: TrainingFaces, mesh: Mesh, parallel: Parallel) -> TrainingFaces:
    """The images split over the devices, the rest on each."""
    images = devices.local_part(np.asarray(faces.images))
    rest = faces._replace(images=images[:0])
    if parallel == "jit":
        return devices.replicate(rest, mesh)._replace(images=devices.shard_batch(images, mesh))
    return jax.tree.map(jnp.asarray, rest)._replace(images=devices.stack_for_pmap(images, mesh))


class FedEngine(_Placing):
    """Steps fed with batches from the host: the next one is on its way to the device while a step runs."""

    def __init__(
        self, step: Step, batches: Callable[[int], Iterator[Batch]], *, mesh: Mesh, parallel: Parallel = "jit"
    ):
        super().__init__(mesh, parallel)
        self._step: Any = compile_step(step, parallel=parallel)
        self._batches = batches
        self._stream: Iterator[Batch] | None = None
        self._next: Any = None
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
                with self._counting():
                    self._compiled = self._step.lower(state, batch).compile()
            state, metrics = self._compiled(state, batch)
            self._settle(metrics)
            history.append(metrics)
            self._next = self._fetch()
        return state, self._first_replica(jax.tree.map(lambda *values: jnp.stack(values, axis=-1), *history))

    def _fetch(self) -> Batch | None:
        assert self._stream is not None
        batch = next(self._stream, None)
        if batch is None:
            return None
        split = devices.shard_batch if self.parallel == "jit" else devices.stack_for_pmap
        return split(Batch(*batch), self.mesh)


def _joined(history: list[Metrics]) -> Metrics:
    """The programs' metrics one after the other; steps are the last axis."""
    return history[0] if len(history) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), *history)
