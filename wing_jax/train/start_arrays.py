"""Arrays by name that a stage can start from: of a trained stage, of ImageNet weights, or a mapping of the user."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from wing_jax.errors import InputError
from wing_jax.models.imagenet import is_imagenet, load_imagenet
from wing_jax.text import quoted
from wing_jax.values import Value


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SourceArrays(Value):
    """The arrays that a stage can start from, by the names of `wing_jax.inference.bundle.flatten`."""

    arrays: Mapping[str, np.ndarray]
    converted: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # the head, for other landmarks
    about: str  # for messages


def load_arrays(model: Any) -> Mapping[str, np.ndarray] | None:
    """Return the arrays of a mapping or of ImageNet weights; None for any other model.

    Raises:
      InputError: the weights cannot be loaded, or the mapping is not from names to arrays.

    >>> load_arrays({"params/output/bias": np.zeros(10)}).keys()
    dict_keys(['params/output/bias'])
    >>> load_arrays("w300")
    """
    if isinstance(model, Mapping):
        for name, array in model.items():
            if not isinstance(name, str) or not hasattr(array, "dtype") or not hasattr(array, "shape"):
                raise InputError(
                    f"start: {quoted(name)} is {quoted(array)}: pass arrays by name, such as those of "
                    "wing_jax.models.load_imagenet"
                )
        return model
    return load_imagenet(model) if is_imagenet(model) else None
