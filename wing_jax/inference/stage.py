"""One trained network with the crop it works on, and how it lies in a bundle."""

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
    """A trained network, and the crop it works on; an immutable value.

    Raises:
      InputError: `model` is no model (`wing_jax.models.networks.as_network`).
    """

    model: Any  # a Flax module, or any object with `init` and `apply`
    variables: dict[str, Any]  # {"params": pytree of arrays, and other collections}
    input_size: int  # pixels: the side of the crop that the network sees
    face_crop_size: int  # pixels: the side of the face crop that the crop is cut from
    margin: float  # first stage: crop side per larger box side; second: per larger side of the template's box
    center: Sequence[float] = (0.0, 0.0)  # first stage: of the crop, from the box's, in larger box sides

    def __post_init__(self) -> None:
        _ = self.network

    @functools.cached_property
    def network(self) -> Network:
        """The model behind the signature that all models share."""
        return as_network(self.model)

    @functools.cached_property
    def forward(self) -> StageForward:
        """What the stage does, without what it has learned."""
        return StageForward(
            network=self.network,
            input_size=self.input_size,
            face_crop_size=self.face_crop_size,
            margin=float(self.margin),
            center=(float(self.center[0]), float(self.center[1])),
        )

    @functools.cached_property
    def on_device(self) -> dict[str, Any]:
        """The variables where the work is done: they travel once, not with every call."""
        return jax.device_put(self.variables)

    def to_table(self) -> dict[str, Any]:
        """The stage as JSON holds it, without the variables: its model by the name it is registered by, or, where it is
        none of those, the name of its class, by which `from_table` asks for it."""
        return {
            "model": describe_model(self.model) or {"custom": type(self.model).__name__},
            "input_size": int(self.input_size),
            "face_crop_size": int(self.face_crop_size),
            "margin": float(self.margin),
            "center": [float(value) for value in self.center],
        }

    @classmethod
    def from_table(cls, table: Any, arrays: Mapping[str, Any], *, points: int = 0, model: Any = None) -> "Stage":
        """The stage that `to_table` gave.

        Args:
          table: what `to_table` gave.
          arrays: the variables as nested dicts, named as by `wing_jax.inference.bundle.flatten`.
          points: how many landmarks the given model must answer.
          model: the model to use; needed where the stage's own is not registered.

        Raises:
          InputError: the model is not registered and none is given, or the arrays do not fit the one given.
          KeyError, TypeError, ValueError: the table is not as it must be.
        """
        described = dict(table["model"])
        facts: dict[str, Any] = {name: table[name] for name in ("input_size", "margin", "center")}
        facts["face_crop_size"] = table["face_crop_size"]
        if model is None and "custom" in described:
            name = printable(str(described["custom"]))
            raise InputError(
                f"it holds a network of class {name}, which is not registered, and of which it holds the arrays alone: "
                f"load it by Localizer.load(path, model={name}(...))"
            )
        if model is None:
            model, points = make_model(**described), described["points"]
            if isinstance(as_network(model), LinenNetwork):  # its variables are nested dicts, as the arrays are
                return cls(model=model, variables={"batch_stats": {}, **arrays}, **facts)
        variables = _fitted(as_network(model), arrays, input_size=facts["input_size"], points=points)
        return cls(model=model, variables=variables, **facts)


def is_custom(table: Any) -> bool:
    """Whether the stage of this table holds a model that is not registered."""
    return isinstance(table, Mapping) and isinstance(table.get("model"), Mapping) and "custom" in table["model"]


def _fitted(network: Network, arrays: Mapping[str, Any], *, input_size: int, points: int) -> dict[str, Any]:
    """The arrays as the variables of `network`, in its own structure and dtypes.

    Raises:
      InputError: one is missing, of another shape or kind, or left over; the message names the first.
    """
    leaves, structure = jax.tree.flatten(shapes_of(network, input_size=input_size, points=points))
    names = list(flatten(jax.tree.unflatten(structure, leaves)))
    stored = flatten(arrays)
    name = type(getattr(network, "model", network)).__name__
    hint = "give the model that it was saved with"
    filled = []
    for path, wanted in zip(names, leaves, strict=True):
        if (found := stored.pop(path, None)) is None:
            raise InputError(f"the given model {name} has an array {quoted(path)}, which the bundle has not: {hint}")
        if found.shape != wanted.shape or _kind(found.dtype) != _kind(wanted.dtype):
            raise InputError(
                f"the array {quoted(path)} of the given model {name} is {_outline(wanted)}, that of the bundle "
                f"{_outline(found)}: {hint}"
            )
        filled.append(np.asarray(found, wanted.dtype))
    if stored:
        raise InputError(f"the bundle has an array {quoted(next(iter(stored)))}, which the given model {name} has not: "
                         f"{hint}")  # fmt: skip
    return jax.tree.unflatten(structure, filled)


def _kind(dtype: Any) -> str:
    return "f" if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype).kind


def _outline(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}"
