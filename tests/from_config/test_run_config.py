"""A run's folder goes on only by the config that it was begun with, which lies in it and repeats the run."""

import dataclasses
import json

import pytest

from tests.support.paths import CONFIGS
from wing_jax.config import Config, DataConfig, GridConfig, LossConfig, SweepConfig, load_config
from wing_jax.errors import InputError
from wing_jax.from_config.sweep import sweep
from wing_jax.from_config.train import record_of, train
from wing_jax.train.run_record import write_record


def claim(config, folder=None):
    folder = folder or config.folder
    write_record(record_of(config, folder), folder)


@pytest.fixture
def config(tmp_path) -> Config:
    return dataclasses.replace(load_config(CONFIGS / "synthetic.py"), output=str(tmp_path))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_the_record_of_every_config_is_that_config_again(path, tmp_path):
    config = dataclasses.replace(load_config(path), output=str(tmp_path))
    claim(config)
    claim(config)
    assert load_config(config.folder / "config.json") == config
    assert [path.name for path in config.folder.iterdir()] == ["config.json"]


def changed(config: Config, part: str, **values) -> Config:
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **values)})


OTHERS = {
    "seed": lambda config: dataclasses.replace(config, seed=1),
    "input": lambda config: dataclasses.replace(config, input="tfdata"),
    "data.name": lambda config: changed(config, "data", name="w300", train_faces=config.data.train_faces),
    "data.without": lambda config: changed(config, "data", without=("afw/1",)),
    "stage1.steps": lambda config: changed(config, "stage1", steps=12345),
    "stage1.model.name": lambda config: changed(
        config, "stage1", model=dataclasses.replace(config.stage1.model, name="voting")
    ),
    "more": lambda config: dataclasses.replace(config, more=(DataConfig(name="mtfl"),)),
}


@pytest.mark.parametrize("field", OTHERS)
def test_another_config_is_refused_and_the_field_named(config, field):
    claim(config)
    before = (config.folder / "config.json").read_bytes()
    other = OTHERS[field](config)
    for refuse in (claim, train):
        with pytest.raises(InputError) as caught:
            refuse(other)
        assert f"was begun with {field}=" in str(caught.value)
        assert "choose another folder (--name)" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (config.folder / "config.json").read_bytes() == before
    (config.folder / "config.json").unlink()
    claim(other)


def test_a_second_stage_that_was_not_there_is_refused(config):
    claim(dataclasses.replace(config, stage2=None))
    with pytest.raises(
        InputError, match=r"begun with stage2\.augment\.aspect=None, and now it is 0\.0 \(and \d+ more: stage2\."
    ):
        claim(config)


def test_where_and_on_what_it_runs_may_change(config, tmp_path):
    claim(config)
    moved = dataclasses.replace(config, devices=1, parallel="pmap", steps_per_call=7)
    claim(changed(changed(moved, "data", root="elsewhere"), "stage1", keep=5))
    config.folder.rename(tmp_path / "renamed")
    renamed = changed(dataclasses.replace(config, name="renamed"), "data", root="there")
    claim(renamed)
    record = record_of(renamed, renamed.folder)  # which names the checkpoints and the faces of a step that diverges
    assert (record["name"], record["data"]["root"], record["devices"]) == ("renamed", "there", 0)


def test_what_a_later_version_added_is_no_difference_until_it_is_used(config):
    claim(config)
    path = config.folder / "config.json"
    record = json.loads(path.read_text())
    for part, name in ((record["data"], "reshaped"), (record["stage1"]["augment"], "jpeg"), (record, "large_batch")):
        del part[name]
    path.write_text(json.dumps(record))
    claim(config)
    used = dataclasses.replace(config.stage1.augment, jpeg=0.5)
    with pytest.raises(InputError, match=r"begun with stage1\.augment\.jpeg=0\.0, and now it is 0\.5"):
        claim(changed(config, "stage1", augment=used))


def test_what_a_loss_has_by_default_is_the_same_said_or_not(config):
    def of(name, size=None, **params):
        return changed(config, "stage1", loss=LossConfig(name=name, reference_size=size, params=params))

    claim(of("wing", 64, width=10.0, epsilon=2.0))
    claim(of("wing"))
    claim(of("wing", None, epsilon=2.0))
    with pytest.raises(InputError, match=r"begun with stage1\.loss\.reference_size=64, and now it is 128"):
        claim(of("wing", 128))
    with pytest.raises(InputError, match=r"begun with stage1\.loss\.params\.width=10\.0, and now it is 12\.0"):
        claim(of("wing", width=12.0))
    (config.folder / "config.json").unlink()
    claim(of("soft_wing", 64))
    with pytest.raises(InputError, match=r"begun with stage1\.loss\.reference_size=64, and now it is 256"):
        claim(of("soft_wing"))


def test_what_a_network_has_by_default_is_the_same_said_or_not(config):
    own = config.stage1.model
    bare = {name: value for name, value in own.params.items() if name != "hidden"}
    claim(changed(config, "stage1", model=dataclasses.replace(own, params=bare)))
    claim(changed(config, "stage1", model=dataclasses.replace(own, params={**bare, "hidden": 1024, "dropout": 0.0})))
    with pytest.raises(InputError, match=r"begun with stage1\.model\.params\.hidden=1024, and now it is 512"):
        claim(config)


def test_a_sweep_over_another_grid_does_not_take_the_first_ones_runs_for_its_own(config):
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    first = SweepConfig(**fields, grid=GridConfig(params={"width": (8.0, 10.0)}))
    claim(config)  # a training of this name, beside which a sweep may lie
    claim(first, first.folder / "sweep")
    with pytest.raises(InputError, match=r"was begun with grid\.params\.width=\[8\.0, 10\.0\], and now it is \[4\.0"):
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
def test_a_record_that_cannot_be_read_is_told(config, content):
    config.folder.mkdir()
    (config.folder / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: cannot be read .*: delete it if"):
        claim(config)


def test_a_record_that_cannot_be_written_is_told(config):
    config.folder.parent.joinpath(config.folder.name).write_text("a file is in the way")
    with pytest.raises(InputError, match=r"config\.json: cannot be written"):
        claim(config)
