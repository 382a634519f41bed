"""`wing_jax.fit`: training from objects, in memory and in a folder."""

import os
import signal
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax import augment, losses
from wing_jax.balance import hsm
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.models import PlainRegressor
from wing_jax.train.fit import fit
from wing_jax.train.spec import Recipe, StageSpec

SMALL = partial(PlainRegressor, channels=(4,), hidden=8)
AUGMENT = (augment.rotation(5), augment.flip())


class Linear(nn.Module):
    """A user's module: without a `train` argument, a dtype or a `start_at` method."""

    points: int = 68

    @nn.compact
    def __call__(self, images):
        x = nn.avg_pool(images.astype(jnp.float32) / 255, (4, 4), (4, 4)).reshape(len(images), -1)
        return nn.Dense(2 * self.points)(x).reshape(-1, self.points, 2)


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "train", count=24)


def stage(**changes):
    defaults = {"model": Linear, "optimizer": optax.adam(1e-2), "input_size": 32, "steps": 8, "batch_size": 8}
    return StageSpec(**{**defaults, "augment": (), **changes})


def train(faces, stages, **settings):
    return fit(faces, stages, **{"quiet": True, "device_count": 1, **settings})


def leaves(result):
    return [np.asarray(leaf) for stage in result.localizer.stages for leaf in jax.tree.leaves(stage.variables)]


@pytest.mark.slow
def test_fit_without_a_folder_writes_nothing(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = train(faces, stage())
    assert result.folder is None
    assert not result.interrupted
    assert [row["step"] for row in result.history if "validation_nme" in row] == list(range(1, 9))
    assert result.validation_nme == min(row["validation_nme"] for row in result.history)
    assert not list(tmp_path.iterdir())
    assert result.localizer.predict(faces.picture(0), faces.boxes[:1]).shape == (1, 68, 2)


@pytest.mark.slow
def test_a_users_network_and_loss_are_used_unchanged(faces):
    shapes = []

    def loss(predicted, target):
        shapes.append(predicted.shape)
        return jnp.abs(predicted - target) ** 1.5

    result = train(faces, stage(model=Linear(), loss=loss, optimizer=optax.sgd(1e-4), ema=0.0))
    assert (8, 68, 2) in shapes
    assert jax.tree.structure(result.localizer.stages[0].variables["params"]) == jax.tree.structure(
        {"Dense_0": {"bias": 0, "kernel": 0}}
    )


@pytest.mark.slow
def test_a_users_loss_is_in_pixels_of_the_crop_and_a_built_in_one_is_rescaled(faces):
    errors = {}
    for size in (32, 64):
        spec = stage(input_size=size, loss=losses.wing_loss)
        predicted, target = jnp.full((1, 68, 2), size / 16), jnp.zeros((1, 68, 2))
        errors[size] = float(spec.scaled_loss()(predicted, target)[0, 0, 0])
        with_function = stage(input_size=size, loss=lambda p, t: jnp.abs(p - t))
        assert float(with_function.scaled_loss()(predicted, target)[0, 0, 0]) == size / 16
    assert errors[32] == pytest.approx(errors[64])
    assert errors[64] == pytest.approx(10 * np.log1p(4 / 2))


@pytest.mark.slow
def test_two_stages_and_a_recipe(faces):
    stages = [stage(model=SMALL, augment=AUGMENT), stage(model=SMALL, steps=4, crops_per_face=2)]
    result = train(faces, Recipe(stages=stages, balance=hsm(bins=3, cap=3)))
    assert len(result.localizer.stages) == 2
    assert {row["stage"] for row in result.history} == {1, 2}
    assert result.localizer.predict(faces.picture(0), faces.boxes[:1]).shape == (1, 68, 2)


@pytest.mark.slow
def test_callbacks_see_the_progress_and_can_end_a_stage(faces):
    calls = []

    def stop_at_four(progress):
        calls.append((progress.stage, progress.step))
        return progress.step >= 4

    result = train(faces, [stage(model=SMALL), stage(model=SMALL, steps=3, crops_per_face=1)], callbacks=[stop_at_four])
    assert max(step for number, step in calls if number == 1) == 4
    assert max(step for number, step in calls if number == 2) == 3  # a callback ends its own stage only
    assert result.history[-1]["step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory", "folder"])
def test_ctrl_c_returns_the_result_so_far(faces, tmp_path, storage):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it

    def interrupt(progress):
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "run" if storage == "folder" else None
    stages = [stage(model=SMALL), stage(model=SMALL, crops_per_face=1)]
    result = train(faces, stages, callbacks=[interrupt], folder=folder)
    assert result.interrupted
    assert len(result.localizer.stages) == 1
    assert 3 <= result.history[-1]["step"] < 8
    if folder:
        assert not (folder / "model").exists()
        resumed = train(faces, stages, folder=folder)
        assert not resumed.interrupted
        assert [row["step"] for row in resumed.history if row["stage"] == 1] == list(range(1, 9))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_training_resumes_bit_for_bit(faces, tmp_path, capsys):
    spec = stage(model=SMALL, augment=AUGMENT)
    uninterrupted = train(faces, spec, folder=tmp_path / "uninterrupted")
    train(faces, spec, folder=tmp_path / "resumed", callbacks=[lambda progress: progress.step >= 4])
    resumed = train(faces, spec, folder=tmp_path / "resumed", quiet=False)
    assert "stage 1: resumed from step 4 of 8" in capsys.readouterr().err
    for expected, leaf in zip(leaves(uninterrupted), leaves(resumed), strict=True):
        np.testing.assert_array_equal(expected, leaf)
    assert Localizer.load(tmp_path / "uninterrupted").describe() == uninterrupted.localizer.describe()
    in_memory = train(faces, spec)
    for expected, leaf in zip(leaves(uninterrupted), leaves(in_memory), strict=True):
        np.testing.assert_array_equal(expected, leaf)


@pytest.mark.slow
def test_a_folder_of_a_different_training_is_refused(faces, tmp_path):
    train(faces, stage(steps=2), folder=tmp_path)
    with pytest.raises(InputError, match=r"was started with objects.seed='?0'?, but is now '?1'?.*another folder"):
        train(faces, stage(steps=2), folder=tmp_path, seed=1)
    with pytest.raises(InputError, match=r"objects\.faces\.0\.(count|points)"):
        train(faces.take(np.arange(20)), stage(steps=2), folder=tmp_path)


@pytest.mark.slow
def test_both_inputs_give_the_same_training(faces):
    results = [train(faces, stage(ema=0.0, augment=AUGMENT), input=name, seed=3) for name in ("device", "tfdata")]
    differences = [np.abs(a - b).max() for a, b in zip(*map(leaves, results), strict=True)]
    assert max(differences) < 0.05
    nmes = [result.validation_nme for result in results]
    assert nmes[0] == pytest.approx(nmes[1], rel=0.02)


@pytest.mark.slow
def test_some_photos_are_held_out_by_default(faces):
    few = faces.take(np.arange(12))
    result = train(few, stage(steps=2))
    assert len(result.localizer.metadata.held_out.photos) == 3
    with_validation = train(few, stage(steps=2), validation=faces.take(np.arange(12, 20)))
    assert len(with_validation.localizer.metadata.held_out.photos) == 8


class WrongShape(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(7)(images.reshape(len(images), -1) / 255)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"faces": "w300"}, "faces='w300': pass FaceSets"),
        ({"faces": []}, "faces: got an empty list: pass a FaceSet"),
        ({"stages": []}, "stages: got 0: pass one or two StageSpecs"),
        ({"stages": "w300"}, "stages='w300': pass StageSpecs or a Recipe"),
        ({"stages": {"model": WrongShape()}}, r"must return float \[1, 68, 2\]"),
        ({"stages": {"model": 3}}, "model=3 has no `init` and `apply`"),
        ({"stages": {"loss": lambda p, t: ((p - t) ** 2).sum(-1)}}, "it must be elementwise and not reduced"),
        ({"stages": {"loss": lambda p, t: jnp.abs(p - t) * jnp.nan}}, r"stage 1: the loss is nan at step 1: lower"),
        ({"input": "disk"}, "input='disk' must be one of 'device', 'tfdata'"),
        ({"parallel": "gpu"}, "parallel='gpu' must be one of 'jit', 'pmap'"),
        ({"store": "png"}, "store='png' must be one of 'pixels', 'jpeg'"),
        ({"processes": "two"}, "processes='two' must be one of 'one', 'many'"),
        ({"validation": 1.5}, "validation=1.5: pass a fraction between 0 and 1"),
        ({"balance": lambda points, visible, flip: np.ones(3)}, "it must return how often each of the"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(faces, arguments, message, unchecked):
    arguments = {"faces": faces, "stages": stage(), **arguments}
    if isinstance(arguments["stages"], dict):
        stage_arguments = arguments["stages"]
        if stage_arguments.get("model") == 3:
            with pytest.raises(InputError, match=message):
                stage(**stage_arguments).build_model(68)
            return
        arguments["stages"] = stage(**stage_arguments)
    with pytest.raises(InputError, match=message) as raised:
        train(**arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "steps=0 must be a whole number"),
        ("batch_size", True, "batch_size='?True'? must be a whole number"),
        ("input_size", 5_000, "input_size=5000 must be at most"),
        ("loss", "wing", "loss='wing' must be a function"),
        ("optimizer", 1e-3, "optimizer='?0.001'? must be an optax transformation"),
        ("stage2_crops", "detected", "stage2_crops='detected' must be one of 'predicted', 'annotated'"),
        ("reduction", "sum", "reduction='sum' must be one of 'sum_over_points_mean_over_batch', 'mean'"),
        ("center", "eyes", "center='eyes' must be one of 'box', 'shape'"),
        ("precision", "float16", "precision='float16' must be one of 'auto', 'float32', 'bfloat16'"),
        ("output_bias", "mean", "output_bias='mean' must be one of 'mean_shape', 'zero'"),
        ("ema", 1.0, "ema=1.0 must be at least 0 and below 1"),
    ],
)
def test_invalid_fields_of_a_stage_are_refused(field, value, message, unchecked):
    with pytest.raises(InputError, match=message):
        stage(**{field: value})


def test_augmentations_that_no_stage_uses_are_an_error(faces):
    with pytest.raises(InputError, match="augment: every stage has its own augment: omit it"):
        train(faces, stage(), augment=[augment.flip()])
    with pytest.raises(InputError, match="augment: every stage has its own"):
        train(faces, stage(augment=()), augment=[augment.flip()])  # (): none, not the defaults


@pytest.mark.slow
def test_faces_from_arrays(faces):
    images = [faces.picture(index) for index in range(16)]
    face_set = FaceSet.from_arrays(images, faces.points[:16], scheme="ibug68")
    result = train(face_set, stage(steps=2))
    assert result.localizer.scheme.points == 68
