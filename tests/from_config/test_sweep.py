"""Sweeps: each run equals a single training, in whichever way the runs are computed."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest

from wing_jax.cli import main
from wing_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    GridConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    StageConfig,
    SweepConfig,
)
from wing_jax.errors import InputError
from wing_jax.from_config.sweep import make_sweep_runner, sweep, table
from wing_jax.from_config.sweep_runner import SweepRunner, loss_forms, traced_params, trials_of
from wing_jax.from_config.train import first_setup, train, training_data
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime import devices

pytestmark = pytest.mark.slow

STEPS = 4
GRID = GridConfig(seeds=(0, 7), losses=("wing", "l1"), params={"width": (10.0, 4.0)}, learning_rates=(1e-2, 5e-3))
STAGE = StageConfig(
    input_size=16,
    margin=1.3,
    model=ModelConfig(params={"channels": (4, 8), "hidden": 8, "dropout": 0.3}, output_bias="mean_shape"),
    loss=LossConfig(name="wing", params={"width": 10.0, "epsilon": 2.0}, reduction="mean"),
    augment=AugmentConfig(rotation=5.0, translation=0.02, scale=0.02),
    optimizer=OptimizerConfig(
        name="sgd", learning_rate=1e-2, final_learning_rate=1e-3, decay="cosine", weight_decay=1e-2, warmup=2, ema=0.5
    ),
    batch_size=4,
    steps=STEPS,
    evaluate_every=2,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> SweepConfig:
    data = DataConfig(name="synthetic", train_faces=12, validation=0.3)
    return SweepConfig(
        name="grid", data=data, stage1=STAGE, grid=GRID, devices=1, output=str(tmp_path_factory.mktemp("sweep"))
    )


@pytest.fixture(scope="module")
def setup(config):
    return first_setup(config, training_data(config))


@pytest.fixture(scope="module")
def trials():
    return trials_of(STAGE, GRID, seed=0)


def test_a_loss_is_not_repeated_for_a_parameter_it_does_not_have(trials):
    assert (
        len(trials) == len(set(trials)) == 2 * 2 * 2 + 2 * 2
    )  # wing: 2 widths, 2 rates, 2 seeds; l1: 2 rates, 2 seeds
    assert {trial.loss.name for trial in trials} == {"wing", "l1"}
    assert len({trial.label for trial in trials}) == len(trials)
    assert all(trial.params.get("epsilon") == (2.0 if trial.loss.name == "wing" else None) for trial in trials)


def test_an_empty_grid_is_the_stage():
    (trial,) = trials_of(STAGE, GridConfig(), seed=5)
    assert (trial.loss, trial.learning_rate, trial.seed) == (STAGE.loss, 1e-2, 5)


def test_losses_other_than_the_stages_have_their_defaults():
    """They do not get the stage's width, epsilon and reference size. The grid's widths are for all that have one."""
    stage_loss = dataclasses.replace(STAGE.loss, reference_size=32, params={"width": 7.0, "epsilon": 2.0})
    stage = dataclasses.replace(STAGE, loss=stage_loss)
    names = ("l1", "smooth_l1", "wing", "rectified_wing", "soft_wing")
    trials = trials_of(stage, GridConfig(losses=names), seed=0)
    defaults = {name: LossConfig(name=name, reduction="mean") for name in names}
    assert {trial.loss.name: trial.loss for trial in trials} == defaults | {"wing": stage_loss}
    assert [trial.params for trial in trials] == [
        {},
        {"beta": 1.0},
        {"width": 7.0, "epsilon": 2.0},
        {"width": 10.0, "epsilon": 2.0, "rectification": 0.2},
        {"linear_width": 2.0, "width": 20.0, "epsilon": 0.5},
    ]
    assert trials[-1].label == "soft_wing-linear_width2-width20-epsilon0.5-of256-lr0.01-seed0"
    trials = trials_of(stage, GridConfig(losses=names, params={"width": (16.0,)}), seed=0)
    widths = {trial.loss.name: (trial.params.get("width"), trial.loss.reference_size) for trial in trials}
    assert widths == {
        "l1": (None, None), "smooth_l1": (None, None), "wing": (16.0, 32), "rectified_wing": (16.0, None),
        "soft_wing": (16.0, None),
    }  # fmt: skip


def test_the_stages_loss_keeps_its_other_parameters():
    stage_loss = LossConfig(name="rectified_wing", params={"rectification": 0.5}, reduction="mean")
    stage = dataclasses.replace(STAGE, loss=stage_loss)
    trials = trials_of(stage, GridConfig(losses=("rectified_wing", "wing"), params={"width": (4.0, 10.0)}), seed=0)
    assert [trial.params.get("rectification") for trial in trials] == [0.5, 0.5, None, None]
    assert trials[0].label == "rectified_wing-width4-epsilon2-rectification0.5-lr0.01-seed0"
    assert loss_forms(trials) == [stage_loss, LossConfig(name="wing", reduction="mean")]


def test_lengths_out_of_range_are_refused():
    with pytest.raises(InputError, match="width"):
        trials_of(STAGE, GridConfig(params={"width": (-1.0,)}), seed=0)


def test_a_parameter_that_no_loss_of_the_sweep_has_is_refused():
    grid = GridConfig(losses=("wing", "l1"), params={"beta": (1.0, 2.0)})
    with pytest.raises(
        InputError, match=r"grid\.params\.beta: no loss of the sweep \(wing, l1\) has it: use epsilon, width"
    ):
        trials_of(STAGE, grid, seed=0)


def test_parameters_are_traced_if_they_differ_between_runs():
    grid = GridConfig(losses=("wing", "smooth_l1", "l1"), params={"beta": (1.0, 3.0), "width": (10.0, 4.0)})
    trials = trials_of(STAGE, grid, seed=0)
    assert traced_params(trials) == {"wing": ("width",), "smooth_l1": ("beta",), "l1": ()}
    assert len(trials) == 2 + 2 + 1
    assert len(loss_forms(trials)) == 3


def run_trials(setup, trials, how, count=1):
    rate, mesh = STAGE.optimizer.learning_rate, devices.make_mesh(count)
    runner = SweepRunner(setup, trials, seed=0, learning_rate=rate, mesh=mesh, how=how)
    states, first = runner.advance(runner.place(), 0, 3)
    states, second = runner.advance(states, 3, STEPS)
    metrics = jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get((first, second)))
    return jax.device_get(runner.whole(states)), metrics


@pytest.fixture(scope="module")
def round_robin(setup, trials):
    return run_trials(setup, trials, "round_robin")


@pytest.mark.parametrize(("how", "count"), [("vmap", 1), ("scan", 4)])
def test_all_ways_compute_the_same_runs(setup, trials, round_robin, how, count):
    state, metrics = run_trials(setup, trials[:-1] if count > 1 else trials, how, count)
    for (path, expected), leaf in zip(jax.tree.leaves_with_path(round_robin[0]), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(leaf, expected[: len(leaf)], rtol=1e-3, atol=1e-5, err_msg=str(path))
    for name in metrics:
        for values, expected in zip(metrics[name], round_robin[1][name], strict=True):
            np.testing.assert_allclose(values, expected[:, : values.shape[1]], rtol=1e-4, err_msg=name)


def test_the_runs_differ(round_robin, trials):
    kernels = np.asarray(round_robin[0].variables["params"]["output"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) == len(trials)


def train_alone(config, trial) -> dict:
    """Return the variables that `wing-jax train` gives for this trial."""
    optimizer = dataclasses.replace(
        STAGE.optimizer,
        learning_rate=trial.learning_rate,
        final_learning_rate=STAGE.optimizer.final_learning_rate * trial.learning_rate / STAGE.optimizer.learning_rate,
    )
    # Validated once, at the end: a sweep has the last variables, not the best.
    stage = dataclasses.replace(STAGE, loss=trial.loss, optimizer=optimizer, evaluate_every=STEPS)
    trial_config = Config(name=trial.label, data=config.data, stage1=stage, devices=1, output=config.output)
    return train(trial_config).localizer.stages[0].variables


@pytest.fixture(scope="module")
def small(config):
    """A sweep of three losses and two seeds. The reference size of soft_wing differs from that of wing."""
    return dataclasses.replace(config, grid=GridConfig(seeds=(0, 7), losses=("wing", "l1", "soft_wing")))


@pytest.fixture(scope="module")
def rows(small):
    """The rows of an uninterrupted sweep."""
    return sweep(dataclasses.replace(small, name="uninterrupted"))


def test_each_run_equals_that_of_train(small, rows):
    folder = small.folder.parent / "uninterrupted"
    results = json.loads((folder / "results.json").read_text())
    assert results == {"how": "round_robin", "runs": rows}
    trials = trials_of(STAGE, small.grid, seed=0)
    assert trials[-1].loss == LossConfig(name="soft_wing", reduction="mean")
    assert [row["label"] for row in rows] == [trial.label for trial in trials]
    for trial in (trials[0], trials[-2]):  # two of those with the sweep's seed, which determines the batches
        assert trial.seed == 0
        variables = Localizer.load(folder / "trials" / trial.label).stages[0].variables
        expected = train_alone(small, trial)
        leaves = zip(jax.tree.leaves_with_path(variables), jax.tree.leaves(expected), strict=True)
        for (path, leaf), expected_leaf in leaves:
            np.testing.assert_allclose(leaf, expected_leaf, rtol=1e-3, atol=1e-5, err_msg=f"{trial.label} {path}")


def test_a_stopped_sweep_resumes(small, rows):
    stopped = dataclasses.replace(small, name="stopped")
    with pytest.raises(KeyboardInterrupt):
        sweep(stopped, callbacks=[lambda progress: progress.step == 2])
    assert not (stopped.folder / "results.json").exists()
    calls = []
    assert sweep(stopped, callbacks=[calls.append]) == rows
    assert [(progress.stage, progress.step, progress.steps) for progress in calls] == [(1, STEPS, STEPS)]
    mean = np.mean([row["validation_nme"] for row in rows])
    assert calls[0].values["validation_nme"] == pytest.approx(mean, rel=1e-6)
    assert sweep(stopped, callbacks=[calls.append]) == rows  # the sweep is finished, so nothing is trained
    assert len(calls) == 1


def test_the_table_has_mean_and_spread_over_the_seeds():
    rows = [
        {
            "loss": "wing",
            "params": {"width": 10.0, "epsilon": 2.0},
            "learning_rate": 1e-3,
            "seed": seed,
            "validation_nme": nme,
        }
        for seed, nme in enumerate((0.04, 0.05, 0.06))
    ]
    rows.append({"loss": "l1", "params": {}, "learning_rate": 1e-3, "seed": 0, "validation_nme": 0.07})
    lines = table(rows).splitlines()
    assert lines[2] == "| wing | 10 | 2 | 0.001 | 3 | 5.000 | 1.000 |"
    assert lines[3] == "| l1 |  |  | 0.001 | 1 | 7.000 |  |"


@pytest.mark.parametrize(("field", "value"), [("input", "tfdata"), ("parallel", "pmap"), ("processes", "many")])
def test_values_that_a_sweep_does_not_support_are_refused(config, field, value):
    with pytest.raises(InputError, match=f"{field}='{value}' works in wing-jax train only: a sweep needs"):
        sweep(dataclasses.replace(config, **{field: value}))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin a process to a core")
def test_a_process_of_one_core_runs_the_sweep_as_one_program(config, setup, trials):
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        runner = make_sweep_runner(config, setup, trials, devices.make_mesh(1))
    finally:
        os.sched_setaffinity(0, cores)
    assert runner.how == "scan"


def test_round_robin_needs_one_device(config):
    on_4_devices = dataclasses.replace(config, devices=4, grid=dataclasses.replace(GRID, execution="round_robin"))
    with pytest.raises(InputError, match=r'set devices=1, or grid\.execution to "scan"'):
        sweep(on_4_devices)


def test_the_command_prints_the_table(tmp_path, capsys, config):
    path = tmp_path / "tiny.py"
    base = Config(name="printed", data=config.data, stage1=STAGE, devices=1, output=str(tmp_path))
    path.write_text(f"from wing_jax.config import *\nconfig = {base!r}\n")
    main(["sweep", str(path), "--grid.losses", "wing", "l1", "--stage1.steps", "1"])
    output = capsys.readouterr().out
    assert output.count("\n| wing |") == output.count("\n| l1 |") == 1
    for arguments in (["sweep"], ["sweep", "--grid.seeds", "1"], ["sweep", str(path), "--grid.execution", "sideways"]):
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        assert exit_info.value.code == 2
