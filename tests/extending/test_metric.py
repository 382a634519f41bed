"""A metric of a package outside: found by its entry point, it stands in tables, in the report and in results.json."""

import json

import numpy as np
import pytest

import wing_jax as wj
from wing_jax.cli import main
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.evaluation import evaluate_points
from wing_jax.evaluation.metrics import register_metric, register_normalizer

MODULE = '''
"""What a user writes."""
import numpy as np
from wing_jax.evaluation.metrics import register_metric

@register_metric(unit="pixels", threshold=20.0)
def largest_error(predicted, faces):
    distances = np.linalg.norm(predicted - faces.points, axis=-1)
    return np.where(faces.visible, distances, 0).max(1)

def rmse(predicted, faces):
    return np.sqrt(((predicted - faces.points) ** 2).sum(-1).mean(1)) / 1000
'''


@pytest.fixture
def outside(install, tmp_path, monkeypatch):
    """The folder of an installed package with two metrics."""
    entries = {"largest_error": "largest_error", "rmse": "rmse"}
    monkeypatch.chdir(tmp_path)
    return install(MODULE, name="outside_metrics", entry_points={"wing_jax.metrics": entries})


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "test", count=3)


def test_it_is_measured_by_python(outside, faces):
    predicted = faces.points + np.float32([3, 4]) * np.arange(3, dtype=np.float32)[:, None, None]
    done = evaluate_points(predicted, faces)
    assert done.metrics[-2:] == ("largest_error", "rmse")
    np.testing.assert_allclose(done.errors["largest_error"], [0, 5, 10], atol=1e-4)
    np.testing.assert_allclose(done.errors["rmse"], [0, 0.5, 1.0], atol=1e-4)  # a fraction, shown in per cent
    assert done.auc["largest_error"] == pytest.approx((1 + 0.75 + 0.5) / 3, abs=1e-4)
    assert np.isnan(done.auc["rmse"])
    assert "largest_error" not in done.nme
    text = str(done)
    assert "largest_error (pixels)\nmetric" in text
    assert "rmse (%)\nmetric" in text
    alone = evaluate_points(predicted, faces, metrics=["largest_error"])
    assert alone.metrics == ("largest_error",)
    assert alone.by("pose")[0]["mean"] is not None
    assert alone.landmarks == {}


def test_it_is_measured_by_the_command_line(outside, tmp_path, capsys):
    words = ["evaluate", "mtfl", "--data", "synthetic", "--faces", "3", "--scheme", "mtfl5", "--output", "report"]
    main([*words, "--jitter", "0", "--metrics", "largest_error", "inter-ocular"])
    printed = capsys.readouterr().out
    assert "largest_error (pixels)" in printed
    assert "inter-ocular" in printed
    assert "rmse" not in printed
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    first = results[0]
    assert (first["metric"], first["unit"], first["nme"], first["landmarks"]) == (
        "largest_error",
        "pixels",
        False,
        None,
    )
    assert first["mean"] > 0
    assert {entry["metric"] for entry in results} == {"largest_error", "inter-ocular"}
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "largest_error (pixels)" in page
    assert (tmp_path / "report" / "ced-largest-error.png").is_file()
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--metrics", "largest_errors"])
    assert stopped.value.code == 2
    assert "no metric is called 'largest_errors': did you mean largest_error?" in capsys.readouterr().err


def test_it_measures_what_python_trained(outside, use):
    _, evaluation = use()
    assert evaluation.metrics[-2:] == ("largest_error", "rmse")
    again = wj.evaluate(wj.Localizer.load("kept"), wj.load_faces("synthetic", count=12), metrics=["largest_error"])
    np.testing.assert_array_equal(again.errors["largest_error"], evaluation.errors["largest_error"])
    assert again.mean["largest_error"] > 0


def test_all_that_are_installed_are_measured(outside, tmp_path, capsys):
    words = ["evaluate", "mtfl", "--data", "synthetic", "--faces", "3", "--scheme", "mtfl5", "--output", "report"]
    main([*words, "--jitter", "0"])
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert list(dict.fromkeys(entry["metric"] for entry in results))[-2:] == ["largest_error", "rmse"]


def test_a_function_needs_no_registration(faces):
    def nose(predicted, faces):
        return np.linalg.norm(predicted[:, 30] - faces.points[:, 30], axis=-1) / 100

    done = evaluate_points(faces.points + np.float32([0, 2]), faces, metrics=[nose, "box-size"])
    assert done.metrics == ("nose", "box-size")
    assert done.mean["nose"] == pytest.approx(2.0, abs=1e-4)


def test_a_metric_that_answers_wrongly_is_named(faces):
    for wrong, said in (
        (lambda predicted, faces: [1.0], r"returned \[1.0\] for 3 faces"),
        (lambda p, f: "x", "'x' for"),
    ):
        with pytest.raises(InputError, match=f"the metric '<lambda>' {'' if said[0] == 'r' else 'returned '}{said}"):
            evaluate_points(faces.points, faces, metrics=[wrong])


def test_names_are_taken_once_and_a_cell_can_run_again(outside, faces):
    def define(factor):
        @register_metric(name="largest_error")
        def mine(predicted, faces):
            return np.full(len(faces), factor)

        return mine

    define(0.1)
    define(0.2)
    assert evaluate_points(faces.points, faces, metrics=["largest_error"]).mean["largest_error"] == pytest.approx(20)
    with pytest.raises(ValueError, match="a metric called 'inter-ocular' is registered already"):
        register_metric(lambda predicted, faces: [], name="inter-ocular")


def test_a_normalizer_has_errors_by_landmark(outside, faces):
    @register_normalizer(name="rmse", threshold=0.5)
    def ten_pixels(points, boxes, eyes, visible):
        return np.full(len(points), 10.0)

    done = evaluate_points(faces.points + np.float32([0, 2]), faces, metrics=["rmse"])
    assert done.nme["rmse"] == pytest.approx(20.0, abs=1e-3)
    np.testing.assert_allclose(done.landmarks["rmse"], 20.0, atol=1e-3)
    assert done.measurements[0].threshold == 0.5
