"""Many runs in one program: the first stage with several seeds, losses, loss parameters and learning rates.

All runs see the same augmented batches, made once, and share one compilation: the values in which they differ are data.
A run equals that of `wing-jax train` with the sweep's seed for its batches. There are three ways to compute the runs:
"vmap" (convolutions become grouped convolutions), "scan" over the runs within the program, and "round_robin", calls of
one compiled step for each run in turn, which is the fastest with XLA's CPU backend.
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
from wing_jax.input.on_device import DeviceInput, TrainingFaces
from wing_jax.input.sampling import BatchIndices, EpochSampler
from wing_jax.runtime import devices
from wing_jax.train.setup import StageSetup
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics, make_train_step
from wing_jax.types import Batch

TIMED_STEPS = 3  # steps that are timed to compare the ways


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep."""

    seed: int
    loss: LossConfig
    learning_rate: float

    @property
    def label(self) -> str:
        """A name for files. It has the reference size of losses whose default one is not that of the Wing loss."""
        params = [f"{name}{value:g}" for name, value in self.params.items()]
        default = losses.LOSSES[self.loss.name].reference_size
        size = [f"of{self.loss.reference_size or default}"] if default != losses.LOSSES["wing"].reference_size else []
        return "-".join([self.loss.name, *params, *size, f"lr{self.learning_rate:g}", f"seed{self.seed}"])

    @property
    def params(self) -> dict[str, float]:
        """All numeric parameters of the loss, including defaults; lengths are in pixels of its reference size."""
        return {name: float(value) for name, value in loss_params(self.loss).items() if _is_number(value)}

    def form(self, traced: Mapping[str, tuple[str, ...]]) -> LossConfig:
        """Return the loss without its traced parameters, as it is compiled."""
        params = {name: value for name, value in self.loss.params.items() if name not in traced[self.loss.name]}
        return dataclasses.replace(self.loss, params=params)


class TrialParams(NamedTuple):
    """The values in which runs differ, as arrays: `[runs]`, or scalars of one run."""

    seed: Any  # of dropout
    loss: Any  # index in `loss_forms`
    params: dict[str, Any]  # of losses; lengths in pixels of the loss's reference size
    rate: Any  # factor of the schedule's learning rate


def loss_params(loss: LossConfig) -> dict[str, Any]:
    """Return the loss's parameters, including defaults."""
    return losses.LOSSES[loss.name].parameters | loss.params


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def trials_of(stage: StageConfig, grid: GridConfig, *, seed: int) -> list[Trial]:
    """Return all runs of the grid, without duplicates.

    `seed` is for a grid without seeds. The stage's loss has the stage's parameters, any other loss has its defaults.
    Lengths in the grid are in pixels of each loss's reference size.

    Raises:
      InputError: a loss does not take these values, or no loss has a parameter of the grid.
    """
    names, stage_loss = grid.losses or (stage.loss.name,), stage.loss
    parameters = {name: _parameters(name) for name in names}
    for param in grid.params:
        if not any(param in of_loss for of_loss in parameters.values()):
            choices = sorted({choice for of_loss in parameters.values() for choice in of_loss})
            raise InputError(
                f"grid.params.{param}: no loss of the sweep ({', '.join(names)}) has it: "
                + (f"use {', '.join(choices)}" if choices else "they have no parameters: remove it")
            )
    trials: dict[Trial, None] = {}
    values = itertools.product(*grid.params.values())
    rates, seeds = grid.learning_rates or (stage.optimizer.learning_rate,), grid.seeds or (seed,)
    for name, combination, rate, trial_seed in itertools.product(names, values, rates, seeds):
        base = stage_loss if name == stage_loss.name else LossConfig(name=name, reduction=stage_loss.reduction)
        params = {key: value for key, value in zip(grid.params, combination, strict=True) if key in parameters[name]}
        loss = dataclasses.replace(base, params={**base.params, **params})
        loss_of(loss, input_size=stage.input_size)  # checks the parameters
        trials[Trial(seed=trial_seed, loss=loss, learning_rate=rate)] = None
    return list(trials)


def _parameters(name: str) -> tuple[str, ...]:
    loss = losses.LOSSES[name]
    return (*loss.required, *loss.parameters)


class SweepRunner:
    """Advances all runs at once. Their states are one `TrainState` with the runs as its leading axis."""

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
        self._trial_params, step = trial_params(setup, trials, learning_rate=learning_rate), trial_step(setup, trials)
        self._padded = -len(trials) % mesh.size
        if how == "round_robin":
            self._make_batch = jax.jit(self._input.batch)
            self._step: Any = jax.jit(step, donate_argnums=0)
        else:
            self._step = sweep_program(step, self._input, how=how, mesh=mesh)
        self._compiled: dict[int, Callable] = {}

    def place(self, state: TrainState | None = None) -> Any:
        """Return the runs' states on the devices: those of `state`, or untrained ones."""
        state = self.untrained() if state is None else state
        if self.how == "round_robin":
            return [jax.tree.map(lambda x, i=i: jnp.array(x[i]), state) for i in range(len(self._trials))]
        return devices.shard_batch(self._pad(state), self._mesh)

    def whole(self, states: Any) -> TrainState:
        """Return the states as one `TrainState`, with the runs as leading axis."""
        if self.how == "round_robin":
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return jax.tree.map(lambda x: x[: len(self._trials)], states)

    def untrained(self) -> TrainState:
        """Return the untrained states, each from its run's seed."""
        states = {seed: self._setup.state(seed=seed) for seed in {trial.seed for trial in self._trials}}
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(states[trial.seed] for trial in self._trials))

    def advance(self, states: Any, first: int, last: int) -> tuple[Any, Metrics]:
        """Run steps `first + 1` to `last`.

        Return the new states and the metrics of each step and run; `states` is donated.
        """
        indices = self._indices(first, last - first)
        if self.how == "round_robin":
            return self._advance_in_turn(states, indices, last - first)
        arguments = (states, self._pad(self._trial_params), self._faces, devices.replicate(indices, self._mesh))
        if last - first not in self._compiled:
            start = time.perf_counter()
            self._compiled[last - first] = self._step.lower(*arguments).compile()
            self.compile_seconds += time.perf_counter() - start
        states, metrics = self._compiled[last - first](*arguments)
        return states, jax.tree.map(lambda x: x[:, : len(self._trials)], metrics)

    def _advance_in_turn(self, states: list, indices: BatchIndices, steps: int) -> tuple[list, Metrics]:
        history = []
        for number in range(steps):
            batch = self._make_batch(self._faces, BatchIndices(*(values[number] for values in indices)))
            results = [self._step(state, batch, self._params_of(i)) for i, state in enumerate(states)]
            states = [state for state, _ in results]
            history.append(jax.tree.map(lambda *x: jnp.stack(x), *(metrics for _, metrics in results)))
        return states, jax.tree.map(lambda *x: jnp.stack(x), *history)

    def _params_of(self, index: int) -> TrialParams:
        return jax.tree.map(lambda values: values[index], self._trial_params)

    def _pad(self, tree: Any) -> Any:
        """Add copies of the first run until the runs split evenly over the devices."""
        if not self._padded:
            return tree
        return jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[:1], self._padded, 0)]), tree)


def trial_params(setup: StageSetup, trials: list[Trial], *, learning_rate: float) -> TrialParams:
    """Return the runs' values as arrays `[runs]`; `learning_rate` is that of the setup."""
    traced = traced_params(trials)
    forms = loss_forms(trials)
    names = dict.fromkeys(name for of_loss in traced.values() for name in of_loss)
    return TrialParams(
        seed=np.array([setup.data_seed(trial.seed) for trial in trials], np.int32),
        loss=np.array([forms.index(trial.form(traced)) for trial in trials], np.int32),
        params={name: np.array([trial.params.get(name, 1.0) for trial in trials], np.float32) for name in names},
        rate=np.array([trial.learning_rate / learning_rate for trial in trials], np.float32),
    )


def traced_params(trials: list[Trial]) -> dict[str, tuple[str, ...]]:
    """Return, for each loss's name, the parameters in which its runs differ.

    They are traced, so that these runs share a program.
    """
    traced: dict[str, tuple[str, ...]] = {}
    for loss in dict.fromkeys(trial.loss.name for trial in trials):
        all_params = [trial.params for trial in trials if trial.loss.name == loss]
        traced[loss] = tuple(name for name in all_params[0] if len({params[name] for params in all_params}) > 1)
    return traced


def loss_forms(trials: list[Trial]) -> list[LossConfig]:
    """Return the losses of the sweep without their traced parameters, and without duplicates."""
    traced = traced_params(trials)
    return list(dict.fromkeys(trial.form(traced) for trial in trials))


def trial_step(
    setup: StageSetup, trials: list[Trial]
) -> Callable[[TrainState, Batch, TrialParams], tuple[TrainState, Metrics]]:
    """Return the training step of one run, with its `TrialParams` as an argument."""
    spec, forms, traced = setup.spec, loss_forms(trials), traced_params(trials)

    def loss(predicted: Array, target: Array, trial: TrialParams) -> Float[Array, "*shape"]:
        def make_branch(form: LossConfig) -> Callable:
            return losses.make_loss(
                form.name,
                reference_size=form.reference_size,
                working_extent=float(spec.input_size),
                **form.params,
                **{name: trial.params[name] for name in traced[form.name]},
            )

        return jax.lax.switch(trial.loss, [make_branch(form) for form in forms], predicted, target)

    def step(state: TrainState, batch: Batch, trial: TrialParams) -> tuple[TrainState, Metrics]:
        train_step = make_train_step(
            setup.network(),
            _scale_updates(setup.optimizer, trial.rate),
            functools.partial(loss, trial=trial),
            reduction=spec.reduction,
            eyes=setup.eyes,
            ema=spec.ema,
            seed=trial.seed,
            axis=None,
        )
        return train_step(state, batch)

    return step


def _scale_updates(optimizer: optax.GradientTransformation, rate: Array) -> optax.GradientTransformation:
    """Multiply all learning rates by `rate`, by multiplying the updates, which are proportional to them."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimizer.update(updates, state, params)
        return jax.tree.map(lambda x: rate * x, updates), state

    return optax.GradientTransformation(optimizer.init, update)


def sweep_program(step: Callable, batches: DeviceInput, *, how: str, mesh: Mesh) -> Any:
    """Return `(states, trials, faces, indices) -> (states, metrics [steps, runs])`, jitted, the states donated.

    The runs are split over the devices of the mesh, each of which makes the complete batch.
    """

    def program(
        states: TrainState, trials: TrialParams, faces: TrainingFaces, indices: BatchIndices
    ) -> tuple[TrainState, Metrics]:
        def run_step(states: TrainState, step_indices: BatchIndices) -> tuple[TrainState, Metrics]:
            batch = batches.batch(faces, step_indices)
            if how == "vmap":
                return jax.vmap(step, in_axes=(0, None, 0))(states, batch, trials)
            return jax.lax.map(lambda run: step(run[0], batch, run[1]), (states, trials))

        return jax.lax.scan(run_step, states, indices)

    if mesh.size > 1:
        split, replicated = Spec(devices.AXIS), Spec()
        in_specs = (split, split, replicated, replicated)
        out_specs = (split, Spec(None, devices.AXIS))
        program = jax.shard_map(program, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(program, donate_argnums=0)


def fastest(make: Callable[[str], SweepRunner], *, ways: tuple[str, ...] = ("vmap", "scan")) -> dict[str, float]:
    """Measure the seconds per step of each of the `ways`, without compilation."""
    seconds = {}
    for how in ways:
        runner = make(how)
        states, _ = runner.advance(runner.place(), 0, TIMED_STEPS)
        jax.block_until_ready(states)
        start = time.perf_counter()
        jax.block_until_ready(runner.advance(states, TIMED_STEPS, 2 * TIMED_STEPS))
        seconds[how] = (time.perf_counter() - start) / TIMED_STEPS
    return seconds
