"""`wing-jax devices`"""

import os
from importlib.metadata import version

import jax

from wing_jax.models import cpu_kernel
from wing_jax.runtime.allocator import SETTINGS, has_glibc
from wing_jax.runtime.devices import CPU_FLAGS, precision, steps_per_call
from wing_jax.text import printable


def run(arguments: list[str]) -> None:
    """Print versions, devices and the settings that matter; build the CPU kernel, unless it is built."""
    print(f"jax {version('jax')}, jaxlib {version('jaxlib')}, flax {version('flax')}")
    for device in jax.devices():
        print(f"{device.platform} {device.id}: {device.device_kind}")
    flags, ours = os.environ.get("XLA_FLAGS", ""), CPU_FLAGS.get(version("jaxlib"))
    print(f"XLA_FLAGS={flags}{' (set by wing_jax; set XLA_FLAGS to choose others)' if flags and flags == ours else ''}")
    print(f"steps in one program: {steps_per_call()}; precision of training: {precision('auto')}")
    if has_glibc():
        given = {name: os.environ[name] for name in SETTINGS if name in os.environ}
        said = " ".join(f"{name}={value}" for name, value in (given or SETTINGS).items())
        print(f"allocator of trainings: {said}{'' if given else ' (set by wing_jax; set any to choose others)'}")
    cpu_kernel.load()
    print(printable(f"CPU kernel: {cpu_kernel.status()}"))
    print(printable(f"compile cache: {jax.config.values['jax_compilation_cache_dir']}"))
