"""Latency of one face and faces a second of many: the network alone, and from picture and box to landmarks.

    python benchmarks/inference.py [--batches 1 32 64 256] [--rounds 5]

The networks have the shapes of configs/w300.py (CNN-6 with BatchNorm at 64 x 64, then a narrow CNN-7 at 128 x 128, 68
points) and random weights, which does not change their speed; all must give the same points to 0.001 pixels.

The network alone, 64 x 64 uint8 crops in memory to points:

- wing_jax: the compiled network;
- ONNX Runtime with the network that `wing-jax export` writes;
- PyTorch with the same weights (channels last, BatchNorm folded, `inference_mode`), eager and compiled.

The whole way:

- wing_jax, `Localizer.locate`: faces already cut out as face crops, both stages and both croppings;
- wing_jax, `Localizer.predict`: one photo and as many boxes as the batch has faces;
- dlib, `shape_predictor`: the same photo and boxes. Its classic model may not be downloaded here, so one is trained on
  a few synthetic faces, with the classic 15 cascades of 500 trees of depth 4: its speed depends on the trees' number
  and depth alone, its points are not good.
"""

import tempfile
from pathlib import Path

from comparison import Baseline, Outcome, call, remarks, run, spread, status
from report import arguments, publish, table

NETWORK, ONNX, TORCH, COMPILED = "wing_jax", "ONNX Runtime", "PyTorch", "torch.compile"
LOCATE, PREDICT, DLIB = "wing_jax, Localizer.locate", "wing_jax, Localizer.predict", "dlib, shape_predictor"
ALONE, WHOLE = (NETWORK, ONNX, TORCH, COMPILED), (LOCATE, PREDICT, DLIB)
TOLERANCE = 1e-3  # pixels


def main() -> None:
    """Make the models, run one comparison for each batch size, and publish both tables."""
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
    """Everyone who takes part."""
    ours, torch = "inference_wing.py", "inference_torch.py"
    return [
        Baseline(name=NETWORK, script=ours, settings=settings | {"kind": "network"}),
        Baseline(name=ONNX, script="inference_onnx.py", settings=settings, rival=True),
        Baseline(name=TORCH, script=torch, settings=settings | {"compiled": False}, rival=True),
        Baseline(name=COMPILED, script=torch, settings=settings | {"compiled": True}, rival=True),
        Baseline(name=LOCATE, script=ours, settings=settings | {"kind": "locate"}),
        Baseline(name=PREDICT, script=ours, settings=settings | {"kind": "predict"}),
        Baseline(name=DLIB, script="inference_dlib.py", settings=settings, rival=True),
    ]


def body(outcomes: dict[int, Outcome]) -> list[str]:
    """Two tables, one row a baseline, and what must be said beside them."""
    apart = max(outcome.disagreement() for outcome in outcomes.values())
    agree = "agree" if apart < TOLERANCE else "DO NOT AGREE: do not trust this table"
    return [
        *("The network alone (CNN-6):", "", *rows(outcomes, ALONE, NETWORK), ""),
        *("The whole way, both stages:", "", *rows(outcomes, WHOLE, PREDICT), ""),
        f"- A ratio says how many times as fast {NETWORK} is, in the second table {PREDICT}.",
        f"- The points of all networks {agree}: largest difference {apart:.1e} pixels.",
        "- dlib's predictor has 15 cascades of 500 trees of depth 4, trained on a few faces: for speed alone.",
        *remarks(outcomes.values()),
    ]


def rows(outcomes: dict[int, Outcome], names: tuple[str, ...], ours: str) -> list[str]:
    """The baselines' times, and how many times as fast `ours` is at each batch size."""
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
    """Milliseconds for one face, else faces a second."""
    if said := status(outcome, name):
        return said
    if batch == 1:
        return spread([1000 * seconds for seconds in outcome.seconds[name]])
    return spread([batch / seconds for seconds in outcome.seconds[name]], 0)


if __name__ == "__main__":
    main()
