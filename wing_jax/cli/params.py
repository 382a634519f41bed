"""Options that no dataclass lists.

They are `--field.params.NAME value ...` for parameters of losses and networks, and `--field.extra.NAME.ARGUMENT value`
for augmentations that other packages registered.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from wing_jax.errors import InputError
from wing_jax.text import quoted

Options = TypeVar("Options")
Params = dict[str, dict[str, tuple[str, ...]]]  # words by the dotted name of the table and by parameter

TABLE = r"[\w.-]*\bparams|[\w.-]*\bextra\.[A-Za-z_]\w*"
OPTION = re.compile(rf"--(?P<table>{TABLE})\.(?P<name>[A-Za-z_][\w-]*)(?:=(?P<value>.*))?", re.DOTALL)


def take_params(arguments: list[str], default: Any) -> tuple[list[str], Params]:
    """Split the arguments into (all others, those of parameters).

    Args:
      arguments: words of a command line.
      default: a dataclass; options of tables that it does not have are not taken out, and its parser rejects them.

    Raises:
      InputError: a parameter has no value.
    """
    rest, params = [], {}
    words = iter(_group_by_option(arguments))
    for option, *values in words:
        match = OPTION.fullmatch(option)
        if not match or _find_table(default, match["table"]) is None:
            rest += [option, *values]
            continue
        values = [match["value"], *values] if match["value"] is not None else values
        if not values:
            raise InputError(f"{option}: needs a value: add one or more numbers after it")
        params.setdefault(match["table"], {})[match["name"].replace("-", "_")] = tuple(values)
    return rest, params


def with_params(options: Options, params: Params) -> Options:
    """Return `options` with `params` added to the parameters they have.

    Raises:
      InputError: a value is invalid.
    """
    for table, values in params.items():
        path = table.split(".")
        end = path.index("extra") if "extra" in path else len(path) - 1
        options = _replace(options, path[:end], table, values)
    return options


def _replace(owner: Any, path: list[str], table: str, params: dict[str, tuple[str, ...]]) -> Any:
    if path:
        return dataclasses.replace(owner, **{path[0]: _replace(getattr(owner, path[0]), path[1:], table, params)})
    if (augmentation := _augmentation_name(table)) is not None:
        numbers = {name: _parse_one_number(words, f"--{table}.{name}") for name, words in params.items()}
        current = owner.extra.get(augmentation, {})
        return dataclasses.replace(owner, extra={**owner.extra, augmentation: {**current, **numbers}})
    values = {name: _parse_value(owner, table, name, words) for name, words in params.items()}
    return dataclasses.replace(owner, params={**owner.params, **values})


def _augmentation_name(table: str) -> str | None:
    """Return the name in `stage1.augment.extra.NAME`; None for a table of parameters."""
    owner, _, name = table.rpartition(".")
    return name if owner.split(".")[-1] == "extra" else None


def _parse_value(owner: Any, table: str, name: str, words: tuple[str, ...]) -> Any:
    """Parse the words as the field's type, or the type of the network's default, requires."""
    kind, option = get_args(get_type_hints(type(owner))["params"])[1], f"--{table}.{name}"
    if kind is not Any:
        return (
            tuple(_parse_number(w, option) for w in words)
            if get_origin(kind) is tuple
            else _parse_one_number(words, option)
        )
    values = tuple(map(_parse_literal, words))
    return values if len(values) > 1 or _takes_several(owner.name, name) else values[0]


def _takes_several(model: str, name: str) -> bool:
    """Return whether a network's parameter is a tuple, so that one word is a tuple of length 1."""
    from wing_jax.models import MODELS  # imports JAX, which is slow

    return isinstance(MODELS[model].parameters.get(name), tuple | list)


def _parse_one_number(words: tuple[str, ...], option: str) -> float:
    if len(words) > 1:
        raise InputError(f"{option}: takes one number, not {len(words)}")
    return _parse_number(words[0], option)


def _parse_number(word: str, option: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{option}: {quoted(word)} is not a number") from None


def _parse_literal(word: str) -> bool | int | float | str:
    if word in ("True", "False"):
        return word == "True"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _group_by_option(arguments: list[str]) -> Iterable[list[str]]:
    """Yield each option with the words after it."""
    group: list[str] = []
    for word in arguments:
        if word.startswith("-") and not re.fullmatch(r"-(\d|\.\d|inf|nan).*", word) and group:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _find_table(owner: Any, path: str) -> dict | None:
    path = path.rpartition(".")[0] if _augmentation_name(path) is not None else path
    for name in path.split("."):
        owner = getattr(owner, name.replace("-", "_"), None)
    return owner if isinstance(owner, dict) else None
