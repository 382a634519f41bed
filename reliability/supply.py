"""Test wheel and sdist in clean environments, on each installed Python, with the newest and the oldest libraries.

    python reliability/supply.py [--pythons python3.11 python3.12 python3.13] [--test TEST ...]

The test runs for each interpreter and each set of libraries (requirements.lock: the newest when it was written;
requirements-oldest.lock: the lower bounds of pyproject.toml). It creates an environment and installs the wheel (once
also the sdist) with all extras and that set as constraints. Then it runs `pip check` and, outside the repository, a
short training of both stages on synthetic faces, its evaluation, a prediction by a pretrained model, and the tests of
`--test` on the installed package. Finally, pip-audit checks the newest set for known vulnerabilities. It reports "none
found" for packages that its service does not know, too, so the table has the number of known packages.
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
    """Build the packages, test them, and publish the table."""
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
                    environment = Path(folder) / f"{name}-{kind}-{package.suffix}"
                    rows.append((name, kind, *check_package(python, package, lock, environment, options.test)))
                    print(rows[-1], flush=True)
                    shutil.rmtree(environment)
        head = ("Python", "libraries", "installed", "used from the command line", "tests")
        body = [*table(head, rows), "", audit(Path(folder), SETS["newest"])]
    publish("supply", "Wheel and sdist", body, versions={"pip": version("pip")}, options=options)
    sys.exit(any("FAILED" in cell for row in rows for cell in row))


def build(folder: Path) -> list[Path]:
    """Build the wheel and the sdist of the working tree."""
    tool = folder / "build"
    run([sys.executable, "-m", "venv", tool])
    run([tool / "bin" / "python", "-m", "pip", "install", "--quiet", "build"])
    run([tool / "bin" / "python", "-m", "build", "--outdir", folder / "dist", ROOT])
    return sorted((folder / "dist").iterdir(), key=lambda path: path.suffix != ".whl")


def check_package(python: str, package: Path, lock: Path, folder: Path, tests: list[str]) -> tuple[str, str, str]:
    """Install, use and test the package in a new environment; return three cells of the table."""
    start = time.perf_counter()
    run([python, "-m", "venv", folder])
    installed_python = folder / "bin" / "python"
    constraints = folder / "constraints.txt"
    constraints.write_text(lock.read_text())
    process = run(
        [installed_python, "-m", "pip", "install", "--quiet", "--constraint", constraints, f"{package}[all]"],
        stop=False,
    )
    if process.returncode:
        return f"FAILED: {last_line(process)}", "", ""
    installed = f"{package.suffix.removeprefix('.')}, {time.perf_counter() - start:.0f} s"
    for tool, *command in (
        ("pip", "check"),
        ("wing-jax", "train", "synthetic", *SHORT),
        ("wing-jax", "evaluate", "runs/synthetic/model", "--data", "synthetic", "--faces", "20"),
        ("wing-jax", "predict", "w300", ROOT / "docs" / "demo.png", "--output", "predictions"),
    ):
        process = run([folder / "bin" / tool, *command], cwd=folder, stop=False)
        if process.returncode:
            return installed, f"FAILED: {tool} {command[0]}: {last_line(process)}", ""
    run([installed_python, "-m", "pip", "install", "--quiet", "pytest", "hypothesis", "beartype", "pytest-xdist"])
    shutil.copytree(ROOT / "tests", folder / "tests")
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --import-mode=importlib\n")
    process = run(
        [installed_python, "-m", "pytest", "-q", *(f"tests/{test}" for test in tests)], cwd=folder, stop=False
    )
    summary = process.stdout.strip().splitlines()[-1] if process.stdout else ""
    return installed, "trained, evaluated, predicted", summary if process.returncode == 0 else f"FAILED: {summary}"


def audit(folder: Path, lock: Path) -> str:
    """Return the vulnerabilities that pip-audit finds in `lock`, and how many packages its service knows."""
    tool = folder / "audit"
    run([sys.executable, "-m", "venv", tool])
    run([tool / "bin" / "python", "-m", "pip", "install", "--quiet", "pip-audit"])
    words = ("--requirement", lock, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
    process = run([tool / "bin" / "pip-audit", *words], stop=False)
    if not process.stdout.strip():
        return f"pip-audit could not look up the packages of {lock.name}: {last_line(process)}"
    packages = json.loads(process.stdout)["dependencies"]
    known = [package for package in packages if "vulns" in package]
    vulnerabilities = [
        f"{package['name']}: {vulnerability['id']}" for package in known for vulnerability in package["vulns"]
    ]
    return (
        f"pip-audit looked up {len(known)} of the {len(packages)} packages of {lock.name}, the others are unknown to "
        "the available service; known vulnerabilities: "
        f"{', '.join(vulnerabilities) or 'none' if known else 'not known'}."
    )


def run(command: list, *, cwd: Path | None = None, stop: bool = True) -> subprocess.CompletedProcess:
    """Run a command; if it fails and `stop` is set, exit."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    process = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    if process.returncode and stop:
        sys.exit(f"{' '.join(map(str, command))}\n{process.stdout}{process.stderr}")
    return process


def last_line(process: subprocess.CompletedProcess) -> str:
    """Return the last line that a command printed."""
    lines = (process.stderr.strip() or process.stdout.strip()).splitlines()
    return lines[-1][:160] if lines else str(process.returncode)


if __name__ == "__main__":
    main()
