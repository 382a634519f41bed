"""The parameters of registered functions and classes: what can be given by keyword, and the defaults of the rest."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wing_jax.errors import InputError
from wing_jax.text import cut, quoted


def parameters_of(function: Callable, *, skip: int = 0, without: Iterable[str] = ()) -> dict[str, Any]:
    """The defaults of what `function` takes by keyword, by name, in its order; arguments without a default are left
    out (`required_of`).

    Args:
      function: a function or a class.
      skip: how many of its first arguments are no parameters.
      without: names that are no parameters either.
    """
    return {label: one.default for label, one in _named(function, skip, without) if one.default is not one.empty}


def required_of(function: Callable, *, skip: int = 0, without: Iterable[str] = ()) -> tuple[str, ...]:
    """What `function` takes by keyword and has no default; the arguments are those of `parameters_of`."""
    return tuple(label for label, one in _named(function, skip, without) if one.default is one.empty)


def check_params(
    owner: str, params: Mapping[str, Any], *, known: Mapping[str, Any], required: tuple[str, ...] = ()
) -> None:
    """Refuse parameters that `owner` does not have, and the lack of those it needs.

    Args:
      owner: how the message calls what has the parameters, such as "the loss 'wing'".
      params: what is given.
      known: the parameters with a default.
      required: the parameters without one.

    Raises:
      InputError: a name is unknown, or a required one is missing.
    """
    names = [*required, *known]
    if unknown := sorted(set(params) - set(names)):
        use = f"use {', '.join(names)}" if names else "it has none"
        raise InputError(f"{owner} has no parameter {cut(', '.join(map(str, unknown)))}: {use}")
    if missing := [name for name in required if name not in params]:
        raise InputError(
            f"{owner} needs a value for {quoted(missing[0])}, which has no default: give params.{missing[0]}"
        )


def _named(function: Callable, skip: int, without: Iterable[str]) -> list[tuple[str, inspect.Parameter]]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [(name, one) for name, one in inspect.signature(function).parameters.items()][skip:]
    return [(name, one) for name, one in found if one.kind in kinds and name not in set(without)]


def freeze_params(config: Any) -> None:
    """Give a frozen dataclass its own copy of its field `params`, with tuples for lists, so that it can be hashed.

    Raises:
      InputError: it is no table of names.
    """
    params = config.params
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        raise InputError(f"params={quoted(params)}: give a table of names and values, such as {{'width': 10.0}}")
    object.__setattr__(config, "params", {name: with_tuples(value) for name, value in params.items()})


def with_tuples(value: Any) -> Any:
    """`value` with tuples for lists, as JSON and TOML have them, at any depth."""
    return tuple(map(with_tuples, value)) if isinstance(value, list | tuple) else value


def hash_with_dicts(config: Any) -> int:
    """The hash of a frozen dataclass that has dicts among its fields: of equal ones equal, in whatever order these were
    given."""
    values = [getattr(config, field.name) for field in dataclasses.fields(config)]
    return hash((type(config), *(frozenset(value) if isinstance(value, Mapping) else value for value in values)))
