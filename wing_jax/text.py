"""Text for messages: one printable line of limited length, whatever a file or a name contains."""

import unicodedata
from typing import Any

QUOTED = 60  # characters of a quoted value
REASON = 160  # characters of another library's message
LONGEST_NAME = 100  # characters of the name of a scheme, a point or a set in a file
LINE = 2000  # characters of a complete message
SEPARATORS = ("\u2028", "\u2029")  # of lines and paragraphs; terminals and editors break lines at them


def quoted(value: Any, *, length: int = QUOTED) -> str:
    """Format `value` for a message.

    Text is in quotes, cut to `length` characters; an array or another large value is its type and shape.

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
    except Exception:  # a class of another package, or an integer of thousands of digits
        return f"a {type(value).__name__} that cannot be shown"
    return cut(printable(text[: length + 1]), length=length)


def reason(error: BaseException, *, length: int = REASON) -> str:
    """Return the message of another library's exception, on one line and cut to `length` characters."""
    return cut(printable(" ".join(str(error)[: 4 * length].split())), length=length)


def cut(text: str, *, length: int = QUOTED) -> str:
    """Cut `text` to `length` characters, ending in dots."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def counted(count: int, noun: str) -> str:
    """Format a number of things.

    >>> counted(1, "face"), counted(2, "face")
    ('1 face', '2 faces')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Return `text` on one line, without terminal control characters; ordinary characters of all languages stay.

    Control characters and line separators are escaped, such as a line break as a backslash and "n". So are the bytes of
    a file name that is not UTF-8: Python stores them as lone surrogates, which cannot be printed.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_escape, text))


def one_line(text: str) -> str:
    """Make a message printable, and cut out its middle if it is longer than `LINE` characters."""
    half = LINE // 2
    if len(text) > 2 * LINE:  # before the slow part, for huge values
        text = f"{text[:LINE]}{text[-LINE:]}"
    text = printable(text)
    return text if len(text) <= LINE else f"{text[:half]} ... {text[-half:]}"


def _escape(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":  # a byte of a name that is not UTF-8, decoded by os.fsdecode
        code = ord(character) - 0xDC00
        return f"\\x{code:02x}" if 0x80 <= code <= 0xFF else ascii(character)[1:-1]
    return ascii(character)[1:-1] if category == "Cc" or character in SEPARATORS else character
