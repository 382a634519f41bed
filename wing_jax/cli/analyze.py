"""The command `wing-jax analyze losses|model|training`: which errors a loss acts on."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from wing_jax.cli.data_source import DataOptions, faces_to_draw
from wing_jax.cli.options import parse, parse_config
from wing_jax.cli.usage import stop_with_usage
from wing_jax.config import LARGEST_SEED, Config
from wing_jax.errors import InputError
from wing_jax.report.canvas import Figure
from wing_jax.runtime.console import make_console, say
from wing_jax.runtime.parameters import check_range
from wing_jax.types import Loss

USAGE = """usage: wing-jax analyze ACTION ...

  losses                          plot value, gradient, curvature and optimal step of the losses against the error
  model MODEL --data NAME         plot which errors, landmarks, poses and layers the gradients come from
  training CONFIG [--field value] plot which errors the gradients come from during the training of the first stage

`wing-jax analyze ACTION --help` lists the options of an action."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """The options of all actions."""

    losses: tuple[str, ...] = ("l2", "l1", "smooth_l1", "wing")  # losses to compare
    small: float = 0.5  # errors below this are small; in pixels of a 64 x 64 crop
    large: float = 2.0  # errors of this size or more are large; in pixels of a 64 x 64 crop
    output: str = "runs/analysis"  # folder for the figures, as SVG and PNG

    @property
    def edges(self) -> tuple[float, float]:
        if not 0 < self.small < self.large:
            raise InputError(f"small={self.small} and large={self.large}: use 0 < small < large")
        return self.small, self.large


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossesOptions(Common):
    """Plot the losses against the error."""

    max_error: float = 20.0  # plot errors from -max_error to max_error, in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(Common, DataOptions):
    """Analyze the first stage of MODEL on a data set; compare it with the same network untrained."""

    # a pretrained model (mtfl, w300) or the folder of a trained model
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    faces: int = 0  # number of faces (only --data synthetic); 0: 500
    batch: int = 64  # number of faces for gradients and loss landscapes
    grid_points: int = 21  # grid points of the loss landscape, in each direction
    seed: int = 0  # random seed of the untrained network and the directions


@dataclasses.dataclass(frozen=True, kw_only=True)
class FollowedConfig(Config):
    """A training run whose first stage is analyzed."""

    analysis: Common = Common()


def run(arguments: list[str]) -> None:
    """Save the figures of one action and print their main numbers."""
    actions = {"losses": _losses, "model": _model, "training": _training}
    if not arguments or arguments[0] not in actions:
        stop_with_usage(arguments, USAGE, kind="action", known=actions)
    console = make_console()
    for line in actions[arguments[0]](arguments[1:]):
        say(console, line)


def _losses(arguments: list[str]) -> Iterator[str]:
    options = parse(LossesOptions, arguments, command="analyze losses")
    if options.max_error <= 0:
        raise InputError(f"max_error={options.max_error} must be greater than 0")
    import jax.numpy as jnp

    from wing_jax.analysis import curves
    from wing_jax.report.analysis import curves_figure

    errors = jnp.linspace(-options.max_error, options.max_error, 1601)
    curves_by_loss = {title: curves(loss, errors) for title, loss in _make_losses(options, 64).items()}
    yield _save(curves_figure(errors, curves_by_loss), options, "losses")


def _model(arguments: list[str]) -> Iterator[str]:
    options = parse(ModelOptions, arguments, command="analyze model")
    check_range(options, seed=(0, LARGEST_SEED))
    for name in ("batch", "grid_points"):
        if getattr(options, name) < 2:
            raise InputError(f"{name}={getattr(options, name)} must be 2 or more")
    from wing_jax.analysis.subject import describe_agreement, describe_shares, figures, make_subject
    from wing_jax.cli.model import find_model
    from wing_jax.inference.localizer import Localizer

    localizer = Localizer.load(find_model(options.model).folder)
    faces = options.load(count=faces_to_draw(options.data, options.faces))
    size = localizer.stages[0].input_size
    edges = _scale_edges(options.edges, size)
    analysis = make_subject(localizer, faces, losses=_make_losses(options, size), edges=edges, seed=options.seed)
    yield from describe_shares(analysis.shares, analysis.edges)
    yield from describe_agreement(analysis, batch=options.batch, seed=options.seed)
    for name, figure in figures(analysis, batch=options.batch, places=options.grid_points, seed=options.seed):
        yield _save(figure, options, name)


def _training(arguments: list[str]) -> Iterator[str]:
    config = parse_config(FollowedConfig, arguments, command="analyze training", usage=USAGE)
    import numpy as np

    from wing_jax.analysis import error_shares, gradient_shares
    from wing_jax.analysis.training import follow, probe_steps
    from wing_jax.from_config.recipe import at_large_batch, mesh_of, settings_of
    from wing_jax.from_config.train import first_setup, training_data
    from wing_jax.report.analysis import training_figure

    config = at_large_batch(config)
    options, stage = config.analysis, config.stage1
    losses, edges = _make_losses(options, stage.input_size), _scale_edges(options.edges, stage.input_size)
    setup = first_setup(config, training_data(config))
    probes = follow(setup, settings_of(config, mesh_of(config)), at=probe_steps(stage.steps))
    counts = np.stack([error_shares(probe.errors, probe.visible, edges=edges) for probe in probes])
    shares = {
        loss: np.stack([gradient_shares(f, probe.errors, probe.visible, edges=edges) for probe in probes])
        for loss, f in losses.items()
    }
    for number, probe in enumerate(probes):
        gradients = ", ".join(f"{loss} {100 * values[number][0]:.0f} %" for loss, values in shares.items())
        small = f"{100 * counts[number][0]:.0f} % of the errors"
        yield f"step {probe.step}: small errors are {small}, and this much of the gradient: {gradients}"
    yield _save(training_figure([probe.step for probe in probes], shares, counts, edges), options, "training")


def _make_losses(options: Common, input_size: int) -> dict[str, Loss]:
    """Return the losses by title, with their default widths for crops of `input_size` pixels."""
    from wing_jax.losses import make_loss
    from wing_jax.reproduce.published import title_of

    return {title_of(name): make_loss(name, working_extent=input_size) for name in options.losses}


def _scale_edges(edges: tuple[float, float], input_size: int) -> tuple[float, float]:
    low, high = edges
    return low * input_size / 64, high * input_size / 64


def _save(figure: Figure, options: Common, name: str) -> str:
    from wing_jax.report.analysis import save_vector

    return f"saved: {', '.join(map(str, save_vector(figure, Path(options.output) / name)))}"
