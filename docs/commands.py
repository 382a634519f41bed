"""The reference page of the commands: the help text of each, as the command line prints it."""

import contextlib
import io
import os
import re
from unittest import mock

COLUMNS = 80
BOX = re.compile(r"(?=^ \S.*\n -+ *$)", re.MULTILINE)  # the title of a group of options
INTRODUCTION = """# Commands

Every command and every option, as `wing-jax COMMAND --help` prints them. Options of `train` and `sweep` are the
fields of the config ([Presets and configs](api/presets.md)); they are shown here for the preset `synthetic`. An
option may be written `--name value` or `--name=value`, with `_` or `-` in its name. `--data`, `--root`, `--scheme`
and the other fields of the data are short for `--data.name`, `--data.root` and so on. Exit status: 0 success, 2 an
input or option to fix, 130 Ctrl-C; `data check` exits with 1 if it finds a fault, `predict` with 1 if some inputs
failed.
"""


def commands_page() -> str:
    """The page as Markdown."""
    from wing_jax.cli import data
    from wing_jax.cli.main import COMMANDS

    training = _help("train", "synthetic")
    texts = {
        ("train",): training,
        ("sweep",): _without(_help("sweep", "synthetic"), training),
        ("analyze", "losses"): _help("analyze", "losses"),
        ("analyze", "model"): _help("analyze", "model"),
        ("analyze", "training"): _without(_help("analyze", "training", "synthetic"), training),
        **{("data", action): _help("data", action) for action in data.ACTIONS},
    }
    parts = [INTRODUCTION]
    for command, summary in COMMANDS.items():
        parts.append(f"## wing-jax {command}\n\n{summary[0].upper()}{summary[1:]}.\n")
        actions = [words for words in texts if words[0] == command and len(words) == 2]
        if actions:
            parts += [f"### wing-jax {' '.join(words)}\n\n{_fenced(texts[words])}" for words in actions]
        elif command != "devices":  # it has no options
            parts.append(_fenced(texts.get((command,)) or _help(command)))
    return "\n".join(parts)


def _help(*words: str) -> str:
    """What a command prints with `--help`."""
    from wing_jax.cli.main import main

    text = io.StringIO()
    plain = {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return text.getvalue()


def _without(text: str, other: str) -> str:
    """`text` without the groups of options that `other` has as well."""
    known = set(re.split(BOX, other))
    kept = [part for part in re.split(BOX, text) if part not in known]
    return "".join(kept) + "and the options of `wing-jax train`.\n"


def _fenced(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"
