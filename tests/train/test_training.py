"""The real thing, small: `wing-jax train` on synthetic faces, killed, resumed, diverged, misused."""

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
from wing_jax.config import load_config
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces
from wing_jax.data.readers.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import mesh_of, recipe_of, settings_of
from wing_jax.from_config.replay import replay
from wing_jax.from_config.train import first_setup, record_of, train, training_data
from wing_jax.geometry import crop_of_box
from wing_jax.inference.localizer import Localizer
from wing_jax.models import TINY
from wing_jax.runtime.locks import only_writer
from wing_jax.schemes import MTFL_5
from wing_jax.train import crops
from wing_jax.train.fit import fit
from wing_jax.train.loop import DivergedError
from wing_jax.train.setup import make_runner, write_divergence
from wing_jax.train.spec import StageSpec


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    furnish(folder)
    return folder


@pytest.fixture(scope="module")
def both(workshop):
    """Folders of a run that nobody disturbed and, beside it, of one that was killed in mid-stage 1."""
    whole, killed = start(workshop, "whole"), start(workshop, "killed")
    kill_after(killed, workshop / "runs" / "killed" / "stage1", EVERY + 20)
    assert "wing-jax evaluate" in finish(whole)
    return workshop / "runs" / "whole", workshop / "runs" / "killed"


@pytest.fixture(scope="module")
def trained(both):
    return both[0]


def expected_steps(number):
    return sorted({*range(20, STEPS[number] + 1, 20), *range(EVERY, STEPS[number] + 1, EVERY)})


@pytest.mark.parametrize("number", [1, 2])
def test_log_holds_every_step_once(trained, number):
    lines = logged(trained / f"stage{number}")
    assert [line["step"] for line in lines] == expected_steps(number)
    for line in lines:
        assert ("validation_nme" in line) == (line["step"] % EVERY == 0)
        assert {"loss", "nme", "gradient_norm", "faces_per_second"} <= line.keys()
    assert list((trained / f"stage{number}").glob("events.out.tfevents*"))


def test_loss_falls(trained):
    lines = logged(trained / "stage1")
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert lines[-1]["validation_nme"] < lines[1]["validation_nme"]


def test_faces_never_seen_are_marked_far_better_than_by_the_mean_shape(workshop, trained):
    localizer = Localizer.load(trained)
    faces = read_w300(workshop / "faces", "test")
    face_crops = crop_faces(faces, size=localizer.stages[-1].face_crop_size)
    stage1, stage2 = localizer.locate(face_crops.images, face_crops.boxes)
    transforms = crop_of_box(face_crops.boxes, size=1, margin=1.0)
    mean = crops.points_in_crops(face_crops.points, transforms).mean(
        0, keepdims=True
    )  # even of the very faces to be marked
    standing = np.einsum("nij,npj->npi", transforms[..., :2], np.broadcast_to(mean, face_crops.points.shape))
    standing += transforms[:, None, :, 2]

    def error(points):
        return np.linalg.norm(points - face_crops.points, axis=-1).mean()

    assert error(stage1) < 0.8 * error(standing)
    assert error(stage2) < 0.8 * error(standing)


def test_run_killed_in_the_first_stage_and_terminated_in_the_second_ends_with_the_same_bits(workshop, both):
    trained, folder = both
    assert EVERY < logged(folder / "stage1")[-1]["step"] < STEPS[1]
    terminated = start(workshop, "killed")
    said = kill_after(terminated, folder / "stage2", 20, by=signal.SIGTERM)
    step = logged(folder / "stage2")[-1]["step"]
    assert 20 < step <= STEPS[2]  # the span at hand is finished
    assert f"wing-jax: stage 2: stopped at step {step} of {STEPS[2]}, which is saved" in said.splitlines()[-1]
    assert said.rstrip().endswith("to resume: wing-jax train tiny.py --name killed")
    assert (folder / "stage2" / "checkpoints" / str(step) / "seal.json").exists()
    finish(start(workshop, "killed"))
    undisturbed, resumed = weights(trained), weights(folder)
    assert undisturbed.keys() == resumed.keys()
    for name in undisturbed:
        assert undisturbed[name].tobytes() == resumed[name].tobytes(), name
    for number in (1, 2):
        lines = logged(folder / f"stage{number}")
        assert [line["step"] for line in lines] == expected_steps(number)
        for ours, theirs in zip(logged(trained / f"stage{number}"), lines, strict=True):
            assert {**ours, "faces_per_second": 0} == {**theirs, "faces_per_second": 0}


@pytest.fixture
def here(workshop, trained, monkeypatch):
    """To go on with in this process, where types are checked: a copy of the finished run, by any config."""
    monkeypatch.chdir(workshop)
    copy = workshop / "runs" / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(trained, copy)
    (copy / "config.json").unlink()
    return copy


def refuse(capsys, *options):
    """The one line that `wing-jax train` answers; its status is 2."""
    with pytest.raises(SystemExit) as stopped:
        main(["train", "tiny.py", "--name", "copy", *options])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    complaint = lines.pop()
    assert complaint.startswith("wing-jax: ")
    assert not any("Traceback" in line or "Error" in line for line in lines)
    return complaint


def test_a_run_says_by_what_config_it_was_begun_and_goes_on_by_no_other(workshop, trained, capsys, monkeypatch):
    monkeypatch.chdir(workshop)
    assert load_config(trained / "config.json") == dataclasses.replace(load_config("tiny.py"), name=trained.name)
    with pytest.raises(SystemExit):
        main(["train", "tiny.py", "--name", trained.name, "--stage2.loss.params.width", "12"])
    assert re.search(
        r"was begun with stage2\.loss\.params\.width='?10\.0'?, and now it is '?12\.0'?: ", capsys.readouterr().err
    )


def test_finished_run_started_again_does_not_train(here, capsys):
    def written():
        files = [path for number in (1, 2) for path in (here / f"stage{number}").rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in files}

    before, trained = weights(here), written()
    assert {path.name for path in trained} > {"metrics.jsonl", "seal.json"}
    (here / "model" / "weights.npz").unlink()
    main(["train", "tiny.py", "--name", "copy"])
    assert "model: runs/copy/model" in capsys.readouterr().out
    again = weights(here)
    assert again.keys() == before.keys()
    assert all(again[name].tobytes() == before[name].tobytes() for name in before)
    assert written() == trained


def go_on(here, faces, *, stage1=None, **recipe):
    """Go on with the run in `here` on other faces, or by another first stage."""
    given = recipe_of(load_config("tiny.py"))
    first, second = given.stages
    recipe = dataclasses.replace(given, stages=[dataclasses.replace(first, **stage1 or {}), second], **recipe)
    return fit(faces, recipe, validation=0.2, folder=here, device_count=1, quiet=True)


def faces_with_boxes_moved(sides):
    """Faces with boxes that lie `sides` of their larger side right of and below their own."""
    faces = read_w300("faces", "train")
    larger = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, keepdims=True)
    return dataclasses.replace(faces, boxes=faces.boxes + sides * larger)


def test_boxes_off_the_faces_are_measured_and_the_bundle_says_by_how_much(here):
    faces = faces_with_boxes_moved(0.1)
    assert tuple(go_on(here, faces).localizer.stages[0].center) == (0, 0)
    (here / "config.json").unlink()
    go_on(here, faces, stage1={"center": "shape"})
    localizer = Localizer.load(here)
    first, second = localizer.stages
    assert localizer.metadata.shape_in_box.center == pytest.approx([-0.1, -0.1], abs=0.03)
    assert first.center == pytest.approx([-0.1, -0.1], abs=0.03)
    assert tuple(second.center) == (0, 0)


def test_boxes_beside_the_faces_are_refused(here):
    with pytest.raises(InputError, match="stage 1's crops miss the faces"):
        go_on(here, faces_with_boxes_moved(0.9))


def test_another_network_in_an_old_folder_is_refused(here, capsys):
    complaint = refuse(capsys, "--stage1.model.params.hidden", "24")
    assert "another network" in complaint
    assert "--name" in complaint
    assert "32" in complaint
    assert "24" in complaint


def test_another_scheme_in_an_old_folder_is_refused(here):
    faces, five = read_w300("faces", "train"), [39, 42, 30, 48, 54]
    faces = dataclasses.replace(faces, scheme=MTFL_5, points=faces.points[:, five], visible=faces.visible[:, five])
    with pytest.raises(InputError, match=r"output.*136.*10"):
        go_on(here, faces, balance=None)


def test_loss_that_is_not_finite_stops_the_run_and_keeps_what_was(here, capsys):
    complaint = refuse(
        capsys, "--stage1.steps", str(STEPS[1] + EVERY), "--stage1.optimizer.learning_rate", "1e38",
        "--stage1.optimizer.final_learning_rate", "1e38",
    )  # fmt: skip
    assert "the loss is " in complaint
    step = int(complaint.split(" at step ")[1].split(":")[0])
    assert STEPS[1] < step <= STEPS[1] + EVERY
    kept = {path.name for path in (here / "stage1" / "checkpoints").iterdir()}
    assert str(STEPS[1]) in kept
    assert not any(int(name) > STEPS[1] for name in kept if name.isdigit())
    assert [line["step"] for line in logged(here / "stage1")] == expected_steps(1)
    record = here / "stage1" / f"diverged-{step}.json"
    assert f"wing-jax replay runs/copy/stage1/{record.name}" in complaint
    faces = json.loads(record.read_text())["faces"]
    assert len(faces) == 16
    assert all(Path(face["picture"]).exists() for face in faces)
    main(["replay", str(record), "--rows", "5"])
    said = capsys.readouterr().out
    assert f"step {step}: the loss is" in said
    assert f"the checkpoint of step {STEPS[1]}" in said
    assert re.search(r"nan|inf|e\+\d\d", said)
    assert sum(".png" in line and "│" in line for line in said.splitlines()) == 5
    assert len({face["picture"] for face in faces if face["picture"] in said}) >= 1
    assert record.with_suffix(".png").stat().st_size > 10_000
    record.write_text(record.read_text().replace('"input_size": 32', '"input_size": "32"', 1))
    with pytest.raises(SystemExit):
        main(["replay", str(record)])
    assert "expected int, got '32' @ config.stage1.input_size" in capsys.readouterr().err


@pytest.mark.parametrize(("source", "step"), [("device", 7), ("tfdata", 7)])
def test_replay_shows_the_batch_that_was_trained_on(here, source, step):
    config = dataclasses.replace(load_config("tiny.py"), name="copy", input=source)
    shutil.rmtree(here / "stage1" / "checkpoints")
    setup, known = first_setup(config, training_data(config)), record_of(config, config.folder)
    record = write_divergence(
        setup, DivergedError(step, "loss", float("nan")), here / "stage1", known, seed=config.seed
    )
    found = replay(record)
    runner = make_runner(setup, settings_of(config, mesh_of(config)))
    _, metrics = runner.advance(runner.place(setup.state(seed=config.seed)), 0, step)
    total, count = jax.device_get(metrics["loss"])
    assert found.checkpoint == 0
    np.testing.assert_allclose(found.losses.sum(), total[step - 1], rtol=1e-4)
    assert count[step - 1] == 2 * found.visible.sum()
    norm = np.sqrt(sum(value**2 for value in found.gradients.values()))
    assert np.isfinite(norm)
    for index, picture in enumerate(found.pictures):  # what was drawn as face n stands in the file n.png
        which = setup.faces_of(step, seed=config.seed)[index]
        assert setup.names[which] == picture


def test_gradient_that_explodes_stops_the_run(here):
    steep = {"steps": STEPS[1] + EVERY, "loss": lambda predicted, target: 1e9 * jnp.abs(predicted - target)}
    with pytest.raises(InputError, match=rf"stage 1: the gradient norm is .*e\+\d+ at step {STEPS[1] + 1}: lower"):
        go_on(here, read_w300("faces", "train"), stage1=steep)


class LostWhenMeasured(nn.Module):
    """It trains, and predicts nothing that is a number."""

    points: int

    @nn.compact
    def __call__(self, images, *, train):
        answer = TINY(points=self.points)(images, train=train)
        return answer if train else answer * jnp.nan


def test_validation_that_is_no_number_stops_the_run_before_its_checkpoint(workshop, tmp_path):
    spec = StageSpec(
        model=LostWhenMeasured, optimizer=optax.sgd(1e-3), input_size=32, steps=8, batch_size=8, evaluate_every=8
    )
    faces = read_w300(workshop / "faces", "train").take(np.arange(24))
    with pytest.raises(InputError, match="the validation NME is nan at step 8"):
        fit(faces, spec, folder=tmp_path, device_count=1, quiet=True)
    assert not list((tmp_path / "stage1").glob("checkpoints/*"))


def test_two_runs_in_one_folder_the_second_is_refused(here, capsys):
    with only_writer(here, doing="trains", instead="wait"):
        complaint = refuse(capsys)
    assert "another process trains here" in complaint
    assert "--name" in complaint


def test_data_are_only_read(here, workshop):
    def all_of(folder):
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *sorted(folder.rglob("*"))]}

    before = all_of(workshop / "faces")
    shutil.rmtree(here / "stage2")
    main(["train", "tiny.py", "--name", "copy", "--stage2.steps", "20"])
    assert all_of(workshop / "faces") == before


def test_batch_that_does_not_divide_over_the_devices_is_refused(here, capsys):
    assert "batch_size=15" in refuse(capsys, "--stage1.batch_size", "15", "--devices", "4")


def test_more_devices_than_there_are_is_refused(here, capsys):
    assert "devices=64" in refuse(capsys, "--devices", "64")


def test_pmap_trains_what_jit_trains(here):
    """A few steps of the whole loop by each, over four devices."""
    options = ["--stage1.steps", "3", "--stage1.evaluate_every", "3", "--devices", "4", "--balance.method", "none"]
    options += ["--stage1.model.params.channels", "4", "--stage1.model.params.hidden", "8"]
    losses = []
    for parallel in ("jit", "pmap"):
        config = dataclasses.replace(small_config(options), name=parallel, parallel=parallel)
        train(config)
        losses.append(logged(Path("runs") / parallel / "stage1")[-1])
    for name in ("loss", "nme", "validation_nme"):
        assert losses[0][name] == pytest.approx(losses[1][name], rel=1e-4)


@pytest.mark.parametrize("way", ["device", "tfdata"])
def test_a_longer_training_compiles_no_more_than_a_short_one(here, way):
    compiled = []

    def hear(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    options = [
        "--stage1.model.params.channels",
        "4",
        "--stage1.model.params.hidden",
        "8",
        "--stage1.evaluate_every",
        "20",
    ]
    options += ["--input", way, "--balance.method", "none"]
    counts = []
    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        for number, steps in enumerate((20, 20, 80)):  # what the first one compiles, the others may find
            config = small_config([*options, "--stage1.steps", str(steps)])
            train(dataclasses.replace(config, name=f"{way}-{number}"))
            counts.append(len(compiled) - sum(counts))
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)
    assert counts[0] >= counts[1] == counts[2] > 0


def test_faces_held_as_jpeg_train_as_their_pixels_do(here, capsys):
    options = ["--stage1.steps", "40", "--input", "tfdata", "--balance.method", "none"]
    errors = []
    for held in ("pixels", "jpeg"):
        train(dataclasses.replace(small_config([*options, "--data.store", held]), name=held))
        errors.append(logged(Path("runs") / held / "stage1")[-1]["validation_nme"])
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert errors[0] != errors[1]
    assert 'data.store="jpeg" is decoded by the CPU: set input to "tfdata"' in refuse(capsys, "--data.store", "jpeg")


def small_config(options):
    from wing_jax.cli.options import parse
    from wing_jax.config import Config, load_config

    return dataclasses.replace(parse(Config, options, command="train", default=load_config("tiny.py")), stage2=None)


def test_balancing_what_has_no_pose_axis_is_refused_in_one_line():
    few = load_faces("synthetic", "train", count=3)
    for balance in (hsm(), official_hsm()):
        with pytest.raises(InputError, match="the balancing does not work on synthetic faces: "):
            fit(few, StageSpec(model=TINY, input_size=32, steps=1, batch_size=1), balance=balance, device_count=1)
