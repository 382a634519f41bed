"""The networks: parameter counts, values and gradients against a plain implementation, dtypes, initial predictions."""

import itertools
import json
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax.errors import InputError
from wing_jax.models import (
    CNN6,
    CNN7,
    TINY,
    EfficientNetLite0Regressor,
    MobileNetV2Regressor,
    PlainRegressor,
    ResNet50,
    ResNetTiny,
    VotingRegressor,
    cpu_kernel,
    describe_model,
    make_model,
)
from wing_jax.models.networks import as_network
from wing_jax.train.optimizer import make_optimizer
from wing_jax.train.state import init_state


def shapes_of(model, size):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def pictures(faces=2, size=16, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, (faces, size, size, 3), np.uint8))


def random_variables(model, size, seed=0):
    """Sample every parameter, including biases, so that none can be omitted unnoticed; faster than compiling `init`."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return jnp.asarray(random.normal(0, 1 / np.sqrt(fan_in), leaf.shape).astype(leaf.dtype))

    variables = jax.tree.map(draw, shapes_of(model, size))
    statistics = jax.tree.map(lambda leaf: jnp.asarray(np.abs(leaf) + 0.5), variables.get("batch_stats", {}))
    return {**variables, "batch_stats": statistics}


@pytest.mark.parametrize(("points", "expected"), [(19, 3_705_702), (68, 3_806_152)])
def test_cnn6_has_the_papers_number_of_parameters(points, expected):
    assert count(shapes_of(CNN6(points=points), 64)) == expected


def test_cnn6_count_by_hand():
    widths = (3, 32, 64, 128, 256, 512)
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    assert convolutions + (2 * 2 * 512 * 1024 + 1024) + (1024 * 38 + 38) == 3_705_702


def test_cnn7_works_at_twice_the_size():
    widths = (3, 64, 64, 128, 256, 512, 512)
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    expected = convolutions + (2 * 2 * 512 * 1024 + 1024) + (1024 * 136 + 136)
    assert count(shapes_of(CNN7(points=68), 128)) == expected


def plain_cnn(params, images, blocks):
    """Apply the paper's order of layers: convolution, bias, ReLU, then Flax's max-pooling."""
    x = images.astype(jnp.float32) / 255
    for block in range(blocks):
        kernel = params[f"ConvBlock_{block}"]["Conv_0"]["kernel"]
        bias = params[f"ConvBlock_{block}"]["Shift_0"]["bias"]
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = nn.max_pool(jnp.maximum(x + bias[None, None, None], 0), (2, 2), (2, 2))
    x = x.reshape(len(x), -1) @ params["Dense_0"]["kernel"]
    x = jnp.maximum(x + params["Shift_0"]["bias"][None], 0)
    x = x @ params["output"]["kernel"] + params["output"]["bias"][None]
    return x.reshape(len(x), -1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "size"), [(CNN6, 64), (TINY, 32)])
def test_value_and_gradient_equal_the_papers_order_of_layers(make, size):
    model = make(points=5)
    params, images = random_variables(model, size)["params"], pictures(size=size)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(2, 5, 2)), jnp.float32)

    def ours(params):
        result = model.apply({"params": params}, images)
        return (result * weights).sum(), result

    def reference(params):
        result = plain_cnn(params, images, len(model.channels))
        return (result * weights).sum(), result

    (gradient, result), (expected_gradient, expected) = (
        jax.jit(jax.grad(f, has_aux=True))(params) for f in (ours, reference)
    )
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    for (path, a), b in zip(jax.tree.leaves_with_path(gradient), jax.tree.leaves(expected_gradient), strict=True):
        assert np.abs(b).max() > 0, path
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=str(path))


@pytest.mark.slow
def test_batch_norm_equals_a_plain_implementation():
    model = PlainRegressor(points=3, channels=(4,), hidden=6, norm="batch")
    variables, images = random_variables(model, 8), pictures(size=8)

    def normalize(x, name, block=None):
        params = variables["params"] if block is None else variables["params"][block]
        stats = variables["batch_stats"] if block is None else variables["batch_stats"][block]
        p, s = (jax.tree.map(np.asarray, tree[name]["BatchNorm_0"]) for tree in (params, stats))
        return np.maximum((x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"], 0)

    kernel = variables["params"]["ConvBlock_0"]["Conv_0"]["kernel"]
    x = jax.lax.conv_general_dilated(
        images / jnp.float32(255), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = normalize(np.asarray(nn.max_pool(x, (2, 2), (2, 2))), "Shift_0", "ConvBlock_0").reshape(2, -1)
    x = normalize(x @ np.asarray(variables["params"]["Dense_0"]["kernel"]), "Shift_0")
    output = variables["params"]["output"]
    expected = (x @ np.asarray(output["kernel"]) + np.asarray(output["bias"])).reshape(2, 3, 2)
    np.testing.assert_allclose(jax.jit(model.apply)(variables, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_bfloat16_activations_with_float32_parameters_and_answers(norm):
    half = PlainRegressor(points=3, channels=(4, 4), hidden=8, norm=norm, dtype=jnp.bfloat16)
    full = half.clone(dtype=jnp.float32)
    variables, images = random_variables(half, 16), pictures()
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    apply = partial(half.apply, capture_intermediates=True, mutable=["intermediates"])
    result, inner = jax.jit(apply)(variables, images)
    assert result.dtype == jnp.float32
    blocks = inner["intermediates"]["ConvBlock_1"]["__call__"]
    assert blocks[0].dtype == jnp.bfloat16
    exact = np.asarray(jax.jit(full.apply)(variables, images))
    np.testing.assert_allclose(result, exact, rtol=0.05, atol=0.05)
    assert (result != exact).any()


@pytest.mark.slow
def test_uint8_float_and_jit_give_the_same_result():
    model, images = TINY(points=5), pictures(size=32)
    variables = random_variables(model, 32)
    result = model.apply(variables, images)
    assert result.shape == (2, 5, 2)
    np.testing.assert_array_equal(result, model.apply(variables, images.astype(jnp.float32)))
    np.testing.assert_allclose(result, jax.jit(model.apply)(variables, images), rtol=1e-5, atol=1e-6)


def count_resnet50(points):
    """Count the parameters of He et al. 2016, table 1: convolutions without bias, BatchNorm's scale and bias, head."""
    total, wide = 7 * 7 * 3 * 64 + 2 * 64, 64
    for blocks, narrow in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            total += wide * narrow + 9 * narrow * narrow + narrow * 4 * narrow + 2 * (narrow + narrow + 4 * narrow)
            if block == 0:
                total += wide * 4 * narrow + 2 * 4 * narrow
            wide = 4 * narrow
    return total, total + 2048 * 2 * points + 2 * points


@pytest.mark.slow
def test_resnet50_has_the_trunk_of_23_5_million():
    trunk, total = count_resnet50(68)
    assert trunk == 23_508_032  # torchvision's 25,557,032 less its head of 2048 * 1000 + 1000
    assert count(shapes_of(ResNet50(points=68), 224)["params"]) == total


@pytest.mark.slow
def test_tiny_resnet_predicts_and_updates_statistics():
    model, images = ResNetTiny(points=5), pictures(size=32)
    variables = random_variables(model, 32)
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 5, 2)
    result, new = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))(variables, images)
    assert result.dtype == jnp.float32
    assert np.isfinite(result).all()
    old_means, means = (np.asarray(t["batch_stats"]["ConvNorm_0"]["BatchNorm_0"]["mean"]) for t in (variables, new))
    assert (old_means != means).any()


def count_lite0():
    """Count the parameters of Tan and Le 2019, table 1, Lite: convolutions without bias, BatchNorm's scale and bias."""

    def convolution(kernel, into, channels):
        return kernel * kernel * into * channels + 2 * channels

    total, wide = convolution(3, 3, 32), 32
    table = "1x1k3c16 2x6k3c24 2x6k5c40 3x6k3c80 3x6k5c112 4x6k5c192 1x6k3c320"  # blocks, expansion, kernel, channels
    for blocks, expansion, kernel, channels in (map(int, re.findall(r"\d+", row)) for row in table.split()):
        for _ in range(blocks):
            expanded = wide * expansion
            total += convolution(1, wide, expanded) if expansion > 1 else 0
            total += convolution(kernel, 1, expanded) + convolution(1, expanded, channels)
            wide = channels
    return total + convolution(1, wide, 1280)


@pytest.mark.slow
def test_efficientnet_lite0_has_the_published_trunk():
    assert count_lite0() == 4_652_008 - (1280 * 1000 + 1000)  # the published classifier without its head
    params = shapes_of(EfficientNetLite0Regressor(points=68), 224)["params"]
    assert count(params) == count_lite0() + 1280 * 136 + 136


@pytest.mark.slow
def test_mobilenet_v2_has_the_published_trunk():
    params = shapes_of(MobileNetV2Regressor(points=68), 224)["params"]
    assert count(params) == 3_504_872 - (1280 * 1000 + 1000) + 1280 * 136 + 136  # torchvision's, with another head


def flax_lite0(variables, images):
    """Apply the published order of layers by lax only, block by block."""
    params, statistics = variables["params"], variables["batch_stats"]

    def layer(x, number, *path, stride=1, groups=1, clipped=True):
        p, s = params, statistics
        for name in (*path, f"ConvNorm_{number}"):
            p, s = p[name], s[name]
        kernel, p, s = p["Conv_0"]["kernel"], p["BatchNorm_0"], s["BatchNorm_0"]
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )
        mean, variance, scale, bias = (v[None, None, None] for v in (s["mean"], s["var"], p["scale"], p["bias"]))
        x = (x - mean) / jnp.sqrt(variance + 1e-3) * scale + bias
        return jnp.clip(x, 0, 6) if clipped else x

    x = layer((images.astype(jnp.float32) - 127) / 128, 0, stride=2)
    halving = {1, 3, 5, 11}  # the first blocks of their levels, which halve the resolution
    shortcuts = {2, 4, 6, 7, 9, 10, 12, 13, 14}
    for block in range(16):
        path, y, first = (f"InvertedBottleneck_{block}",), x, int(block > 0)
        if first:
            y = layer(y, 0, *path)
        y = layer(y, first, *path, stride=2 if block in halving else 1, groups=y.shape[-1])
        y = layer(y, first + 1, *path, clipped=False)
        x = x + y if block in shortcuts else y
    x = layer(x, 1).mean((1, 2))
    return (x @ params["output"]["kernel"] + params["output"]["bias"][None]).reshape(len(x), -1, 2)


@pytest.mark.slow
def test_efficientnet_lite0_matches_the_published_order_of_layers():
    model, images = EfficientNetLite0Regressor(points=5), pictures(size=64)
    variables = random_variables(model, 64)
    # Without the factor 2, 35 layers would attenuate the picture.
    variables = jax.tree.map(lambda leaf: 2 * np.asarray(leaf) if leaf.ndim == 4 else leaf, variables)
    result, expected = (jax.jit(f)(variables, images) for f in (model.apply, flax_lite0))
    assert result.shape == (2, 5, 2)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the picture matters
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [EfficientNetLite0Regressor, MobileNetV2Regressor])
def test_every_parameter_of_light_networks_learns(make):
    model, images = make(points=5), pictures(faces=4, size=64)
    variables = random_variables(model, 64)

    @jax.jit
    def gradient(params):
        def loss(params):
            result, new = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return (result * jnp.arange(1.0, 11).reshape(1, 5, 2)).sum(), new["batch_stats"]

        return jax.grad(loss, has_aux=True)(params)

    cpu_kernel.load()
    with cpu_kernel.switched("on"):  # faster to compile
        slopes, statistics = gradient(variables["params"])
    for path, slope in jax.tree.leaves_with_path(slopes):
        assert np.isfinite(slope).all(), path
        assert np.abs(slope).max() > 0, path
    for old, new in zip(jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(statistics), strict=True):
        assert (np.asarray(old) != np.asarray(new)).any()


def test_make_model_by_name():
    plain = make_model("plain", points=5, channels=(8, 8), hidden=16, norm="batch", precision="bfloat16")
    assert plain == PlainRegressor(points=5, channels=(8, 8), hidden=16, norm="batch", dtype=jnp.dtype(jnp.bfloat16))
    assert make_model("resnet50", points=5).blocks == (3, 4, 6, 3)
    with pytest.raises(InputError, match="no network is called 'vgg': use one of plain, "):
        make_model("vgg", points=5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"channels": ()}, r"channels=\(\): pass one number or more"),
        ({"channels": (0, 4)}, r"channels=\(0, 4\): pass one number or more"),
        ({"channels": (8, "8")}, r"channels=\(8, '8'\): pass one number or more"),
        ({"channels": 8}, "channels=8: pass one number or more"),
        ({"hidden": 0}, "hidden=0 must be greater than 0"),
        ({"hidden": "wide"}, "hidden='wide' must be greater than 0"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"norm": "layer"}, "norm='layer' must be one of none, batch"),
        ({"residual": -1}, "residual=-1 must not be below 0"),
        (
            {"width": 3},
            "the network 'voting' has no parameter width: use channels, hidden, norm, dropout, residual, grid",
        ),
        ({"grid": 0}, "grid=0 must be a whole number above 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_parameters_out_of_range_raise(params, message):
    with pytest.raises(InputError, match=message):
        make_model("voting", points=5, **params)


def test_crops_that_cannot_be_halved_often_enough_raise():
    with pytest.raises(InputError, match=r"input_size=60 cannot be halved 3 times, .* use a multiple of 8"):
        shapes_of(make_model("plain", points=5, channels=(4, 4, 4)), 60)


def test_a_grid_that_no_level_fits_raises():
    with pytest.raises(InputError, match="grid=16 is less than the 32 cells of the coarsest level in a crop of 128"):
        shapes_of(make_model("voting", points=5, channels=(4, 4)), 128)


@pytest.mark.parametrize(
    "model",
    [
        PlainRegressor(points=5, channels=(8, 16), hidden=3, norm="batch", dropout=0.2, dtype=jnp.bfloat16),
        VotingRegressor(points=68, residual=2, grid=32),
        ResNetTiny(points=5),
        CNN7(points=19),
    ],
)
def test_a_json_description_recreates_the_network(model):
    description = json.loads(json.dumps(describe_model(model)))
    assert make_model(**description) == model


def test_unregistered_networks_have_no_description():
    assert describe_model(nn.Dense(3)) is None
    assert describe_model(None) is None


@pytest.mark.slow
def test_untrained_network_predicts_the_mean_shape_and_has_he_initialization():
    network = PlainRegressor(points=4, channels=(32,), hidden=64)
    mean = np.random.default_rng(0).uniform(5, 11, (4, 2)).astype(np.float32)
    optimizer = make_optimizer("sgd", lambda _: 0.1, weight_decay=0.0)
    state = init_state(as_network(network), optimizer, seed=0, input_size=16, start=mean)
    result = jax.jit(network.apply)(state.variables, pictures())
    np.testing.assert_array_equal(result, np.stack([mean] * 2))
    assert state.step == 0
    # Standard deviation sqrt(2 / fan-in), He et al. 2015.
    params = state.variables["params"]
    np.testing.assert_allclose(params["ConvBlock_0"]["Conv_0"]["kernel"].std(), np.sqrt(2 / 27), rtol=0.06)
    np.testing.assert_allclose(params["Dense_0"]["kernel"].std(), np.sqrt(2 / (8 * 8 * 32)), rtol=0.06)


def test_a_network_without_start_at_keeps_its_initial_parameters():
    class Center(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            offset = self.param("offset", nn.initializers.normal(), (3, 2), jnp.float32)
            return jnp.broadcast_to(offset[None], (len(images), 3, 2))

    started, unstarted = (
        init_state(as_network(Center()), optax.sgd(0.1), seed=0, input_size=4, start=mean)
        for mean in (np.ones((3, 2), np.float32), None)
    )
    np.testing.assert_array_equal(started.variables["params"]["offset"], unstarted.variables["params"]["offset"])
    assert np.abs(unstarted.variables["params"]["offset"]).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("model", [ResNetTiny(points=4), TINY(points=4)])
def test_a_network_started_at_points_predicts_them(model):
    points = np.random.default_rng(0).uniform(5, 11, (4, 2)).astype(np.float32)
    variables = random_variables(model, 32)
    result = jax.jit(model.apply)(model.start_at(variables, points), pictures(size=32))
    np.testing.assert_allclose(result, np.stack([points] * 2), rtol=1e-6)
    assert jax.tree.structure(model.start_at(variables, points)) == jax.tree.structure(variables)


@pytest.mark.slow
def test_any_integer_is_a_seed():
    def kernel(seed):
        network = as_network(PlainRegressor(points=2, channels=(2,), hidden=2))
        return init_state(network, optax.sgd(0.1), seed=seed, input_size=4).variables["params"]["Dense_0"]["kernel"]

    kernels = [np.asarray(kernel(seed)).tobytes() for seed in (0, 2**31 + 5, 2**40 + 1, -3)]
    assert len(set(kernels)) == 4
