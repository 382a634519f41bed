"""Config files: the presets load, and every mistake is reported in one line that names the file and line."""

import dataclasses
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.paths import CONFIGS, DOCS
from wing_jax.config import AugmentConfig, Config, DataConfig, GridConfig, LossConfig, ModelConfig
from wing_jax.config_files import load_config
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import TRAINED, loss_of, recipe_of
from wing_jax.losses import LOSSES, make_loss
from wing_jax.models import make_model

PRESETS = sorted(CONFIGS.glob("*.py"))


def refusal(path: Path, source: str | bytes | None = None) -> str:
    if source is not None:
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.py"


def test_presets_exist():
    assert {path.stem for path in PRESETS} >= {"synthetic", "w300", "mtfl", "aflw"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_loads(path):
    config = load_config(path)
    assert config.name == path.stem == config.folder.name
    assert config.folder.parent == Path(config.output)
    assert path.read_text().startswith('"""')
    assert f"wing-jax train {path.stem}\n" in path.read_text() or path.stem in ("aflw", "own", "finetune")
    assert pickle.loads(pickle.dumps(config)) == config
    for stage in filter(None, (config.stage1, config.stage2)):
        assert stage.optimizer.final_learning_rate <= stage.optimizer.learning_rate
        assert stage.steps % stage.evaluate_every == 0
        loss_of(stage.loss, input_size=stage.input_size or 64)
        if stage.model.name != TRAINED:
            make_model(stage.model.name, points=5, **stage.model.params)


@pytest.mark.parametrize("kind", [LossConfig, ModelConfig])
def test_the_order_of_parameters_does_not_matter(kind):
    first, second = (
        kind(name="any", params=dict(pairs)) for pairs in ([("a", 1.0), ("b", 2.0)], [("b", 2.0), ("a", 1.0)])
    )
    assert first == second
    assert {first: "value"}[second] == "value"
    assert kind(name="any", params={"a": 1.0}) not in {first}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [LossConfig, ModelConfig, GridConfig])
def test_parameters_that_are_not_a_table_are_refused(kind):
    with pytest.raises(InputError, match="pass a table of names and values"):
        kind(params={1: 2.0})


def test_a_config_copies_its_parameters():
    params = {"channels": [8, 16]}
    config = ModelConfig(params=params)
    params["channels"] = []
    assert config.params == {"channels": (8, 16)}


def values(loss):
    return loss_of(loss, input_size=64)(jnp.linspace(0, 9, 64), jnp.zeros(64))


@pytest.mark.parametrize("name", ["l2", "l1", "smooth_l1", "wing", "rectified_wing", "soft_wing"])
def test_every_parameter_and_the_reference_size_reach_the_loss(name):
    """Without parameters, each loss has its defaults, in pixels of its reference size."""
    size = 256 if name == "soft_wing" else 64
    same = make_loss(name, reference_size=size, working_extent=64.0)
    plain = values(LossConfig(name=name))
    np.testing.assert_array_equal(plain, same(jnp.linspace(0, 9, 64), jnp.zeros(64)))
    np.testing.assert_array_equal(plain, values(LossConfig(name=name, reference_size=size)))
    for label, value in LOSSES[name].parameters.items():
        assert (np.asarray(values(LossConfig(name=name, params={label: 0.9 * value}))) != plain).any(), label


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "l1", "params": {"width": 10.0}}, "the loss 'l1' has no parameter width: it has none"),
        ({"name": "wing", "params": {"rectification": 0.1}}, "no parameter rectification: use width, epsilon"),
        (
            {"name": "rectified_wing", "params": {"rectification": 10.0}},
            "loss 'rectified_wing': rectification is 10.0: it must be below the width",
        ),
        ({"name": "soft_wing", "params": {"linear_width": -1.0}}, "linear_width is -1.0"),
        ({"name": "smooth_l1", "params": {"beta": 0.0}}, "beta is 0.0"),
        ({"name": "wing", "params": {"epsilon": float("inf")}}, "epsilon is inf"),
        ({"name": "wings"}, "no loss is called 'wings': did you mean wing?"),
        ({"name": "wing", "reference_size": 0}, "reference_size is 0"),
    ],
)
def test_an_unknown_or_invalid_loss_parameter_is_named(loss, message):
    with pytest.raises(InputError) as caught:
        loss_of(LossConfig(**loss), input_size=64)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "plane"}, "no network is called 'plane': did you mean plain?"),
        ({"params": {"width": 3}}, "the network 'plain' has no parameter width"),
    ],
)
def test_an_invalid_network_is_refused_before_any_face_is_read(model, message):
    config = load_config(PRESETS[0])
    with pytest.raises(InputError) as caught:
        recipe_of(dataclasses.replace(config, stage1=dataclasses.replace(config.stage1, model=ModelConfig(**model))))
    assert message in str(caught.value)


def test_loss_parameters_survive_json(tmp_path):
    base = load_config(PRESETS[0])
    loss = LossConfig(name="rectified_wing", params={"rectification": 0.5, "width": 8.0})
    config = dataclasses.replace(base, stage1=dataclasses.replace(base.stage1, loss=loss))
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    assert load_config(tmp_path / "config.json") == config
    table = json.loads((tmp_path / "config.json").read_text())
    table["stage1"]["loss"] = {"name": "rectified_wing", "rectification": 0.5}
    assert "extra fields found (rectification) @ config.stage1.loss" in refusal(tmp_path / "c.json", json.dumps(table))


def test_a_config_is_frozen_and_keyword_only():
    data = DataConfig(name="w300")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.root = "elsewhere"
    with pytest.raises(TypeError):
        DataConfig("w300")


def test_an_unreadable_file_is_refused(file, tmp_path):
    assert (
        refusal(file) == ": cannot read this config: pass the path of a config file (wing-jax config NAME prints one)"
    )
    assert "cannot read this config" in refusal(tmp_path)
    assert "cannot read this config" in refusal(file, b"\xff\xfe\x80")


def test_a_syntax_error_names_its_line(file):
    assert refusal(file, "a = 1\nconfig = Config(name=\n").startswith(":2: SyntaxError: ")
    assert "SyntaxError" in refusal(file, "a = 1\0")


def test_an_error_names_the_line_of_the_file_not_of_the_library(file):
    assert refusal(file, "\n\nnothing\n") == ":3: NameError: name 'nothing' is not defined"
    source = "import json\n\ndef read():\n    return json.loads('{')\n\nread()\n"
    assert refusal(file, source).startswith(":4: JSONDecodeError: ")


def test_an_unknown_field_is_named_with_the_known_fields(file):
    file.write_text(
        "from wing_jax.config import AugmentConfig\n\n"
        "perturb = AugmentConfig(\n    rotation=3, translation=0, scale=1, shear=2\n)\n"
    )
    # In a new process: the type checker of these tests wraps the dataclasses and changes this message.
    script = "import sys; from wing_jax.config_files import load_config; load_config(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, timeout=60)
    fields = ", ".join(field.name for field in dataclasses.fields(AugmentConfig))
    message = f"InputError: {file}:3: AugmentConfig has no field 'shear': use one of {fields}"
    assert run.stderr.splitlines()[-1].endswith(message)


def test_a_missing_field_is_named(file):
    message = refusal(file, "from wing_jax.config import AugmentConfig\nAugmentConfig(rotation=3, scale=1)\n")
    assert message.startswith(":2: TypeError: ")
    assert "translation" in message


@pytest.mark.parametrize("source", ["", "other = 3\n", "config = {'name': 'dictionary'}\n"])
def test_a_file_without_config_is_refused(file, source):
    assert refusal(file, source) == ": defines no `config = Config(...)`: wing-jax config synthetic prints an example"


def test_a_config_may_load_another_config(file):
    file.write_text(
        "import dataclasses\nfrom wing_jax.config_files import load_config\n"
        f"config = dataclasses.replace(load_config({str(PRESETS[0])!r}), seed=7)\n"
    )
    assert load_config(file) == dataclasses.replace(load_config(PRESETS[0]), seed=7)
    assert isinstance(load_config(str(file)), Config)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_survives_json(path, tmp_path):
    config = load_config(path)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    loaded = load_config(tmp_path / "config.json")
    assert loaded == config
    assert type(loaded) is type(config)


def test_the_config_in_the_documentation_loads(tmp_path):
    page = (DOCS / "concepts" / "reliability.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "config.toml").write_text(example)
    config = load_config(tmp_path / "config.toml")
    assert config.stage1.model.params["channels"] == (32, 64, 128, 256, 512)
    assert config.stage2 is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["stage1"].update(input_size="64"), "expected int, got '64' @ config.stage1.input_size"),
        (lambda t: t["stage1"].update(steps=10.0), "expected int, got 10.0 @ config.stage1.steps"),
        (lambda t: t["stage1"].update(steps=True), "expected int, got True @ config.stage1.steps"),
        (lambda t: t["stage1"].update(steps=-1), "steps=-1 must be greater than 0 @ config.stage1"),
        (lambda t: t["data"].update(exclude="abc"), "expected a list, got 'abc' @ config.data.exclude"),
        (lambda t: t["stage1"]["model"].update(channels=[1]), "extra fields found (channels) @ config.stage1.model"),
        (lambda t: t["stage1"]["model"].update(params=[1]), "expected a table of fields @ config.stage1.model.params"),
        (
            lambda t: t["stage1"]["loss"]["params"].update(width="10"),
            "expected float, got '10' @ config.stage1.loss.params",
        ),
        (
            lambda t: t["stage1"]["loss"].update(reduction="sum"),
            "sum not in ['sum_over_points_mean_over_batch', 'mean']",
        ),
        (lambda t: t["data"].pop("name"), "required field missing @ config.data.name"),
        (lambda t: t.update(data=[1]), "expected a table of fields @ config.data"),
        (lambda t: t["stage1"].update(margin=float("inf")), "expected float, got inf @ config.stage1.margin"),
    ],
)
def test_an_invalid_value_in_a_table_is_named_by_its_path(tmp_path, change, message):
    table = json.loads(json.dumps(dataclasses.asdict(load_config(PRESETS[0]))))
    change(table)
    assert message in refusal(tmp_path / "config.json", json.dumps(table))


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("", "seed", -1, "seed=-1 must be between 0 and 4,294,967,295"),
        ("", "seed", 10**20, "must be between 0 and"),
        ("", "devices", -1, "devices=-1 must not be below 0"),
        ("data", "train_faces", -5, "train_faces=-5 must not be below 0"),
        ("stage1", "margin", float("nan"), "margin=nan must not be below 0, and finite"),
        ("stage1.augment", "flip", 3.0, "flip=3.0 must be between 0 and 1"),
        ("stage1.augment", "jpeg", float("nan"), "jpeg=nan must be between 0 and 1"),
        ("stage1.augment", "scale", 1.5, "scale=1.5 must be between 0 and 0.9"),
        ("stage1.augment", "blur_sigma", 0.0, "blur_sigma=0.0 must be greater than 0"),
        ("stage1.optimizer", "learning_rate", 0.0, "learning_rate=0.0 must be greater than 0"),
        ("stage1.optimizer", "learning_rate", float("inf"), "learning_rate=inf must be greater than 0, and finite"),
        ("stage1.optimizer", "warmup", -1, "warmup=-1 must not be below 0"),
        ("stage1.optimizer", "ema", 1.0, "ema=1.0 must be at least 0 and below 1"),
        ("stage2", "crops_per_face", 0, "crops_per_face=0 must be greater than 0"),
    ],
)
def test_a_number_out_of_range_is_refused_in_every_dataclass(part, field, value, message):
    owner = load_config(PRESETS[0].with_name("synthetic.py"))
    for name in filter(None, part.split(".")):
        owner = getattr(owner, name)
    with pytest.raises(InputError, match=message):
        dataclasses.replace(owner, **{field: value})


def test_exponential_decay_to_zero_is_refused():
    optimizer = load_config(PRESETS[0].with_name("synthetic.py")).stage1.optimizer
    assert dataclasses.replace(optimizer, final_learning_rate=0.0).decay == "cosine"
    with pytest.raises(InputError, match=r"final_learning_rate=0\.0 must be greater than 0"):
        dataclasses.replace(optimizer, final_learning_rate=0.0, decay="exponential")


@pytest.mark.parametrize("grid", [{"seeds": (0, -1)}, {"learning_rates": (-1.0,)}, {"params": {"width": -1.0}}])
@pytest.mark.usefixtures("unchecked")
def test_a_grid_out_of_range_is_refused(grid):
    with pytest.raises(InputError, match="-1"):
        GridConfig(**grid)


@pytest.mark.parametrize("name", ["config.json", "CONFIG.JSON"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_table_with_an_uppercase_name_or_a_byte_order_mark_is_read(tmp_path, name, mark):
    config = load_config(PRESETS[0])
    (tmp_path / name).write_bytes(mark + json.dumps(dataclasses.asdict(config)).encode())
    assert load_config(tmp_path / name) == config


def test_python_with_a_byte_order_mark_is_read(file):
    file.write_bytes(b"\xef\xbb\xbf" + PRESETS[0].read_bytes())
    assert load_config(file) == load_config(PRESETS[0])


@pytest.mark.parametrize("ending", ["yaml", "YML"])
def test_yaml_is_not_run_as_python(tmp_path, ending):
    assert refusal(tmp_path / f"mine.{ending}", "print('run')") == (
        ": YAML is not supported: write the same fields as .toml, .json or Python"
    )
