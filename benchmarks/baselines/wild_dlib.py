"""dlib on whole photos: a detector's boxes and, by the published 68-point predictor, the landmarks; JSON on stdout."""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Work through the photos of the settings; {"missing": why} where a package is not there."""
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
    with np.load(settings["photos"]) as stored:  # decoded once by the caller: the same pixels for all
        photos = [stored[name] for name in stored.files]
    detect(photos[0])
    found = []
    for photo in photos:
        started = time.perf_counter()
        boxes, scores = detect(photo)
        detected = time.perf_counter()
        points = [[(p.x, p.y) for p in predictor(photo, box).parts()] for box in boxes]
        ended = time.perf_counter()
        found.append(
            {
                "boxes": [[b.left(), b.top(), b.right(), b.bottom()] for b in boxes],
                "scores": scores,
                "points": points,
                "detection_seconds": detected - started,
                "landmark_seconds": ended - detected,
            }
        )
    print(json.dumps({"photos": found, "version": dlib.__version__}))


def _weights() -> Path | None:
    """The folder of the weights that the package face-recognition-models installs; it need not be imported for it."""
    for place in sys.path:
        folder = Path(place) / "face_recognition_models" / "models"
        if folder.is_dir():
            return folder
    return None


def _detector(dlib, name: str, weights: Path):
    if name == "cnn":
        network = dlib.cnn_face_detection_model_v1(str(weights / "mmod_human_face_detector.dat"))

        def by_network(photo):
            found = network(photo, 0)
            return [face.rect for face in found], [face.confidence for face in found]

        return by_network
    histogram, upsampled = dlib.get_frontal_face_detector(), int(name.removeprefix("hog"))

    def by_histogram(photo):
        boxes, scores, _ = histogram.run(photo, upsampled, 0.0)
        return list(boxes), list(scores)

    return by_histogram


if __name__ == "__main__":
    main()
