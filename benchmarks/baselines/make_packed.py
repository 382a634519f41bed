"""Pack a few synthetic faces into `folder`/packed, as `wing-jax data pack` does."""

import json
import sys
from pathlib import Path

from wing_jax.data.load import load_faces
from wing_jax.data.packed import pack

SIZE = 133  # pixels, the face crop size of the first stage of configs/w300.py


def main() -> None:
    """Render and pack the faces."""
    settings = json.loads(sys.argv[1])
    faces = load_faces("synthetic", "train", count=settings["faces"], seed=3)
    pack({"train": faces}, Path(settings["folder"]) / "packed", size=SIZE, quality=95, source="synthetic faces")


if __name__ == "__main__":
    main()
