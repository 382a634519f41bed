"""End trainings at random moments, restart them, and compare the results to those of an uninterrupted training.

    python reliability/crashes.py [--kills 100] [--packings 25] [--terminations 30] [--seed 0]

A job packs synthetic faces and trains both stages on them. It saves a checkpoint every 20 steps, so it is often writing
a file when it is ended. The process gets SIGKILL at a random moment within the duration of an uninterrupted job, is
restarted, killed again, and so on until it completes before that moment. Then its packed files and its model are
compared, byte for byte, to those of the uninterrupted job, and the next job starts. Packing is short, so `--packings`
more kills are sent during packing, five for each job. SIGTERM is tested in the same way: it must end a training with
status 0 and a line that says how to resume, or with the final line if the training was complete. Packing has nothing to
save, so the signal ends it, as it ends a Python process that is still starting.
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

FACES, EVERY, PER_JOB = 60, 20, 5
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


class Workspace:
    """A folder with the config and faces, in which jobs run one after another."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.response = ""  # to the last signal
        (folder / "tiny.py").write_text(CONFIG)
        for split, part in (("train", "afw"), ("test", "ibug")):  # the folders of 300-W
            faces = load_faces("synthetic", split, count=FACES)
            for index, points in enumerate(faces.points):
                write_image(folder / "faces" / part / f"{index}.png", faces.picture(index))
                write_pts(folder / "faces" / part / f"{index}.pts", points)

    def start(self) -> subprocess.Popen:
        """Start the job in a new process."""
        variables = {"XDG_CACHE_HOME": str(self.folder / "cache"), "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            [sys.executable, "-c", JOB],
            cwd=self.folder,
            env={**os.environ, **variables, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def clear(self) -> None:
        """Delete the files of the last job."""
        for name in ("packed", "packed.partial", "runs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def digests(self) -> dict[str, str]:
        """Return the digests of all files that must not differ."""
        paths = [*sorted((self.folder / "packed").iterdir()), self.folder / "runs" / "run" / "model" / "weights.npz"]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def phase(self) -> str:
        """Return the phase in which a job was ended."""
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
    """End jobs as often as requested, in each way, and publish the results."""
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--packings", type=int, default=25)
    parser.add_argument("--terminations", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, rows, phases, all_same = random.Random(options.seed), [], collections.Counter(), True
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        for _ in range(2):  # the first also fills the compile cache
            workspace.clear()
            seconds, expected = run_uninterrupted(workspace)
        for kind, count in ((signal.SIGKILL, options.kills), (signal.SIGTERM, options.terminations)):
            ended = jobs = same = 0
            while ended < count:
                workspace.clear()
                while ended < count and not run_until(workspace, rng.uniform(0.2, seconds), kind):
                    ended += 1
                    phases[kind.name, workspace.phase(), workspace.response] += 1
                    print(f"{kind.name} {ended} of {count}: {workspace.phase()}: {workspace.response}", flush=True)
                finish(workspace)
                jobs, same = jobs + 1, same + has_same_bytes(workspace, expected)
            rows.append((kind.name, str(ended), str(jobs), f"{same} of {jobs}"))
            all_same = all_same and same == jobs
        workspace.clear()
        packing, same = packing_seconds(workspace), 0
        for number in range(options.packings):
            if number % PER_JOB == 0:
                workspace.clear()
            end_packing(workspace, rng.uniform(0, packing))
            phases["SIGKILL, aimed", workspace.phase(), "none"] += 1
            print(f"aimed {number + 1} of {options.packings}: {workspace.phase()}", flush=True)
            if number % PER_JOB == PER_JOB - 1 or number == options.packings - 1:
                finish(workspace)
                same += has_same_bytes(workspace, expected)
        jobs = -(-options.packings // PER_JOB)
        rows.append(("SIGKILL, aimed at packing", str(options.packings), str(jobs), f"{same} of {jobs}"))
        all_same = all_same and same == jobs
    by_phase = [(*key, str(times)) for key, times in sorted(phases.items())]
    body = [*table(("ended by", "times", "jobs", "same bytes in the end"), rows), ""]
    body += [*table(("ended by", "during", "its answer", "times"), by_phase), ""]
    body += [f"An uninterrupted job takes {seconds:.1f} s, its packing {packing:.2f} s."]
    publish(
        "crashes",
        "Crash safety",
        body,
        versions={"jax": version("jax"), "orbax": version("orbax-checkpoint")},
        options=options,
    )
    sys.exit(not all_same)


def has_same_bytes(workspace: Workspace, expected: dict[str, str]) -> bool:
    """Return whether the job has the same bytes as the uninterrupted one, and print differences."""
    actual = workspace.digests()
    different = sorted(name for name in {*actual, *expected} if actual.get(name) != expected.get(name))
    print(f"a job is complete: {f'DIFFERENT BYTES in {different}' if different else 'the same bytes'}", flush=True)
    return not different


def run_uninterrupted(workspace: Workspace) -> tuple[float, dict[str, str]]:
    """Run an uninterrupted job; return its seconds and digests."""
    start = time.perf_counter()
    finish(workspace)
    return time.perf_counter() - start, workspace.digests()


def finish(workspace: Workspace) -> None:
    """Run the job, or the rest of it, to its end."""
    process = workspace.start()
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"an uninterrupted job failed:\n{output}")


def packing_seconds(workspace: Workspace) -> float:
    """Return the seconds from the first file of a packing to its end."""
    process = workspace.start()
    wait_for_packing(workspace, process)
    start = time.perf_counter()
    while not (workspace.folder / "packed").exists():
        time.sleep(0.001)
    seconds = time.perf_counter() - start
    process.kill()
    process.communicate()
    return seconds


def end_packing(workspace: Workspace, seconds: float) -> None:
    """Start the job, and kill it `seconds` after its packing started (or after it is packed)."""
    process = workspace.start()
    wait_for_packing(workspace, process)
    time.sleep(seconds)
    process.kill()
    process.communicate()


def wait_for_packing(workspace: Workspace, process: subprocess.Popen) -> None:
    """Wait until there is a new file in `packed.partial`, or packing is complete."""
    start = time.time()
    while not (workspace.folder / "packed").exists():
        if process.poll() is not None:
            sys.exit(f"a job ended before it packed:\n{process.communicate()[0]}")
        with contextlib.suppress(FileNotFoundError):
            if (workspace.folder / "packed.partial").stat().st_mtime > start:
                return
        time.sleep(0.001)


def run_until(workspace: Workspace, seconds: float, kind: signal.Signals) -> bool:
    """Run the job for at most `seconds`, then end it by the signal; return whether it completed."""
    process = workspace.start()
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(kind)
        output, _ = process.communicate()
        last = (output.splitlines() or [""])[-1]
        kinds = {"to resume: ": "how to resume", "next: ": "done"}
        ending = next((label for start, label in kinds.items() if start in last), "no line")
        workspace.response = f"status {process.returncode}, {ending}" if kind == signal.SIGTERM else "none"
        if process.returncode not in (0, -kind):
            sys.exit(f"{kind.name} made a job end with {process.returncode}:\n{output}")
        return False
    if process.returncode:
        sys.exit(f"a job that resumed after {kind.name} failed:\n{output}")
    return True


if __name__ == "__main__":
    main()
