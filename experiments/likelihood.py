"""Compare ways to get the spread of a landmark: from the votes as they are, calibrated, and trained by a likelihood.

    python experiments/likelihood.py w300 [--steps 2000] [--output runs/likelihood]

The second stage of a pretrained model is trained further with the Wing loss plus the negative log likelihood of the
errors under normal distributions with the covariances of its votes. The model and the trained copy are then compared
on the faces of 300-W that the training held out, unchanged and with every change of `wing-jax evaluate --stress`, with
the covariances of their votes and after a calibration, fitted without the fifth of the faces that it is applied to.

- Failures: the area under the ROC curve by which the mean spread tells faces with an NME of more than 10 %.
- Tenths: the largest deviation of error / spread from 1, over the tenths of the landmarks by their spread.
- Likelihood: the mean negative log likelihood of an error in sides of the crop (lower is better), with the complete
  covariances and with their mean variance in every direction. Errors of lost landmarks count as 15 % of the crop.
- NME: of the unchanged held-out faces, and its difference to the model's own with a 95 % interval over photos.
"""

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from confidence import FOLDS, REPRODUCED, roc_auc, tenths
from shared import table

import wing_jax as wj
from wing_jax import presets
from wing_jax.cli.evaluate import HELD_OUT, EvaluateOptions, faces_of
from wing_jax.cli.model import find_model
from wing_jax.data.face_set import FaceSet
from wing_jax.evaluation.calibration import (
    FAILED,
    Sample,
    cap_errors,
    collect,
    fit_weights,
    negative_log_likelihood,
)
from wing_jax.evaluation.comparison import bootstrap_interval
from wing_jax.inference.uncertainty import calibrated_covariance, exp_covariance, spread
from wing_jax.input.sampling import BatchIndices, EpochSampler
from wing_jax.models import cpu_kernel
from wing_jax.report.origin import commit, machine
from wing_jax.runtime import allocator, devices
from wing_jax.train.data import FaceSource, prepare_data
from wing_jax.train.fit import setup_second

RATE, WARM_UP = 1e-4, 100  # learning rate and its warm-up steps
FLOOR = 1e-6  # squared crop sides, added to variances
PRINT_EVERY = 100  # steps


def main() -> None:
    """Train if there is no trained copy yet, measure, save and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--output", default="runs/likelihood")
    options = parser.parse_args()
    devices.prepare_xla()
    cpu_kernel.load()
    place = find_model(options.model)
    localizer = wj.Localizer.load(place.folder)
    held_out, _ = faces_of(EvaluateOptions(model=options.model, data="w300", split=HELD_OUT), localizer, place)
    folder = Path(options.output) / f"{Path(options.model).name}-{options.steps}"
    if not folder.exists():
        everything = wj.load_faces("w300", "train").without(presets.load("w300_relabeled").data.exclude)
        faces = everything.take(np.flatnonzero(~np.isin(everything.photos, held_out.photos)))
        train(localizer, faces, held_out, steps=options.steps).save(folder)
    trained = wj.Localizer.load(folder)
    results = {
        name: measure(model, held_out) for name, model in {"as published": localizer, "likelihood": trained}.items()
    }
    nmes = [wj.evaluate(model, held_out).errors["inter-ocular"] for model in (localizer, trained)]
    low, high = bootstrap_interval(nmes[1] - nmes[0], np.asarray(held_out.photos), seed=0)
    accuracy = {"nme": [float(values.mean()) for values in nmes], "difference": [low, high]}
    origin = {"command": f"python {shlex.join(sys.argv)}", "commit": commit(), "machine": machine()}
    path = REPRODUCED / f"likelihood-{Path(options.model).name}.json"
    path.write_text(json.dumps({"spread": results, "accuracy": accuracy, **origin}, indent=1) + "\n")
    print("\n".join(lines(results)))
    difference = float((nmes[1] - nmes[0]).mean())
    print(f"\nNME {nmes[0].mean():.3f} %, trained by the likelihood {nmes[1].mean():.3f} %: "
          f"{difference:+.3f} ({low:+.3f} to {high:+.3f})")  # fmt: skip
    print(f"saved: {path}")


def train(localizer: wj.Localizer, faces: FaceSet, held_out: FaceSet, *, steps: int) -> wj.Localizer:
    """Train the last stage further with Wing loss and likelihood; return the localizer with it."""
    recipe = presets.w300_relabeled()
    recipe = dataclasses.replace(recipe, stages=tuple(dataclasses.replace(spec, start=None) for spec in recipe.stages))
    data = prepare_data([FaceSource(faces=faces)], recipe.stages, validation=held_out, balance=None, seed=0)
    setup = setup_second(recipe, data, localizer.stages[0], localizer.template, seed=0)
    batches, stored = setup.device_input(seed=0), jax.device_put(setup.faces())
    sampler = EpochSampler(setup.order, batch_size=batches.batch_size, seed=batches.seed)
    stage = localizer.stages[-1]
    loss, size = setup.spec.scaled_loss(), stage.input_size
    rate = optax.warmup_cosine_decay_schedule(0, RATE, min(WARM_UP, steps // 10), steps)
    optimizer = optax.adamw(rate, weight_decay=5e-2)

    @jax.jit
    def step(variables, state, faces, indices: BatchIndices, number):
        batch = batches.batch(faces, indices)

        def objective(params):
            (points, covariance), new = stage.model.apply(
                {**variables, "params": params},
                batch.images,
                train=True,
                covariance=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(jax.random.key(0), number)},
            )
            floor = FLOOR * jnp.eye(2)[None, None]
            likelihood = negative_log_likelihood(covariance / size**2 + floor, (points - batch.points) / size)
            return loss(points, batch.points).mean() + likelihood.mean(), (new, likelihood.mean())

        slopes, (new, likelihood) = jax.grad(objective, has_aux=True)(variables["params"])
        updates, state = optimizer.update(slopes, state, variables["params"])
        return {**new, "params": optax.apply_updates(variables["params"], updates)}, state, likelihood

    variables = jax.tree.map(jnp.asarray, stage.variables)
    state = optimizer.init(variables["params"])
    for number in range(steps):
        indices = BatchIndices(*(values[0] for values in sampler(number, 1)))
        variables, state, likelihood = step(variables, state, stored, indices, number)
        if (number + 1) % PRINT_EVERY == 0:
            print(f"step {number + 1} of {steps}: negative log likelihood {float(likelihood):.2f}", flush=True)
    trained = dataclasses.replace(stage, variables=jax.device_get(variables))
    return dataclasses.replace(localizer, stages=(*localizer.stages[:-1], trained), calibration=None)


def measure(localizer: wj.Localizer, faces: FaceSet) -> dict[str, dict[str, float]]:
    """Return the figures of a localizer's votes and of their calibration."""
    sample = collect(localizer, faces, seed=0)
    raw = np.asarray(exp_covariance(sample.features[..., :3])) + FLOOR * np.eye(2)
    calibrated, size = np.zeros_like(raw), localizer.stages[-1].input_size
    for fold in range(FOLDS):
        out = sample.face % FOLDS == fold
        weights = fit_weights(Sample(*(values[~out] for values in sample)), size=size)
        calibrated[out] = np.asarray(calibrated_covariance(sample.features[out], weights, size=1))
    return {
        name: figures(sample, covariance, size=size)
        for name, covariance in {"votes": raw, "calibrated": calibrated}.items()
    }


def figures(sample: Sample, covariance: np.ndarray, *, size: int) -> dict[str, float]:
    """Return the figures of covariances in squared sides of the crop."""
    distances = np.linalg.norm(sample.errors, axis=-1)
    errors = cap_errors(sample.errors / size)
    spreads = np.asarray(spread(covariance))
    pairs = tenths(spreads.ravel(), np.linalg.norm(errors, axis=-1).ravel(), root=True)
    same = np.eye(2) * np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / 2
    return {
        "auc": roc_auc(spreads.mean(1), distances.mean(1) / sample.eyes > FAILED),
        "tenths": max(abs(actual / predicted - 1) for predicted, actual in pairs),
        "likelihood": float(negative_log_likelihood(covariance, errors).mean()),
        "likelihood, one variance": float(negative_log_likelihood(same, errors).mean()),
    }


def lines(results: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return the table."""
    header = ("second stage", "covariances", "area under the ROC curve", "tenths, %", "likelihood", "one variance")
    rows = [
        (
            model,
            name,
            f"{row['auc']:.3f}",
            f"{100 * row['tenths']:.0f}",
            f"{row['likelihood']:.2f}",
            f"{row['likelihood, one variance']:.2f}",
        )
        for model, parts in results.items()
        for name, row in parts.items()
    ]
    return table(header, rows)


if __name__ == "__main__":
    allocator.reexec_with_malloc_env()
    main()
