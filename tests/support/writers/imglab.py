"""dlib's imglab XML: `train.xml` and `test.xml`, pictures in `pictures/`. All numbers are integers."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68, Scheme


def write_imglab(folder: Path, *, seed: int = 0, scheme: Scheme = IBUG_68) -> dict[str, list[SmallFace]]:
    """Write five pictures with one face and one box with ignore='1' each."""
    faces = [
        dataclasses.replace(face, points=np.round(face.points), box=np.round(face.box))
        for face in small_faces(scheme, 5, seed=seed)
    ]
    splits = {"train": faces[:3], "test": faces[3:]}
    (folder / "pictures").mkdir(parents=True)
    for split, members in splits.items():
        lines = [
            "<?xml version='1.0' encoding='ISO-8859-1'?>",
            "<?xml-stylesheet type='text/xsl' href='image_metadata_stylesheet.xsl'?>",
            "<dataset>", "<name>Faces</name>", "<comment>Small ones.</comment>", "<images>",
        ]  # fmt: skip
        for number, face in enumerate(members):
            name = f"pictures/{split}_{number}.png"
            cv2.imwrite(str(folder / name), face.image[:, :, ::-1])
            left, top, right, bottom = face.box.astype(int).tolist()
            occluded = " occluded='1'" if number == 1 else ""
            lines += [
                f"  <image file='{name}' width='{face.image.shape[1]}' height='{face.image.shape[0]}'>",
                "    <box top='1' left='2' width='9' height='9' ignore='1'/>",
                f"    <box top='{top}' left='{left}' width='{right - left + 1}' height='{bottom - top + 1}'{occluded}>",
                "      <label>face</label>",
            ]
            lines += [
                f"      <part name='{index:02}' x='{x:.0f}' y='{y:.0f}'/>" for index, (x, y) in enumerate(face.points)
            ]
            lines += ["    </box>", "  </image>"]
        (folder / f"{split}.xml").write_text("\n".join([*lines, "</images>", "</dataset>"]))
    return splits
