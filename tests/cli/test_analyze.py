"""`wing-jax analyze`: figures as SVG and PNG, printed numbers, and errors of one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.stages import STAGE
from wing_jax.analysis import faces as on_faces
from wing_jax.analysis.subject import make_subject
from wing_jax.cli import main
from wing_jax.config import Config, DataConfig
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.from_config.train import train
from wing_jax.inference.localizer import Localizer
from wing_jax.losses import make_loss
from wing_jax.schemes import MTFL_5

FIGURES = ("errors", "shares", "poses", "landmarks", "width-epsilon", "layers", "landscape")


@pytest.fixture(autouse=True)
def working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = DataConfig(name="synthetic", train_faces=16, validation=0.3)
    return Config(name="small", data=data, stage1=STAGE, devices=1, output=str(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def model(config):
    return train(config).folder / "model"


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "test", count=10)


def assert_figures(folder, names):
    for name in names:
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (folder / f"{name}.svg").read_text()[:900]


@pytest.mark.slow
def test_losses(tmp_path, capsys):
    main(["analyze", "losses", "--losses", "wing", "rectified_wing", "soft_wing", "--max_error", "5"])
    assert_figures(tmp_path / "runs" / "analysis", ["losses"])
    assert "saved: runs/analysis/losses.svg" in capsys.readouterr().out
    first = (tmp_path / "runs" / "analysis" / "losses.svg").read_bytes()
    main(["analyze", "losses", "--losses", "wing", "rectified_wing", "soft_wing", "--max_error", "5"])
    assert (tmp_path / "runs" / "analysis" / "losses.svg").read_bytes() == first


@pytest.mark.slow
def test_model(tmp_path, capsys, model):
    main(["analyze", "model", str(model), "--data", "synthetic", "--faces", "10", "--batch", "4", "--grid_points", "3",
          "--losses", "l2", "wing", "--output", "figures"])  # fmt: skip
    output = capsys.readouterr().out
    assert_figures(tmp_path / "figures", FIGURES)
    for line in ("untrained, of the errors: ", "trained, of the gradient of Wing: "):
        assert line in output


@pytest.mark.slow
def test_training(tmp_path, capsys, config):
    path = tmp_path / "tiny.py"
    path.write_text(f"from wing_jax.config import *\nconfig = {config!r}\n")
    main(["analyze", "training", str(path), "--analysis.losses", "l1", "wing", "--analysis.output", "figures"])
    assert_figures(tmp_path / "figures", ["training"])
    output = capsys.readouterr().out
    assert output.startswith("step 0: ")
    assert "step 6: " in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["losses", "--max_error", "0"], "max_error=0.0 must be greater than 0"),
        (["losses", "--losses", "huber"], "huber"),
        (["model", "nowhere", "--data", "synthetic"], "no model here"),
        (["model", "nowhere", "--data", "synthetic", "--batch", "1"], "batch=1 must be 2 or more"),
        (["training", "nowhere.py"], "cannot read this config"),
    ],
)
def test_an_error_is_one_line(capsys, words, message):
    with pytest.raises(SystemExit) as exit_error:
        main(["analyze", *words])
    assert exit_error.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_edges_in_the_wrong_order(capsys, model):
    with pytest.raises(SystemExit):
        main(["analyze", "model", str(model), "--data", "synthetic", "--small", "3", "--faces", "4"])
    assert "use 0 < small < large" in capsys.readouterr().err


def test_usage(capsys):
    for words, status in (([], 2), (["--help"], 0), (["poems"], 2)):
        with pytest.raises(SystemExit) as exit_error:
            main(["analyze", *words])
        assert exit_error.value.code == status
        assert "usage: wing-jax analyze" in "".join(capsys.readouterr())


def test_errors_match_those_of_the_localizer(model, faces):
    localizer = Localizer.load(model)
    batch = on_faces.first_crops(localizer, faces)
    errors = on_faces.crop_errors(localizer.stages[0], localizer.stages[0].variables, batch)
    for face in range(len(faces)):
        (points,) = localizer.predict(faces.picture(face), faces.boxes[face : face + 1])
        side = STAGE.margin * (faces.boxes[face, 2:] - faces.boxes[face, :2]).max()
        np.testing.assert_allclose(errors[face], (points - faces.points[face]) * STAGE.input_size / side, atol=0.15)


@pytest.mark.slow
def test_the_untrained_network_predicts_about_the_mean_shape_and_all_its_layers_have_gradients(model, faces):
    localizer = Localizer.load(model)
    stage, batch = localizer.stages[0], on_faces.first_crops(localizer, faces)
    variables = on_faces.untrained(stage, batch, seed=0)
    predicted = np.asarray(stage.model.apply(variables, jnp.asarray(batch.images), train=False))
    assert np.abs(predicted.mean(0) - np.asarray(batch.points).mean(0)).mean() < STAGE.input_size / 2
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1)
    assert not np.allclose(
        variables["params"]["output"]["kernel"], on_faces.untrained(stage, batch, seed=1)["params"]["output"]["kernel"]
    )


def test_faces_of_another_scheme_are_rejected(model, faces):
    full = load_faces("synthetic", "test", count=4)
    five = full.__class__(**{**vars(full), "scheme": MTFL_5, "points": full.points[:, :5],
                             "visible": full.visible[:, :5], "visibility": None})  # fmt: skip
    with pytest.raises(InputError, match="pass faces with the model's scheme"):
        make_subject(Localizer.load(model), five, losses={"Wing": make_loss("wing")}, edges=(0.5, 2.0), seed=0)
