"""A model records the photos its training held out, and `evaluate --split held_out` measures exactly those."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import CONFIGS
from wing_jax import pretrained
from wing_jax.cli import main
from wing_jax.cli.evaluate import EvaluateOptions, faces_of
from wing_jax.config import BalanceConfig, Config, DataConfig, GridConfig, SweepConfig
from wing_jax.config_files import load_config
from wing_jax.data.held_out import HeldOut
from wing_jax.data.load import load_faces
from wing_jax.data.packed import pack
from wing_jax.errors import InputError
from wing_jax.from_config.train import held_out_rule, record_of, training_data
from wing_jax.inference.bundle import find_bundle
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.metadata import Metadata
from wing_jax.reproduce.runner import ExperimentRunner, recipe
from wing_jax.schemes import IBUG_68
from wing_jax.train.run_record import write_record

DATA = DataConfig(name="synthetic", train_faces=40, validation=0.3, exclude=("3-4", "3-5"))
SEED = 3


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "train", count=40, seed=SEED)


@pytest.fixture(scope="module")
def config() -> Config:
    base = load_config(CONFIGS / "synthetic.py")
    return dataclasses.replace(base, data=DATA, seed=SEED, balance=BalanceConfig(), stage2=None)


@pytest.fixture(scope="module")
def data(config):
    return training_data(config)


@pytest.fixture(autouse=True)
def in_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def empty_model(**metadata) -> Localizer:
    """A model without stages."""
    return Localizer(
        scheme=IBUG_68,
        box_convention="landmarks",
        stages=(),
        template=np.zeros((68, 2), np.float32),
        metadata=Metadata(**metadata),
    )


def select_faces(model: Path, **options):
    """Return (the faces that evaluate would use, its remarks about them)."""
    bundle = find_bundle(model)
    options = EvaluateOptions(model=str(model), split="held_out", **{"data": "synthetic", **options})
    return faces_of(options, Localizer.load(model), bundle)


def expected(faces, data: DataConfig = DATA) -> tuple[str, ...]:
    """Return the photos that a training on `data` holds out."""
    return faces.without(data.exclude).split(data.validation)[1].photos


@pytest.mark.slow
def test_a_training_records_the_photos_it_held_out(data, faces):
    record = data.localizer((), np.zeros((68, 2), np.float32), name="x").metadata.held_out
    assert record == data.held_out
    assert record.photos == tuple(sorted(expected(faces)))
    assert len(record.photos) == len(data.validation.images)
    assert not {*record.photos} & {*DATA.exclude}
    assert (record.data, record.validation, record.faces, record.seed) == ("synthetic", 0.3, 40, SEED)


@pytest.mark.slow
def test_evaluate_uses_exactly_the_held_out_photos(data, faces, tmp_path):
    model = data.localizer((), np.zeros((68, 2), np.float32), name="x").save(tmp_path / "elsewhere")
    selected, remarks = select_faces(model)
    assert selected.photos == expected(faces)
    assert remarks == ()
    by_default = load_faces("synthetic", "train", count=60).split(0.05)[1]
    assert not {*selected.photos} & {*by_default.photos}  # the default does not depend on the model
    few, remarks = select_faces(model, faces=20)
    assert set(few.photos) == {photo for photo in expected(faces) if int(photo.split("-")[1]) < 20}
    assert remarks == (f"{len(selected) - len(few)} of the {len(selected)} held-out photos are missing",)
    with pytest.raises(InputError, match=r"none of the .* photos of 'synthetic' that the model's training held out"):
        data.held_out.pick(load_faces("synthetic", "test", count=5), data="synthetic")


def test_photos_added_after_training_were_not_held_out(faces):
    record = held_out_rule(DATA, seed=SEED).of_faces(faces.take(np.array([1, 2])), trained={"3-0"})
    selected, _ = record.pick(faces, data="packed")  # the same photos, packed
    assert selected.photos == ("3-1", "3-2")


def test_many_photos_are_recorded_by_the_rule_and_a_digest(faces):
    held_out = faces.without(DATA.exclude).split(DATA.validation)[1]
    record = held_out_rule(DATA, seed=SEED).of_faces(held_out, trained={held_out.photos[0]}, most=3)
    assert record.photos is None
    assert len(json.dumps(record.to_table())) < 300
    restored = HeldOut.from_table(json.loads(json.dumps(record.to_table())))
    assert restored == record
    for name in ("synthetic", "packed"):
        selected, remark = restored.pick(faces, data=name)
        assert (selected.photos, remark) == (held_out.photos[1:], "")
    fewer = faces.take(np.arange(30))
    selected, remark = restored.pick(fewer, data="synthetic")
    assert set(selected.photos) == set(held_out.photos[1:]) & set(fewer.photos)
    assert "the data set has changed since" in remark
    with pytest.raises(InputError, match="held out photos of 'synthetic': pass that data set"):
        restored.pick(fewer, data="packed")


@pytest.mark.parametrize(
    "table",
    [3, [], {}, {"data": "w300"}, {"data": 3, "validation": 0.1, "photos": []},
     {"data": "w300", "validation": "0.1", "photos": []}, {"data": "w300", "validation": 0.1, "photos": [3]},
     {"data": "w300", "validation": 0.1, "photos": "abc"}, {"data": "w300", "validation": 0.1, "photos": {}, "seed": 0},
     {"data": "w300", "validation": 0.1, "photos": [], "seed": "x"}],
)  # fmt: skip
def test_an_invalid_record_is_rejected(table):
    with pytest.raises(InputError, match=r"model\.json: held_out is not a valid record of photos"):
        HeldOut.from_table(table)


def test_photos_in_another_training_set_are_not_recorded(config, data, faces, tmp_path):
    """The other set has photos with the same names, which may be the same photos."""
    held_out = np.flatnonzero([photo in data.held_out.photos for photo in faces.photos])
    pack({"train": faces.take(held_out[:4])}, tmp_path / "more", size=64, quality=90, source="drawn")
    more = DataConfig(name="packed", root=str(tmp_path / "more"))
    both = training_data(dataclasses.replace(config, extra_data=(more,)))
    assert {*both.held_out.photos} == {*data.held_out.photos} - {faces.photos[i] for i in held_out[:4]}


def test_repeating_a_set_does_not_train_on_its_held_out_photos(config, data):
    """`more` may contain the same set again, for example to reshape its faces."""
    both = training_data(dataclasses.replace(config, extra_data=(dataclasses.replace(DATA, copies=2),)))
    assert both.held_out == data.held_out
    assert len(both.train.images) == 2 * len(data.train.images)


def test_an_older_model_uses_the_config_beside_it(config, faces, tmp_path):
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    swept = SweepConfig(**fields, grid=GridConfig(losses=("wing",)))
    run = tmp_path / "run"
    for started, folder in ((config, run), (swept, tmp_path / "swept" / "sweep")):
        write_record(record_of(started, folder), folder)
    for folder in (run / "model", tmp_path / "swept" / "trials" / "wing-seed0" / "model"):
        selected, (remark,) = select_faces(empty_model().save(folder))
        assert selected.photos == expected(faces)
        assert "using 0.3 of the photos, from " in remark
        assert "config.json" in remark
    assert select_faces(run)[0].photos == expected(faces)  # the run's folder names its model
    pack({"train": faces}, tmp_path / "packed", size=64, quality=90, source="drawn")
    with pytest.raises(InputError, match="held out photos of 'synthetic': pass that data set"):
        select_faces(run, data="packed", root=str(tmp_path / "packed"))


def test_an_older_model_of_reproduce_uses_its_recipe(tmp_path):
    trial = recipe("synthetic", "trial")
    small = dataclasses.replace(trial.config, data=DataConfig(name="synthetic", train_faces=60, validation=0.2))
    runner = ExperimentRunner(dataclasses.replace(trial, config=small), output=tmp_path)
    selected, (remark,) = select_faces(empty_model().save(runner.folder / "measured" / "cnn-6" / "wing" / "model"))
    data = runner.recipe.config.data
    assert selected.photos == expected(load_faces("synthetic", "train", count=data.train_faces, seed=0), data)
    assert "recipe.json" in remark


def test_without_a_record_the_assumed_share_is_reported(tmp_path):
    selected, (remark,) = select_faces(empty_model().save(tmp_path / "old"), faces=40)
    assert selected.photos == load_faces("synthetic", "train", count=40).split(0.05)[1].photos
    assert "does not record which photos were held out: assuming the default, 0.05 of the photos" in remark


@pytest.mark.slow
def test_the_pretrained_models_record_their_held_out_photos(data_root):
    for name, faces in (("w300", 106), ("mtfl", 473)):  # from their model cards
        record = Localizer.load(name).metadata.held_out
        all_faces = load_faces(name, "train", root=str(data_root / {"w300": "300w"}.get(name, name)))
        selected, remark = record.pick(all_faces, data=name)
        assert (len(selected), remark) == (faces, "")
        assert f"{faces} held out" in pretrained.card(name)


def test_a_number_of_faces_is_only_for_drawn_faces(capsys, tmp_path):
    model = str(empty_model().save(tmp_path / "model"))
    for words in (["evaluate", model, "--data", "w300"], ["analyze", "model", model, "--data", "mtfl"],
                  ["data", "stats", "--data", "mtfl"]):  # fmt: skip
        with pytest.raises(SystemExit):
            main([*words, "--faces", "20"])
        assert "faces=20 is only for synthetic faces" in capsys.readouterr().err


def test_a_model_moved_away_from_its_run_keeps_its_record(data, faces, tmp_path):
    model = data.localizer((), np.zeros((68, 2), np.float32), name="x").save(tmp_path / "run" / "model")
    shutil.move(model, tmp_path / "mine")
    assert select_faces(tmp_path / "mine")[0].photos == expected(faces)
