"""JAX where it cannot work: after a fork it is refused at once, and where the platform is not there, in one line."""

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

def say(name, work):
    try:
        work()
        print(name, "works", flush=True)
    except InputError as error:
        print(name, "refused:", error, flush=True)

def forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(100)  # it would hang for ever without what is tested
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def load_and_predict():
    Localizer.load("mtfl").predict(image, boxes)
"""
USED = """
localizer = Localizer.load("mtfl")
landmarker = FaceLandmarker.load("mtfl")
localizer.predict(image, boxes)
points = np.random.default_rng(0).uniform(5, 35, (8, 5, 2))
faces = FaceSet.from_arrays(np.zeros((8, 40, 40, 3), np.uint8), points, scheme="mtfl5")
def child():
    from wing_jax import StageSpec, fit, models
    from wing_jax.augment.warp import warp
    say("load", lambda: Localizer.load("mtfl"))
    say("predict", lambda: localizer.predict(image, boxes))
    say("locate", lambda: localizer.locate(image[None], np.zeros((1, 4), np.float32)))
    say("warm_up", localizer.warm_up)
    say("FaceLandmarker.load", lambda: FaceLandmarker.load("mtfl"))
    say("landmarker", lambda: landmarker(image))
    say("loss", lambda: losses.wing_loss(np.zeros((1, 2)), np.ones((1, 2))))
    say("warp", lambda: warp(image[None], np.zeros((1, 2, 3), np.float32), size=4))
    from wing_jax.runtime import devices
    say("make_mesh", devices.make_mesh)
    say("fit", lambda: fit(faces, StageSpec(model=models.TINY)))
    forked(lambda: say("grandchild", load_and_predict))
forked(child)
"""


def run(code, **environment):
    """What a fresh Python prints, which must end soon."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_a_child_forked_after_jax_was_used_is_told_the_way_out():
    lines = run(FORK + USED)
    assert len(lines) == 11
    for line in lines:
        assert "refused: this process was forked from one that had used JAX" in line
        assert 'get_context("spawn")' in line
        assert "DataLoader" in line


def test_a_child_forked_before_jax_was_used_can_use_it():
    assert run(FORK + 'forked(lambda: say("child", load_and_predict))') == ["child works"]


def test_a_fork_of_a_program_that_used_jax_before_wing_jax_was_imported_is_seen():
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
    said, parent = run(code)
    assert said.startswith("this process was forked")
    assert parent == "the parent works"


def test_a_finder_travels_to_a_spawned_worker(tmp_path):
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
        "    given = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8), [[20, 20, 80, 80]]\n"
        "    here = work(landmarker, *given)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        there = pool.apply_async(work, (landmarker, *given)).get(200)\n"
        "    print(np.abs(here - there).max() < 1e-3)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "True", done.stderr[-2000:]


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_is_one_line(platform):
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
except SystemExit as ended:
    print(ended.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        timeout=300,
    )
    first, second, *rest = done.stdout.splitlines()
    assert first == second
    assert first.startswith(f"JAX_PLATFORMS={platform}: there is no such platform here")
    assert "unset JAX_PLATFORMS" in first
    assert rest[-1] == "2"
    assert f"wing-jax: JAX_PLATFORMS={platform}: there is no such platform" in done.stderr
    assert "Traceback" not in done.stderr
