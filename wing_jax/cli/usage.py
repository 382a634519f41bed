"""What a command says that begins with none of the words it knows."""

import difflib
import sys
from collections.abc import Collection
from typing import NoReturn

from wing_jax.text import quoted


def stop_with_usage(words: list[str], usage: str, *, kind: str, known: Collection[str]) -> NoReturn:
    """Print `usage` and end: with status 0 where `words` ask for help, else with 2 and a line on the first of them.

    Args:
      words: of the command line, from where one of `known` was wanted.
      usage: the lines that list the known ones.
      kind: what they are, as the line names it: "command".
      known: the words that can stand there.
    """
    if words[:1] in (["-h"], ["--help"]):
        print(usage)
        sys.exit(0)
    print(usage, file=sys.stderr)
    if words and words[0]:
        near = difflib.get_close_matches(words[0], known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
        print(f"wing-jax: there is no {kind} {quoted(words[0])}: {hint}", file=sys.stderr)
    sys.exit(2)
