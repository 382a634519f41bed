"""Pretrained models: small, documented, loaded by name, and as accurate on real faces as their cards state."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from wing_jax import Localizer, evaluate, pretrained
from wing_jax.cli import main
from wing_jax.data.load import convert_points, load_faces
from wing_jax.errors import InputError
from wing_jax.inference.bundle import find_bundle
from wing_jax.schemes import MTFL_5

CARD_NME = re.compile(r"\*\*NME by (?:inter-ocular distance|the distance of the eye centers): (\d\.\d\d) %\*\*")


def test_models_exist_and_are_small():
    assert pretrained.models() == ("mtfl", "w300")
    files = [
        path for path in pretrained.FOLDER.rglob("*") if path.is_file() and path.suffix in (".npz", ".json", ".md")
    ]
    assert sum(path.stat().st_size for path in files) < 30e6


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained.models())
def test_each_model_is_loaded_by_name_and_has_a_card(name):
    localizer = Localizer.load(name)
    assert localizer.predict(np.zeros((64, 64, 3), np.uint8), [[10, 10, 50, 50]]).shape == (
        1,
        localizer.scheme.points,
        2,
    )
    for word in ("Data", "Terms", "non-commercial", "Recipe", "commit", "NME", "Limitations"):
        assert word in pretrained.card(name), word


def test_errors_for_unknown_names_list_the_models():
    with pytest.raises(InputError, match=r"no model here.*pretrained model \(.*w300"):
        Localizer.load("w3000")
    with pytest.raises(KeyError, match="w300"):
        pretrained.card("w3000")


def test_a_folder_of_the_same_name_takes_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pretrained.FOLDER / "w300", tmp_path / "w300")
    manifest = json.loads((tmp_path / "w300" / "model.json").read_text())
    (tmp_path / "w300" / "model.json").write_text(
        json.dumps({**manifest, "metadata": {**manifest["metadata"], "name": "mine"}})
    )
    assert Localizer.load("w300").metadata.name == "mine"
    (tmp_path / "w300" / "model.json").unlink()
    assert Localizer.load("w300").metadata.name == manifest["metadata"]["name"]


def test_find_bundle_reports_whether_a_model_is_pretrained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w300").mkdir()  # a folder without a model
    place = find_bundle("w300")
    assert (place.folder, place.pretrained_name, place.shadows) == (pretrained.FOLDER / "w300", "w300", "")
    assert place.outputs == Path("runs/packaged/w300")
    shutil.copytree(pretrained.FOLDER / "w300", tmp_path / "w300" / "model")
    place = find_bundle("w300")
    assert (place.folder, place.pretrained_name, place.shadows) == (Path("w300/model"), "", "w300")
    assert place.outputs == place.folder
    assert find_bundle(tmp_path / "w300").shadows == ""
    with pytest.raises(InputError, match="no model here"):
        find_bundle("nowhere")


def test_exports_of_a_pretrained_model_are_in_another_folder(tmp_path, monkeypatch, capsys):
    """By default, no folder of the model's name is created, which the next command could use instead of the model."""
    monkeypatch.chdir(tmp_path)
    folders = []
    monkeypatch.setattr("wing_jax.cli.export.halve", lambda localizer, folder, crops: folders.append(folder) or [])
    monkeypatch.setattr("wing_jax.cli.export.make_crops", lambda localizer, faces: [])
    main(["export", "w300", "--to", "half"])
    shutil.copytree(pretrained.FOLDER / "w300", tmp_path / "run" / "model")
    main(["export", "run", "--to", "half"])
    assert folders == [Path("runs/packaged/w300/half"), Path("run/model/half")]
    assert not (tmp_path / "w300").exists()
    with pytest.raises(SystemExit):
        main(["export", "w300", "--to", "half", "--output", "w300"])
    assert "would be used instead of the pretrained model 'w300'" in capsys.readouterr().err
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "w300")
    main(["export", "w300", "--to", "half"])
    assert folders[-1] == Path("w300/half")
    assert "using the model in the folder w300, not the pretrained model 'w300'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained.models())
def test_accuracy_on_real_faces_is_that_of_the_card(name, data_root):
    localizer, faces = Localizer.load(name), load_faces(name, "test", root="")
    faces = faces.take(np.arange(0, len(faces), len(faces) // 100))
    points = np.concatenate([localizer.predict(faces.picture(i), faces.boxes[i : i + 1]) for i in range(len(faces))])
    eyes = faces.points[:, [faces.scheme.left_outer, faces.scheme.right_outer]]
    errors = np.linalg.norm(points - faces.points, axis=2).mean(1) / np.linalg.norm(eyes[:, 0] - eyes[:, 1], axis=1)
    (nme,) = CARD_NME.findall(pretrained.card(name))
    assert 100 * errors.mean() < 1.15 * float(nme)  # the error of a sample of about 100 faces


@pytest.mark.slow
def test_only_the_model_that_ended_without_flips_has_the_horizontal_offset_of_the_annotation_of_300w(data_root):
    """The points of 300-W lie right of those of models trained with flips, whatever faces these were trained on."""
    faces = load_faces("w300", "test", root=str(data_root / "300w"))
    faces = faces.take(np.arange(0, len(faces), 20))
    w300, few = Localizer.load("w300"), convert_points(faces, MTFL_5)
    right = {
        "w300": evaluate(w300, faces).median_offset[0],
        "its mirror average": evaluate(dataclasses.replace(w300, flip_average=True), faces).median_offset[0],
        "mtfl": evaluate(Localizer.load("mtfl"), few).median_offset[0],
    }
    assert abs(right["w300"]) < 0.3  # pixels; the face is about 160 wide
    assert -1.3 < right["its mirror average"] < -0.5
    assert -1.5 < right["mtfl"] < -0.5
