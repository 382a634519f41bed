"""300-VW: `NNN/vid.avi` + `NNN/annot/000001.pts`."""

from pathlib import Path

import cv2

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68

VIDEOS = {"001": (0, 1, 2), "401": (3,), "410": (4,)}  # faces of each video: one trains, two test


def write_w300vw(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write a training video of three frames and two test videos of one frame, all in Motion JPEG."""
    faces = small_faces(IBUG_68, 5, seed=seed)
    for video, frames in VIDEOS.items():
        annotation = folder / video / "annot"
        annotation.mkdir(parents=True)
        size = (faces[0].image.shape[1], faces[0].image.shape[0])
        writer = cv2.VideoWriter(str(folder / video / "vid.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
        for number, face in enumerate((faces[i] for i in frames), start=1):
            writer.write(face.image[:, :, ::-1].copy())
            rows = "\n".join(f"{x + 1:.3f} {y + 1:.3f}" for x, y in face.points.astype(float))
            (annotation / f"{number:06}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
        writer.release()
    return {"train": faces[:3], "test": faces[3:]}
