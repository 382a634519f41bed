"""A trained first stage, the same network untrained, and the figures that set them beside each other."""

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
BATCHES = 4  # whose gradients are compared with each other


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Subject(Value):
    """What is analysed: both networks on the crops that the first stage sees of all faces."""

    stage: Stage
    models: dict[str, dict[str, Any]]  # variables
    crops: Batch
    faces: FaceSet
    losses: dict[str, Loss]  # in pixels of the crop
    edges: tuple[float, float]  # pixels of the crop

    @functools.cached_property
    def errors(self) -> dict[str, Float[np.ndarray, "faces points 2"]]:
        """Each network's signed errors, in pixels of the crop."""
        return {name: on_faces.crop_errors(self.stage, own, self.crops) for name, own in self.models.items()}

    @functools.cached_property
    def shown(self) -> Bool[np.ndarray, "faces points"]:
        """The points that count."""
        return np.asarray(self.crops.visible)

    @functools.cached_property
    def shares(self) -> dict[str, dict[str, np.ndarray]]:
        """Of each network and loss, the shares of the gradient by band of errors; "errors" are those of the errors."""
        return {
            name: {"errors": error_shares(own, self.shown, edges=self.edges)}
            | {
                loss: np.asarray(gradient_shares(f, own, self.shown, edges=self.edges))
                for loss, f in self.losses.items()
            }
            for name, own in self.errors.items()
        }

    def batch(self, size: int, *, seed: int) -> Batch:
        """`size` of the crops, drawn by `seed`."""
        return self.batches(size, count=1, seed=seed)[0]

    def batches(self, size: int, *, count: int, seed: int) -> list[Batch]:
        """At most `count` batches of different crops, drawn by `seed`, all of one size: `size` if there are as many."""
        order = np.random.default_rng(seed).permutation(len(self.faces))
        size = min(size, len(order))
        chosen = [order[start : start + size] for start in range(0, len(order) - size + 1, size)][:count]
        return [Batch(*(np.asarray(part)[rows] for part in self.crops)) for rows in chosen]


def subject(
    localizer: Localizer, faces: FaceSet, *, losses: dict[str, Loss], edges: tuple[float, float], seed: int
) -> Subject:
    """The first stage of `localizer` on `faces`; its untrained double is drawn by `seed`.

    Raises:
      InputError: the faces are annotated by another scheme.
    """
    if faces.scheme.name != localizer.scheme.name:
        raise InputError(
            f"the model marks {localizer.scheme.name}, {faces.name} has {faces.scheme.name}: give faces of the model's "
            "own scheme"
        )
    stage, crops = localizer.stages[0], on_faces.first_crops(localizer, faces)
    models = {UNTRAINED: on_faces.untrained(stage, crops, seed=seed), TRAINED: stage.variables}
    return Subject(stage=stage, models=models, crops=crops, faces=faces, losses=losses, edges=edges)


def figures(what: Subject, *, batch: int, places: int, seed: int) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after the other; `batch` faces for gradients, `places` along either way of a landscape."""
    flat = {name: own[what.shown].reshape(-1) for name, own in what.errors.items()}
    yield "errors", draw.errors_figure(flat, what.edges)
    yield "shares", draw.shares_figure(what.shares, what.edges)
    yield "poses", _poses(what)
    yield "landmarks", _landmarks(what)
    yield "width-epsilon", _lengths(what)
    some = what.batch(batch, seed=seed)
    yield "layers", _layers(what, some)
    yield "landscape", _landscape(what, some, places=places, seed=seed)


def _poses(what: Subject) -> Figure:
    labels = np.asarray(what.faces.poses or pose_labels(what.faces))
    names = sorted(set(labels.tolist()))
    members = labels[None] == np.asarray(names)[:, None]
    shares = {
        loss: group_shares(f, what.errors[TRAINED], what.shown, members, edges=what.edges)
        for loss, f in what.losses.items()
    }
    return draw.groups_figure(shares, names, members.mean(1).tolist(), what.edges)


def _landmarks(what: Subject) -> Figure:
    shares = {
        loss: np.asarray(landmark_shares(f, what.errors[TRAINED], what.shown, edges=what.edges)).sum(1)
        for loss, f in what.losses.items()
    }
    return draw.landmarks_figure(mean_shape(what.faces.points, what.shown), shares, lines=what.faces.scheme.lines)


def _lengths(what: Subject) -> Figure:
    ratio = what.stage.input_size / 64
    widths, epsilons = (jnp.array(lengths, jnp.float32) * ratio for lengths in (WIDTHS, EPSILONS))
    shares = {
        name: np.asarray(wing_shares(widths, epsilons, own, what.shown, edges=what.edges))
        for name, own in what.errors.items()
    }
    return draw.wing_figure(WIDTHS, EPSILONS, shares)


def _layers(what: Subject, batch: Batch) -> Figure:
    found = {name: layer_gradients(what.stage.model, own, batch, what.losses) for name, own in what.models.items()}
    norms = {name: dict(zip(what.losses, np.asarray(one.norms), strict=True)) for name, one in found.items()}
    return draw.layers_figure(found[TRAINED].layers, norms, {name: one.cosines for name, one in found.items()})


def _landscape(what: Subject, batch: Batch, *, places: int, seed: int) -> Figure:
    key, along, surfaces = jax.random.key(seed), np.zeros(0), {}
    for name, own in what.models.items():
        found = landscapes(what.stage.model, own, batch, what.losses, key, places=places)
        along, surfaces[name] = np.asarray(found.places), dict(zip(what.losses, np.asarray(found.values), strict=True))
    return draw.landscape_figure(along, surfaces)


def agreement_in_words(what: Subject, *, batch: int, seed: int) -> Iterator[str]:
    """How far each loss pulls the same way on different batches, a line a network; nothing where there is one batch."""
    batches = what.batches(batch, count=BATCHES, seed=seed)
    if len(batches) < 2:
        return
    for name, own in what.models.items():
        found = gradient_agreement(what.stage.model, own, batches, what.losses)
        told = ", ".join(f"{loss} {float(value):.2f}" for loss, value in zip(what.losses, found, strict=True))
        yield f"{name}, cosine between the gradients of batches of {len(batches[0].images)} other faces: {told}"


def shares_in_words(shares: dict[str, dict[str, np.ndarray]], edges: Sequence[float]) -> Iterator[str]:
    """The shares of `Subject.shares`, a line each."""
    low, high = edges
    for name, by_loss in shares.items():
        for loss, values in by_loss.items():
            small, medium, large = (f"{100 * float(value):.0f} %" for value in values)
            of = "of the errors" if loss == "errors" else f"of the gradient of {loss}"
            yield f"{name}, {of}: {small} below {low:g} pixels, {medium} to {high:g}, {large} beyond"
