"""The core alone, as `pip install wing-jax` without an extra: its size, how long it takes to import, and what works.

    python reliability/core_install.py [--python python3.11] [--constraint requirements.lock] [--rounds 5]

The wheel is built and installed into an environment of its own; then work is done there from the command line, in an
empty folder, without the checkout: a preset printed, and trained by its name and as the changed file, its evaluation, a
prediction with a given box, losses and networks from Python. Last, what needs each extra is asked for: the line that
is answered is in the table.
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
TOOLS = ("pip", "setuptools", "_distutils_hack", "pkg_resources")  # of the environment itself: not counted
LIMIT = 1000  # MB of packages: the goal
IMPORTS = ("jax", "wing_jax", "wing_jax.losses", "wing_jax.models", "wing_jax.inference.localizer")
# Twelve synthetic faces in the folders of 300-W, as training and as test faces.
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
WORK = {
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
REFUSED = {  # extra: what needs it
    "tfdata": ("wing-jax", "train", "w300", "--root", "faces", "--name", "fed", "--input", "tfdata", *SHORT),
    "detect": ("wing-jax", "predict", "w300", "faces/afw/face0.jpg", "--detector", "libfacedetection"),
    "formats": ("wing-jax", "evaluate", "w300", "--data", "cofw", "--root", "cofw"),
    "report": ("wing-jax", "data", "stats", "faces", "--data", "w300"),
    "video": ("python", "-c", VIDEO),
    "onnx": ("wing-jax", "export", "w300", "--to", "onnx", "--output", "onnx"),
}


def main() -> None:
    """Build, install, measure, use, and publish both tables."""
    parser = arguments(__doc__)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--constraint", default="requirements.lock", help="versions; empty: the newest there are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "empty"
        place.mkdir()
        binaries = installed(options, Path(folder))
        sizes, caches = megabytes(binaries.parent)
        total = sum(sizes.values())
        rows = [("files of all packages", f"{total:,.0f} MB, of which .pyc {caches:.0f} (goal: below {LIMIT:,})")]
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:6]
        rows.append(("the largest of them", ", ".join(f"{name} {sizes[name]:.0f}" for name in largest)))
        rows += [(f"`import {name}`", seconds_to_import(binaries, name, options.rounds, place)) for name in IMPORTS]
        done(binaries, ("python", "-c", MAKE_FACES), place)
        rows += [(name, used(binaries, words, place)) for name, words in WORK.items()]
        (place / "clip.mp4").write_bytes(b"")
        (place / "cofw").mkdir()
        (place / "cofw" / "COFW_test_color.mat").write_bytes(b"")
        missing = [(extra, refusal(binaries, words, place)) for extra, words in REFUSED.items()]
        body = [*table(("core alone", ""), rows), "", *table(("extra that is missing", "what is said"), missing)]
    publish("core_install", "The core, without extras", body, versions={"pip": version("pip")}, options=options)
    sys.exit(total > LIMIT or any("FAILED" in cell for _, cell in [*rows, *missing]))


def installed(options, folder: Path) -> Path:
    """The folder of the programs of an environment with the wheel of the working tree in it."""
    python = folder / "environment" / "bin" / "python"
    subprocess.run([options.python, "-m", "venv", folder / "environment"], check=True, env=surroundings())
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True, env=surroundings())
    (wheel,) = folder.glob("*.whl")
    constraint = ["--constraint", ROOT / options.constraint] if options.constraint else []
    subprocess.run([*pip, "install", *constraint, wheel], check=True, env=surroundings())
    return python.parent


def megabytes(environment: Path) -> tuple[Mapping[str, float], float]:
    """The lengths of the files of each package in the environment, and of all compiled .pyc among them: 10^6 bytes."""
    (packages,) = environment.glob("lib/python*/site-packages")
    found, caches = {}, 0.0
    for path in packages.iterdir():
        if not path.name.startswith(TOOLS):
            files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
            found[path.name] = sum(file.stat().st_size for file in files) / 1e6
            caches += sum(file.stat().st_size for file in files if file.suffix == ".pyc") / 1e6
    return found, caches


def seconds_to_import(binaries: Path, name: str, rounds: int, place: Path) -> str:
    """Median and range of a new interpreter's import, without that interpreter's own start."""
    code = f"import time; start = time.perf_counter(); import {name}; print(time.perf_counter() - start)"
    times = [float(done(binaries, ("python", "-c", code), place).stdout) for _ in range(rounds + 1)][1:]
    return f"{statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})"


def used(binaries: Path, words: tuple[str, ...], place: Path) -> str:
    """Whether a command worked, and in how many seconds; what a preset's printing gives is kept as `mine.py`."""
    start = time.perf_counter()
    answer = done(binaries, words, place, stop=False)
    if words[:2] == ("wing-jax", "config"):
        changed = answer.stdout.replace("margin=1.2,", "margin=1.3,")
        (place / "mine.py").write_text(changed, encoding="utf-8")
        if changed == answer.stdout:
            return "FAILED: the printed preset is not as it was"
    return last(answer) if answer.returncode else f"works, {time.perf_counter() - start:.1f} s"


def refusal(binaries: Path, words: tuple[str, ...], place: Path) -> str:
    """The one line that a command without its extra says."""
    answer = done(binaries, words, place, stop=False)
    lines = answer.stderr.strip().splitlines()
    fine = (
        answer.returncode in (1, 2) and "Traceback" not in answer.stderr and 'pip install "wing-jax[' in answer.stderr
    )
    return lines[-1] if fine else last(answer)


def done(binaries: Path, words: tuple[str, ...], place: Path, *, stop: bool = True) -> subprocess.CompletedProcess:
    """A command of the environment, in `place`; where it fails and `stop` is set, so does all."""
    answer = subprocess.run(
        [str(binaries / words[0]), *words[1:]],
        cwd=place,
        env=surroundings(),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode and stop:
        sys.exit(f"{shlex.join(words)}\n{answer.stdout}{answer.stderr}")
    return answer


def surroundings() -> dict[str, str]:
    """The environment without what leads Python to the checkout or to data."""
    names = ("PYTHON", "VIRTUAL_ENV", "WING_JAX_DATA")
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}


def last(answer: subprocess.CompletedProcess) -> str:
    """That a command failed, and the last line that it said."""
    lines = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return f"FAILED: {lines[-1][:160] if lines else answer.returncode}"


if __name__ == "__main__":
    main()
