"""Modules of Flax linen, Flax nnx and Equinox, registered by an external package or not registered."""

import importlib
import importlib.util
import json

import numpy as np
import pytest

import wing_jax as wj
from wing_jax.errors import InputError
from wing_jax.models import make_model

LINEN = """
    import flax.linen as nn

    class LinenPoints(nn.Module):
        points: int = 68
        hidden: int = 8

        @nn.compact
        def __call__(self, images, *, train=False):
            x = nn.relu(nn.Conv(4, (3, 3), strides=(4, 4))(images / 255))
            x = nn.Dropout(0.1, deterministic=not train)(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
            return nn.Dense(2 * self.points)(x).reshape(-1, self.points, 2)

    linen_points = LinenPoints
"""
NNX = """
    import jax
    from flax import nnx

    class Points(nnx.Module):
        def __init__(self, points, hidden, rngs):
            self.points = points
            first, second = nnx.Linear(16 * 16 * 3, hidden, rngs=rngs), nnx.Linear(hidden, 2 * points, rngs=rngs)
            self.layers = nnx.List([first, second])

        def __call__(self, images):
            x = images.reshape(len(images), -1) / 255
            return self.layers[1](nnx.relu(self.layers[0](x))).reshape(-1, self.points, 2)

    class NnxModel:  # as in docs/how-to/add-model.md
        def __init__(self, make):
            self.make = make

        def init(self, key, images):
            return nnx.to_pure_dict(nnx.state(self.make(nnx.Rngs(key)), nnx.Param))

        def apply(self, params, images):
            model = self.make(nnx.Rngs(0))
            state = nnx.state(model, nnx.Param)
            nnx.replace_by_pure_dict(state, params)
            nnx.update(model, state)
            return model(images)

    def nnx_points(points=68, *, hidden=8):
        return NnxModel(lambda rngs: Points(points, hidden, rngs))
"""
EQUINOX = """
    import equinox as eqx
    import jax

    class Points(eqx.Module):
        layers: list
        points: int = eqx.field(static=True)

        def __init__(self, points, hidden, key):
            first, second = jax.random.split(key)
            self.points = points
            self.layers = [eqx.nn.Linear(16 * 16 * 3, hidden, key=first), eqx.nn.Linear(hidden, 2 * points, key=second)]

        def __call__(self, image):
            return self.layers[1](jax.nn.relu(self.layers[0](image.reshape(-1) / 255))).reshape(self.points, 2)

    class EquinoxModel:  # as in docs/how-to/add-model.md
        def __init__(self, make):
            self.make = make

        def init(self, key, images):
            return eqx.filter(self.make(key), eqx.is_array)

        def apply(self, params, images):
            static = eqx.filter(self.make(jax.random.key(0)), eqx.is_array, inverse=True)
            return jax.vmap(eqx.combine(params, static))(images)

    def equinox_points(points=68, *, hidden=8):
        return EquinoxModel(lambda key: Points(points, hidden, key))
"""
# A class that is itself a pytree, like modules of Equinox: its arrays are leaves, all else is static.
PYTREE = """
    import dataclasses

    import jax
    import jax.numpy as jnp

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Linear:
        weight: jax.Array
        bias: jax.Array

        def __call__(self, x):
            return self.weight @ x + self.bias

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Points:
        layers: list
        points: int = dataclasses.field(metadata={"static": True})

        def __call__(self, image):
            return self.layers[1](jax.nn.relu(self.layers[0](image.reshape(-1) / 255))).reshape(self.points, 2)

    class PytreeModel:
        def __init__(self, make):
            self.make = make

        def init(self, key, images):
            return self.make(key)

        def apply(self, params, images):
            return jax.vmap(params)(images)

    def pytree_points(points=68, *, hidden=8):
        def linear(key, before, after):
            return Linear(jax.random.normal(key, (after, before)) / before**0.5, jnp.zeros(after))

        def make(key):
            first, second = jax.random.split(key)
            return Points([linear(first, 16 * 16 * 3, hidden), linear(second, hidden, 2 * points)], points)

        return PytreeModel(make)
"""
SOURCES = {"linen": LINEN, "nnx": NNX, "equinox": EQUINOX, "pytree": PYTREE}


@pytest.fixture(params=SOURCES)
def kind(request, install) -> str:
    """The name of the library; its package with one model is installed, with an entry point."""
    kind = request.param
    if kind == "equinox" and importlib.util.find_spec("equinox") is None:
        pytest.skip("equinox is not installed; a class that is a pytree tests the same")
    name = f"{kind}_points"
    install(SOURCES[kind], name=f"other_{kind}", entry_points={"wing_jax.models": {name: name}})
    return kind


@pytest.mark.slow
def test_fit_trains_it_if_registered(kind, train_small, tmp_path):
    _, evaluation = train_small(model=make_model(f"{kind}_points", points=68, hidden=6))
    assert np.isfinite(evaluation.mean["box-size"])
    (stage,) = json.loads((tmp_path / "saved" / "model.json").read_text(encoding="utf-8"))["stages"]
    assert (stage["model"]["name"], stage["model"]["hidden"]) == (f"{kind}_points", 6)


@pytest.mark.slow
def test_fit_trains_it_if_not_registered(kind, install, train_small, tmp_path):
    install(SOURCES[kind], name=f"bare_{kind}", entry_points={})
    make = getattr(importlib.import_module(f"bare_{kind}"), f"{kind}_points")
    _, evaluation = train_small(model=make, load=make(points=68))
    assert np.isfinite(evaluation.mean["box-size"])
    with pytest.raises(InputError, match="which is not registered"):
        wj.Localizer.load(tmp_path / "saved")
    with pytest.raises(InputError, match="pass the model that it was saved with"):
        wj.Localizer.load(tmp_path / "saved", model=make(points=68, hidden=9))


@pytest.mark.slow
def test_the_command_line_trains_and_evaluates_it(kind, run_command, config, tmp_path):
    options = ("--stage1.model.name", f"{kind}_points", "--stage1.model.params.hidden", "6")
    result = run_command("train", config, *options)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs" / "small"
    result = run_command("evaluate", run, "--data", "synthetic", "--faces", "4", "--output", "report")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))[0]["mean"] > 0
    faces = wj.load_faces("synthetic", "test", count=2)
    assert wj.Localizer.load(run).predict(faces.picture(0), faces.boxes[:1]).shape == (1, 68, 2)
