"""Measure how well a calibrated model knows its errors, on faces that it was not trained on and on changed copies.

    python experiments/confidence.py w300 [--data w300] [--split held_out] [--photos FOLDER] [--backgrounds 2000]

The faces are those that the training held out, or with `--split test` the test set; each is predicted unchanged and
with every change of `wing-jax evaluate --stress`. The model was calibrated on the held-out faces, so for
these the calibration is fitted again five times, each time without a fifth of the faces, which it is then applied to.

- Failures: faces with an NME of more than 10 % by the inter-ocular distance. The area under the ROC curve says how well
  the expected error tells them from the others.
- Tenths of the landmarks by their spread: the spread beside the actual error, both as root mean squares in per cent of
  the crop. Errors of lost landmarks count as 15 % of the crop, as in the fit.
- Tenths of the landmarks by their confidence: the mean confidence beside the share within 5 % of the inter-ocular
  distance.
- Backgrounds: boxes on complete photos that overlap neither the annotated face nor a detection. The shares of them and
  of the failures that are called invalid, and of the good faces among the unchanged and mildly changed ones (false
  alarms): with the calibrated limit, and with the limit that calls 1 % of these good faces invalid.
- Coverage: the mean NME of the faces that remain if those with the largest expected errors are left out.

These figures are of single attempts. The last table has those of the complete model, which tries invalid faces again
(`wing_jax.inference.retry`), with its own calibration.

Results are saved in docs/reproduce/confidence-MODEL-SPLIT.json and .png.
"""

import argparse
import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from shared import table

import wing_jax as wj
from wing_jax.cli.evaluate import HELD_OUT, EvaluateOptions, faces_of
from wing_jax.cli.model import find_model
from wing_jax.data.boxes import overlap
from wing_jax.data.face_set import FaceSet
from wing_jax.evaluation.calibration import FAILED, Sample, collect, fit
from wing_jax.inference.detectors import get_detector
from wing_jax.inference.prediction import NEAR
from wing_jax.inference.uncertainty import LOST, Calibration, calibrated_covariance, spread
from wing_jax.report.canvas import Figure, make_figure
from wing_jax.report.origin import commit, machine
from wing_jax.report.plots import INK, PALETTE, save_figure, style_axes
from wing_jax.runtime import devices
from wing_jax.schemes import IBUG_68

REPRODUCED = Path(__file__).parents[1] / "docs" / "reproduce"
FOLDS = 5
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


def main() -> None:
    """Measure, save and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", default="w300")
    parser.add_argument("--split", default=HELD_OUT, choices=(HELD_OUT, "test"))
    parser.add_argument("--photos", default=str(Path(os.environ.get("WING_JAX_DATA", "../shared/data")) / "photos"))
    parser.add_argument("--backgrounds", type=int, default=2000)
    options = parser.parse_args()
    devices.prepare_xla()
    place = find_model(options.model)
    localizer = wj.Localizer.load(place.folder)
    faces, _ = faces_of(EvaluateOptions(model=options.model, data=options.data, split=options.split), localizer, place)
    sample = collect(localizer, faces, seed=0)
    predicted = predict_errors(localizer, sample, folds=FOLDS if options.split == HELD_OUT else 0)
    photos = wj.load_faces("pts", "test", root=options.photos, scheme=IBUG_68.name)
    single = dataclasses.replace(localizer, retry_invalid=False)
    backgrounds = background_errors(single, photos, count=options.backgrounds)
    results = measure(sample, predicted, backgrounds, limit=localizer.calibration.limit)
    results["tried again"] = measure_retries(localizer, faces, photos, count=options.backgrounds)
    origin = {"command": f"python {shlex.join(sys.argv)}", "commit": commit(), "machine": machine()}
    path = REPRODUCED / f"confidence-{Path(options.model).name}-{options.split}.json"
    path.write_text(json.dumps({"faces": len(faces), **results, **origin}, indent=1) + "\n")
    save_figure(draw(sample, predicted, backgrounds, results), path.with_suffix(".png"))
    print("\n".join(lines(results, faces=len(faces))))
    print(f"saved: {path} and .png")


class Predicted:
    """What the calibration says of the faces of a sample, in pixels of the crop."""

    def __init__(self, count: int, points: int, *, size: int):
        self.size = size
        self.spread = np.zeros((count, points))
        self.confidence = np.zeros((count, points))
        self.expected = np.zeros(count)  # in sides of the crop
        self.limit = np.zeros(count)

    def fill(self, rows: np.ndarray, sample: Sample, calibration: Calibration) -> None:
        """Apply the calibration to the rows."""
        size = self.size
        spreads = np.asarray(spread(calibrated_covariance(sample.features[rows], calibration.weights, size=size)))
        self.spread[rows], self.expected[rows] = spreads, spreads.mean(1) / size
        self.confidence[rows] = calibration.probability(NEAR * sample.eyes[rows, None] / spreads)
        self.limit[rows] = calibration.limit


def predict_errors(localizer: wj.Localizer, sample: Sample, *, folds: int) -> Predicted:
    """Apply the model's calibration, or with `folds` those that were fitted without each fold's faces."""
    size = localizer.stages[-1].input_size
    predicted = Predicted(*sample.errors.shape[:2], size=size)
    if not folds:
        predicted.fill(np.arange(len(sample.errors)), sample, localizer.calibration)
    for fold in range(folds):
        out = sample.face % folds == fold
        calibration = fit(Sample(*(values[~out] for values in sample)), size=size)
        predicted.fill(np.flatnonzero(out), sample, calibration)
    return predicted


def background_errors(localizer: wj.Localizer, photos: FaceSet, *, count: int) -> np.ndarray:
    """Return the expected errors of boxes without a face, of 10 to 50 % of the photo's shorter side."""
    random, detector = np.random.default_rng(0), get_detector("auto")
    images = [photos.picture(index) for index in range(len(photos))]
    boxes = []
    for index, image in enumerate(images):
        known = np.concatenate([photos.boxes[index : index + 1], detector(image)[0]])
        height, width = image.shape[:2]
        wanted, found, tries = -(-count // len(images)), [], 0
        while len(found) < wanted and tries < 100 * wanted:
            tries += 1
            side = random.uniform(0.1, 0.5) * min(height, width)
            corner = random.uniform(0, np.array([width, height]) - side)
            box = np.array([*corner, *(corner + side)], np.float32)
            if not overlap(known, box).any():
                found.append(box)
        boxes.append(np.array(found, np.float32).reshape(-1, 4))
    predictions = localizer.predict_details(images, boxes)
    return np.concatenate([prediction.expected_error for prediction in predictions])[:count]


def measure_retries(localizer: wj.Localizer, faces: FaceSet, photos: FaceSet, *, count: int) -> dict[str, Any]:
    """Return the figures of the complete model, which tries invalid faces again."""
    sample = collect(localizer, faces, seed=0, retry_invalid=True)
    predicted = predict_errors(localizer, sample, folds=0)
    failed = np.linalg.norm(sample.errors, axis=-1).mean(1) / sample.eyes > FAILED
    invalid = predicted.expected > predicted.limit
    backgrounds = background_errors(localizer, photos, count=count)
    return {
        "failures": int(failed.sum()),
        "failures called valid": int((failed & ~invalid).sum()),
        "good faces called invalid": int((~failed & invalid).sum()),
        "boxes without a face called invalid, %": share(backgrounds > localizer.calibration.limit),
    }


def measure(sample: Sample, predicted: Predicted, backgrounds: np.ndarray, *, limit: float) -> dict[str, Any]:
    """Return the figures, ready for JSON."""
    distances = np.linalg.norm(sample.errors, axis=-1)
    nme = distances.mean(1) / sample.eyes
    failed, invalid = nme > FAILED, predicted.expected > predicted.limit
    usual = sample.mild & ~failed
    one_percent = float(np.quantile(predicted.expected[usual], 0.99))
    size = predicted.size
    capped = np.minimum(distances / size, LOST)
    order = np.argsort(predicted.expected)
    kept = np.cumsum(nme[order]) / np.arange(1, len(order) + 1)
    return {
        "predictions": len(nme),
        "failures": int(failed.sum()),
        "auc": round(roc_auc(predicted.expected, failed), 4),
        "invalid": {
            "good faces, unchanged or mildly changed": share(invalid[usual]),
            "all good faces": share(invalid[~failed]),
            "failures": share(invalid[failed]),
            "boxes without a face": share(backgrounds > limit),
            "failures, at 1 % false alarms": share(predicted.expected[failed] > one_percent),
            "boxes without a face, at 1 % false alarms": share(backgrounds > one_percent),
        },
        "backgrounds": len(backgrounds),
        "spread": tenths(predicted.spread.ravel() / size, capped.ravel(), root=True),
        "confidence": tenths(predicted.confidence.ravel(), (distances <= NEAR * sample.eyes[:, None]).ravel()),
        "coverage": {f"{part:.0%}": round(100 * kept[round(part * len(kept)) - 1], 2) for part in COVERAGES},
    }


def share(values: np.ndarray) -> float:
    """Return the part that is true, in per cent."""
    return round(100 * float(values.mean()), 2)


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive has a higher score than a negative."""
    higher = scipy.stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
    return float(higher / (positive.sum() * (~positive).sum()))


def tenths(predicted: np.ndarray, actual: np.ndarray, *, root: bool = False) -> list[list[float]]:
    """Return (predicted, actual) in per cent for each tenth by the prediction: means, or root mean squares."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), 10)
    power = 2 if root else 1
    return [
        [
            round(100 * float((values[part].astype(float) ** power).mean() ** (1 / power)), 3)
            for values in (predicted, actual)
        ]
        for part in parts
    ]


def lines(results: dict[str, Any], *, faces: int) -> list[str]:
    """Return the printed tables."""
    spreads, confidences = results["spread"], results["confidence"]
    columns = [str(number) for number in range(1, 11)]
    return [
        f"{faces} faces, {results['predictions']} predictions, of which {results['failures']} failed; "
        f"area under the ROC curve {results['auc']:.3f}",
        "",
        *table(("called invalid", "%"), [(name, f"{value:.2f}") for name, value in results["invalid"].items()]),
        "",
        *table(
            ("tenth", *columns),
            [
                ("spread, % of the crop", *(f"{pair[0]:.2f}" for pair in spreads)),
                ("error", *(f"{pair[1]:.2f}" for pair in spreads)),
                ("error / spread", *(f"{pair[1] / pair[0]:.2f}" for pair in spreads)),
                ("confidence, %", *(f"{pair[0]:.1f}" for pair in confidences)),
                ("within 5 %, %", *(f"{pair[1]:.1f}" for pair in confidences)),
            ],
        ),
        "",
        *table(
            ("faces kept", *results["coverage"]),
            [("NME, %", *(f"{value:.2f}" for value in results["coverage"].values()))],
        ),
        "",
        *table(
            ("invalid faces tried again", ""), [(name, f"{value:g}") for name, value in results["tried again"].items()]
        ),
    ]


def draw(sample: Sample, predicted: Predicted, backgrounds: np.ndarray, results: dict[str, Any]) -> Figure:
    """Plot spread and error, confidence and share, the expected errors, and the NME by coverage."""
    figure = make_figure(13.5, 3.6, layout="constrained")
    spreads, confidences, errors, coverage = figure.subplots(1, 4)
    for axes, name, label in (
        (spreads, "spread", "% of the crop"),
        (confidences, "confidence", "%"),
    ):
        pairs = np.array(results[name])
        low, high = pairs.min(), pairs.max()
        axes.plot([low, high], [low, high], color=INK, linewidth=1)
        axes.plot(pairs[:, 0], pairs[:, 1], "o-", color=PALETTE[0], markersize=4)
        axes.set_xlabel(f"{name}, {label}")
        axes.set_ylabel("error, % of the crop" if name == "spread" else "landmarks within 5 %, %")
    for scale, ticks in ((spreads.set_xscale, spreads.set_xticks), (spreads.set_yscale, spreads.set_yticks)):
        scale("log")
        ticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    spreads.minorticks_off()
    nme = np.linalg.norm(sample.errors, axis=-1).mean(1) / sample.eyes
    bins = np.geomspace(100 * predicted.expected.min(), 100 * max(predicted.expected.max(), backgrounds.max()), 60)
    for color, (name, values) in zip(
        PALETTE,
        {
            "good": predicted.expected[nme <= FAILED],
            "failed": predicted.expected[nme > FAILED],
            "no face": backgrounds,
        }.items(),
        strict=False,
    ):
        weights = np.full(len(values), 100 / len(values))
        errors.hist(100 * values, bins, weights=weights, histtype="step", color=color, label=name, linewidth=1.6)
    errors.axvline(
        100 * float(np.median(predicted.limit)), color=INK, linewidth=1, linestyle="--", label="limit of valid faces"
    )
    errors.set_xscale("log")
    errors.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    errors.minorticks_off()
    errors.set_ylim(0, 1.5 * errors.get_ylim()[1])  # room for the legend
    errors.set_xlabel("expected error of the face, % of the crop")
    errors.set_ylabel("faces, %")
    errors.legend(frameon=False, fontsize=8)
    order = np.argsort(predicted.expected)
    kept = 100 * np.cumsum(nme[order]) / np.arange(1, len(order) + 1)
    coverage.plot(100 * np.arange(1, len(order) + 1) / len(order), kept, color=PALETTE[0])
    coverage.set_xlabel("faces kept, %")
    coverage.set_ylabel("NME of the faces kept, %")
    for axes in (spreads, confidences, errors, coverage):
        style_axes(axes)
        axes.grid(color="#d9dde3", linewidth=0.8)
    return figure


if __name__ == "__main__":
    main()
