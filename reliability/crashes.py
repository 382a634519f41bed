"""Trainings ended at random moments and started again: does each end with the bits of the one left alone?

    python reliability/crashes.py [--kills 100] [--packings 25] [--terminations 30] [--seed 0]

A job packs synthetic faces and trains both stages on them, with a checkpoint every 20 steps, so that many moments fall
into the writing of something. The process is sent SIGKILL at a moment drawn evenly from the time that an undisturbed
job takes, started again, killed again, and so on until it ends by itself before its moment comes; then its packed files
and its model are compared, byte for byte, with the undisturbed job's, and another job begins. As packing is short,
`--packings` more are aimed at it, at moments drawn from the time that it takes, five to a job. The same with SIGTERM,
which must end a training with status 0 and a line that says how to go on, or that of its end where it was done; a
packing, which has nothing to save, and a Python that has not read its first line yet end by the signal.
"""

import collections
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from shared import arguments, publish, table

from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import write_pts

FACES, EVERY, AIMED = 60, 20, 5
CONFIG = f"""
from wing_jax.config import *

optimizer = OptimizerConfig(
    name="adamw", learning_rate=1e-2, final_learning_rate=1e-3, decay="cosine", weight_decay=1e-2, warmup=10, ema=0.9
)
stage = dict(
    input_size=32,
    model=ModelConfig(
        params={{"channels": (8, 16, 16), "hidden": 64, "norm": "batch", "dropout": 0.2}}, output_bias="mean_shape"
    ),
    loss=LossConfig(name="wing", params={{"width": 10.0, "epsilon": 2.0}}, reduction="mean"),
    augment=AugmentConfig(rotation=5.0, translation=0.02, scale=0.02),
    optimizer=optimizer,
    batch_size=16,
    evaluate_every={EVERY},
)
config = Config(
    name="run",
    data=DataConfig(name="packed", root="packed", validation=0.2, reshaped=1),
    stage1=StageConfig(margin=1.3, steps=200, **stage),
    stage2=SecondStageConfig(margin=1.25, steps=200, draws=2, **stage),
    devices=1,
)
"""
JOB = """
import sys
from pathlib import Path
from wing_jax.cli import main
if not Path("packed").exists():
    main(["data", "pack", "faces", "packed", "--data", "w300", "--size", "96"])
sys.argv[1:] = ["train", "tiny.py"]
main()
"""


class Place:
    """A folder with the config, in which one job after another is done."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.answer = ""  # to the last signal
        (folder / "tiny.py").write_text(CONFIG)
        for split, part in (("train", "afw"), ("test", "ibug")):  # the folders of 300-W
            faces = load_faces("synthetic", split, count=FACES)
            for index, points in enumerate(faces.points):
                write_image(folder / "faces" / part / f"{index}.png", faces.picture(index))
                write_pts(folder / "faces" / part / f"{index}.pts", points)

    def start(self) -> subprocess.Popen:
        """The job, in a process of its own."""
        surroundings = {"XDG_CACHE_HOME": str(self.folder / "cache"), "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            [sys.executable, "-c", JOB],
            cwd=self.folder,
            env={**os.environ, **surroundings, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def clear(self) -> None:
        """Make room for the next job."""
        for name in ("packed", "packed.partial", "runs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def outcome(self) -> dict[str, str]:
        """Digests of all that must be alike."""
        kept = [*sorted((self.folder / "packed").iterdir()), self.folder / "runs" / "run" / "model" / "weights.npz"]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}

    def phase(self) -> str:
        """What a job that has just been ended was about."""
        run = self.folder / "runs" / "run"
        if (self.folder / "packed.partial").exists():
            return "packing"
        if not (self.folder / "packed").exists():
            return "starting, before packing"
        if any(run.glob("stage*/checkpoints/*tmp*")):
            return "writing a checkpoint"
        for number in (2, 1):
            steps = [int(path.name) for path in run.glob(f"stage{number}/checkpoints/*") if path.name.isdigit()]
            if steps:
                return f"stage {number}" + (", finished" if max(steps) == 200 else "")
        return "starting, or stage 1 before its first checkpoint"


def main() -> None:
    """End jobs until there are enough ends of each kind, and publish what came of it."""
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--packings", type=int, default=25)
    parser.add_argument("--terminations", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, rows, phases, whole = random.Random(options.seed), [], collections.Counter(), True
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        for _ in range(2):  # the first also fills the compile cache
            place.clear()
            seconds, expected = undisturbed(place)
        for kind, wanted in ((signal.SIGKILL, options.kills), (signal.SIGTERM, options.terminations)):
            ended = jobs = alike = 0
            while ended < wanted:
                place.clear()
                while ended < wanted and not finished(place, draw.uniform(0.2, seconds), kind):
                    ended += 1
                    phases[kind.name, place.phase(), place.answer] += 1
                    print(f"{kind.name} {ended} of {wanted}: {place.phase()}: {place.answer}", flush=True)
                finish(place)
                jobs, alike = jobs + 1, alike + compared(place, expected)
            rows.append((kind.name, str(ended), str(jobs), f"{alike} of {jobs}"))
            whole = whole and alike == jobs
        place.clear()
        packing, alike = packing_seconds(place), 0
        for number in range(options.packings):
            if number % AIMED == 0:
                place.clear()
            end_packing(place, draw.uniform(0, packing))
            phases["SIGKILL, aimed", place.phase(), "none"] += 1
            print(f"aimed {number + 1} of {options.packings}: {place.phase()}", flush=True)
            if number % AIMED == AIMED - 1 or number == options.packings - 1:
                finish(place)
                alike += compared(place, expected)
        jobs = -(-options.packings // AIMED)
        rows.append(("SIGKILL, aimed at packing", str(options.packings), str(jobs), f"{alike} of {jobs}"))
        whole = whole and alike == jobs
    where = [(*key, str(count)) for key, count in sorted(phases.items())]
    body = [*table(("ended by", "times", "jobs", "same bytes in the end"), rows), ""]
    body += [*table(("ended by", "during", "its answer", "times"), where), ""]
    body += [f"An undisturbed job takes {seconds:.1f} s, its packing {packing:.2f} s."]
    publish(
        "crashes",
        "Crash safety",
        body,
        versions={"jax": version("jax"), "orbax": version("orbax-checkpoint")},
        options=options,
    )
    sys.exit(not whole)


def compared(place: Place, expected: dict[str, str]) -> bool:
    """Whether the job that is done has the bytes of the undisturbed one; what differs is printed."""
    found = place.outcome()
    other = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    print(f"a job is done: {f'OTHER BYTES in {other}' if other else 'the same bytes'}", flush=True)
    return not other


def undisturbed(place: Place) -> tuple[float, dict[str, str]]:
    """Seconds that a job takes, and what comes of it."""
    start = time.perf_counter()
    finish(place)
    return time.perf_counter() - start, place.outcome()


def finish(place: Place) -> None:
    """Do the job, or what is left of it."""
    process = place.start()
    said, _ = process.communicate()
    if process.returncode:
        sys.exit(f"a job that nobody ended did not end well:\n{said}")


def packing_seconds(place: Place) -> float:
    """From when the first file of a packing is there until the packed set is."""
    process = place.start()
    wait_for_packing(place, process)
    start = time.perf_counter()
    while not (place.folder / "packed").exists():
        time.sleep(0.001)
    seconds = time.perf_counter() - start
    process.kill()
    process.communicate()
    return seconds


def end_packing(place: Place, seconds: float) -> None:
    """Start the job, and kill it so long after its packing began, or a packing that is done already at once."""
    process = place.start()
    wait_for_packing(place, process)
    time.sleep(seconds)
    process.kill()
    process.communicate()


def wait_for_packing(place: Place, process: subprocess.Popen) -> None:
    """Until a file lies in `packed.partial` that was not there before, or all is packed."""
    began = time.time()
    while not (place.folder / "packed").exists():
        if process.poll() is not None:
            sys.exit(f"a job ended before it packed:\n{process.communicate()[0]}")
        with contextlib.suppress(FileNotFoundError):
            if (place.folder / "packed.partial").stat().st_mtime > began:
                return
        time.sleep(0.001)


def finished(place: Place, seconds: float, kind: signal.Signals) -> bool:
    """Whether the job, or what is left of it, was done before its time was up; else it was ended."""
    process = place.start()
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(kind)
        said, _ = process.communicate()
        last = (said.splitlines() or [""])[-1]
        kinds = {"to go on: ": "how to go on", "next: ": "done"}
        told = next((what for sign, what in kinds.items() if sign in last), "no line")
        place.answer = f"status {process.returncode}, {told}" if kind == signal.SIGTERM else "none"
        if process.returncode not in (0, -kind):
            sys.exit(f"{kind.name} made a job end with {process.returncode}:\n{said}")
        return False
    if process.returncode:
        sys.exit(f"a job that went on after {kind.name} did not end well:\n{said}")
    return True


if __name__ == "__main__":
    main()
