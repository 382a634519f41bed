"""TensorFlow, imported on first use, with few log messages and without the accelerators that JAX uses."""

import functools
import os
from types import ModuleType

from wing_jax.runtime.extras import require


@functools.cache
def tensorflow(*, purpose: str = "the tf.data input") -> ModuleType:
    """Import `tensorflow`, with no GPU or TPU visible to it.

    Raises:
      InputError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    tf = require("tensorflow", extra="tfdata", purpose=purpose)
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
