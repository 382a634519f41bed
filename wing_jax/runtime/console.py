"""The terminal: what is printed appears as it is. Names of files hold brackets and colons, which are no markup here."""

import sys
from typing import Any

from rich.console import Console

from wing_jax.text import printable


def is_terminal(stream: Any) -> bool:
    """Whether the stream is a terminal. One that is closed (`>&-`), or of a program without a console, is None."""
    return stream is not None and stream.isatty()


def make_console(*, stderr: bool = False, width: int = 0) -> Console:
    """A console that prints text as it is: without markup ("[id]" in a name), emoji codes (":dog:") and coloring of
    numbers. Long lines are not broken, unless `width` is given: the characters of a line where the output is no
    terminal, which tables fit into."""
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
    """Print a line of text that may hold names of files: control characters in them are escaped."""
    console.print(printable(text), style=style or None, **options)
