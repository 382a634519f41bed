"""The how-to and concept pages whose Python runs without data: each block is executed, with fewer steps and faces."""

import re

import numpy as np
import pytest

import wing_jax as wj
from tests.support.paths import DOCS
from wing_jax.augment import AUGMENTATIONS
from wing_jax.data.registry import READERS
from wing_jax.evaluation.metrics import METRICS
from wing_jax.export import EXPORTS
from wing_jax.losses import LOSSES

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
REGISTRIES = (AUGMENTATIONS, EXPORTS, LOSSES, METRICS, READERS)


@pytest.fixture(autouse=True)
def restored_registries():
    """Remove what the page registered."""
    before = [set(registry) for registry in REGISTRIES]
    yield
    for registry, names in zip(REGISTRIES, before, strict=True):
        for name in set(registry.registered()) - names:
            registry.remove(name)


def run_page(name: str) -> dict:
    """The names that the page's Python blocks define, run one after the other."""
    names: dict = {}
    for block in BLOCK.findall((DOCS / name).read_text(encoding="utf-8")):
        small = re.sub(r"steps=\d+", "steps=2, batch_size=8", re.sub(r"count=\d+", "count=24", block))
        small = small.replace("wj.models.CNN6", "wj.models.TINY, input_size=32").replace(
            "quiet=True", "quiet=True, device_count=1"
        )
        exec(compile(small, name, "exec"), names)
    return names


@pytest.mark.slow
def test_a_loss_trains_and_has_a_name():
    names = run_page("how-to/add-loss.md")
    np.testing.assert_allclose(
        names["cauchy"](np.float32([1.5, 0]), np.float32([0, 0])), [2.25 * np.log(2), 0], rtol=1e-5
    )
    assert LOSSES["cauchy"].parameters == {"scale": 1.5}


@pytest.mark.slow
def test_an_augmentation_trains():
    names = run_page("how-to/add-augmentation.md")
    assert names["result"].history
    assert "darken" in AUGMENTATIONS


@pytest.mark.slow
def test_a_training_starts_from_a_trained_model():
    names = run_page("how-to/start-from-a-model.md")
    assert names["start"].freeze == ("ConvBlock_0/*",)
    assert names["result"].history[-1]["step"] == 2


def test_a_metric_is_measured():
    names = run_page("how-to/add-metric.md")
    faces = wj.load_faces("synthetic", "test", count=3)
    moved = faces.points + np.float32([3, 4])
    np.testing.assert_allclose(names["largest_error"](moved, faces), 5, rtol=1e-4)
    assert "largest_error" in METRICS


@pytest.mark.slow
def test_an_export_is_written_and_loaded(tmp_path):
    run_page("how-to/add-export.md")
    exported = EXPORTS["jax_text"]
    exported.write(lambda crops: crops.mean((1, 2))[:, None, :2], 8, tmp_path / "mean.jax")
    crops = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    np.testing.assert_allclose(exported.load(tmp_path / "mean.jax")(crops), crops.mean((1, 2))[:, None, :2], rtol=1e-5)


def test_a_reader_is_registered():
    block = BLOCK.findall((DOCS / "how-to" / "add-reader.md").read_text(encoding="utf-8"))[0]
    exec(compile(block, "add-reader.md", "exec"), {})
    assert READERS["mine"].splits == ("train", "test")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["concepts/balancing.md"])
def test_the_page_trains(page):
    assert run_page(page)["result"].history
