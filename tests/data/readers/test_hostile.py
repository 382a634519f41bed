"""Hostile files: nothing is read or written outside of the given folders, and every error message is one line.

A part of `reliability/fuzz.py`, and cases that random changes rarely produce.
"""

import hashlib
import io
import json
import os
import random
import re
import stat
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.formats import WRITERS, load
from tests.support.hostile import TARGETS, VIDEOS, Files, Target, Watch, corrupt, write_files
from tests.support.situations import SITUATIONS
from wing_jax.config_files import load_config
from wing_jax.data import video_frames
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.inference.bundle import read_bundle
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.video import Video
from wing_jax.models import cpu_kernel
from wing_jax.runtime import files

CASES = 40  # of each target
SITUATION_CASES = 12  # of each situation
HUGE = (b"9" * 1_000_000, b"x" * 1_000_000, "\u5b57".encode() * 400_000, b"0.5 " * 250_000, b"-" + b"1e5" * 300_000)


def read_message(target: Target, folder: Path) -> str:
    """Return the message of InputError; empty if the files are read without it."""
    try:
        target.read(folder)
    except InputError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def watch():
    cpu_kernel.load(build=False)  # the first prediction of a process opens files about its processor
    return Watch()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries, about broken files
@pytest.mark.parametrize("name", TARGETS)
def test_corrupted_files_are_read_or_refused_in_one_line(name, tmp_path, watch):
    target = TARGETS[name]
    (tmp_path / "sound").mkdir()
    sound = target.sound(tmp_path / "sound")
    target.read(tmp_path / "sound")
    rejected = 0
    for case in range(CASES):
        folder = tmp_path / str(case)
        folder.mkdir()
        write_files(folder, *corrupt(sound, random.Random(f"{name} {case}")))
        with watch.within(folder) as opened:
            message = read_message(target, folder)
        assert "\n" not in message
        rejected += message != ""
        assert [path for path in opened if not path.endswith(target.named)] == []
    assert rejected > CASES / 8


@pytest.mark.slow
@pytest.mark.parametrize("name", SITUATIONS)
def test_unusual_valid_input_is_read_and_nothing_outside_is_touched(name, tmp_path, watch):
    for case in range(SITUATION_CASES):
        folder = tmp_path / str(case)
        folder.mkdir()
        judge, message = SITUATIONS[name][0](folder, random.Random(f"{name} {case}")), ""
        with watch.within(folder) as opened:
            try:
                judge()
            except InputError as error:
                message = str(error)
        assert "\n" not in message
        allowed = (f"{folder / 'results'}/", f"{folder} to read")
        assert [path for path in opened if not path.startswith(allowed)] == []


def with_huge_word(valid: Files, draw: random.Random) -> Files:
    """Replace one word of a text by a huge one, like the pixels of a picture in a cell or a picture in base64."""
    texts = [path for path, content in valid.items() if b"\0" not in content and content.isascii()]
    path = draw.choice(texts)
    word = draw.choice(list(re.finditer(rb"[^\s,;:=<>\[\](){}\"']+", valid[path])))
    return {**valid, path: valid[path][: word.start()] + draw.choice(HUGE) + valid[path][word.end() :]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in TARGETS if " " not in name and name not in VIDEOS])
def test_messages_never_contain_a_cell_of_a_megabyte(name, tmp_path):
    target = TARGETS[name]
    (tmp_path / "sound").mkdir()
    sound = target.sound(tmp_path / "sound")
    if not any(b"\0" not in content and content.isascii() for content in sound.values()):
        pytest.skip("none of its files is text")
    for case in range(6 if name == "TFDS" else 12):
        folder = tmp_path / str(case)
        folder.mkdir()
        write_files(folder, with_huge_word(sound, random.Random(f"{name} {case}")), {})
        message = read_message(target, folder)
        assert len(message) < 500, message


def test_the_watch_sees_what_it_should(tmp_path, watch):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    folder.mkdir()
    outside.write_text("secret")
    (folder / "link").symlink_to(outside)
    (folder / "own").write_text("")
    with watch.within(folder) as opened:
        (folder / "own").read_text()
        (folder / "link").read_text()
        (folder / "new").write_text("")
        outside.read_bytes()
    assert opened == [f"{folder / 'link'} to read", f"{folder / 'new'} to write", f"{outside} to read"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_link_that_leads_out_of_the_data_is_refused_and_one_within_is_not(name, tmp_path, watch, monkeypatch):
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    WRITERS[name](folder)
    faces = load(name, folder)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    picture = next((path for path in faces.pictures if isinstance(path, Path)), paths[0])
    outside.write_bytes(picture.read_bytes())
    picture.unlink()
    picture.symlink_to(outside)
    with watch.within(folder) as opened, pytest.raises(InputError, match="outside its folder") as caught:
        load(name, folder)
    assert str(picture) in str(caught.value)
    assert "WING_JAX_FOLLOW_LINKS=1" in str(caught.value)
    assert [path for path in opened if not path.endswith(TARGETS[name].named)] == []
    monkeypatch.setenv("WING_JAX_FOLLOW_LINKS", "1")
    np.testing.assert_array_equal(load(name, folder).points, faces.points)
    monkeypatch.delenv("WING_JAX_FOLLOW_LINKS")
    inner = picture.with_name(f"inner{picture.suffix}.kept")
    inner.write_bytes(outside.read_bytes())
    picture.unlink()
    picture.symlink_to(inner.name)
    if name != "packed":  # which checks its files
        np.testing.assert_array_equal(load(name, folder).points, faces.points)


def test_the_root_itself_may_be_a_link(tmp_path):
    WRITERS["w300"](tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(load_faces("w300", "train", root=str(tmp_path / "link"))) >= 2


def test_pipes_and_devices_are_refused(tmp_path):
    WRITERS["w300"](tmp_path / "data")
    pipe = tmp_path / "data" / "pipe.pts"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"pipe\.pts: a device or a pipe"):
        load("w300", tmp_path / "data")
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(OSError, match="a device or a pipe"):
            files.read_bytes(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_files_are_read_up_to_a_size(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "file", largest=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        files.read_bytes(tmp_path / "file", largest=4)
    (tmp_path / "file").write_bytes(b"a\r\nb\rc")
    assert files.read_text(tmp_path / "file") == "a\nb\nc"


@pytest.mark.parametrize("ending", VIDEOS)
@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "ffconcat version 1.0\nfile '{}'\noption safe 0\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' "
        "mediaPresentationDuration='PT1S'><Period><AdaptationSet mimeType='video/mp4'><Representation id='1'>"
        "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=control:{}\n",
    ],
)
@pytest.mark.parametrize("pattern", ["{}", "../outside.avi", "file://{}"])
def test_a_playlist_with_the_ending_of_a_video_is_refused(ending, content, pattern, tmp_path, capfd):
    TARGETS["avi"].write(tmp_path)
    outside = tmp_path / "video.avi"
    outside.rename(tmp_path / "outside.avi")
    (tmp_path / "folder").mkdir()
    video = tmp_path / "folder" / f"video.{ending}"
    video.write_text(content.format(pattern.format(tmp_path / "outside.avi")))
    with pytest.raises(InputError, match="cannot read this video"):
        list(Video(video))
    capfd.readouterr()  # messages of the decoder


def test_no_video_opens_another_file(tmp_path, monkeypatch):
    """Files named by playlists are not opened even if FFmpeg may read playlists."""
    TARGETS["m2ts"].write(tmp_path)
    video = tmp_path / "list.mp4"
    video.write_text("ffconcat version 1.0\nfile video.m2ts\n")
    monkeypatch.chdir(tmp_path)
    with av.open(str(video), format="concat") as container:
        assert len(list(container.decode(video=0))) == 4  # the default behavior of FFmpeg
    monkeypatch.setattr(video_frames, "CONTAINERS", f"concat,{video_frames.CONTAINERS}")
    with pytest.raises(InputError, match="cannot read this video"):
        list(Video(video))
    with pytest.raises(PermissionError, match="a video must be one file"):
        video_frames.reject_other_files("video.m2ts", 1, {})


def bomb(name: str, size: int) -> bytes:
    """Make a small .npz whose array `name` has `size` bytes."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
        for _ in range(size >> 24):
            file.write(bytes(1 << 24))
    return content.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "packed"])
def test_archives_that_unpack_to_too_much_are_refused_first(name, tmp_path, watch):
    archive = bomb("points.npy", (1 << 30) + (1 << 26))
    assert len(archive) < 1 << 24
    TARGETS[name].write(tmp_path)
    path = next(tmp_path.rglob("*.npz"))
    path.write_bytes(archive)
    with pytest.raises(ValueError, match="unpacks to 1,1"):
        files.check_archive_size(io.BytesIO(archive))
    if name == "model":
        with pytest.raises(InputError, match="unpacks to 1,1"):
            read_bundle(tmp_path / "model")
        return
    manifest = next(tmp_path.rglob("manifest.json"))
    text = files.read_text(manifest)
    table = json.loads(text)
    for file in table["files"]:
        table["files"][file] = hashlib.sha256((manifest.parent / file).read_bytes()).hexdigest()
    manifest.write_text(json.dumps(table))
    with pytest.raises(InputError, match="unpacks to 1,1"):
        load("packed", tmp_path)


@pytest.mark.slow
def test_a_model_that_is_a_link_to_elsewhere_is_refused(tmp_path):
    TARGETS["model"].write(tmp_path)
    weights = tmp_path / "model" / "weights.npz"
    weights.rename(tmp_path / "weights.npz")
    weights.symlink_to(tmp_path / "weights.npz")
    with pytest.raises(InputError, match="outside"):
        Localizer.load(tmp_path / "model")


def test_a_config_in_toml_or_json_runs_no_code(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "config.toml").write_text(
        f"name = \"{{__import__('os').mkdir('{marker}')}}\"\n[data]\nname = \"synthetic\"\n"
    )
    with pytest.raises(InputError, match="stage1"):
        load_config(tmp_path / "config.toml")
    (tmp_path / "config.json").write_text("__import__('os').mkdir('x')")
    with pytest.raises(InputError, match=r"config\.json: Expecting value"):
        load_config(tmp_path / "config.json")
    assert not marker.exists()
