"""Matlab files of version 5 to 7, checked before SciPy reads them.

The compiled reader of SciPy crashes the process for some corrupted files, or allocates any size that a file declares.
The structure is that of "MAT-File Format" by The MathWorks: a header of 128 bytes, then elements of a tag (type and
length) and content, which may contain elements itself.
"""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import reason

NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18}  # types of elements with numbers or text
MATRIX, COMPRESSED = 14, 15
CELL, STRUCTURE, OBJECT, TEXT, SPARSE, LAST_OF_NUMBERS = 1, 2, 3, 4, 5, 15  # classes of matrices
BEFORE_INNER = {CELL: 0, STRUCTURE: 2, OBJECT: 3, SPARSE: 3}  # number of elements with numbers or names; else 1
SMALL = 65_536  # largest declared size of a text or structure without content
LARGEST = 1 << 30  # bytes of an element when unpacked
Element = tuple[int, memoryview]


def read_mat(path: Path, fields: Sequence[str], *, hint: str) -> dict[str, Any]:
    """Read the `fields` of the Matlab file `path` (up to version 7); the error message ends with `hint`.

    Raises:
      InputError: the file is missing, corrupted or lacks a field.
    """
    import scipy.io  # slow to import

    try:
        content = files.read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot read this file ({error.strerror}): {hint}") from error
    try:
        check_structure(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns about odd variables: we check the content
            content_by_name = scipy.io.loadmat(io.BytesIO(content), variable_names=list(fields))
        return {field: content_by_name[field] for field in fields}
    except Exception as error:  # scipy raises its own errors, zlib's, NumPy's and struct's
        raise not_as_published(path, error) from error


def to_float64(values: Any) -> Float[np.ndarray, "..."]:
    """Convert `values` of a Matlab file to float64.

    Raises:
      ValueError: they are not real numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise ValueError(f"expected numbers, got {array.dtype}")
    with np.errstate(invalid="ignore"):  # a corrupted number may be a signaling NaN
        return array.astype(np.float64)


def not_as_published(path: Path, error: Exception) -> InputError:
    """Return the error to raise if `error` shows that the binary file `path` is corrupted."""
    return InputError(f"{path}: not as published ({type(error).__name__}: {reason(error)}): copy the file again")


def check_structure(content: bytes) -> None:
    """Check all elements of a Matlab file.

    Raises:
      ValueError: the structure is not valid.
      struct.error: an element is truncated.
      zlib.error: an element cannot be unpacked.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or 0 in content[:4]:
        raise ValueError("not a Matlab file of version 5 to 7")
    for kind, inner in _elements(memoryview(content)[128:], order):
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = memoryview(unpacker.decompress(inner, LARGEST))
            if unpacker.unconsumed_tail:
                raise ValueError(f"an element of more than {LARGEST:,} bytes")
            for unpacked_kind, unpacked_inner in _elements(unpacked, order):
                _check_variable(unpacked_kind, unpacked_inner, order)
        else:
            _check_variable(kind, inner, order)


def _elements(content: memoryview, order: str) -> Iterator[Element]:
    """Yield (type, content) of the elements that fill `content`."""
    offset = 0
    while offset < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, offset)
        start = offset + 8
        if kind >> 16:  # a small element: type and length in one word, the content in the next
            kind, size, start = kind & 0xFFFF, kind >> 16, offset + 4
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        if start + size > len(content):
            raise ValueError(f"an element of {size} bytes, but only {len(content) - start} bytes remain")
        yield kind, content[start : start + size]
        offset = start + size if kind == COMPRESSED else start + size + (offset - start - size) % 8


def _check_variable(kind: int, content: memoryview, order: str, depth: int = 0) -> None:
    if kind != MATRIX or depth > 20:
        raise ValueError(f"expected a matrix, got an element of type {kind}")
    if not content:
        return  # an empty cell
    elements = list(_elements(content, order))
    if [kind for kind, _ in elements[:2]] != [6, 5] or len(elements[0][1]) != 8 or len(elements[1][1]) % 4:
        raise ValueError("a matrix without a class and sizes")
    flags = struct.unpack_from(f"{order}I", elements[0][1])[0]
    sizes = struct.unpack(f"{order}{len(elements[1][1]) // 4}i", elements[1][1])
    family, is_complex = flags & 0xFF, bool(flags & 0x800)
    if family > LAST_OF_NUMBERS:  # functions and the like, which are never read
        return
    inner = [element for element in elements[3:] if element[0] == MATRIX]
    values = elements[3:] if family > OBJECT else elements[3 : len(elements) - len(inner)]
    capacity = len(inner) if family <= OBJECT else max((len(part) for _, part in values), default=0)
    if (
        len(elements) < 3
        or family == 0
        or any(kind not in NUMBERS for kind, _ in (elements[2], *values))
        or len(values) != BEFORE_INNER.get(family, 1) + (is_complex and family > TEXT)
        or min(sizes, default=0) < 0
        or (family <= TEXT and math.prod(sizes) > max(capacity, SMALL))
        or (family == CELL and math.prod(sizes) != capacity)
    ):
        raise ValueError(f"the content of a matrix does not match its class {family} and sizes {sizes[:4]}")
    for kind, part in inner:
        _check_variable(kind, part, order, depth + 1)
