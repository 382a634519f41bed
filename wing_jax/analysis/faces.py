"""A model's errors on a data set, and an untrained network for comparison."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from wing_jax.data.face_crops import crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.input.on_host import fixed_crops
from wing_jax.models.networks import as_network
from wing_jax.train.crops import first_transforms
from wing_jax.train.steps import make_predict
from wing_jax.types import Batch


def first_crops(localizer: Localizer, faces: FaceSet) -> Batch:
    """Return the first stage's crops of all faces."""
    stage = localizer.stages[0]
    face_crops = crop_faces(faces, size=stage.face_crop_size, workers=os.cpu_count() or 1)
    return fixed_crops(face_crops, first_transforms(stage, face_crops), size=stage.input_size)


def crop_errors(stage: Stage, variables: dict[str, Any], batch: Batch) -> Float[np.ndarray, "faces points 2"]:
    """Return signed errors (predicted - true) in pixels of the crop; 0 where a point is not visible."""
    predict, rows = make_predict(as_network(stage.model)), 64
    parts = [predict(variables, batch.images[i : i + rows]) for i in range(0, len(batch.images), rows)]
    error = np.concatenate([np.asarray(part) for part in parts]) - batch.points
    return np.where(np.asarray(batch.visible)[..., None], error, 0).astype(np.float32)


def untrained(stage: Stage, batch: Batch, *, seed: int) -> dict[str, Any]:
    """Return random variables of the stage's network, with predictions around the mean shape of the batch.

    Its errors are those at the start of a training run, not those of an output near zero.
    """
    variables = {"batch_stats": {}, **stage.model.init(jax.random.key(seed), jnp.asarray(batch.images[:1]))}
    shown = np.asarray(batch.visible)[..., None]
    mean = np.where(shown, batch.points, 0).sum(0) / np.maximum(shown.sum(0), 1)
    if not hasattr(stage.model, "start_at"):
        return variables
    started = stage.model.start_at(variables, mean)
    # `start_at` zeroes weights to predict the same points for every face. Keep these random so that gradients pass.
    return jax.tree.map(lambda initial, start: start if np.any(start) else initial, variables, started)
