"""TensorFlow, imported when first asked for, quiet and kept off the accelerators that JAX works on."""

import functools
import os
from types import ModuleType

from wing_jax.runtime.extras import require


@functools.cache
def tensorflow(*, asked_for_by: str = "the tf.data input") -> ModuleType:
    """The `tensorflow` module, with no GPU or TPU visible to it.

    Raises:
      InputError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    tf = require("tensorflow", extra="tfdata", purpose=asked_for_by)
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
