"""`sample_batch`: a training batch to inspect before training."""

from typing import Any

import jax
import numpy as np

from wing_jax.choices import Input
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.input.sampling import EpochSampler
from wing_jax.text import quoted
from wing_jax.train.data import FaceSource, prepare_data
from wing_jax.train.spec import StageSpec, default_augmentations
from wing_jax.train.stages import first_setup
from wing_jax.types import Batch


def sample_batch(faces: Any, stage: Any, *, step: int = 0, seed: int = 0, input: Input = "device") -> Batch:
    """Return the training batch of one step of the first stage: augmented crops and their points.

    It is the batch that `fit(faces, stage, validation=OTHER_FACES, seed=seed)` trains on at that step.

    Args:
      faces: a `FaceSet`.
      stage: a `StageSpec`; its input size, batch size, margin, center and augmentations are used.
      step: the step, counted from 0.
      seed: the seed of shuffling and augmentation.
      input: "device": made on the device, by the compiled training step. "tfdata": made by NumPy and OpenCV. The two
        differ only by the rounding of pixels.

    Returns:
      A batch of `images` uint8 `[batch, size, size, 3]` (RGB), `points` float32 `[batch, L, 2]`, (x, y) in pixels of
      the crop, and `visible` bool `[batch, L]`, True for the points to include.

    Raises:
      InputError: an argument is invalid, or a picture cannot be read.

    >>> import wing_jax as wj
    >>> stage = wj.StageSpec(model=wj.models.TINY, input_size=32, batch_size=4)
    >>> batch = wj.sample_batch(wj.load_faces("synthetic", count=4), stage)
    >>> batch.images.shape, batch.points.shape
    ((4, 32, 32, 3), (4, 68, 2))
    """
    if not isinstance(faces, FaceSet):
        raise InputError(f"faces={quoted(faces)}: pass a FaceSet (wing_jax.load_faces, FaceSet.from_arrays)")
    if not isinstance(stage, StageSpec):
        raise InputError(f"stage={quoted(stage)}: pass a StageSpec")
    if type(step) is not int or step < 0:
        raise InputError(f"step={quoted(step)}: pass a whole number of at least 0")
    if input not in ("device", "tfdata"):
        raise InputError(f"input={quoted(input)}: use device or tfdata")
    data = prepare_data([FaceSource(faces=faces)], [stage], validation=faces.take([0]), balance=None, seed=seed)
    setup = first_setup(stage, data, augment=default_augmentations(1) if stage.augment is None else stage.augment)
    if input == "tfdata":
        return setup.host_input(seed=seed)(step)
    sampler = EpochSampler(setup.order, batch_size=stage.batch_size, seed=setup.data_seed(seed))
    indices = jax.tree.map(lambda part: part[0], sampler(step, 1))
    batch = jax.jit(setup.device_input(seed=seed).batch)(jax.device_put(setup.faces()), indices)
    return Batch(*map(np.asarray, batch))
