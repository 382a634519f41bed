"""Losses of your own beside those of the paper, by one call."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from wing_jax.config import Config
from wing_jax.train.run import at_large_batch, check_numbers, first_task, prepare, read_corpus
from wing_jax.train.stage import make_engine
from wing_jax.types import Loss


def compare_losses(
    losses: Mapping[str, Loss], config: Config, *, seeds: Sequence[int] = (0,)
) -> dict[str, list[float]]:
    """Train the first stage of `config` by each loss and seed; the validation NMEs (fractions), in order of the seeds.

    A loss is any pure function `(predicted, target) -> loss` of coordinates in pixels of the crop, elementwise and
    unreduced; everything else is as `config` says, the learning rate too, and the same for all. A loss that diverges
    has the NME NaN. Nothing is written.

    Raises:
      InputError: data or numbers are not as they must be.
    """
    mesh = prepare(config)
    if config.large_batch:
        config = at_large_batch(config)
    check_numbers(config, mesh)
    task = first_task(config, read_corpus(config))
    validate, reached = task.validate(mesh), {}
    for name, loss in losses.items():
        for seed in seeds:
            engine = make_engine(task, dataclasses.replace(config, seed=seed), mesh, loss=loss)
            placed, _ = engine.advance(engine.place(task.state(seed=seed)), 0, task.stage.steps)
            total, count = jax.device_get(validate(engine.whole(placed).best_variables))
            nme = float(total / max(count, 1))
            reached.setdefault(name, []).append(nme if np.isfinite(nme) else float("nan"))
    return reached
