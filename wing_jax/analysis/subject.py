"""Compare a trained first stage to the same network untrained, in numbers and figures."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from wing_jax.analysis import faces as on_faces
from wing_jax.analysis.landscape import landscapes
from wing_jax.analysis.network import gradient_agreement, layer_gradients
from wing_jax.analysis.shares import error_shares, gradient_shares, group_shares, landmark_shares, wing_shares
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation.groups import pose_labels
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.report import analysis as draw
from wing_jax.report.canvas import Figure
from wing_jax.report.plots import mean_shape
from wing_jax.reproduce.published import EPSILONS, WIDTHS
from wing_jax.types import Batch, Loss
from wing_jax.values import Value

UNTRAINED, TRAINED = "untrained", "trained"
BATCHES = 4  # for comparing gradients between batches


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Subject(Value):
    """Both networks and the first stage's crops of all faces."""

    stage: Stage
    models: dict[str, dict[str, Any]]  # variables
    crops: Batch
    faces: FaceSet
    losses: dict[str, Loss]  # in pixels of the crop
    edges: tuple[float, float]  # pixels of the crop

    @functools.cached_property
    def errors(self) -> dict[str, Float[np.ndarray, "faces points 2"]]:
        """The signed errors of each network, in pixels of the crop."""
        return {
            name: on_faces.crop_errors(self.stage, variables, self.crops) for name, variables in self.models.items()
        }

    @functools.cached_property
    def shown(self) -> Bool[np.ndarray, "faces points"]:
        """The points that count."""
        return np.asarray(self.crops.visible)

    @functools.cached_property
    def shares(self) -> dict[str, dict[str, np.ndarray]]:
        """The gradient shares by band of errors, for each network and loss; "errors" has the shares of the errors."""
        return {
            name: {"errors": error_shares(errors, self.shown, edges=self.edges)}
            | {
                loss: np.asarray(gradient_shares(f, errors, self.shown, edges=self.edges))
                for loss, f in self.losses.items()
            }
            for name, errors in self.errors.items()
        }

    def batch(self, size: int, *, seed: int) -> Batch:
        """Return a random batch of `size` crops, determined by `seed`."""
        return self.batches(size, count=1, seed=seed)[0]

    def batches(self, size: int, *, count: int, seed: int) -> list[Batch]:
        """Return at most `count` random batches of different crops, with `size` crops each if there are enough."""
        order = np.random.default_rng(seed).permutation(len(self.faces))
        size = min(size, len(order))
        chosen = [order[start : start + size] for start in range(0, len(order) - size + 1, size)][:count]
        return [Batch(*(np.asarray(part)[rows] for part in self.crops)) for rows in chosen]


def make_subject(
    localizer: Localizer, faces: FaceSet, *, losses: dict[str, Loss], edges: tuple[float, float], seed: int
) -> Subject:
    """Return the first stage of `localizer` and its untrained copy (initialized by `seed`) on `faces`.

    Raises:
      InputError: the faces have another scheme.
    """
    if faces.scheme.name != localizer.scheme.name:
        raise InputError(
            f"the model predicts {localizer.scheme.name}, {faces.name} has {faces.scheme.name}: pass faces with the "
            "model's scheme"
        )
    stage, crops = localizer.stages[0], on_faces.first_crops(localizer, faces)
    models = {UNTRAINED: on_faces.untrained(stage, crops, seed=seed), TRAINED: stage.variables}
    return Subject(stage=stage, models=models, crops=crops, faces=faces, losses=losses, edges=edges)


def figures(subject: Subject, *, batch: int, places: int, seed: int) -> Iterator[tuple[str, Figure]]:
    """Yield names and figures; `batch` faces for gradients, `places` positions along each axis of a landscape."""
    flat = {name: errors[subject.shown].reshape(-1) for name, errors in subject.errors.items()}
    yield "errors", draw.errors_figure(flat, subject.edges)
    yield "shares", draw.shares_figure(subject.shares, subject.edges)
    yield "poses", _poses(subject)
    yield "landmarks", _landmarks(subject)
    yield "width-epsilon", _lengths(subject)
    crops = subject.batch(batch, seed=seed)
    yield "layers", _layers(subject, crops)
    yield "landscape", _landscape(subject, crops, places=places, seed=seed)


def _poses(subject: Subject) -> Figure:
    labels = np.asarray(subject.faces.poses or pose_labels(subject.faces))
    names = sorted(set(labels.tolist()))
    members = labels[None] == np.asarray(names)[:, None]
    shares = {
        loss: group_shares(f, subject.errors[TRAINED], subject.shown, members, edges=subject.edges)
        for loss, f in subject.losses.items()
    }
    return draw.groups_figure(shares, names, members.mean(1).tolist(), subject.edges)


def _landmarks(subject: Subject) -> Figure:
    shares = {
        loss: np.asarray(landmark_shares(f, subject.errors[TRAINED], subject.shown, edges=subject.edges)).sum(1)
        for loss, f in subject.losses.items()
    }
    return draw.landmarks_figure(
        mean_shape(subject.faces.points, subject.shown), shares, lines=subject.faces.scheme.lines
    )


def _lengths(subject: Subject) -> Figure:
    ratio = subject.stage.input_size / 64
    widths, epsilons = (jnp.array(lengths, jnp.float32) * ratio for lengths in (WIDTHS, EPSILONS))
    shares = {
        name: np.asarray(wing_shares(widths, epsilons, errors, subject.shown, edges=subject.edges))
        for name, errors in subject.errors.items()
    }
    return draw.wing_figure(WIDTHS, EPSILONS, shares)


def _layers(subject: Subject, batch: Batch) -> Figure:
    gradients = {
        name: layer_gradients(subject.stage.model, variables, batch, subject.losses)
        for name, variables in subject.models.items()
    }
    norms = {name: dict(zip(subject.losses, np.asarray(entry.norms), strict=True)) for name, entry in gradients.items()}
    cosines = {name: entry.cosines for name, entry in gradients.items()}
    return draw.layers_figure(gradients[TRAINED].layers, norms, cosines)


def _landscape(subject: Subject, batch: Batch, *, places: int, seed: int) -> Figure:
    key, along, surfaces = jax.random.key(seed), np.zeros(0), {}
    for name, variables in subject.models.items():
        surface = landscapes(subject.stage.model, variables, batch, subject.losses, key, places=places)
        along = np.asarray(surface.places)
        surfaces[name] = dict(zip(subject.losses, np.asarray(surface.values), strict=True))
    return draw.landscape_figure(along, surfaces)


def describe_agreement(subject: Subject, *, batch: int, seed: int) -> Iterator[str]:
    """Yield a line for each network: the cosines between each loss's gradients on different batches.

    Nothing is yielded if there is only one batch.
    """
    batches = subject.batches(batch, count=BATCHES, seed=seed)
    if len(batches) < 2:
        return
    for name, variables in subject.models.items():
        cosines = gradient_agreement(subject.stage.model, variables, batches, subject.losses)
        values = ", ".join(f"{loss} {float(value):.2f}" for loss, value in zip(subject.losses, cosines, strict=True))
        yield f"{name}, cosine between the gradients of different batches of {len(batches[0].images)} faces: {values}"


def describe_shares(shares: dict[str, dict[str, np.ndarray]], edges: Sequence[float]) -> Iterator[str]:
    """Yield a line for each entry of `Subject.shares`."""
    low, high = edges
    for name, by_loss in shares.items():
        for loss, values in by_loss.items():
            small, medium, large = (f"{100 * float(value):.0f} %" for value in values)
            kind = "of the errors" if loss == "errors" else f"of the gradient of {loss}"
            yield f"{name}, {kind}: {small} below {low:g} pixels, {medium} to {high:g}, {large} above"
