"""Videos and cameras: frames are read back as written, corrupted files are reported."""

import cv2
import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.inference import video as module
from wing_jax.inference.video import Video, VideoWriter, Window


def frames(count=7, height=48, width=64):
    """Return smooth pictures of different brightness, redder at the left, which a codec preserves."""
    rows = np.linspace(0, 60, width)
    pictures = np.zeros((count, height, width, 3))
    pictures[..., 0] = 120 - rows
    pictures += 12 * np.arange(count)[:, None, None, None]
    return pictures.astype(np.uint8)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "below" / "clip.mp4"
    with VideoWriter(path, rate=20.0) as writer:
        for image in frames():
            writer.write(image)
    return path


def test_frames_are_read_in_order_with_their_times(clip):
    with Video(clip) as video:
        assert video.rate == pytest.approx(20)
        assert video.frames == 7
        assert video.length == pytest.approx(0.35)
        images = list(video)
    assert [frame.seconds for frame in images] == pytest.approx([n / 20 for n in range(7)])
    np.testing.assert_allclose(np.stack([frame.image for frame in images]).astype(int), frames().astype(int), atol=12)


def test_a_missing_file_and_a_file_that_is_not_a_video(tmp_path):
    with pytest.raises(InputError, match=r"none\.mp4: no such video"):
        Video(tmp_path / "none.mp4")
    for path in (tmp_path, "a\0b.mp4", "a" * 300 + ".mp4"):
        with pytest.raises(InputError, match="no such video: check the path"):
            Video(path)
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(InputError, match=r"text\.mp4: cannot read this video: check the path, or convert it"):
        Video(tmp_path / "text.mp4")


@pytest.mark.parametrize("source", [None, True, 1.5, b"a.mp4", np.zeros((4, 4, 3))])
def test_a_source_of_another_type_is_refused(source):
    with pytest.raises(InputError, match=r"source=.*: pass the path of a video, or the number of a camera"):
        Video(source)


def test_a_missing_camera(monkeypatch):
    closed = cv2.VideoCapture()
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: closed)
    with pytest.raises(InputError, match="camera 7: cannot read this video: check that the camera is connected"):
        Video(7)
    with pytest.raises(InputError, match="camera 0: cannot read"):
        Video(np.int64(0))


def test_frames_beyond_the_limit_are_refused(clip):
    with pytest.raises(InputError, match="frames of more than 3,000 pixels"):
        Video(clip, largest=3000)


class Capture:
    """A stub for the capture of OpenCV, with invalid properties."""

    def __init__(self, rate=0.0, count=-1.0, images=()):
        self.properties = {cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_FRAME_COUNT: count}
        self.images = list(images)

    def isOpened(self):
        return True

    def get(self, name):
        return self.properties.get(name, 10.0)

    def read(self):
        if not self.images:
            raise cv2.error("corrupted")
        return True, self.images.pop(0)

    def release(self):
        pass


def test_frames_of_a_camera_have_the_time_of_their_capture(monkeypatch):
    source = Capture(rate=float("nan"), images=frames(3))
    ticks = iter([7.0, 7.5, 7.75])
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: source)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    with Video(0) as video:
        assert (video.name, video.rate, video.frames, video.length) == ("camera 0", 25.0, None, None)
        images = list(video)  # the frames before the error
        assert not video.is_cut
    assert [frame.seconds for frame in images] == [0, 0.5, 0.75]
    np.testing.assert_array_equal(images[2].image, frames(3)[2][:, :, ::-1])


def test_a_camera_with_frames_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: Capture())
    with pytest.raises(InputError, match="camera 0: frames of more than 99 pixels: choose a smaller size"):
        Video(0, largest=99)


def test_a_video_without_readable_frames(clip, monkeypatch):
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: Capture())
    with Video(0) as video, pytest.raises(InputError, match="no frame of this video can be read"):
        list(video)
    content = clip.read_bytes()
    start = content.index(b"mdat") + 4
    clip.write_bytes(content[:start] + bytes(len(content) - start))  # all frames corrupted
    with pytest.raises(InputError, match="no frame of this video can be read"):
        list(Video(clip))


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    rejected = pytest.raises(InputError, match=r"clip\.mp4: cannot write this video")
    with VideoWriter(tmp_path / "file" / "clip.mp4", rate=25) as writer, rejected:
        writer.write(frames()[0])


def test_a_window_needs_a_screen(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="pass --no_window"):
        Window("title")
    monkeypatch.setenv("DISPLAY", ":0")
    images = []
    monkeypatch.setattr(module.cv2, "imshow", lambda title, image: images.append(image))
    monkeypatch.setattr(module.cv2, "waitKey", lambda delay: -1 if len(images) < 2 else ord("q"))
    window, (first, second, *_) = Window("title"), frames()
    assert window.show(first)
    assert not window.show(second)
    np.testing.assert_array_equal(images[0], first[:, :, ::-1])
