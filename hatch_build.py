"""Build hook: wheels hold the configs where `wing_jax.presets` looks for them; a checkout has them beside the package.

With WING_JAX_BUILD_KERNEL=1 it also holds the CPU kernel, built, and is for this platform alone: `make wheel`. The
library needs no C++ runtime; the wheel's tag names the oldest C library that it runs with.
"""

import importlib.util
import os
import platform
import re
from pathlib import Path
from types import ModuleType

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODELS = Path("wing_jax/models")
ASKED = os.environ.get("WING_JAX_BUILD_KERNEL") == "1"


class WheelHook(BuildHookInterface):
    """Adds the configs to a wheel, and the library and the tag where they are asked for."""

    def dependencies(self) -> list[str]:
        """JAX, whose headers the kernel is compiled with."""
        return ["jax"] if ASKED else []

    def initialize(self, version: str, build_data: dict) -> None:
        """Name what to include; compile the library.

        Raises:
          RuntimeError: this is not Linux, for which alone the library's tag is known.
        """
        if self.target_name != "wheel" or version == "editable":
            return
        build_data["force_include"][str(Path(self.root) / "configs")] = "wing_jax/presets/configs"
        if not ASKED:
            return
        if platform.system() != "Linux":
            raise RuntimeError("WING_JAX_BUILD_KERNEL=1 makes wheels for Linux alone: build without it")
        import jax

        kernel = _kernel_build(Path(self.root) / MODELS)
        built = Path(self.directory, kernel.LIBRARY)
        built.parent.mkdir(parents=True, exist_ok=True)
        kernel.build(kernel.find_compiler(), built, include=jax.ffi.include_dir(), link=kernel.PORTABLE)
        build_data["force_include"][str(built)] = str(MODELS / kernel.LIBRARY)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag(built.read_bytes())}"


def _kernel_build(folder: Path) -> ModuleType:
    """wing_jax/models/cpu_kernel_build.py, without the package around it, which is not installed here."""
    spec = importlib.util.spec_from_file_location("cpu_kernel_build", folder / "cpu_kernel_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform_tag(library: bytes) -> str:
    """Of the newest version of the C library that the linker has noted down as needed."""
    minor = max(int(found) for found in re.findall(rb"GLIBC_2\.(\d+)", library))
    return f"manylinux_2_{max(minor, 17)}_{platform.machine()}"
