"""Eight virtual devices, real data where it is found, and small worlds that many tests share."""

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jaxtyping
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# The same cases on every machine and in every run, however slow it is.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


# Files of few but long tests: begun first, for one begun last is waited for with the other cores idle.
LONG = (
    "test_notebooks.py", "test_training.py", "test_distributed.py", "test_sweep.py", "test_reproduce.py", "test_cli.py",
    "test_export.py", "test_analysis.py", "test_runners.py", "test_voting.py", "test_analyse.py",
    "test_pseudo_labels.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """One cache for all processes of the tests, empty at first: each would build the same CPU kernel."""
    if not hasattr(config, "workerinput"):  # those of pytest-xdist inherit it
        folder = tempfile.TemporaryDirectory(prefix="wing_jax-cache-")
        config.add_cleanup(folder.cleanup)
        os.environ["XDG_CACHE_HOME"] = folder.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of `LONG` first, in its order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data, from WING_JAX_DATA or ../shared/data."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("WING_JAX_DATA", beside))
    if not (root / "300w").is_dir():
        pytest.skip(f"real data not found in {root}: set WING_JAX_DATA to the folder that holds 300w/ and mtfl/")
    return root


@pytest.fixture
def unchecked(monkeypatch):
    """As users run it: no type checks, so that wrong input reaches the code."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session", autouse=True)
def quickly_compiled(tmp_path_factory):
    """Most of what is tested compiles for longer than it runs: without optimisation, and the same program once."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update("jax_disable_most_optimizations", True)


DRAWN: dict[tuple[int, int, int], Any] = {}  # synthetic faces by seed, index and size


@pytest.fixture(scope="module", autouse=True)
def in_one_process(request):
    """A synthetic face is drawn once in a process, however many tests ask for it; not where drawing is tested. And
    commands that are called, not started, leave the process's XLA alone."""
    from wing_jax.runtime import devices
    from wing_jax.synthetic import render  # not before: what is imported earlier is not type-checked

    draw = render.render_face

    def remembered(*, seed: int, index: int, size: int = 256) -> Any:
        key = seed, index, size
        if key not in DRAWN:
            DRAWN[key] = draw(seed=seed, index=index, size=size)
        return DRAWN[key]

    with pytest.MonkeyPatch.context() as patch:
        if request.path.name != "test_synthetic.py":
            patch.setattr(render, "render_face", remembered)
        patch.setattr(devices, "prepare_xla", lambda: None)
        yield
