"""Exported networks: the runtime of each format returns the same points as JAX, for any number of crops."""

import dataclasses
import json
import os
import re
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.paths import DOCS
from wing_jax.cli import main
from wing_jax.data.boxes import ShapeInBox
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.export import EXPORTS, Format, export, halve, make_crops, register_export
from wing_jax.export.onnx_graph import onnx_model
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.uncertainty import Evidence
from wing_jax.models import ResNetTiny, cpu_kernel, make_model
from wing_jax.schemes import IBUG_68

PAGE = DOCS / "how-to" / "export.md"
NETWORK = {"name": "plain", "points": 68, "channels": (8, 8, 16), "hidden": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "test", count=6)


def random_variables(model, size, *, mean, seed=0):
    """Return random variables; results are near the mean shape (fractions of the crop) and vary with the picture."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
    variables = jax.tree.map(lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32), shapes)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    variables["params"]["output"]["kernel"] *= 3
    variables["params"]["output"]["bias"] = (mean.reshape(-1) * size - 0.5).astype(np.float32)
    return jax.tree.map(jnp.asarray, {"batch_stats": {}, **variables})


@pytest.fixture(scope="module")
def localizer(faces):
    low, high = faces.points.min(1, keepdims=True), faces.points.max(1, keepdims=True)
    mean = (((faces.points - low) / (high - low).max(2, keepdims=True)).mean(0) / 1.4 + 0.15).astype(np.float32)
    stages = []
    for number, (size, norm) in enumerate([(32, "batch"), (64, "none")]):
        network = {**NETWORK, "norm": norm}
        variables = random_variables(make_model(**network), size, mean=mean, seed=number)
        stages.append(
            Stage(
                model=make_model(**network),
                variables=variables,
                input_size=size,
                face_crop_size=2 * size,
                margin=1.4 if number else 1.3,
            )
        )
    metadata = Metadata(name="random", shape_in_box=ShapeInBox(center=(0.0, 0.0), side=1.0))
    return Localizer(scheme=IBUG_68, box_convention="landmarks", stages=tuple(stages), template=mean, metadata=metadata)


@pytest.fixture(scope="module")
def crops(localizer, faces):
    return make_crops(localizer, faces)


@pytest.fixture(scope="module")
def expected_points(localizer, crops):
    """The points of each stage for its crops."""
    return [
        np.asarray(points_of(stage.model, stage.variables, x)) for stage, x in zip(localizer.stages, crops, strict=True)
    ]


def points_of(model, variables, crops):
    return jax.jit(partial(model.apply, train=False))(variables, crops)


@pytest.fixture(scope="module")
def exported(localizer, crops, tmp_path_factory):
    """Return a function that exports to a format, once, and returns the folder and the results."""

    @cache
    def exported(kind):
        folder = tmp_path_factory.mktemp(kind)
        folder /= os.fsdecode(b"m\xfcller [v2] a\\b* %d {x}#")  # TensorFlow reads it as a pattern; not UTF-8
        return folder, export(localizer, kind, folder, crops)

    return exported


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "saved-model", "tflite", "tflite-half", "stablehlo"])
def test_every_runtime_returns_the_points_of_jax(kind, localizer, crops, expected_points, exported):
    tolerance = 0.03 if kind == "tflite-half" else 1e-3  # pixels
    assert [c.shape for c in crops] == [(6, 32, 32, 3), (6, 64, 64, 3)]
    folder, results = exported(kind)
    assert list(folder.parent.iterdir()) == [folder]
    assert [result.path.name for result in results] == [f"stage{n}{EXPORTS[kind].ending}" for n in (1, 2)]
    for result, expected, inputs in zip(results, expected_points, crops, strict=True):
        assert np.ptp(expected, axis=0).max() > 0.5  # the result depends on the picture
        run = EXPORTS[kind].load(result.path)
        for count in (1, 6):
            np.testing.assert_allclose(run(inputs[:count]), expected[:count], atol=tolerance)
        assert result.difference < tolerance
    settings = json.loads((folder / "model.json").read_text())
    assert [stage["file"] for stage in settings["stages"]] == [result.path.name for result in results]
    assert settings["scheme"]["points"] == list(IBUG_68.names)
    np.testing.assert_allclose(settings["template"], localizer.template)


@pytest.mark.slow
def test_half_is_the_same_model_in_half_the_size(localizer, faces, tmp_path, capsys):
    full = localizer.save(tmp_path / "full")
    main(["export", str(full), "--to", "half", "--output", str(tmp_path / "half")])
    assert len(re.findall(r"float16; stage \d is within .* px of float32", capsys.readouterr().out)) == 2
    loaded = Localizer.load(tmp_path / "half")
    boxes = faces.boxes[:1]
    np.testing.assert_allclose(
        loaded.predict(faces.picture(0), boxes), localizer.predict(faces.picture(0), boxes), atol=0.2
    )
    sizes = [(folder / "weights.npz").stat().st_size for folder in (full, tmp_path / "half")]
    assert sizes[1] < 0.55 * sizes[0]
    kernel = loaded.stages[0].variables["params"]["output"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(
        kernel, localizer.stages[0].variables["params"]["output"]["kernel"].astype(np.float16)
    )


@pytest.mark.slow
def test_tflite_half_has_half_the_size_and_weights_in_float16(localizer, crops, exported):
    (_, full), (_, half) = map(exported, ("tflite", "tflite-half"))
    for single, halved, stage, inputs in zip(full, half, localizer.stages, crops, strict=True):
        assert halved.path.stat().st_size < 0.6 * single.path.stat().st_size  # the graph takes some kilobytes in both
        kernel = np.asarray(stage.variables["params"]["output"]["kernel"], np.float32)
        content = halved.path.read_bytes()
        assert any(array.astype(np.float16).tobytes() in content for array in (kernel, kernel.T))
        assert not any(array.tobytes() in content for array in (kernel, kernel.T))
        assert (EXPORTS["tflite-half"].load(halved.path)(inputs) != EXPORTS["tflite"].load(single.path)(inputs)).any()


@pytest.mark.slow
def test_half_is_refused_if_the_points_differ(localizer, crops, tmp_path):
    first = localizer.stages[0]
    params = dict(first.variables["params"])
    params["output"] = {
        **params["output"],
        "bias": params["output"]["bias"] + 1000.0,
    }  # the spacing of float16 is 0.5 there
    moved = dataclasses.replace(first, variables={**first.variables, "params": params})
    broken = dataclasses.replace(localizer, stages=(moved, localizer.stages[1]))
    with pytest.raises(InputError, match="the points from float16 differ"):
        halve(broken, tmp_path, crops)


def test_crops_are_those_of_the_localizer(localizer, faces):
    inputs = []

    class RecordsCrops:
        def init(self, key, images):
            return {}

        def apply(self, params, crops):
            jax.debug.callback(lambda array: inputs.append(np.asarray(array)), crops)
            return jnp.zeros((len(crops), 68, 2))

    stage = dataclasses.replace(localizer.stages[0], model=RecordsCrops())
    recording = dataclasses.replace(localizer, stages=(stage,))
    recording.predict(faces.picture(0), faces.boxes[:1])
    jax.effects_barrier()
    (crops,) = make_crops(recording, faces)
    np.testing.assert_allclose(inputs[0][0], crops[0], atol=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: ResNetTiny(points=5),
        lambda: make_model("plain", points=5, channels=(4, 8), hidden=8),
        lambda: make_model("voting", points=5, channels=(4, 8, 8), hidden=8, norm="batch"),
    ],
    ids=("resnet", "plain", "voting"),
)
def test_onnx_graphs_of_all_networks_run_for_any_batch(make):
    import onnx
    import onnxruntime

    model = make()
    variables = random_variables(model, 32, mean=np.full((5, 2), 0.5))
    with cpu_kernel.switched("off"):
        content = onnx_model(lambda x: model.apply(variables, x, train=False), (32, 32, 3), jnp.uint8, names=("a", "b"))
    operations = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert operations.count("MaxPool") == {"PlainRegressor": 2, "VotingRegressor": 3}.get(type(model).__name__, 1)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        crops = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        expected = points_of(model, variables, crops)
        np.testing.assert_allclose(session.run(["b"], {"a": crops})[0], expected, atol=1e-3)


OPERATIONS = {
    "arithmetic": lambda x: (
        jnp.sqrt(jnp.abs(x) + 1) - jnp.minimum(x, 2.0) * jnp.exp(-jnp.abs(x)) + x**3 + jnp.square(x)
    ),
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "sums": lambda x: x.sum((1, 2))[:, :, None] + x.mean((1, 3))[:, None],
    "matrices": lambda x: jnp.einsum("nijc,njkc->nikc", x, jnp.flip(x, 1)),
    "product with a constant": lambda x: jnp.einsum("nijc,kj->nikc", x, jnp.asarray(np.arange(8.0).reshape(2, 4))),
    "slices": lambda x: jnp.concatenate(
        [jax.lax.slice_in_dim(x, 1, 3, axis=1), jnp.flip(jax.lax.slice_in_dim(x, 0, 4, 2, axis=1), 2)], axis=1
    ),
    "doubling": lambda x: jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2),
    "transpose": lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1),
    "sigmoid": lambda x: jax.nn.sigmoid(x) * jnp.tanh(x) + jnp.log1p(jnp.exp(x)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_of_onnx_graphs(name):
    import onnxruntime

    function = OPERATIONS[name]
    session = onnxruntime.InferenceSession(
        onnx_model(function, (4, 4, 3), jnp.float32, names=("x", "y")), providers=["CPUExecutionProvider"]
    )
    for count in (1, 3):
        x = np.random.default_rng(count).normal(size=(count, 4, 4, 3)).astype(np.float32)
        np.testing.assert_allclose(session.run(["y"], {"x": x})[0], jax.jit(function)(x), rtol=1e-5, atol=1e-5)


def test_operations_that_onnx_graphs_do_not_support_are_named():
    with pytest.raises(InputError, match="'sort' of this network is not supported by the ONNX export"):
        onnx_model(lambda x: jnp.sort(x, axis=1), (4,), jnp.float32, names=("x", "y"))


@pytest.mark.slow
def test_a_file_with_other_points_is_refused(localizer, crops, tmp_path):
    form = EXPORTS["onnx"]
    wrong = dataclasses.replace(form, load=lambda path: lambda crops: form.load(path)(crops) + np.float32(0.06))
    with pytest.raises(
        InputError, match=r"stage1\.onnx: the points from ONNX Runtime differ from JAX by up to 0\.06 pixels"
    ):
        export(localizer, wrong, tmp_path, crops)
    broken = dataclasses.replace(form, load=lambda path: lambda crops: np.full((len(crops), 68, 2), np.nan, np.float32))
    with pytest.raises(InputError, match="by up to nan pixels"):
        export(localizer, broken, tmp_path, crops)


def test_errors(localizer, crops, tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match="no export format is called 'coreml': use one of onnx, saved-model, tflite, tflite-half"
    ):
        export(localizer, "coreml", tmp_path, [])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write here"):
        export(localizer, "onnx", tmp_path / "file" / "below", [])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="writing an ONNX file needs onnx: pip install"):
        export(localizer, "onnx", tmp_path, crops)


@pytest.mark.slow
def test_the_command_and_the_example_of_the_docs(localizer, faces, tmp_path, capsys, monkeypatch):
    """The program in docs/export.md finds the same landmarks as the localizer."""
    model = localizer.save(tmp_path / "model")
    main(["export", str(model), "--to", "onnx", "--output", str(tmp_path / "onnx")])
    output = capsys.readouterr().out
    assert output.count("px of JAX") == 2
    program, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(program.splitlines()) <= 60
    names: dict = {}
    exec(program, names)
    facts = names["load"](tmp_path / "onnx")
    for face in range(len(faces)):
        points = names["locate"](facts, faces.picture(face), faces.boxes[face])
        expected = localizer.predict(faces.picture(face), faces.boxes[face : face + 1])[0]
        assert np.linalg.norm(points - expected, axis=1).mean() < 0.5


@pytest.fixture(scope="module")
def voting_localizer(localizer):
    """The random localizer with a small voting network as its second stage, and the calibration of `w300`."""
    model = make_model("voting", points=68, channels=(8, 8, 16), hidden=32, grid=16, norm="batch")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    second = dataclasses.replace(localizer.stages[1], model=model, variables=variables)
    return dataclasses.replace(
        localizer, stages=(localizer.stages[0], second), calibration=Localizer.load("w300").calibration
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "stablehlo", "saved-model", "tflite", "onnx of w300"])
def test_covariances_are_exported_and_the_docs_calibrate_them(kind, voting_localizer, faces, tmp_path):
    kind, _, pretrained = kind.partition(" of ")
    model = Localizer.load(pretrained) if pretrained else voting_localizer
    crops = make_crops(model, faces)
    assert export(model, kind, tmp_path, crops, covariance=True)[1].difference < 0.01
    facts = json.loads((tmp_path / "model.json").read_text())
    output = EXPORTS[kind].load(tmp_path / facts["stages"][1]["file"])(crops[1])
    assert output.shape == (6, 68, 5)
    stage = model.stages[1]
    points, raw = jax.device_get(jax.jit(stage.network.predict)(stage.variables, crops[1]))
    np.testing.assert_allclose(output[..., :2], points, atol=0.01)
    before = points + np.float32(1.5)  # pixels of the crop
    identity = np.broadcast_to(np.eye(2, 3, dtype=np.float32), (6, 2, 3))
    evidence = Evidence(covariance=raw, moved=points - before, crop_to_unit=identity)
    expected = model.calibration.covariance(evidence, size=stage.input_size)
    names: dict = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1], names)
    for face in range(6):
        actual = names["covariances"](facts, output[face], before[face])
        np.testing.assert_allclose(actual, expected[face], rtol=0.02, atol=1e-4)


def test_covariances_of_a_network_without_them_are_refused(localizer, crops, tmp_path, capsys):
    with pytest.raises(InputError, match="covariances: the last network of 'random', PlainRegressor, estimates none"):
        export(localizer, "onnx", tmp_path, crops, covariance=True)
    with pytest.raises(SystemExit):
        main(["export", "w300", "--to", "half", "--covariance", "--output", str(tmp_path)])
    assert "--covariance: --to half writes the complete model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_custom_format_is_registered(localizer, crops, tmp_path, capsys):
    """It is StableHLO under another name."""
    stablehlo = EXPORTS["stablehlo"]

    @register_export(name="mine")
    def make():
        return Format(title="mine", ending=".mine", write=stablehlo.write, load=stablehlo.load, runtime="mine")

    results = export(localizer, "mine", tmp_path, crops)
    assert [result.path.name for result in results] == ["stage1.mine", "stage2.mine"]
    with pytest.raises(InputError, match="the export 'none' is 3, not a Format"):
        register_export(3, name="none")
    model = localizer.save(tmp_path / "model")
    with pytest.raises(SystemExit):
        main(["export", str(model), "--to", "coreml"])
    assert (
        "--to 'coreml': use half or one of onnx, saved-model, tflite, tflite-half, stablehlo, mine"
        in capsys.readouterr().err
    )
