"""`wing-jax analyse losses|model|training`: what a loss makes of errors, and why."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from wing_jax.cli.data_source import DataOptions, faces_to_draw
from wing_jax.cli.options import parse, parse_config
from wing_jax.cli.usage import stop_with_usage
from wing_jax.config import LARGEST_SEED, Config, check_range
from wing_jax.errors import InputError
from wing_jax.report.canvas import Figure
from wing_jax.runtime.console import make_console, say
from wing_jax.types import Loss

USAGE = """usage: wing-jax analyse ACTION ...

  losses                          value, gradient, curvature and optimal step over the error axis
  model MODEL --data NAME         which errors, landmarks, poses and layers the losses pull at, trained and untrained
  training CONFIG [--field value] which errors they would pull at in the course of the first stage's training

`wing-jax analyse ACTION --help` says more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What all actions take."""

    losses: tuple[str, ...] = ("l2", "l1", "smooth_l1", "wing")
    small: float = 0.5  # pixels of a 64 x 64 crop: errors below are small
    large: float = 2.0  # pixels of a 64 x 64 crop: errors from here on are large
    output: str = "runs/analysis"  # folder of the figures, as SVG and PNG

    @property
    def edges(self) -> tuple[float, float]:
        if not 0 < self.small < self.large:
            raise InputError(f"small={self.small} and large={self.large}: give 0 < small < large")
        return self.small, self.large


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossesOptions(Common):
    """Draw the losses over the error axis."""

    reach: float = 20.0  # pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(Common, DataOptions):
    """Analyse the first stage of MODEL on a data set, beside the same network untrained."""

    model: Annotated[str, tyro.conf.Positional]
    faces: int = 0  # synthetic faces to draw (synthetic alone); 0: 500
    batch: int = 64  # faces, for gradients and landscapes
    places: int = 21  # of the landscape, along either direction
    seed: int = 0  # of the untrained network and the directions


@dataclasses.dataclass(frozen=True, kw_only=True)
class FollowedConfig(Config):
    """A training whose first stage is followed."""

    analysis: Common = Common()


def run(arguments: list[str]) -> None:
    """Make the figures of one action and say what they show in numbers."""
    actions = {"losses": _losses, "model": _model, "training": _training}
    if not arguments or arguments[0] not in actions:
        stop_with_usage(arguments, USAGE, kind="action", known=actions)
    console = make_console()
    for said in actions[arguments[0]](arguments[1:]):
        say(console, said)


def _losses(arguments: list[str]) -> Iterator[str]:
    options = parse(LossesOptions, arguments, command="analyse losses")
    if options.reach <= 0:
        raise InputError(f"reach={options.reach} must be greater than 0")
    import jax.numpy as jnp

    from wing_jax.analysis import curves
    from wing_jax.report.analysis import curves_figure

    errors = jnp.linspace(-options.reach, options.reach, 1601)
    drawn = {title: curves(loss, errors) for title, loss in _made(options, 64).items()}
    yield _written(curves_figure(errors, drawn), options, "losses")


def _model(arguments: list[str]) -> Iterator[str]:
    options = parse(ModelOptions, arguments, command="analyse model")
    check_range(options, seed=(0, LARGEST_SEED))
    for name in ("batch", "places"):
        if getattr(options, name) < 2:
            raise InputError(f"{name}={getattr(options, name)} must be 2 or more")
    from wing_jax.analysis.subject import agreement_in_words, figures, shares_in_words, subject
    from wing_jax.cli.model import find_model
    from wing_jax.inference.localizer import Localizer

    localizer = Localizer.load(find_model(options.model).folder)
    faces = options.load(count=faces_to_draw(options.data, options.faces))
    size = localizer.stages[0].input_size
    what = subject(localizer, faces, losses=_made(options, size), edges=_scaled(options.edges, size), seed=options.seed)
    yield from shares_in_words(what.shares, what.edges)
    yield from agreement_in_words(what, batch=options.batch, seed=options.seed)
    for name, figure in figures(what, batch=options.batch, places=options.places, seed=options.seed):
        yield _written(figure, options, name)


def _training(arguments: list[str]) -> Iterator[str]:
    config = parse_config(FollowedConfig, arguments, command="analyse training", usage=USAGE)
    import numpy as np

    from wing_jax.analysis import error_shares, gradient_shares
    from wing_jax.analysis.training import follow, probe_steps
    from wing_jax.from_config.recipe import at_large_batch, mesh_of, settings_of
    from wing_jax.from_config.train import first_setup, training_data
    from wing_jax.report.analysis import training_figure

    config = at_large_batch(config)
    options, stage = config.analysis, config.stage1
    losses, edges = _made(options, stage.input_size), _scaled(options.edges, stage.input_size)
    setup = first_setup(config, training_data(config))
    seen = follow(setup, settings_of(config, mesh_of(config)), at=probe_steps(stage.steps))
    counts = np.stack([error_shares(one.errors, one.visible, edges=edges) for one in seen])
    shares = {
        loss: np.stack([gradient_shares(f, one.errors, one.visible, edges=edges) for one in seen])
        for loss, f in losses.items()
    }
    for number, one in enumerate(seen):
        pulls = ", ".join(f"{loss} {100 * values[number][0]:.0f} %" for loss, values in shares.items())
        yield f"step {one.step}: {100 * counts[number][0]:.0f} % of the errors are small; of the gradient: {pulls}"
    yield _written(training_figure([one.step for one in seen], shares, counts, edges), options, "training")


def _made(options: Common, input_size: int) -> dict[str, Loss]:
    """The losses with their default lengths, in pixels of a crop of `input_size`."""
    from wing_jax.losses import make_loss
    from wing_jax.reproduce.published import title_of

    return {title_of(name): make_loss(name, working_extent=input_size) for name in options.losses}


def _scaled(edges: tuple[float, float], input_size: int) -> tuple[float, float]:
    low, high = edges
    return low * input_size / 64, high * input_size / 64


def _written(figure: Figure, options: Common, name: str) -> str:
    from wing_jax.report.analysis import save_vector

    return f"written: {', '.join(map(str, save_vector(figure, Path(options.output) / name)))}"
