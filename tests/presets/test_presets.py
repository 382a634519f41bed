"""Presets by name, from Python and the command line, in any working folder."""

import doctest
import inspect

import pytest

from wing_jax import presets
from wing_jax.cli import main, named_config
from wing_jax.cli.named_config import read_config
from wing_jax.cli.options import parse_config
from wing_jax.config import AugmentConfig, Config, DataConfig
from wing_jax.config_files import load_config
from wing_jax.errors import InputError
from wing_jax.presets.recipes import paper_recipe, strong_recipe, voting
from wing_jax.train.spec import Recipe


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    """Work in an empty folder, so that no preset is mistaken for a file of the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_a_function_a_name_and_a_file_that_can_be_copied(name, tmp_path, capsys):
    config = presets.load(name)
    assert config.name == name
    numbers = ("input_size", "margin", "batch_size", "steps", "evaluate_every")
    stages = [config.stage1] if config.stage2 is None else [config.stage1, config.stage2]
    recipe = getattr(presets, name)()
    assert recipe.balance is None or config.balance.method != "none"
    for actual, expected in zip(recipe.stages, stages, strict=True):
        stated = [field for field in numbers if getattr(expected, field)]  # 0: that of the trained model
        assert [getattr(actual, field) for field in stated] == [getattr(expected, field) for field in stated]
    assert parse_config(Config, [name], command="train", usage="") == config
    main(["config", name])
    printed = capsys.readouterr().out
    assert printed == presets.source(name) == presets.path(name).read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(printed, encoding="utf-8")
    assert load_config(tmp_path / "mine.py") == config


def test_every_function_that_returns_a_recipe_is_a_preset():
    functions = {name for name, value in inspect.getmembers(presets, inspect.isfunction)
            if value.__annotations__.get("return") is Recipe and value is not presets.recipe}  # fmt: skip
    assert functions == set(presets.names())


def test_the_command_line_lists_the_presets(capsys):
    main(["config"])
    printed = capsys.readouterr().out
    for name in presets.names():
        assert f"  {name} " in printed
        assert presets.summary(name) in printed


def test_an_unknown_name_is_refused(capsys):
    for arguments in (["config", "w301"], ["train", "w301"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert (
            "'w301': use one of aflw, finetune, mtfl, mtfl_from_w300, own, pretrain, synthetic, w300"
            in capsys.readouterr().err
        )
    with pytest.raises(InputError, match=r"w301\.py: cannot read this config"):
        read_config("w301.py")
    with pytest.raises(InputError, match="cannot read this config"):
        read_config("no\0path/name")


def test_a_file_with_the_name_of_a_preset_is_used_with_a_warning(tmp_path, capsys):
    (tmp_path / "w300").mkdir()  # a folder is not a config
    assert read_config("w300") == presets.load("w300")
    assert capsys.readouterr().err == ""
    (tmp_path / "w300").rmdir()
    (tmp_path / "w300").write_text(presets.source("mtfl"), encoding="utf-8")
    assert read_config("w300") == presets.load("mtfl")
    assert capsys.readouterr().err == "wing-jax: using the file w300, not the preset of the same name\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--data", "pts", "--root", "faces/train", "--scheme", "mine.toml"],
        ["--data=pts", "--root=faces/train", "--scheme=mine.toml"],
        ["--data.name", "pts", "--data.root", "faces/train", "--data.scheme", "mine.toml"],
    ],
)
def test_data_options_have_the_short_names_of_the_other_commands(options):
    config = parse_config(Config, ["own", *options, "--name", "mine", "--seed", "3"], command="train", usage="")
    assert config.data == DataConfig(name="pts", root="faces/train", scheme="mine.toml")
    assert (config.name, config.seed) == ("mine", 3)


def test_recipes_accept_any_field_of_a_stage_and_name_unknown_fields():
    augment = AugmentConfig(rotation=10.0, translation=0.0, scale=0.0)
    fields = dict(margin=1.0, augment=augment, steps=10, evaluate_every=5)
    second = dict(fields, model=voting((8, 8, 8, 8, 8, 8)))
    strong = strong_recipe(
        name="x", data=DataConfig(name="pts"), stage1=dict(fields, keep_checkpoints=3), stage2=second, seed=4
    )
    assert (strong.seed, strong.stage1.keep_checkpoints, strong.stage2.steps) == (4, 3, 10)
    assert strong.stage2.loss.reference_size == 128
    paper = paper_recipe(name="x", data=DataConfig(name="pts"), stage1=fields, stage2=fields)
    assert (paper.stage1.steps, paper.stage1.batch_size, paper.stage1.loss.reduction) == (
        10,
        8,
        "sum_over_points_mean_over_batch",
    )
    with pytest.raises(TypeError, match="stepz"):
        paper_recipe(name="x", data=DataConfig(name="pts"), stage1=dict(fields, stepz=3), stage2=fields)


@pytest.mark.parametrize("module", [presets, presets.recipes, named_config])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.failed == 0
    assert results.attempted > 0
