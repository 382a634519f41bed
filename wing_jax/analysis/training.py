"""The errors that a loss meets in the course of a training."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from wing_jax.train.setup import StageSetup, TrainSettings, make_runner
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


def follow(setup: StageSetup, settings: TrainSettings, *, at: Sequence[int]) -> list[Snapshot]:
    """Train the stage and look at it after each of the steps `at`, which rise; nothing is kept."""
    batch, predict = setup.validation_crops(), make_predict(setup.network())
    runner = make_runner(setup, settings)
    placed, done, seen = runner.place(setup.state(seed=settings.seed)), 0, []
    for step in at:
        if step > done:
            placed, _ = runner.advance(placed, done, step)
            done = step
        answers = predict(jax.device_get(runner.whole(placed).variables), batch.images)
        seen.append(Snapshot(step, np.asarray(answers) - np.asarray(batch.points), np.asarray(batch.visible)))
    return seen
