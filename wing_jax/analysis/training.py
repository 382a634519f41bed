"""The errors of a network in the course of a training run."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from wing_jax.train.setup import StageSetup, TrainSettings, make_runner
from wing_jax.train.steps import make_predict


class Snapshot(NamedTuple):
    """The errors of a network on the held-out training faces after `step` steps."""

    step: int
    errors: Float[np.ndarray, "faces points 2"]  # signed, pixels of the crop
    visible: Bool[np.ndarray, "faces points"]


def probe_steps(steps: int, *, count: int = 12) -> tuple[int, ...]:
    """Return about `count` steps from 0 to `steps`, evenly spaced in the logarithm: errors change most at the start."""
    inner = np.geomspace(1, steps, max(count - 1, 2)).round().astype(int)
    return tuple(dict.fromkeys([0, *inner.tolist()]))


def follow(setup: StageSetup, settings: TrainSettings, *, at: Sequence[int]) -> list[Snapshot]:
    """Train the stage and measure its errors after each of the increasing steps `at`; nothing is saved."""
    batch, predict = setup.validation_crops(), make_predict(setup.network())
    runner = make_runner(setup, settings)
    state, trained, snapshots = runner.place(setup.state(seed=settings.seed)), 0, []
    for step in at:
        if step > trained:
            state, _ = runner.advance(state, trained, step)
            trained = step
        predicted = predict(jax.device_get(runner.whole(state).variables), batch.images)
        snapshots.append(Snapshot(step, np.asarray(predicted) - np.asarray(batch.points), np.asarray(batch.visible)))
    return snapshots
