"""Consoles that print text unchanged: brackets and colons in file names are not markup."""

import sys
from typing import Any

from rich.console import Console

from wing_jax.text import printable


def is_terminal(stream: Any) -> bool:
    """Return whether the stream is a terminal. A stream is None if it is closed (`>&-`) or there is no console."""
    return stream is not None and stream.isatty()


def make_console(*, stderr: bool = False, width: int = 0) -> Console:
    """Make a console that prints text unchanged: no markup ("[id]"), emoji codes (":dog:") or colored numbers.

    Long lines are not wrapped, unless `width` is set: the characters per line for tables, if the output is not a
    terminal.
    """
    terminal = is_terminal(sys.stderr if stderr else sys.stdout)
    return Console(
        stderr=stderr,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=not width,
        width=width if width and not terminal else None,
    )


def say(console: Console, text: str, *, style: str = "", **options: Any) -> None:
    """Print a line of text that may contain file names; control characters are escaped."""
    console.print(printable(text), style=style or None, **options)
