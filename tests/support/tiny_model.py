"""Small models for tests, which are fast and inaccurate."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from wing_jax.data.boxes import ShapeInBox
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.metadata import Metadata
from wing_jax.models import make_model
from wing_jax.schemes import MTFL_5


def save_tiny_model(folder: Path) -> Path:
    """Save a model of five points to `folder`, and return `folder`."""
    network = {"name": "plain", "points": 5, "channels": (4, 4), "hidden": 8}
    variables = make_model(**network).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables["params"]["output"]["bias"] = jnp.asarray([5.0, 5, 10, 5, 8, 8, 5, 11, 10, 11])
    stage = Stage(model=make_model(**network), variables=variables, input_size=16, face_crop_size=32, margin=1.2)
    template = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]], np.float32)
    metadata = Metadata(shape_in_box=ShapeInBox(center=(0.0, 0.0), side=0.9))
    localizer = Localizer(
        scheme=MTFL_5, box_convention="landmarks", stages=(stage,), template=template, metadata=metadata
    )
    return localizer.save(folder)


def save_random_model(folder, scheme, mean):
    """Save a one-stage model with random weights that predicts about the mean shape (in fractions of the crop)."""
    network = {"name": "plain", "points": scheme.points, "channels": (4, 4), "hidden": 8}
    model, random = make_model(**network), np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.uint8))
    variables = jax.tree.map(lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32), shapes)
    variables["params"]["output"]["bias"] = (mean.reshape(-1) * 16 - 0.5).astype(np.float32)
    stage = Stage(
        model=make_model(**network),
        variables={"batch_stats": {}, **variables},
        input_size=16,
        face_crop_size=32,
        margin=1.2,
    )
    metadata = Metadata(name="drawn", shape_in_box=ShapeInBox(center=(0.0, 0.0), side=1.0))
    localizer = Localizer(scheme=scheme, box_convention="landmarks", stages=(stage,), template=mean, metadata=metadata)
    return localizer.save(folder)
