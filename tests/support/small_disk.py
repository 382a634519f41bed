"""Run commands on a small disk of their own; test_full_disk.py runs this in `unshare --map-root-user --mount`.

    python -m tests.support.small_disk training FOLDER SIZE...  train as workshop.py does, on a disk that grows
    python -m tests.support.small_disk commands FOLDER          run commands that write, on a full disk
    python -m tests.support.small_disk read_only FOLDER         run some of them, on a read-only disk

Prints the exit status and the errors of each command as JSON.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import workshop


def mount(path: Path, *options: str) -> None:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(path)], check=True)


def training(folder: Path, sizes: list[str]) -> list:
    """Train with each disk size; return (status, errors) of each run. FOLDER/saved is a copy of the last run."""
    runs, results = folder / "runs", []
    for number, size in enumerate(sizes):
        mount(runs, f"size={size}", *(["remount"] if number else []))
        process = workshop.start(folder, "small")
        _, errors = process.communicate(timeout=300)
        results.append((process.returncode, errors))
    subprocess.run(["cp", "-r", str(runs / "small"), str(folder / "saved")], check=True)
    return results


def commands(folder: Path) -> list:
    """Run each command of `WORDS` on a full disk; return (status, errors) of each."""
    mount(folder / "full", "size=64k")
    with contextlib.suppress(OSError), (folder / "full" / "ballast").open("wb") as file:
        while True:
            file.write(bytes(4096))
    return run_commands(WORDS, folder)


def read_only(folder: Path) -> list:
    """Run each command of `SOME` on a read-only disk; return (status, errors) of each."""
    mount(folder / "full", "ro")
    return run_commands(SOME, folder)


def run_commands(commands: tuple[str, ...], folder: Path) -> list:
    """Run the commands in `folder`; return (status, errors) of each."""
    from wing_jax.cli import main

    os.chdir(folder)
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


if __name__ == "__main__":
    action, folder_name, *sizes = sys.argv[1:]
    results = (
        training(Path(folder_name), sizes)
        if action == "training"
        else {"commands": commands, "read_only": read_only}[action](Path(folder_name))
    )
    print(json.dumps(results))
