"""Safe reading of Matlab files of version 7.3, which are HDF5.

HDF5 follows links into other files, reads values from any file that a data set names (external storage, virtual data
sets), and unpacks a chunk beyond its declared size. Such files are rejected here.
https://docs.hdfgroup.org/archive/support/HDF5/doc/H5.format.html
"""

import contextlib
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from wing_jax.data.readers.mat_file import LARGEST, not_as_published
from wing_jax.errors import InputError
from wing_jax.runtime.extras import require
from wing_jax.text import reason

if TYPE_CHECKING:
    import h5py

HARD_LINK = 0  # HDF5's H5L_TYPE_HARD
DEFLATE, SHUFFLE = 1, 2  # HDF5's H5Z_FILTER_DEFLATE and H5Z_FILTER_SHUFFLE
ALLOWED_FILTERS = ([], [DEFLATE], [SHUFFLE, DEFLATE])  # allowed filters of a chunk


@contextlib.contextmanager
def open_mat73(path: Path) -> Iterator["h5py.File"]:
    """Open the file at `path`, to be read by `get_field` and `dereference`.

    Raises:
      InputError: the file is not HDF5, or code within the context finds that it is corrupted.
    """
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot read this file as Matlab 7.3 ({reason(error)}): copy the file again"
        ) from error
    except Exception as error:  # h5py raises nearly every kind of error for a corrupted file
        raise not_as_published(path, error) from error


def get_field(file: "h5py.File", name: str) -> "h5py.Dataset":
    """Return the field `name`, if its values are in the file itself.

    Raises:
      KeyError: there is no such field.
      ValueError: it is a link or not an array, its values are in another file, or unpack beyond their size.
    """
    if not file.id.links.exists(name.encode()):
        raise KeyError(name)
    if file.id.links.get_info(name.encode()).type != HARD_LINK:
        raise ValueError(f"{name} is a link")
    return _check_storage(file[name])


def dereference(file: "h5py.File", reference: "h5py.Reference") -> "h5py.Dataset":
    """Return the array that a cell refers to.

    Raises:
      ValueError: as in `get_field`.
    """
    return _check_storage(file[reference])


def is_reference(values: "h5py.Dataset") -> bool:
    """Return whether the values are references to other fields, as in a Matlab cell array."""
    return values.dtype == _h5py().ref_dtype


def _h5py() -> ModuleType:
    return require("h5py", extra="formats", purpose="reading .mat files of version 7.3")


def _check_storage(values: "h5py.HLObject") -> "h5py.Dataset":
    if not isinstance(values, _h5py().Dataset):
        raise ValueError(f"{values.name} is not an array")
    if values.is_virtual or values.external:
        raise ValueError(f"{values.name} is stored in another file")
    properties = values.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if filters not in ALLOWED_FILTERS:
        raise ValueError(f"{values.name} has the filters {filters}, expected only deflate")
    if filters:
        size = math.prod(values.chunks) * values.dtype.itemsize
        for number in range(values.id.get_num_chunks()):
            skipped, packed = values.id.read_direct_chunk(values.id.get_chunk_info(number).chunk_offset)
            if skipped & 1 << len(filters) - 1:  # stored uncompressed, because deflate would not make it smaller
                continue
            if size > LARGEST or len(zlib.decompressobj().decompress(packed, size + 1)) > size:
                raise ValueError(f"a chunk of {values.name} unpacks to more than {min(size, LARGEST):,} bytes")
    return values
