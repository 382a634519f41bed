"""Test the core, as `pip install wing-jax` without extras: its size, its import time, and what works.

    python reliability/core_install.py [--python python3.11] [--constraint requirements.lock] [--rounds 5]

The wheel is built and installed into a new environment. Commands run there in an empty folder, without the checkout:
print a preset, train the preset and a changed copy, evaluate, predict with a given box, use losses and networks from
Python. Finally, a command that needs each extra is run; the table has its error message.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from shared import arguments, publish, table

ROOT = Path(__file__).parents[1]
TOOLS = ("pip", "setuptools", "_distutils_hack", "pkg_resources")  # part of every environment: not counted
LIMIT = 1000  # MB of all packages
IMPORTS = ("jax", "wing_jax", "wing_jax.losses", "wing_jax.models", "wing_jax.inference.localizer")
# Writes twelve synthetic faces in the folders of 300-W, as training and as test faces.
MAKE_FACES = """
from pathlib import Path
from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import write_pts
faces = load_faces("synthetic", "test", count=12)
for part in ("afw", "ibug"):
    for i, points in enumerate(faces.points):
        write_image(Path("faces", part, f"face{i}.jpg"), faces.picture(i))
        write_pts(Path("faces", part, f"face{i}.pts"), points)
"""
LOSS = """
import jax, jax.numpy as jnp, wing_jax as wj
predicted, target = jnp.linspace(0.0, 20.0, 10), jnp.zeros(10)
loss = lambda x: wj.losses.wing_loss(x, target, width=10.0, epsilon=2.0).mean()
assert jnp.isfinite(jax.jit(jax.grad(loss))(predicted)).all()
"""
MODEL = """
import jax, jax.numpy as jnp, wing_jax as wj
model = wj.models.make_model("plain", points=68, channels=(8, 8), hidden=8)
crops = jnp.zeros((2, 64, 64, 3), jnp.uint8)
assert model.apply(model.init(jax.random.key(0), crops), crops).shape == (2, 68, 2)
"""
PREDICT = """
import wing_jax as wj
from wing_jax.data.images import read_image
points = wj.Localizer.load("w300").predict(read_image("faces/afw/face0.jpg"), [[40.0, 40.0, 150.0, 150.0]])
assert points.shape == (1, 68, 2)
"""
VIDEO = """
import sys
from wing_jax.errors import InputError
from wing_jax.inference.video import Video
try:
    with Video("clip.mp4") as video:
        next(iter(video))
except InputError as error:
    sys.exit(str(error))
"""
STAGE = {"steps": 4, "evaluate_every": 2, "optimizer.warmup": 0, "batch_size": 4}
SHORT = [
    *(word for name, value in STAGE.items() for stage in ("1", "2") for word in (f"--stage{stage}.{name}", str(value))),
    *("--data.validation", "0.5", "--stage1.model.params.channels", "8", "8", "8", "16"),
    *("--stage2.model.params.channels", "8", "8", "8", "16", "--stage2.draws", "1"),
]  # fmt: skip
BOX = ("--box", "40", "40", "150", "150")
COMMANDS = {
    "losses, from Python": ("python", "-c", LOSS),
    "networks, from Python": ("python", "-c", MODEL),
    "a preset printed": ("wing-jax", "config", "w300"),
    "training on the device, a preset by its name": ("wing-jax", "train", "w300", "--root", "faces", *SHORT),
    "the printed preset trained, changed": (
        "wing-jax", "train", "mine.py", "--data", "w300", "--root", "faces", "--name", "mine", *SHORT,
    ),
    "evaluation": ("wing-jax", "evaluate", "runs/w300/model", "--data", "w300", "--root", "faces"),
    "prediction with a given box": ("wing-jax", "predict", "w300", "faces/afw/face0.jpg", *BOX, "--output", "out"),
    "the same, from Python": ("python", "-c", PREDICT),
}  # fmt: skip
NEEDS_EXTRA = {  # extra: a command that needs it
    "tfdata": ("wing-jax", "train", "w300", "--root", "faces", "--name", "fed", "--input", "tfdata", *SHORT),
    "detect": ("wing-jax", "predict", "w300", "faces/afw/face0.jpg", "--detector", "libfacedetection"),
    "formats": ("wing-jax", "evaluate", "w300", "--data", "cofw", "--root", "cofw"),
    "report": ("wing-jax", "data", "stats", "faces", "--data", "w300"),
    "video": ("python", "-c", VIDEO),
    "onnx": ("wing-jax", "export", "w300", "--to", "onnx", "--output", "onnx"),
}


def main() -> None:
    """Build and install the wheel, run all commands, and publish both tables."""
    parser = arguments(__doc__)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument(
        "--constraint", default="requirements.lock", help="file of versions; empty: the newest versions"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "empty"
        folder.mkdir()
        binaries = install(options, Path(temporary))
        sizes, caches = package_sizes(binaries.parent)
        total = sum(sizes.values())
        rows = [("files of all packages", f"{total:,.0f} MB, of which .pyc {caches:.0f} (goal: below {LIMIT:,})")]
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:6]
        rows.append(("the largest of them", ", ".join(f"{name} {sizes[name]:.0f}" for name in largest)))
        rows += [(f"`import {name}`", seconds_to_import(binaries, name, options.rounds, folder)) for name in IMPORTS]
        run(binaries, ("python", "-c", MAKE_FACES), folder)
        rows += [(name, run_and_time(binaries, command, folder)) for name, command in COMMANDS.items()]
        (folder / "clip.mp4").write_bytes(b"")
        (folder / "cofw").mkdir()
        (folder / "cofw" / "COFW_test_color.mat").write_bytes(b"")
        missing = [(extra, error_message(binaries, command, folder)) for extra, command in NEEDS_EXTRA.items()]
        body = [*table(("core alone", ""), rows), "", *table(("missing extra", "message"), missing)]
    publish("core_install", "The core, without extras", body, versions={"pip": version("pip")}, options=options)
    sys.exit(total > LIMIT or any("FAILED" in cell for _, cell in [*rows, *missing]))


def install(options, folder: Path) -> Path:
    """Install a wheel of the working tree into a new environment; return the folder of its programs."""
    python = folder / "environment" / "bin" / "python"
    subprocess.run([options.python, "-m", "venv", folder / "environment"], check=True, env=clean_environment())
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True, env=clean_environment())
    (wheel,) = folder.glob("*.whl")
    constraint = ["--constraint", ROOT / options.constraint] if options.constraint else []
    subprocess.run([*pip, "install", *constraint, wheel], check=True, env=clean_environment())
    return python.parent


def package_sizes(environment: Path) -> tuple[Mapping[str, float], float]:
    """Return the size of each package in the environment and of all its .pyc files, in MB (10^6 bytes)."""
    (packages,) = environment.glob("lib/python*/site-packages")
    sizes, caches = {}, 0.0
    for path in packages.iterdir():
        if not path.name.startswith(TOOLS):
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            sizes[path.name] = sum(file.stat().st_size for file in files) / 1e6
            caches += sum(file.stat().st_size for file in files if file.suffix == ".pyc") / 1e6
    return sizes, caches


def seconds_to_import(binaries: Path, name: str, rounds: int, folder: Path) -> str:
    """Return the median and range of the import time in a new interpreter, without the start of the interpreter."""
    code = f"import time; start = time.perf_counter(); import {name}; print(time.perf_counter() - start)"
    times = [float(run(binaries, ("python", "-c", code), folder).stdout) for _ in range(rounds + 1)][1:]
    return f"{statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})"


def run_and_time(binaries: Path, command: tuple[str, ...], folder: Path) -> str:
    """Run a command and return its result and seconds; a printed preset is changed and saved as `mine.py`."""
    start = time.perf_counter()
    process = run(binaries, command, folder, stop=False)
    if command[:2] == ("wing-jax", "config"):
        changed = process.stdout.replace("margin=1.2,", "margin=1.3,")
        (folder / "mine.py").write_text(changed, encoding="utf-8")
        if changed == process.stdout:
            return "FAILED: the printed preset has no margin=1.2"
    return failure(process) if process.returncode else f"works, {time.perf_counter() - start:.1f} s"


def error_message(binaries: Path, command: tuple[str, ...], folder: Path) -> str:
    """Return the error message of a command whose extra is missing."""
    process = run(binaries, command, folder, stop=False)
    lines = process.stderr.strip().splitlines()
    expected = (
        process.returncode in (1, 2)
        and "Traceback" not in process.stderr
        and 'pip install "wing-jax[' in process.stderr
    )
    return lines[-1] if expected else failure(process)


def run(binaries: Path, command: tuple[str, ...], folder: Path, *, stop: bool = True) -> subprocess.CompletedProcess:
    """Run a command of the environment in `folder`; if it fails and `stop` is set, exit."""
    process = subprocess.run(
        [str(binaries / command[0]), *command[1:]],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode and stop:
        sys.exit(f"{shlex.join(command)}\n{process.stdout}{process.stderr}")
    return process


def clean_environment() -> dict[str, str]:
    """Return the environment variables, without those that lead Python to the checkout or to data."""
    names = ("PYTHON", "VIRTUAL_ENV", "WING_JAX_DATA")
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}


def failure(process: subprocess.CompletedProcess) -> str:
    """Return "FAILED" and the last line that the command printed."""
    lines = (process.stderr.strip() or process.stdout.strip()).splitlines()
    return f"FAILED: {lines[-1][:160] if lines else process.returncode}"


if __name__ == "__main__":
    main()
