"""One signature for all models: linen modules, plain objects, and the adapters of docs/how-to/add-model.md."""

import dataclasses
import re
import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.paths import DOCS
from wing_jax.errors import InputError
from wing_jax.models import make_model
from wing_jax.models.networks import Network, as_network, shapes_of

PAGE = DOCS / "how-to" / "add-model.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
KEY = jax.random.key(0)


def crops(count=4, size=8):
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (count, size, size, 3)), jnp.uint8)


class Linear(nn.Module):
    """A module without an argument for the mode."""

    points: int = 5

    @nn.compact
    def __call__(self, images):
        return nn.Dense(2 * self.points)(images.reshape(len(images), -1) / 255).reshape(-1, self.points, 2)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, images, *, training: bool = False):
        x = nn.BatchNorm(use_running_average=not training)(images.reshape(len(images), -1) / 255)
        return nn.Dense(10)(x).reshape(-1, 5, 2)


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, images, deterministic):
        x = nn.Dropout(0.5, deterministic=deterministic)(images.reshape(len(images), -1) / 255)
        return nn.Dense(10)(x).reshape(-1, 5, 2)


class Noisy(nn.Module):
    """A module with a custom random stream and a custom collection."""

    @nn.compact
    def __call__(self, images, train=False):
        steps = self.variable("counts", "steps", lambda: jnp.zeros((), jnp.int32))
        x = images.reshape(len(images), -1) / 255
        if train:
            steps.value += 1
            x += jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(10)(x).reshape(-1, 5, 2)


class Plain:
    """A model whose parameters are not a dict."""

    def init(self, key, images):
        return (jax.random.normal(key, (images[0].size, 10)), [jnp.zeros(10)])

    def apply(self, params, images):
        weights, (bias,) = params
        return (images.reshape(len(images), -1) @ weights + jnp.broadcast_to(bias, (len(images), 10))).reshape(-1, 5, 2)


class Keyed(Plain):
    def apply(self, params, images, *, train, key):
        points = super().apply(params, images)
        return points + jax.random.normal(key, points.shape) if train else points


@pytest.mark.slow
def test_a_linen_module_without_a_switch():
    network = as_network(Linear())
    variables = network.init(KEY, crops(1))
    expected = Linear().apply(variables, crops())
    for train in (False, True):
        points, collections = network.apply(variables, crops(), train=train, key=KEY)
        np.testing.assert_array_equal(points, expected)
        assert collections == {}


@pytest.mark.slow
def test_batch_norm_uses_the_batch_in_training_and_updates_its_averages():
    network = as_network(Normed())
    variables = network.init(KEY, crops(1))
    points, collections = network.apply(variables, crops(), train=True)
    expected, changed = Normed().apply(variables, crops(), training=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(points, expected)
    jax.tree.map(np.testing.assert_array_equal, collections, dict(changed))
    assert not np.allclose(collections["batch_stats"]["BatchNorm_0"]["mean"], 0)
    points, unchanged = network.apply(variables, crops(), train=False)
    np.testing.assert_array_equal(points, Normed().apply(variables, crops()))
    jax.tree.map(np.testing.assert_array_equal, unchanged, {"batch_stats": variables["batch_stats"]})


def test_dropout_draws_from_the_key_and_only_in_training():
    network = as_network(Dropped())
    variables = network.init(KEY, crops(1))

    def answer(train, seed):
        return np.asarray(network.apply(variables, crops(), train=train, key=jax.random.key(seed))[0])

    expected = Dropped().apply(variables, crops(), False, rngs={"dropout": jax.random.key(1)})
    np.testing.assert_array_equal(answer(True, 1), expected)
    assert np.abs(answer(True, 1) - answer(True, 2)).max() > 0
    np.testing.assert_array_equal(answer(False, 1), answer(False, 2))


def test_other_collections_and_streams_of_a_linen_module():
    network = as_network(Noisy())
    variables = network.init(KEY, crops(1))
    first, collections = network.apply(variables, crops(), train=True, key=KEY)
    second, _ = network.apply(variables, crops(), train=True, key=KEY)
    np.testing.assert_array_equal(first, second)
    assert int(collections["counts"]["steps"]) == 1
    predicted, _ = network.apply(variables, crops(), train=False)
    assert np.abs(np.asarray(predicted) - np.asarray(first)).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_networks_of_this_package_match_their_modules(norm):
    model = make_model("plain", points=5, channels=(4,), hidden=8, norm=norm, dropout=0.5)
    network, variables = as_network(model), model.init(KEY, crops(1))
    expected = model.apply(variables, crops(), train=True, mutable=["batch_stats"], rngs={"dropout": KEY})
    points, collections = network.apply(variables, crops(), train=True, key=KEY)
    np.testing.assert_array_equal(points, expected[0])
    jax.tree.map(np.testing.assert_array_equal, collections, dict(expected[1]))
    jax.tree.map(np.testing.assert_array_equal, network.init(KEY, crops(1)), dict(variables))


def test_an_object_with_init_and_apply():
    network = as_network(Plain())
    variables = network.init(KEY, crops(1))
    points, collections = network.apply(variables, crops(), train=True, key=KEY)
    np.testing.assert_array_equal(points, Plain().apply(variables["params"], crops()))
    assert (set(variables), collections, points.shape) == ({"params"}, {}, (4, 5, 2))


def test_an_object_may_take_the_switch_and_a_key():
    network = as_network(Keyed())
    variables = network.init(KEY, crops(1))
    predicted, trained = (network.apply(variables, crops(), train=train, key=KEY)[0] for train in (False, True))
    np.testing.assert_allclose(trained - predicted, jax.random.normal(KEY, predicted.shape), atol=1e-2)


def test_equal_models_make_equal_networks():
    """A program that was compiled for one can then run the other."""
    assert as_network(Linear()) == as_network(Linear())
    assert hash(as_network(Linear())) == hash(as_network(Linear()))
    assert as_network(Linear()) != as_network(Linear(points=3))
    plain = Plain()
    assert as_network(plain) == as_network(plain)
    assert as_network(plain) != as_network(Plain())

    @dataclasses.dataclass
    class Unhashable(Plain):
        values: Any

    model = Unhashable(np.zeros(3))
    assert {as_network(model): 1}[as_network(model)] == 1
    assert as_network(model) != as_network(Unhashable(np.zeros(3)))


def test_a_network_subclass_is_returned_unchanged():
    class CountingNetwork(Network):
        def init(self, key, images):
            return {"params": jnp.zeros(()), "counts": jnp.zeros((), jnp.int32)}

        def apply(self, variables, images, *, train, key=None):
            return jnp.zeros((len(images), 5, 2)), {"counts": variables["counts"] + train}

    model = CountingNetwork()
    assert as_network(model) is model
    assert set(shapes_of(model, input_size=8, points=5)) == {"params", "counts"}


class Needy(nn.Module):
    @nn.compact
    def __call__(self, images, scale):
        return images * scale


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "model=None is not a model: pass a Flax linen module, or an object with init"),
        (lambda images: images, "is not a model"),
        (Linear, "model='Linear' is not instantiated: call it"),
        (Needy(), "Needy.__call__ needs 'scale' besides the images"),
    ],
)
def test_objects_that_are_not_models_raise(model, message):
    with pytest.raises(InputError, match=re.escape(message)):
        as_network(model)


def test_shapes_without_computing():
    shapes = shapes_of(as_network(Linear()), input_size=16, points=5)
    assert shapes["params"]["Dense_0"]["kernel"].shape == (16 * 16 * 3, 10)


class Scalar(nn.Module):
    @nn.compact
    def __call__(self, images):
        return images.mean()


class Integer(nn.Module):
    @nn.compact
    def __call__(self, images):
        return jnp.zeros((len(images), 5, 2), jnp.int32)


@pytest.mark.parametrize(
    ("model", "points", "message"),
    [
        (Linear(), 68, "the model Linear on crops of 8 x 8 pixels returned float32 [1, 5, 2] for one crop: it must"),
        (Scalar(), 5, "returned float32 []"),
        (Integer(), 5, "returned int32 [1, 5, 2]"),
        (make_model("plain", points=5, channels=(4,) * 5, hidden=8), 5, "the model PlainRegressor on crops of 8 x 8 "),
    ],
)
def test_models_that_do_not_return_points_raise(model, points, message):
    with pytest.raises(InputError, match=re.escape(message)):
        shapes_of(as_network(model), input_size=8, points=points)


def class_from_page(name, **scope):
    """Return the class `name` from a code block of the page; `scope` replaces its imports."""
    (block,) = [block for block in BLOCKS if f"class {name}" in block]
    if scope:
        block = block.replace("import equinox as eqx\n", "")
    exec(compile(block, str(PAGE), "exec"), scope)
    return scope[name]


def loss_decreases(model):
    """Return whether one gradient step on a squared error through the adapter lowers it."""
    network, images = as_network(model), crops()
    target = jnp.full((len(images), 5, 2), 4.0)
    variables = network.init(KEY, images[:1])
    shapes_of(network, input_size=8, points=5)

    @jax.jit
    def error(params):
        points, _ = network.apply({**variables, "params": params}, images, train=True, key=KEY)
        return ((points - target) ** 2).mean()

    before, gradient = jax.value_and_grad(error)(variables["params"])
    after = error(jax.tree.map(lambda p, g: p - 1e-3 * g, variables["params"], gradient))
    return float(after) < float(before)


@pytest.mark.slow
def test_the_linen_module_of_the_page(tmp_path, monkeypatch):
    module = class_from_page("MyModule")
    assert loss_decreases(module())
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if "localizer.save" in block]
    exec(compile(block, str(PAGE), "exec"), {"MyModule": module})
    assert (tmp_path / "mine" / "weights.npz").exists()


@pytest.mark.slow
def test_the_nnx_adapter_of_the_page():
    from flax import nnx

    class Perceptron(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(8 * 8 * 3, 16, rngs=rngs), nnx.Linear(16, 10, rngs=rngs)])

        def __call__(self, images):
            first, second = self.layers
            return second(nnx.relu(first(images.reshape(len(images), -1) / 255))).reshape(-1, 5, 2)

    model = class_from_page("NnxModel")(Perceptron)
    variables = as_network(model).init(KEY, crops(1))
    expected = Perceptron(nnx.Rngs(KEY))(crops())
    points, _ = as_network(model).apply(variables, crops(), train=False)
    np.testing.assert_allclose(points, expected, rtol=1e-5)
    assert loss_decreases(model)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class Single:
    """A module like Equinox's: a pytree, called with one image, with a field that is not an array."""

    weights: Any
    activation: Any = jnp.tanh

    def __call__(self, image):
        return (self.activation(image.reshape(-1) / 255) @ self.weights).reshape(5, 2)

    def tree_flatten(self):
        return (self.weights, self.activation), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def equinox():
    """Return Equinox if it is installed, else replacements of the three functions that the page uses."""
    try:
        import equinox as installed
    except ImportError:

        def is_array(value):
            return isinstance(value, jax.Array)

        def filter_tree(tree, predicate, *, inverse=False):
            return jax.tree.map(lambda leaf: leaf if predicate(leaf) is not inverse else None, tree)

        def combine(first, second):
            return jax.tree.map(lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None)

        return types.SimpleNamespace(is_array=is_array, filter=filter_tree, combine=combine)
    return installed


@pytest.mark.slow
def test_the_equinox_adapter_of_the_page():
    model = class_from_page("EquinoxModel", eqx=equinox())(
        lambda key: Single(0.1 * jax.random.normal(key, (8 * 8 * 3, 10)))
    )
    variables = as_network(model).init(KEY, crops(1))
    points, _ = as_network(model).apply(variables, crops(), train=False)
    assert isinstance(variables["params"], Single)
    np.testing.assert_allclose(points[1], Single(variables["params"].weights)(crops()[1]), rtol=1e-5)
    assert loss_decreases(model)
