"""Run the ONNX export of w300 on a photo and its box, by the code of docs/how-to/export.md."""

import runpy
from pathlib import Path

import numpy as np
from worker import Ready, serve, timed


def prepare(settings: dict) -> Ready:
    """Load the networks."""
    folder = Path(settings["folder"])
    code = runpy.run_path(str(folder / "locate.py"))
    facts, photo = code["load"](folder / "w300"), np.load(folder / "photo.npz")
    image, box = photo["image"], photo["boxes"][0]

    def work(count: int) -> None:
        for _ in range(count):
            code["locate"](facts, image, box)

    work(3)
    return Ready(seconds=timed(work), packages=["onnxruntime"])


if __name__ == "__main__":
    serve(prepare)
