"""A disk that is full: one line, nothing that was saved is lost, and with more room the same command goes on."""

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

APART = ("unshare", "--map-root-user", "--mount")  # a process with mounts of its own
SIZES = ("4k", "64k", "400k", "800k", "1200k", "20m")  # of the disk, each time the training is started again

pytestmark = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*APART, "true"], capture_output=True, check=False).returncode != 0,
    reason="a small disk must be mounted, which unshare(1) is not there for, or not allowed to",
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


def on_a_small_disk(*words):
    run = subprocess.run(
        [*APART, sys.executable, "-m", "tests.support.small_disk", *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        cwd=ROOT,
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_a_training_on_a_disk_that_grows_ends_with_the_bits_of_one_with_room(workshop):
    with_room = start(workshop, "room")
    said = on_a_small_disk("training", workshop, *SIZES)
    finish(with_room)
    assert [status for status, _ in said] == [2] * (len(SIZES) - 1) + [0]
    moments = []
    for _, complaints in said[:-1]:
        lines = complaints.splitlines()
        assert all(line.startswith("stage ") for line in lines[:-1]), complaints
        assert "make room or fix permissions, and run the same command again" in lines[-1]
        moments.append("log" if "the log cannot be written" in lines[-1] else lines[-1].split("small/")[1][:6])
    assert moments[0] == "log"
    assert set(moments[1:]) == {"stage1", "stage2"}
    for number in (1, 2):
        steps = [line["step"] for line in logged(workshop / "saved" / f"stage{number}")]
        assert steps == list(range(20, STEPS[number] + 1, 20))
    whole, filled = weights(workshop / "runs" / "room"), weights(workshop / "saved")
    for name in whole.keys() | filled.keys():
        np.testing.assert_array_equal(filled[name], whole[name])


@pytest.mark.parametrize(
    ("disk", "commands", "told"),
    [("commands", WORDS, "No space left on device"), ("read_only", SOME, "Read-only file system")],
)
def test_each_command_tells_of_the_disk_in_one_line(workshop, disk, commands, told):
    for words, (status, complaints) in zip(commands, on_a_small_disk(disk, workshop), strict=True):
        *others, last = complaints.splitlines()
        assert status == 2, words
        assert last.startswith("wing-jax: "), words
        assert told in last, words
        assert "Traceback" not in "".join(others), words


def test_a_video_that_the_disk_had_no_room_for_is_told(workshop):
    script = """
import subprocess, sys
import numpy as np
from wing_jax.data.images import write_image
from wing_jax.inference.video import VideoWriter
from wing_jax.errors import InputError
place = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", place], check=True)
noise = np.random.default_rng(0).integers(0, 256, (30, 240, 320, 3), np.uint8)

def write_video():
    with VideoWriter(f"{place}/noise.mp4", rate=25) as writer:
        for image in noise:
            writer.write(image)

for write in (write_video, lambda: write_image(f"{place}/noise.png", noise[0])):
    try:
        write()
    except InputError as error:
        print(error)
"""
    place = workshop / "video"
    place.mkdir()
    run = subprocess.run(
        [*APART, sys.executable, "-c", script, str(place)], capture_output=True, text=True, check=True, timeout=60
    )
    video, image = run.stdout.splitlines()
    assert "noise.png: cannot write this image (No space left on device): make room" in image
    assert "noise.mp4: cannot write this video (No space left on device): make room" in video
