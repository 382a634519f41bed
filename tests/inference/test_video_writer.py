"""Writing videos: frames keep their times, files play in browsers and are written atomically."""

import os
import subprocess
import sys

import av
import numpy as np
import pytest

from tests.support.writers.videos import numbered
from wing_jax.errors import InputError
from wing_jax.inference import video_writer as module
from wing_jax.inference.video import Video, VideoWriter


def write_video(path, images, seconds=None, **options):
    with VideoWriter(path, **options) as writer:
        for number, image in enumerate(images):
            writer.write(image, seconds=None if seconds is None else seconds[number])
    return path


@pytest.mark.parametrize(
    "seconds",
    [[0, 0.04, 0.08, 0.12], [0, 0.033, 0.501, 0.502, 9.75], [0, 10, 20, 30, 40], [0, 0.001, 0.002], [0], [0, 7200]],
)
def test_frames_keep_their_times_and_the_last_has_the_duration_of_the_previous_one(tmp_path, seconds):
    path = write_video(tmp_path / "a.mp4", numbered(len(seconds)), seconds)
    with Video(path) as video:
        frames = list(video)
        gap = seconds[-1] - seconds[-2] if len(seconds) > 1 else 1 / 25
        assert video.length == pytest.approx(seconds[-1] + gap, abs=1e-3)
        assert video.end == pytest.approx(video.length, abs=1e-3)
        assert not video.is_cut
    assert [frame.seconds for frame in frames] == pytest.approx(seconds, abs=1e-4)
    for frame, image in zip(frames, numbered(len(seconds)), strict=True):
        np.testing.assert_allclose(frame.image.astype(int), image.astype(int), atol=12)


def test_times_that_do_not_increase_are_changed_and_no_frame_is_lost(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(5), [3.0, 3.2, 3.2, 3.1, 3.4])
    with Video(path) as video:
        assert [frame.seconds for frame in video] == pytest.approx([0, 0.2, 0.2, 0.2, 0.4], abs=2e-3)


def test_a_pause_of_days_is_shortened_with_a_note(tmp_path):
    """In a time lapse of one picture per day, say: MP4 stores durations in 32 bits."""
    seconds, expected = [0, 1, 86_401, 86_402, 1e7], [0, 1, 32_401, 32_402, 64_802]
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for image, second in zip(numbered(5), seconds, strict=True):
            assert writer.note == ("" if second <= 86_401 else "pauses of more than 9 hours are shortened to 9 hours")
            writer.write(image, seconds=second)
    with Video(tmp_path / "a.mp4") as video:
        assert [frame.seconds for frame in video] == pytest.approx(expected, abs=1e-3)
        assert video.end == pytest.approx(64_802 + 32_400)


@pytest.mark.parametrize(("height", "width"), [(47, 64), (48, 63), (47, 63), (1, 1), (2, 3)])
def test_odd_sides_are_padded_by_their_edge(tmp_path, height, width):
    rows, columns = np.mgrid[:height, :width]
    image = np.where((rows // 4 + columns // 4) % 2, 200, 50).astype(np.uint8)[None, :, :, None].repeat(3, -1)
    with Video(write_video(tmp_path / "a.mp4", image)) as video:
        (frame,) = video
    assert frame.image.shape == (height + height % 2, width + width % 2, 3)
    expected = np.pad(image[0], ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    np.testing.assert_allclose(frame.image.astype(int), expected.astype(int), atol=35)  # scaling makes it 150


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(numbered(1)[0])
        writer.write(numbered(2, height=96, width=128)[1])
    with Video(tmp_path / "a.mp4") as video:
        first, second = video
    assert first.image.shape == second.image.shape == (48, 64, 3)
    np.testing.assert_allclose(second.image.mean((0, 1)), numbered(2)[1].mean((0, 1)), atol=4)


def test_the_file_plays_in_browsers(tmp_path):
    """H.264 of 8 bits with 4:2:0 chroma, color metadata, and the index before the frames."""
    path = write_video(tmp_path / "a.mp4", numbered(30))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.color_range, context.colorspace) == (1, 6)
    content = path.read_bytes()
    assert content[4:12] == b"ftypisom"
    assert content.index(b"moov") < content.index(b"mdat")
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(("encoder", "note"), [("libvpx-vp9", ""), ("mpeg4", "browsers do not play it")])
def test_without_x264_another_encoder_is_used(tmp_path, encoder, note):
    encoders = {"libnone": {}, encoder: module.ENCODERS[encoder]}
    with VideoWriter(tmp_path / "a.mp4", encoders=encoders) as writer:
        for number, image in enumerate(numbered(6)):
            writer.write(image, seconds=[0, 0.1, 0.2, 0.5, 0.6, 2][number])
        assert writer.note.startswith(note)
        assert bool(writer.note) == bool(note)
    with Video(tmp_path / "a.mp4") as video:
        assert [frame.seconds for frame in video] == pytest.approx([0, 0.1, 0.2, 0.5, 0.6, 2], abs=1e-3)


def test_an_encoder_that_cannot_be_opened_is_skipped(tmp_path):
    broken = {"preset": "none such"}
    encoders = {"libx264": broken, "mpeg4": module.ENCODERS["mpeg4"]}
    with Video(write_video(tmp_path / "a.mp4", numbered(3), encoders=encoders)) as video:
        assert len(list(video)) == 3
    with pytest.raises(InputError, match=r"b\.mp4: cannot write this video"):
        write_video(tmp_path / "b.mp4", numbered(3), encoders={"libx264": broken})
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_an_interrupted_run_keeps_the_video_so_far(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4") as writer:  # noqa: PT012
        for image in numbered(5):
            writer.write(image)
        assert not (tmp_path / "a.mp4").exists()  # only when it is complete
        raise KeyboardInterrupt
    with Video(tmp_path / "a.mp4") as video:
        assert len(list(video)) == 5
        assert not video.is_cut


@pytest.mark.slow
def test_a_killed_process_leaves_the_previous_file_and_no_incomplete_one(tmp_path):
    before = write_video(tmp_path / "a.mp4", numbered(3)).read_bytes()
    script = """
import os, signal, sys
import numpy as np
from wing_jax.inference.video_writer import VideoWriter
with VideoWriter(sys.argv[1]) as writer:
    for _ in range(60):
        writer.write(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.mp4")], check=False, timeout=60)
    assert run.returncode < 0
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["a.mp4"]
    write_video(tmp_path / "a.mp4", numbered(4))  # the next run removes the unfinished file
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_an_error_while_writing_leaves_the_previous_file(tmp_path, monkeypatch):
    before = write_video(tmp_path / "a.mp4", numbered(3)).read_bytes()
    rejected = pytest.raises(
        InputError, match=r"a\.mp4: cannot write this video \(No space left on device\): free disk space"
    )
    with rejected, VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(numbered(1)[0])

        def full(packets):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writer._output, "_mux", full)
        writer.write(numbered(1)[0])
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_without_frames_no_file_is_written(tmp_path):
    write_video(tmp_path / "below" / "a.mp4", [])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [b"a:b.mp4", b"http:x.mp4", b"clip_%03d.mp4", b"x [id].mp4", b"-x.mp4", b"m\xfcller.mp4", b"new\nline.mp4",
     b"a" * 251 + b".mp4", ("\u00e4" * 125).encode() + b".mp4"],
)  # fmt: skip
def test_a_video_is_written_under_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(os.fsdecode(name), numbered(3))
    assert os.listdir(os.fsencode(tmp_path)) == [name]
    with Video(os.fsdecode(name)) as video:
        assert len(list(video)) == 3
