"""Many runs as one program: the first stage trained with several seeds, losses, lengths and learning rates at once.

All runs see the same perturbed batches, made once, and share one compilation: what differs between them is data. A run
of a sweep is the run that `wing-jax train` would make of it with the sweep's seed for its batches. There are three ways
to compute it: by `vmap` (convolutions become grouped ones), by `scan` over the runs within the program, and by turns of
one compiled step, which is what XLA's CPU backend does best.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import P as Spec
from jax.sharding import Mesh
from jaxtyping import Array, Float

from wing_jax import losses
from wing_jax.config import GridConfig, LossConfig, StageConfig
from wing_jax.input.on_device import DeviceInput
from wing_jax.input.sampling import BatchIndices, EpochSampler, TrainingFaces
from wing_jax.losses.units import own_reference_size, parameters
from wing_jax.runtime import devices
from wing_jax.train.stage import StageTask, given_lengths, make_loss
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics, make_train_step
from wing_jax.types import Batch

TRIAL = 3  # steps by which the ways are compared
TRACED = ("width", "epsilon")  # lengths of losses that are data, so that runs that differ in them share a program


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep."""

    seed: int
    loss: LossConfig
    learning_rate: float

    @property
    def label(self) -> str:
        """A name for files. The reference size is in it for losses whose lengths are not pixels of 64 by default."""
        lengths = [f"{name[0]}{value:g}" for name, value in self.lengths.items()]
        others = [f"{name}{value:g}" for name, value in given_lengths(self.loss).items() if name not in TRACED]
        if (size := own_reference_size(self.loss.name)) != own_reference_size("wing"):
            others.append(f"of{self.loss.reference_size or size}")
        return "-".join([self.loss.name, *lengths, *others, f"lr{self.learning_rate:g}", f"seed{self.seed}"])

    @property
    def lengths(self) -> dict[str, float]:
        """Those of width and epsilon that the loss has, in pixels of its reference size."""
        known = parameters(self.loss.name)
        given = {name: getattr(self.loss, name) for name in TRACED if name in known}
        return {name: float(known[name] if value is None else value) for name, value in given.items()}

    @property
    def form(self) -> LossConfig:
        """The loss without the lengths that are data: what is compiled for it."""
        return dataclasses.replace(self.loss, width=None, epsilon=None)


class Numbers(NamedTuple):
    """What differs between the runs, as arrays: `[runs]`, or scalars of one run."""

    seed: Any  # of dropout
    loss: Any  # index among the forms of losses of the sweep
    width: Any  # pixels of the loss's reference size
    epsilon: Any  # pixels of the loss's reference size
    rate: Any  # learning rate by the schedule's own


def cells_of(stage: StageConfig, grid: GridConfig, *, seed: int) -> list[Cell]:
    """All runs of the grid, each once; `seed` is for a grid without seeds. The stage's own loss has the parameters that
    the stage gives it, any other loss its own defaults; the grid's lengths, of both, are pixels of the loss's own
    reference size.

    Raises:
      InputError: a loss does not take these lengths.
    """
    cells: dict[Cell, None] = {}
    axes = (
        grid.losses or (stage.loss.name,),
        grid.widths or (None,),
        grid.epsilons or (None,),
        grid.learning_rates or (stage.optimizer.learning_rate,),
        grid.seeds or (seed,),
    )
    for name, width, epsilon, rate, number in itertools.product(*axes):
        taken, own = parameters(name), stage.loss
        base = own if name == own.name else LossConfig(name=name, reduction=own.reduction)
        asked = {"width": width, "epsilon": epsilon}
        lengths: dict[str, Any] = {key: value for key, value in asked.items() if key in taken and value is not None}
        loss = dataclasses.replace(base, **lengths)
        make_loss(dataclasses.replace(stage, loss=loss))
        cells[Cell(seed=number, loss=loss, learning_rate=rate)] = None
    return list(cells)


class SweepEngine:
    """Advances all runs together; their states are one `TrainState` with the runs as its leading axis."""

    def __init__(self, task: StageTask, cells: list[Cell], *, seed: int, mesh: Mesh, how: str):
        self.compile_seconds = 0.0
        self.how, self._mesh, self._task, self._cells = how, mesh, task, cells
        self._input, faces = task.device_input(seed=seed), task.faces()
        self._faces = devices.replicate(faces, mesh)
        self._indices = EpochSampler(
            np.asarray(faces.order), batch_size=task.stage.batch_size, seed=task.data_seed(seed)
        )
        self._numbers, step = numbers_of(task, cells), cell_step(task, cells)
        self._padded = -len(cells) % mesh.size
        if how == "turns":
            self._make_batch = jax.jit(self._input.batch)
            self._step: Any = jax.jit(step, donate_argnums=0)
        else:
            self._step = sweep_program(step, self._input, how=how, mesh=mesh)
        self._compiled: dict[int, Callable] = {}

    def place(self, state: TrainState | None = None) -> Any:
        """The runs' states on the devices: those of `state`, or untrained ones."""
        state = self.untrained() if state is None else state
        if self.how == "turns":
            return [jax.tree.map(lambda x, i=i: jnp.array(x[i]), state) for i in range(len(self._cells))]
        return devices.shard_batch(self._pad(state), self._mesh)

    def whole(self, states: Any) -> TrainState:
        """The states as one, with the runs as leading axis."""
        if self.how == "turns":
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return jax.tree.map(lambda x: x[: len(self._cells)], states)

    def untrained(self) -> TrainState:
        """The first states, each by its run's seed."""
        drawn = {seed: self._task.state(seed=seed) for seed in {cell.seed for cell in self._cells}}
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(drawn[cell.seed] for cell in self._cells))

    def advance(self, states: Any, first: int, last: int) -> tuple[Any, Metrics]:
        """The states after step `last` (they are given away), and the metrics of each step and run."""
        indices = self._indices(first, last - first)
        if self.how == "turns":
            return self._take_turns(states, indices, last - first)
        arguments = (states, self._pad(self._numbers), self._faces, devices.replicate(indices, self._mesh))
        if last - first not in self._compiled:
            start = time.perf_counter()
            self._compiled[last - first] = self._step.lower(*arguments).compile()
            self.compile_seconds += time.perf_counter() - start
        states, metrics = self._compiled[last - first](*arguments)
        return states, jax.tree.map(lambda x: x[:, : len(self._cells)], metrics)

    def _take_turns(self, states: list, indices: BatchIndices, steps: int) -> tuple[list, Metrics]:
        history = []
        for number in range(steps):
            batch = self._make_batch(self._faces, BatchIndices(*(values[number] for values in indices)))
            turns = [self._step(state, batch, self._one(i)) for i, state in enumerate(states)]
            states = [state for state, _ in turns]
            history.append(jax.tree.map(lambda *x: jnp.stack(x), *(metrics for _, metrics in turns)))
        return states, jax.tree.map(lambda *x: jnp.stack(x), *history)

    def _one(self, index: int) -> Numbers:
        return Numbers(*(values[index] for values in self._numbers))

    def _pad(self, tree: Any) -> Any:
        """Runs added, copies of the first, until all devices have as many."""
        if not self._padded:
            return tree
        return jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[:1], self._padded, 0)]), tree)


def numbers_of(task: StageTask, cells: list[Cell]) -> Numbers:
    """The runs' numbers as arrays `[runs]`."""
    forms = loss_forms(cells)
    return Numbers(
        seed=np.array([task.data_seed(cell.seed) for cell in cells], np.int32),
        loss=np.array([forms.index(cell.form) for cell in cells], np.int32),
        width=np.array([cell.lengths.get("width", 1.0) for cell in cells], np.float32),
        epsilon=np.array([cell.lengths.get("epsilon", 1.0) for cell in cells], np.float32),
        rate=np.array([cell.learning_rate / task.stage.optimizer.learning_rate for cell in cells], np.float32),
    )


def loss_forms(cells: list[Cell]) -> list[LossConfig]:
    """The losses of the sweep, each once, without the lengths that are data."""
    return list(dict.fromkeys(cell.form for cell in cells))


def cell_step(task: StageTask, cells: list[Cell]) -> Callable[[TrainState, Batch, Numbers], tuple[TrainState, Metrics]]:
    """The training step of one run, its numbers being data."""
    stage, forms = task.stage, loss_forms(cells)

    def value(predicted: Array, target: Array, numbers: Numbers) -> Float[Array, "*shape"]:
        def one(form: LossConfig) -> Callable:
            taken = parameters(form.name)
            traced = {key: getattr(numbers, key) for key in TRACED if key in taken}
            return losses.make_loss(
                form.name,
                reference_size=form.reference_size,
                working_extent=float(stage.input_size),
                **given_lengths(form),
                **traced,
            )

        return jax.lax.switch(numbers.loss, [one(form) for form in forms], predicted, target)

    def step(state: TrainState, batch: Batch, numbers: Numbers) -> tuple[TrainState, Metrics]:
        scaled = make_train_step(
            task.model(),
            _faster(task.optimizer(), numbers.rate),
            functools.partial(value, numbers=numbers),
            reduction=stage.loss.reduction,
            eyes=task.eyes,
            ema=stage.optimizer.ema,
            seed=numbers.seed,
        )
        return scaled(state, batch)

    return step


def _faster(rule: optax.GradientTransformation, rate: Array) -> optax.GradientTransformation:
    """The rule with all its learning rates times `rate`: its updates are proportional to them."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = rule.update(updates, state, params)
        return jax.tree.map(lambda x: rate * x, updates), state

    return optax.GradientTransformation(rule.init, update)


def sweep_program(step: Callable, batches: DeviceInput, *, how: str, mesh: Mesh) -> Any:
    """`(states, numbers, faces, indices) -> (states, metrics [steps, runs])`, not yet compiled, the states donated; the
    runs are split over the devices of the mesh, each of which makes the whole batch."""

    def program(
        states: TrainState, numbers: Numbers, faces: TrainingFaces, indices: BatchIndices
    ) -> tuple[TrainState, Metrics]:
        def one(states: TrainState, at: BatchIndices) -> tuple[TrainState, Metrics]:
            batch = batches.batch(faces, at)
            if how == "vmap":
                return jax.vmap(step, in_axes=(0, None, 0))(states, batch, numbers)
            return jax.lax.map(lambda run: step(run[0], batch, run[1]), (states, numbers))

        return jax.lax.scan(one, states, indices)

    if mesh.size > 1:
        runs, same = Spec(devices.AXIS), Spec()
        out = (runs, Spec(None, devices.AXIS))
        program = jax.shard_map(program, mesh=mesh, in_specs=(runs, runs, same, same), out_specs=out, check_vma=False)
    return jax.jit(program, donate_argnums=0)


def fastest(make: Callable[[str], SweepEngine], *, ways: tuple[str, ...] = ("vmap", "scan")) -> dict[str, float]:
    """Seconds a step takes by each of the `ways`, compilation apart."""
    seconds = {}
    for how in ways:
        engine = make(how)
        states, _ = engine.advance(engine.place(), 0, TRIAL)
        jax.block_until_ready(states)
        start = time.perf_counter()
        jax.block_until_ready(engine.advance(states, TRIAL, 2 * TRIAL))
        seconds[how] = (time.perf_counter() - start) / TRIAL
    return seconds
