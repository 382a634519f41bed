"""The errors that a loss meets in the course of a training."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from wing_jax.config import Config
from wing_jax.input.on_host import fixed_crops
from wing_jax.train.stage import StageTask, make_engine
from wing_jax.train.steps import make_predict


class Snapshot(NamedTuple):
    """A network after `step` steps on the held-out training faces."""

    step: int
    errors: Float[np.ndarray, "faces points 2"]  # signed, pixels of the crop
    visible: Bool[np.ndarray, "faces points"]


def probe_steps(steps: int, *, count: int = 12) -> tuple[int, ...]:
    """About `count` steps from 0 to `steps`, growing evenly in the logarithm: most happens at the start."""
    inner = np.geomspace(1, steps, max(count - 1, 2)).round().astype(int)
    return tuple(dict.fromkeys([0, *inner.tolist()]))


def follow(task: StageTask, config: Config, mesh: Mesh, *, at: Sequence[int]) -> list[Snapshot]:
    """Train the stage as `config` says and look at it after each of the steps `at`, which rise; nothing is kept."""
    images, points, visible = fixed_crops(task.validation, task.validation_frames, size=task.stage.input_size)
    predict, engine = make_predict(task.model()), make_engine(task, config, mesh)
    placed, done, seen = engine.place(task.state(seed=config.seed)), 0, []
    for step in at:
        if step > done:
            placed, _ = engine.advance(placed, done, step)
            done = step
        answers = predict(jax.device_get(engine.whole(placed).variables), images)
        seen.append(Snapshot(step, np.asarray(answers) - np.asarray(points), np.asarray(visible)))
    return seen
