"""Build hook: add the configs to wheels, in the folder where `wing_jax.presets` expects them.

With WING_JAX_BUILD_KERNEL=1 (`make wheel`), the wheel also contains the compiled CPU kernel and is for this platform
only. The kernel needs no C++ runtime; the wheel's tag names the oldest C library that it runs with.
"""

import importlib.util
import os
import platform
import re
from pathlib import Path
from types import ModuleType

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODELS = Path("wing_jax/models")
BUILD_KERNEL = os.environ.get("WING_JAX_BUILD_KERNEL") == "1"


class WheelHook(BuildHookInterface):
    """Add the configs to a wheel; with WING_JAX_BUILD_KERNEL=1, also the compiled kernel and the platform tag."""

    def dependencies(self) -> list[str]:
        """Return JAX if the kernel is built, because it is compiled with JAX's headers."""
        return ["jax"] if BUILD_KERNEL else []

    def initialize(self, version: str, build_data: dict) -> None:
        """Set the files to include, and compile the kernel if requested.

        Raises:
          RuntimeError: the platform is not Linux, the only one whose tag is known.
        """
        if self.target_name != "wheel" or version == "editable":
            return
        build_data["force_include"][str(Path(self.root) / "configs")] = "wing_jax/presets/configs"
        if not BUILD_KERNEL:
            return
        if platform.system() != "Linux":
            raise RuntimeError("WING_JAX_BUILD_KERNEL=1 builds wheels for Linux only: build without it")
        import jax

        kernel = _load_kernel_build(Path(self.root) / MODELS)
        library = Path(self.directory, kernel.LIBRARY)
        library.parent.mkdir(parents=True, exist_ok=True)
        kernel.build(kernel.find_compiler(), library, include=jax.ffi.include_dir(), link=kernel.PORTABLE)
        build_data["force_include"][str(library)] = str(MODELS / kernel.LIBRARY)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag(library.read_bytes())}"


def _load_kernel_build(folder: Path) -> ModuleType:
    """Load wing_jax/models/cpu_kernel_build.py without its package, which is not installed during the build."""
    spec = importlib.util.spec_from_file_location("cpu_kernel_build", folder / "cpu_kernel_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform_tag(library: bytes) -> str:
    """Return the tag for the newest version of the C library that `library` needs."""
    minor = max(int(version) for version in re.findall(rb"GLIBC_2\.(\d+)", library))
    return f"manylinux_2_{max(minor, 17)}_{platform.machine()}"
