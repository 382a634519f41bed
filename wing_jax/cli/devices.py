"""The command `wing-jax devices`."""

import dataclasses
import os
from importlib.metadata import version

import jax

from wing_jax.cli.options import parse
from wing_jax.models import cpu_kernel
from wing_jax.runtime.allocator import SETTINGS, has_glibc
from wing_jax.runtime.devices import CPU_FLAGS, precision, steps_per_call
from wing_jax.text import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class DevicesOptions:
    """Print versions, devices and settings. Build the CPU kernel if it is not built yet."""


def run(arguments: list[str]) -> None:
    """Print versions, devices and settings."""
    parse(DevicesOptions, arguments, command="devices")
    print(f"jax {version('jax')}, jaxlib {version('jaxlib')}, flax {version('flax')}")
    for device in jax.devices():
        print(f"{device.platform} {device.id}: {device.device_kind}")
    flags, default_flags = os.environ.get("XLA_FLAGS", ""), CPU_FLAGS.get(version("jaxlib"))
    origin = " (set by wing_jax; set XLA_FLAGS to override)" if flags and flags == default_flags else ""
    print(f"XLA_FLAGS={flags}{origin}")
    print(f"steps per compiled call: {steps_per_call()}; training precision: {precision('auto')}")
    if has_glibc():
        user_settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
        settings = " ".join(f"{name}={value}" for name, value in (user_settings or SETTINGS).items())
        print(f"training allocator: {settings}{'' if user_settings else ' (set by wing_jax; set any to override)'}")
    cpu_kernel.load()
    print(printable(f"CPU kernel: {cpu_kernel.status()}"))
    print(printable(f"compile cache: {jax.config.values['jax_compilation_cache_dir']}"))
