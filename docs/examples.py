"""An extension of Griffe: examples of docstrings, lines that begin with `>>>`, are code on the API pages."""

import textwrap

import griffe


def fenced(text: str) -> str:
    """`text` with each block of examples, from its first prompt to the next empty line, in a fence."""
    blocks = text.split("\n\n")
    return "\n\n".join(_fenced_block(block) for block in blocks)


def _fenced_block(block: str) -> str:
    lines = block.split("\n")
    first = next((number for number, line in enumerate(lines) if line.lstrip().startswith(">>> ")), None)
    if first is None:
        return block
    indent = " " * (len(lines[first]) - len(lines[first].lstrip()))
    code = textwrap.indent(
        "\n".join(["```pycon", *map(str.rstrip, textwrap.dedent("\n".join(lines[first:])).split("\n")), "```"]), indent
    )
    return "\n".join([*lines[:first], *([""] if first else []), code])


class Examples(griffe.Extension):
    """Fences the examples of every object."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
