"""Programs with JAX's strict settings: prediction, losses, geometry and the input work under them; training uses the
default settings, because optax does not work under strict promotion.

Outside of `jit`, the transfer guard rejects arithmetic of JAX arrays with Python numbers, such as `jnp.ones(2) + 1`, so
losses and geometry are tested inside `jit`.
"""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.workshop import furnish
from wing_jax import FaceLandmarker, Localizer, geometry, losses
from wing_jax.config import AugmentConfig
from wing_jax.from_config.augment import augmentations_of
from wing_jax.input.on_device import DeviceInput, TrainingFaces
from wing_jax.input.sampling import EpochSampler
from wing_jax.models import cpu_kernel, make_model
from wing_jax.models.networks import as_network
from wing_jax.runtime.devices import default_settings
from wing_jax.train.steps import make_objective

needs_kernel = pytest.mark.skipif(not cpu_kernel.load(), reason=cpu_kernel.status())
SETTINGS = {
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "guard": lambda: jax.transfer_guard("disallow"),
    "x64": lambda: jax.enable_x64(True),
    "nans": lambda: jax.debug_nans(True),
    "leaks": lambda: jax.checking_leaks(),
}
IMAGE = np.random.default_rng(0).integers(0, 255, (120, 120, 3), np.uint8)
BOXES = [[20, 20, 90, 90], [30, 25, 100, 99]]
AUGMENT = augmentations_of(
    AugmentConfig(
        flip=0.5, rotation=10.0, scale=0.1, aspect=0.1, translation=0.1, blur=0.3, color=0.2, noise=3.0, occlusion=0.3,
        downscale=1.0, jpeg=0.5,
    )
)  # fmt: skip


@pytest.fixture(params=SETTINGS)
def setting(request):
    return SETTINGS[request.param]


@pytest.fixture(scope="module")
def model():
    return Localizer.load("mtfl")


def variants(model):
    for cut_on in ("host", "device"):
        yield dataclasses.replace(model, cut_on=cut_on)
    yield dataclasses.replace(model, flip_average=True, stages=model.stages[:1])


@pytest.fixture(scope="module")
def expected_points(model):
    return [variant.predict(IMAGE, BOXES) for variant in variants(model)]


@pytest.mark.slow
def test_predictions_are_the_same_under_any_setting(setting, expected_points):
    with setting():
        model = Localizer.load("mtfl")  # transfers its variables under the setting
        for variant, expected in zip(variants(model), expected_points, strict=True):
            points = variant.predict(IMAGE, BOXES)
            assert points.dtype == np.float32
            np.testing.assert_allclose(points, expected, atol=1e-4)
        FaceLandmarker.load("mtfl", detector="libfacedetection")(IMAGE)


@pytest.mark.slow
@needs_kernel
def test_the_cpu_kernel_takes_a_network_with_batch_normalization_in_x64():
    network = make_model("plain", points=5, channels=(8, 8), hidden=8, norm="batch")
    crops = jnp.full((2, 32, 32, 3), 77, jnp.uint8)
    with jax.enable_x64(True), cpu_kernel.switched("on"):
        variables = network.init(jax.random.key(0), crops)
        points = jax.jit(network.apply)(variables, crops)
    assert points.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_losses_and_reductions_work_under_any_setting(setting, dtype):
    random = np.random.default_rng(0)
    predicted, target = jax.device_put(tuple(random.normal(size=(2, 4, 5, 2)).astype(dtype)))
    visible = jax.device_put(random.random((4, 5)) > 0.3)

    def objective(predicted, target, visible, loss):
        values = loss(*losses.mask_points(predicted, target, visible))
        return losses.sum_over_points_mean_over_batch(values, visible) + losses.masked_mean(values, visible)

    @jax.jit
    def objectives(*arguments):
        made = {name: losses.make_loss(name, working_extent=1.0) for name in losses.LOSSES}
        return {name: jax.value_and_grad(objective)(*arguments, loss) for name, loss in made.items()}

    with setting():
        results = objectives(predicted, target, visible)
    assert {name: value.dtype for name, (value, _) in results.items()} == dict.fromkeys(losses.LOSSES, jnp.float32)
    assert {name: gradient.dtype for name, (_, gradient) in results.items()} == dict.fromkeys(losses.LOSSES, dtype)


@pytest.mark.slow
def test_geometry_works_under_any_setting(setting):
    points = jax.device_put(np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32))

    def compute(points):
        boxes = geometry.tight_box(points)
        transforms = geometry.crop_of_box(boxes, size=64, margin=1.3, center=(0.1, 0.2))
        turn = jnp.broadcast_to(geometry.similarity(degrees=3.0), transforms.shape)
        moved = geometry.transform(geometry.invert(geometry.compose(transforms, turn)), points)
        return geometry.fit_similarity(points, moved), geometry.crop_of_shape(points, points[0], size=64)

    with setting():
        fitted, transforms = jax.jit(compute)(points)
    assert fitted.dtype == transforms.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_device_input_and_objective_work_under_strict_promotion(norm):
    faces = TrainingFaces(
        images=np.zeros((6, 50, 50, 3), np.uint8),
        points=np.zeros((6, 10), np.float32),
        visible=np.ones((6, 5), bool),
        crop_to_image=np.zeros((6, 12), np.float32),
        order=np.arange(6, dtype=np.int32),
        flip=np.arange(5, dtype=np.int32),
    )
    network = as_network(make_model("plain", points=5, channels=(8, 8), hidden=8, norm=norm, dropout=0.1))
    batches = DeviceInput(augment=AUGMENT, size=32, image_size=50, batch_size=4, supersample=2, seed=0)
    for reduction in ("sum_over_points_mean_over_batch", "mean"):
        objective = make_objective(network, losses.make_loss("wing"), reduction=reduction, seed=0)

        def step(variables, faces, indices, objective=objective):
            batch = batches.batch(faces, type(indices)(*(values[0] for values in indices)))
            others = {name: value for name, value in variables.items() if name != "params"}
            return jax.grad(objective, has_aux=True)(variables["params"], others, batch, jnp.int32(0))

        with jax.numpy_dtype_promotion("strict"):
            indices = EpochSampler(faces.order, batch_size=4, seed=0)(0, 1)
            crops = jnp.zeros((1, 32, 32, 3), jnp.uint8)
            variables = jax.eval_shape(network.init, jax.random.key(0), crops)
            gradient, _ = jax.eval_shape(step, variables, faces, indices)
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


def test_usual_settings_restore_the_defaults():
    with jax.numpy_dtype_promotion("strict"), jax.transfer_guard("disallow"), default_settings():
        assert float((jnp.ones(2) + np.arange(2)).sum()) == 3
    with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="implicit dtype promotion"):
        _ = jnp.ones(2) + jnp.arange(2)


@pytest.mark.slow
def test_training_works_in_an_environment_with_strict_settings(tmp_path):
    furnish(tmp_path)
    config = tmp_path / "tiny.py"
    text = config.read_text()
    for number in (160, 80):
        text = text.replace(f"steps={number}", "steps=4")
    config.write_text(text.replace("evaluate_every=40", "evaluate_every=4"))
    code = (
        "from wing_jax.config_files import load_config\nfrom wing_jax.from_config.train import train\n"
        "import dataclasses\nconfig = load_config('tiny.py')\n"
        "train(dataclasses.replace(config, name='device'))\n"
        "train(dataclasses.replace(config, name='tfdata', input='tfdata', stage2=None))"
    )
    strict = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_TRANSFER_GUARD": "disallow", "JAX_PLATFORMS": "cpu"}
    fast = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | strict | fast, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for source in ("device", "tfdata"):
        assert (tmp_path / "runs" / source / "model" / "model.json").exists()
