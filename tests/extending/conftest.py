"""Small external packages: written to a temporary folder, installed with entry points, and removed after the test."""

import contextlib
import functools
import importlib
import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import optax
import pytest

import wing_jax as wj
from wing_jax.augment import AUGMENTATIONS
from wing_jax.cli import main
from wing_jax.data.registry import READERS
from wing_jax.evaluation.metrics import METRICS
from wing_jax.export import EXPORTS
from wing_jax.inference.detectors import DETECTORS
from wing_jax.losses import LOSSES
from wing_jax.models import MODELS

Install = Callable[..., Path]
REGISTRIES = {
    registry.group: registry for registry in (AUGMENTATIONS, DETECTORS, EXPORTS, LOSSES, METRICS, MODELS, READERS)
}

CONFIG = """
name = "small"
devices = 1
[data]
name = "synthetic"
train_faces = 16
test_faces = 8
validation = 0.25
[stage1]
input_size = 16
margin = 1.3
batch_size = 4
steps = 4
evaluate_every = 2
model = {params = {channels = [4, 8], hidden = 8}, output_bias = "mean_shape"}
loss = {name = "wing", params = {width = 10.0, epsilon = 2.0}, reduction = "mean"}
augment = {rotation = 5.0, translation = 0.02, scale = 0.02}
optimizer = {name = "sgd", learning_rate = 1e-3, final_learning_rate = 1e-4, decay = "cosine", weight_decay = 0.0}
"""


@pytest.fixture(autouse=True)
def restored_registries() -> Iterator[None]:
    """Remove what a test or its package registered: later tests in this process use all entries."""
    before = {name: set(registry) for name, registry in REGISTRIES.items()}
    yield
    for name, registry in REGISTRIES.items():
        for entry in set(registry.registered()) - before[name]:
            registry.remove(entry)


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Install]:
    """`install(source, name=..., entry_points={group: {name: object}})` installs a package and returns its folder.

    The only module of the package has the text `source`. Its objects are declared as entry points with these names,
    such as {"wing_jax.losses": {"log_cosh": "log_cosh"}}. This process and its children can import the package until
    the test ends.
    """
    installed: list[str] = []

    def install_package(source: str, *, name: str, entry_points: Mapping[str, Mapping[str, str]]) -> Path:
        site = tmp_path / f"site-{name}"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines = []
        for group, objects in entry_points.items():
            lines += [f"[{group}]", *(f"{entry} = {name}:{value}" for entry, value in objects.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        importlib.invalidate_caches()
        installed.append(name)
        return site

    yield install_package
    for name in installed:
        sys.modules.pop(name, None)


@pytest.fixture
def train_small(tmp_path) -> Callable[..., tuple[wj.TrainResult, wj.Evaluation]]:
    """`train_small(faces=..., load=..., augment=..., **stage)` trains for two steps with `wing_jax.fit` and evaluates.

    The localizer is saved to `saved` in the temporary folder and loaded again, with the model `load`. The loaded one
    must predict the same points. `stage` are arguments of `StageSpec`.
    """
    defaults = {
        "model": functools.partial(wj.models.PlainRegressor, channels=(4, 8), hidden=8),
        "optimizer": optax.sgd(1e-4),
        "input_size": 16,
        "steps": 2,
        "batch_size": 4,
    }

    def run(*, faces=None, load=None, augment=(), **stage):
        faces = wj.load_faces("synthetic", count=12) if faces is None else faces
        result = wj.fit(faces, wj.StageSpec(**{**defaults, **stage}), augment=augment, quiet=True, device_count=1)
        assert result.history[-1]["step"] == 2
        evaluation = wj.evaluate(result.localizer, faces)
        result.localizer.save(tmp_path / "saved")
        loaded = wj.Localizer.load(tmp_path / "saved", model=load)
        picture, boxes = faces.picture(0), faces.boxes[:1]
        np.testing.assert_array_equal(loaded.predict(picture, boxes), result.localizer.predict(picture, boxes))
        return result, evaluation

    return run


@pytest.fixture
def config(tmp_path) -> Path:
    """A config file of a training of some seconds, in the working folder of `command`; its run is `runs/small`."""
    path = tmp_path / "small.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def run_command(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """`run_command(*arguments)` runs wing-jax in this process, in the temporary folder: faster than `command`."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        words, status = list(map(str, arguments)), 0
        with (
            contextlib.chdir(tmp_path),
            contextlib.redirect_stdout(io.StringIO()) as output,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            try:
                main(words)
            except SystemExit as exit:
                status = exit.code
        return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())

    return run


@pytest.fixture
def command(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """`command(*arguments)` runs wing-jax in a new process, in the temporary folder, as a user would."""
    environment = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "WING_JAX_CPU_KERNEL": "off"}

    def run(*arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", "from wing_jax.cli import main; main()", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
