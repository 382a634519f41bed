"""Two processes train the same as one, each on its part of every batch and of the faces."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from wing_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    StageConfig,
)
from wing_jax.config_files import load_config
from wing_jax.from_config.train import train
from wing_jax.inference.localizer import Localizer

pytestmark = pytest.mark.slow

CODE = """
import sys
from wing_jax.cli import main

for options in sys.argv[2:]:
    main(["train", sys.argv[1], *options.split()])
"""
MANY = 1_000_000  # steps
LONG = f"--stage1.steps {MANY} --stage1.evaluate_every {MANY}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny config and its runs."""
    folder = tmp_path_factory.mktemp("distributed") / "exp [v2] a\\b"  # a pattern for TensorStore
    folder.mkdir()
    config = Config(
        name="one",
        output=str(folder),
        data=DataConfig(name="synthetic", train_faces=12, validation=0.3),
        stage1=StageConfig(
            input_size=16,
            margin=1.3,
            model=ModelConfig(params={"channels": (4, 8), "hidden": 8, "norm": "batch"}, output_bias="mean_shape"),
            loss=LossConfig(reduction="mean"),
            augment=AugmentConfig(rotation=5.0, translation=0.02, scale=0.02),
            optimizer=OptimizerConfig(
                name="sgd", learning_rate=1e-2, final_learning_rate=1e-3, decay="cosine", weight_decay=1e-2, ema=0.5
            ),
            batch_size=4,
            steps=6,
            evaluate_every=3,
        ),
    )
    (folder / "tiny.py").write_text(f"from wing_jax.config import *\nconfig = {config!r}\n")
    return folder


def start(folder, *trainings, **environment):
    """Start a process that trains with the options of each of `trainings`, one after the other."""
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    inherited |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-c", CODE, str(folder / "tiny.py"), *trainings]
    return subprocess.Popen(
        command, env=inherited | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output + errors


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_two(folder, *trainings) -> list[subprocess.Popen]:
    """Start two processes that share each of `trainings`."""
    cluster = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    trainings = [f"--processes many {options}" for options in trainings]
    return [start(folder, *trainings, **cluster, JAX_PROCESS_ID=str(number)) for number in range(2)]


def read_steps(stage) -> list[int]:
    path = stage / "metrics.jsonl"
    complete = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return [json.loads(line)["step"] for line in complete]


def wait_for_step(stage, step, processes) -> None:
    while max(read_steps(stage), default=0) < step:
        assert all(process.poll() is None for process in processes), [p.communicate()[1] for p in processes]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def outputs(folder):
    """What the two processes printed that trained runs "two", "two" again, and "three", and were stopped in "four"."""
    processes = start_two(folder, "--name two", "--name two", "--name three --input tfdata", f"{LONG} --name four")
    wait_for_step(folder / "four" / "stage1", 40, processes)
    processes[1].send_signal(signal.SIGTERM)
    return [finish(process) for process in processes]


def test_two_processes_train_the_same_as_one(folder, outputs):
    config = dataclasses.replace(load_config(folder / "tiny.py"), devices=1)
    expected = train(config).localizer.stages[0].variables
    variables = Localizer.load(folder / "two").stages[0].variables
    for kind in expected:
        assert_close(variables[kind], expected[kind])
    # Trained again, both processes read the checkpoint, and nothing is logged.
    assert [output.count("model: ") for output in outputs] == [3, 3]
    assert read_steps(folder / "two" / "stage1") == [3, 6]


def test_only_the_first_process_writes_the_log(folder, outputs):
    assert ["validation NME" in output for output in outputs] == [True, False]
    assert read_steps(folder / "three" / "stage1") == [3, 6]


def test_if_a_process_is_stopped_both_save(folder, outputs):
    stage = folder / "four" / "stage1"
    step = read_steps(stage)[-1]
    assert (stage / "checkpoints" / str(step)).exists()
    for output in outputs:
        message = output.splitlines()[-1]
        assert message.startswith(f"wing-jax: stage 1: stopped at step {step} of {MANY}, which is saved")
    assert read_steps(stage) == sorted(set(read_steps(stage)))


def test_if_a_process_dies_the_other_exits(folder):
    first, second = start_two(folder, f"{LONG} --name five")
    wait_for_step(folder / "five" / "stage1", 40, (first, second))
    second.send_signal(signal.SIGKILL)
    _, errors = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == 3
    assert "wing-jax: process 0 of 2 lost contact with another process" in errors.splitlines()[-1]


def test_a_missing_cluster_is_reported_in_one_line(folder):
    process = start(folder, "--processes many --name none")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "JAX_COORDINATOR_ADDRESS" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def assert_close(actual, expected):
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for name in expected:
            assert_close(actual[name], expected[name])
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)


def test_the_repr_of_a_config_is_valid_python(folder):
    config = load_config(folder / "tiny.py")
    assert dataclasses.replace(config, seed=0) == config
