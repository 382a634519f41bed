"""Where a figure comes from: the commit and the machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import jax


def commit() -> str:
    """The commit of the working tree that is the current folder, "unknown" where it is none."""
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """The processor, the devices that JAX sees, and the versions, in one line."""
    devices = jax.devices()
    seen = f"{len(devices)} x {devices[0].device_kind}"
    return f"{_processor()}; JAX on {seen}; Python {platform.python_version()}, jax {version('jax')}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()
