"""Write weight files of PyTorch and safetensors by hand, without these libraries."""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    """Pickle a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integers(values) -> bytes:
    """Pickle a tuple of whole numbers."""
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def pickle_weights(weights: dict[str, np.ndarray], *, extra: bytes = b"", views: bytes = b"") -> bytes:
    """Pickle an OrderedDict of float32 or int64 tensors as `torch.save` does; `extra` is one more entry, pickled."""
    entries = []
    for number, (name, array) in enumerate(weights.items()):
        kind = {"float32": b"Float", "int64": b"Long"}[array.dtype.name]
        storage = b"(" + text("storage") + b"ctorch\n" + kind + b"Storage\n" + text(str(number)) + text("cpu")
        storage += b"J" + struct.pack("<i", array.size) + views + b"tQ"
        strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides][: array.ndim]
        arguments = (
            b"("
            + storage
            + b"K\x00"
            + integers(array.shape)
            + integers(strides)
            + b"\x89ccollections\nOrderedDict\n)Rt"
        )
        entries.append(text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R")
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + b"".join(entries) + extra + b"u."


def write_zip(path: Path, weights: dict[str, np.ndarray], *, extra: bytes = b"") -> Path:
    """Write the zip form of `.pth`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_weights(weights, extra=extra))
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(weights.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())
    return path


def write_stream(path: Path, weights: dict[str, np.ndarray], *, extra: bytes = b"") -> Path:
    """Write the older form of `.pth`."""
    head = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}" + text("little_endian") + b"\x88s."
    keys = b"\x80\x02](" + b"".join(text(str(number)) for number in range(len(weights))) + b"e."
    storages = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in weights.values())
    path.write_bytes(head + pickle_weights(weights, extra=extra, views=b"N") + keys + storages)
    return path


def write_safetensors(path: Path, weights: dict[str, np.ndarray]) -> Path:
    """Write safetensors."""
    header, begin = {"__metadata__": {"format": "pt"}}, 0
    for name, array in weights.items():
        dtype = {"float32": "F32", "int64": "I64"}[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (begin, begin + array.nbytes)}
        begin += array.nbytes
    encoded = json.dumps(header).encode()
    body = b"".join(array.tobytes() for array in weights.values())
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)
    return path
