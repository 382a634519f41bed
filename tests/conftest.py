"""Eight virtual devices, and fixtures shared by many tests: real data if available, a common cache, fast compiles."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jaxtyping
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# The same cases on every machine and in every run, without a deadline.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


# Files of few but long tests, started first: the other cores would idle while the last one runs.
LONG = (
    "test_notebooks.py", "test_training.py", "test_distributed.py", "test_sweep.py", "test_reproduce.py", "test_cli.py",
    "test_export.py", "test_analysis.py", "test_runners.py", "test_voting.py", "test_analyze.py",
    "test_pseudo_labels.py",
)  # fmt: skip

# Older code generators of XLA, which compile a training step faster. By version, because XLA aborts the process on an
# unknown flag.
FAST_COMPILES = {"0.10.2": "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"}


def pytest_configure(config: pytest.Config) -> None:
    """Set one empty cache for all processes, so that the CPU kernel and each program are compiled once, and compile
    programs without optimization: most tests compile for longer than they run."""
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist inherit the environment, as commands in tests do
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every command would compile the package's source again
        folder = tempfile.TemporaryDirectory(prefix="wing_jax-cache-")
        config.add_cleanup(folder.cleanup)
        os.environ["XDG_CACHE_HOME"] = folder.name
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder.name) / "jax")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.02"
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        if flags := FAST_COMPILES.get(version("jaxlib")):
            os.environ.setdefault("XLA_FLAGS", flags)
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # more of them wait for each other if both cores are busy
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update("jax_disable_most_optimizations", True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the slow tests, do not even import the modules that contain no others."""
    if config.getoption("markexpr") != "not slow" or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return True if "\npytestmark = pytest.mark.slow\n" in text or "\npytestmark = [pytest.mark.slow" in text else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of `LONG` first, in its order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data: WING_JAX_DATA or ../shared/data."""
    default = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("WING_JAX_DATA", default))
    if not (root / "300w").is_dir():
        pytest.skip(f"real data not found in {root}: set WING_JAX_DATA to the folder that holds 300w/ and mtfl/")
    return root


@pytest.fixture
def unchecked(monkeypatch):
    """Disable the type checks, as for users, so that invalid input reaches the code."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True)
def disable_type_checks_if_slow(request):
    """Disable the type checks in slow tests: the others cover them, and they slow down long tests."""
    if request.node.get_closest_marker("slow"):
        request.getfixturevalue("unchecked")


RENDERED_FACES: dict[tuple[int, int, int], Any] = {}  # synthetic faces by seed, index and size


@pytest.fixture(scope="module", autouse=True)
def cache_rendered_faces(request):
    """Render each synthetic face once per process, except in the tests of rendering. Also keep commands that run in
    this process from changing XLA's settings."""
    from wing_jax.runtime import devices
    from wing_jax.synthetic import render  # imported late: earlier imports are not type-checked

    render_face = render.render_face

    def render_cached(*, seed: int, index: int, size: int = 256, landmarks: str = "3d") -> Any:
        key = seed, index, size, landmarks
        if key not in RENDERED_FACES:
            RENDERED_FACES[key] = render_face(seed=seed, index=index, size=size, landmarks=landmarks)
        return RENDERED_FACES[key]

    with pytest.MonkeyPatch.context() as patch:
        if request.path.name != "test_synthetic.py":
            patch.setattr(render, "render_face", render_cached)
        patch.setattr(devices, "prepare_xla", lambda: None)
        yield
