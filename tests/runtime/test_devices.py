"""The mesh, arrays on it, and XLA's settings. Virtual CPU devices replace accelerators."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.runtime import devices
from wing_jax.train.replicas import Replicas


@pytest.mark.parametrize(("requested", "expected"), [(0, 8), (1, 1), (3, 3)])
def test_mesh_has_the_requested_devices(requested, expected):
    mesh = devices.make_mesh(requested)
    assert mesh.size == expected
    assert mesh.axis_names == (devices.AXIS,)


def test_more_devices_than_there_are_raises():
    with pytest.raises(InputError, match=r"devices=9, but JAX sees 8 \(cpu\)"):
        devices.make_mesh(9)


def test_batch_is_split_and_state_is_copied():
    mesh = devices.make_mesh(4)
    batch = {"points": np.arange(8.0, dtype=np.float32), "images": np.zeros((8, 2, 2, 3), np.uint8)}
    split = devices.shard_batch(batch, mesh)
    shards = split["points"].addressable_shards
    assert [shard.data.tolist() for shard in shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    copied = devices.replicate(batch, mesh)
    assert all(shard.data.shape == (8,) for shard in copied["points"].addressable_shards)
    for name in batch:
        np.testing.assert_array_equal(split[name], batch[name])
        np.testing.assert_array_equal(copied[name], batch[name])


@pytest.mark.parametrize(("parallel", "shard_shape"), [("jit", (2, 2)), ("pmap", (1, 2, 2))])
def test_replicas_split_a_batch_in_order_and_copy_the_state(parallel, shard_shape):
    replicas = Replicas(devices.make_mesh(4), parallel=parallel)
    batch = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    split = replicas.split({"points": batch})["points"]
    assert [shard.data.shape for shard in split.addressable_shards] == [shard_shape] * 4
    np.testing.assert_array_equal(np.asarray(split).reshape(8, 2), batch)
    state = {"step": np.int32(3), "bias": batch}
    placed = replicas.place_state(state)
    assert len(placed["bias"].sharding.device_set) == 4
    for shard in placed["bias"].addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data).reshape(8, 2), batch)
    restored = replicas.whole_state(placed)
    assert restored["step"] == 3
    np.testing.assert_array_equal(restored["bias"], batch)


def test_batch_that_does_not_divide_raises():
    mesh = devices.make_mesh(4)
    devices.check_divides(8, mesh)
    with pytest.raises(InputError, match="batch_size=6 is not divisible by 4 devices"):
        devices.check_divides(6, mesh)


REMOVED = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR")


def run_in_new_python(tmp_path, **environment):
    code = (
        "import os, jax; from wing_jax.runtime.devices import prepare_xla; prepare_xla();"
        "print(os.environ.get('XLA_FLAGS')); print(jax.config.jax_compilation_cache_dir); print(jax.device_count())"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in REMOVED}
    environment = {**inherited, "XDG_CACHE_HOME": str(tmp_path), **environment}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.slow
def test_settings_are_applied_and_jax_still_starts(tmp_path):
    """XLA aborts the process on an unknown flag, so this must run with the installed jaxlib."""
    from importlib.metadata import version

    flags, cache, count = run_in_new_python(tmp_path, JAX_PLATFORMS="cpu")
    assert flags == devices.CPU_FLAGS.get(version("jaxlib"), "")
    assert cache == str(tmp_path / "wing_jax" / "xla")
    assert count == "1"


@pytest.mark.slow
def test_settings_of_the_user_are_not_changed(tmp_path):
    flag = "--xla_force_host_platform_device_count=2"
    flags, cache, count = run_in_new_python(
        tmp_path, XLA_FLAGS=flag, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"), JAX_PLATFORMS="cpu"
    )
    assert (flags, cache, count) == (flag, str(tmp_path / "mine"), "2")
    assert jax.device_count() == 8  # this process is unchanged


def test_programs_can_be_traced_for_another_platform():
    assert (devices.platform(), devices.precision("auto"), devices.steps_per_call()) == ("cpu", "float32", 1)
    with devices.compiling_for("tpu"):
        assert (devices.platform(), devices.precision("auto"), devices.steps_per_call()) == ("tpu", "bfloat16", 250)
        with devices.compiling_for("gpu"):
            assert devices.platform() == "gpu"
        assert devices.platform() == "tpu"
    assert devices.platform() == "cpu"
    with pytest.raises(KeyError), devices.compiling_for("tpu"):
        raise KeyError
    assert devices.platform() == "cpu"
