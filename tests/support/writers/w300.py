"""300-W: pictures with `.pts` beside them, counted from 1, in the official folders."""

from pathlib import Path

import cv2

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68

PLACES = {
    "train": ("afw/134212_1.jpg", "afw/134212_2.jpg", "lfpw/trainset/image_0001.png"),
    "test": ("helen/testset/3035796193_1.jpg", "ibug/image_003_1.png"),
    "private": ("300w_cropped/01_Indoor/indoor_001.png", "300w_cropped/02_Outdoor/outdoor_001.png"),
}


def write_w300(folder: Path, *, seed: int = 0, private: bool = False) -> dict[str, list[SmallFace]]:
    """Write three training faces, two of one photo, two test faces, and with `private` two of the private test."""
    faces = iter(small_faces(IBUG_68, 7, seed=seed))
    places = PLACES if private else {split: PLACES[split] for split in ("train", "test")}
    written = {split: [next(faces) for _ in names] for split, names in places.items()}
    for split, names in places.items():
        for name, face in zip(names, written[split], strict=True):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), face.image[:, :, ::-1])
            rows = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in face.points.astype(float))
            path.with_suffix(".pts").write_text(f"version: 1\nn_points:  68\n{{\n{rows}\n}}\n")
    return written
