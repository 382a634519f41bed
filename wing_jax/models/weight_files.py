"""Read arrays of PyTorch (`.pth`) and safetensors files, without PyTorch and without running anything in the file.

A `.pth` file contains pickles, which can name any function to call. The reader here allows the few names that tensors
are made of, and replaces them by its own functions; any other name is an error.

- zip form (PyTorch 1.6 and later): `NAME/data.pkl`, and `NAME/data/KEY` with the bytes of each storage;
- older form: five pickles (a magic number, a version, facts about the machine, the object, the keys of the storages),
  then for each storage the number of its elements and their bytes;
- safetensors (https://github.com/huggingface/safetensors): 8 bytes with the length of a JSON header, which has the
  dtype, shape and place of each array; then the arrays.
"""

import collections
import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

from wing_jax.errors import InputError
from wing_jax.text import cut, printable, quoted, reason

MAGIC = 0x1950A86A20F9469CFC6C  # of the older form
ZIP = b"PK\x03\x04"
STORAGES = {  # name of PyTorch's class: dtype
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
DTYPES = {  # of safetensors
    "F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all arrays of a weight file.

    Args:
      path: a `.safetensors` file, or a `.pth` file with a dict of tensors, or with such a dict called "state_dict".

    Returns:
      The arrays by name; bfloat16 as float32, other dtypes unchanged. Numbers that are not tensors are left out.

    Raises:
      InputError: the file cannot be read, is damaged, or contains anything but tensors and numbers.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP)) == ZIP
            file.seek(0)
            return _tensors(path, *(_read_zip(path) if is_zip else _read_stream(path, file)))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or reason(error)}): check the path") from error
    except Exception as error:  # a damaged pickle may raise anything
        _fail(path, f"is damaged or not a weight file ({type(error).__name__}: {reason(error)})", error)


def _fail(path: Path, problem: str, cause: BaseException | None = None) -> NoReturn:
    raise InputError(f"{path}: {problem}: download the file again, or pass a .pth or .safetensors file") from cause


class _Storage(NamedTuple):  # a pickle cannot change a tuple that has been checked
    """The bytes that tensors are views of, by their key in the file."""

    key: str
    dtype: str
    size: int  # elements


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes tensors, storages, dicts and numbers only."""

    def __init__(self, file: io.BufferedIOBase, path: Path) -> None:
        super().__init__(file)
        self.path = path
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return self._parameter
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        label = cut(printable(f"{module}.{name}"), length=80)
        raise InputError(
            f"{self.path}: contains an object of the class {label}, which is not allowed: pass a file with tensors "
            "only, such as torch.save(model.state_dict(), ...)"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *views = pid
        if kind != "storage" or any(view is not None for view in views):
            raise ValueError("a storage of an unknown kind")
        if dtype not in STORAGES.values() or not isinstance(key, str) or type(size) is not int or size < 0:
            raise ValueError("an invalid storage")
        return self.storages.setdefault(key, _Storage(key, dtype, size))

    @staticmethod
    def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("an invalid tensor")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    @staticmethod
    def _parameter(tensor: Any, *_: Any) -> Any:
        return tensor


def _load(file: io.BufferedIOBase, path: Path) -> tuple[Any, dict[str, _Storage]]:
    unpickler = _Unpickler(file, path)
    return unpickler.load(), unpickler.storages


def _read_zip(path: Path) -> tuple[Any, Callable[[_Storage], bytes]]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (pickled,) = (name for name in names if name.endswith("/data.pkl") and name.count("/") == 1)
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            _fail(path, "was written by a big-endian machine, which is not supported")
        value, storages = _load(io.BytesIO(archive.read(pickled)), path)
        content = {key: archive.read(f"{folder}data/{key}") for key in storages}  # zipfile checks the checksums
    return value, lambda storage: content[storage.key]


def _read_stream(path: Path, file: io.BufferedIOBase) -> tuple[Any, Callable[[_Storage], bytes]]:
    if _load(file, path)[0] != MAGIC:
        _fail(path, "is not a weight file of PyTorch")
    _load(file, path)  # the version
    if not _load(file, path)[0]["little_endian"]:
        _fail(path, "was written by a big-endian machine, which is not supported")
    value, storages = _load(file, path)
    content = {}
    for key in _load(file, path)[0]:
        storage, (size,) = storages[key], struct.unpack("<q", file.read(8))
        if size != storage.size:
            raise ValueError(f"a storage has {size} elements instead of {storage.size}")
        content[key] = file.read(size * jnp.dtype(storage.dtype).itemsize)
    return value, lambda storage: content[storage.key]


def _tensors(path: Path, value: Any, content: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    if isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping) or not any(isinstance(item, _Tensor) for item in value.values()):
        _fail(path, f"contains {quoted(type(value).__name__)} instead of a dict of tensors")
    return {str(name): _array(item, content) for name, item in value.items() if isinstance(item, _Tensor)}


def _array(tensor: _Tensor, content: Callable[[_Storage], bytes]) -> np.ndarray:
    storage, count = tensor.storage, math.prod(tensor.shape)
    flat = np.frombuffer(content(storage), jnp.dtype(storage.dtype), count=storage.size)
    end = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True)) + 1
    if count > storage.size or (count and end > storage.size):
        raise ValueError("a tensor is larger than its storage")
    strides = [stride * flat.itemsize for stride in tensor.strides]
    return _plain(np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length].decode())
    body, arrays = memoryview(content)[8 + length :], {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        (begin, end), shape = entry["data_offsets"], entry["shape"]
        if entry["dtype"] not in DTYPES:
            _fail(path, f"the array {quoted(name)} has the dtype {quoted(entry['dtype'])}, which is not supported")
        arrays[name] = _plain(np.frombuffer(body[begin:end], jnp.dtype(DTYPES[entry["dtype"]])).reshape(shape))
    return arrays


def _plain(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float32 if array.dtype == jnp.bfloat16 else array.dtype)
