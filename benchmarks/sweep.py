"""Train the 24 cells of the paper's table 2 (widths 4 to 14, epsilons 0.5 to 3) as one sweep and as 24 trainings.

    python benchmarks/sweep.py CONFIG --root FOLDER [--steps 60] [--batch 8] [--cells 24] [--how round_robin scan vmap]

Each is a user's command in a separate process: `wing-jax sweep` once for each way of computing it, and `wing-jax train`
24 times, both with a filled compile cache. The validation NMEs of all runs are compared.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from comparison import environment, say
from report import arguments, publish, table

WIDTHS = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0)
EPSILONS = (0.5, 1.0, 2.0, 3.0)
COMMAND = [sys.executable, "-c", "from wing_jax.cli import main; main()"]


def main() -> None:
    """Run the sweeps and the trainings, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("config")
    parser.add_argument("--root", default="")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--how", nargs="+", default=["round_robin"])
    options = parser.parse_args()
    cells = list(itertools.product(WIDTHS, EPSILONS))[: options.cells]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "cell.py"
        config.write_text(config_text(options))
        sweeps = {how: sweep(config, cells, how, folder) for how in options.how}
        trained = trainings(config, cells, folder)
    rows = [[f"{len(cells)} trainings", f"{trained[0]:.1f}", "", ""]]
    for how, (seconds, nmes) in sweeps.items():
        difference = max(abs(nmes[cell] - trained[1][cell]) for cell in cells)
        rows.append(
            [f"one sweep, by {how}", f"{seconds:.1f}", f"{seconds / trained[0]:.2f}", f"{100 * difference:.1e}"]
        )
    body = [f"{len(cells)} cells, {options.steps} steps of {options.batch} faces each, {options.config}.", ""]
    body += table(["", "seconds", "of the trainings' time", "largest difference of validation NME (points)"], rows)
    versions = {name: version(name) for name in ("jax", "jaxlib", "flax")}
    publish("sweep", "Table 2's grid as one program", body, versions=versions, options=options)


def config_text(options) -> str:
    """Return a config of only the first stage, validated once at its end, so its last checkpoint is its best."""
    data = f"dataclasses.replace(base.data, name='packed', root={options.root!r})" if options.root else "base.data"
    return f"""import dataclasses
from wing_jax.config_files import load_config
base = load_config({str(Path(options.config).absolute())!r})
steps, batch = {options.steps}, {options.batch}
stage = dataclasses.replace(base.stage1, steps=steps, evaluate_every=steps, batch_size=batch)
config = dataclasses.replace(base, name="cell", data={data}, stage1=stage, stage2=None)
"""


def command(arguments: list[str], folder: Path) -> float:
    """Return the seconds of `wing-jax` with these arguments."""
    start = time.perf_counter()
    variables = environment({"XDG_CACHE_HOME": str(folder / "cache")})
    completed = subprocess.run([*COMMAND, *arguments], env=variables, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SystemExit(f"wing-jax {' '.join(arguments)}: {completed.stderr[-2000:]}")
    return time.perf_counter() - start


def sweep(config: Path, cells: list, how: str, folder: Path) -> tuple[float, dict]:
    """Return the seconds of a sweep and the validation NME of each cell.

    The sweep runs twice: the first run fills the compile cache, the second is measured.
    """
    widths, epsilons = ([f"{x:g}" for x in sorted({cell[i] for cell in cells})] for i in (0, 1))
    arguments = ["sweep", str(config), "--output", str(folder), "--grid.execution", how]
    arguments += ["--grid.params.width", *widths, "--grid.params.epsilon", *epsilons]
    for name in (f"first-{how}", how):
        say(f"sweep by {how}, {name}")
        seconds = command([*arguments, "--name", name], folder)
    rows = json.loads((folder / how / "results.json").read_text())["runs"]
    return seconds, {(row["params"]["width"], row["params"]["epsilon"]): row["validation_nme"] for row in rows}


def trainings(config: Path, cells: list, folder: Path) -> tuple[float, dict]:
    """Return the same for one training of each cell."""
    total, nmes = 0.0, {}
    for number, (width, epsilon) in enumerate([cells[0], *cells]):
        say(f"training {number} of {len(cells)}")
        arguments = ["train", str(config), "--output", str(folder), "--name", f"alone-{number}"]
        arguments += ["--stage1.loss.params.width", f"{width:g}", "--stage1.loss.params.epsilon", f"{epsilon:g}"]
        seconds = command(arguments, folder)
        total += seconds if number else 0.0  # the first training fills the cache
        log = (folder / f"alone-{number}" / "stage1" / "metrics.jsonl").read_text().splitlines()
        nmes[width, epsilon] = json.loads(log[-1])["validation_nme"]
    return total, nmes


if __name__ == "__main__":
    main()
