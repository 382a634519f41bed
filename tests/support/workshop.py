"""Small trainings for tests, in a separate process that can be killed at a step."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np

from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import write_pts

STEPS = {1: 160, 2: 80}  # of each stage
EVERY = 40  # steps between checkpoints; losses are logged every 20 steps
CONFIG = f"""
from wing_jax.config import *

optimizer = OptimizerConfig(
    name="adamw", learning_rate=1e-2, final_learning_rate=1e-3, decay="cosine", weight_decay=1e-2, warmup=10, ema=0.9
)
stage = dict(
    input_size=32,
    model=ModelConfig(
        params={{"channels": (8, 16), "hidden": 12, "norm": "batch"}}, output_bias="mean_shape"
    ),
    loss=LossConfig(name="wing", params={{"width": 10.0, "epsilon": 2.0}}, reduction="mean"),
    augment=AugmentConfig(rotation=5.0, translation=0.02, scale=0.02, blur=0.0),
    optimizer=optimizer,
    batch_size=16,
    evaluate_every={EVERY},
)
config = Config(
    name="tiny",
    data=DataConfig(name="w300", root="faces", validation=0.2),
    balance=BalanceConfig(method="hsm", bins=5, cap=4),
    stage1=StageConfig(
        margin=1.3, steps={STEPS[1]}, **stage
    ),
    stage2=SecondStageConfig(
        margin=1.25, steps={STEPS[2]}, crops_per_face=2, **stage
    ),
    devices=1,
)
"""
CODE = """
import sys
from wing_jax.cli import main

for name in sys.argv[1:]:
    main(["train", "tiny.py", "--name", name])
"""


def furnish(folder):
    """Write the config, and synthetic faces in the folders of 300-W, to `folder`; return the test faces."""
    for split, part, count in (("train", "afw", 80), ("test", "ibug", 30)):
        faces = load_faces("synthetic", split, count=count)
        for i, points in enumerate(faces.points):
            write_image(folder / "faces" / part / f"{i}.png", faces.picture(i))
            write_pts(folder / "faces" / part / f"{i}.pts", points)
    (folder / "tiny.py").write_text(CONFIG)
    return faces


def start(workshop, *names):
    """Start a process that runs `wing-jax train tiny.py --name NAME` for each name."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # halves the time to compile
    }
    command = [sys.executable, "-c", CODE, *names]
    return subprocess.Popen(
        command, cwd=workshop, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    """Wait until the process has succeeded; return its output."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def logged(folder):
    """Return the complete lines of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def weights(folder):
    """Return the weights of a run's model, by name."""
    with np.load(folder / "model" / "weights.npz") as stored:
        return dict(stored)


def kill_after(process, folder, step, *, by=signal.SIGKILL):
    """Send the signal `by` to the process when it has logged `step`; return its errors."""
    while not any(line["step"] >= step for line in logged(folder)):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(by)
    _, errors = process.communicate()
    assert process.returncode == (0 if by == signal.SIGTERM else -by), errors
    return errors
