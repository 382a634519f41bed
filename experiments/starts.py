"""Compare starts of a training: from nothing, from synthetic faces, from ImageNet, and with the faces of other sets.

    wing-jax data render synthetic-faces
    wing-jax train pretrain
    python experiments/starts.py [--steps 6000] [--seeds 1] [--variants NAME ...]

Each variant is a training of `configs/w300.py` with one change; `--steps` are those of its second stage. A fifth of the
training photos is held out, so that the intervals are narrower than with the twentieth of the recipe; the test faces
are not used. The table has the NME by inter-ocular distance on the held-out faces, and the difference to "nothing" face
by face with its 95 % interval (bootstrap over photos). Results are saved in docs/reproduce/starts-STEPS.json, with the
NME of each face in a .npy file beside it, and not computed again.
"""

import argparse
import dataclasses
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from shared import Results, paired_difference, table

import wing_jax as wj
from wing_jax.config import Config, DataConfig, StartConfig
from wing_jax.config_files import load_config
from wing_jax.from_config.train import train
from wing_jax.runtime import allocator, devices

REPRODUCED = Path(__file__).parents[1] / "docs" / "reproduce"
NOTHING = "nothing"
HELD_OUT = 0.2  # of the photos
PRETRAINED, RENDERED = "runs/pretrain/model", "synthetic-faces"
Change = Callable[[Config], Config]


def _from_synthetic(config: Config) -> Config:
    return dataclasses.replace(config, start=PRETRAINED)


def _with_synthetic(config: Config) -> Config:
    """Add the synthetic faces; the photos occur as often in all."""
    data = dataclasses.replace(config.data, copies=12)
    return dataclasses.replace(config, data=data, extra_data=(DataConfig(name="packed", root=RENDERED),))


def _with_heads(config: Config) -> Config:
    others = tuple(DataConfig(name=name, landmarks="own_head") for name in ("mtfl", "scut", "fgnet"))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, copies=4), extra_data=others)


def _from_imagenet(name: str) -> Change:
    """Return a change of the second stage's network to one that starts from ImageNet weights."""

    def change(config: Config) -> Config:
        model = dataclasses.replace(config.stage2.model, name=name, params={})
        stage = dataclasses.replace(config.stage2, model=model, start=StartConfig(model=name))
        return dataclasses.replace(config, stage2=stage)

    return change


VARIANTS: dict[str, tuple[str, Change]] = {
    NOTHING: ("from nothing", lambda config: config),
    "synthetic": ("from 20,000 synthetic faces", _from_synthetic),
    "mixed": ("with synthetic faces to the end", _with_synthetic),
    "synthetic-mixed": ("both", lambda config: _from_synthetic(_with_synthetic(config))),
    "heads": ("with MTFL, SCUT-FBP5500 and FG-NET, each with its own head", _with_heads),
    "mobilenet": ("second stage: MobileNetV2 from ImageNet", _from_imagenet("mobilenet_v2")),
    "efficientnet": ("second stage: EfficientNet-Lite0 from ImageNet", _from_imagenet("efficientnet_lite0")),
}


def main() -> None:
    """Train the missing models, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", default="runs/starts")
    options = parser.parse_args()
    devices.prepare_xla()
    results = Results(REPRODUCED / f"starts-{options.steps}.json", f"python {shlex.join(sys.argv)}")
    base = make_base(options.steps)
    held_out = wj.load_faces("w300", "train").without(base.data.exclude).split(HELD_OUT)[1]
    nmes: dict[str, list[np.ndarray]] = {name: [] for name in options.variants}
    for seed in range(options.seeds):
        for name in options.variants:
            path = results.of_faces((name, seed))
            if (name, seed) not in results:
                change = VARIANTS[name][1]
                config = dataclasses.replace(
                    change(base), seed=seed, name=f"{name}-{seed}", output=f"{options.output}-{options.steps}"
                )
                started = time.perf_counter()
                trained = train(config)
                minutes = (time.perf_counter() - started) / 60
                evaluation = wj.evaluate(trained.localizer, held_out)
                np.save(path, evaluation.errors["inter-ocular"].astype(np.float32))
                results[name, seed] = evaluation.nme["inter-ocular"]
                print(f"{name}, seed {seed}: {minutes:.0f} minutes", flush=True)
            nmes[name].append(np.load(path))
            print("\n".join(table(("variant", "NME, %", "minus from nothing, %"), rows(nmes, held_out))), flush=True)


def make_base(steps: int) -> Config:
    """Return the config of w300 with `steps` steps of the second stage and with more faces held out."""
    config = load_config(Path(__file__).parents[1] / "configs" / "w300.py")
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, validation=HELD_OUT),
        stage2=dataclasses.replace(config.stage2, steps=steps, evaluate_every=max(1, steps // 6)),
    )


def rows(nmes: dict[str, list[np.ndarray]], faces: wj.FaceSet) -> list[tuple[str, ...]]:
    """Return a row for each measured variant: mean NME, and paired difference with its interval, in per cent."""
    result = []
    for name, measured in nmes.items():
        if not measured:
            continue
        means = [float(values.mean()) for values in measured]
        others = nmes.get(NOTHING)
        difference = paired_difference(measured, others, faces.photos) if others and name != NOTHING else ""
        result.append((VARIANTS[name][0], f"{statistics.mean(means):.3f}", difference))
    return result


if __name__ == "__main__":
    allocator.reexec_with_malloc_env()
    main()
