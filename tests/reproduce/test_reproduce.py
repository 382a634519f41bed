"""The paper's tables: the print, the rule of the learning rates, and cells that are trained once and measured once."""

import dataclasses
import json
import shutil
import statistics

import numpy as np
import pytest

from wing_jax.cli import main
from wing_jax.cli.reproduce import ReproduceOptions, make
from wing_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SecondStageConfig,
    StageConfig,
    load_config,
)
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.reproduce import METHODS, TARGETS, ExperimentRunner, published, recipe
from wing_jax.reproduce.rates import best, beyond, multiple, tried_rates
from wing_jax.reproduce.recipes import Recipe
from wing_jax.reproduce.runner import Variant
from wing_jax.runtime import devices

LOSSES = ("l2", "wing")


def small_recipe(name="small", **changes) -> Recipe:
    """Two tiny stages on synthetic faces."""
    optimizer = OptimizerConfig(
        name="sgd", learning_rate=1e-3, final_learning_rate=1e-5, decay="exponential", weight_decay=5e-4
    )
    shared = {
        "input_size": 16,
        "augment": AugmentConfig(rotation=5.0, translation=0.02, scale=0.02),
        "optimizer": optimizer,
        "batch_size": 4,
        "steps": 4,
        "evaluate_every": 2,
    }
    model = ModelConfig(params={"channels": (4, 8), "hidden": 8}, output_bias="mean_shape")
    config = Config(
        name=name,
        data=DataConfig(name="synthetic", train_faces=24, test_faces=10, validation=0.2),
        stage1=StageConfig(margin=1.3, model=model, loss=LossConfig(params={"width": 10.0, "epsilon": 2.0}), **shared),
        stage2=SecondStageConfig(
            margin=1.2,
            model=model,
            loss=LossConfig(params={"width": 15.0, "epsilon": 3.0}, reference_size=128),
            stage2_crops="annotated",
            **shared,
        ),
        balance=recipe("synthetic", "trial").config.balance,
        devices=1,
    )
    whole = Recipe(name=name, budget="trial", config=config, metric="box-size", tuned=True)
    return dataclasses.replace(whole, **changes)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return ExperimentRunner(small_recipe(), output=tmp_path_factory.mktemp("reproduce"))


@pytest.fixture(scope="module")
def third(shop):
    """Table 3 of two losses and two seeds."""
    return TARGETS["table3"](shop, seeds=(0, 1), losses=LOSSES)


def test_every_loss_has_a_title():
    assert set(published.TITLES) >= {"l2", "l1", "smooth_l1", "wing", "rectified_wing", "soft_wing"}
    assert [published.title_of(name) for name in ("wing", "log_cosh")] == ["Wing", "log_cosh"]


def test_the_print_is_consistent_in_itself():
    assert published.TABLE2[2.0][published.WIDTHS.index(10.0)] == published.TABLE1["wing"] == 1.88
    assert round(published.TABLE1["wing"] / published.TABLE1["l2"], 2) == 0.78
    assert set(published.TABLE3) == {method.name for method in METHODS}
    for losses in published.TABLE3.values():
        assert losses["wing"] < losses["l1"] <= losses["smooth_l1"] < losses["l2"]
    assert [len(row) for row in published.TABLE2.values()] == [6] * 4


def test_the_papers_budget_is_the_papers_training():
    found, own = recipe("aflw", "paper").config, load_config("configs/aflw.py")
    for mine, theirs in ((found.stage1, own.stage1), (found.stage2, own.stage2)):
        assert dataclasses.replace(mine, evaluate_every=1) == dataclasses.replace(theirs, evaluate_every=1)
    assert (found.balance.method, found.balance.bins) == (own.balance.method, own.balance.bins)
    assert not recipe("aflw", "paper").tuned


def test_rates_go_on_until_the_best_is_not_at_an_end():
    curve = {step: (step - 3) ** 2 + 1.0 for step in range(-4, 5)}
    tried = {step: curve[step] for step in (-1, 0, 1)}
    while (further := beyond(tried)) is not None:
        tried[further] = curve[further]
    assert best(tried) == 3
    assert sorted(tried) == [-1, 0, 1, 2, 3, 4]
    assert beyond({-1: 2.0, 0: 1.0, 1: np.inf}) is None
    assert beyond({-1: 1.0, 0: 1.0, 1: np.inf}) == -2  # of equals the slower one
    assert beyond(dict.fromkeys(range(-4, 2), 1.0)) is None  # no further than two decades
    assert [multiple(step) for step in (-2, 0, 1)] == [0.1, 1.0, 3.162]


def test_every_loss_is_tuned_by_the_same_rule_on_the_held_out_faces(shop, third):
    told = json.loads((shop.folder / "rates.json").read_text())
    assert set(told) == set(LOSSES)
    for loss in LOSSES:
        assert {"0.3162", "1", "3.162"} <= set(told[loss])
        tried = tried_rates(shop, loss)
        cell = shop.trial(1, Variant(loss=shop.recipe.loss(loss), rate=multiple(best(tried)), seed=1))
        assert (shop.folder / "stages" / "stage1" / cell.label / "model.json").exists()
        kept = json.loads(
            (shop.folder / "stages" / "stage1" / cell.label.replace("seed1", "seed0") / "model.json").read_text()
        )
        assert kept["validation_nme"] == min(tried.values())


def test_the_table_holds_what_the_models_reach(shop, third):
    values = third.values["nme_percent"]
    assert list(values) == [method.name for method in METHODS]
    faces = shop.test
    chosen = {loss: multiple(best(tried_rates(shop, loss))) for loss in LOSSES}
    for method in METHODS:
        for loss in LOSSES:
            for seed, nme in enumerate(values[method.name][loss]):
                variant = Variant(loss=shop.recipe.loss(loss), rate=chosen[loss], seed=seed)
                place = method.name.lower().replace(" + ", "-").replace("/", "")
                localizer = Localizer.load(shop.folder / "measured" / place / shop.trial(1, variant).label)
                assert len(localizer.stages) == method.stages
                errors = []
                for i in range(len(faces)):
                    (points,) = localizer.predict(faces.picture(i), faces.boxes[i : i + 1])
                    side = np.sqrt(np.prod(faces.boxes[i, 2:] - faces.boxes[i, :2]))
                    errors.append(np.linalg.norm(points - faces.points[i], axis=-1)[faces.visible[i]].mean() / side)
                assert nme == pytest.approx(100 * statistics.fmean(errors), rel=2e-2)
    shown = third.grids[0].rows
    assert (
        shown[0][1] == f"{statistics.fmean(values['CNN-6']['l2']):.2f} ± {statistics.stdev(values['CNN-6']['l2']):.2f}"
    )
    ratio = statistics.fmean(values["CNN-6"]["wing"]) / statistics.fmean(values["CNN-6"]["l2"])
    assert third.grids[2].rows[0][2] == f"{ratio:.2f} (0.78)"


def test_models_differ_by_loss_seed_and_balance(third):
    cells = [value for row in third.values["nme_percent"].values() for values in row.values() for value in values]
    assert len(set(cells)) == len(cells) == 16


def test_the_second_stage_has_the_lengths_of_its_own_crop(shop, third):
    labels = {path.name.rsplit("-lr")[0] for path in (shop.folder / "stages" / "stage2-hsm").iterdir()}
    assert labels == {"l2", "wing-width15-epsilon3"}


def written(shop):
    """When each file of a stage or a measured model was written."""
    return {
        path: path.stat().st_mtime_ns for part in ("stages", "measured") for path in (shop.folder / part).rglob("*")
    }


def test_what_is_done_is_not_done_again(shop, third):
    before, seen = written(shop), []
    again = ExperimentRunner(small_recipe(), output=shop.folder.parent, callbacks=[seen.append])
    assert TARGETS["table3"](again, seeds=(0, 1), losses=LOSSES).values == third.values
    first = TARGETS["table1"](again, seeds=(0, 1), losses=LOSSES)
    assert first.values["nme_percent"] == {"CNN-6": third.values["nme_percent"]["CNN-6"]}
    curve = TARGETS["ced"](again, seeds=(0, 1), losses=LOSSES)
    nmes = np.concatenate([again.measure(METHODS[0], _variant(again, seed)).nmes for seed in (0, 1)])
    assert curve.values["shares"]["Wing"] == [float((nmes <= limit).mean()) for limit in curve.values["limits"]]
    assert seen == []
    assert written(shop) == before


def _variant(shop, seed):
    return Variant(loss=shop.recipe.loss("wing"), rate=multiple(best(tried_rates(shop, "wing"))), seed=seed)


def test_a_run_that_was_stopped_goes_on(third, tmp_path):
    seen = []

    def note(progress):
        seen.append(progress.step)
        return seen == [2, 4, 2, 4, 2]  # in the middle of the third sweep

    def table3():
        return TARGETS["table3"](
            ExperimentRunner(small_recipe(), output=tmp_path, callbacks=[note]), seeds=(0, 1), losses=LOSSES
        )

    with pytest.raises(KeyboardInterrupt):
        table3()
    assert seen == [2, 4, 2, 4, 2]
    resumed = table3()
    assert resumed.values == third.values
    assert seen[5] == 4
    assert not list(tmp_path.rglob("checkpoints"))


def test_table_2_has_a_model_for_each_width_and_epsilon(shop, third):
    made = TARGETS["table2"](shop, seeds=(0,), losses=LOSSES)
    assert len(made.values["nme_percent"]) == 24
    assert len({value["seeds"][0] for value in made.values["nme_percent"]}) > 20
    at_default = next(v["seeds"] for v in made.values["nme_percent"] if (v["width"], v["epsilon"]) == (10.0, 2.0))
    assert at_default == third.values["nme_percent"]["CNN-6"]["wing"][:1]  # the same model
    paths = made.write(shop.folder, "table2")
    assert [path.name for path in paths] == ["table2.md", "table2.json", "table2.png"]
    assert "| 2 | 1.98 | 1.92 | 1.91 | 1.88 | 1.90 | 1.98 |" in paths[0].read_text()


class LongerWorkshop(ExperimentRunner):
    """One whose other budgets are of the small recipe."""

    def at(self, budget):
        return ExperimentRunner(small_recipe(), output=self.folder.parent)


def test_length_alone_differs_and_the_rates_are_those_of_the_short_budget(shop, third):
    longer = small_recipe("longer", budget="long")
    stage = dataclasses.replace(longer.config.stage1, steps=8)
    longer = dataclasses.replace(longer, config=dataclasses.replace(longer.config, stage1=stage))
    made = TARGETS["length"](LongerWorkshop(longer, output=shop.folder.parent), seeds=(0,), losses=LOSSES)
    found = made.values["nme_percent"]
    assert list(found) == ["16 faces", "32 faces"]
    assert found["16 faces"] == {loss: values[:1] for loss, values in third.values["nme_percent"]["CNN-6"].items()}
    assert found["32 faces"] != found["16 faces"]
    assert "at the budget short" in made.about["learning rates of CNN-6"]
    cells = {path.name for path in (shop.folder.parent / "longer" / "stages" / "stage1").iterdir()}
    assert len(cells) == len(LOSSES)  # nothing was tuned here
    chosen = {path.name for path in (shop.folder / "stages" / "stage1").iterdir()}
    assert cells <= chosen
    with pytest.raises(InputError, match="give --budget long"):
        TARGETS["length"](shop, seeds=(0,), losses=LOSSES)


def test_the_long_budget_is_the_short_one_and_longer():
    short, longer = (recipe("mtfl", budget).config for budget in ("short", "long"))
    for name in ("stage1", "stage2"):
        one, other = getattr(short, name), getattr(longer, name)
        assert other.steps == 4 * one.steps
        assert dataclasses.replace(other, steps=one.steps, evaluate_every=one.evaluate_every) == one


def test_poses_before_and_after(shop):
    made = TARGETS["pose-histogram"](shop, seeds=(), losses=())
    assert sum(made.values["before"]) == len(shop.data.train.images)
    assert sum(made.values["after"]) == len(shop.data.order)


def test_a_folder_of_another_recipe_is_refused(shop):
    with pytest.raises(InputError, match="another recipe: give another --output"):
        ExperimentRunner(small_recipe(tuned=False), output=shop.folder.parent)


def test_what_a_later_version_added_to_configs_is_no_other_recipe(tmp_path):
    path = ExperimentRunner(small_recipe(tuned=False), output=tmp_path).folder / "recipe.json"
    record = json.loads(path.read_text())
    del record["config"]["stage1"]["augment"]["jpeg"]
    path.write_text(json.dumps(record))
    ExperimentRunner(small_recipe(tuned=False), output=tmp_path)
    record["config"]["stage1"]["augment"]["jpeg"] = 0.5
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="another recipe"):
        ExperimentRunner(small_recipe(tuned=False), output=tmp_path)


@pytest.mark.parametrize("content", ["", "3", "[]", "{}", '{"config": 3}', '{"later": 1, "config": {}}'])
def test_a_recipe_that_cannot_be_read_is_told(tmp_path, content):
    path = ExperimentRunner(small_recipe(tuned=False), output=tmp_path).folder / "recipe.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"recipe\.json: holds no recipe .*: give another --output"):
        ExperimentRunner(small_recipe(tuned=False), output=tmp_path)


def test_the_papers_rates_are_taken_where_nothing_is_tuned(tmp_path):
    from wing_jax.reproduce.rates import rates

    shop = ExperimentRunner(small_recipe(tuned=False), output=tmp_path)
    assert rates(shop, ("l2", "l1", "wing")) == {"l2": 0.1, "l1": 1.0, "wing": 1.0}


def test_wing_s_lengths_are_for_losses_of_its_measure_alone():
    made = {name: recipe("mtfl", "short").loss(name, number=2) for name in published.TITLES}
    lengths = {name: (*loss.params.values(), loss.reference_size) for name, loss in made.items()}
    assert lengths == {
        "l2": (128,),
        "l1": (128,),
        "smooth_l1": (128,),
        "wing": (15.0, 3.0, 128),
        "rectified_wing": (15.0, 3.0, 128),
        "soft_wing": (None,),  # its own 2, 20 and 0.5, which are pixels of 256
    }


def test_table_4_is_of_300w_alone(shop):
    with pytest.raises(InputError, match="give --data w300"):
        TARGETS["table4"](shop, seeds=(0,), losses=("wing",))


def test_a_diverged_run_is_worse_than_any(shop, third, tmp_path):
    shutil.copytree(shop.folder, tmp_path / shop.folder.name)
    copy, variant = ExperimentRunner(small_recipe(), output=tmp_path), _variant_of("wing", shop)
    assert copy.validation_nme(METHODS[0], variant) == shop.validation_nme(METHODS[0], variant) < 1
    for path in (copy.folder / "stages" / "stage1").glob("wing-*/model.json"):
        said = json.loads(path.read_text())
        path.write_text(json.dumps({**said, "validation_nme": None}))  # as it is written of a run that diverged
    assert copy.validation_nme(METHODS[0], variant) == np.inf


def _variant_of(loss, shop):
    return Variant(loss=shop.recipe.loss(loss), rate=1.0, seed=0)


def test_the_command(tmp_path, capsys):
    words = ["reproduce", "pose-histogram", "--data", "synthetic", "--budget", "trial", "--output", str(tmp_path)]
    main(words)
    assert "saved: " in capsys.readouterr().out
    assert f"wing-jax {' '.join(words)}" in (tmp_path / "synthetic-trial" / "pose-histogram.md").read_text()
    shop = ExperimentRunner(small_recipe(), output=tmp_path)
    make(ReproduceOptions(target="table1", seeds=1, losses=("l1", "wing")), shop, command="wing-jax reproduce table1")
    assert "CNN-6" in capsys.readouterr().out
    text = (tmp_path / "small" / "table1.md").read_text()
    for part in ("wing-jax reproduce table1", "commit", "machine", "learning rates of CNN-6: L1 "):
        assert part in text
    assert (tmp_path / "small" / "table1.png").read_bytes()[:4] == b"\x89PNG"
    for words in (["table9"], ["table1", "--seeds", "0"], ["table4", "--data", "synthetic", "--output", str(tmp_path)]):
        with pytest.raises(SystemExit) as stopped:
            main(["reproduce", *words])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_mesh_is_that_of_the_config(shop):
    assert shop.mesh == devices.make_mesh(1)
