"""Models on disk: written atomically, read back bit for bit, rejected in one line if corrupted."""

import dataclasses
import json
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.data.boxes import ShapeInBox
from wing_jax.data.held_out import HeldOut
from wing_jax.errors import InputError
from wing_jax.inference import bundle
from wing_jax.inference.bundle import flatten, read_bundle, write_bundle
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.stage import Stage
from wing_jax.models import ResNetTiny, make_model
from wing_jax.models.networks import as_network
from wing_jax.schemes import MTFL_5

MANIFEST = {"scheme": "mtfl5", "box_convention": "landmarks", "stages": [], "metadata": {}}
ARRAYS = {
    "stage1": {"params": {"output": {"kernel": np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)}}},
    "template": {"shape": np.zeros((5, 2), np.float32)},
}


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "model", MANIFEST, ARRAYS)


def rejected(folder, read=read_bundle):
    """Return the one-line error for a bundle that cannot be read."""
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


def test_run_folder_is_accepted(folder):
    assert read_bundle(folder.parent)[0] == MANIFEST


def test_model_json_is_accepted(folder):
    assert read_bundle(folder / "model.json")[0] == MANIFEST


@pytest.mark.parametrize("name", ["", "model.json"])
def test_missing_model_is_named(folder, name):
    (folder / "model.json").unlink()
    assert "no model here" in rejected(folder / "elsewhere" if not name else folder)


@pytest.mark.parametrize("text", ["", '{"format": 2, "sch', "not json"])
def test_broken_json(folder, text):
    (folder / "model.json").write_text(text)
    assert "not valid JSON" in rejected(folder)


@pytest.mark.parametrize("content", [[], 3, {}, {"format": 99}])
def test_unknown_format(folder, content):
    (folder / "model.json").write_text(json.dumps(content))
    assert "bundle format 2" in rejected(folder)


def test_missing_weights(folder):
    (folder / "weights.npz").unlink()
    assert "weights.npz" in rejected(folder)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_truncated_weights(folder, fraction):
    path = folder / "weights.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    assert "corrupted or missing" in rejected(folder)


def test_changed_byte_in_the_weights(folder):
    path = folder / "weights.npz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert "corrupted or missing" in rejected(folder)


def test_single_array_in_place_of_the_weights(folder):
    with (folder / "weights.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "corrupted or missing" in rejected(folder)


def test_pickled_objects_are_never_loaded(folder):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    np.savez(folder / "weights.npz", trap=np.array([Trap()], dtype=object))
    assert "corrupted or missing" in rejected(folder)


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
def test_invalid_manifest(folder, change):
    (folder / "model.json").write_text(json.dumps({"format": 2, **MANIFEST, **change}))
    assert "incomplete or invalid model" in rejected(folder, Localizer.load)


@pytest.mark.parametrize("key", list(MANIFEST))
def test_manifest_without_a_key(folder, key):
    rest = {name: value for name, value in MANIFEST.items() if name != key}
    (folder / "model.json").write_text(json.dumps({"format": 2, **rest}))
    assert key in rejected(folder, Localizer.load)


def test_failed_write_leaves_the_old_bundle(folder, monkeypatch):
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


# Networks that are not registered


class Tree(NamedTuple):
    """Parameters that are not a dict."""

    kernel: Any
    biases: list


class Plain:
    """A custom class with `init` and `apply`."""

    points = 5

    def init(self, key, images):
        size = images[0].size
        return Tree(0.01 * jax.random.normal(key, (size, 2 * self.points)), [jnp.zeros(2 * self.points, jnp.bfloat16)])

    def apply(self, params, images):
        flat = images.reshape(len(images), -1) / 255 @ params.kernel
        return (flat + jnp.broadcast_to(params.biases[0], flat.shape)).reshape(-1, self.points, 2)


class Module(nn.Module):
    """A custom linen module."""

    width: int = 4

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.BatchNorm(use_running_average=not train)(images.reshape(len(images), -1) / 255)
        return nn.Dense(10)(nn.relu(nn.Dense(self.width)(x))).reshape(-1, 5, 2)


BOX = [[8.0, 8.0, 40.0, 40.0]]
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def stage_of(model, seed=0):
    variables = as_network(model).init(jax.random.key(seed), jnp.zeros((1, 16, 16, 3), jnp.uint8))
    return Stage(model=model, variables=variables, input_size=16, face_crop_size=24, margin=1.2, center=(0.1, 0.0))


def localizer_of(*models):
    template = np.linspace(0.2, 0.8, 10, dtype=np.float32).reshape(5, 2)
    stages = tuple(stage_of(model, seed) for seed, model in enumerate(models))
    metadata = Metadata(
        name="mine", data="random", faces=3, shape_in_box=ShapeInBox(center=(0.0, 0.1), side=0.9),
        detectors={"some": ShapeInBox(center=(0.0, 0.2), side=0.4)}, extra={"author": "me", "numbers": [1, 2]},
        held_out=HeldOut(data="mtfl", validation=0.05, photos=("a", "b")),
    )  # fmt: skip
    return Localizer(scheme=MTFL_5, box_convention="landmarks", stages=stages, template=template, metadata=metadata)


REGISTERED = make_model("plain", points=5, channels=(4,), hidden=8, norm="batch")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("models", "model"),
    [
        ([Plain()], Plain()),
        ([Module()], Module()),
        ([Module(), Plain()], [Module(), Plain()]),
        ([REGISTERED, Module()], Module()),
        ([REGISTERED, Module()], [None, Module()]),
        ([REGISTERED], None),
        ([REGISTERED], REGISTERED),
        ([ResNetTiny(points=5)], ResNetTiny(points=5)),
    ],
)
def test_custom_models_are_saved_and_loaded(tmp_path, models, model):
    before = localizer_of(*models)
    after = Localizer.load(before.save(tmp_path / "model"), model=model)
    np.testing.assert_array_equal(after.predict(PICTURE, BOX), before.predict(PICTURE, BOX))
    assert after.metadata == before.metadata
    for loaded, saved in zip(after.stages, before.stages, strict=True):
        assert jax.tree.map(lambda x: x.dtype, loaded.variables["params"]) == jax.tree.map(
            lambda x: x.dtype, saved.variables["params"]
        )
        settings = (loaded.input_size, loaded.face_crop_size, loaded.margin, tuple(loaded.center))
        assert settings == (16, 24, 1.2, (0.1, 0.0))


@pytest.mark.slow
def test_a_copy_of_a_model_in_half_precision_is_as_small_and_equal(tmp_path):
    model = Localizer.load("mtfl")
    first = model.save(tmp_path / "half", half=True) / "weights.npz"
    copy = Localizer.load(tmp_path / "half").save(tmp_path / "copy") / "weights.npz"
    assert copy.read_bytes() == first.read_bytes()
    with np.load(model.save(tmp_path / "full") / "weights.npz") as full, np.load(first) as half:
        assert {str(half[name].dtype) for name in half.files} == {"float16"}
        trained = dataclasses.replace(model, template=model.template + np.float32(1e-5)).save(tmp_path / "trained")
        assert full["stage1/params/output/kernel"].dtype == np.float16  # the pretrained model is in half precision
    with np.load(trained / "weights.npz") as changed:
        assert changed["template/shape"].dtype == np.float32


def test_half_precision_of_a_custom_model(tmp_path):
    before = localizer_of(Plain())
    after = Localizer.load(before.save(tmp_path / "model", half=True), model=Plain())
    assert after.stages[0].variables["params"].kernel.dtype == np.float32
    np.testing.assert_allclose(after.predict(PICTURE, BOX), before.predict(PICTURE, BOX), atol=0.05)


@pytest.mark.parametrize(
    "model",
    [
        make_model("plain", points=5, channels=(4, 4), hidden=8, norm="batch", dropout=0.2),
        make_model("voting", points=5, channels=(4, 4), hidden=8, residual=1, precision="bfloat16"),
        make_model("resnet50", points=5),
    ],
)
def test_registered_models_are_described_by_name(model):
    table = json.loads(
        json.dumps(Stage(model=model, variables={}, input_size=16, face_crop_size=24, margin=1.2).to_table())
    )
    loaded = Stage.from_table(table, {})
    assert loaded.model == model
    assert "custom" not in table["model"]


class Wider(Plain):
    points = 6


class Deeper(Plain):
    def init(self, key, images):
        tree = super().init(key, images)
        return Tree(tree.kernel, [*tree.biases, jnp.zeros(3)])


class Shallower(Plain):
    def init(self, key, images):
        return Tree(super().init(key, images).kernel, [])

    def apply(self, params, images):
        return super().apply(Tree(params.kernel, [jnp.zeros(10)]), images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("saved", "model", "message"),
    [
        (Plain(), None, "the network is of class Plain, which is not registered, and the bundle has only its arrays: "
                        "use Localizer.load(path, model=Plain(...))"),
        (Plain(), Wider(), "the model Wider on crops of 16 x 16 pixels returned float32 [1, 6, 2] for one crop"),
        (Plain(), Deeper(), "the model Deeper has an array 'params/biases/1' that is not in the bundle"),
        (Plain(), Shallower(), "the bundle has an array 'params/biases/0' that is not in the model Shallower"),
        (Module(), Module(width=6), "the array 'params/Dense_0/kernel' of the model Module is float32 [6, 10], in the "
                                    "bundle it is float32 [4, 10]: pass the model that it was saved with"),
        (Plain(), [Plain(), Plain()], "model= has 2 models, the bundle 1 stages: pass one for each"),
        (Plain(), 3, "model=3 is not a model"),
        (REGISTERED, Plain(), "the model Plain has an array 'params/kernel' that is not in the bundle"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_match_is_refused_in_one_line(tmp_path, saved, model, message):
    folder = localizer_of(saved).save(tmp_path / "model")
    assert message in rejected(folder, lambda folder: Localizer.load(folder, model=model))


def test_no_code_is_loaded_from_a_bundle(tmp_path):
    """A name in the bundle is never imported as a module or class."""
    folder = localizer_of(Plain()).save(tmp_path / "model")
    manifest = json.loads((folder / "model.json").read_text())
    manifest["stages"][0]["model"] = {"custom": "os.system\nimport os"}
    (folder / "model.json").write_text(json.dumps(manifest))
    assert "the network is of class os.system\\nimport os, which is not registered" in rejected(folder, Localizer.load)
    manifest["stages"][0]["model"] = {"name": "os.system", "points": 5}
    (folder / "model.json").write_text(json.dumps(manifest))
    assert "no network is called 'os.system'" in rejected(folder, Localizer.load)


class Keyed(Plain):
    def init(self, key, images):
        return {"state": key}


def test_variables_that_are_not_arrays_of_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"'stage1/params/state' of the model is .*, not an array that can be saved"):
        localizer_of(Keyed()).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(InputError, match="two arrays of the model are called 'a/b'"):
        flatten({"a": {"b": 1}, "a/b": 2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name=3 of the metadata is not of type str"),
        ({"faces": "many"}, "faces='many' of the metadata is not of type int"),
        ({"shape_in_box": {"center": [0], "side": 1}}, "shape_in_box of the metadata is not a center"),
        ({"detectors": {"x": {}}}, "detectors: 'x' of the metadata is not a center"),
        ({"detectors": []}, "detectors=[] of the metadata is not a table"),
        ({"held_out": {}}, "held_out is not a valid record of photos"),
        ({"unheard_of": 1}, "not a table with the keys data, detectors, extra, faces, held_out, name, shape_in_box"),
    ],
)
def test_invalid_metadata(folder, change, message):
    (folder / "model.json").write_text(json.dumps({"format": 2, **MANIFEST, "metadata": change}))
    assert message in rejected(folder, Localizer.load)
