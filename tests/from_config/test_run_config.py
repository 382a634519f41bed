"""The record of a run: its folder has the config it was started with, and the run resumes with that config only."""

import dataclasses
import json

import pytest

from tests.support.paths import CONFIGS
from wing_jax.config import Config, DataConfig, GridConfig, LossConfig, SweepConfig
from wing_jax.config_files import load_config
from wing_jax.errors import InputError
from wing_jax.from_config.sweep import sweep
from wing_jax.from_config.train import record_of, train
from wing_jax.train.run_record import write_record


def start_run(config, folder=None):
    folder = folder or config.folder
    write_record(record_of(config, folder), folder)


@pytest.fixture
def config(tmp_path) -> Config:
    return dataclasses.replace(load_config(CONFIGS / "synthetic.py"), output=str(tmp_path))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_the_record_of_a_config_loads_as_the_same_config(path, tmp_path):
    config = dataclasses.replace(load_config(path), output=str(tmp_path))
    start_run(config)
    start_run(config)
    assert load_config(config.folder / "config.json") == config
    assert [path.name for path in config.folder.iterdir()] == ["config.json"]


def changed(config: Config, part: str, **values) -> Config:
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **values)})


CHANGES = {
    "seed": lambda config: dataclasses.replace(config, seed=1),
    "input": lambda config: dataclasses.replace(config, input="tfdata"),
    "data.name": lambda config: changed(config, "data", name="w300", train_faces=config.data.train_faces),
    "data.exclude": lambda config: changed(config, "data", exclude=("afw/1",)),
    "stage1.steps": lambda config: changed(config, "stage1", steps=12345),
    "stage1.model.name": lambda config: changed(
        config, "stage1", model=dataclasses.replace(config.stage1.model, name="voting")
    ),
    "extra_data": lambda config: dataclasses.replace(config, extra_data=(DataConfig(name="mtfl"),)),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_different_config_is_refused_and_the_field_named(config, field):
    start_run(config)
    before = (config.folder / "config.json").read_bytes()
    other = CHANGES[field](config)
    for function in (start_run, train):
        with pytest.raises(InputError) as error:
            function(other)
        assert f"was started with {field}=" in str(error.value)
        assert "pass another folder (--name)" in str(error.value)
        assert "\n" not in str(error.value)
    assert (config.folder / "config.json").read_bytes() == before
    (config.folder / "config.json").unlink()
    start_run(other)


def test_adding_a_second_stage_is_refused(config):
    start_run(dataclasses.replace(config, stage2=None))
    with pytest.raises(
        InputError, match=r"started with stage2\.augment\.aspect=None, but is now 0\.0 \(and \d+ more: stage2\."
    ):
        start_run(config)


def test_paths_and_devices_may_change(config, tmp_path):
    start_run(config)
    moved = dataclasses.replace(config, devices=1, parallel="pmap", steps_per_call=7)
    start_run(changed(changed(moved, "data", root="elsewhere"), "stage1", keep_checkpoints=5))
    config.folder.rename(tmp_path / "renamed")
    renamed = changed(dataclasses.replace(config, name="renamed"), "data", root="there")
    start_run(renamed)
    record = record_of(renamed, renamed.folder)  # `wing-jax replay` finds the checkpoints and faces by it
    assert (record["name"], record["data"]["root"], record["devices"]) == ("renamed", "there", 0)


def test_fields_of_a_later_version_are_no_difference_until_they_are_used(config):
    start_run(config)
    path = config.folder / "config.json"
    record = json.loads(path.read_text())
    for part, name in ((record["data"], "reshaped"), (record["stage1"]["augment"], "jpeg"), (record, "large_batch")):
        del part[name]
    path.write_text(json.dumps(record))
    start_run(config)
    augment = dataclasses.replace(config.stage1.augment, jpeg=0.5)
    with pytest.raises(InputError, match=r"started with stage1\.augment\.jpeg=0\.0, but is now 0\.5"):
        start_run(changed(config, "stage1", augment=augment))


def test_defaults_of_a_loss_need_not_be_stated(config):
    def with_loss(name, size=None, **params):
        return changed(config, "stage1", loss=LossConfig(name=name, reference_size=size, params=params))

    start_run(with_loss("wing", 64, width=10.0, epsilon=2.0))
    start_run(with_loss("wing"))
    start_run(with_loss("wing", None, epsilon=2.0))
    with pytest.raises(InputError, match=r"started with stage1\.loss\.reference_size=64, but is now 128"):
        start_run(with_loss("wing", 128))
    with pytest.raises(InputError, match=r"started with stage1\.loss\.params\.width=10\.0, but is now 12\.0"):
        start_run(with_loss("wing", width=12.0))
    (config.folder / "config.json").unlink()
    start_run(with_loss("soft_wing", 64))
    with pytest.raises(InputError, match=r"started with stage1\.loss\.reference_size=64, but is now 256"):
        start_run(with_loss("soft_wing"))


def test_defaults_of_a_network_need_not_be_stated(config):
    model = config.stage1.model
    params = {name: value for name, value in model.params.items() if name != "hidden"}
    start_run(changed(config, "stage1", model=dataclasses.replace(model, params=params)))
    params = {**params, "hidden": 1024, "dropout": 0.0}
    start_run(changed(config, "stage1", model=dataclasses.replace(model, params=params)))
    with pytest.raises(InputError, match=r"started with stage1\.model\.params\.hidden=1024, but is now 512"):
        start_run(config)


def test_a_sweep_with_a_different_grid_is_refused(config):
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    first = SweepConfig(**fields, grid=GridConfig(params={"width": (8.0, 10.0)}))
    start_run(config)  # a training of the same name may be in the same folder
    start_run(first, first.folder / "sweep")
    with pytest.raises(InputError, match=r"was started with grid\.params\.width=\[8\.0, 10\.0\], but is now \[4\.0"):
        sweep(dataclasses.replace(first, grid=GridConfig(params={"width": (4.0, 6.0)})))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        '{"later": 1}',
        '{"name": "of another kind", "data": {"name": "w300"}}',
        "[" * 100_000,
        "\x00",
    ],
)
def test_a_record_that_cannot_be_read_is_reported(config, content):
    config.folder.mkdir()
    (config.folder / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: cannot be read .*: delete it to"):
        start_run(config)


def test_a_record_that_cannot_be_written_is_reported(config):
    config.folder.parent.joinpath(config.folder.name).write_text("a file is in the way")
    with pytest.raises(InputError, match=r"config\.json: cannot be written"):
        start_run(config)
