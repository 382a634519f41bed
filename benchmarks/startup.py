"""Seconds of start-up, each measured in fresh processes.

    python benchmarks/startup.py [--rounds 5]

- importing wing_jax, and the training, from the start of the process to its end; the bare interpreter is the first row;
- from the start of the process to the first training step done: CNN-6 at batch 32 on a small packed set, with an empty
  cache of compiled programs and with one that is filled; and once more where the CPU kernel has to be built first,
  which happens once on a machine.

The allocator is left as any shell has it. Rounds are interleaved. Before the first one everything is read once, so that
files come from memory.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from comparison import call, command, environment, say, spread
from report import arguments, publish, table

from wing_jax.runtime.allocator import SETTINGS

IMPORTS = {
    "bare interpreter": "",
    "import wing_jax": "import wing_jax",
    "import wing_jax.losses": "import wing_jax.losses",
    "the training's imports": "import wing_jax.from_config.train",
}
BUILD = "first step done, nothing there: the CPU kernel is built as well"
COLD, WARM = "first step done, no compile cache", "first step done, with the compile cache"


def main() -> None:
    """Measure everything in turn, round by round, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--faces", type=int, default=512, help="of the packed set")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        call("make_packed.py", {"folder": folder, "faces": options.faces})
        rows = measure(Path(folder), options.rounds)
    lines = [*table(["", "seconds"], [[name, spread(values)] for name, values in rows.items()]), "", *imported()]
    publish("startup", "Start-up, seconds", lines, versions=versions(), options=options)


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of every row; the round before the first is not counted and fills the cache."""
    seconds: dict[str, list[float]] = {name: [] for name in (*IMPORTS, WARM, COLD, BUILD)}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        taken = {name: process([sys.executable, "-c", code]) for name, code in IMPORTS.items()}
        filled, new = folder / "filled", folder / f"empty-{number}"
        taken[WARM] = first_step(folder, XDG_CACHE_HOME=filled)
        programs = folder / f"programs-{number}"
        taken[COLD] = first_step(folder, XDG_CACHE_HOME=filled, JAX_COMPILATION_CACHE_DIR=programs)
        taken[BUILD] = first_step(folder, XDG_CACHE_HOME=new)
        if number > 0:
            for name, value in taken.items():
                seconds[name].append(value)
    return seconds


def plain(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a user's shell: the comparisons' allocator settings suit long runs and slow the start."""
    return {name: value for name, value in environment(more).items() if name not in SETTINGS}


def process(words: list[str]) -> float:
    """Seconds from the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(words, env=plain(), check=True)
    return time.perf_counter() - start


def first_step(folder: Path, **caches: Path) -> float:
    """Seconds from the start of the process until it says that its first step is done."""
    words = command("first_step.py", {"packed": str(folder / "packed")})
    variables = plain({name: str(path) for name, path in caches.items()})
    start = time.perf_counter()
    training = subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    line = training.stdout.readline()
    taken = time.perf_counter() - start
    training.communicate()
    if line.strip() != "first step done":
        raise SystemExit("the training ended before its first step: see above")
    return taken


def imported() -> list[str]:
    """Whether TensorFlow was imported along, by each row."""
    lines = []
    for name, code in IMPORTS.items():
        asked = f"{code}\nimport sys; print('tensorflow' in sys.modules, 'jax' in sys.modules)"
        said = subprocess.run(
            [sys.executable, "-c", asked], env=environment(), check=True, capture_output=True, text=True
        )
        tensorflow, jax = said.stdout.split()
        lines.append(
            f"- {name}: {'imports' if tensorflow == 'True' else 'does not import'} TensorFlow"
            f"{'' if jax == 'True' else ', nor JAX'}"
        )
    return lines[1:]


def versions() -> dict[str, str]:
    """Of what is imported."""
    from importlib.metadata import version

    return {name: version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-cpu")}


if __name__ == "__main__":
    main()
