"""A full disk: a one-line message, no saved data is lost, and with more space the same command resumes."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.small_disk import SOME, WORDS
from tests.support.workshop import STEPS, finish, furnish, logged, start, weights
from wing_jax.data.images import write_image
from wing_jax.inference.video import VideoWriter

UNSHARE = ("unshare", "--map-root-user", "--mount")  # a process with its own mounts
SIZES = ("4k", "64k", "400k", "800k", "1200k", "20m")  # of the disk, one for each start of the training

pytestmark = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="mounting a small disk needs unshare(1), which is missing or not allowed",
)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    faces = furnish(folder)
    write_image(folder / "photos" / "0.png", faces.picture(0))
    write_image(folder / "photos" / "1.png", faces.picture(1))
    with VideoWriter(folder / "clip.mp4", rate=25) as writer:
        for _ in range(5):
            writer.write(faces.picture(0))
    return folder


def run_on_a_small_disk(*arguments):
    run = subprocess.run(
        [*UNSHARE, sys.executable, "-m", "tests.support.small_disk", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        cwd=ROOT,
    )
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_training_on_a_growing_disk_equals_one_with_enough_space(workshop):
    reference = start(workshop, "room")
    results = run_on_a_small_disk("training", workshop, *SIZES)
    finish(reference)
    assert [status for status, _ in results] == [2] * (len(SIZES) - 1) + [0]
    failures = []
    for _, errors in results[:-1]:
        lines = errors.splitlines()
        assert all(line.startswith("stage ") for line in lines[:-1]), errors
        assert "free disk space or fix permissions, and run the same command again" in lines[-1]
        failures.append("log" if "the log cannot be written" in lines[-1] else lines[-1].split("small/")[1][:6])
    assert failures[0] == "log"
    assert set(failures[1:]) == {"stage1", "stage2"}
    for number in (1, 2):
        steps = [line["step"] for line in logged(workshop / "saved" / f"stage{number}")]
        assert steps == list(range(20, STEPS[number] + 1, 20))
    expected, actual = weights(workshop / "runs" / "room"), weights(workshop / "saved")
    for name in expected.keys() | actual.keys():
        np.testing.assert_array_equal(actual[name], expected[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("disk", "commands", "reason"),
    [("commands", WORDS, "No space left on device"), ("read_only", SOME, "Read-only file system")],
)
def test_each_command_reports_a_full_or_read_only_disk_in_one_line(workshop, disk, commands, reason):
    for words, (status, errors) in zip(commands, run_on_a_small_disk(disk, workshop), strict=True):
        *others, last = errors.splitlines()
        assert status == 2, words
        assert last.startswith("wing-jax: "), words
        assert reason in last, words
        assert "Traceback" not in "".join(others), words


@pytest.mark.slow
def test_a_video_that_does_not_fit_on_the_disk_is_reported(workshop):
    script = """
import subprocess, sys
import numpy as np
from wing_jax.data.images import write_image
from wing_jax.inference.video import VideoWriter
from wing_jax.errors import InputError
folder = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", folder], check=True)
noise = np.random.default_rng(0).integers(0, 256, (30, 240, 320, 3), np.uint8)

def write_video():
    with VideoWriter(f"{folder}/noise.mp4", rate=25) as writer:
        for image in noise:
            writer.write(image)

for write in (write_video, lambda: write_image(f"{folder}/noise.png", noise[0])):
    try:
        write()
    except InputError as error:
        print(error)
"""
    folder = workshop / "video"
    folder.mkdir()
    run = subprocess.run(
        [*UNSHARE, sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True, timeout=60
    )
    video, image = run.stdout.splitlines()
    assert "noise.png: cannot write this image (No space left on device): free disk space" in image
    assert "noise.mp4: cannot write this video (No space left on device): free disk space" in video
