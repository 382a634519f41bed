"""MTFL: `training.txt` and `testing.txt` as published, with a space before most lines and both kinds of slash."""

from pathlib import Path

import cv2

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import MTFL_5

PLACES = {
    "training.txt": ("lfw_5590\\Aaron_0001.jpg", "lfw_5590\\Abba_0001.jpg", "net_7876\\0_1_face.jpg"),
    "testing.txt": ("AFLW/0001-image20056.jpg", "AFLW/0002-image60465.jpg"),
}
MARKS = ("1 1 2 3", "2 1 1 4", "1 2 1 1", "2 2 2 5", "1 1 1 2")  # gender, smile, glasses, pose


def line(face: SmallFace, name: str, labels: str) -> str:
    """Format a line of the list: the path, x1..x5, y1..y5 and four labels; the format has a leading space."""
    return " ".join(["", name, *(f"{value:.9g}" for value in face.points.T.ravel() + 1), labels])


def write_mtfl(folder: Path, *, seed: int = 0) -> dict[str, list[SmallFace]]:
    """Write three training and two test faces with `MARKS`, all different."""
    faces = small_faces(MTFL_5, 5, seed=seed)
    written = {"training.txt": faces[:3], "testing.txt": faces[3:]}
    labels = iter(MARKS)
    for listing, names in PLACES.items():
        lines = []
        for name, face in zip(names, written[listing], strict=True):
            lines.append(line(face, name, next(labels)))
            path = folder / name.replace("\\", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), face.image[:, :, ::-1])
        (folder / listing).write_text("\n".join(lines) + "\n")
    return {"train": written["training.txt"], "test": written["testing.txt"]}
