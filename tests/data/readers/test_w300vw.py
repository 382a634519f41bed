"""300-VW: videos written here, and published frames."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.videos import numbered, write_video
from tests.support.writers.w300vw import write_w300vw
from wing_jax.data.images import Embedded, write_image
from wing_jax.data.readers.w300vw import VIDEOS, read_300vw, read_frame
from wing_jax.errors import InputError
from wing_jax.inference.video import Video
from wing_jax.schemes import IBUG_68


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_written_files_are_read(tmp_path, split):
    written = write_w300vw(tmp_path)[split]
    read = read_300vw(tmp_path, split)
    assert read.scheme is IBUG_68
    np.testing.assert_allclose(read.points, [face.points for face in written], atol=6e-4)
    expected = {
        "train": (("300vw/001",) * 3, ("training",) * 3),
        "test": (("300vw/401", "300vw/410"), ("category 1", "category 3")),
    }
    assert (read.photos, read.subsets) == expected[split]
    for i in reversed(range(len(read))):  # in reverse order
        distances = [np.abs(read.picture(i).astype(int) - face.image).mean() for face in written]
        assert np.argmin(distances) == i
        assert distances[i] < 8


def test_extracted_frames_are_preferred(tmp_path):
    face = write_w300vw(tmp_path)["train"][1]
    write_image(tmp_path / "001" / "imgs" / "000002.png", face.image)
    read = read_300vw(tmp_path, "train")
    assert [isinstance(picture, Embedded) for picture in read.pictures] == [True, False, True]
    np.testing.assert_array_equal(read.picture(1), face.image)


def test_the_published_frames(data_root):
    root = data_root / "formats" / "mmpose_tests_data" / "300vw"
    train, test = (read_300vw(root, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (2, 2)
    assert test.subsets == ("category 1",) * 2
    np.testing.assert_allclose(train.points[0, 0], [742.224, 196.764], rtol=1e-6)
    assert train.picture(0).shape == (720, 1280, 3)
    assert test.picture(1).shape == (512, 700, 3)


def test_the_numbers_of_the_videos():
    counts = {subset: len(set(videos)) for subset, videos in VIDEOS.items()}
    assert counts == {"training": 50, "category 1": 31, "category 2": 19, "category 3": 14}
    assert len({video for videos in VIDEOS.values() for video in videos}) == 114


def test_missing_videos_and_annotations_are_refused(tmp_path):
    assert "no video of the train split" in refusal(read_300vw, tmp_path, "train")
    (tmp_path / "001").mkdir()
    message = refusal(read_300vw, tmp_path, "train", faults=[])
    assert message.startswith(f"{tmp_path / '001' / 'annot'}: no .pts file")


GOOD = "version: 1\nn_points: 68\n{\n" + "1.5 2\n" * 67 + "3 4\n}\n"
DAMAGE = {
    "67 points": (GOOD.replace("3 4\n", "").replace("68", "67"), ": 67 points, but 68"),
    "NaN": (GOOD.replace("3 4", "nan 4"), ":71: 'nan 4' is not finite"),
    "inf": (GOOD.replace("3 4", "3 -inf"), ":71: '3 -inf' is not finite"),
    "text": (GOOD.replace("3 4", "three 4"), ":71: 'three 4' is not two numbers"),
    "one number": (GOOD.replace("3 4", "3"), ":71: '3' is not two numbers"),
    "other count": (GOOD.replace("68", "69"), ": 68 points, but 69 in the header"),
    "empty": ("", "between a line '{' and a line '}'"),
    "truncated": (GOOD[:90], "between a line '{' and a line '}'"),
}


@pytest.mark.parametrize(("content", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_a_fault_of_one_face_stops_or_is_gathered(tmp_path, content, expected):
    write_w300vw(tmp_path)
    file = tmp_path / "001" / "annot" / "000002.pts"
    file.write_text(content)
    message = refusal(read_300vw, tmp_path, "train")
    assert message.startswith(str(file))
    assert expected in message
    faults = []
    assert len(read_300vw(tmp_path, "train", faults=faults)) == 2
    assert faults == [message]


@pytest.mark.parametrize("name", ["frame.pts", "0.pts", "-1.pts", "²².pts", "1234567890.pts"])
def test_annotations_are_named_by_frame_number(tmp_path, name):
    write_w300vw(tmp_path)
    folder = tmp_path / "001" / "annot"
    (folder / name).write_text(GOOD)
    faults = []
    assert len(read_300vw(tmp_path, "train", faults=faults)) == 3
    assert "not a frame number" in faults[0]
    assert faults[0].startswith(str(folder / name))


@pytest.mark.parametrize("variant", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, GOOD.replace("\n", "\n\n")])
def test_harmless_variants_are_read(tmp_path, variant):
    write_w300vw(tmp_path)
    (tmp_path / "001" / "annot" / "000001.pts").write_text(variant, newline="", encoding="utf-8")
    np.testing.assert_array_equal(read_300vw(tmp_path, "train").points[0, 66:], [[0.5, 1], [2, 3]])


@pytest.mark.parametrize("number", [4, 5, 1_000_000, 999_999_999])
def test_a_frame_after_the_end_is_refused(tmp_path, number):
    write_w300vw(tmp_path)
    (tmp_path / "001" / "annot" / f"{number:06}.pts").write_text(GOOD)
    read = read_300vw(tmp_path, "train")
    message = refusal(read.picture, 3)
    assert message.startswith(f"{tmp_path / '001' / 'vid.avi'}: cannot read frame {number}")


@pytest.mark.parametrize(
    ("codec", "options"),
    [("mpeg4", {"bf": "2", "g": "6"}), ("libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=6:scenecut=0"})],
)
def test_a_frame_read_by_number_equals_the_one_of_sequential_reading(tmp_path, codec, options):
    """The stored order of pictures differs from the display order, and most depend on their neighbors."""
    video = write_video(tmp_path / "vid.avi", numbered(20, step=6), codec=codec, options=options)
    with Video(video) as video_reader:
        frames = [frame.image for frame in video_reader]
    assert len(frames) == 20
    for number in (20, 1, 13, 7, 6, 5, 19, 2):
        np.testing.assert_array_equal(read_frame(video, number), frames[number - 1])
    with pytest.raises(InputError, match="cannot read frame 21"):
        read_frame(video, 21)
    write_video(video, numbered(3), codec=codec)  # another video with the same path
    with Video(video) as video_reader:
        np.testing.assert_array_equal(read_frame(video, 3), list(video_reader)[2].image)


@pytest.mark.parametrize("content", [b"", b"not a video" * 20])
def test_a_broken_video_is_refused_when_a_frame_is_read(tmp_path, content):
    write_w300vw(tmp_path)
    video = tmp_path / "001" / "vid.avi"
    video.write_bytes(content)
    read = read_300vw(tmp_path, "train")
    assert refusal(read.picture, 0).startswith(f"{video}: cannot read this video")
    video.unlink()
    assert refusal(read.picture, 0).startswith(f"{video}: cannot read this video")
    assert f"neither {video}" in refusal(read_300vw, tmp_path, "train")


@settings(max_examples=20)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_video_gives_a_picture_or_an_input_error(place, byte, cut):
    with tempfile.TemporaryDirectory() as folder:
        write_w300vw(Path(folder))
        video = Path(folder) / "001" / "vid.avi"
        content = bytearray(video.read_bytes())
        position = int(place * len(content))
        content[position] = byte
        video.write_bytes(content[:position] if cut else content)
        message = ""
        try:
            picture = read_frame(video, 2)
        except InputError as error:
            message = str(error)
        if message:
            assert str(video) in message
            return
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
