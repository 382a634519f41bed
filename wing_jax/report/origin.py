"""The commit and the machine that produced a figure."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import jax


def commit() -> str:
    """Return the Git commit of the current folder, or "unknown" if it is not in a repository."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """Return the processor, the devices that JAX uses, and the versions, in one line."""
    devices = jax.devices()
    kind = f"{len(devices)} x {devices[0].device_kind}"
    return f"{_processor()}; JAX on {kind}; Python {platform.python_version()}, jax {version('jax')}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()
