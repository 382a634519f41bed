"""Environments of containers and batch systems: no home, a user without a name, read-only folders; and that importing
the package does not change global settings."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import wing_jax
from wing_jax.data.images import LARGEST_PICTURE, read_image
from wing_jax.errors import InputError
from wing_jax.runtime.processes import cache_folder, home_folder

ROOT = str(Path(wing_jax.__file__).parents[1])
CLI = "from wing_jax.cli import main; import sys; main(['data', 'formats']); main(sys.argv[1:])"
UNKNOWN_USER = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]


def has_namespaces():
    return shutil.which("unshare") and not subprocess.run([*UNKNOWN_USER, "true"], capture_output=True).returncode


@pytest.fixture
def no_user(monkeypatch):
    """Simulate a user that is not in /etc/passwd."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_the_cache_folder_follows_the_xdg_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    assert cache_folder() == tmp_path / "new" / "cache" / "wing_jax"
    for unset in ("", "relative"):  # relative paths must be ignored
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == tmp_path / ".cache" / "wing_jax"
    assert not list(tmp_path.iterdir())  # no folder is created


def test_without_a_home_there_is_no_cache(no_user, monkeypatch, tmp_path):
    assert home_folder() is None
    assert cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "wing_jax"


@pytest.mark.parametrize("home", ["", "relative", "/nonexistent/of/nobody", "/dev/null"])
def test_with_an_invalid_home_there_is_no_cache(monkeypatch, home):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert cache_folder() is None


@pytest.mark.parametrize("place", ["/proc", "/dev/null", "/dev/null/below"])
def test_a_cache_folder_that_is_not_writable_is_not_used(monkeypatch, tmp_path, place):
    if place == "/proc":  # simulates a read-only folder, which root could write to
        monkeypatch.setattr(os, "access", lambda *_: False)
        place = str(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    assert cache_folder() is None


@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="needs user namespaces")
def test_commands_work_for_a_user_without_name_and_home(tmp_path):
    image = tmp_path / "face.png"
    PIL.Image.fromarray(np.full((99, 99, 3), 127, np.uint8)).save(image)
    tmp_path.chmod(0o777)
    clean = [*UNKNOWN_USER, "env", "-i", f"PATH={os.environ['PATH']}", f"PYTHONPATH={ROOT}", "JAX_PLATFORMS=cpu"]
    clean += ["JAX_DISABLE_MOST_OPTIMIZATIONS=1"]
    command = ["predict", "mtfl", str(image), "--box", "9", "9", "80", "80", "--output", str(tmp_path / "out")]
    run = subprocess.run([*clean, sys.executable, "-c", CLI, *command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert (tmp_path / "out" / "face.png").exists()


@pytest.mark.slow
def test_importing_every_module_does_not_change_global_settings():
    code = """
import importlib, logging, multiprocessing, os, pkgutil, signal, sys, warnings
import cv2, numpy as np, jax, flax, optax, matplotlib, PIL.Image, rich, tyro, jaxtyping, orbax.checkpoint, scipy.io
from orbax.checkpoint import v1
import flax.linen, matplotlib.figure, matplotlib.backends.backend_agg, absl.logging, tensorboardX
warnings.filterwarnings("error", message="of this test")

def state():
    loggers = {name: log for name, log in logging.root.manager.loggerDict.items() if isinstance(log, logging.Logger)}
    return {
        "warnings": list(warnings.filters),
        "logging": {name: (log.level, log.disabled, tuple(log.handlers), log.propagate)
                    for name, log in loggers.items()},
        "root": (logging.root.level, tuple(logging.root.handlers)),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)},
        "environment": dict(os.environ),
        "numpy": (np.geterr(), np.get_printoptions()["threshold"]),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "processes": multiprocessing.get_start_method(allow_none=True),
        "cv2": (cv2.utils.logging.getLogLevel(), cv2.getNumThreads()),
        "jax": dict(jax.config.values),
        "pil": PIL.Image.MAX_IMAGE_PIXELS,
        "matplotlib": dict(matplotlib.rcParams),
        "backends": bool(jax._src.xla_bridge._backends),
    }

before = state()
import wing_jax
for module in pkgutil.walk_packages(wing_jax.__path__, "wing_jax."):
    importlib.import_module(module.name)
after = state()
for name in before:
    old, new = before[name], after[name]
    if name == "logging":  # loggers of new modules are allowed
        new = {key: value for key, value in new.items() if key in old}
    if old != new:
        print(name, [item for item in (new.items() if isinstance(new, dict) else new)
                     if item not in (old.items() if isinstance(old, dict) else old)])
print("tensorflow" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.stdout.split() == ["False"], run.stdout + run.stderr[-2000:]


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_picture_that_is_too_large_is_refused_without_a_warning(monkeypatch, tmp_path, ending):
    """Pillow's limit is not used, because it would warn, in any thread that reads pictures."""
    path = tmp_path / f"large.{ending}"
    PIL.Image.new("RGB", (40, 30)).save(path)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 700)  # Pillow warns above this, and raises above twice this
    assert read_image(path).shape == (30, 40, 3)
    monkeypatch.setattr("wing_jax.data.images.LARGEST_PICTURE", 1000)
    with pytest.raises(InputError, match="more than 1,000 pixels"):
        read_image(path)
    assert LARGEST_PICTURE > 1000
