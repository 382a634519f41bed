"""What is shipped: wheel and sdist in clean environments, on each Python there is, with newest and oldest libraries.

    python reliability/supply.py [--pythons python3.11 python3.12 python3.13] [--test TEST ...]

For each interpreter that is found and each set of libraries (requirements.lock, the newest when it was made;
requirements-oldest.lock, the lower bounds of pyproject.toml) an environment is made, the wheel (for the newest, once,
the sdist) installed into it with all extras and that set as constraints, and work done from the command line, outside
the repository: a short training of both stages on synthetic faces, its evaluation, a prediction by a pretrained model;
`pip check`, and the tests of `--test` against the installed package. At last pip-audit looks the newest set up among
the known vulnerabilities; it says "none found" as well where its service knows none of the packages, so that here the
ones it knew are counted.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from shared import arguments, publish, table

ROOT = Path(__file__).parents[1]
SETS = {"newest": ROOT / "requirements.lock", "oldest": ROOT / "requirements-oldest.lock"}
TESTS = (
    "losses/test_losses_regression.py", "evaluation/test_metrics.py", "balance/test_balance.py",
    "train/test_checkpoints.py", "train/test_logs.py", "inference/test_bundle.py", "data/tfds/test_tfds_sets.py",
)  # fmt: skip
STEPS = {"stage1.steps": 60, "stage1.evaluate_every": 30, "stage2.steps": 40, "stage2.evaluate_every": 20}
SHORT = [word for name, value in STEPS.items() for word in (f"--{name}", str(value))]


def main() -> None:
    """Build, install, use, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--pythons", nargs="*", default=["python3.11", "python3.12", "python3.13"])
    parser.add_argument("--test", nargs="*", default=list(TESTS))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        for name in options.pythons:
            python = shutil.which(name)
            if python is None or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
                rows.append((name, "", "not found", "", ""))
                continue
            for kind, lock in SETS.items():
                for package in built[: 2 if kind == "newest" and name == options.pythons[0] else 1]:
                    place = Path(folder) / f"{name}-{kind}-{package.suffix}"
                    rows.append((name, kind, *checked(python, package, lock, place, options.test)))
                    print(rows[-1], flush=True)
                    shutil.rmtree(place)
        head = ("Python", "libraries", "installed", "used from the command line", "tests")
        body = [*table(head, rows), "", audited(Path(folder), SETS["newest"])]
    publish("supply", "Wheel and sdist", body, versions={"pip": version("pip")}, options=options)
    sys.exit(any("FAILED" in cell for row in rows for cell in row))


def build(folder: Path) -> list[Path]:
    """The wheel and the sdist of the working tree."""
    tool = folder / "build"
    run([sys.executable, "-m", "venv", tool])
    run([tool / "bin" / "python", "-m", "pip", "install", "--quiet", "build"])
    run([tool / "bin" / "python", "-m", "build", "--outdir", folder / "dist", ROOT])
    return sorted((folder / "dist").iterdir(), key=lambda path: path.suffix != ".whl")


def checked(python: str, package: Path, lock: Path, place: Path, tests: list[str]) -> tuple[str, str, str]:
    """How an environment fares with the package: installed, used, tested."""
    start = time.perf_counter()
    run([python, "-m", "venv", place])
    own = place / "bin" / "python"
    constraints = place / "constraints.txt"
    constraints.write_text(lock.read_text())
    tried = run([own, "-m", "pip", "install", "--quiet", "--constraint", constraints, f"{package}[all]"], stop=False)
    if tried.returncode:
        return f"FAILED: {last(tried)}", "", ""
    installed = f"{package.suffix.removeprefix('.')}, {time.perf_counter() - start:.0f} s"
    for tool, *words in (
        ("pip", "check"),
        ("wing-jax", "train", "synthetic", *SHORT),
        ("wing-jax", "evaluate", "runs/synthetic/model", "--data", "synthetic", "--faces", "20"),
        ("wing-jax", "predict", "w300", ROOT / "docs" / "demo.png", "--output", "predictions"),
    ):
        tried = run([place / "bin" / tool, *words], cwd=place, stop=False)
        if tried.returncode:
            return installed, f"FAILED: {tool} {words[0]}: {last(tried)}", ""
    run([own, "-m", "pip", "install", "--quiet", "pytest", "hypothesis", "beartype", "pytest-xdist"])
    shutil.copytree(ROOT / "tests", place / "tests")
    (place / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --import-mode=importlib\n")
    tried = run([own, "-m", "pytest", "-q", *(f"tests/{test}" for test in tests)], cwd=place, stop=False)
    said = tried.stdout.strip().splitlines()[-1] if tried.stdout else ""
    return installed, "trained, evaluated, predicted", said if tried.returncode == 0 else f"FAILED: {said}"


def audited(folder: Path, lock: Path) -> str:
    """What pip-audit finds of the packages in `lock`, and how many of them its service knew."""
    tool = folder / "audit"
    run([sys.executable, "-m", "venv", tool])
    run([tool / "bin" / "python", "-m", "pip", "install", "--quiet", "pip-audit"])
    words = ("--requirement", lock, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
    tried = run([tool / "bin" / "pip-audit", *words], stop=False)
    if not tried.stdout.strip():
        return f"pip-audit could not look up the packages of {lock.name}: {last(tried)}"
    packages = json.loads(tried.stdout)["dependencies"]
    known = [package for package in packages if "vulns" in package]
    faults = [f"{package['name']}: {fault['id']}" for package in known for fault in package["vulns"]]
    return (
        f"pip-audit looked up {len(known)} of the {len(packages)} packages of {lock.name}, the others being unknown to "
        f"the service within reach; known vulnerabilities: {', '.join(faults) or 'none' if known else 'not known'}."
    )


def run(words: list, *, cwd: Path | None = None, stop: bool = True) -> subprocess.CompletedProcess:
    """A command; where it fails and `stop` is set, so does the benchmark."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=surroundings, capture_output=True, text=True, check=False
    )
    if done.returncode and stop:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done


def last(done: subprocess.CompletedProcess) -> str:
    """The last line that a command said."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1][:160] if lines else str(done.returncode)


if __name__ == "__main__":
    main()
