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

from wing_jax.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimizerConfig, StageConfig
from wing_jax.inference.localizer import Localizer

pytestmark = pytest.mark.slow

CODE = "from wing_jax.cli import main; main()"


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


def start(folder, *options, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    inherited |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-c", CODE, "train", str(folder / "tiny.py"), *options]
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


def train_two(folder, *options) -> list[str]:
    """Train with two processes and return their output."""
    return [finish(process) for process in start_two(folder, *options)]


def start_two(folder, *options) -> list[subprocess.Popen]:
    """Start two processes of one training."""
    cluster = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    return [
        start(folder, "--processes", "many", *options, **cluster, JAX_PROCESS_ID=str(number)) for number in range(2)
    ]


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
def single(folder):
    finish(start(folder))
    return Localizer.load(folder / "one").stages[0].variables


def test_two_processes_train_the_same_as_one(folder, single):
    train_two(folder, "--name", "two", "--stage1.steps", "6")
    variables = Localizer.load(folder / "two").stages[0].variables
    for kind in single:
        assert_close(variables[kind], single[kind])
    log = (folder / "two" / "stage1" / "metrics.jsonl").read_text()
    outputs = train_two(folder, "--name", "two")  # finished: both read the checkpoint
    assert all("model: " in output for output in outputs)
    assert (folder / "two" / "stage1" / "metrics.jsonl").read_text() == log


def test_only_the_first_process_writes_the_log(folder, single):
    outputs = train_two(folder, "--name", "three", "--input", "tfdata", "--stage1.steps", "3")
    assert ["validation NME" in output for output in outputs] == [True, False]
    assert len((folder / "three" / "stage1" / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_missing_cluster_is_reported_in_one_line(folder):
    process = start(folder, "--processes", "many", "--name", "none")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "JAX_COORDINATOR_ADDRESS" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_if_a_process_dies_the_other_exits_and_if_one_is_stopped_both_save(folder):
    steps = "1000000"
    long = ("--stage1.steps", steps, "--stage1.evaluate_every", steps)
    first, second = start_two(folder, *long, "--name", "four")
    wait_for_step(folder / "four" / "stage1", 40, (first, second))
    second.send_signal(signal.SIGKILL)
    _, errors = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == 3
    assert "wing-jax: process 0 of 2 lost contact with another process" in errors.splitlines()[-1]

    first, second = start_two(folder, *long, "--name", "five")
    stage = folder / "five" / "stage1"
    wait_for_step(stage, 40, (first, second))
    second.send_signal(signal.SIGTERM)
    messages = [finish(process).splitlines()[-1] for process in (first, second)]
    step = read_steps(stage)[-1]
    assert (stage / "checkpoints" / str(step)).exists()
    for message in messages:
        assert message.startswith(f"wing-jax: stage 1: stopped at step {step} of {steps}, which is saved")
    log = [json.loads(line)["step"] for line in (stage / "metrics.jsonl").read_text().splitlines()]
    assert log == sorted(set(log))


def assert_close(actual, expected):
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for name in expected:
            assert_close(actual[name], expected[name])
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)


def test_the_repr_of_a_config_is_valid_python(folder):
    from wing_jax.config import load_config

    config = load_config(folder / "tiny.py")
    assert dataclasses.replace(config, seed=0) == config
