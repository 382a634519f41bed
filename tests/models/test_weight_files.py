"""Files of PyTorch and safetensors: read without either library, and without running what is in them."""

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.weight_files import text, write_safetensors, write_stream, write_zip
from wing_jax.errors import InputError
from wing_jax.models.weight_files import read_weights

WEIGHTS = {
    "first.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "first.bias": np.array([1.5, -2], np.float32),
    "count": np.array(7, np.int64),
}
WRITERS = {"zip.pth": write_zip, "stream.pth": write_stream, "a.safetensors": write_safetensors}
PICKLED = {name: write for name, write in WRITERS.items() if name.endswith(".pth")}


@pytest.mark.parametrize("name", WRITERS)
def test_arrays_are_read_as_written(tmp_path, name):
    read = read_weights(WRITERS[name](tmp_path / name, WEIGHTS))
    assert list(read) == list(WEIGHTS)
    for label, array in WEIGHTS.items():
        np.testing.assert_array_equal(read[label], array)
        assert read[label].dtype == array.dtype


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_files_of_pytorch_are_read(tmp_path, form):
    """Written by torch.save (tests/support/imagenet_reference.py)."""
    path = tmp_path / "torch.pth"
    path.write_bytes(np.load(ROOT / "tests/models/imagenet_reference.npz")[f"file/{form}"].tobytes())
    read, numbers = read_weights(path), np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = {"turned": numbers.T, "part": numbers[1:, 1:], "parameter": numbers[0], "count": np.array(3)}
    expected |= {name: numbers.astype(name) for name in ("float64", "float16", "int64", "bool")}
    expected["bfloat16"] = numbers
    assert read.keys() == expected.keys()
    for label, array in expected.items():
        np.testing.assert_array_equal(read[label], array)
        assert read[label].dtype == array.dtype, label


class Attack:
    """Pickled as a call that creates a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def attack(path) -> bytes:
    """Pickle an entry of a dict that creates the folder `path`."""
    return text("attack") + pickle.dumps(Attack(path), protocol=2)[2:-1]


@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_pickle_is_refused_and_not_executed(tmp_path, name, nested):
    extra = attack(tmp_path / "executed")
    if nested:
        extra = text("inner") + b"}(" + extra + b"u"
    pickle.loads(b"\x80\x02}(" + extra + b"u.")  # the pickle does run
    (tmp_path / "executed").rmdir()
    path = WRITERS[name](tmp_path / name, WEIGHTS, extra=extra)
    with pytest.raises(InputError, match=rf"{name}: contains an object of the class \w+\.mkdir, which is not allowed"):
        read_weights(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "call",
    [
        b"cos\nsystem\n(" + text("true") + b"tR",
        b"cbuiltins\neval\n(" + text("1") + b"tR",
        b"ctorch.storage\n_load_from_bytes\n(" + text("x") + b"tR",
        b"ctorch\nload\n(" + text("x") + b"tR",
        b"(" + text("true") + b"ios\nsystem\n",  # the opcode INST
        b"\x8c\x02os\x8c\x06system\x93(" + text("true") + b"tR",  # STACK_GLOBAL
        b"ccollections\nOrderedDict.fromkeys\n(" + text("x") + b"tR",
    ],
)
def test_only_the_names_of_tensors_are_allowed(tmp_path, call):
    with pytest.raises(InputError, match="which is not allowed"):
        read_weights(write_zip(tmp_path / "a.pth", WEIGHTS, extra=text("x") + call))


def huge(offset=0, shape=(2,), strides=(1,)) -> bytes:
    """Pickle a tensor of a storage of 24 elements."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x18tQ"
    numbers = [b"J" + struct.pack("<i", value) for value in (offset, *shape, *strides)]
    sides = b"(" + b"".join(numbers[1 : 1 + len(shape)]) + b"t(" + b"".join(numbers[1 + len(shape) :]) + b"t"
    return text("x") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers[0] + sides + b"\x89}tR"


@pytest.mark.parametrize(
    "tensor",
    [
        huge(offset=23), huge(offset=-1), huge(shape=(25,)), huge(strides=(24,)), huge(strides=(-1,)),
        huge(shape=(9_999, 9_999), strides=(0, 0)), huge(shape=(2, 2)),
    ],
)  # fmt: skip
def test_a_tensor_outside_of_its_storage_is_an_error(tmp_path, tensor):
    with pytest.raises(InputError, match=r"a\.pth: is damaged or not a weight file"):
        read_weights(write_zip(tmp_path / "a.pth", WEIGHTS, extra=tensor))


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_file_is_an_error_in_one_line(tmp_path, name):
    content = WRITERS[name](tmp_path / name, WEIGHTS).read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(InputError, match=rf"^.*{name}: [^\n]*download the file again[^\n]*$"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_bytes_raise_no_other_error(tmp_path, name):
    content = WRITERS[name](tmp_path / name, WEIGHTS).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 3):
            damaged[position] = random.integers(256)
        (tmp_path / name).write_bytes(damaged)
        with contextlib.suppress(InputError):
            read_weights(tmp_path / name)


def test_other_files_are_errors_in_one_line(tmp_path):
    def written(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    for path, message in [
        (tmp_path / "missing.pth", r"missing\.pth: cannot be read \(No such file or directory\): check the path"),
        (tmp_path, "cannot be read"),
        (written("text.pth", b"not weights"), "is damaged or not a weight file"),
        (written("list.pth", pickle.dumps([1, 2])), "is not a weight file of PyTorch"),
        (written("zip.pth", buffer.getvalue()), "is damaged or not a weight file"),
        (write_zip(tmp_path / "empty.pth", {}), "contains 'OrderedDict' instead of a dict of tensors"),
        (written("x.safetensors", struct.pack("<Q", len(header)) + header + b"0"), "'x' has the dtype 'F8_E4M3'"),
    ]:
        with pytest.raises(InputError, match=message):
            read_weights(path)
