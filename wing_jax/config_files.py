"""Read configs: from files, and from the plain values in records of runs."""

import dataclasses
import functools
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_origin

import cattrs
from cattrs.v import format_exception

from wing_jax import config as configs
from wing_jax.config import Config, SweepConfig
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import quoted, reason

PARSERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}


def load_config(path: str | Path) -> Config:
    """Load the config of a file.

    A .toml or .json file (in upper or lower case) is a table of fields, with a table for each dataclass in it, named as
    here. It is not executed, so it may come from anywhere. Any other file is executed as Python and must define
    `config`; load such files only from sources you trust.

    Raises:
      InputError: the file is missing, fails to run, has an unknown field, or defines no `config`.
    """
    path = Path(path)
    try:
        source = files.read_text(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot read this config: pass the path of a config file (wing-jax config NAME prints one)"
        ) from error
    ending = path.suffix.lower()
    if ending in (".yaml", ".yml"):
        raise InputError(f"{path}: YAML is not supported: write the same fields as .toml, .json or Python")
    if ending in PARSERS:
        try:
            table = PARSERS[ending](source)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: {' '.join(str(error).split())[:200]}: correct the file") from error
        return config_of(table, location=str(path))
    scope: dict = {"__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), scope)
    except Exception as error:
        raise InputError(f"{path}:{_find_line(error, path)}: {_format_error(error)}") from error
    if not isinstance(scope.get("config"), Config):
        raise InputError(f"{path}: defines no `config = Config(...)`: wing-jax config synthetic prints an example")
    return scope["config"]


def config_of(table: Any, *, location: str) -> Config:
    """Make a config from plain values, the output of `dataclasses.asdict`; with a `grid` it is a SweepConfig.

    Raises:
      InputError: a field is unknown or missing, or its value is invalid; the message begins with `location`.
    """
    if not isinstance(table, dict):
        raise InputError(f"{location}: expected a table of fields: see wing_jax.config.Config")
    try:
        return _converter().structure(table, SweepConfig if "grid" in table else Config)
    except (cattrs.BaseValidationError, AttributeError, TypeError, ValueError, RecursionError) as error:
        messages = cattrs.transform_error(error, path="config", format_exception=_format_field_error)
        raise InputError(f"{location}: {' '.join(messages[0].split())[:400]}") from error


def _format_field_error(error: BaseException, expected: Any) -> str:
    if isinstance(error, AttributeError):
        return "expected a table of fields"
    if isinstance(error, ValueError) or "not in literal" in str(error):
        return str(error).replace("literal typing.Literal", "")
    return format_exception(error, expected)


@functools.cache
def _converter() -> cattrs.Converter:
    """Return the converter from plain values to dataclasses. It is strict: "3" is not a number, 1 not a bool."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    structure_tuple = converter.get_structure_hook(tuple[int, ...])

    def accept_only(*kinds: type) -> Callable:
        def hook(value: Any, expected: type) -> Any:
            if type(value) not in kinds or value in (float("inf"), float("-inf")) or value != value:
                raise ValueError(f"expected {expected.__name__}, got {value!r:.40}")
            return expected(value)

        return hook

    def structure_entries(value: Any, expected: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected a list, got {quoted(value)}")
        return structure_tuple(value, expected)

    converter.register_structure_hook_func(lambda kind: get_origin(kind) is tuple, structure_entries)
    for kind, kinds in ((int, (int,)), (float, (float, int)), (str, (str,)), (bool, (bool,))):
        converter.register_structure_hook(kind, accept_only(*kinds))
    return converter


def _find_line(error: Exception, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    line, step = 0, error.__traceback__
    while step:
        line = step.tb_lineno if step.tb_frame.f_code.co_filename == str(path) else line
        step = step.tb_next
    return line


def _format_error(error: Exception) -> str:
    match = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not match:
        return f"{type(error).__name__}: {reason(error, length=300)}"
    kind, field = match.groups()
    fields = ", ".join(f.name for f in dataclasses.fields(getattr(configs, kind))) if hasattr(configs, kind) else "?"
    return f"{kind} has no field {quoted(field)}: use one of {fields}"
