"""3 x 3 convolution, alone and with pooling, bias and ReLU, against plain layers: values and gradients.

Both the kernel, with each instruction set of the processor, and pure JAX are tested.
"""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.models import cpu_kernel
from wing_jax.models.conv3x3 import conv3x3, conv_pool

kernel_needed = pytest.mark.skipif(not cpu_kernel.load(), reason=cpu_kernel.status())
SETS = cpu_kernel.supported() or [pytest.param("on", marks=kernel_needed)]  # test_kernel_sources.py tests the others
CNN6 = [(3, 64, 3, 32), (2, 32, 32, 64), (3, 16, 64, 128), (5, 8, 128, 256), (7, 4, 256, 512)]
CNN7 = [(1, 128, 3, 64), (1, 64, 64, 64), (2, 16, 128, 256), (1, 8, 256, 512), (3, 4, 512, 512)]
PYRAMID = [(3, 16, 16, 64, 64), (5, 8, 8, 64, 64), (8, 4, 4, 64, 64), (9, 2, 2, 64, 64)]
UNEVEN = [(2, 1, 1, 1, 1), (3, 2, 2, 5, 17), (1, 3, 5, 3, 4), (2, 7, 4, 17, 33), (4, 9, 1, 20, 8), (1, 1, 6, 64, 40)]
UNEVEN += [(5, 9, 7, 20, 40), (6, 8, 11, 17, 12)]  # enough cells for Winograd's algorithm in the forward pass
WITHOUT_POOLING = PYRAMID + UNEVEN  # images, height, width, inputs, outputs of a convolution without pooling
ODD = [(1, 2, 1, 1), (5, 6, 4, 8), (2, 4, 5, 17), (3, 4, 20, 40), (33, 4, 16, 16), (70, 2, 12, 33)]


@pytest.fixture(params=SETS)
def instructions(request):
    with cpu_kernel.switched(request.param):
        yield request.param


@pytest.fixture(params=[*SETS, "off"])
def setting(request):
    with cpu_kernel.switched(request.param):
        yield request.param


def sample_block(n, size, inputs, outputs, seed=0):
    """Sample input, kernel, bias and the gradient of the result."""
    random = np.random.default_rng(seed)
    shapes = (n, size, size, inputs), (3, 3, inputs, outputs), (outputs,), (n, size // 2, size // 2, outputs)
    spreads = 1.0, 1 / np.sqrt(9 * inputs), 1 / 3, 1.0
    return tuple(
        random.normal(0, spread, shape).astype(np.float32) for spread, shape in zip(spreads, shapes, strict=True)
    )


def reference_conv(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def reference_block(x, kernel, bias, relu=True):
    x = nn.max_pool(reference_conv(x, kernel), (2, 2), (2, 2)) + bias[None, None, None]
    return jnp.maximum(x, 0) if relu else x


def value_and_gradients(block):
    @jax.jit
    def computed(x, kernel, bias, gradient):
        value, pull = jax.vjp(block, x, kernel, bias)
        return value, *pull(gradient)

    return computed


def assert_near(results, expected, tolerance=1e-5):
    for name, a, b in zip(("value", "input", "kernel", "bias")[-len(results) :], results, expected, strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=tolerance * largest(b), rtol=0, err_msg=name)


def largest(values):
    """Return the largest magnitude, but at least 1."""
    return max(1, float(np.abs(np.asarray(values)).max(initial=0)))


@cache
def expected_block(shape, *, round_first=False):
    """Return the reference for `sample_block(*shape)`; `round_first` rounds all but the bias to bfloat16."""
    x, kernel, bias, gradient = sample_block(*shape)
    if round_first:
        x, kernel, gradient = map(rounded, (x, kernel, gradient))
    return value_and_gradients(reference_block)(x, kernel, bias, gradient)


@pytest.mark.slow
@pytest.mark.parametrize("shape", CNN6 + CNN7 + ODD, ids=str)
def test_kernel_equals_the_plain_layers(instructions, shape):
    results = value_and_gradients(partial(conv_pool, relu=True))(*sample_block(*shape))
    assert_near(results, expected_block(shape))


@pytest.mark.parametrize("shape", CNN6 + ODD, ids=str)
def test_bfloat16_equals_the_plain_layers_of_rounded_values(shape):
    x, kernel, bias, gradient = sample_block(*shape)
    with cpu_kernel.switched("on"):
        need_bfloat16()
        block = value_and_gradients(lambda x, *more: conv_pool(x.astype(jnp.bfloat16), *more, relu=True))
        results = block(x, kernel, bias, half(gradient))
    assert results[0].dtype == jnp.bfloat16
    expected = expected_block(shape, round_first=True)
    assert_near((np.asarray(results[0]).astype(np.float32), *results[1:]), expected, tolerance=4e-3)
    assert_near(results[2:], expected[2:], tolerance=1e-5)


def rounded(value):
    return np.asarray(value).astype(jnp.bfloat16).astype(np.float32)


def half(value):
    return np.asarray(value).astype(jnp.bfloat16)


def need_bfloat16():
    if not cpu_kernel.instructions(dtype="bfloat16"):
        pytest.skip("no kernel in bfloat16: the processor or the compiler has no AMX")


def sample_convolution(n, height, width, inputs, outputs):
    """Sample input, kernel and the gradient of a convolution's result."""
    random = np.random.default_rng(0)
    x, gradient = (random.normal(size=(n, height, width, channels)) for channels in (inputs, outputs))
    kernel = random.normal(0, 1 / np.sqrt(9 * inputs), (3, 3, inputs, outputs))
    return tuple(values.astype(np.float32) for values in (x, kernel, gradient))


def conv_and_gradients(convolution, x, kernel, gradient):
    """Return the value and the gradients."""

    @jax.jit
    def computed(x, kernel, gradient):
        value, pull = jax.vjp(convolution, x, kernel)
        return value, *pull(gradient)

    return computed(x, kernel, gradient)


@cache
def expected_convolution(shape, *, round_first=False):
    arguments = sample_convolution(*shape)
    return (
        conv_and_gradients(reference_conv, *map(rounded, arguments))
        if round_first
        else conv_and_gradients(reference_conv, *arguments)
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", WITHOUT_POOLING, ids=str)
def test_convolution_equals_lax(setting, shape):
    results = conv_and_gradients(conv3x3, *sample_convolution(*shape))
    for name, a, b in zip(("value", "input", "kernel"), results, expected_convolution(shape), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=1e-5 * largest(b), rtol=0, err_msg=name)


@pytest.mark.parametrize("shape", WITHOUT_POOLING, ids=str)
def test_convolution_in_bfloat16_equals_lax_of_rounded_values(shape):
    x, kernel, gradient = sample_convolution(*shape)
    with cpu_kernel.switched("on"):
        need_bfloat16()
        results = conv_and_gradients(conv3x3, half(x), kernel, half(gradient))
    for a, b, tolerance in zip(results, expected_convolution(shape, round_first=True), (4e-3, 4e-3, 1e-5), strict=True):
        np.testing.assert_allclose(np.asarray(a).astype(np.float32), b, atol=tolerance * largest(b), rtol=0)
    assert [gradient.dtype for gradient in results] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]


@pytest.mark.slow
@pytest.mark.parametrize("relu", [True, False])
def test_kernel_and_fallback_equal_the_plain_layers(setting, relu):
    arguments = sample_block(3, 8, 6, 20)
    results = value_and_gradients(partial(conv_pool, relu=relu))(*arguments)
    assert_near(results, value_and_gradients(partial(reference_block, relu=relu))(*arguments))


def test_without_bias(setting):
    x, kernel, _, _ = sample_block(2, 6, 3, 8)
    result = jax.jit(partial(conv_pool, relu=False))(x, kernel)
    expected = jax.jit(partial(reference_block, relu=False))(x, kernel, np.zeros(8, np.float32))
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [3, 16])
def test_first_of_equal_values_takes_the_whole_gradient(setting, inputs):
    # A kernel with only the middle tap copies the picture: four equal values in each window.
    kernel, bias = np.zeros((3, 3, inputs, 4), np.float32), np.zeros(4, np.float32)
    kernel[1, 1, 0] = 1
    compiled = jax.jit(jax.grad(lambda x: conv_pool(x, jnp.asarray(kernel), jnp.asarray(bias), relu=True).sum()))
    gradient = np.asarray(compiled(np.ones((1, 4, 4, inputs), np.float32)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], 4.0 * np.array([[1, 0, 1, 0], [0] * 4] * 2))
    np.testing.assert_array_equal(gradient[..., 1:], 0)


@pytest.mark.slow
def test_relu_at_exactly_zero_passes_no_gradient(setting):
    x, kernel, _, _ = sample_block(1, 4, 3, 4)
    compiled = jax.jit(jax.grad(lambda bias: conv_pool(x, 0 * kernel, bias, relu=True).sum()))
    bias_gradient = compiled(np.zeros(4, np.float32))
    np.testing.assert_array_equal(bias_gradient, 0)


@pytest.mark.slow
def test_nan_propagates(setting):
    x, kernel, bias, _ = sample_block(1, 8, 3, 20)
    x = np.array(x)
    x[0, 5, 2, 1] = np.nan
    results = np.isnan(jax.jit(partial(conv_pool, relu=True))(x, kernel, bias))
    assert results[0, 2:4, 0:2].all()
    assert results.sum() == 4 * 20


@pytest.mark.slow
def test_vmap_equals_a_loop(setting):
    x, kernel, bias, gradient = (
        np.stack(pair) for pair in zip(sample_block(2, 8, 3, 8), sample_block(2, 8, 3, 8, 1), strict=True)
    )
    computed = value_and_gradients(partial(conv_pool, relu=True))
    expected = [
        np.stack(pair)
        for pair in zip(
            *(computed(*arguments) for arguments in zip(x, kernel, bias, gradient, strict=True)), strict=True
        )
    ]
    assert_near(jax.jit(jax.vmap(computed))(x, kernel, bias, gradient), expected)
    pooled = partial(conv_pool, relu=True)
    shared = jax.jit(jax.vmap(pooled, in_axes=(0, None, None)))(x, kernel[0], bias[0])
    np.testing.assert_allclose(shared[1], jax.jit(pooled)(x[1], kernel[0], bias[0]), atol=1e-6)


@pytest.mark.slow
def test_scan_equals_a_loop(setting):
    x, kernel, bias, _ = sample_block(6, 8, 3, 8)

    def summed(bias):
        return jax.lax.scan(lambda total, x: (total + conv_pool(x, kernel, bias, relu=True).sum(), 0), 0.0, x[:, None])

    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda bias: summed(bias)[0]))(bias),
        jax.jit(jax.grad(lambda bias: conv_pool(x, kernel, bias, relu=True).sum()))(bias),
        rtol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("setting", [*SETS, "off", "auto"], indirect=True)
def test_sharded_and_pmapped_equal_one_device(setting):
    assert jax.device_count() == 8
    x, kernel, bias, gradient = sample_block(8, 8, 3, 8)
    computed = value_and_gradients(partial(conv_pool, relu=True))
    expected = computed(x, kernel, bias, gradient)
    mesh = jax.make_mesh((4,), ("faces",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    split, same = jax.P("faces"), jax.P()
    placed = [jax.device_put(values, jax.NamedSharding(mesh, split)) for values in (x, gradient)]
    assert_near(computed(placed[0], kernel, bias, placed[1]), expected)

    def replica(x, kernel, bias, gradient):
        value, of_input, *more = computed(x, kernel, bias, gradient)
        return value, of_input, *(jax.lax.psum(gradient, "faces") for gradient in more)

    mapped = jax.shard_map(
        replica, mesh=mesh, in_specs=(split, same, same, split), out_specs=(split, split, same, same), check_vma=False
    )
    assert_near(jax.jit(mapped)(placed[0], kernel, bias, placed[1]), expected)
    parts = x.reshape(4, 2, 8, 8, 3), kernel, bias, gradient.reshape(4, 2, 4, 4, 8)
    value, of_input, of_kernel, of_bias = jax.pmap(replica, axis_name="faces", in_axes=(0, None, None, 0))(*parts)
    results = value.reshape(8, 4, 4, 8), of_input.reshape(8, 8, 8, 3), of_kernel[0], of_bias[0]
    assert_near(results, expected)


@pytest.mark.parametrize("shape", [CNN6[0], CNN6[2], ODD[3]], ids=str)
def test_two_calls_are_bitwise_equal(instructions, shape):
    arguments = sample_block(*shape)
    computed = value_and_gradients(partial(conv_pool, relu=True))
    for a, b in zip(computed(*arguments), computed(*arguments), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradient_keeps_the_instructions_of_its_value(instructions):
    x, kernel, bias, gradient = map(jnp.asarray, sample_block(1, 4, 3, 4))
    _, pull = jax.vjp(partial(conv_pool, relu=True), x, kernel, bias)
    _, pull_plain = jax.vjp(conv3x3, x, kernel)
    with cpu_kernel.switched("off"):
        for traced in jax.make_jaxpr(pull)(gradient), jax.make_jaxpr(pull_plain)(jnp.zeros((1, 4, 4, 4))):
            assert str(traced).count(f"'{instructions}'") == 2


@kernel_needed
def test_first_layer_computes_no_input_gradient():
    x, kernel, bias, _ = map(jnp.asarray, sample_block(1, 8, 3, 8))
    with cpu_kernel.switched("on"):
        gradient = jax.jit(jax.grad(lambda kernel: conv_pool(x, kernel, bias, relu=True).sum()))
        compiled = gradient.lower(kernel).compile().as_text()
    assert "wing_jax_conv_pool_weights" in compiled
    assert "wing_jax_conv_pool_input" not in compiled


def calls_kernel(dtype=jnp.float32):
    x, kernel, bias, _ = sample_block(1, 4, 3, 4)
    pooled = jax.make_jaxpr(partial(conv_pool, relu=True))(x.astype(dtype), kernel, bias)
    plain = jax.make_jaxpr(partial(conv3x3))(x.astype(dtype), kernel)
    called = "wing_jax_conv_pool" in str(pooled)
    assert called == ("wing_jax_conv" in str(plain))
    return called


@kernel_needed
def test_switch(monkeypatch):
    monkeypatch.delenv(cpu_kernel.SWITCH, raising=False)
    assert not calls_kernel()  # eight devices, and no replica of one
    with cpu_kernel.switched("on"):
        assert calls_kernel()
        assert calls_kernel(jnp.bfloat16) == bool(cpu_kernel.instructions(dtype="bfloat16"))
        assert not calls_kernel(jnp.float16)
        with cpu_kernel.switched("off"):
            assert not calls_kernel()
        assert calls_kernel()
    monkeypatch.setenv(cpu_kernel.SWITCH, "on")
    assert calls_kernel()
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setenv(cpu_kernel.SWITCH, "off")
    assert not calls_kernel()
    monkeypatch.setenv(cpu_kernel.SWITCH, "auto")
    assert calls_kernel()


def test_forward_mode_and_second_derivatives_with_the_kernel_off():
    x, kernel, bias, _ = map(jnp.asarray, sample_block(1, 2, 3, 2))

    def squared(bias):
        return (conv_pool(x, kernel, bias, relu=True) ** 2).sum()

    with cpu_kernel.switched("off"):
        curvature = jax.jit(jax.hessian(squared))(bias)
    np.testing.assert_allclose(
        curvature, np.diag(2.0 * (np.asarray(reference_block(x, kernel, bias))[0, 0, 0] > 0)), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 3, 1)])
def test_odd_size_raises(setting, shape):
    with pytest.raises(ValueError, match=f"got {shape[1]} x {shape[2]}"):
        conv_pool(jnp.zeros(shape), jnp.zeros((3, 3, 1, 2)), relu=True)


def test_empty_batch(setting):
    assert conv_pool(jnp.zeros((0, 4, 4, 3)), jnp.zeros((3, 3, 3, 5)), relu=True).shape == (0, 2, 2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_kept(setting, dtype):
    x, kernel, bias, _ = sample_block(1, 4, 3, 4)
    assert jax.eval_shape(partial(conv_pool, relu=True), x.astype(dtype), kernel, bias).dtype == dtype


def test_second_call_is_not_traced_again(setting):
    computed = value_and_gradients(partial(conv_pool, relu=True))
    computed(*sample_block(2, 4, 3, 4))
    with jax.no_tracing():
        computed(*sample_block(2, 4, 3, 4, seed=1))
