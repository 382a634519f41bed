"""Folders `train/` and `test/` of pictures with a `.pts` or an `.ljson` file beside each."""

import json
from pathlib import Path

import cv2
import numpy as np

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68, Scheme


def write_points_folder(folder: Path, *, seed: int = 0, scheme: Scheme = IBUG_68) -> dict[str, list[SmallFace]]:
    """Write train: `a/0.pts`, `a/1.ljson` (version 1), `b/2.ljson` (2); test: `a/0.pts`, `a/1.ljson` (3)."""
    faces = small_faces(scheme, 5, seed=seed)
    splits = {"train": faces[:3], "test": faces[3:]}
    for split, members in splits.items():
        for number, face in enumerate(members):
            path = folder / split / ("b" if number == 2 else "a") / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(f"{path}.png", face.image[:, :, ::-1])
            if number == 0:
                rows = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in face.points.astype(np.float64))
                Path(f"{path}.pts").write_text(f"version: 1\nn_points: {scheme.points}\n{{\n{rows}\n}}\n")
            else:
                version = 3 if split == "test" else number
                Path(f"{path}.ljson").write_text(json.dumps(ljson(face.points, version), indent=1))
    return splits


def ljson(points: np.ndarray, version: int) -> dict:
    """Convert (x, y) to menpo's landmark JSON, [y, x]; version 3 has a second group of two points, "pupils"."""
    rows = points[:, ::-1].tolist()
    labels = [{"label": "all", "mask": list(range(len(rows)))}]
    shape = {"landmarks": {"points": rows, "connectivity": [[0, 1]]}, "labels": labels}
    if version == 1:
        parts = {"first": rows[:2], "second": rows[2:]}
        return {"version": 1, "groups": [
            {"label": label, "connectivity": [], "landmarks": [{"point": row} for row in part]}
            for label, part in parts.items()
        ]}  # fmt: skip
    if version == 2:
        return {"version": 2, **shape}
    pupils = {"landmarks": {"points": [[1.0, 2.0], [3.0, 4.0]], "connectivity": None}, "labels": []}
    return {"version": 3, "groups": {"LJSON": shape, "pupils": pupils}}
