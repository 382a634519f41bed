"""Options from a dataclass, or from a config and what changes it, by tyro, with one line for what is wrong."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import sys
from typing import TypeVar

import tyro

from wing_jax.cli.named_config import read_config, with_full_names
from wing_jax.cli.params import take_params, with_params
from wing_jax.config import Config, SweepConfig
from wing_jax.errors import InputError
from wing_jax.text import quoted

Options = TypeVar("Options")
AnyConfig = TypeVar("AnyConfig", bound=Config)


def parse_config(kind: type[AnyConfig], arguments: list[str], *, command: str, usage: str) -> AnyConfig:
    """The config of the preset or file that `arguments` begin with, as a `kind`, changed by the options that follow.
    Prints `usage` and exits where there are none, or help is asked for.

    Where an option gives a stage another loss or network than the file's, the file's parameters of its own do not carry
    over: the other one has its own defaults, and what the options give (`--stage1.loss.params.NAME VALUE`).

    Raises:
      InputError: the file is no config, or has a grid and `kind` has none; or as for `parse`.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        sys.exit(0 if arguments else 2)
    path, *options = arguments[0], *with_full_names(arguments[1:])
    if path.startswith("-"):
        raise InputError(f"the first argument must be the config, not {quoted(path)}: {usage}")
    loaded = read_config(path)
    if isinstance(loaded, SweepConfig) and not issubclass(kind, SweepConfig):
        raise InputError(f"{path}: has a grid, which {command!r} would not heed: give it to wing-jax sweep")
    known = {field.name: getattr(loaded, field.name) for field in dataclasses.fields(Config)}
    default = loaded if isinstance(loaded, kind) else kind(**known)
    default = _with_defaults_of_others(default, options)
    return parse(kind, options, command=f"{command} {path}", default=default)


def _with_defaults_of_others(config: AnyConfig, options: list[str]) -> AnyConfig:
    """`config` without the parameters of each stage's loss and network that the options rename."""
    for number, part in itertools.product(("stage1", "stage2"), ("loss", "model")):
        stage, name = getattr(config, number), _last_value(options, f"--{number}.{part}.name")
        if stage is not None and name not in (None, getattr(stage, part).name):
            sized = {"reference_size": None} if part == "loss" else {}
            other = dataclasses.replace(getattr(stage, part), params={}, **sized)
            config = dataclasses.replace(config, **{number: dataclasses.replace(stage, **{part: other})})
    return config


def _last_value(options: list[str], option: str) -> str | None:
    """What `--option value` or `--option=value` gives, the last one where there are several."""
    found = None
    for word, following in itertools.pairwise([*options, ""]):
        if word == option:
            found = following
        elif word.startswith(f"{option}="):
            found = word.removeprefix(f"{option}=")
    return found


def parse(kind: type[Options], arguments: list[str], *, command: str, default: Options | None = None) -> Options:
    """Fill the dataclass `kind` from `arguments`, `--field.subfield value` each; the rest is its `default`.
    Parameters of losses and networks, whatever their names, are `--field.params.NAME value`.

    Raises:
      InputError: a value does not fit or is missing, or an option is unknown; the message names the nearest ones.
    """
    flat = (tyro.conf.OmitArgPrefixes,) if default is None else ()
    arguments, params = (arguments, {}) if default is None else take_params(arguments, default)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            options, unknown = tyro.cli(
                kind,
                args=arguments,
                prog=f"wing-jax {command}",
                config=(tyro.conf.AvoidSubcommands, *flat),
                return_unknown_args=True,
                use_underscores=True,
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise InputError(f"{_message(box.getvalue())}: see wing-jax {command} --help") from None
    if unknown:
        near = difflib.get_close_matches(unknown[0].lstrip("-"), list(_fields(kind, default)), n=2, cutoff=0.4)
        hint = f": did you mean {' or '.join('--' + name for name in near)}?" if near else ""
        raise InputError(f"unknown argument {quoted(unknown[0])}{hint or f': see wing-jax {command} --help'}")
    return with_params(options, params)


def _message(box: str) -> str:
    """What tyro says in its box of several lines, as one line, without the title and the advice below the next rule."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    rows = [row.strip("│ ") for row in plain.splitlines()[1:]]
    below_title = itertools.dropwhile(_is_rule, rows)
    said = itertools.takewhile(lambda row: not _is_rule(row), below_title)
    return " ".join(" ".join(said).split()).rstrip(".:")


def _is_rule(row: str) -> bool:
    return not row.strip("─╰╯-")


def _fields(kind: type, default, prefix: str = ""):
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name, None)
        if dataclasses.is_dataclass(value):
            yield from _fields(type(value), value, f"{prefix}{field.name}.")
        elif isinstance(value, dict) and value:
            yield from (f"{prefix}{field.name}.{name}" for name in value)
        else:
            yield prefix + field.name
