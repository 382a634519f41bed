"""Many runs as one program: the first stage trained with several seeds, losses, their parameters and learning rates.

All runs see the same perturbed batches, made once, and share one compilation: what differs between them is data. A run
of a sweep is the run that `wing-jax train` would make of it with the sweep's seed for its batches. There are three ways
to compute it: by `vmap` (convolutions become grouped ones), by `scan` over the runs within the program, and by turns of
one compiled step, which is what XLA's CPU backend does best.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping
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
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import loss_of
from wing_jax.input.on_device import DeviceInput
from wing_jax.input.sampling import BatchIndices, EpochSampler, TrainingFaces
from wing_jax.runtime import devices
from wing_jax.train.setup import StageSetup
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics, make_train_step
from wing_jax.types import Batch

TRIAL = 3  # steps by which the ways are compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep."""

    seed: int
    loss: LossConfig
    learning_rate: float

    @property
    def label(self) -> str:
        """A name for files. The reference size is in it for losses whose lengths are not pixels of 64 by default."""
        params = [f"{name}{value:g}" for name, value in self.params.items()]
        own = losses.LOSSES[self.loss.name].reference_size
        size = [f"of{self.loss.reference_size or own}"] if own != losses.LOSSES["wing"].reference_size else []
        return "-".join([self.loss.name, *params, *size, f"lr{self.learning_rate:g}", f"seed{self.seed}"])

    @property
    def params(self) -> dict[str, float]:
        """All numbers of the loss, given or its defaults; lengths in pixels of its reference size."""
        return {name: float(value) for name, value in loss_params(self.loss).items() if _is_number(value)}

    def form(self, traced: Mapping[str, tuple[str, ...]]) -> LossConfig:
        """The loss without the parameters that are data: what is compiled for it."""
        params = {name: value for name, value in self.loss.params.items() if name not in traced[self.loss.name]}
        return dataclasses.replace(self.loss, params=params)


class TrialParams(NamedTuple):
    """What differs between the runs, as arrays: `[runs]`, or scalars of one run."""

    seed: Any  # of dropout
    loss: Any  # index among the forms of losses of the sweep
    params: dict[str, Any]  # of losses; lengths in pixels of the loss's reference size
    rate: Any  # learning rate by the schedule's own


def loss_params(loss: LossConfig) -> dict[str, Any]:
    """The loss's parameters: its defaults, and what `loss` gives instead."""
    return losses.LOSSES[loss.name].parameters | loss.params


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def trials_of(stage: StageConfig, grid: GridConfig, *, seed: int) -> list[Trial]:
    """All runs of the grid, each once; `seed` is for a grid without seeds. The stage's own loss has the parameters that
    the stage gives it, any other loss its own defaults; the grid's lengths, of both, are pixels of the loss's own
    reference size.

    Raises:
      InputError: a loss does not take these values, or none of the losses has a parameter of the grid.
    """
    names, own = grid.losses or (stage.loss.name,), stage.loss
    taken = {name: _parameters(name) for name in names}
    for param in grid.params:
        if not any(param in known for known in taken.values()):
            there = sorted({known for every in taken.values() for known in every})
            raise InputError(
                f"grid.params.{param}: no loss of the sweep ({', '.join(names)}) has it: "
                + (f"use {', '.join(there)}" if there else "they have none")
            )
    trials: dict[Trial, None] = {}
    values = itertools.product(*grid.params.values())
    rates, seeds = grid.learning_rates or (stage.optimizer.learning_rate,), grid.seeds or (seed,)
    for name, chosen, rate, number in itertools.product(names, values, rates, seeds):
        base = own if name == own.name else LossConfig(name=name, reduction=own.reduction)
        params = {key: value for key, value in zip(grid.params, chosen, strict=True) if key in taken[name]}
        loss = dataclasses.replace(base, params={**base.params, **params})
        loss_of(loss, input_size=stage.input_size)
        trials[Trial(seed=number, loss=loss, learning_rate=rate)] = None
    return list(trials)


def _parameters(name: str) -> tuple[str, ...]:
    loss = losses.LOSSES[name]
    return (*loss.required, *loss.parameters)


class SweepRunner:
    """Advances all runs together; their states are one `TrainState` with the runs as its leading axis."""

    def __init__(
        self, setup: StageSetup, trials: list[Trial], *, seed: int, learning_rate: float, mesh: Mesh, how: str
    ):
        self.compile_seconds = 0.0
        self.how, self._mesh, self._setup, self._trials = how, mesh, setup, trials
        self._input, faces = setup.device_input(seed=seed), setup.faces()
        self._faces = devices.replicate(faces, mesh)
        self._indices = EpochSampler(
            np.asarray(faces.order), batch_size=setup.spec.batch_size, seed=setup.data_seed(seed)
        )
        self._numbers, step = trial_params(setup, trials, learning_rate=learning_rate), trial_step(setup, trials)
        self._padded = -len(trials) % mesh.size
        if how == "round_robin":
            self._make_batch = jax.jit(self._input.batch)
            self._step: Any = jax.jit(step, donate_argnums=0)
        else:
            self._step = sweep_program(step, self._input, how=how, mesh=mesh)
        self._compiled: dict[int, Callable] = {}

    def place(self, state: TrainState | None = None) -> Any:
        """The runs' states on the devices: those of `state`, or untrained ones."""
        state = self.untrained() if state is None else state
        if self.how == "round_robin":
            return [jax.tree.map(lambda x, i=i: jnp.array(x[i]), state) for i in range(len(self._trials))]
        return devices.shard_batch(self._pad(state), self._mesh)

    def whole(self, states: Any) -> TrainState:
        """The states as one, with the runs as leading axis."""
        if self.how == "round_robin":
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return jax.tree.map(lambda x: x[: len(self._trials)], states)

    def untrained(self) -> TrainState:
        """The first states, each by its run's seed."""
        drawn = {seed: self._setup.state(seed=seed) for seed in {trial.seed for trial in self._trials}}
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(drawn[trial.seed] for trial in self._trials))

    def advance(self, states: Any, first: int, last: int) -> tuple[Any, Metrics]:
        """The states after step `last` (they are given away), and the metrics of each step and run."""
        indices = self._indices(first, last - first)
        if self.how == "round_robin":
            return self._take_round(states, indices, last - first)
        arguments = (states, self._pad(self._numbers), self._faces, devices.replicate(indices, self._mesh))
        if last - first not in self._compiled:
            start = time.perf_counter()
            self._compiled[last - first] = self._step.lower(*arguments).compile()
            self.compile_seconds += time.perf_counter() - start
        states, metrics = self._compiled[last - first](*arguments)
        return states, jax.tree.map(lambda x: x[:, : len(self._trials)], metrics)

    def _take_round(self, states: list, indices: BatchIndices, steps: int) -> tuple[list, Metrics]:
        history = []
        for number in range(steps):
            batch = self._make_batch(self._faces, BatchIndices(*(values[number] for values in indices)))
            turns = [self._step(state, batch, self._one(i)) for i, state in enumerate(states)]
            states = [state for state, _ in turns]
            history.append(jax.tree.map(lambda *x: jnp.stack(x), *(metrics for _, metrics in turns)))
        return states, jax.tree.map(lambda *x: jnp.stack(x), *history)

    def _one(self, index: int) -> TrialParams:
        return jax.tree.map(lambda values: values[index], self._numbers)

    def _pad(self, tree: Any) -> Any:
        """Runs added, copies of the first, until all devices have as many."""
        if not self._padded:
            return tree
        return jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[:1], self._padded, 0)]), tree)


def trial_params(setup: StageSetup, trials: list[Trial], *, learning_rate: float) -> TrialParams:
    """The runs' numbers as arrays `[runs]`; `learning_rate` is the setup's own."""
    traced = traced_params(trials)
    forms = loss_forms(trials)
    names = dict.fromkeys(name for every in traced.values() for name in every)
    return TrialParams(
        seed=np.array([setup.data_seed(trial.seed) for trial in trials], np.int32),
        loss=np.array([forms.index(trial.form(traced)) for trial in trials], np.int32),
        params={name: np.array([trial.params.get(name, 1.0) for trial in trials], np.float32) for name in names},
        rate=np.array([trial.learning_rate / learning_rate for trial in trials], np.float32),
    )


def traced_params(trials: list[Trial]) -> dict[str, tuple[str, ...]]:
    """For each loss of the sweep, by name, the parameters in which its runs differ: they are data, so that these runs
    share a program."""
    found: dict[str, tuple[str, ...]] = {}
    for loss in dict.fromkeys(trial.loss.name for trial in trials):
        every = [trial.params for trial in trials if trial.loss.name == loss]
        found[loss] = tuple(name for name in every[0] if len({params[name] for params in every}) > 1)
    return found


def loss_forms(trials: list[Trial]) -> list[LossConfig]:
    """The losses of the sweep, each once, without the parameters that are data."""
    traced = traced_params(trials)
    return list(dict.fromkeys(trial.form(traced) for trial in trials))


def trial_step(
    setup: StageSetup, trials: list[Trial]
) -> Callable[[TrainState, Batch, TrialParams], tuple[TrainState, Metrics]]:
    """The training step of one run, its numbers being data."""
    spec, forms, traced = setup.spec, loss_forms(trials), traced_params(trials)

    def value(predicted: Array, target: Array, numbers: TrialParams) -> Float[Array, "*shape"]:
        def one(form: LossConfig) -> Callable:
            return losses.make_loss(
                form.name,
                reference_size=form.reference_size,
                working_extent=float(spec.input_size),
                **form.params,
                **{name: numbers.params[name] for name in traced[form.name]},
            )

        return jax.lax.switch(numbers.loss, [one(form) for form in forms], predicted, target)

    def step(state: TrainState, batch: Batch, numbers: TrialParams) -> tuple[TrainState, Metrics]:
        scaled = make_train_step(
            setup.network(),
            _faster(setup.optimizer, numbers.rate),
            functools.partial(value, numbers=numbers),
            reduction=spec.reduction,
            eyes=setup.eyes,
            ema=spec.ema,
            seed=numbers.seed,
            axis=None,
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
        states: TrainState, numbers: TrialParams, faces: TrainingFaces, indices: BatchIndices
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


def fastest(make: Callable[[str], SweepRunner], *, ways: tuple[str, ...] = ("vmap", "scan")) -> dict[str, float]:
    """Seconds a step takes by each of the `ways`, compilation apart."""
    seconds = {}
    for how in ways:
        runner = make(how)
        states, _ = runner.advance(runner.place(), 0, TRIAL)
        jax.block_until_ready(states)
        start = time.perf_counter()
        jax.block_until_ready(runner.advance(states, TRIAL, 2 * TRIAL))
        seconds[how] = (time.perf_counter() - start) / TRIAL
    return seconds
