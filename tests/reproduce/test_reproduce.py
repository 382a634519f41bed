"""The paper's tables: its numbers, the tuning of learning rates, and models that are trained and measured once."""

import dataclasses
import itertools
import json
import shutil
import statistics

import jax
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
)
from wing_jax.config_files import load_config
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.reproduce import METHODS, TARGETS, ExperimentRunner, published, recipe, studies
from wing_jax.reproduce.curves import CurvePoint, GradientNoise, add_point, read_curve
from wing_jax.reproduce.rates import best, beyond, multiple, tried_rates
from wing_jax.reproduce.recipes import Recipe
from wing_jax.reproduce.runner import Variant
from wing_jax.runtime import devices

pytestmark = pytest.mark.slow

LOSSES = ("l2", "wing")


def small_recipe(name="small", **changes) -> Recipe:
    """Return a recipe of two tiny stages on synthetic faces."""
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
    small = Recipe(name=name, budget="trial", config=config, metric="box-size", tuned=True)
    return dataclasses.replace(small, **changes)


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return ExperimentRunner(small_recipe(), output=tmp_path_factory.mktemp("reproduce"))


@pytest.fixture(scope="module")
def table3(runner):
    """Return table 3 of two losses and two seeds."""
    return TARGETS["table3"](runner, seeds=(0, 1), losses=LOSSES)


def test_every_loss_has_a_title():
    assert set(published.TITLES) >= {"l2", "l1", "smooth_l1", "wing", "rectified_wing", "soft_wing"}
    assert [published.title_of(name) for name in ("wing", "log_cosh")] == ["Wing", "log_cosh"]


def test_the_papers_numbers_are_consistent():
    assert published.TABLE2[2.0][published.WIDTHS.index(10.0)] == published.TABLE1["wing"] == 1.88
    assert round(published.TABLE1["wing"] / published.TABLE1["l2"], 2) == 0.78
    assert set(published.TABLE3) == {method.name for method in METHODS}
    for losses in published.TABLE3.values():
        assert losses["wing"] < losses["l1"] <= losses["smooth_l1"] < losses["l2"]
    assert [len(row) for row in published.TABLE2.values()] == [6] * 4


def test_the_papers_budget_is_the_papers_training():
    actual, expected = recipe("aflw", "paper").config, load_config("configs/aflw.py")
    for stage, expected_stage in ((actual.stage1, expected.stage1), (actual.stage2, expected.stage2)):
        assert dataclasses.replace(stage, evaluate_every=1) == dataclasses.replace(expected_stage, evaluate_every=1)
    assert (actual.balance.method, actual.balance.bins) == (expected.balance.method, expected.balance.bins)
    assert not recipe("aflw", "paper").tuned


def test_rates_are_tried_until_the_best_is_between_others():
    curve = {step: (step - 3) ** 2 + 1.0 for step in range(-4, 5)}
    tried = {step: curve[step] for step in (-1, 0, 1)}
    while (further := beyond(tried)) is not None:
        tried[further] = curve[further]
    assert best(tried) == 3
    assert sorted(tried) == [-1, 0, 1, 2, 3, 4]
    assert beyond({-1: 2.0, 0: 1.0, 1: np.inf}) is None
    assert beyond({-1: 1.0, 0: 1.0, 1: np.inf}) == -2  # the smaller of two equal ones
    assert beyond(dict.fromkeys(range(-4, 2), 1.0)) is None  # at most two decades
    assert [multiple(step) for step in (-2, 0, 1)] == [0.1, 1.0, 3.162]


def test_every_loss_is_tuned_by_the_same_rule_on_the_held_out_faces(runner, table3):
    results = json.loads((runner.folder / "rates.json").read_text())
    assert set(results) == set(LOSSES)
    for loss in LOSSES:
        assert {"0.3162", "1", "3.162"} <= set(results[loss])
        tried = tried_rates(runner, loss)
        cell = runner.trial(1, Variant(loss=runner.recipe.loss(loss), rate=multiple(best(tried)), seed=1))
        assert (runner.folder / "stages" / "stage1" / cell.label / "model.json").exists()
        manifest = json.loads(
            (runner.folder / "stages" / "stage1" / cell.label.replace("seed1", "seed0") / "model.json").read_text()
        )
        assert manifest["validation_nme"] == min(tried.values())


def test_the_table_has_the_models_errors(runner, table3):
    values = table3.values["nme_percent"]
    assert list(values) == [method.name for method in METHODS]
    faces = runner.test
    chosen = {loss: multiple(best(tried_rates(runner, loss))) for loss in LOSSES}
    cases = itertools.product(METHODS, LOSSES)
    for (method, loss), seed in zip(cases, (0, 1, 1, 0) * 2, strict=True):  # each loss with both seeds
        variant = Variant(loss=runner.recipe.loss(loss), rate=chosen[loss], seed=seed)
        folder = method.name.lower().replace(" + ", "-").replace("/", "")
        localizer = Localizer.load(runner.folder / "measured" / folder / runner.trial(1, variant).label)
        assert len(localizer.stages) == method.stages
        errors = []
        for i in range(len(faces)):
            (points,) = localizer.predict(faces.picture(i), faces.boxes[i : i + 1])
            side = np.sqrt(np.prod(faces.boxes[i, 2:] - faces.boxes[i, :2]))
            errors.append(np.linalg.norm(points - faces.points[i], axis=-1)[faces.visible[i]].mean() / side)
        assert values[method.name][loss][seed] == pytest.approx(100 * statistics.fmean(errors), rel=2e-2)
    rows = table3.grids[0].rows
    assert (
        rows[0][1] == f"{statistics.fmean(values['CNN-6']['l2']):.2f} ± {statistics.stdev(values['CNN-6']['l2']):.2f}"
    )
    ratio = statistics.fmean(values["CNN-6"]["wing"]) / statistics.fmean(values["CNN-6"]["l2"])
    assert table3.grids[2].rows[0][2] == f"{ratio:.2f} (0.78)"


def test_models_differ_by_loss_seed_and_balance(table3):
    cells = [value for row in table3.values["nme_percent"].values() for values in row.values() for value in values]
    assert len(set(cells)) == len(cells) == 16


def test_the_second_stage_uses_lengths_in_pixels_of_its_crops(runner, table3):
    labels = {path.name.rsplit("-lr")[0] for path in (runner.folder / "stages" / "stage2-hsm").iterdir()}
    assert labels == {"l2", "wing-width15-epsilon3"}


def modification_times(runner):
    """Return the modification time of each file of a stage or a measured model."""
    return {
        path: path.stat().st_mtime_ns for part in ("stages", "measured") for path in (runner.folder / part).rglob("*")
    }


def test_finished_work_is_not_repeated(runner, table3):
    before, progress = modification_times(runner), []
    second = ExperimentRunner(small_recipe(), output=runner.folder.parent, callbacks=[progress.append])
    assert TARGETS["table3"](second, seeds=(0, 1), losses=LOSSES).values == table3.values
    first = TARGETS["table1"](second, seeds=(0, 1), losses=LOSSES)
    assert first.values["nme_percent"] == {"CNN-6": table3.values["nme_percent"]["CNN-6"]}
    curve = TARGETS["ced"](second, seeds=(0, 1), losses=LOSSES)
    nmes = np.concatenate([second.measure(METHODS[0], _best_variant(second, seed)).nmes for seed in (0, 1)])
    assert curve.values["shares"]["Wing"] == [float((nmes <= limit).mean()) for limit in curve.values["limits"]]
    assert progress == []
    assert modification_times(runner) == before


def _best_variant(runner, seed):
    return Variant(loss=runner.recipe.loss("wing"), rate=multiple(best(tried_rates(runner, "wing"))), seed=seed)


def test_an_interrupted_run_resumes(table3, tmp_path):
    steps = []

    def record_and_stop(progress):
        steps.append(progress.step)
        return steps == [2, 4, 2]  # in the middle of the second sweep

    def run():
        return TARGETS["table1"](
            ExperimentRunner(small_recipe(), output=tmp_path, callbacks=[record_and_stop]), seeds=(0, 1), losses=LOSSES
        )

    with pytest.raises(KeyboardInterrupt):
        run()
    assert steps == [2, 4, 2]
    assert run().values["nme_percent"] == {"CNN-6": table3.values["nme_percent"]["CNN-6"]}
    assert steps[3] == 4
    assert not list(tmp_path.rglob("checkpoints"))


def test_table_2_has_a_model_for_each_width_and_epsilon(runner, table3, monkeypatch):
    monkeypatch.setattr(published, "EPSILONS", published.EPSILONS[-2:])
    assert 2.0 in published.EPSILONS
    product = TARGETS["table2"](runner, seeds=(0,), losses=LOSSES)
    assert len(product.values["nme_percent"]) == 12
    assert len({value["seeds"][0] for value in product.values["nme_percent"]}) > 10
    at_default = next(v["seeds"] for v in product.values["nme_percent"] if (v["width"], v["epsilon"]) == (10.0, 2.0))
    assert at_default == table3.values["nme_percent"]["CNN-6"]["wing"][:1]  # the same model
    paths = product.write(runner.folder, "table2")
    assert [path.name for path in paths] == ["table2.md", "table2.json", "table2.png"]
    assert "| 2 | 1.98 | 1.92 | 1.91 | 1.88 | 1.90 | 1.98 |" in paths[0].read_text()


class LongRunner(ExperimentRunner):
    """A runner whose other budgets use the small recipe."""

    def at(self, budget):
        return ExperimentRunner(small_recipe(), output=self.folder.parent)


def test_the_long_budget_uses_the_rates_of_the_short_one(runner, table3):
    longer = small_recipe("longer", budget="long")
    stage = dataclasses.replace(longer.config.stage1, steps=8)
    longer = dataclasses.replace(longer, config=dataclasses.replace(longer.config, stage1=stage))
    product = TARGETS["length"](LongRunner(longer, output=runner.folder.parent), seeds=(0,), losses=LOSSES)
    nmes = product.values["nme_percent"]
    assert list(nmes) == ["16 faces", "32 faces"]
    assert nmes["16 faces"] == {loss: values[:1] for loss, values in table3.values["nme_percent"]["CNN-6"].items()}
    assert nmes["32 faces"] != nmes["16 faces"]
    assert "at the budget short" in product.about["learning rates of CNN-6"]
    cells = {path.name for path in (runner.folder.parent / "longer" / "stages" / "stage1").iterdir()}
    assert len(cells) == len(LOSSES)  # nothing was tuned
    chosen = {path.name for path in (runner.folder / "stages" / "stage1").iterdir()}
    assert cells <= chosen
    with pytest.raises(InputError, match="pass --budget long"):
        TARGETS["length"](runner, seeds=(0,), losses=LOSSES)


def test_the_curve_of_a_run_has_its_errors_at_each_validation(runner, table3):
    longer = LongRunner(small_recipe("curved", budget="long"), output=runner.folder.parent)
    product = TARGETS["curves"](longer, seeds=(0,), losses=LOSSES)
    assert product.values["faces"] == [8, 16]
    measured = TARGETS["table1"](longer, seeds=(0,), losses=LOSSES).values["nme_percent"]["CNN-6"]
    for loss in LOSSES:
        assert product.values["test_nme_percent"][loss][-1] == pytest.approx(statistics.fmean(measured[loss]), rel=1e-5)
        assert all(-1 <= cosine <= 1 for cosine in product.values["gradient_cosine"][loss])
    paths = sorted((longer.folder / "curves" / "stage1").glob("*-seed0.csv"))
    last = read_curve(paths[0])[-1]
    assert (last.step, last.faces) == (4, 16)
    variant = Variant(loss=longer.recipe.loss("l2"), rate=multiple(best(tried_rates(runner, "l2"))), seed=0)
    assert last.validation_nme == pytest.approx(longer.validation_nme(METHODS[0], variant), rel=1e-5)
    with pytest.raises(InputError, match="pass --budget paper"):
        TARGETS["curves"](runner, seeds=(0,), losses=LOSSES)


def test_a_resumed_run_replaces_the_later_points_of_its_curve(tmp_path):
    points = [
        CurvePoint(step=step, faces=8 * step, validation_nme=0.5, test_nme=0.25, gradient_cosine=step / 10)
        for step in (2, 4, 6)
    ]
    path = tmp_path / "curves" / "wing.csv"
    for point in (*points, points[1]):
        add_point(path, point)
    assert read_curve(path) == points[:2]
    assert read_curve(tmp_path / "none.csv") == []


def test_the_gradients_noise_is_that_of_the_training_loss(runner):
    setup = runner.setup(1, balanced=False)
    variables = setup.state(seed=0).variables
    noise = GradientNoise(setup)
    gradient = jax.jit(jax.grad(setup.objective(seed=0), has_aux=True))
    gradients = [gradient(variables["params"], {}, batch, np.int32(0))[0] for batch in noise._batches]
    rows = np.stack([np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in gradients])
    lengths = np.linalg.norm(rows, axis=1)
    cosines = rows @ rows.T / np.outer(lengths, lengths)
    expected = cosines[~np.eye(len(rows), dtype=bool)].mean()
    assert noise.cosine("wing", setup.spec.scaled_loss(), variables) == pytest.approx(expected, rel=1e-4)


def test_noise_is_added_to_the_training_points_only(runner):
    noisy = runner.with_noise(0.02)
    assert runner.with_noise(0.0) is runner
    np.testing.assert_array_equal(noisy.data.validation.points, runner.data.validation.points)
    boxes = runner.data.train.boxes
    added = (noisy.data.train.points - runner.data.train.points) / (boxes[:, 2:] - boxes[:, :2])[:, None]
    assert added.std() == pytest.approx(0.02, rel=0.05)
    assert abs(added.mean()) < 0.001
    assert (noisy.folder.name, noisy.recipe.noise) == ("small-noise0.02", 0.02)


def test_the_studies_compare_each_setting_with_the_first(runner, table3, monkeypatch):
    monkeypatch.setattr(studies, "WING_PARAMETERS", ((10.0, 2.0), (10.0, 0.5), (4.0, 2.0)))
    default = table3.values["nme_percent"]["CNN-6"]["wing"][0]
    product = TARGETS["wing-parameters"](runner, seeds=(0,), losses=LOSSES)
    nmes = product.values["nme_percent"]
    assert nmes["Wing, width 10, epsilon 2"] == [default]
    assert len(nmes) == 3 + len(studies.SUCCESSORS)
    label, nme, difference = product.grids[0].rows[1]
    assert label == "Wing, width 10, epsilon 0.5"
    assert nme == f"{nmes[label][0]:.2f}"
    assert difference.split(" (")[0] == f"{nmes[label][0] - default:+.2f}"
    product = TARGETS["learning-rates"](runner, seeds=(0,), losses=LOSSES)
    assert list(product.values["nme_percent"]) == [
        "L2, 0.0001", "L2, 0.001", "Wing, 0.000333", "Wing, 0.001", "Wing, 0.00333",
    ]  # fmt: skip


def test_noise_in_the_annotation_raises_the_error(runner, table3, monkeypatch):
    monkeypatch.setattr(studies, "NOISE", (0.0, 0.5, 4.0))
    product = TARGETS["annotation-noise"](runner, seeds=(0,), losses=("wing",))
    nmes = product.values["nme_percent"]["wing"]
    assert list(nmes) == ["0", "0.5", "4"]
    assert nmes["0"] == table3.values["nme_percent"]["CNN-6"]["wing"][:1]
    assert len({values[0] for values in nmes.values()}) == 3
    mtfl = dataclasses.replace(runner.recipe.config, data=DataConfig(name="mtfl"))
    other = ExperimentRunner(small_recipe("other", config=mtfl), output=runner.folder.parent)
    with pytest.raises(InputError, match="pass --data synthetic"):
        TARGETS["annotation-noise"](other, seeds=(0,), losses=LOSSES)


def test_the_table_compares_the_losses_face_by_face(runner, table3):
    grid = next(grid for grid in table3.grids if "minus that of Wing" in grid.title)
    assert grid.header == ("method", "L2")
    values = table3.values["nme_percent"]["CNN-6"]
    expected = statistics.fmean(values["l2"]) - statistics.fmean(values["wing"])
    middle, interval = grid.rows[0][1].split(" (")
    assert middle == f"{expected:+.2f}"
    low, high = map(float, interval.strip(")").split(" to "))
    assert low <= expected <= high


def test_the_long_budget_is_four_times_the_short_one():
    short, longer = (recipe("mtfl", budget).config for budget in ("short", "long"))
    for name in ("stage1", "stage2"):
        stage, long_stage = getattr(short, name), getattr(longer, name)
        assert long_stage.steps == 4 * stage.steps
        assert dataclasses.replace(long_stage, steps=stage.steps, evaluate_every=stage.evaluate_every) == stage


def test_poses_before_and_after(runner):
    product = TARGETS["pose-histogram"](runner, seeds=(), losses=())
    assert sum(product.values["before"]) == len(runner.data.train.images)
    assert sum(product.values["after"]) == len(runner.data.order)


def test_a_folder_of_another_recipe_is_rejected(runner):
    with pytest.raises(InputError, match="another recipe: pass a different --output"):
        ExperimentRunner(small_recipe(tuned=False), output=runner.folder.parent)


def test_config_fields_of_a_later_version_do_not_make_another_recipe(tmp_path):
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
def test_an_invalid_recipe_is_reported(tmp_path, content):
    path = ExperimentRunner(small_recipe(tuned=False), output=tmp_path).folder / "recipe.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"recipe\.json: not a valid recipe .*: pass a different --output"):
        ExperimentRunner(small_recipe(tuned=False), output=tmp_path)


def test_the_papers_rates_are_used_without_tuning(tmp_path):
    from wing_jax.reproduce.rates import rates

    runner = ExperimentRunner(small_recipe(tuned=False), output=tmp_path)
    assert rates(runner, ("l2", "l1", "wing")) == {"l2": 0.1, "l1": 1.0, "wing": 1.0}


def test_wings_lengths_apply_only_to_losses_with_the_same_unit():
    losses = {name: recipe("mtfl", "short").loss(name, number=2) for name in published.TITLES}
    lengths = {name: (*loss.params.values(), loss.reference_size) for name, loss in losses.items()}
    assert lengths == {
        "l2": (128,),
        "l1": (128,),
        "smooth_l1": (128,),
        "wing": (15.0, 3.0, 128),
        "rectified_wing": (15.0, 3.0, 128),
        "soft_wing": (None,),  # its defaults 2, 20 and 0.5, in pixels of 256
    }


def test_table_4_needs_300w(runner):
    with pytest.raises(InputError, match="pass --data w300"):
        TARGETS["table4"](runner, seeds=(0,), losses=("wing",))


def test_a_diverged_run_has_an_infinite_nme(runner, table3, tmp_path):
    shutil.copytree(runner.folder, tmp_path / runner.folder.name)
    copy, variant = ExperimentRunner(small_recipe(), output=tmp_path), _variant_of("wing", runner)
    assert copy.validation_nme(METHODS[0], variant) == runner.validation_nme(METHODS[0], variant) < 1
    for path in (copy.folder / "stages" / "stage1").glob("wing-*/model.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps({**manifest, "validation_nme": None}))  # as for a run that diverged
    assert copy.validation_nme(METHODS[0], variant) == np.inf


def _variant_of(loss, runner):
    return Variant(loss=runner.recipe.loss(loss), rate=1.0, seed=0)


def test_the_command(runner, table3, tmp_path, capsys):
    arguments = ["reproduce", "pose-histogram", "--data", "synthetic", "--budget", "trial", "--output", str(tmp_path)]
    main(arguments)
    assert "saved: " in capsys.readouterr().out
    assert f"wing-jax {' '.join(arguments)}" in (tmp_path / "synthetic-trial" / "pose-histogram.md").read_text()
    shutil.copytree(runner.folder, tmp_path / "small")  # with trained models
    copy = ExperimentRunner(small_recipe(), output=tmp_path)
    make(ReproduceOptions(target="table1", seeds=1, losses=LOSSES), copy, command="wing-jax reproduce table1")
    assert "CNN-6" in capsys.readouterr().out
    text = (tmp_path / "small" / "table1.md").read_text()
    for expected in ("wing-jax reproduce table1", "commit", "machine", "learning rates of CNN-6: L2 "):
        assert expected in text
    assert (tmp_path / "small" / "table1.png").read_bytes()[:4] == b"\x89PNG"
    for arguments in (
        ["table9"],
        ["table1", "--seeds", "0"],
        ["table4", "--data", "synthetic", "--output", str(tmp_path)],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["reproduce", *arguments])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_mesh_comes_from_the_config(runner):
    assert runner.mesh == devices.make_mesh(1)
