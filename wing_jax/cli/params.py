"""Options `--field.params.NAME value ...`, parameters of losses and networks, and `--field.extra.NAME.ARGUMENT value`,
of augmentations that other packages registered: no dataclass lists them."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from wing_jax.errors import InputError
from wing_jax.text import quoted

Options = TypeVar("Options")
Given = dict[str, dict[str, tuple[str, ...]]]  # words by the dotted name of the table and by parameter

TABLE = r"[\w.-]*\bparams|[\w.-]*\bextra\.[A-Za-z_]\w*"
OPTION = re.compile(rf"--(?P<table>{TABLE})\.(?P<name>[A-Za-z_][\w-]*)(?:=(?P<value>.*))?", re.DOTALL)


def take_params(arguments: list[str], default: Any) -> tuple[list[str], Given]:
    """The arguments without those of parameters, and what they give.

    Args:
      arguments: words of a command line.
      default: a dataclass; options of tables that it does not have are left in, for its parser to refuse.

    Raises:
      InputError: a parameter has no value.
    """
    rest, given = [], {}
    words = iter(_grouped(arguments))
    for option, *values in words:
        match = OPTION.fullmatch(option)
        if not match or _table(default, match["table"]) is None:
            rest += [option, *values]
            continue
        values = [match["value"], *values] if match["value"] is not None else values
        if not values:
            raise InputError(f"{option}: needs a value: give one number or more behind it")
        given.setdefault(match["table"], {})[match["name"].replace("-", "_")] = tuple(values)
    return rest, given


def with_params(options: Options, given: Given) -> Options:
    """`options` with the parameters given besides those they have.

    Raises:
      InputError: a value does not fit.
    """
    for table, params in given.items():
        path = table.split(".")
        end = path.index("extra") if "extra" in path else len(path) - 1
        options = _changed(options, path[:end], table, params)
    return options


def _changed(owner: Any, path: list[str], table: str, params: dict[str, tuple[str, ...]]) -> Any:
    if path:
        return dataclasses.replace(owner, **{path[0]: _changed(getattr(owner, path[0]), path[1:], table, params)})
    if (augmentation := _augmentation(table)) is not None:
        numbers = {name: _one_number(words, f"--{table}.{name}") for name, words in params.items()}
        known = owner.extra.get(augmentation, {})
        return dataclasses.replace(owner, extra={**owner.extra, augmentation: {**known, **numbers}})
    values = {name: _value(owner, table, name, words) for name, words in params.items()}
    return dataclasses.replace(owner, params={**owner.params, **values})


def _augmentation(table: str) -> str | None:
    """The name in `stage1.augment.extra.NAME`; None for a table of parameters."""
    owner, _, name = table.rpartition(".")
    return name if owner.split(".")[-1] == "extra" else None


def _value(owner: Any, table: str, name: str, words: tuple[str, ...]) -> Any:
    """The words as the value that the field's type, or the network's own default, asks for."""
    kind, option = get_args(get_type_hints(type(owner))["params"])[1], f"--{table}.{name}"
    if kind is not Any:
        return tuple(_number(w, option) for w in words) if get_origin(kind) is tuple else _one_number(words, option)
    values = tuple(map(_literal, words))
    return values if len(values) > 1 or _takes_several(owner.name, name) else values[0]


def _takes_several(model: str, name: str) -> bool:
    """Whether a network's parameter is a tuple, so that one word is a tuple of one."""
    from wing_jax.models import MODELS  # not before: JAX takes long to import

    return isinstance(MODELS[model].parameters.get(name), tuple | list)


def _one_number(words: tuple[str, ...], option: str) -> float:
    if len(words) > 1:
        raise InputError(f"{option}: takes one number, not {len(words)}")
    return _number(words[0], option)


def _number(word: str, option: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{option}: {quoted(word)} is no number") from None


def _literal(word: str) -> bool | int | float | str:
    if word in ("True", "False"):
        return word == "True"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _grouped(arguments: list[str]) -> Iterable[list[str]]:
    """Each option with the words behind it."""
    group: list[str] = []
    for word in arguments:
        if word.startswith("-") and not re.fullmatch(r"-(\d|\.\d|inf|nan).*", word) and group:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _table(owner: Any, path: str) -> dict | None:
    path = path.rpartition(".")[0] if _augmentation(path) is not None else path
    for name in path.split("."):
        owner = getattr(owner, name.replace("-", "_"), None)
    return owner if isinstance(owner, dict) else None
