"""A complete sweep: the data, all runs, their models, and a table of their validation NMEs."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from wing_jax.config import SweepConfig
from wing_jax.errors import InputError, TrainingInterrupted
from wing_jax.from_config.recipe import at_large_batch, mesh_of, recipe_of
from wing_jax.from_config.sweep_runner import SweepRunner, Trial, fastest, trials_of
from wing_jax.from_config.train import first_setup, record_of, training_data
from wing_jax.inference.stage import Stage
from wing_jax.runtime import devices, termination
from wing_jax.runtime.processes import available_cores
from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.data import TrainingData
from wing_jax.train.fit import check_stage
from wing_jax.train.logs import TrainingLog
from wing_jax.train.loop import Validate, spans
from wing_jax.train.run_record import write_record
from wing_jax.train.setup import LOG_EVERY, StageSetup
from wing_jax.train.spec import Callback, Progress
from wing_jax.train.state import TrainState
from wing_jax.train.steps import Metrics
from wing_jax.values import Value

FIXED = {"input": "device", "parallel": "jit", "processes": "one"}  # the only values that a sweep supports


@devices.default_settings()
def sweep(config: SweepConfig, *, callbacks: Sequence[Callback] = ()) -> list[dict]:
    """Train all runs of the grid, resuming where an earlier call stopped, and return a row for each run.

    Each run's model (`trials/LABEL/model`), `results.json` and `results.md` are written below the config's folder. A
    run's results are those after its last step; no checkpoint is chosen.

    The `callbacks` are called with a `Progress` whenever values (means over all runs) are logged. One that returns True
    ends the sweep, as Ctrl-C does; the same call then resumes from the newest checkpoint.

    Raises:
      KeyboardInterrupt: Ctrl-C or a callback ended the sweep.
      InputError: the data, checkpoints or numbers are invalid, or the sweep was started with a different config.
    """
    for name, expected in FIXED.items():
        if (value := getattr(config, name)) != expected:
            raise InputError(f"{name}={value!r} works in wing-jax train only: a sweep needs {name}={expected!r}")
    mesh, config = mesh_of(config), at_large_batch(config)
    folder = config.folder / "sweep"
    record = record_of(config, folder)
    trials = trials_of(config.stage1, config.grid, seed=config.seed)
    data = training_data(config)
    check_stage(recipe_of(config).stages[0], 1, data.scheme.points, devices.make_mesh(1))
    setup = first_setup(config, data)
    with devices.only_trainer(config.folder):
        write_record(record, folder)
        result = train_trials(setup, trials, config, mesh, folder=folder, callbacks=callbacks)
        return _save_models(config, data, result, trials)


def _save_models(config: SweepConfig, data: TrainingData, result: "SweepResult", trials: list[Trial]) -> list[dict]:
    rows = []
    for index, trial in enumerate(trials):
        localizer = data.localizer((result.stage(index),), result.setup.mean, name=f"{config.name} {trial.label}")
        localizer.save(config.folder / "trials" / trial.label / "model")
        columns = {"loss": trial.loss.name, "params": trial.params}
        columns |= {"learning_rate": trial.learning_rate, "seed": trial.seed}
        rows.append({"label": trial.label, **columns, "validation_nme": float(result.nmes[index])})
    _write(config.folder, rows, how=result.how)
    return rows


def make_sweep_runner(config: SweepConfig, setup: StageSetup, trials: list[Trial], mesh: Mesh) -> SweepRunner:
    """Return the runner for the config's `grid.execution`.

    For "auto" on GPUs and TPUs, the faster way is measured. On CPUs, XLA runs a loop within a program on one core,
    which is faster if the process has only one.
    """

    def make(how: str) -> SweepRunner:
        stage = config.stage1 if setup.number == 1 else config.stage2
        assert stage is not None
        rate = stage.optimizer.learning_rate
        return SweepRunner(setup, trials, seed=config.seed, learning_rate=rate, mesh=mesh, how=how)

    how = config.grid.execution
    if how == "round_robin" and mesh.size > 1:
        raise InputError('grid.execution="round_robin" needs one device: set devices=1, or grid.execution to "scan"')
    if how != "auto":
        return make(how)
    if jax.default_backend() == "cpu":
        return make("round_robin" if mesh.size == 1 and available_cores() > 1 else "scan")
    seconds = fastest(make)
    return make(min(seconds, key=seconds.__getitem__))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SweepResult(Value):
    """The variables and validation NMEs of all runs of a sweep."""

    setup: StageSetup
    variables: Any  # with the runs as leading axis
    nmes: np.ndarray  # fractions, one per run; NaN for a run whose loss is not finite
    how: str

    def stage(self, index: int) -> Stage:
        """Return the trained stage of run `index`."""
        return self.setup.trained(jax.device_get(jax.tree.map(lambda x: x[index], self.variables)))


def train_trials(
    setup: StageSetup,
    trials: list[Trial],
    config: SweepConfig,
    mesh: Mesh,
    *,
    folder: Path,
    callbacks: Sequence[Callback] = (),
    on_validation: Callable[[int, Sequence[Any], np.ndarray], None] | None = None,
) -> SweepResult:
    """Train the trials on the setup, with the seed and `grid.execution` of `config`.

    Logs and checkpoints are in `folder`; training resumes from the newest checkpoint. `on_validation` is called at each
    validation with the step, and the variables and validation NME (fraction) of each trial.

    Raises:
      KeyboardInterrupt: Ctrl-C or a callback ended the sweep.
      TrainingInterrupted: SIGTERM arrived, and the state is saved.
    """
    spec, runner, validate = setup.spec, make_sweep_runner(config, setup, trials, mesh), setup.validate(mesh)
    like = runner.untrained()
    with termination.deferred(), Checkpoints(folder / "checkpoints", keep=2) as checkpoints:
        state, first_step = checkpoints.restore_newest(like)
        placed, span_options = runner.place(state), {"evaluate_every": spec.validation_steps, "longest": _span(config)}
        log_options = {"title": f"sweep of {len(trials)}", "first_step": first_step, "steps": spec.steps}
        if first_step < spec.steps:
            with TrainingLog(folder, **log_options, batch_size=spec.batch_size * len(trials)) as log:
                for first, last in spans(first_step, spec.steps, **span_options):
                    placed, metrics = runner.advance(placed, first, last)
                    values = sweep_means(metrics)
                    stopping = termination.stop_requested() or termination.interrupted()
                    is_validation = last % spec.validation_steps == 0 or last == spec.steps
                    state = runner.whole(placed) if is_validation or stopping else state
                    if is_validation:
                        with log.paused():
                            nmes = _measure(state, len(trials), validate)
                            if on_validation is not None:
                                on_validation(last, list(_split_runs(state.best_variables, len(trials))), nmes)
                        values["validation_nme"] = float(np.mean(nmes))
                    log.write(last, **values)
                    if is_validation or stopping:
                        checkpoints.save(last, state, validation_nme=values.get("validation_nme"))
                    progress = Progress(stage=setup.number, step=last, steps=spec.steps, values=values)
                    results = [callback(progress) for callback in callbacks]
                    if any(results) or termination.interrupted():
                        raise KeyboardInterrupt
                    if stopping:
                        checkpoints.wait()
                        raise TrainingInterrupted(
                            f"sweep: stopped at step {last} of {spec.steps}, which is saved in {folder}"
                        )
    nmes = _measure(state, len(trials), validate)
    return SweepResult(setup=setup, variables=state.best_variables, nmes=nmes, how=runner.how)


def sweep_means(metrics: Metrics) -> dict[str, float]:
    """Return the means over steps and runs, without values that are NaN.

    A diverged run does not end the sweep; its row in the results shows NaN.
    """
    pairs = jax.device_get(metrics)
    return {name: float(np.nansum(sums) / max(np.nansum(counts), 1e-9)) for name, (sums, counts) in pairs.items()}


def _span(config: SweepConfig) -> int:
    return max(LOG_EVERY, config.steps_per_call or devices.steps_per_call())


def _measure(state: TrainState, runs: int, validate: Validate) -> np.ndarray:
    pairs = [jax.device_get(validate(variables)) for variables in _split_runs(state.best_variables, runs)]
    return np.array([total / max(count, 1) for total, count in pairs])


def _split_runs(variables: Any, runs: int):
    return (jax.tree.map(lambda x, i=i: x[i], variables) for i in range(runs))


def _write(folder: Path, rows: list[dict], *, how: str) -> None:
    (folder / "results.json").write_text(json.dumps({"how": how, "runs": rows}, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(table(rows), encoding="utf-8")


def table(rows: list[dict]) -> str:
    """Return the results as a Markdown table.

    It has a line for each loss with its parameters and learning rate, and the mean and standard deviation of the
    validation NME (%) over the seeds.
    """
    params = list(dict.fromkeys(name for row in rows for name in row["params"]))
    names = ["loss", *params, "learning_rate"]
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        key = (row["loss"], *(row["params"].get(name, "") for name in params), row["learning_rate"])
        groups.setdefault(key, []).append(100 * row["validation_nme"])
    lines = [" | ".join([*names, "runs", "validation NME (%)", "standard deviation"])]
    lines.append(" | ".join(["---"] * (len(names) + 3)))
    for key, nmes in groups.items():
        spread = f"{statistics.stdev(nmes):.3f}" if len(nmes) > 1 else ""
        cells = [f"{value:g}" if isinstance(value, float) else str(value) for value in key]
        lines.append(" | ".join([*cells, str(len(nmes)), f"{statistics.fmean(nmes):.3f}", spread]))
    return "".join(f"| {line} |\n" for line in lines)
