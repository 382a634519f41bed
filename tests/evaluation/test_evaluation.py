"""`evaluate` and `evaluate_points`: their numbers, tables, plot, report and comparison."""

import dataclasses
import json
import math
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from tests.support.tiny_model import save_tiny_model
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.evaluation import Evaluation, evaluate, evaluate_points, median_offset, metrics
from wing_jax.evaluation.comparison import bootstrap_interval
from wing_jax.evaluation.groups import bin_labels
from wing_jax.evaluation.jitter import jitter_boxes
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import IBUG_68, MTFL_5, Scheme

# Two faces of six points: eyes of two points each (outer corner first), nose, mouth.
SCHEME = Scheme(
    name="six",
    names=("a", "b", "c", "d", "nose", "mouth"),
    mirrored=((0, 3), (1, 2)),
    left_eye=(0, 1),
    right_eye=(2, 3),
    left_outer=0,
    right_outer=3,
    lines=((0, 1), (2, 3)),
    about="",
)
FACE = np.array([[0, 0], [4, 0], [8, 0], [12, 0], [6, 6], [6, 10]], np.float32)
POINTS = np.stack([FACE, 2 * FACE + 5])
BOXES = np.array([[0, 0, 30, 40], [10, 10, 70, 90]], np.float32)
OFFSETS = np.random.default_rng(0).normal(size=(2, 6, 2)).astype(np.float32)
HIDDEN_CORNER = np.ones((2, 6), bool)
HIDDEN_CORNER[1, 3] = False


def make_evaluation(**changes) -> Evaluation:
    predicted = {"stage 1": POINTS + 2 * OFFSETS, "stage 2": POINTS + OFFSETS}
    return evaluate_points(predicted, POINTS, **{"scheme": SCHEME, "boxes": BOXES, "name": "two faces", **changes})


def loop_nme(predicted, lengths, visible):
    """Plain Python reference of the per-face NME."""
    means = []
    for face, length in enumerate(lengths):
        errors = [
            math.dist(predicted[face][point].tolist(), POINTS[face][point].tolist())
            for point in range(6)
            if visible[face][point]
        ]
        means.append(sum(errors) / len(errors) / length)
    return means


def faces_in_memory(count=6, side=60) -> FaceSet:
    """Return faces of five points, each in an image of random pixels."""
    rng = np.random.default_rng(1)
    base = np.float32([[20, 22], [40, 22], [30, 32], [22, 42], [38, 42]])
    points = base + rng.uniform(-3, 3, (count, 5, 2)).astype(np.float32)
    return FaceSet(
        name="dots",
        scheme=MTFL_5,
        pictures=rng.integers(0, 255, (count, side, side, 3), np.uint8),
        points=points,
        visible=np.ones((count, 5), bool),
        boxes=np.concatenate([points.min(1), points.max(1)], axis=1),
        box_convention="landmarks",
        photos=tuple(f"photo {i}" for i in range(count)),
        subsets=("a", "b") * (count // 2),
        attributes={"blurred": np.arange(count) % 3 == 0},
    )


@dataclasses.dataclass
class FixedLocalizer:
    """An object with a Localizer's interface, which predicts the same five points of the box for each face."""

    scheme: Scheme = MTFL_5
    stages: tuple = (SimpleNamespace(face_crop_size=32),)
    received_boxes: list = dataclasses.field(default_factory=list)

    def locate(self, face_crops, boxes):
        self.received_boxes.append(boxes)
        middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        offsets = np.float32([[-0.4, -0.4], [0.4, -0.4], [0, 0], [-0.3, 0.4], [0.3, 0.4]])
        return [middle + offsets * (boxes[:, None, 2:] - boxes[:, None, :2]), np.repeat(middle, 5, axis=1)]


def test_numbers_agree_with_a_reference_loop():
    evaluation = make_evaluation(metrics=("inter-pupil", "box-size"))
    assert [(m.metric, m.stage) for m in evaluation.measurements] == [
        (name, stage) for name in ("inter-pupil", "box-size") for stage in ("stage 1", "stage 2")
    ]
    all_visible = np.ones((2, 6), bool)
    expected = 100 * np.array(loop_nme(POINTS + OFFSETS, [8, 16], all_visible))
    np.testing.assert_allclose(evaluation.errors["inter-pupil"], expected, rtol=1e-6)
    assert evaluation.nme["inter-pupil"] == pytest.approx(expected.mean())
    assert evaluation.median["inter-pupil"] == pytest.approx(np.median(expected))
    assert [m.threshold for m in evaluation.measurements] == [0.1, 0.1, 0.07, 0.07]
    assert evaluation.auc["inter-pupil"] == pytest.approx(metrics.auc(expected / 100, 0.1))
    assert evaluation.failure_rate["inter-pupil"] == 100 * metrics.failure_rate(expected / 100, 0.1)
    assert evaluation.landmarks["inter-pupil"].mean() == pytest.approx(evaluation.nme["inter-pupil"])
    first = evaluation.select(stage="stage 1")
    assert first.nme["inter-pupil"] == pytest.approx(2 * evaluation.nme["inter-pupil"])
    np.testing.assert_array_equal(first.points, POINTS + 2 * OFFSETS)


def test_landmark_means_count_the_visible_points_of_counted_faces():
    evaluation = make_evaluation(visible=HIDDEN_CORNER)
    errors = 100 * np.linalg.norm(OFFSETS, axis=-1)
    sizes = np.sqrt([1200, 4800])
    assert evaluation.landmarks["box-size"][3] == pytest.approx(errors[0, 3] / sizes[0], rel=1e-5)
    assert evaluation.landmarks["box-size"][4] == pytest.approx((errors[:, 4] / sizes).mean(), rel=1e-5)
    np.testing.assert_allclose(evaluation.landmarks["inter-ocular"], errors[0] / 12, rtol=1e-5)
    assert np.isnan(evaluation.errors["inter-ocular"]).tolist() == [False, True]


def test_results_count_the_faces_left_out_and_are_json():
    evaluation = make_evaluation(visible=HIDDEN_CORNER, groups={"pose": ["10° to 20°", "9° to 10°"]})
    results = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))["results"]
    ocular = results[1]
    assert (ocular["metric"], ocular["stage"], ocular["faces"], ocular["left_out"]) == (
        "inter-ocular", "stage 2", 1, 1,
    )  # fmt: skip
    assert ocular["mean"] == pytest.approx(evaluation.errors["inter-ocular"][0])
    assert ocular["mean"] == ocular["median"]
    assert list(ocular["groups"]["pose"]) == ["9° to 10°", "10° to 20°"]
    empty = ocular["groups"]["pose"]["9° to 10°"]
    assert (empty["faces"], empty["left_out"], empty["mean"], empty["auc"]) == (0, 1, None, None)
    (last,) = [entry for entry in results if (entry["metric"], entry["stage"]) == ("landmark-box-size", "stage 2")]
    assert last["left_out"] == 0


def test_thresholds_can_be_set():
    evaluation = make_evaluation(thresholds={"inter-ocular": 0.08})
    assert evaluation.to_dict()["results"][0]["threshold"] == 0.08
    assert evaluation.auc["inter-ocular"] == pytest.approx(metrics.auc(evaluation.errors["inter-ocular"] / 100, 0.08))
    with pytest.raises(InputError, match="thresholds names 'iod', which is not measured"):
        make_evaluation(thresholds={"iod": 0.08})


def test_groups_may_overlap_and_print_as_a_table():
    members = {"both": [True, True], "first": [True, False], "none": [False, False]}
    table = make_evaluation(groups={"attribute": members}).by("attribute")
    by_face = make_evaluation(groups={"face": ["a", "b"]}).by("face")
    assert [row["attribute"] for row in table] == ["both", "first", "none"]
    assert {**table[1], "attribute": None} == {
        "attribute": None,
        **{k: by_face[0][k] for k in by_face[0] if k != "face"},
    }
    assert (table[2]["faces"], table[2]["mean"]) == (0, None)
    lines = str(table).splitlines()
    assert lines[0] == "two faces by attribute: inter-ocular (%), stage 2"
    assert lines[1].split() == ["attribute", "faces", "mean", "median", "auc", "failure_rate"]
    assert lines[4].split() == ["none", "0", "-", "-", "-", "-"]
    assert repr(table) == str(table)


def test_print_shows_the_table():
    evaluation = make_evaluation(visible=HIDDEN_CORNER)
    text = str(evaluation)
    assert repr(evaluation) == text
    assert text.startswith("two faces: 2 faces, 6 points (six)\n\nNormalized mean error\nnormalized by")
    assert f"{evaluation.nme['inter-ocular']:.2f}" in text
    reason = "their normalizer is zero or needs a point that is not visible"
    assert f"Faces excluded, because {reason}: 1 by inter-ocular; 1 by inter-pupil." in text
    assert len(text.splitlines()) < 25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("iod",)}, "no metric is called 'iod': use one of inter-ocular"),
        ({"metrics": "inter-ocular"}, "metrics='inter-ocular' is a single name: give a list"),
        ({"metrics": (3,)}, "is 3: give a name from METRICS or a function"),
        ({"groups": {"pose": ["left"]}}, "group 'pose' has 1 labels for 2 faces: pass one label for each"),
        ({"scheme": None}, "scheme is missing"),
        ({"scheme": MTFL_5}, r"target is \(2, 6, 2\): give points \[faces, 5, 2\] of the scheme mtfl5"),
        ({"boxes": BOXES[:1]}, r"boxes is \(1, 4\)"),
        ({"visible": np.ones((2, 5), bool)}, r"visible is bool \(2, 5\)"),
    ],
)
def test_invalid_arguments_are_rejected_in_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        make_evaluation(**changes)


def test_invalid_predictions_are_rejected():
    with pytest.raises(InputError, match="pass arrays of the same shape"):
        evaluate_points(POINTS[:, :5], POINTS, scheme=SCHEME)
    with pytest.raises(InputError, match="visible point that is not finite"):
        evaluate_points(np.full_like(POINTS, np.nan), POINTS, scheme=SCHEME)
    with pytest.raises(InputError, match="predicted is empty"):
        evaluate_points({}, POINTS, scheme=SCHEME)
    faces = faces_in_memory()
    with pytest.raises(InputError, match="a FaceSet already has them"):
        evaluate_points(faces.points, faces, scheme=MTFL_5)


def test_nan_points_are_ignored_and_boxes_default_to_the_tight_ones():
    target = POINTS.copy()
    target[0, 5] = np.nan
    evaluation = evaluate_points(POINTS + OFFSETS, target, scheme=SCHEME)
    visible = np.isfinite(target).all(-1)
    expected = loop_nme(POINTS + OFFSETS, [np.sqrt(12 * 6), np.sqrt(24 * 20)], visible)
    np.testing.assert_allclose(evaluation.errors["box-size"], 100 * np.array(expected), rtol=1e-5)


def test_a_localizer_is_measured_with_given_and_jittered_boxes():
    faces, localizer = faces_in_memory(), FixedLocalizer()
    evaluation = evaluate(localizer, faces, jitter=0.1, seed=4)
    assert evaluation.conditions == ("landmarks boxes", "boxes jittered by 10%")
    assert evaluation.stages == ("stage 1", "stage 2")
    np.testing.assert_array_equal(
        localizer.received_boxes[1], jitter_boxes(localizer.received_boxes[0], fraction=0.1, seed=4)
    )
    middle = (faces.boxes[:, None, :2] + faces.boxes[:, None, 2:]) / 2
    # The last stage, without jitter.
    np.testing.assert_allclose(evaluation.points, np.repeat(middle, 5, axis=1), atol=1e-3)
    distances = np.linalg.norm(evaluation.points - faces.points, axis=-1).mean(1)
    eyes = np.linalg.norm(faces.points[:, 0] - faces.points[:, 1], axis=1)
    np.testing.assert_allclose(evaluation.errors["inter-ocular"], 100 * distances / eyes, rtol=1e-4)
    jittered = evaluation.select(condition="boxes jittered by 10%", stage="stage 1")
    assert jittered.nme["inter-ocular"] != evaluation.select(stage="stage 1").nme["inter-ocular"]
    assert [row["subset"] for row in evaluation.by("subset")] == ["a", "b"]
    assert [row["faces"] for row in evaluation.by("attribute")] == [2]
    assert evaluation.median_offset == median_offset(evaluation.points, faces.points, faces.visible)
    for kind in ("stage", "condition"):
        with pytest.raises(InputError, match=f"no {kind} is called 'x': use one of"):
            evaluation.select(**{kind: "x"})
    with pytest.raises(InputError, match="no group is called 'x': use one of subset, pose, attribute"):
        evaluation.by("x")
    with pytest.raises(InputError, match="'iod' was not measured: use one of inter-ocular"):
        evaluation.by("pose", metric="iod")


def test_a_wrong_localizer_or_wrong_faces_are_rejected():
    with pytest.raises(InputError, match="the localizer is 'w300': pass a Localizer"):
        evaluate("w300", faces_in_memory())
    with pytest.raises(InputError, match="the faces are an array float32"):
        evaluate(FixedLocalizer(), POINTS)
    with pytest.raises(InputError, match=r"predicts 5 points \(mtfl5\), dots has 68 \(ibug68\)"):
        evaluate(FixedLocalizer(), dataclasses.replace(faces_in_memory(), scheme=IBUG_68))
    with pytest.raises(
        InputError, match=r"jitter=0.6 would move boxes outside their face crops: pass a value from 0 to 0.5"
    ):
        evaluate(FixedLocalizer(), faces_in_memory(), jitter=0.6)


@pytest.mark.slow
def test_the_report_is_written_and_the_plot_shows_the_curves(tmp_path):
    evaluation = evaluate(FixedLocalizer(), faces_in_memory(), jitter=0.1)
    index = evaluation.report(tmp_path / "report", title="My model", details={"model": "fixed"})
    assert index == tmp_path / "report" / "index.html"
    assert "My model" in index.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == evaluation.to_dict()["results"]
    figure = evaluation.plot(metric="box-size")
    assert len(figure.axes[0].lines) == 4
    assert figure.axes[0].get_xlabel() == "NME by box-size (%)"


def test_an_evaluation_is_a_value():
    evaluation = make_evaluation()
    assert pickle.loads(pickle.dumps(evaluation)) == evaluation
    assert evaluation != make_evaluation(name="others")
    assert len(evaluation) == 2


def make_pair(count=400, photos=None):
    """Return two evaluations of the same faces: the second is better by about 0.1 pixels."""
    rng = np.random.default_rng(3)
    target = np.repeat(FACE[None], count, axis=0)
    errors = rng.gamma(2.0, 0.5, count)
    better = errors - 0.1 + rng.normal(0, 0.3, count)
    direction = np.float32([1.0, 0.0])
    evaluations = [
        evaluate_points(target + (size[:, None, None] * direction).astype(np.float32), target, scheme=SCHEME)
        for size in (errors, np.abs(better))
    ]
    if photos is not None:
        evaluations = [
            dataclasses.replace(evaluation, faces=dataclasses.replace(evaluation.faces, photos=photos))
            for evaluation in evaluations
        ]
    return evaluations


@pytest.mark.slow
def test_a_comparison_agrees_with_scipy():
    first, second = make_pair()
    comparison = first.compare(second)
    differences = second.errors["inter-ocular"] - first.errors["inter-ocular"]
    assert comparison.difference == pytest.approx(differences.mean())
    np.testing.assert_allclose(comparison.differences, differences)
    reference = scipy.stats.bootstrap((differences,), np.mean, method="percentile", rng=np.random.default_rng(0))
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert comparison.low == pytest.approx(reference.confidence_interval.low, abs=0.05 * width)
    assert comparison.high == pytest.approx(reference.confidence_interval.high, abs=0.05 * width)
    by_t = scipy.stats.ttest_1samp(differences, 0).confidence_interval()
    assert (comparison.low, comparison.high) == pytest.approx((by_t.low, by_t.high), abs=0.1 * width)
    assert comparison.smaller == (differences < 0).mean()
    assert comparison.low < comparison.high < 0
    assert "which excludes 0" in str(comparison)
    assert "which includes 0" in str(first.compare(first))
    assert first.compare(second) == comparison  # the same seed
    np.testing.assert_allclose(
        comparison.landmarks, second.landmarks["inter-ocular"] - first.landmarks["inter-ocular"], atol=1e-12
    )


@pytest.mark.slow
def test_faces_of_one_photo_are_resampled_together():
    """Four copies of each face in one photo do not narrow the interval."""
    values = np.random.default_rng(5).normal(size=100)
    once = bootstrap_interval(values, np.arange(100), seed=0)
    same_photo = bootstrap_interval(np.repeat(values, 4), np.repeat(np.arange(100), 4), seed=0)
    separate = bootstrap_interval(np.repeat(values, 4), np.arange(400), seed=0)
    assert same_photo == pytest.approx(once)
    assert separate[1] - separate[0] == pytest.approx((once[1] - once[0]) / 2, rel=0.1)


def test_evaluations_of_different_faces_cannot_be_compared():
    first, second = make_pair(30)
    with pytest.raises(InputError, match=r"different faces \(30 and 2\)"):
        first.compare(make_evaluation())
    shifted = dataclasses.replace(second, faces=dataclasses.replace(second.faces, points=second.faces.points + 1))
    with pytest.raises(InputError, match="different annotated points"):
        first.compare(shifted)
    with pytest.raises(InputError, match="'iod' was not measured"):
        first.compare(second, metric="iod")


def test_a_comparison_leaves_out_faces_that_either_evaluation_could_not_measure():
    second = make_evaluation(metrics=[lambda predicted, faces: [np.nan, 0.5]])
    first = make_evaluation(metrics=[lambda predicted, faces: [0.1, 0.2]])
    comparison = first.compare(second)
    assert np.isnan(comparison.differences).tolist() == [True, False]
    assert (comparison.first, comparison.second) == pytest.approx((20.0, 50.0))


def test_bin_labels():
    angles = np.array([-90, -30.5, -30, 0, 29.9, 30, 90, np.nan, -91], np.float32)
    assert bin_labels(angles, [-90, -30, 30, 90]) == [
        "-90° to -30°", "-90° to -30°", "-30° to 30°", "-30° to 30°", "-30° to 30°", "30° to 90°",
        "other", "other", "other",
    ]  # fmt: skip
    with pytest.raises(InputError, match="increasing"):
        bin_labels(angles, [30, -30])


MODULES = ("measures", "groups", "registry", "table", "evaluation", "measuring")
EXAMPLES = """
import doctest, importlib
for name in {modules!r}:
    module = importlib.import_module("wing_jax.evaluation." + name)
    result = doctest.testmod(module)
    assert result.attempted and not result.failed, name
"""


@pytest.mark.slow
def test_the_examples_in_the_docstrings_run():
    """They run in a separate process because one of them registers a metric."""
    code = EXAMPLES.format(modules=MODULES)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


def test_a_registered_metric_keeps_its_unit_if_it_is_passed_as_a_function(request):
    request.addfinalizer(lambda: metrics.METRICS.remove("longest"))

    @metrics.register_metric(unit="pixels", threshold=3.0)
    def longest(predicted, faces):
        return np.linalg.norm(predicted - faces.points, axis=-1).max(1)

    by_function, by_name = (make_evaluation(metrics=[metric]) for metric in (longest, "longest"))
    assert str(by_function) == str(by_name)
    assert by_function.failure_rate == by_name.failure_rate
    assert by_function.failure_rate.keys() == {"longest"}
    assert metrics.as_metric(longest).unit == "pixels"
    assert metrics.as_metric(lambda predicted, faces: [0.0, 0.0]).unit == "%"


@pytest.mark.slow
def test_an_equal_scheme_is_no_conversion(tmp_path):
    """A model has its own copy of the scheme of the data."""
    localizer = Localizer.load(save_tiny_model(tmp_path / "five"))
    faces = load_faces("synthetic", "test", count=2, scheme="mtfl5")
    equal = dataclasses.replace(faces, scheme=dataclasses.replace(MTFL_5, about="a copy"))
    assert not [remark for remark in evaluate(localizer, equal).remarks if "converted" in remark]
