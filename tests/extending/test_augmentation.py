"""Augmentations of an external package, registered by a decorator or an entry point, train with both inputs."""

import json

import numpy as np
import pytest

from wing_jax.augment import AUGMENTATIONS, make_augmentation
from wing_jax.cli.main import main
from wing_jax.config import AugmentConfig
from wing_jax.from_config.augment import augmentations_of

MODULE = '''
"""Augmentations of an external package."""

import jax
import jax.numpy as jnp

from wing_jax.augment import Augmentation, register_augmentation
from wing_jax.geometry import compose


@register_augmentation
def stripes(*, darkness, period=4.0):
    """Dark rows, in half of the crops."""

    def sample(key):
        return jax.random.bernoulli(key, 0.5)

    def apply(images, selected):
        dark = (jnp.arange(images.shape[1]) % period < 1)[None, :, None, None] & selected[:, None, None, None]
        return jnp.where(dark, (1 - darkness) * images, images)

    return Augmentation("stripes", sample, apply, on="pixels")


def shear(*, fraction):
    """Shear the face; registered by the entry point only."""

    def sample(key):
        return jax.random.uniform(key, minval=-fraction, maxval=fraction)

    def apply(matrices, shears):
        ones, zeros = jnp.ones_like(shears), jnp.zeros_like(shears)
        rows = jnp.stack([ones, shears, zeros], 1), jnp.stack([zeros, ones, zeros], 1)
        return compose(matrices, jnp.stack(rows, 1))

    return Augmentation("shear", sample, apply, on="geometry")
'''
CONFIG = """
name = "extended"
[data]
name = "synthetic"
train_faces = 20
[stage1]
input_size = 32
margin = 1.2
batch_size = 8
steps = 4
evaluate_every = 4
model = {params = {channels = [8, 16], hidden = 32}}
loss = {name = "wing"}
optimizer = {name = "sgd", learning_rate = 1e-3, final_learning_rate = 1e-4, decay = "cosine", weight_decay = 0.01}
[stage1.augment]
rotation = 5.0
translation = 0.02
scale = 0.02
"""
EXTRA = "[stage1.augment.extra]\nstripes = {darkness = 0.8}\nshear = {fraction = 0.2}\n"


@pytest.fixture
def package(install, tmp_path, monkeypatch):
    """An installed package of two augmentations, with entry points."""
    entries = {"stripes": "stripes", "shear": "shear"}
    install(MODULE, name="outside_augmentations", entry_points={"wing_jax.augmentations": entries})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(folder, name: str, text: str, *options: str) -> list[float]:
    """Train, and return the logged losses."""
    (folder / "config.toml").write_text(text)
    main(["train", "config.toml", "--name", name, "--output", str(folder / "runs"), *options])
    lines = (folder / "runs" / name / "stage1" / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


@pytest.mark.slow
def test_it_trains_with_both_inputs(package):
    assert {"stripes", "shear"} <= set(AUGMENTATIONS)
    device, host = (train(package, input_, CONFIG + EXTRA, "--input", input_) for input_ in ("device", "tfdata"))
    np.testing.assert_allclose(device, host, rtol=5e-4)  # the same training, see tests/input/test_on_host.py
    without = train(package, "without", CONFIG)
    assert np.abs(np.subtract(device, without)).max() > 2e-3 * without[0]
    record = json.loads((package / "runs" / "device" / "config.json").read_text())
    assert record["stage1"]["augment"]["extra"] == {"stripes": {"darkness": 0.8}, "shear": {"fraction": 0.2}}


@pytest.mark.slow
def test_the_command_line_accepts_its_arguments(package, capsys):
    options = ("--stage1.augment.extra.stripes.darkness", "0.8")
    by_option = train(package, "named", CONFIG, *options)
    by_config = train(package, "again", CONFIG + "[stage1.augment.extra]\nstripes = {darkness = 0.8}\n")
    assert by_option == by_config
    with pytest.raises(SystemExit):
        train(package, "wrong", CONFIG, "--stage1.augment.extra.stripes.brightness", "0.8")
    assert "augmentation 'stripes':" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train(package, "unknown", CONFIG, "--stage1.augment.extra.stripe.darkness", "0.8")
    assert "no augmentation is called 'stripe': did you mean stripes?" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_fit_trains_with_it(train_small):
    losses = []
    for augment in ((), (make_augmentation("stripes", darkness=0.9), make_augmentation("shear", fraction=0.2))):
        result, evaluation = train_small(augment=augment)
        losses.append(result.history[-1]["loss"])
        assert np.isfinite(evaluation.mean["box-size"])
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_the_command_line_evaluates_what_it_trained(package):
    train(package, "extended", CONFIG + EXTRA)
    main(["evaluate", "runs/extended", "--data", "synthetic", "--faces", "4", "--output", "report"])
    assert json.loads((package / "report" / "results.json").read_text())[0]["mean"] > 0


def test_it_is_made_from_a_config_and_by_name(package):
    shear = make_augmentation("shear", fraction=0.2)
    config = AugmentConfig(
        rotation=0.0, translation=0.0, scale=0.0, flip=0.0, blur=0.0, extra={"shear": {"fraction": 0.1}}
    )
    assert repr(shear) == repr(*augmentations_of(config)) == "<Augmentation 'shear' on geometry>"
