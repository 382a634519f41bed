"""Write the files of the comparison of one face, after `make_bundle.py`: `photo.npz`, `w300`, `locate.py`.

`photo.npz` is a picture of 640 x 480 pixels with one synthetic face and its box, `w300` the ONNX export of the packaged
model, `locate.py` the code by which docs/how-to/export.md runs it.
"""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np

from wing_jax.data.load import load_faces
from wing_jax.export import export, make_crops
from wing_jax.inference.localizer import Localizer

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"
SIDE, BORDER = 400, (40, 40, 120, 120)  # pixels: of the face's picture, and around it (top, bottom, left, right)


def main() -> None:
    """Write all files."""
    folder = Path(json.loads(sys.argv[1])["folder"])
    faces = load_faces("synthetic", "train", count=8, seed=2)
    picture = faces.picture(0)
    image = cv2.copyMakeBorder(cv2.resize(picture, (SIDE, SIDE)), *BORDER, cv2.BORDER_REPLICATE)
    box = (faces.boxes[0] + 0.5) * (SIDE / len(picture)) - 0.5 + np.float32([BORDER[2], BORDER[0]] * 2)
    np.savez(folder / "photo.npz", image=image, boxes=box[None].astype(np.float32))
    model = Localizer.load("w300")
    export(model, "onnx", folder / "w300", make_crops(model, faces))
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (folder / "locate.py").write_text(next(block for block in blocks if "def locate(" in block), encoding="utf-8")


if __name__ == "__main__":
    main()
