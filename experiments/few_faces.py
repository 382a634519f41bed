"""Measure what a start from a trained model is worth with few faces.

    python experiments/few_faces.py w300 [--sizes 25 100 ...] [--starts nothing mtfl ...] [--seeds 2]
    python experiments/few_faces.py w300 --held_out --sizes 250 --learning_rates 1e-3 3e-4

For each number of faces, start and seed, both stages are trained on that many training faces of the data set `w300` or
`fgnet`, drawn by the seed; the smaller draws are part of the larger ones. Augmentations, steps and learning rates are
those of `wing_jax.presets.finetune` for all starts. "nothing" initializes the networks of `w300`; "synthetic" starts
from `runs/pretrain/model` (`wing-jax train pretrain`), with the same networks; "mtfl" and "w300" from these models,
with their networks (today's versions have seen faces of both data sets, so for a new measurement name a model that has
not); "imagenet" trains MobileNetV2 on crops of 112 pixels in both stages. A share of the drawn faces is
held out to choose the checkpoint. The results are NMEs by inter-ocular distance on the test faces, with the boxes of
the landmarks; nothing is chosen by them. They are saved in docs/reproduce/few-faces-DATA.json, and not computed again.

`--steps` trains for other numbers of steps, and the names of the files have them. With `--held_out`, faces are tested
that are neither drawn nor test faces, to choose settings by them; these results are saved in
docs/reproduce/few-faces-DATA-held-out.json.
"""

import argparse
import dataclasses
import shlex
import statistics
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from shared import Results, table

import wing_jax as wj
from wing_jax.config import OptimizerConfig
from wing_jax.from_config.recipe import recipe_of
from wing_jax.runtime import allocator, devices
from wing_jax.train.spec import Recipe
from wing_jax.train.start import Start, trained_margin

REPRODUCED = Path(__file__).parents[1] / "docs" / "reproduce"
SIZES = {"w300": (25, 50, 100, 250, 500, 2009), "fgnet": (50, 200, 700)}
STARTS = {"w300": ("nothing", "synthetic", "mtfl", "imagenet"), "fgnet": ("nothing", "w300")}
MODELS = {
    "nothing": "w300",
    "synthetic": "runs/pretrain/model",
    "imagenet": "w300",
}  # whose networks or margins are used
EXCLUDED = {"w300": ("lfpw/image_0828", "lfpw/image_0215", "lfpw/image_0862")}  # also in the test set
LARGEST_HELD_OUT = 500  # faces


def main() -> None:
    """Train the missing models, and print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=SIZES)
    parser.add_argument("--sizes", type=int, nargs="*")
    parser.add_argument("--starts", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--learning_rates", type=float, nargs="*", default=[0.0], help="of both stages; 0: the preset's"
    )
    parser.add_argument("--steps", type=int, nargs=2, default=[], metavar=("FIRST", "SECOND"), help="of the two stages")
    parser.add_argument("--held_out", action="store_true", help="test on faces that are held out from training")
    parser.add_argument("--output", default="runs/few-faces")
    options = parser.parse_args()
    if not options.held_out and options.learning_rates != [0.0]:
        parser.error("--learning_rates are chosen on held-out faces: add --held_out")
    devices.prepare_xla()
    name = f"few-faces-{options.data}{'-held-out' if options.held_out else ''.join(f'-{n}' for n in options.steps)}"
    results = Results(REPRODUCED / f"{name}.json", f"python {shlex.join(sys.argv)}")
    train = wj.load_faces(options.data, "train").without(EXCLUDED.get(options.data, ()))
    sizes, starts = options.sizes or SIZES[options.data], options.starts or STARTS[options.data]
    variants = [(start, rate) for start in starts for rate in options.learning_rates]
    nmes: dict[str, dict[int, list[float]]] = {title(*variant): {size: [] for size in sizes} for variant in variants}
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(train))
        test = (
            train.take(order[max(sizes) :][:LARGEST_HELD_OUT])
            if options.held_out
            else wj.load_faces(options.data, "test")
        )
        for size in sizes:
            for start, rate in variants:
                key = "-".join(map(str, (title(start, rate), size, *options.steps)))
                if (key, seed) not in results:
                    recipe = make_recipe(start, train, steps=options.steps, learning_rate=rate)
                    folder = Path(options.output) / name / f"{key}-seed{seed}"
                    trained = wj.fit(train.take(np.sort(order[:size])), recipe, seed=seed, folder=folder, name=key)
                    results[key, seed] = wj.evaluate(trained.localizer, test).nme["inter-ocular"]
                nmes[title(start, rate)][size].append(results[key, seed])
                print("\n".join(table(("start", *(f"{size:,} faces" for size in sizes)), rows(nmes))), flush=True)
    if not options.held_out:
        draw(nmes, REPRODUCED / f"{name}.png", title=f"{test.name}: {len(test)} test faces")


def title(start: str, learning_rate: float) -> str:
    """Return the name of a start with a learning rate."""
    return f"{start} {learning_rate:g}" if learning_rate else start


def make_recipe(start: str, faces: wj.FaceSet, *, steps: list[int], learning_rate: float) -> Recipe:
    """Return the recipe of a start; `steps` and `learning_rate` replace the preset's if they are not empty or 0."""
    networks = MODELS.get(start, start)
    config = dataclasses.replace(wj.presets.load("finetune"), start=networks)
    for number, name in enumerate(("stage1", "stage2")):
        stage = getattr(config, name)
        if steps:
            stage = dataclasses.replace(stage, steps=steps[number], evaluate_every=max(1, steps[number] // 10))
        if learning_rate:
            stage = dataclasses.replace(stage, optimizer=with_rate(stage.optimizer, learning_rate))
        config = dataclasses.replace(config, **{name: stage})
    specs = [
        dataclasses.replace(
            spec,
            start=None if start == "nothing" else networks,
            margin=trained_margin(Start(networks), number, faces),
        )
        for number, spec in enumerate(recipe_of(config).stages, 1)
    ]
    if start == "imagenet":
        network = dict(model=wj.models.MobileNetV2Regressor, start="mobilenet_v2", input_size=112)
        specs = [dataclasses.replace(spec, **network) for spec in specs]
    return Recipe(stages=specs)


def with_rate(optimizer: OptimizerConfig, rate: float) -> OptimizerConfig:
    """Return `optimizer` with another learning rate, and the final one in proportion."""
    final = optimizer.final_learning_rate * rate / optimizer.learning_rate
    return dataclasses.replace(optimizer, learning_rate=rate, final_learning_rate=final)


def rows(nmes: dict[str, dict[int, list[float]]]) -> list[tuple[str, ...]]:
    """Return a row for each start: the mean NME of each number of faces, and those of the seeds."""
    return [
        (
            start,
            *(
                f"{statistics.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})" if values else ""
                for values in by_size.values()
            ),
        )
        for start, by_size in nmes.items()
    ]


def draw(nmes: dict[str, dict[int, list[float]]], path: Path, *, title: str) -> None:
    """Plot the NME against the number of faces: a line through the means, and a point for each seed."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for number, (start, by_size) in enumerate(nmes.items()):
        sizes = list(by_size)
        axes.plot(sizes, [statistics.mean(by_size[size]) for size in sizes], color=f"C{number}", label=f"from {start}")
        for size in sizes:
            axes.plot([size] * len(by_size[size]), by_size[size], ".", color=f"C{number}")
    axes.set(xscale="log", yscale="log", xlabel="training faces", ylabel="inter-ocular NME (%)", title=title)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    low, high = axes.get_ylim()
    ticks = [
        tick for tick in (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100) if low <= tick <= high
    ]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    allocator.reexec_with_malloc_env()
    main()
