"""A full disk: a one-line message, no saved data is lost, and with more space the same command resumes."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.small_disk import SIZES, SOME, STEPS, WORDS
from tests.support.workshop import furnish, logged, weights
from wing_jax.data.images import write_image
from wing_jax.inference.video import VideoWriter

UNSHARE = ("unshare", "--map-root-user", "--mount")  # a process with its own mounts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("unshare")
        or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0,
        reason="mounting a small disk needs unshare(1), which is missing or not allowed",
    ),
]


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


@pytest.fixture(scope="module")
def results(workshop):
    """The exit status and the errors of each command, all run in one process, by the name of the disk."""
    run = subprocess.run(
        [*UNSHARE, sys.executable, "-m", "tests.support.small_disk", str(workshop)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        cwd=ROOT,
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_a_training_on_a_growing_disk_equals_one_with_enough_space(workshop, results):
    assert [status for status, _ in results["training"]] == [0] + [2] * (len(SIZES) - 1) + [0]
    failures = []
    for _, errors in results["training"][1:-1]:
        lines = errors.splitlines()
        assert all(line.startswith("stage ") for line in lines[:-1]), errors
        assert "free disk space or fix permissions, and run the same command again" in lines[-1]
        failures.append("log" if "the log cannot be written" in lines[-1] else lines[-1].split("small/run/")[1][:6])
    assert failures == ["log", "stage1", "stage2"]
    for number in (1, 2):
        steps = [line["step"] for line in logged(workshop / "saved" / f"stage{number}")]
        assert steps == list(range(20, STEPS[number] + 1, 20))
    expected, actual = weights(workshop / "runs" / "room"), weights(workshop / "saved")
    for name in expected.keys() | actual.keys():
        np.testing.assert_array_equal(actual[name], expected[name])


@pytest.mark.parametrize(
    ("disk", "commands", "reason"),
    [("commands", WORDS, "No space left on device"), ("read_only", SOME, "Read-only file system")],
)
def test_each_command_reports_a_full_or_read_only_disk_in_one_line(results, disk, commands, reason):
    for words, (status, errors) in zip(commands, results[disk], strict=True):
        *others, last = errors.splitlines()
        assert status == 2, words
        assert last.startswith("wing-jax: "), words
        assert reason in last, words
        assert "Traceback" not in "".join(others), words


def test_a_video_that_does_not_fit_on_the_disk_is_reported(results):
    (_, video), (_, image) = results["video"]
    assert "noise.png: cannot write this image (No space left on device): free disk space" in image
    assert "noise.mp4: cannot write this video (No space left on device): free disk space" in video
