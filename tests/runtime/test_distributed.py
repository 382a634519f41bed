"""Two processes train what one does, each on its part of every batch and of the faces."""

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

CODE = "from wing_jax.cli import main; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a tiny config and its runs lie."""
    folder = tmp_path_factory.mktemp("distributed") / "exp [v2] a\\b"  # TensorStore would read a pattern
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
    words = [sys.executable, "-c", CODE, "train", str(folder / "tiny.py"), *options]
    return subprocess.Popen(
        words, env=inherited | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process) -> str:
    said, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    return said + complaints


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(folder, *options) -> list[str]:
    """What two processes say that train together."""
    return [finish(process) for process in pair(folder, *options)]


def pair(folder, *options) -> list[subprocess.Popen]:
    """Two processes that train together."""
    cluster = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    return [
        start(folder, "--processes", "many", *options, **cluster, JAX_PROCESS_ID=str(number)) for number in range(2)
    ]


def steps_of(stage) -> list[int]:
    path = stage / "metrics.jsonl"
    whole = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return [json.loads(line)["step"] for line in whole]


def wait_for_step(stage, step, processes) -> None:
    while max(steps_of(stage), default=0) < step:
        assert all(process.poll() is None for process in processes), [p.communicate()[1] for p in processes]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(folder):
    finish(start(folder))
    return Localizer.load(folder / "one").stages[0].variables


def test_two_processes_train_what_one_does_stopped_and_resumed(folder, alone):
    together(folder, "--name", "two", "--stage1.steps", "6")
    variables = Localizer.load(folder / "two").stages[0].variables
    for kind in alone:
        assert_close(variables[kind], alone[kind])
    log = (folder / "two" / "stage1" / "metrics.jsonl").read_text()
    said = together(folder, "--name", "two")  # finished: both read the checkpoint
    assert all("model: " in words for words in said)
    assert (folder / "two" / "stage1" / "metrics.jsonl").read_text() == log


def test_only_the_first_process_writes_the_log(folder, alone):
    said = together(folder, "--name", "three", "--input", "tfdata", "--stage1.steps", "3")
    assert ["validation NME" in words for words in said] == [True, False]
    assert len((folder / "three" / "stage1" / "metrics.jsonl").read_text().splitlines()) == 1


def test_without_a_cluster_it_is_said_in_one_line(folder):
    process = start(folder, "--processes", "many", "--name", "none")
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "JAX_COORDINATOR_ADDRESS" in complaints.splitlines()[-1]
    assert "Traceback" not in complaints


def test_where_one_dies_the_other_ends_and_where_one_is_told_to_stop_both_save(folder):
    steps = "1000000"
    long = ("--stage1.steps", steps, "--stage1.evaluate_every", steps)
    first, second = pair(folder, *long, "--name", "four")
    wait_for_step(folder / "four" / "stage1", 40, (first, second))
    second.send_signal(signal.SIGKILL)
    _, said = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == 3
    assert "wing-jax: process 0 of 2 has lost another" in said.splitlines()[-1]

    first, second = pair(folder, *long, "--name", "five")
    stage = folder / "five" / "stage1"
    wait_for_step(stage, 40, (first, second))
    second.send_signal(signal.SIGTERM)
    told = [finish(process).splitlines()[-1] for process in (first, second)]
    step = steps_of(stage)[-1]
    assert (stage / "checkpoints" / str(step)).exists()
    for line in told:
        assert line.startswith(f"wing-jax: stage 1: stopped at step {step} of {steps}, which is saved")
    log = [json.loads(line)["step"] for line in (stage / "metrics.jsonl").read_text().splitlines()]
    assert log == sorted(set(log))


def assert_close(mine, theirs):
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        for name in theirs:
            assert_close(mine[name], theirs[name])
    else:
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_configs_can_be_written_as_they_are_shown(folder):
    from wing_jax.config import load_config

    config = load_config(folder / "tiny.py")
    assert dataclasses.replace(config, seed=0) == config
