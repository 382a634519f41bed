"""The first stage in ONNX Runtime, as onnx_export.py writes it."""

from pathlib import Path

import numpy as np
from onnx_export import export, read_stage
from worker import Ready, serve, timed

SHOWN = 4  # faces whose points are compared


def prepare(settings: dict) -> Ready:
    """Export the network and load it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")  # default; ends with each run
    content = export(*read_stage(Path(settings["bundle"]), 1))
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    crops = np.load(Path(settings["folder"]) / "crops.npz")["images"]
    batch = np.ascontiguousarray(crops[: settings["batch"]])

    def work(count: int) -> None:
        for _ in range(count):
            session.run(None, {"images": batch})

    work(3)
    check = session.run(None, {"images": crops[:SHOWN]})[0].ravel()
    return Ready(seconds=timed(work), packages=["onnxruntime", "onnx"], check=check)


if __name__ == "__main__":
    serve(prepare)
