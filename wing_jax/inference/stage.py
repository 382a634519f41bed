"""One trained network with its crop, and its form in a bundle."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wing_jax.errors import InputError
from wing_jax.inference.bundle import flatten
from wing_jax.inference.forward import StageForward
from wing_jax.models import describe_model, make_model
from wing_jax.models.networks import LinenNetwork, Network, as_network, shapes_of
from wing_jax.text import printable, quoted
from wing_jax.values import Value


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Stage(Value):
    """A trained network and its crop; an immutable value.

    Raises:
      InputError: `model` is not a model (`wing_jax.models.networks.as_network`).
    """

    model: Any  # a Flax module, or any object with `init` and `apply`
    variables: dict[str, Any]  # {"params": pytree of arrays, and other collections}
    input_size: int  # pixels: the side of the crop, the input of the network
    face_crop_size: int  # pixels: the side of the face crop from which the crop is cut
    margin: float  # first stage: crop side per larger box side; second: per larger side of the template's box
    center: Sequence[float] = (0.0, 0.0)  # first stage: crop center minus box center, in larger box sides

    def __post_init__(self) -> None:
        _ = self.network

    @functools.cached_property
    def network(self) -> Network:
        """The model with the common signature of all models."""
        return as_network(self.model)

    @functools.cached_property
    def forward(self) -> StageForward:
        """The stage without its weights."""
        return StageForward(
            network=self.network,
            input_size=self.input_size,
            face_crop_size=self.face_crop_size,
            margin=float(self.margin),
            center=(float(self.center[0]), float(self.center[1])),
        )

    @functools.cached_property
    def on_device(self) -> dict[str, Any]:
        """The variables on the device: transferred once, not with every call."""
        return jax.device_put(self.variables)

    def to_table(self) -> dict[str, Any]:
        """Convert to a JSON-serializable dict, without the variables.

        A registered model is described by its name and options, another one by the name of its class, which the message
        of `from_table` quotes.
        """
        return {
            "model": describe_model(self.model) or {"custom": type(self.model).__name__},
            "input_size": int(self.input_size),
            "face_crop_size": int(self.face_crop_size),
            "margin": float(self.margin),
            "center": [float(value) for value in self.center],
        }

    @classmethod
    def from_table(cls, table: Any, arrays: Mapping[str, Any], *, points: int = 0, model: Any = None) -> "Stage":
        """Create from the result of `to_table`.

        Args:
          table: the result of `to_table`.
          arrays: the variables as nested dicts, named as by `wing_jax.inference.bundle.flatten`.
          points: the number of landmarks that `model` must return.
          model: the model to use; needed if the model of the stage is not registered.

        Raises:
          InputError: the model is not registered and `model` is missing, or the arrays do not match `model`.
          KeyError, TypeError, ValueError: the table is invalid.
        """
        description = dict(table["model"])
        settings: dict[str, Any] = {name: table[name] for name in ("input_size", "margin", "center")}
        settings["face_crop_size"] = table["face_crop_size"]
        if model is None and "custom" in description:
            name = printable(str(description["custom"]))
            raise InputError(
                f"the network is of class {name}, which is not registered, and the bundle has only its arrays: use "
                f"Localizer.load(path, model={name}(...))"
            )
        if model is None:
            model, points = make_model(**description), description["points"]
            if isinstance(as_network(model), LinenNetwork):  # its variables are nested dicts like `arrays`
                return cls(model=model, variables={"batch_stats": {}, **arrays}, **settings)
        variables = _match(as_network(model), arrays, input_size=settings["input_size"], points=points)
        return cls(model=model, variables=variables, **settings)


def is_custom(table: Any) -> bool:
    """Return whether the model of the stage in `table` is not registered."""
    return isinstance(table, Mapping) and isinstance(table.get("model"), Mapping) and "custom" in table["model"]


def _match(network: Network, arrays: Mapping[str, Any], *, input_size: int, points: int) -> dict[str, Any]:
    """Return the arrays as the variables of `network`, with its structure and dtypes.

    Raises:
      InputError: an array is missing, of another shape or kind, or not used; the message names the first one.
    """
    leaves, structure = jax.tree.flatten(shapes_of(network, input_size=input_size, points=points))
    names = list(flatten(jax.tree.unflatten(structure, leaves)))
    stored = flatten(arrays)
    name = type(getattr(network, "model", network)).__name__
    hint = "pass the model that it was saved with"
    matched = []
    for path, expected in zip(names, leaves, strict=True):
        if (array := stored.pop(path, None)) is None:
            raise InputError(f"the model {name} has an array {quoted(path)} that is not in the bundle: {hint}")
        if array.shape != expected.shape or _kind(array.dtype) != _kind(expected.dtype):
            raise InputError(
                f"the array {quoted(path)} of the model {name} is {_describe(expected)}, in the bundle it is "
                f"{_describe(array)}: {hint}"
            )
        matched.append(np.asarray(array, expected.dtype))
    if stored:
        extra = quoted(next(iter(stored)))
        raise InputError(f"the bundle has an array {extra} that is not in the model {name}: {hint}")
    return jax.tree.unflatten(structure, matched)


def _kind(dtype: Any) -> str:
    return "f" if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype).kind


def _describe(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}"
