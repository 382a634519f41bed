"""`wing-jax devices`"""

import os
from importlib.metadata import version

import jax


def run(arguments: list[str]) -> None:
    """Print versions, devices and the settings that matter."""
    print(f"jax {version('jax')}, jaxlib {version('jaxlib')}, flax {version('flax')}")
    for device in jax.devices():
        print(f"{device.platform} {device.id}: {device.device_kind}")
    print(f"XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}")
    print(f"compile cache: {jax.config.values['jax_compilation_cache_dir']}")
