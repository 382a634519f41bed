"""The course of a training run: its errors and the noise of its gradient, at each validation.

`curves/` in a runner's folder has a CSV file for each run, with one row per validation. The test faces are only
recorded: no model, rate or length of training is chosen by them.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wing_jax.input.sampling import BatchIndices, EpochSampler
from wing_jax.runtime.files import read_text, write_atomic
from wing_jax.train.setup import StageSetup
from wing_jax.train.steps import make_objective
from wing_jax.types import Batch, Loss

BATCHES = 16  # batches between which the gradient's noise is measured
NOISE_SEED = 1_000_003  # of their augmentations, which no training run has


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The state of a training run after `step` steps; NMEs are fractions."""

    step: int
    faces: int  # training faces seen, with repetitions
    validation_nme: float  # normalized by the distance of the eyes, as in the log
    test_nme: float  # by the recipe's metric
    gradient_cosine: float  # mean cosine between the gradients of two batches; 1: no noise


def read_curve(path: Path) -> list[CurvePoint]:
    """Read the curve of a run; none if there is no file."""
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(read_text(path)))
    return [
        CurvePoint(
            step=int(row["step"]),
            faces=int(row["faces"]),
            validation_nme=float(row["validation_nme"]),
            test_nme=float(row["test_nme"]),
            gradient_cosine=float(row["gradient_cosine"]),
        )
        for row in rows
    ]


def add_point(path: Path, point: CurvePoint) -> None:
    """Add `point` to the curve in `path`, without later points that an interrupted run has left."""
    points = [earlier for earlier in read_curve(path) if earlier.step < point.step] + [point]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(CurvePoint)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(each) for each in points)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, stream.getvalue())


class GradientNoise:
    """Measures how much of a gradient is noise: the cosine between the gradients of different training batches.

    The batches are the first of an epoch, with augmentations of their own, and are the same at each call.
    """

    def __init__(self, setup: StageSetup):
        batches, faces = setup.device_input(seed=NOISE_SEED), setup.faces()
        sampler = EpochSampler(np.asarray(faces.order), batch_size=setup.spec.batch_size, seed=NOISE_SEED)
        make_batch, indices = jax.jit(batches.batch), sampler(0, BATCHES)
        self._setup = setup
        self._batches = [make_batch(faces, BatchIndices(*(values[i] for values in indices))) for i in range(BATCHES)]
        self._gradients: dict[Any, Callable] = {}

    def cosine(self, key: Any, loss: Loss, variables: Mapping[str, Any]) -> float:
        """Return the mean cosine over all pairs of batches for `loss` (pixels of the crop), identified by `key`."""
        if key not in self._gradients:
            self._gradients[key] = jax.jit(self._make_gradient(loss))
        gradients = np.stack([np.asarray(self._gradients[key](variables, batch)) for batch in self._batches])
        return mean_cosine(gradients)

    def _make_gradient(self, loss: Loss) -> Callable[[Mapping[str, Any], Batch], Array]:
        spec = self._setup.spec
        objective = make_objective(self._setup.network(), loss, reduction=spec.reduction, seed=NOISE_SEED)

        def gradient(variables: Mapping[str, Any], batch: Batch) -> Array:
            params, rest = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}
            tree, _ = jax.grad(objective, has_aux=True)(params, rest, batch, jnp.int32(0))
            return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])

        return gradient


def mean_cosine(gradients: Float[np.ndarray, "batches params"]) -> float:
    """Return the mean cosine over all pairs of different rows.

    >>> round(mean_cosine(np.array([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])), 4)
    0.8047
    """
    lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
    rows = gradients / np.maximum(lengths, np.finfo(gradients.dtype).tiny)
    products = rows @ rows.T
    count = len(rows)
    return float((products.sum() - np.trace(products)) / (count * (count - 1)))
