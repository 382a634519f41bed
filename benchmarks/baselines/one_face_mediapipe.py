"""Run MediaPipe's face mesh (468 points) on a photo: it follows the face from call to call, or detects it each time."""

from pathlib import Path

import numpy as np
from worker import Ready, serve, timed


def prepare(settings: dict) -> Ready:
    """Load the networks.

    Raises:
      ValueError: it does not find the face.
    """
    import mediapipe

    image = np.ascontiguousarray(np.load(Path(settings["folder"]) / "photo.npz")["image"])
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=settings["detects"], max_num_faces=1)

    def work(count: int) -> None:
        for _ in range(count):
            if mesh.process(image).multi_face_landmarks is None:
                raise ValueError("MediaPipe does not find the face")

    work(3)
    return Ready(seconds=timed(work), packages=["mediapipe"])


if __name__ == "__main__":
    serve(prepare)
