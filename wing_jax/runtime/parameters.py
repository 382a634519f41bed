"""Parameters of registered functions and classes: which keywords they accept, and their defaults."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from wing_jax.errors import InputError
from wing_jax.text import cut, quoted


def parameters_of(function: Callable, *, skip: int = 0, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the keyword parameters of `function` that have a default, and their defaults, in order.

    Args:
      function: a function or a class.
      skip: number of first arguments that are not parameters.
      without: names of other arguments that are not parameters.
    """
    parameters = _list_parameters(function, skip, without)
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def required_of(function: Callable, *, skip: int = 0, without: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the keyword parameters of `function` without a default; the arguments are those of `parameters_of`."""
    parameters = _list_parameters(function, skip, without)
    return tuple(parameter.name for parameter in parameters if parameter.default is parameter.empty)


def check_params(
    owner: str, params: Mapping[str, Any], *, known: Mapping[str, Any], required: tuple[str, ...] = ()
) -> None:
    """Check the names of parameters.

    Args:
      owner: what has the parameters, for the message, such as "the loss 'wing'".
      params: to check.
      known: the parameters with a default.
      required: the parameters without a default.

    Raises:
      InputError: a name is unknown, or a required one is missing.
    """
    names = [*required, *known]
    if unknown := sorted(set(params) - set(names)):
        hint = f"use {', '.join(names)}" if names else "it has none"
        raise InputError(f"{owner} has no parameter {cut(', '.join(map(str, unknown)))}: {hint}")
    if missing := [name for name in required if name not in params]:
        raise InputError(
            f"{owner} needs a value for {quoted(missing[0])}, which has no default: set params.{missing[0]}"
        )


def _list_parameters(function: Callable, skip: int, without: Iterable[str]) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    excluded = set(without)
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    return [parameter for parameter in parameters if parameter.kind in kinds and parameter.name not in excluded]


def check_range(config: object, **limits: tuple[int | float, int | float]) -> None:
    """Raise InputError if a field of `config` is outside its `(low, high)` limits."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise InputError(f"{name}={value} must be between {low:,} and {high:,}")


def check_above(config: object, *names: str, zero: bool = False) -> None:
    """Raise InputError unless each of these fields is a finite number above 0; with `zero`, 0 is allowed."""
    for name in names:
        value = getattr(config, name)
        if not (0 <= value < float("inf") and (zero or value)):
            finite = "" if abs(value) < float("inf") else ", and finite"
            raise InputError(f"{name}={value} must {'not be below 0' if zero else 'be greater than 0'}{finite}")


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise InputError if `value` of the argument `name` is not one of the `Literal` type `choices`."""
    if value not in get_args(choices):
        raise InputError(f"{name}={quoted(value)} must be one of {', '.join(map(repr, get_args(choices)))}")


def freeze_params(config: Any) -> None:
    """Replace the field `params` of a frozen dataclass by a copy with tuples for lists, so that it can be hashed.

    Raises:
      InputError: `params` is not a table with names as keys.
    """
    params = config.params
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        raise InputError(f"params={quoted(params)}: pass a table of names and values, such as {{'width': 10.0}}")
    object.__setattr__(config, "params", {name: with_tuples(value) for name, value in params.items()})


def with_tuples(value: Any) -> Any:
    """Convert the lists of JSON and TOML in `value` to tuples, at any depth."""
    return tuple(map(with_tuples, value)) if isinstance(value, list | tuple) else value


def hash_with_dicts(config: Any) -> int:
    """Hash a frozen dataclass with dicts among its fields.

    Equal dataclasses have equal hashes, whatever the order of the dicts.
    """
    values = [getattr(config, field.name) for field in dataclasses.fields(config)]
    return hash((type(config), *(frozenset(value) if isinstance(value, Mapping) else value for value in values)))
