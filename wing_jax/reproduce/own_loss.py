"""Losses of your own beside those of the paper, by one call."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from wing_jax.config import Config
from wing_jax.from_config.recipe import mesh_of, settings_of
from wing_jax.from_config.train import first_setup, training_data
from wing_jax.train.setup import make_runner
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
    mesh = mesh_of(config)
    setup = first_setup(config, training_data(config))
    validate, reached = setup.validate(mesh), {}
    for name, loss in losses.items():
        for seed in seeds:
            settings = dataclasses.replace(settings_of(config, mesh), seed=seed)
            runner = make_runner(setup, settings, loss=loss)
            placed, _ = runner.advance(runner.place(setup.state(seed=seed)), 0, setup.spec.steps)
            total, count = jax.device_get(validate(runner.whole(placed).best_variables))
            nme = float(total / max(count, 1))
            reached.setdefault(name, []).append(nme if np.isfinite(nme) else float("nan"))
    return reached
