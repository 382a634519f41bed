"""JAX where it cannot work: rejected at once after a fork, and in one line if the platform is not available."""

import os
import subprocess
import sys

import pytest

FORK = """
import os, signal, warnings
warnings.simplefilter("ignore")  # JAX warns of the fork itself
import numpy as np
from wing_jax import FaceLandmarker, FaceSet, Localizer, losses
from wing_jax.config import Config
from wing_jax.errors import InputError
image, boxes = np.zeros((99, 99, 3), np.uint8), [[20, 20, 80, 80]]

def report(name, work):
    try:
        work()
        print(name, "works", flush=True)
    except InputError as error:
        print(name, "rejected:", error, flush=True)

def run_forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(100)  # without the check, it would hang
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def load_and_predict():
    Localizer.load("mtfl").predict(image, boxes)
"""
USE_IN_CHILD = """
localizer = Localizer.load("mtfl")
landmarker = FaceLandmarker.load("mtfl")
localizer.predict(image, boxes)
points = np.random.default_rng(0).uniform(5, 35, (8, 5, 2))
faces = FaceSet.from_arrays(np.zeros((8, 40, 40, 3), np.uint8), points, scheme="mtfl5")
def child():
    from wing_jax import StageSpec, fit, models
    from wing_jax.augment.warp import warp
    report("load", lambda: Localizer.load("mtfl"))
    report("predict", lambda: localizer.predict(image, boxes))
    report("locate", lambda: localizer.locate(image[None], np.zeros((1, 4), np.float32)))
    report("warm_up", localizer.warm_up)
    report("FaceLandmarker.load", lambda: FaceLandmarker.load("mtfl"))
    report("landmarker", lambda: landmarker(image))
    report("loss", lambda: losses.wing_loss(np.zeros((1, 2)), np.ones((1, 2))))
    report("warp", lambda: warp(image[None], np.zeros((1, 2, 3), np.float32), size=4))
    from wing_jax.runtime import devices
    report("make_mesh", devices.make_mesh)
    report("fit", lambda: fit(faces, StageSpec(model=models.TINY)))
    run_forked(lambda: report("grandchild", load_and_predict))
run_forked(child)
"""


def run(code, **environment):
    """Run code in a new Python, which must end soon, and return the lines that it prints."""
    process = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout.splitlines()


@pytest.mark.slow
def test_a_child_forked_after_jax_was_used_is_refused_with_the_alternatives():
    lines = run(FORK + USE_IN_CHILD)
    assert len(lines) == 11
    for line in lines:
        assert "rejected: this process was forked from one that had used JAX" in line
        assert 'get_context("spawn")' in line
        assert "DataLoader" in line


@pytest.mark.slow
def test_a_child_forked_before_jax_was_used_can_use_it():
    assert run(FORK + 'run_forked(lambda: report("child", load_and_predict))') == ["child works"]


@pytest.mark.slow
def test_a_fork_is_detected_if_wing_jax_is_imported_later():
    code = """
import os, warnings
warnings.simplefilter("ignore")
import jax, jax.numpy as jnp
jnp.ones(3).sum().block_until_ready()
child = os.fork()
if child == 0:
    from wing_jax.runtime.processes import check_jax
    try:
        check_jax()
        print("works", flush=True)
    except ValueError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
from wing_jax.runtime.processes import check_jax
check_jax()
print("the parent works")
"""
    message, parent = run(code)
    assert message.startswith("this process was forked")
    assert parent == "the parent works"


@pytest.mark.slow
def test_a_face_landmarker_works_in_a_spawned_worker(tmp_path):
    script = tmp_path / "spawn.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "import numpy as np\n"
        "def work(landmarker, image, boxes):\n"
        "    landmarker(image)\n"
        "    return landmarker.localizer.predict(image, boxes)\n"
        "if __name__ == '__main__':\n"
        "    from wing_jax import FaceLandmarker\n"
        "    landmarker = FaceLandmarker.load('mtfl', detector='libfacedetection')\n"
        "    arguments = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8), [[20, 20, 80, 80]]\n"
        "    expected = work(landmarker, *arguments)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        points = pool.apply_async(work, (landmarker, *arguments)).get(200)\n"
        "    print(np.abs(points - expected).max() < 1e-3)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "True", run.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_an_unavailable_platform_is_reported_in_one_line(platform):
    code = """
from wing_jax import Localizer
from wing_jax.errors import InputError
import numpy as np
for _ in range(2):
    try:
        Localizer.load("mtfl").predict(np.zeros((99, 99, 3), np.uint8), [[20, 20, 80, 80]])
    except InputError as error:
        print(error)
from wing_jax.cli import main
try:
    main(["devices"])
except SystemExit as stopped:
    print(stopped.code)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        timeout=300,
    )
    first, second, *rest = run.stdout.splitlines()
    assert first == second
    assert first.startswith(f"JAX_PLATFORMS={platform}: not available (")
    assert "unset JAX_PLATFORMS" in first
    assert rest[-1] == "2"
    assert f"wing-jax: JAX_PLATFORMS={platform}: not available" in run.stderr
    assert "Traceback" not in run.stderr
