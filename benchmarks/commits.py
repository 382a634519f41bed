"""Training steps by the code of several commits: what a change has made faster or slower.

    python benchmarks/commits.py f8523e3 [--config configs/w300.py] [--stages stage1 stage2] [--instructions all avx2]

The commits that are named and the working tree train the same steps on synthetic faces; all take turns. With
`--instructions avx2` XLA and the CPU kernel keep to AVX2; where a commit has no kernel for it, there is none.
"""

import os
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from comparison import FOLDER, Baseline, Outcome, run, speeds, spread
from report import arguments, publish, table
from train_step import AVX2

from wing_jax.config import load_config

ROOT = Path(__file__).parents[1]
NOW = "the working tree"


def main() -> None:
    """A comparison for each stage and set of instructions."""
    parser = arguments(__doc__)
    parser.add_argument("commits", nargs="+")
    parser.add_argument("--config", default=str(ROOT / "configs" / "w300.py"))
    parser.add_argument("--stages", nargs="+", default=["stage1", "stage2"])
    parser.add_argument("--instructions", nargs="+", choices=("all", "avx2"), default=["all"])
    parser.add_argument("--turn", type=float, default=5.0, help="seconds of a baseline's turn")
    given = parser.parse_args()
    config, rows, versions = load_config(given.config), [], {}
    with tempfile.TemporaryDirectory() as folder:
        trees = {commit: unpacked(commit, Path(folder) / commit) for commit in given.commits} | {NOW: ROOT}
        for stage in given.stages:
            for instructions in given.instructions:
                entered = [baseline(name, tree, given.config, stage, instructions) for name, tree in trees.items()]
                outcome = run(entered, rounds=given.rounds, turn=given.turn)
                versions |= outcome.versions
                batch = getattr(config, stage).batch_size
                rows += [row(outcome, name, stage, instructions, batch, given.commits[0]) for name in trees]
    head = ("stage", "instructions", "commit", "faces/s", "times the first")
    publish(f"commits {config.name}", f"By commit, {config.name}", table(head, rows), versions=versions, given=given)


def unpacked(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    packed = subprocess.run(["git", "archive", commit, "wing_jax"], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def baseline(name: str, tree: Path, config: str, stage: str, instructions: str) -> Baseline:
    """The steps of a stage by the code in `tree`."""
    environment = {"PYTHONPATH": os.pathsep.join((str(tree), str(FOLDER)))}
    if instructions == "avx2":
        environment |= AVX2
        if not (tree / "wing_jax/models/cpu_kernel_build.py").exists():  # its kernel is for AVX-512 alone
            environment["WING_JAX_CPU_KERNEL"] = "off"
    settings = {"config": config, "stage": stage}
    return Baseline(name=name, script="step_of_config.py", settings=settings, environment=environment)


def row(outcome: Outcome, name: str, stage: str, instructions: str, batch: int, first: str) -> tuple[str, ...]:
    """A line of the table."""
    return stage, instructions, name, speeds(outcome, name, batch), spread(outcome.ratios(name, first))


if __name__ == "__main__":
    main()
