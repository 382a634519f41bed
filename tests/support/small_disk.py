"""A disk of its own for a process, too small; run by test_full_disk.py within `unshare --map-root-user --mount`.

    python -m tests.support.small_disk training FOLDER SIZE...  train as workshop.py does, with room that grows
    python -m tests.support.small_disk commands FOLDER          commands that write, with no room at all
    python -m tests.support.small_disk read_only FOLDER         some of them, on a disk that is not to be written to

Prints what came of each as JSON.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import workshop


def mount(place: Path, *options: str) -> None:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(place)], check=True)


def training(folder: Path, sizes: list[str]) -> list:
    """Status and complaints of the same command each time; what is left of the last lies in FOLDER/saved."""
    runs, said = folder / "runs", []
    for number, size in enumerate(sizes):
        mount(runs, f"size={size}", *(["remount"] if number else []))
        process = workshop.start(folder, "small")
        _, complaints = process.communicate(timeout=300)
        said.append((process.returncode, complaints))
    subprocess.run(["cp", "-r", str(runs / "small"), str(folder / "saved")], check=True)
    return said


def commands(folder: Path) -> list:
    """Status and complaints of each command of `WORDS`."""
    mount(folder / "full", "size=64k")
    with contextlib.suppress(OSError), (folder / "full" / "ballast").open("wb") as file:
        while True:
            file.write(bytes(4096))
    return said_by(WORDS, folder)


def read_only(folder: Path) -> list:
    """Status and complaints of each command of `SOME`."""
    mount(folder / "full", "ro")
    return said_by(SOME, folder)


def said_by(commands: tuple[str, ...], folder: Path) -> list:
    """Status and complaints of each, given in `folder`."""
    from wing_jax.cli import main

    os.chdir(folder)
    said = []
    for words in commands:
        complaints = io.StringIO()
        try:
            with contextlib.redirect_stderr(complaints), contextlib.redirect_stdout(io.StringIO()):
                main(words.split())
            status = 0
        except SystemExit as left:
            status = left.code
        said.append((status, complaints.getvalue()))
    return said


WORDS = (
    "predict mtfl photos --output full/photos",
    "predict mtfl photos/0.png --output full --detector none",
    "predict mtfl clip.mp4 --output full/clip",
    "evaluate w300 --data synthetic --faces 4 --output full/report",
    "data pack faces full/packed",
    "data show faces --output full/shown.png",
    "data stats faces --output full/stats",
    "analyse losses --output full/losses",
    "export mtfl --to half --output full/half",
    "sweep tiny.py --grid.seeds 0 1 --output full",
)


SOME = tuple(words for words in WORDS if words.split()[0] in ("data", "analyse", "sweep", "export"))


if __name__ == "__main__":
    what, where, *sizes = sys.argv[1:]
    told = (
        training(Path(where), sizes)
        if what == "training"
        else {"commands": commands, "read_only": read_only}[what](Path(where))
    )
    print(json.dumps(told))
