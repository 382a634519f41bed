"""Networks by name, those of this package and those of any other: what a config or a command line can name.

    @register_model
    class TwoLayers(nn.Module):
        points: int
        width: int = 64

        @nn.compact
        def __call__(self, images, *, train=False): ...   # uint8 [batch, size, size, 3] to points [batch, L, 2]

    model = make_model("TwoLayers", points=68, width=32)

A package that is installed can announce its network as an entry point of the group "wing_jax.models".
"""

import dataclasses
import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

import jax.numpy as jnp

from wing_jax.errors import InputError
from wing_jax.runtime.parameters import check_params, parameters_of, required_of, with_tuples
from wing_jax.runtime.processes import check_fork
from wing_jax.runtime.registry import Registry
from wing_jax.text import quoted, reason

Factory = TypeVar("Factory", bound=Callable[..., Any])
# What is no parameter of a network: what `make_model` gives it by itself, and what Flax gives to every module.
GIVEN = ("points", "dtype", "axis")
NOT_PARAMETERS = (*GIVEN, "name", "parent")
RESERVED = ("precision",)  # what `make_model` takes by itself, beside those


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """What makes a network: a class or a function.

    Args:
      make: `(points, **params) -> model`, which has `init` and `apply`.

    >>> from wing_jax import models
    >>> models.MODELS["plain"].given
    ('points', 'dtype', 'axis')
    """

    make: Callable[..., Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """The defaults of its parameters by name; those without one are in `required` only."""
        return parameters_of(self.make, without=NOT_PARAMETERS)

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters that have no default."""
        return required_of(self.make, without=NOT_PARAMETERS)

    @property
    def given(self) -> tuple[str, ...]:
        """Which of `points`, `dtype` and `axis` it takes."""
        return tuple(label for label in inspect.signature(self.make).parameters if label in GIVEN)


_NAMES: dict[type, str] = {}  # of registered classes
_DESCRIBED: dict[int, dict[str, Any]] = {}  # what registered functions have made, by identity, as long as it lives


def _registered(name: str, make: Any) -> RegisteredModel:
    """Raises ValueError where `make` makes no network."""
    if not callable(make):
        raise ValueError(f"the network {quoted(name)} is no class and no function: give one that takes `points`")
    entry = RegisteredModel(make=make)
    if "points" not in entry.given:
        raise ValueError(
            f"the network {quoted(name)} takes no argument `points`: give it one, how many points it marks"
        )
    if taken := [label for label in RESERVED if label in (*entry.parameters, *entry.required)]:
        raise ValueError(f"the network {quoted(name)} cannot have a parameter {taken[0]!r}: call it otherwise")
    if isinstance(make, type):
        _NAMES[make] = name
    return entry


MODELS: Registry[RegisteredModel] = Registry("network", group="wing_jax.models", adopt=_registered)


@overload
def register_model(make: Factory, /) -> Factory: ...
@overload
def register_model(make: None = None, /, *, name: str | None = None) -> Callable[[Factory], Factory]: ...
def register_model(make: Any = None, /, *, name: str | None = None) -> Any:
    """Register a network, so that `make_model`, configs and the command line know it by name.

    Args:
      make: a class or a function that takes `points`, and its parameters by keyword, and returns a network: anything
        with `init(key, images) -> variables` and `apply(variables, images, train=...) -> points`, from uint8 crops
        `[batch, size, size, 3]` to (x, y) `[batch, points, 2]` in pixels of the crop. A class of Flax linen modules
        with a field `points` is registered as it is. Where it also takes `dtype`, it is given that of its activations
        in training; where it takes `axis`, the name of the replicas' axis or None, for statistics of a whole batch.
        A network with a method `start_at(variables, points) -> variables` can be started at the mean shape.
      name: its name; the class's or function's own where none is given.

    Returns:
      `make` itself, unchanged; or, where none is given, the decorator that returns it.

    Raises:
      ValueError: it takes no `points`, or the name is taken.

    >>> from wing_jax import models
    >>> @models.register_model(name="doc_wide")
    ... def wide(points, *, width=512):
    ...     return models.PlainRegressor(points=points, channels=(8, 16), hidden=width)
    >>> models.make_model("doc_wide", points=5, width=64).hidden
    64
    """

    def register(make: Any) -> Any:
        label = name or getattr(make, "__name__", "")
        MODELS.add(label, _registered(label, make), origin=make)
        return make

    return register if make is None else register(make)


def make_model(name: str, *, points: int, precision: str = "float32", axis: str | None = None, **params: Any) -> Any:
    """The untrained network called `name`, without its variables.

    Args:
      name: a key of `MODELS`.
      points: how many points it marks.
      precision: dtype of its activations; one that has no field `dtype` is made without it.
      axis: the name of the replicas' axis, for one that has a field `axis`.
      **params: the network's own parameters; those left out have its defaults.

    Returns:
      Anything with `init` and `apply`, from uint8 crops `[batch, size, size, 3]` to points `[batch, points, 2]` in
      pixels of the crop.

    Raises:
      InputError: no network is called so, it has no such parameter, or a value is out of range; or JAX cannot be used
        in this process (`wing_jax.runtime.processes`).

    >>> make_model("plain", points=68, channels=(8, 16), hidden=32).points
    68
    """
    check_fork()
    entry = MODELS[name]
    check_params(f"the network {quoted(name)}", params, known=entry.parameters, required=entry.required)
    params = {label: with_tuples(value) for label, value in params.items()}
    try:
        given = {"points": points, "dtype": jnp.dtype(precision), "axis": axis}
        model = entry.make(**{label: given[label] for label in entry.given}, **params)
    except InputError:
        raise
    except Exception as error:  # whatever the network of another package raises
        raise InputError(f"network {quoted(name)}: cannot be made ({reason(error)}): see to its params") from error
    if not isinstance(entry.make, type):
        _remember(model, {"name": name, "points": points, **entry.parameters, **params, "precision": precision})
    return model


def describe_model(model: Any) -> dict[str, Any] | None:
    """What makes a registered network again: the inverse of `make_model`, but for `axis`.

    Args:
      model: any network.

    Returns:
      The keyword arguments of `make_model`, with a value for every parameter, all of them JSON-able; None for a
      network that is not registered, or that has a parameter which JSON does not hold.

    >>> from wing_jax import models
    >>> model = models.PlainRegressor(points=5, channels=(8,), hidden=16)
    >>> describe_model(model)["channels"]
    (8,)
    >>> models.make_model(**describe_model(model)) == model
    True
    """
    name = _NAMES.get(type(model))
    if name is None or (entry := MODELS[name]).make is not type(model):
        return _DESCRIBED.get(id(model))
    found: dict[str, Any] = {"name": name, "points": model.points}
    for label in (*entry.required, *entry.parameters):
        value = getattr(model, label)
        if _json_able(value):
            found[label] = with_tuples(value)
        elif label in entry.required or value is not entry.parameters[label]:
            return None
    if getattr(model, "dtype", None) is not None:
        found["precision"] = jnp.dtype(model.dtype).name
    return found


def _remember(model: Any, description: dict[str, Any]) -> None:
    """Keep how a function's network was made, until it is gone; one that takes no weak reference is not kept."""
    try:
        weakref.finalize(model, _DESCRIBED.pop, id(model), None)
    except TypeError:
        return
    plain = {label: value for label, value in description.items() if _json_able(value)}
    if all(label in plain for label in description):
        _DESCRIBED[id(model)] = plain


def _json_able(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_json_able, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _json_able(inner) for key, inner in value.items())
    return value is None or isinstance(value, bool | int | float | str)
