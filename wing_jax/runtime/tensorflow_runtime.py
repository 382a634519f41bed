"""TensorFlow, imported when first asked for, quiet and kept off the accelerators that JAX works on."""

import functools
import os
from types import ModuleType

from wing_jax.errors import InputError


@functools.cache
def tensorflow(*, asked_for_by: str = "the tf.data input") -> ModuleType:
    """The `tensorflow` module, with no GPU or TPU visible to it.

    Raises:
      InputError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"{asked_for_by} needs TensorFlow, which is not installed here: pip install tensorflow-cpu"
        ) from error
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
