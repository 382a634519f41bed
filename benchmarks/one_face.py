"""Measure the time from one photo and one box to landmarks.

    python benchmarks/one_face.py [--rounds 5]

The photo has 640 x 480 pixels and one synthetic face.

- wing_jax: `Localizer.predict` of the packaged model w300, 68 points; and `predict_details`, which also says how sure
  it is;
- ONNX Runtime: the export of w300, run by the code of docs/how-to/export.md;
- dlib: `shape_predictor`, 68 points; the model is trained on a few faces, as for `inference.py`;
- MediaPipe: the face mesh, 468 points, following the face from picture to picture, without a detector, or detecting it
  in each picture. It needs NumPy 1, and so an environment of its own (README.md).
"""

import tempfile
from pathlib import Path

from comparison import Baseline, Outcome, call, remarks, run, spread, status
from report import arguments, publish, table

PREDICT, DETAILS = "wing_jax, Localizer.predict", "wing_jax, Localizer.predict_details"
ONNX, DLIB = "ONNX Runtime, export of w300", "dlib, shape_predictor"
FOLLOWS, DETECTS = "MediaPipe, face mesh", "MediaPipe, face detector and mesh"
NAMES = (PREDICT, DETAILS, ONNX, DLIB, FOLLOWS, DETECTS)
MEDIAPIPE = ".venv-mediapipe"


def main() -> None:
    """Make the models, compare, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--turn", type=float, default=1.5, help="seconds of a baseline's turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        call("make_bundle.py", {"folder": folder, "trained_on": 24})
        call("make_dlib.py", {"folder": folder}, rival=True, optional=True)
        call("make_face.py", {"folder": folder})
        outcome = run(baselines({"folder": str(Path(folder))}), rounds=options.rounds, turn=options.turn)
    publish("one-face", "One face", body(outcome), versions=outcome.versions, options=options)


def baselines(settings: dict) -> list[Baseline]:
    """Return all baselines."""
    ours = settings | {"bundle": "w300", "batch": 1}
    mesh = {"script": "one_face_mediapipe.py", "rival": True, "venv": MEDIAPIPE}
    return [
        Baseline(name=PREDICT, script="inference_wing.py", settings=ours | {"kind": "predict"}),
        Baseline(name=DETAILS, script="inference_wing.py", settings=ours | {"kind": "details"}),
        Baseline(name=ONNX, script="one_face_onnx.py", settings=settings, rival=True),
        Baseline(name=DLIB, script="inference_dlib.py", settings=settings | {"batch": 1}, rival=True),
        Baseline(name=FOLLOWS, settings=settings | {"detects": False}, **mesh),
        Baseline(name=DETECTS, settings=settings | {"detects": True}, **mesh),
    ]


def body(outcome: Outcome) -> list[str]:
    """Return the table of the baselines' times, and remarks."""
    cells = [
        [
            name,
            status(outcome, name) or spread([1000 * seconds for seconds in outcome.seconds[name]]),
            spread(outcome.ratios(PREDICT, name)) if name != PREDICT else "",
        ]
        for name in NAMES
    ]
    return [
        *table(["", "ms", "ratio"], cells),
        "",
        f"- The ratio is the baseline's time in multiples of that of {PREDICT}.",
        "- dlib's predictor has 15 cascades of 500 trees of depth 4, trained on a few faces to measure its speed.",
        *remarks([outcome]),
    ]


if __name__ == "__main__":
    main()
