"""Parse options by tyro, into a dataclass or a config; an error is one line."""

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
    """Read the config that `arguments` begin with, a preset or a file, as a `kind`, and apply the options after it.

    Print `usage` and exit if there are no arguments, or if they ask for help.

    If an option gives a stage another loss or network than the file does, the parameters in the file are dropped. The
    new loss or network has its own defaults, and the parameters that the options give
    (`--stage1.loss.params.NAME VALUE`).

    Raises:
      InputError: the file is not a config, or has a grid and `kind` has none; or as for `parse`.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        sys.exit(0 if arguments else 2)
    path, *options = arguments[0], *with_full_names(arguments[1:])
    if path.startswith("-"):
        raise InputError(f"the first argument must be the config, not {quoted(path)}: {usage}")
    loaded = read_config(path)
    if isinstance(loaded, SweepConfig) and not issubclass(kind, SweepConfig):
        raise InputError(f"{path}: has a grid, which {command!r} does not use: pass it to wing-jax sweep")
    values = {field.name: getattr(loaded, field.name) for field in dataclasses.fields(Config)}
    default = loaded if isinstance(loaded, kind) else kind(**values)
    default = _reset_renamed_parts(default, options)
    return parse(kind, options, command=f"{command} {path}", default=default)


def _reset_renamed_parts(config: AnyConfig, options: list[str]) -> AnyConfig:
    """Return `config` without the parameters of each loss and network whose name the options change."""
    for number, part in itertools.product(("stage1", "stage2"), ("loss", "model")):
        stage, name = getattr(config, number), _last_value(options, f"--{number}.{part}.name")
        if stage is not None and name not in (None, getattr(stage, part).name):
            size = {"reference_size": None} if part == "loss" else {}
            reset = dataclasses.replace(getattr(stage, part), params={}, **size)
            config = dataclasses.replace(config, **{number: dataclasses.replace(stage, **{part: reset})})
    return config


def _last_value(options: list[str], option: str) -> str | None:
    """Return the value of `--option value` or `--option=value`; the last one if there are several."""
    value = None
    for word, following in itertools.pairwise([*options, ""]):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
    return value


def parse(kind: type[Options], arguments: list[str], *, command: str, default: Options | None = None) -> Options:
    """Fill the dataclass `kind` from `arguments`, each `--field.subfield value`; other fields are those of `default`.

    Parameters of losses and networks are `--field.params.NAME value`, with any name.

    Raises:
      InputError: a value is invalid or missing, or an option is unknown; the message names similar options.
    """
    flat = (tyro.conf.OmitArgPrefixes,) if default is None else ()
    arguments, params = (arguments, {}) if default is None else take_params(arguments, default)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            options, unknown = tyro.cli(
                kind,
                args=arguments,
                prog=f"wing-jax {command}",
                config=(tyro.conf.AvoidSubcommands, *flat),
                return_unknown_args=True,
                use_underscores=True,
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as error:
        if not error.code:
            raise
        raise InputError(f"{_message(errors.getvalue())}: see wing-jax {command} --help") from None
    if unknown:
        matches = difflib.get_close_matches(unknown[0].lstrip("-"), list(_fields(kind, default)), n=2, cutoff=0.4)
        hint = f": did you mean {' or '.join('--' + name for name in matches)}?" if matches else ""
        raise InputError(f"unknown argument {quoted(unknown[0])}{hint or f': see wing-jax {command} --help'}")
    return with_params(options, params)


def _message(box: str) -> str:
    """Join tyro's boxed error into one line, without the title and the advice below the second rule."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    rows = [row.strip("│ ") for row in plain.splitlines()[1:]]
    below_title = itertools.dropwhile(_is_rule, rows)
    message = itertools.takewhile(lambda row: not _is_rule(row), below_title)
    return " ".join(" ".join(message).split()).rstrip(".:")


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
