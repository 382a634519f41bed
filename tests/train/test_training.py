"""`wing-jax train` on synthetic faces: complete, killed and resumed, diverged, and with wrong arguments."""

import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support.workshop import EVERY, STEPS, finish, furnish, kill_after, logged, start, weights
from wing_jax.balance import hsm, official_hsm
from wing_jax.cli import main
from wing_jax.config_files import load_config
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces
from wing_jax.data.readers.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import mesh_of, recipe_of, settings_of
from wing_jax.from_config.replay import replay
from wing_jax.from_config.train import first_setup, record_of, sources_of, train, training_data
from wing_jax.geometry import crop_of_box
from wing_jax.inference.localizer import Localizer
from wing_jax.models import TINY
from wing_jax.runtime.locks import exclusive_access
from wing_jax.schemes import MTFL_5
from wing_jax.train import crops
from wing_jax.train.fit import fit
from wing_jax.train.loop import DivergedError
from wing_jax.train.setup import make_runner, write_divergence
from wing_jax.train.spec import StageSpec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    furnish(folder)
    return folder


def file_states(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *sorted(folder.rglob("*"))]}


@pytest.fixture(scope="module")
def states_of_data(workshop):
    """The states of the files of the data before the first training."""
    return file_states(workshop / "faces")


@pytest.fixture(scope="module")
def stopped(workshop, states_of_data):
    """The folder of a run that was killed in stage 1, resumed, and terminated in stage 2, and the errors it printed."""
    folder = workshop / "runs" / "stopped"
    kill_after(start(workshop, "stopped"), folder / "stage1", EVERY + 20)
    assert EVERY < logged(folder / "stage1")[-1]["step"] < STEPS[1]
    return folder, kill_after(start(workshop, "stopped"), folder / "stage2", 20, by=signal.SIGTERM)


@pytest.fixture(scope="module")
def stopped_at(stopped):
    """The step of stage 2 at which the run was terminated."""
    folder, _ = stopped
    step = logged(folder / "stage2")[-1]["step"]
    assert (folder / "stage2" / "checkpoints" / str(step) / "checksums.json").exists()
    return step


@pytest.fixture(scope="module")
def trained(workshop, stopped_at):
    """The folder of an uninterrupted run. The same process ends the stopped one."""
    assert finish(start(workshop, "complete", "stopped")).count("wing-jax evaluate") == 2
    return workshop / "runs" / "complete"


def expected_steps(number):
    return sorted({*range(20, STEPS[number] + 1, 20), *range(EVERY, STEPS[number] + 1, EVERY)})


@pytest.mark.parametrize("number", [1, 2])
def test_the_log_has_every_step_once(trained, number):
    lines = logged(trained / f"stage{number}")
    assert [line["step"] for line in lines] == expected_steps(number)
    for line in lines:
        assert ("validation_nme" in line) == (line["step"] % EVERY == 0)
        assert {"loss", "nme", "gradient_norm", "faces_per_second"} <= line.keys()
    assert list((trained / f"stage{number}").glob("events.out.tfevents*"))


def test_the_loss_falls(trained):
    lines = logged(trained / "stage1")
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert lines[-1]["validation_nme"] < lines[1]["validation_nme"]


def test_the_error_on_test_faces_is_well_below_that_of_the_mean_shape(workshop, trained):
    localizer = Localizer.load(trained)
    faces = read_w300(workshop / "faces", "test")
    face_crops = crop_faces(faces, size=localizer.stages[-1].face_crop_size)
    stage1, stage2 = localizer.locate(face_crops.images, face_crops.boxes)
    transforms = crop_of_box(face_crops.boxes, size=1, margin=1.0)
    mean = crops.points_in_crops(face_crops.points, transforms).mean(0, keepdims=True)  # of the test faces themselves
    mean_shapes = np.einsum("nij,npj->npi", transforms[..., :2], np.broadcast_to(mean, face_crops.points.shape))
    mean_shapes += transforms[:, None, :, 2]

    def error(points):
        return np.linalg.norm(points - face_crops.points, axis=-1).mean()

    assert error(stage1) < 0.8 * error(mean_shapes)
    assert error(stage2) < 0.8 * error(mean_shapes)


def test_a_run_killed_in_stage_1_and_terminated_in_stage_2_ends_with_the_same_bits(trained, stopped, stopped_at):
    folder, errors = stopped
    assert 20 < stopped_at <= STEPS[2]  # the running span was finished
    assert f"wing-jax: stage 2: stopped at step {stopped_at} of {STEPS[2]}, which is saved" in errors.splitlines()[-1]
    assert errors.rstrip().endswith("to resume: wing-jax train tiny.py --name stopped")
    uninterrupted, resumed = weights(trained), weights(folder)
    assert uninterrupted.keys() == resumed.keys()
    for name in uninterrupted:
        assert uninterrupted[name].tobytes() == resumed[name].tobytes(), name
    for number in (1, 2):
        lines = logged(folder / f"stage{number}")
        assert [line["step"] for line in lines] == expected_steps(number)
        for expected, line in zip(logged(trained / f"stage{number}"), lines, strict=True):
            assert {**expected, "faces_per_second": 0} == {**line, "faces_per_second": 0}


@pytest.fixture
def run_copy(workshop, trained, monkeypatch):
    """A copy of the finished run, without its record, to resume by any config in this process, where types are
    checked."""
    monkeypatch.chdir(workshop)
    copy = workshop / "runs" / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(trained, copy)
    (copy / "config.json").unlink()
    return copy


def error_of(capsys, *options):
    """Return the one-line error of a `wing-jax train` that fails with status 2."""
    with pytest.raises(SystemExit) as exit_info:
        main(["train", "tiny.py", "--name", "copy", *options])
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    error = lines.pop()
    assert error.startswith("wing-jax: ")
    assert not any("Traceback" in line or "Error" in line for line in lines)
    return error


def test_a_run_records_its_config_and_resumes_with_no_other(workshop, trained, capsys, monkeypatch):
    monkeypatch.chdir(workshop)
    assert load_config(trained / "config.json") == dataclasses.replace(load_config("tiny.py"), name=trained.name)
    with pytest.raises(SystemExit):
        main(["train", "tiny.py", "--name", trained.name, "--stage2.loss.params.width", "12"])
    assert re.search(
        r"was started with stage2\.loss\.params\.width='?10\.0'?, but is now '?12\.0'?: ", capsys.readouterr().err
    )


def test_a_finished_run_started_again_does_not_train(run_copy, capsys):
    def modification_times():
        files = [path for number in (1, 2) for path in (run_copy / f"stage{number}").rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in files}

    before, times = weights(run_copy), modification_times()
    assert {path.name for path in times} > {"metrics.jsonl", "checksums.json"}
    (run_copy / "model" / "weights.npz").unlink()
    main(["train", "tiny.py", "--name", "copy"])
    assert "model: runs/copy/model" in capsys.readouterr().out
    after = weights(run_copy)
    assert after.keys() == before.keys()
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)
    assert modification_times() == times


def resume(folder, faces, *, stage1=None, **changes):
    """Resume the run in `folder` with other faces, a changed first stage or a changed recipe."""
    recipe = recipe_of(load_config("tiny.py"))
    first, second = recipe.stages
    recipe = dataclasses.replace(recipe, stages=[dataclasses.replace(first, **stage1 or {}), second], **changes)
    return fit(faces, recipe, validation=0.2, folder=folder, device_count=1, quiet=True)


def faces_with_shifted_boxes(sides):
    """Return faces whose boxes are shifted right and down by `sides` of their larger side."""
    faces = read_w300("faces", "train")
    larger = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, keepdims=True)
    return dataclasses.replace(faces, boxes=faces.boxes + sides * larger)


def test_the_shift_of_boxes_is_measured_and_saved_in_the_bundle(run_copy):
    faces = faces_with_shifted_boxes(0.1)
    assert tuple(resume(run_copy, faces).localizer.stages[0].center) == (0, 0)
    (run_copy / "config.json").unlink()
    resume(run_copy, faces, stage1={"center": "shape"})
    localizer = Localizer.load(run_copy)
    first, second = localizer.stages
    assert localizer.metadata.shape_in_box.center == pytest.approx([-0.1, -0.1], abs=0.03)
    assert first.center == pytest.approx([-0.1, -0.1], abs=0.03)
    assert tuple(second.center) == (0, 0)


def test_boxes_that_miss_the_faces_are_refused(run_copy):
    with pytest.raises(InputError, match="stage 1's crops miss the faces"):
        resume(run_copy, faces_with_shifted_boxes(0.9))


def test_checkpoints_of_a_different_network_are_refused(run_copy, capsys):
    error = error_of(capsys, "--stage1.model.params.hidden", "24")
    assert "a different network" in error
    assert "--name" in error
    assert "12" in error
    assert "24" in error


def test_checkpoints_of_a_different_scheme_are_refused(run_copy):
    faces, five = read_w300("faces", "train"), [39, 42, 30, 48, 54]
    faces = dataclasses.replace(faces, scheme=MTFL_5, points=faces.points[:, five], visible=faces.visible[:, five])
    with pytest.raises(InputError, match=r"output.*136.*10"):
        resume(run_copy, faces, balance=None)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_earlier_checkpoints(run_copy, capsys):
    error = error_of(
        capsys, "--stage1.steps", str(STEPS[1] + EVERY), "--stage1.optimizer.learning_rate", "1e38",
        "--stage1.optimizer.final_learning_rate", "1e38",
    )  # fmt: skip
    assert "the loss is " in error
    step = int(error.split(" at step ")[1].split(":")[0])
    assert STEPS[1] < step <= STEPS[1] + EVERY
    checkpoints = {path.name for path in (run_copy / "stage1" / "checkpoints").iterdir()}
    assert str(STEPS[1]) in checkpoints
    assert not any(int(name) > STEPS[1] for name in checkpoints if name.isdigit())
    assert [line["step"] for line in logged(run_copy / "stage1")] == expected_steps(1)
    record = run_copy / "stage1" / f"diverged-{step}.json"
    assert f"wing-jax replay runs/copy/stage1/{record.name}" in error
    faces = json.loads(record.read_text())["faces"]
    assert len(faces) == 16
    assert all(Path(face["picture"]).exists() for face in faces)
    main(["replay", str(record), "--rows", "5"])
    output = capsys.readouterr().out
    assert f"step {step}: the loss is" in output
    assert f"the checkpoint of step {STEPS[1]}" in output
    assert re.search(r"nan|inf|e\+\d\d", output)
    assert sum(".png" in line and "│" in line for line in output.splitlines()) == 5
    assert len({face["picture"] for face in faces if face["picture"] in output}) >= 1
    assert record.with_suffix(".png").stat().st_size > 10_000
    record.write_text(record.read_text().replace('"input_size": 32', '"input_size": "32"', 1))
    with pytest.raises(SystemExit):
        main(["replay", str(record)])
    assert "expected int, got '32' @ config.stage1.input_size" in capsys.readouterr().err


@pytest.mark.parametrize(("source", "step"), [("device", 7), ("tfdata", 7)])
def test_replay_shows_the_batch_that_was_trained_on(run_copy, source, step):
    config = dataclasses.replace(load_config("tiny.py"), name="copy", input=source)
    shutil.rmtree(run_copy / "stage1" / "checkpoints")
    setup, run_record = first_setup(config, training_data(config)), record_of(config, config.folder)
    error = DivergedError(step, "loss", float("nan"))
    record = write_divergence(setup, error, run_copy / "stage1", run_record, seed=config.seed)
    result = replay(record)
    runner = make_runner(setup, settings_of(config, mesh_of(config)))
    _, metrics = runner.advance(runner.place(setup.state(seed=config.seed)), 0, step)
    total, count = jax.device_get(metrics["loss"])
    assert result.checkpoint == 0
    np.testing.assert_allclose(result.losses.sum(), total[step - 1], rtol=1e-4)
    assert count[step - 1] == 2 * result.visible.sum()
    norm = np.sqrt(sum(value**2 for value in result.gradients.values()))
    assert np.isfinite(norm)
    for face, picture in zip(setup.faces_of(step, seed=config.seed), result.pictures, strict=True):
        assert setup.names[face] == picture


def test_an_exploding_gradient_stops_the_run(run_copy):
    changes = {"steps": STEPS[1] + EVERY, "loss": lambda predicted, target: 1e9 * jnp.abs(predicted - target)}
    with pytest.raises(InputError, match=rf"stage 1: the gradient norm is .*e\+\d+ at step {STEPS[1] + 1}: lower"):
        resume(run_copy, read_w300("faces", "train"), stage1=changes)


class NanWhenPredicting(nn.Module):
    """A network with finite points in training and NaN in prediction."""

    points: int

    @nn.compact
    def __call__(self, images, *, train):
        predicted = nn.Dense(2 * self.points)(images.mean((1, 2)) / 255).reshape(len(images), -1, 2)
        return predicted if train else predicted * jnp.nan


def test_a_validation_nme_of_nan_stops_the_run_before_its_checkpoint(workshop, tmp_path):
    spec = StageSpec(
        model=NanWhenPredicting, optimizer=optax.sgd(1e-3), input_size=32, steps=8, batch_size=8, evaluate_every=8
    )
    faces = read_w300(workshop / "faces", "train").take(np.arange(24))
    with pytest.raises(InputError, match="the validation NME is nan at step 8"):
        fit(faces, spec, folder=tmp_path, device_count=1, quiet=True)
    assert not list((tmp_path / "stage1").glob("checkpoints/*"))


def test_a_second_run_in_the_same_folder_is_refused(run_copy, capsys):
    with exclusive_access(run_copy, verb="trains", hint="wait"):
        error = error_of(capsys)
    assert "another process trains in this folder" in error
    assert "--name" in error


@pytest.mark.usefixtures("trained")
def test_the_data_are_not_changed(workshop, states_of_data):
    assert file_states(workshop / "faces") == states_of_data


@pytest.mark.usefixtures("run_copy")
def test_a_batch_that_does_not_divide_over_the_devices_is_refused(capsys):
    assert "batch_size=15" in error_of(capsys, "--stage1.batch_size", "15", "--devices", "4")


@pytest.mark.usefixtures("run_copy")
def test_more_devices_than_exist_are_refused(capsys):
    assert "devices=64" in error_of(capsys, "--devices", "64")


@pytest.mark.usefixtures("run_copy")
def test_pmap_gives_the_result_of_jit():
    """A few steps of the complete loop over four devices."""
    options = ["--stage1.steps", "3", "--stage1.evaluate_every", "3", "--devices", "4", "--balance.method", "none"]
    options += ["--stage1.model.params.channels", "4", "--stage1.model.params.hidden", "8"]
    losses = []
    for parallel in ("jit", "pmap"):
        config = dataclasses.replace(small_config(options), name=parallel, parallel=parallel)
        train(config)
        losses.append(logged(Path("runs") / parallel / "stage1")[-1])
    for name in ("loss", "nme", "validation_nme"):
        assert losses[0][name] == pytest.approx(losses[1][name], rel=1e-4)


@pytest.mark.usefixtures("run_copy")
@pytest.mark.parametrize("source", ["device", "tfdata"])
def test_nothing_is_compiled_after_the_first_validations(source):
    options = ["--stage1.model.params.channels", "4", "--stage1.model.params.hidden", "8", "--stage1.steps", "24"]
    options += ["--stage1.evaluate_every", "4", "--input", source, "--balance.method", "none"]
    config, compilations, counts = small_config(options), [], []

    def listener(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        fit(
            sources_of(config),
            recipe_of(config),
            validation=config.data.validation,
            folder=Path("runs") / source,
            device_count=1,
            input=source,
            quiet=True,
            callbacks=[lambda progress: counts.append(len(compilations))],
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert len(counts) == 6
    assert counts[2] == counts[-1] > 0


@pytest.mark.usefixtures("run_copy")
def test_faces_stored_as_jpeg_give_nearly_the_same_training(capsys):
    options = ["--stage1.steps", "20", "--input", "tfdata", "--balance.method", "none"]
    errors = []
    for store in ("pixels", "jpeg"):
        train(dataclasses.replace(small_config([*options, "--data.store", store]), name=store))
        errors.append(logged(Path("runs") / store / "stage1")[-1]["validation_nme"])
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert errors[0] != errors[1]
    assert 'store="jpeg" is decoded by the CPU: set input="tfdata"' in error_of(capsys, "--data.store", "jpeg")


def small_config(options):
    from wing_jax.cli.options import parse
    from wing_jax.config import Config
    from wing_jax.config_files import load_config

    return dataclasses.replace(parse(Config, options, command="train", default=load_config("tiny.py")), stage2=None)


def test_balancing_of_too_few_faces_for_a_pose_axis_is_refused_in_one_line():
    few = load_faces("synthetic", "train", count=3)
    for balance in (hsm(), official_hsm()):
        with pytest.raises(InputError, match="the balancing does not work on synthetic faces: "):
            fit(few, StageSpec(model=TINY, input_size=32, steps=1, batch_size=1), balance=balance, device_count=1)
