"""Videos and cameras: what is written comes back, what is broken is named."""

import cv2
import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.inference import video as module
from wing_jax.inference.video import Video, VideoWriter, Window


def frames(count=7, height=48, width=64):
    """Smooth pictures, each of another gray, red to the left: what a codec keeps."""
    rows = np.linspace(0, 60, width)
    pictures = np.zeros((count, height, width, 3))
    pictures[..., 0] = 120 - rows
    pictures += 12 * np.arange(count)[:, None, None, None]
    return pictures.astype(np.uint8)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "below" / "clip.mp4"
    with VideoWriter(path, rate=20.0) as writer:
        for image in frames():
            writer.write(image)
    return path


def test_frames_come_back_in_order_with_their_times(written):
    with Video(written) as video:
        assert video.rate == pytest.approx(20)
        assert video.frames == 7
        assert video.length == pytest.approx(0.35)
        read = list(video)
    assert [frame.seconds for frame in read] == pytest.approx([n / 20 for n in range(7)])
    np.testing.assert_allclose(np.stack([frame.image for frame in read]).astype(int), frames().astype(int), atol=12)


def test_a_video_that_is_not_there_or_none(tmp_path):
    with pytest.raises(InputError, match=r"none\.mp4: no such video"):
        Video(tmp_path / "none.mp4")
    for path in (tmp_path, "a\0b.mp4", "a" * 300 + ".mp4"):
        with pytest.raises(InputError, match="no such video: check the path"):
            Video(path)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4: cannot read this video: check the path, or convert it"):
        Video(tmp_path / "text.mp4")


@pytest.mark.parametrize("source", [None, True, 1.5, b"a.mp4", np.zeros((4, 4, 3))])
def test_what_is_neither_a_path_nor_a_number_is_refused(source):
    with pytest.raises(InputError, match="a video is read from a path or the number of a camera, not from"):
        Video(source)


def test_a_camera_that_is_not_there(monkeypatch):
    nothing = cv2.VideoCapture()  # has opened nothing
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: nothing)
    with pytest.raises(InputError, match="camera 7: cannot read this video: see that it is plugged in"):
        Video(7)
    with pytest.raises(InputError, match="camera 0: cannot read"):
        Video(np.int64(0))


def test_frames_beyond_the_limit_are_refused(written):
    with pytest.raises(InputError, match="frames of more than 3,000 pixels"):
        Video(written, largest=3000)


class Capture:
    """Stands for OpenCV's, with the numbers that a broken source tells."""

    def __init__(self, rate=0.0, count=-1.0, images=()):
        self.numbers = {cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_FRAME_COUNT: count}
        self.images = list(images)

    def isOpened(self):
        return True

    def get(self, name):
        return self.numbers.get(name, 10.0)

    def read(self):
        if not self.images:
            raise cv2.error("damage")
        return True, self.images.pop(0)

    def release(self):
        pass


def test_a_camera_gives_frames_with_the_times_at_which_they_came(monkeypatch):
    source = Capture(rate=float("nan"), images=frames(3))
    ticks = iter([7.0, 7.5, 7.75])
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: source)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    with Video(0) as video:
        assert (video.name, video.rate, video.frames, video.length) == ("camera 0", 25.0, None, None)
        read = list(video)  # what can be read before the damage
        assert not video.is_cut
    assert [frame.seconds for frame in read] == [0, 0.5, 0.75]
    np.testing.assert_array_equal(read[2].image, frames(3)[2][:, :, ::-1])


def test_a_camera_with_frames_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: Capture())
    with pytest.raises(InputError, match="camera 0: frames of more than 99 pixels: choose a smaller size"):
        Video(0, largest=99)


def test_not_one_frame(written, monkeypatch):
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: Capture())
    with Video(0) as video, pytest.raises(InputError, match="not one frame of this video can be read"):
        list(video)
    content = written.read_bytes()
    place = content.index(b"mdat") + 4
    written.write_bytes(content[:place] + bytes(len(content) - place))  # all pictures damaged
    with pytest.raises(InputError, match="not one frame of this video can be read"):
        list(Video(written))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(InputError, match=r"clip\.mp4: cannot write this video")
    with VideoWriter(tmp_path / "file" / "clip.mp4", rate=25) as writer, refused:
        writer.write(frames()[0])


def test_a_window_needs_a_screen(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="give --no_window"):
        Window("title")
    monkeypatch.setenv("DISPLAY", ":0")
    shown = []
    monkeypatch.setattr(module.cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(module.cv2, "waitKey", lambda delay: -1 if len(shown) < 2 else ord("q"))
    window, (first, second, *_) = Window("title"), frames()
    assert window.show(first)
    assert not window.show(second)
    np.testing.assert_array_equal(shown[0], first[:, :, ::-1])
