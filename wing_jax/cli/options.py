"""Options from a dataclass by tyro, with one line for what is unknown."""

import dataclasses
import difflib
from typing import TypeVar

import tyro

from wing_jax.errors import InputError

Options = TypeVar("Options")


def parse(kind: type[Options], arguments: list[str], *, command: str, default: Options | None = None) -> Options:
    """Fill the dataclass `kind` from `arguments`, `--field.subfield value` each; the rest is its `default`.

    Raises:
      InputError: an option is unknown; the message names the nearest ones.
    """
    start = {} if default is None else {"default": default}
    flat = (tyro.conf.OmitArgPrefixes,) if default is None else ()
    options, unknown = tyro.cli(
        kind,
        args=arguments,
        prog=f"wing-jax {command}",
        config=(tyro.conf.AvoidSubcommands, *flat),
        return_unknown_args=True,
        use_underscores=True,
        **start,
    )
    if unknown:
        near = difflib.get_close_matches(unknown[0].lstrip("-"), list(_fields(kind, default)), n=2, cutoff=0.4)
        hint = f": did you mean {' or '.join('--' + name for name in near)}?" if near else ""
        raise InputError(f"unknown argument {unknown[0]!r}{hint or f': see wing-jax {command} --help'}")
    return options


def _fields(kind: type, default, prefix: str = ""):
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name, None)
        if dataclasses.is_dataclass(value):
            yield from _fields(type(value), value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
