"""User code as in the README and the tutorial: with `import wing_jax as wj` only, on real faces."""

import dataclasses
import os
import re
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import wing_jax as wj
from tests.support.paths import ROOT

QUICK = {"quiet": True, "device_count": 1}
SMALL = """
name = "small"
[data]
name = "synthetic"
train_faces = 16
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


class MyModule(nn.Module):
    """A network that does not use wing_jax."""

    points: int = 5

    @nn.compact
    def __call__(self, images):
        means = nn.avg_pool(images.astype(jnp.float32) / 255, (8, 8), (8, 8))
        return 64 * nn.sigmoid(nn.Dense(2 * self.points)(means.reshape(len(images), -1))).reshape(-1, self.points, 2)


def my_loss(predicted, target):
    return jnp.abs(predicted - target) ** 1.5


def shorten(recipe, steps):
    """Return the recipe with small networks and few steps."""
    first, second = recipe.stages
    small = {"steps": steps, "batch_size": 8, "evaluate_every": steps, "optimizer": optax.adam(1e-3)}
    stages = [
        dataclasses.replace(first, model=wj.models.TINY, input_size=32, **small),
        dataclasses.replace(second, model=wj.models.TINY, input_size=32, crops_per_face=2, **small),
    ]
    return dataclasses.replace(recipe, stages=stages)


@pytest.mark.slow
def test_find_the_faces_of_a_photo(data_root, tmp_path):
    photos = sorted((data_root / "photos").glob("*.jpg"))
    if not photos:
        pytest.skip(f"no photo in {data_root / 'photos'}: set WING_JAX_DATA to the folder that holds photos/")
    faces = wj.FaceLandmarker.load("w300")(photos[0])
    assert faces.points.shape == (len(faces), 68, 2)
    assert faces.boxes.shape == (len(faces), 4)
    assert faces.scores.shape == (len(faces),)
    assert len(faces) >= 1
    assert faces.draw().shape == faces.image.shape
    assert list(faces.to_columns())[:2] == ["face_id", "confidence"]
    assert faces.save(tmp_path / "out").exists()


@pytest.mark.slow
def test_train_the_300w_preset(data_root, tmp_path):
    train = wj.load_faces("w300", split="train", root=data_root / "300w").take(range(40))
    test = wj.load_faces("w300", split="test", root=data_root / "300w").take(range(24))
    result = wj.fit(train, shorten(wj.presets.w300(), steps=6), **QUICK)
    evaluation = wj.evaluate(result.localizer, test)
    assert result.folder is None
    assert {row["stage"] for row in result.history} == {1, 2}
    assert "NME" in str(evaluation)
    assert 0 < evaluation.nme["inter-ocular"] < 200  # per cent
    assert 0 <= evaluation.auc["inter-ocular"] <= 1
    assert evaluation.by("subset")
    assert evaluation.plot().axes
    assert evaluation.report(tmp_path / "report").name == "index.html"


@pytest.mark.slow
def test_train_with_custom_faces_network_loss_and_optimizer(tmp_path):
    synthetic = wj.load_faces("synthetic", count=24)
    images = [synthetic.picture(face) for face in range(len(synthetic))]
    points = synthetic.points[:, [36, 45, 30, 48, 54]]
    faces = wj.FaceSet.from_arrays(images, points, scheme="mtfl5")
    result = wj.fit(
        faces,
        [wj.StageSpec(model=MyModule(), loss=my_loss, optimizer=optax.adamw(1e-3), input_size=64, steps=10)],
        augment=[wj.augment.rotation(25), wj.augment.flip()],
        folder=None,
        seed=0,
        **QUICK,
    )
    result.localizer.save(tmp_path / "mine")
    loaded = wj.Localizer.load(tmp_path / "mine", model=MyModule())
    np.testing.assert_array_equal(
        loaded.predict(images[0], faces.boxes[:1]), result.localizer.predict(images[0], faces.boxes[:1])
    )


@pytest.mark.slow
def test_the_training_code_of_the_readme_runs(tmp_path, monkeypatch):
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^## Train\n\n```python\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 10
    assert "steps=2000)" in code
    assert "seed=0)" in code
    faces = wj.load_faces("synthetic", count=40)
    images, points = [faces.picture(face) for face in range(40)], faces.points[:, [36, 45, 30, 48, 54]]
    monkeypatch.chdir(tmp_path)
    Image.fromarray(images[0]).save("photo.jpg")
    names = {"images": images, "points": points}
    short_code = code.replace("steps=2000)", "steps=2)").replace("seed=0)", "seed=0, quiet=True, device_count=1)")
    exec(compile(short_code, "README.md", "exec"), names)
    assert names["points"].shape == (1, 5, 2)
    assert Path("mine", "model.json").exists()


@pytest.mark.slow
def test_any_elementwise_function_is_a_loss():
    stage = wj.StageSpec(model=wj.models.TINY, loss=optax.losses.huber_loss, input_size=32, steps=4, batch_size=8)
    result = wj.fit(wj.load_faces("synthetic", count=24), stage, **QUICK)
    assert np.isfinite([row["loss"] for row in result.history]).all()


@pytest.mark.slow
def test_losses_are_functions_like_those_of_optax():
    predicted, target = jnp.zeros((2, 5, 2)), jnp.full((2, 5, 2), 20.0)
    value = wj.losses.wing_loss(predicted, target, width=10.0, epsilon=2.0)
    np.testing.assert_allclose(value, 20 - (10 - 10 * np.log(6)), rtol=1e-6)
    visible = jnp.zeros((2, 5, 1), bool).at[0].set(True)
    masked = wj.losses.wing_loss(predicted, target, width=10.0, epsilon=2.0, where=visible)
    assert float(masked[1].sum()) == 0 < float(masked[0].sum())


@pytest.mark.slow
def test_the_command_line_accepts_a_registered_loss_and_its_parameters(tmp_path, monkeypatch):
    from wing_jax.cli import main

    scales = set()

    @wj.register_loss(name="log_cosh_of_the_design")
    def log_cosh(predicted, target, *, scale=1.0):
        scales.add(scale)
        error = (predicted - target) / scale
        return scale * (jnp.logaddexp(error, -error) - jnp.log(2.0))

    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL, encoding="utf-8")
    loss = ["--stage1.loss.name", "log_cosh_of_the_design", "--stage1.loss.params.scale", "2"]
    main(["train", "small.toml", *loss, "--devices", "1"])
    assert scales == {2.0}
    assert wj.Localizer.load(Path("runs", "small", "model")).scheme.points == 68


def test_a_printed_preset_can_be_changed(tmp_path, monkeypatch, capsys):
    from wing_jax.cli import main

    monkeypatch.chdir(tmp_path)
    main(["config", "w300"])
    Path("my.py").write_text(capsys.readouterr().out, encoding="utf-8")
    assert wj.presets.load("w300").data.name == "w300"
    assert Path("my.py").read_text(encoding="utf-8") == wj.presets.source("w300")
    # Errors are reported in one line, before any work: this folder has no faces.
    with pytest.raises(SystemExit) as stopped:
        main(["train", "my.py", "--data", "w300", "--root", str(tmp_path / "nowhere")])
    assert stopped.value.code == 2
    assert str(Path("nowhere")) in capsys.readouterr().err
    assert os.listdir() == ["my.py"]
