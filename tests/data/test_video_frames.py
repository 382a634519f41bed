"""Video files of all kinds: every frame has the right rotation, colors and time, in sequence and by number."""

import os

import av
import cv2
import numpy as np
import PIL.Image
import pytest

from tests.support.writers.videos import numbered, write_video
from wing_jax.data.video_frames import CONTAINERS, read_numbered
from wing_jax.errors import InputError
from wing_jax.inference import video as module
from wing_jax.inference.video import VIDEO_ENDINGS, Video

VARIABLE = [0, 33, 67, 180, 181, 500, 2500]  # milliseconds
KINDS = {
    "b.mp4": {"options": {"bf": "3", "g": "5"}},
    "open.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=5:scenecut=0:b-pyramid=2"}},
    "h264.avi": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=5:scenecut=0:b-pyramid=2"}},
    "closed.avi": {"options": {"bf": "2", "g": "10"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "5", "b": "4M"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "5"}},
    "alpha.webm": {"codec": "libvpx-vp9", "pixels": "yuva420p", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "ten.mkv": {"container": "matroska", "pixels": "yuv420p10le", "options": {"bf": "2"}},
    "full.mov": {"pixels": "yuv444p"},
    "palette.mov": {"codec": "qtrle", "pixels": "rgb24"},
    "stream.m2ts": {"container": "mpegts"},
    "program.mpg": {"codec": "mpeg2video", "container": "mpeg", "options": {"bf": "2", "b": "4M"}},
    "flash.flv": {},
    "windows.wmv": {"codec": "wmv2", "container": "asf", "options": {"b": "4M"}},
    "phone.3gp": {"codec": "mpeg4", "options": {"b": "4M"}},
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_of_every_kind_are_read_in_order_and_by_number(tmp_path, name):
    images = numbered(24, step=5)
    path = write_video(tmp_path / name, images, **KINDS[name])
    with Video(path) as video:
        frames = list(video)
        assert not video.is_cut
        assert not video.faults
    assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(24)], abs=1e-3)
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.flags.c_contiguous
        assert frame.image.dtype == np.uint8
        np.testing.assert_allclose(frame.image.mean((0, 1)), image.mean((0, 1)), atol=6)
    for number in (24, 2, 9, 1, 6, 7, 13, 3, 12, 4, 11, 5, 10, 8, 23, 20):
        np.testing.assert_array_equal(read_numbered(path, number, largest=10**6, hint=""), frames[number - 1].image)
    assert read_numbered(path, 25, largest=10**6, hint="") is None
    assert read_numbered(path, 0, largest=10**6, hint="") is None


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv"])
def test_each_frame_has_its_own_time(tmp_path, name):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    container = "matroska" if name.endswith("mkv") else None
    path = write_video(tmp_path / name, numbered(7), codec=codec, container=container, milliseconds=VARIABLE)
    with Video(path) as video:
        assert [1000 * frame.seconds for frame in video] == pytest.approx(VARIABLE, abs=1)
    capture, times = cv2.VideoCapture(str(path)), []
    while capture.read()[0]:
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    assert times == pytest.approx(VARIABLE, abs=1)


def test_time_counts_from_the_first_frame(tmp_path):
    path = write_video(tmp_path / "late.webm", numbered(3), codec="libvpx-vp9", milliseconds=[540, 600, 850])
    with Video(path) as video:
        assert [frame.seconds for frame in video] == pytest.approx([0, 0.06, 0.31], abs=1e-3)
    path = write_video(tmp_path / "late.ts", numbered(9), container="mpegts")  # these start at 1.4 s
    with Video(path) as video:
        assert [frame.seconds for frame in video][:3] == pytest.approx([0, 0.04, 0.08], abs=1e-3)


def test_times_continue_where_a_recording_restarts(tmp_path):
    """Two concatenated transport streams, as cameras split them: the second one starts at 1.4 s again."""
    first = write_video(tmp_path / "first.ts", numbered(60, step=2), container="mpegts")
    second = write_video(tmp_path / "second.ts", numbered(10), container="mpegts")
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with Video(both) as video:
        seconds = [frame.seconds for frame in video]
    assert len(seconds) == 70
    assert np.diff(seconds) == pytest.approx(np.full(69, 0.04), abs=2e-3)


class FakeFrame:
    """A decoded frame with a time and nothing else."""

    def __init__(self, pts):
        self.pts, self.duration = pts, 0


def test_frames_without_a_time_and_wrong_times(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(2))
    with av.open(str(path)) as container:
        clock = module.Clock(container.streams.video[0], rate=25.0)
        tick = 1 / container.streams.video[0].time_base / 1000  # of a millisecond
        times = [clock(FakeFrame(None if ms is None else int(ms * tick))) for ms in (0, None, 80, 80, 60, 160)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.08, 0.08, 0.16], abs=2e-3)
    assert (np.diff(times) > 0).all()
    assert clock.gap == pytest.approx(0.08, abs=2e-3)


def write_rotation(path, matrix):
    """Write a phone's rotation matrix into the track header of an .mp4."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    numbers = (matrix[0] << 16, matrix[1] << 16, 0, matrix[2] << 16, matrix[3] << 16, 0, 0, 0, 1 << 30)
    content[place : place + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
    ids=["90", "180", "270", "mirrored", "mirrored and rotated"],
)
def test_the_rotation_matrix_of_phones_is_applied(tmp_path, matrix, expected):
    image = numbered(1)[0]
    image[:16, :16] = (20, 20, 250)
    path = write_video(tmp_path / "a.mp4", image[None])
    with Video(path) as video:
        (plain,) = video
    write_rotation(path, matrix)
    with Video(path) as video:
        (frame,) = video
    np.testing.assert_array_equal(frame.image, expected(plain.image))
    assert frame.image.flags.c_contiguous
    np.testing.assert_array_equal(read_numbered(path, 1, largest=10**6, hint=""), frame.image)
    if matrix[0] * matrix[3] - matrix[1] * matrix[2] > 0:  # OpenCV does not mirror
        np.testing.assert_array_equal(cv2.VideoCapture(str(path)).read()[1][:, :, ::-1], frame.image)


def test_the_color_matrix_of_the_file_is_applied(tmp_path):
    image = np.zeros((1, 48, 64, 3), np.uint8)
    image[:, :24], image[:, 24:] = (200, 60, 40), (40, 90, 180)
    for matrix in ("bt709", "smpte170m", "bt2020nc"):
        path = tmp_path / f"{matrix}.mp4"
        with open(path, "wb") as file, av.open(file, "w", format="mp4") as output:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
            number = {"bt709": 1, "smpte170m": 5, "bt2020nc": 9}[matrix]
            stream.codec_context.options = {"x264-params": f"colormatrix={matrix}", "crf": "5"}
            stream.codec_context.colorspace = {5: 6}.get(number, number)
            frame = av.VideoFrame.from_ndarray(image[0], format="rgb24")
            frame = frame.reformat(format="yuv444p", dst_colorspace=number, dst_color_range=1)
            frame.pts = 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        with Video(path) as video:
            (decoded,) = video
        np.testing.assert_allclose(decoded.image[[5, 40], 30].astype(int), image[0, [5, 40], 30].astype(int), atol=3)


def test_odd_sizes_and_a_size_that_changes_within_the_stream(tmp_path):
    path = write_video(tmp_path / "odd.avi", numbered(2, height=47, width=63), codec="mjpeg", pixels="yuvj444p")
    with Video(path) as video:
        assert [frame.image.shape for frame in video] == [(47, 63, 3)] * 2
    small = write_video(tmp_path / "small.ts", numbered(3), container="mpegts")
    large = write_video(tmp_path / "large.ts", numbered(3, height=96, width=80), container="mpegts")
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with Video(tmp_path / "both.ts") as video:
        assert [frame.image.shape for frame in video] == [(48, 64, 3)] * 3 + [(96, 80, 3)] * 3


def test_frames_that_become_too_large_are_not_decoded(tmp_path):
    small = write_video(tmp_path / "small.ts", numbered(3), container="mpegts")
    large = write_video(tmp_path / "large.ts", numbered(3, height=96, width=80), container="mpegts")
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with Video(tmp_path / "both.ts", largest=5000) as video:
        assert {frame.image.shape for frame in video} == {(48, 64, 3)}
        assert video.faults


@pytest.mark.parametrize("sound", [0, 3])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_truncated_file_is_detected_and_a_complete_one_is_not(tmp_path, name, sound):
    settings = {".mkv": {"container": "matroska"}, ".avi": {"codec": "mjpeg", "pixels": "yuvj420p"}}
    if sound and name == "a.avi":
        pytest.skip("the writer of these tests writes no audio into .avi")
    noise = np.random.default_rng(0).integers(0, 256, (25, 48, 64, 3), np.uint8)
    path = write_video(
        tmp_path / name, noise, sound=sound, container_options={"movflags": "+faststart"} if name == "a.mp4" else None,
        **settings.get(path_ending(name), {}),
    )  # fmt: skip
    with Video(path) as video:
        assert len(list(video)) == 25
        assert not video.is_cut  # although the audio is longer
    if sound and name == "a.mkv":  # also without the length of the frames alone
        (tmp_path / "b.mkv").write_bytes(path.read_bytes().replace(b"DURATION", b"NO_WORDS"))
        with Video(tmp_path / "b.mkv") as video:
            assert len(list(video)) == 25
            assert video.length > 2.5
            assert not video.is_cut
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with Video(path) as video:
        assert 5 < len(list(video)) < 22
        assert video.is_cut
        assert video.length == pytest.approx(1, abs=0.05)
        assert video.end < 0.9


def path_ending(name):
    return os.path.splitext(name)[1]


def test_a_video_without_a_length(tmp_path):
    """Recordings of browsers: no length in the header, and a rate of 1,000 a second."""
    path = write_video(
        tmp_path / "live.webm", numbered(5), codec="libvpx-vp9", milliseconds=[0, 47, 100, 133, 180],
        container_options={"live": "1"},
    )  # fmt: skip
    with Video(path) as video:
        frames = list(video)
        assert (len(frames), video.is_cut, video.length) == (5, False, None)


@pytest.mark.parametrize("start", [0, 5000])
def test_a_length_that_ends_before_the_first_frame_is_none(tmp_path, start):
    """FLV states the length of the recording, whose times need not start at 0."""
    times = [start + time for time in (0, 100, 200)]
    path = write_video(tmp_path / "a.flv", numbered(3), milliseconds=times)
    with Video(path) as video:
        assert len(list(video)) == 3
        assert video.length == (None if start else pytest.approx(0.24, abs=0.07))


def test_corruption_inside_a_video_loses_only_its_frames(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / "a.mov", noise, codec="png", pixels="rgb24")
    content = bytearray(path.read_bytes())
    place = [i for i in range(len(content)) if content[i : i + 4] == b"\x89PNG"][5]
    content[place : place + 60] = bytes(60)
    path.write_bytes(content)
    with Video(path) as video:
        frames = list(video)
        assert len(video.faults) == 1
    assert [round(frame.seconds * 25) for frame in frames] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(frames[-1].image, noise[-1])


def test_audio_alone_is_not_a_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48000
        output.mux(stream.encode(silence))
        output.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"sound\.mp4: no video in this file, only audio or a cover picture"):
        Video(path)


@pytest.mark.parametrize("ending", ["png", "gif", "bmp"])
def test_a_picture_with_the_ending_of_a_video_is_rejected(tmp_path, ending):
    PIL.Image.fromarray(numbered(1)[0]).save(tmp_path / f"a.{ending}")
    (tmp_path / f"a.{ending}").rename(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"a\.mp4: cannot read this video"):
        Video(tmp_path / "a.mp4")


def test_a_video_that_is_not_closed_causes_no_warning(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(3))
    assert len(list(Video(path))) == 3
    frame = next(iter(Video(path)))
    assert frame.image.shape == (48, 64, 3)


@pytest.mark.parametrize(
    "name",
    [b"a:b.mp4", b"http:x.mp4", b"file:x.mp4", b"clip_%03d.mp4", b"x [id].mp4", b"-x.mp4", b"m\xfcller.mp4",
     b"new\nline.mp4", b"a\\b.mp4", b"concat:a|b.mp4", b"a" * 251 + b".mp4", "e\u0301\u202f\u3000.mp4".encode()],
)  # fmt: skip
def test_a_video_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", numbered(3)).rename(os.fsdecode(name))
    for path in (os.fsdecode(name), tmp_path / os.fsdecode(name)):
        with Video(path) as video:
            assert len(list(video)) == 3
        assert read_numbered(path, 2, largest=10**6, hint="").shape == (48, 64, 3)


def test_endings_and_containers_are_valid():
    assert all(ending == ending.lower() and ending.startswith(".") for ending in VIDEO_ENDINGS)
    assert len(VIDEO_ENDINGS) == len(set(VIDEO_ENDINGS))
    known = {name for format_name in av.formats_available for name in format_name.split(",")}
    assert set(CONTAINERS.split(",")) <= known
