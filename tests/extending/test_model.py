"""Networks of an external package, used from Python and trained, evaluated and loaded from the command line."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.models import MODELS, PlainRegressor, describe_model, make_model, register_model

PACKAGE = """
    from collections.abc import Callable

    import flax.linen as nn
    import jax.numpy as jnp
    from wing_jax.models import PlainRegressor, register_model

    @register_model
    class TwoLayers(nn.Module):
        points: int
        width: int = 4
        widths: tuple[int, ...] = (3, 5)
        activation: Callable = nn.relu

        @nn.compact
        def __call__(self, images, *, train=False):
            x = images.reshape(len(images), -1) / 255
            for width in (*self.widths, self.width):
                x = self.activation(nn.Dense(width)(x))
            return nn.Dense(2 * self.points)(x).reshape(len(images), self.points, 2)

    def slim(points, *, hidden=8):
        return PlainRegressor(points=points, channels=(4,), hidden=hidden)
"""


@pytest.fixture
def package(install):
    entries = {"TwoLayers": "TwoLayers", "slim": "slim"}
    return install(PACKAGE, name="other_models", entry_points={"wing_jax.models": entries})


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_a_linen_module_is_made_by_name_and_described():
    model = make_model("TwoLayers", points=5, widths=[2, 3])
    assert (model.points, model.width, model.widths) == (5, 4, (2, 3))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    assert model.apply(variables, np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 5, 2)
    description = describe_model(model)
    assert description == {"name": "TwoLayers", "points": 5, "width": 4, "widths": (2, 3)}
    assert make_model(**json.loads(json.dumps(description))) == model
    assert describe_model(model.clone(activation=nn.gelu)) is None  # not serializable as JSON
    with pytest.raises(
        InputError, match="the network 'TwoLayers' has no parameter depth: use width, widths, activation"
    ):
        make_model("TwoLayers", points=5, depth=2)


@pytest.mark.usefixtures("package")
def test_a_function_can_make_a_network():
    assert make_model("slim", points=5, hidden=3) == PlainRegressor(points=5, channels=(4,), hidden=3)
    with pytest.raises(InputError, match="hidden=0 must be greater than 0"):
        make_model("slim", points=5, hidden=0)


def test_the_result_of_a_function_is_described():
    class Anything:
        def init(self, key, images):
            return {"params": {}}

        def apply(self, variables, images, *, train=False):
            return jnp.zeros((len(images), 3, 2))

    @register_model(name="extending_any")
    def make(points, *, depth=2, dtype=None):
        assert dtype == jnp.bfloat16
        return Anything()

    model = make_model("extending_any", points=3, depth=4, precision="bfloat16")
    assert describe_model(model) == {"name": "extending_any", "points": 3, "depth": 4, "precision": "bfloat16"}
    assert describe_model(Anything()) is None


def test_dtype_and_axis_are_set_if_the_network_has_them():
    @register_model(name="extending_fields")
    class Fields(nn.Module):
        points: int
        dtype: jnp.dtype = jnp.float32
        axis: str | None = None

    model = make_model("extending_fields", points=2, precision="bfloat16", axis="replicas")
    assert (model.dtype, model.axis) == (jnp.bfloat16, "replicas")
    assert describe_model(model) == {"name": "extending_fields", "points": 2, "precision": "bfloat16"}


def test_invalid_registrations_are_refused():
    with pytest.raises(ValueError, match="'extending_none' takes no argument `points`"):
        register_model(name="extending_none")(lambda count: None)
    with pytest.raises(ValueError, match="'extending_precision' cannot have a parameter 'precision'"):
        register_model(name="extending_precision")(lambda points, *, precision=1: None)
    with pytest.raises(ValueError, match="called 'plain' is already registered"):
        register_model(name="plain")(lambda points: None)
    assert MODELS["plain"].make is PlainRegressor


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_the_command_line_trains_evaluates_and_loads_it(run_command, config, tmp_path):
    arguments = (
        "--stage1.model.name",
        "TwoLayers",
        "--stage1.model.params.width",
        "6",
        "--stage1.model.params.widths",
        "7",
    )
    result = run_command("train", config, *arguments)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs" / "small"
    record = json.loads((run / "config.json").read_text())["stage1"]["model"]
    assert (record["name"], record["params"]) == ("TwoLayers", {"width": 6, "widths": [7]})
    result = run_command("evaluate", run, "--data", "synthetic", "--faces", "4", "--output", "report")
    assert result.returncode == 0, result.stderr
    (stage,) = Localizer.load(run).stages
    assert (stage.model.width, stage.model.widths) == (6, (7,))
    rejected = run_command("train", config, "--name", "other", "--stage1.model.name", "TwoLayer")
    assert rejected.returncode == 2
    assert "no network is called 'TwoLayer': did you mean TwoLayers?" in rejected.stderr.splitlines()[-1]
