"""The usage text, for a command line that begins with an unknown word."""

import difflib
import sys
from collections.abc import Collection
from typing import NoReturn

from wing_jax.text import quoted


def stop_with_usage(words: list[str], usage: str, *, kind: str, known: Collection[str]) -> NoReturn:
    """Print `usage` and exit: with status 0 if `words` ask for help, else with status 2 and a line on the unknown word.

    Args:
      words: the command line, from the word that should be one of `known`.
      usage: the lines that list the known words.
      kind: what the known words are, for the message: "command".
      known: the words that are allowed.
    """
    if words[:1] in (["-h"], ["--help"]):
        print(usage)
        sys.exit(0)
    print(usage, file=sys.stderr)
    if words and words[0]:
        matches = difflib.get_close_matches(words[0], known, n=1, cutoff=0.6)
        hint = f"did you mean {matches[0]}?" if matches else f"use one of {', '.join(known)}"
        print(f"wing-jax: no {kind} {quoted(words[0])}: {hint}", file=sys.stderr)
    sys.exit(2)
