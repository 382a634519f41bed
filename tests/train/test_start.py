"""Training from a trained model: which arrays are taken, how a head is converted, and which parameters are trained."""

import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support.imagenet_reference import RESULTS, draw_weights
from tests.support.weight_files import write_zip
from wing_jax import geometry, presets
from wing_jax.config import Config, DataConfig, ModelConfig, StageConfig, StartConfig
from wing_jax.data.load import convert_points, load_faces
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import recipe_of, start_of
from wing_jax.from_config.train import train as train_config
from wing_jax.inference.bundle import flatten
from wing_jax.inference.localizer import Localizer
from wing_jax.models import load_imagenet, make_model
from wing_jax.schemes import MTFL_5, Scheme
from wing_jax.train.fit import fit
from wing_jax.train.setup import StageSetup
from wing_jax.train.spec import StageSpec
from wing_jax.train.start import Start, nearest_points, train_parts, trained_margin

NETWORKS = {
    "plain": {"channels": (4, 8), "hidden": 8, "norm": "batch"},
    "voting": {"channels": (4, 8), "hidden": 8, "norm": "batch", "dropout": 0.0},
}


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "train", count=40)


@pytest.fixture(scope="module")
def five(faces):
    """The same faces with five points, and the same boxes."""
    return convert_points(faces, MTFL_5)


def network(name="plain"):
    return functools.partial(make_model, name, **NETWORKS[name])


def stage(**changes):
    defaults = {"model": network(), "optimizer": optax.sgd(1e-3), "input_size": 32, "steps": 2, "batch_size": 8}
    return StageSpec(**{**defaults, "augment": [], "ema": 0.0, "evaluate_every": 1, **changes})


def train(faces, stages, **settings):
    return fit(faces, stages, **{"quiet": True, "device_count": 1, **settings})


@pytest.fixture(scope="module")
def trained(faces):
    """Two stages, the second one a voting network."""
    return train(faces, [stage(steps=1), stage(steps=1, model=network("voting"), crops_per_face=1)]).localizer


def arrays(localizer, number=1):
    return flatten(localizer.stages[number - 1].variables)


def crops(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.mark.slow
def test_a_frozen_copy_of_the_trained_model_is_the_trained_model(faces, trained):
    spec = stage(optimizer=optax.adamw(1e-2, weight_decay=0.1))
    copied = train(faces, spec, start=Start(trained, freeze=["*"])).localizer
    before, after = arrays(trained), arrays(copied)
    names = [name for name in before if name.startswith("params/")]
    assert len(names) > 5
    for name in names:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exact"), [(1, 1e-4), (2, 1e-3)])
def test_a_converted_head_predicts_the_chosen_points_moved_by_the_offsets(trained, number, exact):
    """By the predictions of the trained network, which are computed without the conversion."""
    part, index = trained.stages[number - 1], np.array([36, 3, 3, 60, 67])
    offset = np.random.default_rng(1).normal(0, 2, (5, 2)).astype(np.float32)
    selected = part.model.select_points(part.variables, index, offset, size=32)
    points = part.model.clone(points=5).apply(selected, jnp.asarray(crops()))
    expected = np.asarray(part.model.apply(part.variables, jnp.asarray(crops())))[:, index] + offset
    np.testing.assert_allclose(points, expected, atol=exact)


@pytest.mark.slow
def test_points_of_another_scheme_start_at_the_nearest_points(trained, five):
    mean = five.points.mean(0)
    index, offset = nearest_points(trained, MTFL_5, mean)
    assert index[0] in range(36, 42)  # in the 68 points: the left eye in the picture
    assert index[1] in range(42, 48)
    assert index[2] in (30, 33)
    assert tuple(index[3:]) in {(48, 54), (60, 64)}
    eyes = np.linalg.norm(mean[1] - mean[0])
    assert (np.linalg.norm(offset, axis=1) < 0.3 * eyes).all()


@pytest.mark.slow
def test_training_on_other_points_starts_from_the_converted_head(trained, five, capsys):
    frozen = Start(trained, freeze=["*"])
    stages = [stage(start=frozen), stage(model=network("voting"), crops_per_face=1, start=frozen)]
    result = train(five, stages, quiet=False)
    output = capsys.readouterr().out
    assert "stage 1 starts from model\n" in output
    assert "converted to the new landmarks: output/bias, output/kernel\ninitialized: none\nnot used: none" in output
    assert "converted to the new landmarks: output/bias, output/kernel, votes/bias, votes/kernel\n" in output
    for number in (1, 2):
        before, after = arrays(trained, number), arrays(result.localizer, number)
        assert {name for name in before if before[name].shape != after[name].shape} <= {
            "params/output/kernel", "params/output/bias", "params/votes/kernel", "params/votes/bias"
        }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_face_is_as_large_in_the_crops_as_in_those_of_the_trained_model(faces, five, trained, number):
    """The same faces with 68 and with 5 points, with their landmarks' boxes: the sides of crops in photo pixels."""

    def sides(faces, margin):
        tight = np.asarray(geometry.tight_box(faces.points))
        return margin * geometry.larger_side(tight if number == 2 else faces.boxes)

    around = np.asarray(geometry.tight_box(five.points))
    few = dataclasses.replace(five, boxes=around, box_convention="five points")
    margin = trained_margin(Start(trained), number, few)
    expected = sides(faces, trained.stages[number - 1].margin)
    np.testing.assert_allclose(np.median(sides(few, margin) / expected), 1, atol=0.05)
    assert margin > 1.5  # the box of five points is much smaller than that of 68
    assert trained_margin(Start(trained), number, faces) == trained.stages[number - 1].margin


@pytest.mark.slow
def test_rates_and_the_warmup_of_the_head_scale_the_updates(faces, trained):
    """By plain SGD, whose updates are the gradients times the rate."""
    start = Start(trained, freeze=["ConvBlock_0/*"], rates={"ConvBlock_*": 0.5, "*": 2.0}, head_warmup=1)
    setup = _setup(faces, stage(start=start))
    new = dataclasses.replace(setup.started, taken=tuple(n for n in setup.started.taken if "output" not in n))
    optimizer = train_parts(optax.sgd(1.0), start, new)
    params = setup.state(seed=0).variables["params"]
    state, ones = optimizer.init(params), jax.tree.map(jnp.ones_like, params)
    first, state = optimizer.update(ones, state, params)
    second, _ = optimizer.update(ones, state, params)
    values = [{name: float(leaf.mean()) for name, leaf in flatten(updates).items()} for updates in (first, second)]
    for name in values[0]:
        factor = 0.0 if name.startswith("ConvBlock_0/") else 0.5 if name.startswith("ConvBlock_") else 2.0
        assert values[1][name] == -factor, name
        assert values[0][name] == (-factor if name.startswith("output/") else 0), name


def _setup(faces, spec) -> StageSetup:
    from wing_jax.train.data import FaceSource, prepare_data
    from wing_jax.train.stages import first_setup

    data = prepare_data([FaceSource(faces=faces)], [spec], validation=0.2, balance=None, seed=0)
    return first_setup(spec, data, augment=())


@pytest.mark.slow
def test_statistics_are_kept_or_renewed(faces, trained):
    before = arrays(trained)
    for statistics, same in (("keep", True), ("renew", False)):
        state = _setup(faces, stage(start=Start(trained, statistics=statistics))).state(seed=0)
        after = flatten(state.variables)
        names = [name for name in after if name.startswith("batch_stats/")]
        assert names
        assert all(np.array_equal(before[name], after[name]) for name in names) is same
        np.testing.assert_array_equal(before["params/output/kernel"], after["params/output/kernel"])


@pytest.mark.slow
def test_arrays_of_another_shape_are_initialized(faces, trained):
    """A wider first layer: the second one does not fit either, and the output does."""
    wider = functools.partial(make_model, "plain", channels=(6, 8), hidden=8, norm="batch")
    started = _setup(faces, stage(model=wider, start=trained)).started
    assert any(name.startswith("params/ConvBlock_0/") for name in started.new)
    assert "params/output/kernel" in started.taken
    fresh = flatten(_setup(faces, stage(model=wider)).state(seed=0).variables)
    state = flatten(_setup(faces, stage(model=wider, start=trained)).state(seed=0).variables)
    for name in started.new:
        np.testing.assert_array_equal(state[name], fresh[name], err_msg=name)


@pytest.mark.slow
def test_a_stopped_training_resumes_bit_for_bit(five, trained, tmp_path):
    spec = stage(steps=4, start=Start(trained, rates={"ConvBlock_*": 0.1}, head_warmup=3))
    whole = train(five, spec, folder=tmp_path / "whole").localizer
    stopped = train(five, spec, folder=tmp_path / "stopped", callbacks=[lambda progress: progress.step >= 2])
    assert stopped.history[-1]["step"] == 2
    resumed = train(five, spec, folder=tmp_path / "stopped").localizer
    before, after = arrays(whole), arrays(resumed)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


class NoPoints(nn.Module):
    """A network without a field `points`."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(136)(images.reshape(len(images), -1) / 255).reshape(-1, 68, 2)


@pytest.mark.slow
def test_what_cannot_start_is_an_error_in_one_line(faces, five, trained, tmp_path):
    one_stage = dataclasses.replace(trained, stages=trained.stages[:1])
    other = dataclasses.replace(trained, stages=(dataclasses.replace(trained.stages[0], model=NoPoints()),))
    alien = functools.partial(make_model, "plain", channels=(6,), hidden=6)
    two = [stage(), stage(crops_per_face=1)]
    for case, message in [
        (lambda: train(faces, two, start=one_stage), "has 1 stage, so stage 2 cannot start from it"),
        (lambda: train(faces, stage(start=tmp_path / "missing")), "missing.*no model"),
        (lambda: train(faces, stage(start=Start(trained, freeze=["conv*"]))), r"the pattern 'conv\*' matches no"),
        (lambda: train(faces, stage(model=alien, start=trained)), "no layer of the model .* fits this network"),
        (lambda: presets.finetune(other).stages[0].build_model(5), "has no field `points`"),
    ]:
        with pytest.raises(InputError, match=message):
            case()


def imagenet(path):
    """Write random weights in the form of ImageNet's of MobileNetV2; return the file, and the arrays in it."""
    shapes = json.loads(str(np.load(RESULTS)["mobilenet_v2/shapes"]))
    write_zip(path, draw_weights(shapes))
    return path, load_imagenet(path)


@pytest.mark.slow
def test_any_stage_starts_from_imagenet_weights(five, tmp_path, capsys):
    """From the file and from its arrays; the head of 1000 classes does not fit and is initialized."""
    path, weights = imagenet(tmp_path / "weights.pth")
    for source, name in ((str(path), str(path)), (weights, "a mapping of arrays")):
        start = Start(source, freeze=["ConvNorm_*"], head_warmup=1)
        setup = _setup(five, stage(model=functools.partial(make_model, "mobilenet_v2"), start=start))
        assert setup.spec.start.name == name
        assert set(setup.started.new) == set(setup.started.unused) == {"params/output/kernel", "params/output/bias"}
        assert setup.started.converted == ()
        assert setup.margin == 1.2
    state = flatten(setup.state(seed=0).variables)
    assert state["params/output/kernel"].shape == (1280, 10)
    for label in setup.started.taken:
        np.testing.assert_array_equal(state[label], weights[label], err_msg=label)
    with pytest.raises(InputError, match=r"no layer of the model .* fits this network: it has ConvNorm_0"):
        _ = _setup(five, stage(start=path)).started


@pytest.mark.slow
def test_a_config_starts_from_imagenet_weights(tmp_path):
    path, _ = imagenet(tmp_path / "weights.pth")
    changed = dataclasses.replace(config().stage1, model=ModelConfig(name="mobilenet_v2"), input_size=64)
    spec = recipe_of(config(stage1=changed, start=str(path))).stages[0]
    assert "params/ConvNorm_0/Conv_0/kernel" in spec.start.arrays
    with pytest.raises(InputError, match=r"' is not a landmark model and has no network, crops or margin"):
        recipe_of(config(start=str(path)))
    with pytest.raises(InputError, match="is not a landmark model"):
        presets.finetune({"params/a": np.zeros(3)})


def test_mappings_have_arrays_by_name():
    with pytest.raises(InputError, match="start: 'a' is 3: pass arrays by name"):
        _ = Start({"a": 3}).arrays
    assert Start({"a": np.zeros(3)}) == Start({"a": np.zeros(3)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"model": 3},
            "start=3: pass the folder of a trained model, the name of a pretrained one, a Localizer, or the arrays",
        ),
        ({"model": ""}, "start='': pass the folder"),
        ({"freeze": "ConvBlock_0/*"}, "must be a list of patterns"),
        ({"freeze": [3]}, "must be a list of patterns"),
        ({"rates": {"*": -1}}, r"rates\['\*'\]=-1 must be 0 or more"),
        ({"rates": {"*": float("nan")}}, "must be 0 or more"),
        ({"head_warmup": -1}, "head_warmup=-1 must be a whole number of at least 0"),
        ({"head_warmup": 1.5}, "head_warmup=1.5 must be a whole number"),
        ({"statistics": "drop"}, "statistics='drop' must be one of 'keep', 'renew'"),
    ],
)
def test_invalid_options_are_refused_in_one_line(arguments, message, unchecked):
    with pytest.raises(InputError, match=message):
        Start(**{"model": "w300", **arguments})


def config(**fields) -> Config:
    base = presets.load("finetune")
    stage1 = dataclasses.replace(base.stage1, steps=2, evaluate_every=2, batch_size=8)
    fields = {"data": DataConfig(name="synthetic", train_faces=24), "stage1": stage1, "stage2": None, **fields}
    return dataclasses.replace(base, **fields)


@pytest.mark.slow
def test_the_preset_trains_the_networks_of_any_trained_model(five, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained.save("first")
    result = train_config(config(start="first", devices=1))
    assert result.localizer.stages[0].input_size == 32
    assert result.localizer.stages[0].margin == trained.stages[0].margin
    assert result.localizer.stages[0].model.channels == (4, 8)
    assert "stage 1 starts from first\n" in capsys.readouterr().out
    loaded = Localizer.load(tmp_path / "runs" / "finetune" / "model")
    np.testing.assert_array_equal(
        arrays(loaded)["params/output/kernel"], arrays(result.localizer)["params/output/kernel"]
    )
    assert [spec.build_model(5).points for spec in presets.finetune("first").stages] == [5, 5]


def test_configs_of_a_start_are_checked():
    assert start_of(StartConfig()) is None
    assert start_of(StartConfig(model="mtfl"), model="w300").model == "mtfl"
    with pytest.raises(InputError, match="starts from no trained model: pass --start"):
        start_of(StartConfig(freeze=("*",)))
    with pytest.raises(InputError, match=r"model\.name=.trained. needs a trained model: pass --start"):
        recipe_of(config(start=""))
    with pytest.raises(InputError, match="input_size=0 must be greater than 0"):
        StageConfig(**{**vars(config().stage1), "model": ModelConfig(name="plain")})


def test_schemes_without_a_conversion_are_aligned_by_the_two_points_that_normalize():
    """Three points in another order, moved, turned and twice as large."""
    eyes, options = ("left eye", "right eye"), {"mirrored": [("left eye", "right eye")]}
    theirs = Scheme.make("theirs", ["left eye", "right eye", "chin"], normalization=eyes, **options)
    ours = Scheme.make("ours", ["chin", "right eye", "left eye"], normalization=eyes, **options)
    template = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.8]], np.float32)
    localizer = Localizer(scheme=theirs, box_convention="landmarks", stages=(), template=template)
    mean = geometry.transform(np.array([[0, -2, 5], [2, 0, 7]], np.float32), template)[[2, 1, 0]]
    mean[0] += (0.1, 0.2)
    index, offset = nearest_points(localizer, ours, mean)
    assert index.tolist() == [2, 1, 0]
    np.testing.assert_allclose(offset, [[0.1, 0.2], [0, 0], [0, 0]], atol=1e-5)
