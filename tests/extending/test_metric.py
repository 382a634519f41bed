"""Metrics of an external package, found by entry points, appear in tables, the report and results.json."""

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
"""Metrics of an external package."""
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
    """An installed package with two metrics; its folder."""
    entries = {"largest_error": "largest_error", "rmse": "rmse"}
    monkeypatch.chdir(tmp_path)
    return install(MODULE, name="outside_metrics", entry_points={"wing_jax.metrics": entries})


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "test", count=3)


def test_evaluate_points_measures_it(outside, faces):
    predicted = faces.points + np.float32([3, 4]) * np.arange(3, dtype=np.float32)[:, None, None]
    evaluation = evaluate_points(predicted, faces)
    assert evaluation.metrics[-2:] == ("largest_error", "rmse")
    np.testing.assert_allclose(evaluation.errors["largest_error"], [0, 5, 10], atol=1e-4)
    np.testing.assert_allclose(evaluation.errors["rmse"], [0, 0.5, 1.0], atol=1e-4)  # a fraction, shown in per cent
    assert evaluation.auc["largest_error"] == pytest.approx((1 + 0.75 + 0.5) / 3, abs=1e-4)
    assert np.isnan(evaluation.auc["rmse"])
    assert "largest_error" not in evaluation.nme
    text = str(evaluation)
    assert "largest_error (pixels)\nmetric" in text
    assert "rmse (%)\nmetric" in text
    single = evaluate_points(predicted, faces, metrics=["largest_error"])
    assert single.metrics == ("largest_error",)
    assert single.by("pose")[0]["mean"] is not None
    assert single.landmarks == {}


@pytest.mark.slow
def test_the_command_line_measures_it(outside, tmp_path, capsys):
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


@pytest.mark.slow
def test_it_measures_a_trained_localizer(outside, train_small, tmp_path):
    _, evaluation = train_small()
    assert evaluation.metrics[-2:] == ("largest_error", "rmse")
    localizer = wj.Localizer.load(tmp_path / "saved")
    loaded = wj.evaluate(localizer, wj.load_faces("synthetic", count=12), metrics=["largest_error"])
    np.testing.assert_array_equal(loaded.errors["largest_error"], evaluation.errors["largest_error"])
    assert loaded.mean["largest_error"] > 0


@pytest.mark.slow
def test_all_installed_metrics_are_measured(outside, tmp_path, capsys):
    words = ["evaluate", "mtfl", "--data", "synthetic", "--faces", "3", "--scheme", "mtfl5", "--output", "report"]
    main([*words, "--jitter", "0"])
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert list(dict.fromkeys(entry["metric"] for entry in results))[-2:] == ["largest_error", "rmse"]


def test_a_function_needs_no_registration(faces):
    def nose(predicted, faces):
        return np.linalg.norm(predicted[:, 30] - faces.points[:, 30], axis=-1) / 100

    evaluation = evaluate_points(faces.points + np.float32([0, 2]), faces, metrics=[nose, "box-size"])
    assert evaluation.metrics == ("nose", "box-size")
    assert evaluation.mean["nose"] == pytest.approx(2.0, abs=1e-4)


def test_a_metric_with_an_invalid_result_is_named(faces):
    for metric, value in (
        (lambda predicted, faces: [1.0], r"\[1.0\] for 3 faces"),
        (lambda predicted, faces: "x", "'x' for"),
    ):
        with pytest.raises(InputError, match=f"the metric '<lambda>' returned {value}"):
            evaluate_points(faces.points, faces, metrics=[metric])


def test_a_name_is_registered_only_once_but_a_cell_can_run_again(outside, faces):
    def define(factor):
        @register_metric(name="largest_error")
        def largest_error(predicted, faces):
            return np.full(len(faces), factor)

        return largest_error

    define(0.1)
    define(0.2)
    assert evaluate_points(faces.points, faces, metrics=["largest_error"]).mean["largest_error"] == pytest.approx(20)
    with pytest.raises(ValueError, match="a metric called 'inter-ocular' is already registered"):
        register_metric(lambda predicted, faces: [], name="inter-ocular")


def test_a_normalizer_has_errors_per_landmark(outside, faces):
    @register_normalizer(name="rmse", threshold=0.5)
    def ten_pixels(points, boxes, eyes, visible):
        return np.full(len(points), 10.0)

    evaluation = evaluate_points(faces.points + np.float32([0, 2]), faces, metrics=["rmse"])
    assert evaluation.nme["rmse"] == pytest.approx(20.0, abs=1e-3)
    np.testing.assert_allclose(evaluation.landmarks["rmse"], 20.0, atol=1e-3)
    assert evaluation.measurements[0].threshold == 0.5
