"""Run the first stage, exported by `wing-jax export`, in ONNX Runtime."""

from pathlib import Path

import numpy as np
from worker import Ready, serve, timed

COMPARED = 4  # faces whose points are compared


def prepare(settings: dict) -> Ready:
    """Load the network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")  # the default; threads stop after each run
    folder = Path(settings["folder"])
    session = onnxruntime.InferenceSession(
        str(folder / "onnx" / "stage1.onnx"), options, providers=["CPUExecutionProvider"]
    )
    crops = np.load(folder / "crops.npz")["images"]
    batch = np.ascontiguousarray(crops[: settings["batch"]])

    def work(count: int) -> None:
        for _ in range(count):
            session.run(None, {"crops": batch})

    work(3)
    check = session.run(None, {"crops": crops[:COMPARED]})[0].ravel()
    return Ready(seconds=timed(work), packages=["onnxruntime"], check=check)


if __name__ == "__main__":
    serve(prepare)
