"""One way to call any model: Flax linen modules, and whatever else has `init` and `apply`.

A model maps RGB crops `[batch, size, size, 3]`, uint8, to landmarks `[batch, points, 2]`, (x, y) in pixels of the crop.
`as_network` gives it the one signature that training and prediction call, `Network`.
"""

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from wing_jax.errors import InputError
from wing_jax.text import quoted, reason

Variables: TypeAlias = dict[str, Any]  # {"params": pytree of arrays, "batch_stats": ..., ...}
Collections: TypeAlias = dict[str, Any]  # the variables without "params"

SWITCHES = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}


class Network(abc.ABC):
    """The one signature of all models. A subclass of yours serves where a model needs more than `as_network` knows,
    such as state of its own."""

    @abc.abstractmethod
    def init(self, key: Array, images: Array | np.ndarray) -> Variables:
        """First variables: a dict with "params" (what is trained) and any other collections (what is not).

        Args:
          key: a random key.
          images: crops `[1, size, size, 3]`, uint8.
        """

    def init_with_output(self, key: Array, images: Array | np.ndarray) -> tuple[Array, Variables]:
        """What the network answers before training, and the variables of `init`."""
        variables = self.init(key, images)
        return self.apply(variables, images, train=False)[0], variables

    @abc.abstractmethod
    def apply(
        self, variables: Mapping[str, Any], images: Array | np.ndarray, *, train: bool, key: Array | None = None
    ) -> tuple[Array, Collections]:
        """Landmarks, and the collections besides "params" as they are afterwards.

        Args:
          variables: as from `init`.
          images: crops `[batch, size, size, 3]`, uint8 or float in 0..255.
          train: whether the model works as in training (dropout, statistics of the batch).
          key: a random key for dropout; only where `train`.

        Returns:
          Points `[batch, points, 2]`, (x, y) in pixels of the crop, 0-based pixel centers; and the new collections.
        """


def as_network(model: Any) -> Network:
    """`model` behind the signature of `Network`; a Network is returned as it is.

    Args:
      model: a Flax linen module, called with the images, and with `train`, `training`, `is_training`, `deterministic`
        or `use_running_average` where its `__call__` has such an argument; or any object with
        `init(key, images) -> params` and `apply(params, images) -> points`, whose `apply` may take the same arguments
        and `key`, and whose params may be any pytree of arrays.

    Raises:
      InputError: it is none of these.

    >>> import flax.linen as nn
    >>> class Linear(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, images):
    ...         return nn.Dense(10)(images.reshape(len(images), -1) / 255).reshape(-1, 5, 2)
    >>> network, images = as_network(Linear()), jnp.zeros((3, 8, 8, 3), jnp.uint8)
    >>> variables = network.init(jax.random.key(0), images[:1])
    >>> points, collections = network.apply(variables, images, train=True)
    >>> points.shape, collections
    ((3, 5, 2), {})
    """
    if isinstance(model, Network):
        return model
    wanted = "give a Flax linen module, or an object with init(key, images) and apply(variables, images)"
    if isinstance(model, type | functools.partial):
        named = quoted(getattr(model, "__name__", None) or getattr(model.func, "__name__", "a partial"))
        raise InputError(f"model={named} is not built yet: call it first, and give what that returns")
    if isinstance(model, nn.Module):
        return LinenNetwork(model, _switch(type(model).__call__, name=f"{type(model).__name__}.__call__"))
    if callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None)):
        switch = _switch(model.apply, name=f"{type(model).__name__}.apply", also=("key",))
        return PlainNetwork(model, switch, "key" in _parameters(model.apply))
    raise InputError(f"model={quoted(model)} is no model: {wanted}")


@dataclasses.dataclass(frozen=True, eq=False)
class _Wrapped(Network):
    """A model with the name of the argument that tells it whether it trains. Equal where the models are, so that
    programs compiled for one serve the other; a model that cannot be compared is equal to itself alone."""

    model: Any
    switch: str | None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _same(self.model, other.model)

    def __hash__(self) -> int:
        try:
            return hash(self.model)
        except TypeError:  # it has a list or an array among its fields
            return id(self.model)

    def _switched(self, train: bool) -> dict[str, bool]:
        return {} if self.switch is None else {self.switch: train == SWITCHES[self.switch]}


@dataclasses.dataclass(frozen=True, eq=False)
class LinenNetwork(_Wrapped):
    """A Flax linen module as a `Network`; see `as_network`."""

    def init(self, key: Array, images: Array | np.ndarray) -> Variables:
        """The module's own `init`, switched to prediction where it has such a switch."""
        return self.init_with_output(key, images)[1]

    def init_with_output(self, key: Array, images: Array | np.ndarray) -> tuple[Array, Variables]:
        """The module's own `init_with_output`, which goes through the module once."""
        points, variables = self.model.init_with_output(key, images, **self._switched(False))
        return points, {"params": {}, **variables}

    def apply(
        self, variables: Mapping[str, Any], images: Array | np.ndarray, *, train: bool, key: Array | None = None
    ) -> tuple[Array, Collections]:
        """The module's own `apply`; in training its collections are mutable and its random streams are drawn of `key`:
        "dropout" of the key itself, those of other names of a key derived from it."""
        collections = {name: value for name, value in variables.items() if name != "params"}
        if not train:
            return self.model.apply(variables, images, **self._switched(False)), collections
        keys = {} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)}
        points, changed = self.model.apply(
            variables, images, **self._switched(True), mutable=list(collections), rngs=keys
        )
        return points, {**collections, **changed}


@dataclasses.dataclass(frozen=True, eq=False)
class PlainNetwork(_Wrapped):
    """An object with `init` and `apply` as a `Network`; see `as_network`."""

    takes_key: bool

    def init(self, key: Array, images: Array | np.ndarray) -> Variables:
        """The object's parameters under "params"."""
        return {"params": self.model.init(key, images)}

    def apply(
        self, variables: Mapping[str, Any], images: Array | np.ndarray, *, train: bool, key: Array | None = None
    ) -> tuple[Array, Collections]:
        """The object's points; it has no other collections."""
        keyed = {"key": key if train else None} if self.takes_key else {}
        return self.model.apply(variables["params"], images, **self._switched(train), **keyed), {}


def shapes_of(network: Network, *, input_size: int, points: int) -> Variables:
    """The shapes and dtypes of a model's variables (`jax.ShapeDtypeStruct`), without computing any of them.

    Args:
      network: the model, by `as_network`.
      input_size: side of its crops in pixels.
      points: how many landmarks it must answer.

    Raises:
      InputError: the model cannot be called with such crops, or answers something other than float
        `[batch, points, 2]`.
    """
    crops, key = jax.ShapeDtypeStruct((1, input_size, input_size, 3), jnp.uint8), jax.random.key(0)
    called = f"the model {_name(network)} on crops of {input_size} x {input_size} pixels"
    try:
        answer, variables = jax.eval_shape(network.init_with_output, key, crops)
    except Exception as error:  # whatever a user's model raises
        raise InputError(f"{called} fails: {type(error).__name__}: {reason(error)}: correct the model") from error
    shape = getattr(answer, "shape", None)
    if shape != (1, points, 2) or not jnp.issubdtype(answer.dtype, jnp.floating):
        said = f"{answer.dtype} {list(shape)}" if shape is not None else quoted(answer)
        raise InputError(
            f"{called} answers {said} for one crop: it must answer float [1, {points}, 2], the points in pixels of "
            "the crop"
        )
    return variables


def _name(network: Network) -> str:
    return type(getattr(network, "model", network)).__name__


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin
        return {}


def _switch(function: Callable[..., Any], *, name: str, also: tuple[str, ...] = ()) -> str | None:
    """The argument of `function` that tells a model whether it trains; None where it has none.

    Raises:
      InputError: it needs arguments besides the first two (itself or its variables, and the images), that one, and
        those named in `also`.
    """
    parameters = list(_parameters(function).values())
    switch = next((found.name for found in parameters if found.name in SWITCHES), None)
    needed = [
        found.name
        for position, found in enumerate(parameters)
        if (position >= 2 or found.kind is found.KEYWORD_ONLY)
        and found.default is found.empty
        and found.kind not in (found.VAR_POSITIONAL, found.VAR_KEYWORD)
        and found.name not in (switch, *also)
    ]
    if needed:
        raise InputError(
            f"{name} needs {' and '.join(map(quoted, needed))} besides the images: give it a default, or set it in the "
            f"model (it may take one of {', '.join(SWITCHES)})"
        )
    return switch


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _same(one: Any, another: Any) -> bool:
    if one is another:
        return True
    try:
        return _is_hashable(one) and _is_hashable(another) and bool(one == another)
    except (TypeError, ValueError):  # arrays among its fields
        return False
