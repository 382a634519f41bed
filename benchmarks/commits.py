"""Compare the speed of earlier commits to that of the working tree.

    python benchmarks/commits.py 23a8bad [--parts steps trainings inference startup] [--instructions all avx2]

Each commit is unpacked and runs the programs in its tree (`benchmarks/baselines`, formerly `benchmarks/contestants`);
the working tree runs those in this folder. All take turns, round by round, and ratios are computed within a round.

- steps: one training step of CNN-6 at 64 pixels and the light CNN-7 at 128, with on-device input, at each batch size.
  With `--instructions avx2` XLA and the CPU kernel use only AVX2; a commit without a kernel for AVX2 uses none.
- trainings: the command `wing-jax train` for CNN-6 on a packed set, with both inputs: the time of the complete process,
  and the time of a face in the logged steps.
- inference: `Localizer.predict` of one photo with one face, and with many, with an untrained model of two stages and
  with the packaged model w300.
- startup: the time to the first training step, of the command `wing-jax train` on the synthetic faces with one step for
  each stage, and of imports; all with a filled compile cache.
"""

import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from comparison import Baseline, Outcome, environment, remarks, run, say, spread, status
from report import arguments, publish, table
from startup import plain
from train_step import AVX2, HIDDEN, NETWORKS

ROOT = Path(__file__).parents[1]
NOW = "the working tree"
PARTS = ("steps", "trainings", "inference", "startup")
LIMIT = 0.97  # of the first commit's speed; slower rows are listed
COMMAND = "from wing_jax.cli import main; main()"
IMPORTS = ("wing_jax", "wing_jax.losses")
CONFIG = """import dataclasses
from wing_jax.config import DataConfig, ModelConfig
from wing_jax.config_files import load_config
base = load_config({base!r})
shape = {{"channels": {channels!r}, "hidden": {hidden}}}
named = "params" in {{field.name for field in dataclasses.fields(ModelConfig)}}
model = ModelConfig(output_bias="mean_shape", **({{"params": shape}} if named else shape))
stage = dataclasses.replace(
    base.stage1, model=model, input_size={size}, batch_size={batch}, steps={steps}, evaluate_every={steps}
)
data = DataConfig(name="packed", root={root!r}, validation=0.1)
config = dataclasses.replace(base, name="measured", data=data, stage1=stage, stage2=None)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tree:
    """The files of a commit, and a folder for the files that its programs write."""

    name: str
    code: Path
    work: Path

    def program(self, script: str) -> str:
        """Return the path of one of its programs."""
        for folder in ("baselines", "contestants"):
            if (path := self.code / "benchmarks" / folder / script).exists():
                return str(path)
        raise SystemExit(f"{self.name}: has no benchmarks/baselines/{script}: pass a later commit")

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which Python imports its package."""
        return {"PYTHONPATH": os.pathsep.join((str(self.code), str(self.code / "benchmarks")))}

    def make(self, script: str, settings: dict) -> None:
        """Run one of its programs."""
        arguments = [sys.executable, self.program(script), json.dumps(settings)]
        subprocess.run(arguments, env=environment(self.variables), check=True, cwd=self.work)

    def config(self, network: str, batch: int, *, steps: int = 1_000) -> str:
        """Write a config of the network's training on the packed set, and return its path."""
        path = self.work / f"{network}-{batch}-{steps}.py"
        chosen = NETWORKS[network]
        text = CONFIG.format(
            base=str(self.code / "configs" / "w300.py"),
            channels=chosen["channels"],
            hidden=HIDDEN,
            size=chosen["size"],
            batch=batch,
            steps=steps,
            root=str(self.work / "packed"),
        )
        path.write_text(text, encoding="utf-8")
        return str(path)


Row = tuple[str, Outcome]


def main() -> None:
    """Measure all parts and publish one table."""
    parser = arguments(__doc__)
    parser.add_argument("commits", nargs="+")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--instructions", nargs="+", choices=("all", "avx2"), default=["all"])
    parser.add_argument(
        "--faces", type=int, nargs="+", default=[1, 64], help="numbers of faces in the photo of the inference"
    )
    parser.add_argument("--packed", type=int, default=1_000, help="number of training faces")
    parser.add_argument("--steps", type=int, default=500, help="training steps, at batch 64")
    parser.add_argument("--turn", type=float, default=3.0, help="seconds of a baseline's turn")
    options = parser.parse_args()
    measure = {"steps": steps, "trainings": trainings, "inference": inference, "startup": startup}
    with tempfile.TemporaryDirectory() as folder:
        trees = [unpack(commit, Path(folder) / commit) for commit in options.commits]
        trees.append(Tree(name=NOW, code=ROOT, work=Path(folder) / "now"))
        for tree in trees:
            tree.work.mkdir(exist_ok=True)
        if {"trainings", "startup"} & set(options.parts):
            for tree in trees:
                tree.make("make_packed.py", {"folder": str(tree.work), "faces": options.packed})
        rows = [row for part in options.parts for row in measure[part](trees, options)]
    names, first = [tree.name for tree in trees], trees[0].name
    head = ("", *names, *(f"{name}, times as fast" for name in names[1:]))
    body = table(head, [cells(label, outcome, names) for label, outcome in rows])
    versions = {name: version for _, outcome in rows for name, version in outcome.versions.items()}
    body += ["", f"- In brackets the smallest and the largest of {options.rounds} rounds; ratios to {first}."]
    body += [*slower(rows, names), *remarks(outcome for _, outcome in rows)]
    publish(f"commits {' '.join(options.commits)}", "By commit", body, versions=versions, options=options)


def unpack(commit: str, folder: Path) -> Tree:
    """Unpack the files of a commit."""
    arguments = ["git", "archive", commit, "wing_jax", "benchmarks", "configs"]
    archive_bytes = subprocess.run(arguments, cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive_bytes)) as archive:
        archive.extractall(folder / "code", filter="data")
    return Tree(name=commit, code=folder / "code", work=folder / "work")


def steps(trees: Sequence[Tree], options) -> list[Row]:
    """Measure training steps of each network and batch size."""
    rows = []
    for instructions in options.instructions:
        for network in options.networks:
            for batch in options.batches:
                baselines = [step_baseline(tree, network, batch, instructions) for tree in trees]
                limited = "" if instructions == "all" else f", {instructions.upper()}"
                label = f"{NETWORKS[network]['title']}, a step of {batch}{limited}"
                rows.append((label, run(baselines, rounds=options.rounds, turn=options.turn)))
    return rows


def step_baseline(tree: Tree, network: str, batch: int, instructions: str) -> Baseline:
    """Return the baseline of a network's training steps with the code of a tree."""
    variables: dict = tree.variables
    if instructions == "avx2":
        variables |= AVX2
        if not (tree.code / "wing_jax/models/cpu_kernel_build.py").exists():  # its kernel needs AVX-512
            variables["WING_JAX_CPU_KERNEL"] = "off"
    settings = {"config": tree.config(network, batch), "stage": "stage1"}
    return Baseline(name=tree.name, script=tree.program("step_of_config.py"), settings=settings, environment=variables)


def trainings(trees: Sequence[Tree], options) -> list[Row]:
    """Measure complete trainings with both inputs."""
    return [
        (f"training, {input_}: {quantity}", outcome)
        for input_ in ("device", "tfdata")
        for quantity, outcome in alternate(
            trees,
            options.rounds,
            lambda tree, number, input_=input_: time_training(tree, number, input_, options.steps),
        ).items()
    ]


def time_training(tree: Tree, number: int, input_: str, steps: int) -> dict[str, float]:
    """Return the seconds of a training command, and of a face in its steps."""
    name, config = f"{input_}-{number}", tree.config("cnn6", 64, steps=steps)
    total = command(tree, ["train", config, "--name", name, "--output", "runs", "--input", input_])
    text = (tree.work / "runs" / name / "stage1" / "metrics.jsonl").read_text(encoding="utf-8")
    speeds = [line["faces_per_second"] for line in map(json.loads, text.splitlines()) if "faces_per_second" in line]
    return {"the whole command": total, "a face, in its steps": 1 / statistics.median(speeds)}


def inference(trees: Sequence[Tree], options) -> list[Row]:
    """Measure `Localizer.predict`."""
    for tree in trees:
        tree.make("make_bundle.py", {"folder": str(tree.work), "trained_on": 1})
    rows = []
    for model, faces in itertools.product(("untrained", "w300"), options.faces):
        baselines = [
            Baseline(
                name=tree.name,
                script=tree.program("inference_wing.py"),
                settings={
                    "kind": "predict",
                    "batch": faces,
                    "folder": str(tree.work),
                    "bundle": str(tree.work / "model") if model == "untrained" else model,
                },
                environment=tree.variables,
            )
            for tree in trees
        ]
        label = f"Localizer.predict, {model}, {faces} face{'s' if faces > 1 else ''}"
        rows.append((label, run(baselines, rounds=options.rounds, turn=options.turn)))
    return rows


def startup(trees: Sequence[Tree], options) -> list[Row]:
    """Measure the start of processes."""
    return list(alternate(trees, options.rounds, time_start).items())


def time_start(tree: Tree, number: int) -> dict[str, float]:
    """Return the seconds of each kind of start."""
    settings = {"packed": str(tree.work / "packed"), "output": str(tree.work / "first"), "name": f"first-{number}"}
    arguments = [sys.executable, tree.program("first_step.py"), json.dumps(settings)]
    seconds = {"first step done": seconds_until(arguments, "first step done", tree)}
    synthetic = next(path for name in ("synthetic", "builtin") if (path := tree.code / f"configs/{name}.py").exists())
    short = [word for stage in ("stage1", "stage2") for name in ("steps", "evaluate_every")
             for word in (f"--{stage}.{name}", "1")]  # fmt: skip
    arguments = ["train", str(synthetic), "--name", f"short-{number}", "--output", "runs", "--data.train_faces", "100"]
    seconds["wing-jax train, 1 step a stage"] = command(tree, [*arguments, *short])
    for name in IMPORTS:
        seconds[f"import {name}"] = process([sys.executable, "-c", f"import {name}"], tree)
    return seconds


def alternate(trees: Sequence[Tree], rounds: int, work: Callable[[Tree, int], dict[str, float]]) -> dict[str, Outcome]:
    """Run `work` for each tree in turns; an additional first round fills the caches and is not counted."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        for tree in trees:
            for quantity, elapsed in work(tree, number).items():
                if number > 0:
                    seconds.setdefault(quantity, {}).setdefault(tree.name, []).append(elapsed)
    return {
        quantity: Outcome(seconds=values, absent={}, versions={}, notes={}, checks={})
        for quantity, values in seconds.items()
    }


def command(tree: Tree, arguments: Sequence[str]) -> float:
    """Return the seconds of `wing-jax` with these arguments, with the code of a tree."""
    return process([sys.executable, "-c", COMMAND, *arguments], tree)


def process(arguments: Sequence[str], tree: Tree) -> float:
    """Return the seconds from the start of a process to its end."""
    start = time.perf_counter()
    completed = subprocess.run(
        arguments, env=plain(tree.variables), cwd=tree.work, capture_output=True, text=True, check=False
    )
    if completed.returncode:
        raise SystemExit(f"{tree.name}: {' '.join(arguments)}: {completed.stderr[-2000:]}")
    return time.perf_counter() - start


def seconds_until(arguments: Sequence[str], line: str, tree: Tree) -> float:
    """Return the seconds from the start of a process until it prints `line`."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, env=plain(tree.variables), cwd=tree.work, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = any(output.strip() == line for output in process.stdout)
    elapsed = time.perf_counter() - start
    process.communicate()
    if not found:
        raise SystemExit(f"{tree.name}: {' '.join(arguments)}: ended before it printed {line!r}")
    return elapsed


def cells(label: str, outcome: Outcome, names: Sequence[str]) -> list[str]:
    """Return a row: the time of each tree, and the speed of each other tree in multiples of the first."""
    times = [status(outcome, name) or figure(outcome.seconds[name]) for name in names]
    return [label, *times, *(spread(outcome.ratios(name, names[0])) for name in names[1:])]


def figure(seconds: Sequence[float]) -> str:
    """Format seconds, or milliseconds below one second."""
    if statistics.median(seconds) >= 1:
        return f"{spread(seconds)} s"
    return f"{spread([1000 * value for value in seconds])} ms"


def slower(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return a Markdown list of the rows that are slower than the limit."""
    slower_rows = [
        f"{label} ({name}: {statistics.median(ratios):.2f})"
        for label, outcome in rows
        for name in names[1:]
        if (ratios := outcome.ratios(name, names[0])) and statistics.median(ratios) < LIMIT
    ]
    return [f"- Slower by more than {1 - LIMIT:.0%}: {'; '.join(slower_rows) or 'none'}."]


if __name__ == "__main__":
    main()
