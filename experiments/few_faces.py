"""Measure what a start from a trained model is worth with few faces.

    python experiments/few_faces.py w300 [--sizes 25 100 ...] [--starts nothing mtfl ...] [--seeds 2]

For each number of faces, start and seed, both stages are trained on that many training faces of the data set `w300` or
`fgnet`, drawn by the seed; the smaller draws are part of the larger ones. The networks, margins, augmentations, steps
and learning rates are the same for all starts: those of `wing_jax.presets.finetune` for the model NETWORKS. "nothing"
initializes the parameters; any other start is a name or a folder of a trained model with these networks. A share of the
drawn faces is held out to choose the checkpoint. The results are NMEs by inter-ocular distance on the test faces, with
the boxes of the landmarks; nothing is chosen by them. They are saved in docs/reproduce/few-faces-DATA.json, and not
computed again.
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
from wing_jax.from_config.recipe import recipe_of
from wing_jax.runtime import allocator, devices
from wing_jax.train.spec import Recipe
from wing_jax.train.start import Start, trained_margin

REPRODUCED = Path(__file__).parents[1] / "docs" / "reproduce"
NETWORKS = {"w300": "mtfl", "fgnet": "w300"}  # the model whose networks are trained
SIZES = {"w300": (25, 50, 100, 250, 500, 2009), "fgnet": (50, 200, 700)}
STARTS = {"w300": ("nothing", "mtfl"), "fgnet": ("nothing", "w300")}
EXCLUDED = {"w300": ("lfpw/image_0828", "lfpw/image_0215", "lfpw/image_0862")}  # also in the test set


def main() -> None:
    """Train the missing models, and print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=NETWORKS)
    parser.add_argument("--sizes", type=int, nargs="*")
    parser.add_argument("--starts", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, nargs=2, default=[], metavar=("FIRST", "SECOND"), help="of the two stages")
    parser.add_argument("--output", default="runs/few-faces")
    options = parser.parse_args()
    devices.prepare_xla()
    results = Results(REPRODUCED / f"few-faces-{options.data}.json", f"python {shlex.join(sys.argv)}")
    train = wj.load_faces(options.data, "train").without(EXCLUDED.get(options.data, ()))
    test = wj.load_faces(options.data, "test")
    sizes, starts = options.sizes or SIZES[options.data], options.starts or STARTS[options.data]
    nmes: dict[str, dict[int, list[float]]] = {start: {size: [] for size in sizes} for start in starts}
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(train))
        for size in sizes:
            for start in starts:
                name = f"{Path(start).name}-{size}"
                if (name, seed) not in results:
                    folder = Path(options.output) / options.data / f"{name}-seed{seed}"
                    recipe = make_recipe(start, NETWORKS[options.data], train, steps=options.steps)
                    trained = wj.fit(train.take(np.sort(order[:size])), recipe, seed=seed, folder=folder, name=name)
                    results[name, seed] = wj.evaluate(trained.localizer, test).nme["inter-ocular"]
                nmes[start][size].append(results[name, seed])
                print("\n".join(table(("start", *(f"{size:,} faces" for size in sizes)), rows(nmes))), flush=True)
    draw(nmes, REPRODUCED / f"few-faces-{options.data}.png", title=f"{test.name}: {len(test)} test faces")


def make_recipe(start: str, networks: str, faces: wj.FaceSet, *, steps: list[int]) -> Recipe:
    """Return the recipe with the networks and margins of the model `networks`, started from `start`."""
    config = dataclasses.replace(wj.presets.load("finetune"), start=networks)
    for name, count in zip(("stage1", "stage2"), steps, strict=False):
        stage = dataclasses.replace(getattr(config, name), steps=count, evaluate_every=max(1, count // 10))
        config = dataclasses.replace(config, **{name: stage})
    specs = [
        dataclasses.replace(
            spec,
            start=None if start == "nothing" else start,
            margin=trained_margin(Start(networks), number, faces),
        )
        for number, spec in enumerate(recipe_of(config).stages, 1)
    ]
    return Recipe(stages=specs)


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
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    allocator.reexec_with_malloc_env()
    main()
