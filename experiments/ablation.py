"""Measure the effect of each ingredient of a recipe: train its second stage unchanged, without each, and with others.

    python experiments/ablation.py configs/w300.py [--steps 3000] [--seeds 2] [--changes NAME ...]
    python experiments/ablation.py configs/w300.py --start runs/pretrain/model --held_out 0.2 ...

All runs share one first stage. Each second stage trains for `--steps` steps instead of the config's, with the schedule
shortened accordingly, so that the table takes only hours. The results are NMEs by inter-ocular distance on the held-out
training photos, at the checkpoint that a training would select, and the difference to the unchanged recipe face by face
with its 95 % interval (bootstrap over photos). The test faces are not used. With `--start`, both stages start from this
model; with `--held_out`, another share of the photos is held out. Results are saved in
docs/reproduce/ingredients-NAME-STEPS.json, with the NME of each face in a .npy file beside it, and not computed again.
"""

import argparse
import dataclasses
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from shared import Results, paired_difference, table

import wing_jax as wj
from wing_jax.config import BalanceConfig, Config, LossConfig
from wing_jax.config_files import load_config
from wing_jax.from_config.recipe import mesh_of, settings_of
from wing_jax.from_config.train import first_setup, second_setup, sources_of, training_data
from wing_jax.runtime import allocator, devices
from wing_jax.train.data import TrainingData
from wing_jax.train.setup import train_stage

REPRODUCED = Path(__file__).parents[1] / "docs" / "reproduce"
UNCHANGED = "the recipe as it stands"
DATA: dict[tuple, TrainingData] = {}
Change = Callable[[Config], Config]


def second(**values) -> Change:
    """Return a change of the second stage; a dict changes fields of the part of that name."""

    def change(config: Config) -> Config:
        stage = config.stage2
        fields = {
            name: dataclasses.replace(getattr(stage, name), **value) if isinstance(value, dict) else value
            for name, value in values.items()
        }
        return dataclasses.replace(config, stage2=dataclasses.replace(stage, **fields))

    return change


def _with(part: str, *, name: str | None = None, **params) -> Change:
    """Return a change of the parameters (and name) of the second stage's loss or model."""

    def change(config: Config) -> Config:
        old = getattr(config.stage2, part)
        return second(**{part: {"name": name or old.name, "params": {**old.params, **params}}})(config)

    return change


def _l1(config: Config) -> Config:
    return second(loss=LossConfig(name="l1", reduction=config.stage2.loss.reduction))(config)


def _constant(config: Config) -> Config:
    return second(optimizer={"final_learning_rate": config.stage2.optimizer.learning_rate})(config)


def _larger(config: Config) -> Config:
    return second(input_size=192)(_with("model", grid=24)(config))


def _reshaped(config: Config) -> Config:
    count = max(1, config.stage2.crops_per_face // 4)  # about as many crops in all
    return dataclasses.replace(second(crops_per_face=count)(config), data=dataclasses.replace(config.data, reshaped=5))


CHANGES: dict[str, tuple[str, Change]] = {
    "voting": ("a fully connected head of 1,024 for the votes", _with("model", hidden=1024, name="plain")),
    "wing": ("L1 for the Wing loss", _l1),
    "narrow": ("Wing of a third, width 5 and epsilon 1", _with("loss", width=5.0, epsilon=1.0)),
    "norm": ("no BatchNorm", _with("model", norm="none")),
    "schedule": ("a learning rate that does not fall", _constant),
    "average": ("no averaged weights", second(optimizer={"ema": 0.0})),
    "dropout": ("no dropout", _with("model", dropout=0.0)),
    "start": ("output begins at 0, not at the mean shape", second(model={"output_bias": "zero"})),
    "through": ("crops from the annotation, not by the first stage", second(stage2_crops="annotated")),
    "flip": ("no flips", second(augment={"flip": 0.0})),
    "move": ("no rotation, translation, scale", second(augment={"rotation": 0.0, "translation": 0.0, "scale": 0.0})),
    "aspect": ("no aspect jitter", second(augment={"aspect": 0.0})),
    "color": ("no color", second(augment={"color": 0.0})),
    "occlusion": ("no occlusion", second(augment={"occlusion": 0.0})),
    "grain": ("no blur, no noise", second(augment={"blur": 0.0, "noise": 0.0})),
    "downscale": ("lower resolution and JPEG besides", second(augment={"downscale": 1.0, "jpeg": 0.5})),
    "reshaped": ("faces reshaped towards others", _reshaped),
    "balance": ("HSM", lambda config: dataclasses.replace(config, balance=BalanceConfig(method="hsm"))),
    "deeper": ("two residual blocks more", _with("model", residual=2)),
    "grid": ("votes of 32 x 32 cells", _with("model", grid=32)),
    "larger": ("crops of 192 pixels, votes of 24 x 24 cells", _larger),
    "wider": (
        "twice the channels",
        lambda config: _with("model", channels=tuple(2 * width for width in config.stage2.model.params["channels"]))(
            config
        ),
    ),
}


def main() -> None:
    """Train the missing models, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--changes", nargs="*", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--start", default="", help="a model from which both stages start")
    parser.add_argument("--held_out", type=float, default=0.0, help="share of the photos; 0: the config's")
    parser.add_argument("--output", default="runs/ingredients")
    options = parser.parse_args()
    devices.prepare_xla()
    loaded = load_config(options.config)
    if loaded.stage2 is None:
        parser.error(f"{options.config} has no second stage")
    short = second(steps=options.steps, evaluate_every=max(1, options.steps // 6))(loaded)
    data = dataclasses.replace(loaded.data, validation=options.held_out or loaded.data.validation)
    short = dataclasses.replace(short, start=options.start, data=data)
    name_of_start = ["from", Path(options.start).parent.name] if options.start else []
    share = [f"held-out-{options.held_out:g}"] if options.held_out else []
    title = "-".join([loaded.name, *name_of_start, *share, str(options.steps)])
    results = Results(REPRODUCED / f"ingredients-{title}.json", f"python {shlex.join(sys.argv)}")
    folder = Path(options.output) / title
    changes = {"as-it-stands": (UNCHANGED, lambda config: config)} | {name: CHANGES[name] for name in options.changes}
    held_out = sources_of(dataclasses.replace(short, extra_data=()))[0].faces.split(data.validation)[1]
    nmes: dict[str, list[np.ndarray]] = {title: [] for title, _ in changes.values()}
    for seed in range(options.seeds):
        for name, (title, change) in changes.items():
            config, path = change(dataclasses.replace(short, seed=seed)), results.of_faces((name, seed))
            if (name, seed) not in results:
                localizer = train_second(config, short, folder, f"seed{seed}-{name}")
                evaluation = wj.evaluate(localizer, held_out)
                np.save(path, evaluation.errors["inter-ocular"].astype(np.float32))
                results[name, seed] = evaluation.nme["inter-ocular"]
            # Results of earlier versions have no errors of faces.
            nmes[title].append(np.load(path) if path.exists() else np.array([results[name, seed]], np.float32))
            header = ("change", "NME of each seed, %", "mean", "minus the unchanged recipe, %")
            print("\n".join(table(header, rows(nmes, held_out.photos))), flush=True)


def train_second(config: Config, recipe: Config, shared: Path, name: str) -> wj.Localizer:
    """Train the config's second stage after the first stage in `shared`."""
    mesh = mesh_of(config)
    base = dataclasses.replace(recipe, seed=0)
    first = first_setup(base, data_of(base))
    trained = first.trained(train_stage(first, settings_of(base, mesh), folder=shared / "first").variables)
    data = data_of(config)
    setup = second_setup(config, data, trained, first.mean)
    second = setup.trained(train_stage(setup, settings_of(config, mesh), folder=shared / name).variables)
    return data.localizer((trained, second), data.template(first.mean), name=name)


def data_of(config: Config) -> TrainingData:
    """Return the faces; they are read again only if the data, their balance or the crops change."""
    sizes = config.stage1.input_size, config.stage2.input_size if config.stage2 else 0
    key = (config.data, config.extra_data, config.balance, sizes, config.seed if config.data.reshaped else 0)
    if key not in DATA:
        DATA.clear()
        DATA[key] = training_data(config)
    return DATA[key]


def rows(nmes: dict[str, list[np.ndarray]], photos: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the rows of the table: the recipe first, then the changes by decreasing NME."""
    measured = {title: values for title, values in nmes.items() if values}
    unchanged = measured.pop(UNCHANGED)
    ordered = sorted(measured, key=lambda title: -np.mean(measured[title]))
    return [(UNCHANGED, *_format(unchanged), "")] + [
        (title, *_format(measured[title]), _difference(measured[title], unchanged, photos)) for title in ordered
    ]


def _difference(values: list[np.ndarray], unchanged: list[np.ndarray], photos: Sequence[str]) -> str:
    if all(each.shape == (len(photos),) for each in (*values, *unchanged)):
        return paired_difference(values, unchanged, photos)
    return f"{np.mean(values) - np.mean(unchanged[: len(values)]):+.2f}"


def _format(values: list[np.ndarray]) -> tuple[str, str]:
    means = [float(each.mean()) for each in values]
    return ", ".join(f"{mean:.2f}" for mean in means), f"{statistics.mean(means):.2f}"


if __name__ == "__main__":
    allocator.reexec_with_malloc_env()
    main()
