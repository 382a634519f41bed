"""Run dlib's shape predictor on a photo and its boxes, one face after the other."""

from pathlib import Path

import numpy as np
from worker import Ready, serve, timed


def prepare(settings: dict) -> Ready:
    """Load the predictor that make_dlib.py trained."""
    import dlib

    folder = Path(settings["folder"])
    predictor = dlib.shape_predictor(str(folder / "dlib.dat"))
    photo = np.load(folder / "photo.npz")
    image = photo["image"]
    boxes = [dlib.rectangle(*box) for box in photo["boxes"][: settings["batch"]].round().astype(int).tolist()]

    def work(count: int) -> None:
        for _ in range(count):
            for box in boxes:
                points = predictor(image, box)
                [(point.x, point.y) for point in points.parts()]

    work(3)
    return Ready(seconds=timed(work), packages=["dlib-bin"])


if __name__ == "__main__":
    serve(prepare)
