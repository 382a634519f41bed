"""Run dlib on photos: print the boxes of a detector and the landmarks of the published 68-point predictor as JSON."""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Process the photos; print {"missing": reason} if a package is not installed."""
    settings = json.loads(sys.argv[1])
    try:
        import dlib
        import numpy as np
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    weights = _weights()
    if weights is None:
        print(json.dumps({"missing": "face-recognition-models"}))
        return
    detect = _detector(dlib, settings["detector"], weights)
    predictor = dlib.shape_predictor(str(weights / "shape_predictor_68_face_landmarks.dat"))
    with np.load(settings["photos"]) as stored:  # decoded by the caller, so that all get the same pixels
        photos = [stored[name] for name in stored.files]
    detect(photos[0])
    results = []
    for photo in photos:
        start = time.perf_counter()
        boxes, scores = detect(photo)
        detection_end = time.perf_counter()
        points = [[(p.x, p.y) for p in predictor(photo, box).parts()] for box in boxes]
        end = time.perf_counter()
        results.append(
            {
                "boxes": [[b.left(), b.top(), b.right(), b.bottom()] for b in boxes],
                "scores": scores,
                "points": points,
                "detection_seconds": detection_end - start,
                "landmark_seconds": end - detection_end,
            }
        )
    print(json.dumps({"photos": results, "version": dlib.__version__}))


def _weights() -> Path | None:
    """Return the folder of the weights that the package face-recognition-models installs, without importing it."""
    for path in sys.path:
        folder = Path(path) / "face_recognition_models" / "models"
        if folder.is_dir():
            return folder
    return None


def _detector(dlib, name: str, weights: Path):
    if name == "cnn":
        network = dlib.cnn_face_detection_model_v1(str(weights / "mmod_human_face_detector.dat"))

        def by_network(photo):
            faces = network(photo, 0)
            return [face.rect for face in faces], [face.confidence for face in faces]

        return by_network
    histogram, upsampled = dlib.get_frontal_face_detector(), int(name.removeprefix("hog"))

    def by_histogram(photo):
        boxes, scores, _ = histogram.run(photo, upsampled, 0.0)
        return list(boxes), list(scores)

    return by_histogram


if __name__ == "__main__":
    main()
