"""Models on disk: written whole, read back bit for bit, refused in one line when broken."""

import json

import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.inference import bundle
from wing_jax.inference.bundle import read_bundle, write_bundle
from wing_jax.inference.localizer import Localizer

MANIFEST = {"scheme": "mtfl5", "box_convention": "landmarks", "stages": []}
ARRAYS = {
    "stage1": {"params": {"output": {"kernel": np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)}}},
    "template": {"shape": np.zeros((5, 2), np.float32)},
}


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "model", MANIFEST, ARRAYS)


def refused(folder, read=read_bundle):
    """The one line for a bundle that cannot be read."""
    with pytest.raises(InputError) as error:
        read(folder)
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_round_trip_keeps_every_bit(folder):
    manifest, arrays = read_bundle(folder)
    assert manifest == MANIFEST
    kernel = arrays["stage1"]["params"]["output"]["kernel"]
    assert kernel.dtype == np.float32
    assert kernel.tobytes() == ARRAYS["stage1"]["params"]["output"]["kernel"].tobytes()
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.npz"]


def test_run_folder_serves_as_well(folder):
    assert read_bundle(folder.parent)[0] == MANIFEST


def test_the_file_that_describes_a_model_serves_as_well(folder):
    assert read_bundle(folder / "model.json")[0] == MANIFEST


@pytest.mark.parametrize("name", ["", "model.json"])
def test_missing_model_is_named(folder, name):
    (folder / "model.json").unlink()
    assert "no model here" in refused(folder / "elsewhere" if not name else folder)


@pytest.mark.parametrize("text", ["", '{"format": 1, "sch', "not json"])
def test_broken_json(folder, text):
    (folder / "model.json").write_text(text)
    assert "not valid JSON" in refused(folder)


@pytest.mark.parametrize("content", [[], 3, {}, {"format": 99}])
def test_another_format(folder, content):
    (folder / "model.json").write_text(json.dumps(content))
    assert "bundle format 1" in refused(folder)


def test_missing_weights(folder):
    (folder / "weights.npz").unlink()
    assert "weights.npz" in refused(folder)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated_weights(folder, kept):
    path = folder / "weights.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "broken or missing" in refused(folder)


def test_changed_byte_in_the_weights(folder):
    path = folder / "weights.npz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert "broken or missing" in refused(folder)


def test_single_array_in_place_of_the_weights(folder):
    with (folder / "weights.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "broken or missing" in refused(folder)


def test_pickled_objects_are_never_loaded(folder):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    np.savez(folder / "weights.npz", trap=np.array([Trap()], dtype=object))
    assert "broken or missing" in refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "unheard-of"},
        {"stages": [{"unknown": 1}]},
        {"stages": [{}]},
        {"stages": 3},
        {"stages": [{}, {}]},
    ],
)
def test_manifest_that_does_not_fit(folder, change):
    (folder / "model.json").write_text(json.dumps({"format": 1, **MANIFEST, **change}))
    assert "does not hold what it must" in refused(folder, Localizer.load)


@pytest.mark.parametrize("key", list(MANIFEST))
def test_manifest_without_a_key(folder, key):
    left = {name: value for name, value in MANIFEST.items() if name != key}
    (folder / "model.json").write_text(json.dumps({"format": 1, **left}))
    assert key in refused(folder, Localizer.load)


def test_write_that_fails_leaves_the_old_bundle(folder, monkeypatch):
    def full_disk(file, **_):
        file.write(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(bundle.np, "savez", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_bundle(folder, {**MANIFEST, "scheme": "ibug68"}, ARRAYS)
    monkeypatch.undo()
    manifest, arrays = read_bundle(folder)
    assert manifest == MANIFEST
    np.testing.assert_array_equal(arrays["template"]["shape"], ARRAYS["template"]["shape"])
