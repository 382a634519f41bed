"""`load_faces`: converted points, boxes by rule, hidden points, and invalid arguments."""

import dataclasses
import json

import numpy as np
import pytest

from tests.support.writers.cofw import write_cofw
from tests.support.writers.points_folder import write_points_folder
from tests.support.writers.w300 import write_w300
from tests.support.writers.wflw import write_wflw
from wing_jax.cli import main
from wing_jax.data.load import convert_points, ignore_occluded, load_faces
from wing_jax.data.readers.points_file import read_pts, write_pts
from wing_jax.data.readers.synthetic import synthetic_faces
from wing_jax.data.readers.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.schemes import COFW_29, IBUG_68, MTFL_5, find_scheme, get_conversion
from wing_jax.types import Visibility


def refusal(*arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        load_faces(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_published_points_are_converted(tmp_path):
    write_w300(tmp_path)
    faces = load_faces("w300", "train", root=str(tmp_path), scheme="mtfl5")
    original = read_w300(tmp_path, "train")
    assert faces.scheme is MTFL_5
    assert faces.name == "300-W as mtfl5"
    np.testing.assert_allclose(faces.points[:, 0], original.points[:, 36:42].mean(1), atol=1e-4)
    np.testing.assert_array_equal(faces.points[:, 2:], original.points[:, [30, 48, 54]])
    np.testing.assert_array_equal(faces.boxes, original.boxes)
    assert "no conversion from 'ibug68' to 'wflw98'" in refusal("w300", "train", root=str(tmp_path), scheme="wflw98")


def test_boxes_by_rule_are_those_of_the_converted_points(tmp_path):
    write_w300(tmp_path)
    faces = load_faces("w300", "train", root=str(tmp_path), scheme="mtfl5", boxes="landmarks")
    np.testing.assert_allclose(faces.boxes[:, :2], faces.points.min(1))
    assert faces.box_convention == "landmarks"
    assert "boxes='tight'" in refusal("w300", "train", root=str(tmp_path), boxes="tight")


def test_hidden_points_are_kept_or_ignored(tmp_path):
    write_cofw(tmp_path)
    counted = load_faces("cofw", "train", root=str(tmp_path))
    masked = load_faces("cofw", "train", root=str(tmp_path), occluded="ignore")
    occluded = counted.visibility == Visibility.OCCLUDED
    assert counted.visible.all()
    assert occluded.any()
    np.testing.assert_array_equal(masked.visible, ~occluded)
    both = load_faces("cofw", "train", root=str(tmp_path), occluded="ignore", scheme="mtfl5")
    np.testing.assert_array_equal(both.visible, ~occluded[:, [16, 17, 20, 22, 23]])
    drawn = synthetic_faces(6, seed=1, size=64)
    hidden = drawn.visibility != Visibility.VISIBLE
    assert hidden.any()
    np.testing.assert_array_equal(ignore_occluded(drawn).visible, ~hidden)
    write_wflw(tmp_path / "wflw")
    complaint = refusal("wflw", "train", root=str(tmp_path / "wflw"), occluded="ignore")
    assert "has no annotation of occluded points" in complaint


def test_unavailable_converted_points_do_not_count():
    drawn = synthetic_faces(2, seed=1, size=64)
    faces = convert_points(drawn, find_scheme("cofw29"))
    assert not faces.visible[:, [5, 7]].any()
    assert faces.visible.sum() == 2 * 27


def test_invalid_choices_are_refused(unchecked):
    assert "occluded='drop' must be one of 'keep', 'ignore'" in refusal("synthetic", "train", count=1, occluded="drop")
    assert "picture_size='x' must be one of 'check'" in refusal("synthetic", "train", count=1, picture_size="x")


def test_required_arguments(tmp_path):
    assert "has no split 'val': it has train, test, private" in refusal("w300", "val", root=str(tmp_path))
    assert "needs a root: pass its folder or file" in refusal("coco", "train", scheme="ibug68")
    assert "needs a scheme: pass a .toml file, or one of mtfl5" in refusal("pts", "train", root=str(tmp_path))
    assert "scheme 'six': pass a .toml file" in refusal("pts", "train", root=str(tmp_path), scheme="six")
    assert "cannot read this scheme" in refusal("pts", "train", root=str(tmp_path), scheme=str(tmp_path / "six.toml"))


@pytest.mark.slow
def test_evaluation_converts_the_model_to_the_faces_and_reports_it(tmp_path, capsys, monkeypatch):
    """A synthetic 68-point model on faces of 5 points, against errors computed by hand."""
    from tests.support.tiny_model import save_random_model
    from wing_jax.inference.localizer import Localizer

    monkeypatch.chdir(tmp_path)
    drawn = synthetic_faces(6, seed=3, size=96)
    low, high = drawn.boxes[:, None, :2], drawn.boxes[:, None, 2:]
    mean = (((drawn.points - low) / (high - low)).mean(0) / 1.2 + 0.1).astype(np.float32)
    model = save_random_model(tmp_path / "model", IBUG_68, mean)
    write_points_folder(tmp_path / "five", scheme=MTFL_5)
    folder = tmp_path / "five" / "test"
    main(["evaluate", str(model), "--data", "pts", "--root", str(folder), "--scheme", "mtfl5", "--jitter", "0"])
    output = capsys.readouterr().out
    assert "the model's points are converted to mtfl5, which approximates eye centers" in output
    results = json.loads((model / "report-pts" / "results.json").read_text())
    faces = load_faces("pts", "test", root=str(folder), scheme="mtfl5")
    localizer, errors = Localizer.load(model), []
    for index in range(len(faces)):
        points = localizer.predict(faces.picture(index), faces.boxes[index : index + 1])[0]
        five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
        eyes = np.linalg.norm(faces.points[index, 0] - faces.points[index, 1])
        errors.append(np.linalg.norm(five - faces.points[index], axis=1).mean() / eyes)
    leading = next(entry for entry in results if entry["metric"] == "inter-ocular")
    assert leading["mean"] == pytest.approx(100 * np.mean(errors), rel=1e-3)
    main(["evaluate", str(model), "--data", "pts", "--root", str(folder), "--scheme", "mtfl5"])
    with pytest.raises(SystemExit):
        main(["evaluate", str(model), "--data", "pts", "--root", str(folder), "--scheme", "mtfl5", "--fit_boxes"])
    assert "--fit_boxes needs a model that records" in capsys.readouterr().err


@pytest.mark.slow
def test_unavailable_points_are_not_measured(tmp_path, capsys, monkeypatch):
    """68 points contain 27 of COFW's 29: the lower edges of the brows must not count as points at 0."""
    from tests.support.tiny_model import save_random_model
    from wing_jax.inference.localizer import Localizer

    monkeypatch.chdir(tmp_path)
    model = save_random_model(tmp_path / "model", IBUG_68, np.full((68, 2), 0.5, np.float32))
    write_points_folder(tmp_path / "faces", scheme=COFW_29)
    folder = str(tmp_path / "faces" / "train")
    main(["evaluate", str(model), "--data", "pts", "--root", folder, "--scheme", "cofw29", "--jitter", "0"])
    assert "27 of 29 points are available" in capsys.readouterr().out
    results = json.loads((model / "report-pts" / "results.json").read_text())
    faces, localizer = load_faces("pts", "all", root=folder, scheme="cofw29"), Localizer.load(model)
    available = [point for point in range(29) if point not in (5, 7)]
    weights, errors = get_conversion(IBUG_68, COFW_29).weights, []
    for index in range(len(faces)):
        predicted = weights @ localizer.predict(faces.picture(index), faces.boxes[index : index + 1])[0]
        eyes = np.linalg.norm(faces.points[index, 8] - faces.points[index, 9])
        errors.append(np.linalg.norm(predicted - faces.points[index], axis=1)[available].mean() / eyes)
    leading = next(entry for entry in results if entry["metric"] == "inter-ocular")
    assert leading["mean"] == pytest.approx(100 * np.mean(errors), rel=1e-3)
    assert leading["landmarks"][5] is None


@pytest.mark.slow
def test_boxes_of_another_convention_are_reported_and_fitted(tmp_path, capsys, monkeypatch):
    from tests.support.tiny_model import save_random_model
    from wing_jax.data.boxes import shape_in_box
    from wing_jax.inference.localizer import Localizer
    from wing_jax.inference.metadata import Metadata

    monkeypatch.chdir(tmp_path)
    write_points_folder(tmp_path / "faces")
    folder = tmp_path / "faces" / "train"
    trained = shape_in_box(load_faces("pts", "all", root=str(folder), scheme="ibug68"))
    spread = np.random.default_rng(0).uniform(0.1, 0.9, (68, 2)).astype(np.float32)
    plain = save_random_model(tmp_path / "plain", IBUG_68, spread)
    metadata = Metadata(name="with shape in box", shape_in_box=trained)
    model = dataclasses.replace(Localizer.load(plain), metadata=metadata).save(tmp_path / "model")

    def evaluate(*options):
        words = ["evaluate", str(model), "--data", "pts", "--root", str(folder), "--scheme", "ibug68", "--jitter", "0"]
        main([*words, *options])
        results = json.loads((model / "report-pts" / "results.json").read_text())
        return capsys.readouterr().out, next(e for e in results if e["metric"] == "inter-ocular")["mean"]

    output, nme = evaluate()
    assert "--fit_boxes" not in output
    output, enlarged = evaluate("--boxes", "enlarged")
    assert "these boxes are 1.25 times as large as in training" in output
    output, fitted = evaluate("--boxes", "enlarged", "--fit_boxes")
    assert "times as large" not in output
    assert fitted == pytest.approx(nme, rel=2e-3)
    assert enlarged != pytest.approx(nme, rel=2e-3)


def test_written_pts_files_have_the_same_points(tmp_path):
    write_points_folder(tmp_path)
    faces = load_faces("pts", "train", root=str(tmp_path / "train"), scheme="ibug68")
    write_pts(tmp_path / "again.pts", faces.points[0])
    np.testing.assert_allclose(read_pts(tmp_path / "again.pts"), faces.points[0], atol=1e-3)


@pytest.mark.parametrize("name", ["synthetic", "pts", "csv", "coco", "imglab"])
@pytest.mark.parametrize("split", ["heldout", "held-out", "Train"])
def test_an_unknown_split_is_rejected(tmp_path, name, split):
    """For example a misspelled "held_out", which would otherwise measure all faces, including training faces."""
    root = "" if name == "synthetic" else str(tmp_path)
    message = refusal(name, split, root=root, scheme="mtfl5", count=int(name == "synthetic"))
    assert f"no split {split!r}" in message
