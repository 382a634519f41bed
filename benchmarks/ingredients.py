"""What each ingredient of a recipe gives: its second stage trained with all of them, and again without each.

    python benchmarks/ingredients.py configs/w300.py [--steps 3000] [--seeds 2] [--without NAME ...]

All share the first stage of the config's seed, trained once; a second stage has `--steps` instead of the config's own,
with the schedule drawn together, so that the table can be made within hours. Figures are of the held-out training
photos: NME by inter-ocular distance at the checkpoint that a training would keep. Nothing here looks at the test faces.
What is done lies below `--output` and is not done again.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from report import table

from wing_jax.config import Config, LossConfig, SecondStageConfig, load_config
from wing_jax.train import crops
from wing_jax.train.run import first_task, prepare, read_corpus, second_task
from wing_jax.train.stage import train_stage

ALL = "all of them"
Change = Callable[[SecondStageConfig], SecondStageConfig]


def perturbed(**values: float) -> Change:
    """A change of the second stage's perturbation."""
    return lambda stage: dataclasses.replace(stage, perturb=dataclasses.replace(stage.perturb, **values))


def network(**values) -> Change:
    """A change of the second stage's network."""
    return lambda stage: dataclasses.replace(stage, model=dataclasses.replace(stage.model, **values))


def _l1(stage: SecondStageConfig) -> SecondStageConfig:
    return dataclasses.replace(stage, loss=LossConfig(name="l1", reduction=stage.loss.reduction))


def _no_average(stage: SecondStageConfig) -> SecondStageConfig:
    return dataclasses.replace(stage, optimizer=dataclasses.replace(stage.optimizer, ema=0.0))


def _direct(stage: SecondStageConfig) -> SecondStageConfig:
    return dataclasses.replace(stage, crops="direct")


WITHOUT: dict[str, tuple[str, Change]] = {
    "voting": ("voting (a fully connected head of 1,024 instead)", network(name="plain", hidden=1024)),
    "wing": ("the Wing loss (L1 instead)", _l1),
    "average": ("averaged weights", _no_average),
    "dropout": ("dropout", network(dropout=0.0)),
    "start": ("the output's start at the mean shape", network(output_bias="zero")),
    "through": ("crops made by the first stage (from the annotation instead)", _direct),
    "flip": ("flips", perturbed(flip=0.0)),
    "move": ("rotation, translation and scale", perturbed(rotation=0.0, translation=0.0, scale=0.0)),
    "stretch": ("stretch", perturbed(stretch=0.0)),
    "colour": ("colour", perturbed(colour=0.0)),
    "occlusion": ("occlusion", perturbed(occlusion=0.0)),
    "grain": ("blur and noise", perturbed(blur=0.0, noise=0.0)),
}


def main() -> None:
    """Train what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--without", nargs="*", choices=WITHOUT, default=list(WITHOUT))
    parser.add_argument("--output", default="runs/ingredients")
    given = parser.parse_args()
    loaded = load_config(given.config)
    assert loaded.stage2 is not None, f"{given.config} has no second stage"
    short = dataclasses.replace(loaded.stage2, steps=given.steps, evaluate_every=max(1, given.steps // 6))
    changes = {ALL: short} | {WITHOUT[name][0]: WITHOUT[name][1](short) for name in given.without}
    folder = Path(given.output) / f"{loaded.name}-{given.steps}"
    found = {name: [] for name in changes}
    for seed in range(given.seeds):
        for name, stage in changes.items():
            config = dataclasses.replace(loaded, stage2=stage, seed=seed)
            found[name].append(held_out_nme(config, folder, folder / f"seed{seed}-{name.split(' (')[0]}"))
    print("\n".join(table(("without", "NME of each seed, %", "mean", "worse by"), rows(found))))


def held_out_nme(config: Config, shared: Path, folder: Path) -> float:
    """The best validation NME of the config's second stage, behind the first stage in `shared`; in per cent."""
    place = folder / "nme.json"
    if not place.exists():
        mesh = prepare(config)
        corpus = read_corpus(config)
        task = first_task(config, corpus)
        first = dataclasses.replace(config, seed=0, output=str(shared), name="first")
        stage1 = train_stage(first_task(first, corpus), first, mesh)
        template = crops.template_of(task.mean, margin=config.stage2.margin)
        own = dataclasses.replace(config, output=str(folder.parent), name=folder.name)
        train_stage(second_task(own, corpus, stage1, template), own, mesh)
        lines = (folder / "stage2" / "metrics.jsonl").read_text().splitlines()
        place.write_text(json.dumps(min(line.get("validation_nme", 1.0) for line in map(json.loads, lines))))
    return 100 * json.loads(place.read_text())


def rows(found: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """The recipe first, then what is missed most."""
    whole = statistics.mean(found[ALL])
    ordered = sorted(found, key=lambda name: (name != ALL, -statistics.mean(found[name])))
    return [
        (
            name if name != ALL else "nothing",
            ", ".join(f"{value:.2f}" for value in found[name]),
            f"{statistics.mean(found[name]):.2f}",
            "" if name == ALL else f"{statistics.mean(found[name]) - whole:+.2f}",
        )
        for name in ordered
    ]


if __name__ == "__main__":
    main()
