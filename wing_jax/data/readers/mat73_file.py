"""Matlab files of version 7.3, which are HDF5, as a stranger may have made them.

HDF5 follows links into other files, takes values from any file that a data set names (external storage, virtual data
sets), and unpacks a piece for as long as it goes on, whatever size it should have. None of this is asked for here.
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
USUAL = ([], [DEFLATE], [SHUFFLE, DEFLATE])  # what a piece may have gone through


@contextlib.contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """The file at `path`, to be read by `field` and `target`.

    Raises:
      InputError: it is no HDF5, or what is done within the context shows that it is broken.
    """
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except OSError as error:
        said = reason(error)
        raise InputError(f"{path}: cannot read this file as Matlab 7.3 ({said}): copy the file again") from error
    except Exception as error:  # a broken file makes h5py raise errors of nearly every kind
        raise not_as_published(path, error) from error


def field(file: "h5py.File", name: str) -> "h5py.Dataset":
    """The field called `name`, whose values lie in the file itself.

    Raises:
      KeyError: there is none.
      ValueError: it is a link, or no array, or of values that lie elsewhere, or that swell when unpacked.
    """
    if not file.id.links.exists(name.encode()):
        raise KeyError(name)
    if file.id.links.get_info(name.encode()).type != HARD_LINK:
        raise ValueError(f"{name} is a link")
    return _harmless(file[name])


def target(file: "h5py.File", reference: "h5py.Reference") -> "h5py.Dataset":
    """What a cell refers to.

    Raises:
      ValueError: as `field`.
    """
    return _harmless(file[reference])


def is_reference(values: "h5py.Dataset") -> bool:
    """Whether the values are references to other fields, as in a Matlab cell array."""
    return values.dtype == _h5py().ref_dtype


def _h5py() -> ModuleType:
    return require("h5py", extra="formats", purpose="reading .mat files of version 7.3")


def _harmless(values: "h5py.HLObject") -> "h5py.Dataset":
    if not isinstance(values, _h5py().Dataset):
        raise ValueError(f"{values.name} is no array")
    if values.is_virtual or values.external:
        raise ValueError(f"{values.name} lies in another file")
    plan = values.id.get_create_plist()
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if filters not in USUAL:
        raise ValueError(f"{values.name} went through the filters {filters}, not through deflate alone")
    if filters:
        room = math.prod(values.chunks) * values.dtype.itemsize
        for number in range(values.id.get_num_chunks()):
            skipped, packed = values.id.read_direct_chunk(values.id.get_chunk_info(number).chunk_offset)
            if skipped & 1 << len(filters) - 1:  # what deflate would not have made smaller lies there as it is
                continue
            if room > LARGEST or len(zlib.decompressobj().decompress(packed, room + 1)) > room:
                raise ValueError(f"a piece of {values.name} unpacks to more than {min(room, LARGEST):,} bytes")
    return values
