"""Run commands on small disks of their own; test_full_disk.py runs this in `unshare --map-root-user --mount`.

    python -m tests.support.small_disk FOLDER

Prints a JSON object: for each function of `ACTIONS`, the exit status and the errors of each of its commands.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from wing_jax.cli import main
from wing_jax.data.images import write_image
from wing_jax.errors import InputError
from wing_jax.inference.video import VideoWriter

SIZES = ("4k", "400k", "800k", "20m")  # of the disk, one for each start of the training
STEPS = {1: 80, 2: 40}  # of each stage
TRAINING = f"train tiny.py --stage1.steps {STEPS[1]} --stage2.steps {STEPS[2]}"
WORDS = (
    "predict mtfl photos --output full/photos",
    "predict mtfl photos/0.png --output full --detector none",
    "predict mtfl clip.mp4 --output full/clip",
    "evaluate w300 --data synthetic --faces 4 --output full/report",
    "data pack faces full/packed",
    "data show faces --output full/shown.png",
    "data stats faces --output full/stats",
    "analyze losses --output full/losses",
    "export mtfl --to half --output full/half",
    "sweep tiny.py --grid.seeds 0 1 --output full",
)
SOME = tuple(words for words in WORDS if words.split()[0] in ("data", "analyze", "sweep", "export"))


def mount(path: Path, *options: str) -> None:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(path)], check=True)


def training(folder: Path) -> list:
    """Train with enough space, and then with each disk size. FOLDER/saved is a copy of the last run."""
    results = run_commands(f"{TRAINING} --name room")
    for number, size in enumerate(SIZES):
        mount(folder / "small", f"size={size}", *(["remount"] if number else []))
        results += run_commands(f"{TRAINING} --name run --output small")
    subprocess.run(["cp", "-r", str(folder / "small" / "run"), str(folder / "saved")], check=True)
    return results


def commands(folder: Path) -> list:
    """Run each command of `WORDS` on a full disk."""
    mount(folder / "full", "size=64k")
    with contextlib.suppress(OSError), (folder / "full" / "ballast").open("wb") as file:
        while True:
            file.write(bytes(4096))
    return run_commands(*WORDS)


def read_only(folder: Path) -> list:
    """Run each command of `SOME` on a read-only disk."""
    mount(folder / "full", "ro")
    return run_commands(*SOME)


def video(folder: Path) -> list:
    """Write a video and a picture on a disk that is smaller."""
    mount(folder / "video", "size=100k")
    noise = np.random.default_rng(0).integers(0, 256, (30, 240, 320, 3), np.uint8)

    def write_video():
        with VideoWriter("video/noise.mp4", rate=25) as writer:
            for image in noise:
                writer.write(image)

    results = []
    for write in (write_video, lambda: write_image("video/noise.png", noise[0])):
        try:
            write()
            results.append((0, ""))
        except InputError as error:
            results.append((2, str(error)))
    return results


def run_commands(*commands: str) -> list:
    """Run the commands; return (status, errors) of each."""
    results = []
    for words in commands:
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                main(words.split())
            status = 0
        except SystemExit as exit_error:
            status = exit_error.code
        results.append((status, errors.getvalue()))
    return results


ACTIONS = (training, commands, read_only, video)


if __name__ == "__main__":
    workshop = Path(sys.argv[1])
    os.chdir(workshop)
    print(json.dumps({action.__name__: action(workshop) for action in ACTIONS}))
