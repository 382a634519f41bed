"""Text that is shown: one line, printable, and never longer than a reader wants, whatever a file or a name holds."""

import unicodedata
from typing import Any

QUOTED = 60  # characters of a value that a message repeats
REASON = 160  # characters of another library's message
LONGEST_NAME = 100  # characters of a name that a file gives to a scheme, a point or a set
LINE = 2000  # characters of a whole message
SEPARATORS = ("\u2028", "\u2029")  # of lines and paragraphs: terminals and editors break lines there


def quoted(value: Any, *, length: int = QUOTED) -> str:
    """`value` as a message repeats it: text in quotes, cut to `length` characters; of an array or another large value
    its type and shape.

    >>> quoted("a" * 100, length=10)
    "'aaaaaaa...'"
    >>> quoted(12)
    '12'
    """
    if isinstance(value, str):
        return f"'{cut(printable(value[: length + 1]), length=length)}'"
    if isinstance(value, list | tuple | dict | set) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)} entries"
    try:
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            text = f"an array {value.dtype} {list(value.shape)}" if value.shape else str(value)
        else:
            text = repr(value)
    except Exception:  # of another's class, or a whole number of thousands of digits
        return f"a {type(value).__name__} that cannot be shown"
    return cut(printable(text[: length + 1]), length=length)


def reason(error: BaseException, *, length: int = REASON) -> str:
    """What another library's exception says, as a message repeats it: on one line, cut to `length` characters."""
    return cut(printable(" ".join(str(error)[: 4 * length].split())), length=length)


def cut(text: str, *, length: int = QUOTED) -> str:
    """`text`, or its first characters and dots where it is longer than `length`."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def printable(text: str) -> str:
    """`text` on one line and without what controls a terminal; ordinary characters of all languages stay.

    Control characters and line separators are escaped (a line break as \\\\n), and so are the bytes of a file's name
    that is not UTF-8, which Python holds as lone surrogates: they cannot be printed.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_printable, text))


def one_line(text: str) -> str:
    """A whole message: as `printable`, and its middle cut out where it is longer than `LINE` characters."""
    half = LINE // 2
    if len(text) > 2 * LINE:  # so that what a message repeats by mistake takes no time
        text = f"{text[:LINE]}{text[-LINE:]}"
    text = printable(text)
    return text if len(text) <= LINE else f"{text[:half]} ... {text[-half:]}"


def _printable(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cs":  # a byte of a name that is not UTF-8, as os.fsdecode holds it
        code = ord(character) - 0xDC00
        return f"\\x{code:02x}" if 0x80 <= code <= 0xFF else ascii(character)[1:-1]
    return ascii(character)[1:-1] if kind == "Cc" or character in SEPARATORS else character
