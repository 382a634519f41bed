"""Measure the start-up time in new processes.

    python benchmarks/startup.py [--rounds 5]

- imports of wing_jax and of the training, from the start of the process to its end; the first row is the interpreter
  without imports;
- from the start of the process to the end of the first training step: CNN-6 at batch 32 on a small packed set, with an
  empty and with a filled cache of compiled programs; and with building the CPU kernel, which happens once on a machine.

The allocator has the settings of the shell. Rounds are interleaved. An additional first round reads everything once, so
that files are in the page cache.
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
    parser.add_argument("--faces", type=int, default=512, help="number of faces of the packed set")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        call("make_packed.py", {"folder": folder, "faces": options.faces})
        rows = measure(Path(folder), options.rounds)
    lines = [
        *table(["", "seconds"], [[name, spread(values)] for name, values in rows.items()]),
        "",
        *tensorflow_imports(),
    ]
    publish("startup", "Start-up, seconds", lines, versions=versions(), options=options)


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every row; an additional first round fills the cache and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in (*IMPORTS, WARM, COLD, BUILD)}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        times = {name: process([sys.executable, "-c", code]) for name, code in IMPORTS.items()}
        filled_cache, empty_cache = folder / "filled", folder / f"empty-{number}"
        times[WARM] = first_step(folder, XDG_CACHE_HOME=filled_cache)
        programs = folder / f"programs-{number}"
        times[COLD] = first_step(folder, XDG_CACHE_HOME=filled_cache, JAX_COMPILATION_CACHE_DIR=programs)
        times[BUILD] = first_step(folder, XDG_CACHE_HOME=empty_cache)
        if number > 0:
            for name, value in times.items():
                seconds[name].append(value)
    return seconds


def plain(more: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a user's shell.

    It lacks the allocator settings of the comparisons, which make long runs faster but the start slower.
    """
    return {name: value for name, value in environment(more).items() if name not in SETTINGS}


def process(arguments: list[str]) -> float:
    """Return the seconds from the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(arguments, env=plain(), check=True)
    return time.perf_counter() - start


def first_step(folder: Path, **caches: Path) -> float:
    """Return the seconds from the start of the process until it prints that its first step is done."""
    arguments = command("first_step.py", {"packed": str(folder / "packed")})
    variables = plain({name: str(path) for name, path in caches.items()})
    start = time.perf_counter()
    training = subprocess.Popen(arguments, env=variables, stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    line = training.stdout.readline()
    elapsed = time.perf_counter() - start
    training.communicate()
    if line.strip() != "first step done":
        raise SystemExit("the training ended before its first step: see above")
    return elapsed


def tensorflow_imports() -> list[str]:
    """Return a list of whether each row imports TensorFlow."""
    lines = []
    for name, code in IMPORTS.items():
        program = f"{code}\nimport sys; print('tensorflow' in sys.modules, 'jax' in sys.modules)"
        completed = subprocess.run(
            [sys.executable, "-c", program], env=environment(), check=True, capture_output=True, text=True
        )
        tensorflow, jax = completed.stdout.split()
        lines.append(
            f"- {name}: {'imports' if tensorflow == 'True' else 'does not import'} TensorFlow"
            f"{'' if jax == 'True' else ', nor JAX'}"
        )
    return lines[1:]


def versions() -> dict[str, str]:
    """Return the versions of the imported packages."""
    from importlib.metadata import version

    return {name: version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-cpu")}


if __name__ == "__main__":
    main()
