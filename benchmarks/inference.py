"""Measure latency and throughput of the network alone, and of the steps from picture and box to landmarks.

    python benchmarks/inference.py [--batches 1 32 64 256] [--rounds 5]

The networks have the shapes of configs/w300.py (CNN-6 with BatchNorm at 64 x 64, then a narrow CNN-7 at 128 x 128, 68
points) and random weights, which do not affect their speed; all must agree in the points to 0.001 pixels.

The network alone, 64 x 64 uint8 crops in memory to points:

- wing_jax: the compiled network;
- ONNX Runtime with the network from `wing-jax export`;
- PyTorch with the same weights (channels last, BatchNorm folded, `inference_mode`), eager and compiled.

The complete pipeline:

- wing_jax, `Localizer.locate`: from face crops, with both stages and both croppings;
- wing_jax, `Localizer.predict`: one photo with one box for each face of the batch; and the same with the packaged model
  w300;
- dlib, `shape_predictor`: the same photo and boxes. Its classic model cannot be downloaded, so a model is trained on a
  few synthetic faces, with the classic 15 cascades of 500 trees of depth 4. Its speed depends only on the number and
  the depth of the trees; its points are not accurate.
"""

import tempfile
from pathlib import Path

from comparison import Baseline, Outcome, call, remarks, run, spread, status
from report import arguments, publish, table

NETWORK, ONNX, TORCH, COMPILED = "wing_jax", "ONNX Runtime", "PyTorch", "torch.compile"
LOCATE, PREDICT, DLIB = "wing_jax, Localizer.locate", "wing_jax, Localizer.predict", "dlib, shape_predictor"
PACKAGED = "wing_jax, Localizer.predict of w300"
ALONE, WHOLE = (NETWORK, ONNX, TORCH, COMPILED), (LOCATE, PREDICT, PACKAGED, DLIB)
TOLERANCE = 1e-3  # pixels


def main() -> None:
    """Make the models, run a comparison for each batch size, and publish both tables."""
    parser = arguments(__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 32, 64, 256))
    parser.add_argument("--turn", type=float, default=1.5, help="seconds of a baseline's turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        call("make_bundle.py", {"folder": folder, "trained_on": 24})
        call("make_dlib.py", {"folder": folder}, rival=True, optional=True)
        settings = {"folder": folder, "bundle": str(Path(folder) / "model")}
        outcomes = {
            batch: run(baselines(settings | {"batch": batch}), rounds=options.rounds, turn=options.turn)
            for batch in options.batches
        }
    versions = {name: version for outcome in outcomes.values() for name, version in outcome.versions.items()}
    publish("inference", "Inference on the CPU", body(outcomes), versions=versions, options=options)


def baselines(settings: dict) -> list[Baseline]:
    """Return all baselines."""
    ours, torch = "inference_wing.py", "inference_torch.py"
    return [
        Baseline(name=NETWORK, script=ours, settings=settings | {"kind": "network"}),
        Baseline(name=ONNX, script="inference_onnx.py", settings=settings, rival=True),
        Baseline(name=TORCH, script=torch, settings=settings | {"compiled": False}, rival=True),
        Baseline(name=COMPILED, script=torch, settings=settings | {"compiled": True}, rival=True),
        Baseline(name=LOCATE, script=ours, settings=settings | {"kind": "locate"}),
        Baseline(name=PREDICT, script=ours, settings=settings | {"kind": "predict"}),
        Baseline(name=PACKAGED, script=ours, settings=settings | {"kind": "predict", "bundle": "w300"}),
        Baseline(name=DLIB, script="inference_dlib.py", settings=settings, rival=True),
    ]


def body(outcomes: dict[int, Outcome]) -> list[str]:
    """Return two tables with a row for each baseline, and remarks."""
    difference = max(outcome.disagreement() for outcome in outcomes.values())
    agree = "agree" if difference < TOLERANCE else "DO NOT AGREE: do not trust this table"
    return [
        *("The network alone (CNN-6):", "", *rows(outcomes, ALONE, NETWORK), ""),
        *("The complete pipeline, both stages:", "", *rows(outcomes, WHOLE, PREDICT), ""),
        f"- Ratios are the speed of {NETWORK} (in the second table {PREDICT}) in multiples of the baseline's.",
        f"- The points of all networks {agree}: largest difference {difference:.1e} pixels.",
        "- dlib's predictor has 15 cascades of 500 trees of depth 4, trained on a few faces to measure its speed.",
        *remarks(outcomes.values()),
    ]


def rows(outcomes: dict[int, Outcome], names: tuple[str, ...], ours: str) -> list[str]:
    """Return the table of the baselines' speeds, and of the ratios of `ours` to them at each batch size."""
    header = ["", *("1 face, ms" if batch == 1 else f"{batch}, faces/s" for batch in outcomes)]
    header += [f"ratio at {batch}" for batch in outcomes]
    cells = [
        [
            name,
            *(cell(outcome, name, batch) for batch, outcome in outcomes.items()),
            *(spread(outcome.ratios(ours, name)) if name != ours else "" for outcome in outcomes.values()),
        ]
        for name in names
    ]
    return table(header, cells)


def cell(outcome: Outcome, name: str, batch: int) -> str:
    """Format milliseconds for one face, or faces a second for more."""
    if text := status(outcome, name):
        return text
    if batch == 1:
        return spread([1000 * seconds for seconds in outcome.seconds[name]])
    return spread([batch / seconds for seconds in outcome.seconds[name]], 0)


if __name__ == "__main__":
    main()
