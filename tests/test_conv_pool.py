"""The fused block against convolution, pooling, bias and ReLU written plainly: value and gradients, kernel and JAX."""

import os
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.models import cpu_kernel
from wing_jax.models.conv_pool import conv_pool

kernel_needed = pytest.mark.skipif(not cpu_kernel.available(), reason=cpu_kernel.status())
BOTH = [pytest.param("on", marks=kernel_needed), "off"]
CNN6 = [(3, 64, 3, 32), (2, 32, 32, 64), (3, 16, 64, 128), (5, 8, 128, 256), (7, 4, 256, 512)]
CNN7 = [(1, 128, 3, 64), (1, 64, 64, 64), (2, 16, 128, 256), (1, 8, 256, 512), (3, 4, 512, 512)]
ODD = [(1, 2, 1, 1), (5, 6, 4, 8), (2, 4, 5, 17), (3, 4, 20, 40), (33, 4, 16, 16), (70, 2, 12, 33)]


@pytest.fixture(params=BOTH)
def setting(request):
    with cpu_kernel.switched(request.param):
        yield request.param


def drawn(n, size, inputs, outputs, seed=0):
    """Input, kernel, bias and the gradient of the result."""
    random = np.random.default_rng(seed)
    shapes = (n, size, size, inputs), (3, 3, inputs, outputs), (outputs,), (n, size // 2, size // 2, outputs)
    spreads = 1.0, 1 / np.sqrt(9 * inputs), 1 / 3, 1.0
    return tuple(
        jnp.asarray(random.normal(0, spread, shape), jnp.float32) for spread, shape in zip(spreads, shapes, strict=True)
    )


def plainly(x, kernel, bias, relu=True):
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = nn.max_pool(x, (2, 2), (2, 2)) + bias[None, None, None]
    return jnp.maximum(x, 0) if relu else x


def value_and_gradients(block):
    @jax.jit
    def computed(x, kernel, bias, gradient):
        value, pull = jax.vjp(block, x, kernel, bias)
        return value, *pull(gradient)

    return computed


def assert_near(found, expected, tolerance=1e-5):
    for name, a, b in zip(("value", "input", "kernel", "bias"), found, expected, strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, float(jnp.abs(b).max())), rtol=0, err_msg=name)


@kernel_needed
@pytest.mark.parametrize("shape", CNN6 + CNN7 + ODD, ids=str)
def test_kernel_equals_the_plain_layers(shape):
    given = drawn(*shape)
    with cpu_kernel.switched("on"):
        found = value_and_gradients(partial(conv_pool, relu=True))(*given)
    assert_near(found, value_and_gradients(plainly)(*given))


@pytest.mark.parametrize("relu", [True, False])
def test_kernel_and_fallback_equal_the_plain_layers(setting, relu):
    given = drawn(3, 8, 6, 20)
    found = value_and_gradients(partial(conv_pool, relu=relu))(*given)
    assert_near(found, value_and_gradients(partial(plainly, relu=relu))(*given))


def test_without_bias(setting):
    x, kernel, _, _ = drawn(2, 6, 3, 8)
    np.testing.assert_allclose(
        conv_pool(x, kernel, relu=False), plainly(x, kernel, jnp.zeros(8), relu=False), atol=1e-5
    )


@pytest.mark.parametrize("inputs", [3, 16])
def test_first_of_equal_values_takes_the_whole_gradient(setting, inputs):
    # A kernel of the middle tap alone copies the picture: four equal values in each window.
    kernel = jnp.zeros((3, 3, inputs, 4)).at[1, 1, 0].set(1.0)
    gradient = jax.grad(lambda x: conv_pool(x, kernel, jnp.zeros(4), relu=True).sum())(jnp.ones((1, 4, 4, inputs)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], 4.0 * np.array([[1, 0, 1, 0], [0] * 4] * 2))
    np.testing.assert_array_equal(gradient[..., 1:], 0)


def test_relu_at_exactly_zero_passes_no_gradient(setting):
    x, kernel, _, _ = drawn(1, 4, 3, 4)
    bias_gradient = jax.grad(lambda bias: conv_pool(x, 0 * kernel, bias, relu=True).sum())(jnp.zeros(4))
    np.testing.assert_array_equal(bias_gradient, 0)


def test_nan_is_not_lost(setting):
    x, kernel, bias, _ = drawn(1, 8, 3, 20)
    found = np.isnan(conv_pool(x.at[0, 5, 2, 1].set(jnp.nan), kernel, bias, relu=True))
    assert found[0, 2:4, 0:2].all()
    assert found.sum() == 4 * 20


def test_vmap_equals_a_loop(setting):
    x, kernel, bias, gradient = (jnp.stack(pair) for pair in zip(drawn(2, 8, 3, 8), drawn(2, 8, 3, 8, 1), strict=True))
    computed = value_and_gradients(partial(conv_pool, relu=True))
    expected = [
        np.stack(pair)
        for pair in zip(*(computed(*one) for one in zip(x, kernel, bias, gradient, strict=True)), strict=True)
    ]
    assert_near(jax.vmap(computed)(x, kernel, bias, gradient), expected)
    shared = jax.vmap(partial(conv_pool, relu=True), in_axes=(0, None, None))(x, kernel[0], bias[0])
    np.testing.assert_allclose(shared[1], conv_pool(x[1], kernel[0], bias[0], relu=True), atol=1e-6)


def test_scan_equals_a_loop(setting):
    x, kernel, bias, _ = drawn(6, 8, 3, 8)

    def summed(bias):
        return jax.lax.scan(lambda total, x: (total + conv_pool(x, kernel, bias, relu=True).sum(), 0), 0.0, x[:, None])

    np.testing.assert_allclose(
        jax.grad(lambda bias: summed(bias)[0])(bias),
        jax.grad(lambda bias: conv_pool(x, kernel, bias, relu=True).sum())(bias),
        rtol=1e-5,
    )


@pytest.mark.parametrize("setting", [*BOTH, "auto"], indirect=True)
def test_sharded_and_pmapped_equal_one_device(setting):
    assert jax.device_count() == 8
    x, kernel, bias, gradient = drawn(8, 8, 3, 8)
    computed = value_and_gradients(partial(conv_pool, relu=True))
    expected = computed(x, kernel, bias, gradient)
    mesh = jax.make_mesh((4,), ("faces",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P("faces"))
    sharded = computed(jax.device_put(x, split), kernel, bias, jax.device_put(gradient, split))
    assert_near(sharded, expected)
    replicas = jax.pmap(lambda x, gradient: computed(x, kernel, bias, gradient), axis_name="faces")(
        x.reshape(4, 2, 8, 8, 3), gradient.reshape(4, 2, 4, 4, 8)
    )
    value, of_input, of_kernel, of_bias = replicas
    assert_near((value.reshape(8, 4, 4, 8), of_input.reshape(8, 8, 8, 3), of_kernel.sum(0), of_bias.sum(0)), expected)


@kernel_needed
@pytest.mark.parametrize("shape", [CNN6[0], CNN6[2], ODD[3]], ids=str)
def test_two_calls_are_equal_bit_for_bit(shape):
    given = drawn(*shape)
    with cpu_kernel.switched("on"):
        computed = value_and_gradients(partial(conv_pool, relu=True))
        for a, b in zip(computed(*given), computed(*given), strict=True):
            np.testing.assert_array_equal(a, b)


@kernel_needed
def test_first_layers_input_gradient_is_left_out():
    x, kernel, bias, _ = drawn(1, 8, 3, 8)
    with cpu_kernel.switched("on"):
        gradient = jax.jit(jax.grad(lambda kernel: conv_pool(x, kernel, bias, relu=True).sum()))
        compiled = gradient.lower(kernel).compile().as_text()
    assert "wing_jax_conv_pool_weights" in compiled
    assert "wing_jax_conv_pool_input" not in compiled


def calls_kernel(dtype=jnp.float32):
    x, kernel, bias, _ = drawn(1, 4, 3, 4)
    return "wing_jax_conv_pool" in str(jax.make_jaxpr(partial(conv_pool, relu=True))(x.astype(dtype), kernel, bias))


@kernel_needed
def test_switch(monkeypatch):
    monkeypatch.delenv(cpu_kernel.SWITCH, raising=False)
    assert not calls_kernel()  # four devices
    with cpu_kernel.switched("on"):
        assert calls_kernel()
        assert not calls_kernel(jnp.bfloat16)
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
    x, kernel, bias, _ = drawn(1, 2, 3, 2)

    def squared(bias):
        return (conv_pool(x, kernel, bias, relu=True) ** 2).sum()

    with cpu_kernel.switched("off"):
        curvature = jax.jit(jax.hessian(squared))(bias)
    np.testing.assert_allclose(curvature, np.diag(2.0 * (np.asarray(plainly(x, kernel, bias))[0, 0, 0] > 0)), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 3, 1)])
def test_odd_size_raises(setting, shape):
    with pytest.raises(ValueError, match=f"got {shape[1]} x {shape[2]}"):
        conv_pool(jnp.zeros(shape), jnp.zeros((3, 3, 1, 2)), relu=True)


def test_empty_batch(setting):
    assert conv_pool(jnp.zeros((0, 4, 4, 3)), jnp.zeros((3, 3, 3, 5)), relu=True).shape == (0, 2, 2, 5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_kept(setting, dtype):
    x, kernel, bias, _ = drawn(1, 4, 3, 4)
    assert conv_pool(x.astype(dtype), kernel, bias, relu=True).dtype == dtype


def test_second_call_is_not_traced_again(setting):
    computed = value_and_gradients(partial(conv_pool, relu=True))
    computed(*drawn(2, 4, 3, 4))
    with jax.no_tracing():
        computed(*drawn(2, 4, 3, 4, seed=1))


@pytest.fixture
def fresh_build(monkeypatch, tmp_path):
    """The build as it runs in a new process with an empty cache, registering nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: None)
    return cpu_kernel._load.__wrapped__


def test_no_compiler_no_harm(monkeypatch, fresh_build, tmp_path):
    monkeypatch.setattr(cpu_kernel, "_processor_flags", lambda: set(cpu_kernel.NEEDED))
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    assert fresh_build() == (False, "absent: no C++ compiler (no-such-compiler)")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fresh_build() == (False, "absent: no C++ compiler (c++ or g++)")


def test_failing_compiler_no_harm(monkeypatch, fresh_build, tmp_path):
    monkeypatch.setattr(cpu_kernel, "_processor_flags", lambda: set(cpu_kernel.NEEDED))
    compiler = tmp_path / "failing"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho no headers >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert fresh_build() == (False, f"absent: {compiler} failed: no headers")
    assert not list(tmp_path.rglob("*.so"))


def test_other_processor_no_harm(monkeypatch, fresh_build):
    monkeypatch.setattr(cpu_kernel, "_processor_flags", lambda: {"popcnt"})
    assert fresh_build() == (False, "absent: the processor lacks avx512f")


@kernel_needed
def test_library_is_built_once(fresh_build, tmp_path):
    assert fresh_build()[1].startswith(f"built: {tmp_path}")
    (library,) = tmp_path.rglob("*.so")
    built = os.stat(library).st_mtime_ns
    assert fresh_build()[0]
    assert os.stat(library).st_mtime_ns == built
