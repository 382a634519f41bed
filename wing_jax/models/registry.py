"""Networks by name, from this package and others, for configs and the command line.

    @register_model
    class TwoLayers(nn.Module):
        points: int
        width: int = 64

        @nn.compact
        def __call__(self, images, *, train=False): ...   # uint8 [batch, size, size, 3] to points [batch, L, 2]

    model = make_model("TwoLayers", points=68, width=32)

An installed package can register its network as an entry point of the group "wing_jax.models".
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
# Arguments that are not parameters of a network: `make_model` or Flax passes them.
STANDARD_ARGUMENTS = ("points", "dtype", "axis")
NOT_PARAMETERS = (*STANDARD_ARGUMENTS, "name", "parent")
RESERVED = ("precision",)  # other arguments of `make_model`


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A class or a function that makes a network.

    Args:
      make: `(points, **params) -> model`, which has `init` and `apply`.

    >>> from wing_jax import models
    >>> models.MODELS["plain"].given
    ('points', 'dtype', 'axis')
    """

    make: Callable[..., Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """The default of each parameter by name; parameters without a default are only in `required`."""
        return parameters_of(self.make, without=NOT_PARAMETERS)

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the parameters without a default."""
        return required_of(self.make, without=NOT_PARAMETERS)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those of the arguments `points`, `dtype` and `axis` that it accepts."""
        return tuple(label for label in inspect.signature(self.make).parameters if label in STANDARD_ARGUMENTS)


_NAMES: dict[type, str] = {}  # names of registered classes
_DESCRIPTIONS: dict[int, dict[str, Any]] = {}  # of living networks of registered functions, by their id


def _make_entry(name: str, make: Any) -> RegisteredModel:
    """Make a registry entry; raise ValueError if `make` cannot make a network."""
    if not callable(make):
        raise ValueError(f"the network {quoted(name)} is not a class or function: register one that takes `points`")
    entry = RegisteredModel(make=make)
    if "points" not in entry.given:
        raise ValueError(f"the network {quoted(name)} takes no argument `points`: add one for the number of landmarks")
    if reserved := [label for label in RESERVED if label in (*entry.parameters, *entry.required)]:
        raise ValueError(f"the network {quoted(name)} cannot have a parameter {reserved[0]!r}: rename it")
    if isinstance(make, type):
        _NAMES[make] = name
    return entry


MODELS: Registry[RegisteredModel] = Registry("network", group="wing_jax.models", adopt=_make_entry)


@overload
def register_model(make: Factory, /) -> Factory: ...
@overload
def register_model(make: None = None, /, *, name: str | None = None) -> Callable[[Factory], Factory]: ...
def register_model(make: Any = None, /, *, name: str | None = None) -> Any:
    """Register a network, so that `make_model`, configs and the command line find it by name.

    Args:
      make: a class or a function that takes `points`, and its parameters by keyword, and returns a network: anything
        with `init(key, images) -> variables` and `apply(variables, images, train=...) -> points`, from uint8 crops
        `[batch, size, size, 3]` to (x, y) `[batch, points, 2]` in pixels of the crop. A Flax linen module class with a
        field `points` qualifies. If it also takes `dtype`, it gets the dtype of the activations in training. If it
        takes `axis`, it gets the name of the replicas' axis or None, so that BatchNorm computes statistics of the
        global batch. A network with a method `start_at(variables, points) -> variables` can start at the mean shape.
      name: its name; the name of the class or function if None.

    Returns:
      `make`, unchanged; without `make`, a decorator.

    Raises:
      ValueError: it takes no `points`, or the name is already registered.

    >>> from wing_jax import models
    >>> @models.register_model(name="doc_wide")
    ... def wide(points, *, width=512):
    ...     return models.PlainRegressor(points=points, channels=(8, 16), hidden=width)
    >>> models.make_model("doc_wide", points=5, width=64).hidden
    64
    """

    def register(make: Any) -> Any:
        label = name or getattr(make, "__name__", "")
        MODELS.add(label, _make_entry(label, make), origin=make)
        return make

    return register if make is None else register(make)


def make_model(name: str, *, points: int, precision: str = "float32", axis: str | None = None, **params: Any) -> Any:
    """Make the untrained network called `name`, without its variables.

    Args:
      name: a key of `MODELS`.
      points: number of landmarks.
      precision: dtype of its activations, if it has a field `dtype`.
      axis: name of the mapped axis of devices, if it has a field `axis`.
      **params: the network's parameters; others have its defaults.

    Returns:
      Anything with `init` and `apply`, from uint8 crops `[batch, size, size, 3]` to points `[batch, points, 2]` in
      pixels of the crop.

    Raises:
      InputError: no network is called `name`, it has no such parameter, a value is out of range, or JAX cannot be used
        in this process (`wing_jax.runtime.processes`).

    >>> make_model("plain", points=68, channels=(8, 16), hidden=32).points
    68
    """
    check_fork()
    entry = MODELS[name]
    check_params(f"the network {quoted(name)}", params, known=entry.parameters, required=entry.required)
    params = {label: with_tuples(value) for label, value in params.items()}
    try:
        arguments = {"points": points, "dtype": jnp.dtype(precision), "axis": axis}
        model = entry.make(**{label: arguments[label] for label in entry.given}, **params)
    except InputError:
        raise
    except Exception as error:  # a network of another package may raise anything
        raise InputError(f"network {quoted(name)}: cannot be made ({reason(error)}): check its params") from error
    if not isinstance(entry.make, type):
        _store_description(
            model, {"name": name, "points": points, **entry.parameters, **params, "precision": precision}
        )
    return model


def describe_model(model: Any) -> dict[str, Any] | None:
    """Describe how to make a registered network again: the inverse of `make_model`, except for `axis`.

    Args:
      model: any network.

    Returns:
      The keyword arguments of `make_model`, with a JSON-serializable value for every parameter; None for a network that
      is not registered, or that has a parameter that JSON cannot represent.

    >>> from wing_jax import models
    >>> model = models.PlainRegressor(points=5, channels=(8,), hidden=16)
    >>> describe_model(model)["channels"]
    (8,)
    >>> models.make_model(**describe_model(model)) == model
    True
    """
    name = _NAMES.get(type(model))
    if name is None or (entry := MODELS[name]).make is not type(model):
        return _DESCRIPTIONS.get(id(model))
    description: dict[str, Any] = {"name": name, "points": model.points}
    for label in (*entry.required, *entry.parameters):
        value = getattr(model, label)
        if _is_serializable(value):
            description[label] = with_tuples(value)
        elif label in entry.required or value is not entry.parameters[label]:
            return None
    if getattr(model, "dtype", None) is not None:
        description["precision"] = jnp.dtype(model.dtype).name
    return description


def _store_description(model: Any, description: dict[str, Any]) -> None:
    """Store the description of a function's network while the network lives; without weak references, store nothing."""
    try:
        weakref.finalize(model, _DESCRIPTIONS.pop, id(model), None)
    except TypeError:
        return
    serializable = {label: value for label, value in description.items() if _is_serializable(value)}
    if all(label in serializable for label in description):
        _DESCRIPTIONS[id(model)] = serializable


def _is_serializable(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_serializable, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_serializable(inner) for key, inner in value.items())
    return value is None or isinstance(value, bool | int | float | str)
