"""One signature for all models: Flax linen modules, and other objects with `init` and `apply`.

A model maps RGB crops `[batch, size, size, 3]`, uint8, to landmarks `[batch, points, 2]`, (x, y) in pixels of the crop.
`as_network` wraps it in a `Network`, the signature that training and prediction call.
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


COVARIANCE = "covariance"  # the argument with which a module also returns covariances


class Network(abc.ABC):
    """The signature of all models. Subclass it if a model needs more than `as_network` supports, such as state."""

    @abc.abstractmethod
    def init(self, key: Array, images: Array | np.ndarray) -> Variables:
        """Initialize the variables: a dict with "params" (trained) and any other collections (not trained).

        Args:
          key: a random key.
          images: crops `[1, size, size, 3]`, uint8.
        """

    def init_with_output(self, key: Array, images: Array | np.ndarray) -> tuple[Array, Variables]:
        """Return the untrained network's points and the variables of `init`."""
        variables = self.init(key, images)
        return self.apply(variables, images, train=False)[0], variables

    @abc.abstractmethod
    def apply(
        self, variables: Mapping[str, Any], images: Array | np.ndarray, *, train: bool, key: Array | None = None
    ) -> tuple[Array, Collections]:
        """Predict landmarks; return them and the updated collections other than "params".

        Args:
          variables: with the structure of `init`'s.
          images: crops `[batch, size, size, 3]`, uint8 or float in 0..255.
          train: whether to apply the model as in training (dropout, statistics of the batch).
          key: a random key for dropout; only if `train`.

        Returns:
          Points `[batch, points, 2]`, (x, y) in pixels of the crop, 0-based pixel centers; and the new collections.
        """

    @property
    def estimates_covariance(self) -> bool:
        """Whether `predict` returns covariances."""
        return False

    def predict(self, variables: Mapping[str, Any], images: Array | np.ndarray) -> tuple[Array, Array | None]:
        """Predict landmarks; return them and the covariances by which the model says how sure it is of each.

        Args:
          variables: with the structure of `init`'s.
          images: crops `[batch, size, size, 3]`, uint8 or float in 0..255.

        Returns:
          Points `[batch, points, 2]`, in pixels of the crop; and positive definite matrices `[batch, points, 2, 2]` in
          squared pixels, which need not be those of the actual errors, or None if `estimates_covariance` is false.
        """
        return self.apply(variables, images, train=False)[0], None


def as_network(model: Any) -> Network:
    """Wrap `model` in a `Network`; a `Network` is returned unchanged.

    Args:
      model: a Flax linen module, called with the images, and with `train`, `training`, `is_training`, `deterministic`
        or `use_running_average` if its `__call__` has such an argument. If it has an argument `covariance`, it must
        return points and covariances when it is true (`Network.predict`). Or any object with
        `init(key, images) -> params` and `apply(params, images) -> points`, whose `apply` may have the same arguments
        and `key`, and whose params may be any pytree of arrays.

    Raises:
      InputError: it is neither.

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
    expected = "pass a Flax linen module, or an object with init(key, images) and apply(variables, images)"
    if isinstance(model, type | functools.partial):
        label = quoted(getattr(model, "__name__", None) or getattr(model.func, "__name__", "a partial"))
        raise InputError(f"model={label} is not instantiated: call it and pass the result")
    if isinstance(model, nn.Module):
        return LinenNetwork(model, _switch(type(model).__call__, name=f"{type(model).__name__}.__call__"))
    if callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None)):
        switch = _switch(model.apply, name=f"{type(model).__name__}.apply", optional=("key",))
        return PlainNetwork(model, switch, "key" in _parameters(model.apply))
    raise InputError(f"model={quoted(model)} is not a model: {expected}")


@dataclasses.dataclass(frozen=True, eq=False)
class _Wrapped(Network):
    """A model and the name of its argument that selects training or prediction.

    Equal if the models are equal, so that programs compiled for one can run the other. A model that cannot be compared
    is equal only to itself.
    """

    model: Any
    switch: str | None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _equal_models(self.model, other.model)

    def __hash__(self) -> int:
        try:
            return hash(self.model)
        except TypeError:  # a field is a list or an array
            return id(self.model)

    def _mode_argument(self, train: bool) -> dict[str, bool]:
        return {} if self.switch is None else {self.switch: train == SWITCHES[self.switch]}


@dataclasses.dataclass(frozen=True, eq=False)
class LinenNetwork(_Wrapped):
    """A Flax linen module as a `Network`; see `as_network`."""

    def init(self, key: Array, images: Array | np.ndarray) -> Variables:
        """Call the module's `init`, in prediction mode."""
        return self.init_with_output(key, images)[1]

    def init_with_output(self, key: Array, images: Array | np.ndarray) -> tuple[Array, Variables]:
        """Call the module's `init_with_output`, which runs the module only once."""
        points, variables = self.model.init_with_output(key, images, **self._mode_argument(False))
        return points, {"params": {}, **variables}

    def apply(
        self, variables: Mapping[str, Any], images: Array | np.ndarray, *, train: bool, key: Array | None = None
    ) -> tuple[Array, Collections]:
        """Call the module's `apply`.

        In training its collections are mutable, and its random streams come from `key`: "dropout" uses the key itself,
        other streams a key derived from it.
        """
        collections = {name: value for name, value in variables.items() if name != "params"}
        if not train:
            return self.model.apply(variables, images, **self._mode_argument(False)), collections
        keys = {} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)}
        points, changed = self.model.apply(
            variables, images, **self._mode_argument(True), mutable=list(collections), rngs=keys
        )
        return points, {**collections, **changed}

    @property
    def estimates_covariance(self) -> bool:
        """Whether the module's `__call__` has an argument `covariance`."""
        return COVARIANCE in _parameters(type(self.model).__call__)

    def predict(self, variables: Mapping[str, Any], images: Array | np.ndarray) -> tuple[Array, Array | None]:
        """Call the module's `apply`, with `covariance=True` if it has this argument."""
        if not self.estimates_covariance:
            return super().predict(variables, images)
        return self.model.apply(variables, images, **self._mode_argument(False), **{COVARIANCE: True})


@dataclasses.dataclass(frozen=True, eq=False)
class PlainNetwork(_Wrapped):
    """An object with `init` and `apply` as a `Network`; see `as_network`."""

    takes_key: bool

    def init(self, key: Array, images: Array | np.ndarray) -> Variables:
        """Return the object's parameters under "params"."""
        return {"params": self.model.init(key, images)}

    def apply(
        self, variables: Mapping[str, Any], images: Array | np.ndarray, *, train: bool, key: Array | None = None
    ) -> tuple[Array, Collections]:
        """Return the object's points; it has no other collections."""
        key_argument = {"key": key if train else None} if self.takes_key else {}
        return self.model.apply(variables["params"], images, **self._mode_argument(train), **key_argument), {}


def shapes_of(network: Network, *, input_size: int, points: int) -> Variables:
    """Return the shapes and dtypes of a model's variables (`jax.ShapeDtypeStruct`), without computing them.

    Args:
      network: the model, from `as_network`.
      input_size: side of its crops in pixels.
      points: number of landmarks that it must predict.

    Raises:
      InputError: the model cannot be called with such crops, or does not return float `[batch, points, 2]`.
    """
    crops, key = jax.ShapeDtypeStruct((1, input_size, input_size, 3), jnp.uint8), jax.random.key(0)
    description = f"the model {_name(network)} on crops of {input_size} x {input_size} pixels"
    try:
        result, variables = jax.eval_shape(network.init_with_output, key, crops)
    except Exception as error:  # a user's model may raise anything
        raise InputError(f"{description} fails: {type(error).__name__}: {reason(error)}: fix the model") from error
    shape = getattr(result, "shape", None)
    if shape != (1, points, 2) or not jnp.issubdtype(result.dtype, jnp.floating):
        actual = f"{result.dtype} {list(shape)}" if shape is not None else quoted(result)
        raise InputError(
            f"{description} returned {actual} for one crop: it must return float [1, {points}, 2], the points in "
            "pixels of the crop"
        )
    return variables


def _name(network: Network) -> str:
    return type(getattr(network, "model", network)).__name__


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin
        return {}


def _switch(function: Callable[..., Any], *, name: str, optional: tuple[str, ...] = ()) -> str | None:
    """Return the name of the argument of `function` that selects training or prediction; None if it has none.

    Raises:
      InputError: it requires other arguments than the first two (itself or its variables, and the images), this one,
        and those in `optional`.
    """
    parameters = list(_parameters(function).values())
    switch = next((parameter.name for parameter in parameters if parameter.name in SWITCHES), None)
    needed = [
        parameter.name
        for position, parameter in enumerate(parameters)
        if (position >= 2 or parameter.kind is parameter.KEYWORD_ONLY)
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in (switch, *optional)
    ]
    if needed:
        raise InputError(
            f"{name} needs {' and '.join(map(quoted, needed))} besides the images: add a default, or set it in the "
            f"model (it may take one of {', '.join(SWITCHES)})"
        )
    return switch


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _equal_models(first: Any, second: Any) -> bool:
    if first is second:
        return True
    try:
        return _is_hashable(first) and _is_hashable(second) and bool(first == second)
    except (TypeError, ValueError):  # a field is an array
        return False
