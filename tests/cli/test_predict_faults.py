"""`wing-jax predict` with inputs that fail: they are named, the others are processed, and the exit status shows it."""

import csv
import errno
import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.tiny_model import save_tiny_model
from wing_jax.cli import main
from wing_jax.cli.predict_tally import Tally
from wing_jax.data.boxes import ShapeInBox
from wing_jax.data.images import read_image, write_image
from wing_jax.data.readers.points_file import read_pts, write_pts
from wing_jax.errors import InputError
from wing_jax.inference.detectors import DETECTORS, Detector, register_detector
from wing_jax.inference.face_files import FaceRecord, FaceTable, write_photo
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.video import VideoWriter
from wing_jax.schemes import MTFL_5

SUMMARY = "pictures, "


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "five")


def photo(path, *, seed=0, height=40, width=50):
    """Write a picture with random pixels, with any file ending."""
    random = np.random.default_rng(seed)
    ok, content = cv2.imencode(".jpg", random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert ok
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content.tobytes())
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five good photos in the folder "f" of the working directory."""
    monkeypatch.chdir(tmp_path)
    for number in range(1, 6):
        photo(tmp_path / "f" / f"p{number}.jpg", seed=number)
    return tmp_path / "f"


@pytest.fixture
def predict(capsys, model):
    """A function that runs the command, without a detector, and returns (status, output, lines of standard error)."""

    def run(*words, detector="none"):
        status = 0
        try:
            main(["predict", str(model), *map(str, words), "--output", "out", "--detector", detector])
        except SystemExit as exit_error:
            status = exit_error.code
        output = capsys.readouterr()
        return status, output.out, output.err.splitlines()

    return run


def rows():
    with Path("out/predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def names(ending):
    return sorted(path.name for path in Path("out").glob(f"*{ending}"))


def add_truncated(folder):
    content = (folder / "p1.jpg").read_bytes()
    (folder / "m.jpg").write_bytes(content[: len(content) // 3])


def add_empty(folder):
    (folder / "z.jpg").touch()


def add_dangling_link(folder):
    (folder / "d.jpg").symlink_to("nowhere.jpg")


def add_link_out(folder):
    photo(folder.parent / "private.jpg")
    (folder / "l.jpg").symlink_to(folder.parent / "private.jpg")


def add_subfolder(folder):
    photo(folder / "x.jpg" / "inside.jpg")


def add_pipe(folder):
    os.mkfifo(folder / "q.jpg")


def add_too_large(folder):
    header = b"P6 20000 20000 255\n"
    (folder / "large.png").write_bytes(header)


def add_empty_with_non_utf8_name(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/m\xfcller.jpg")).touch()


@pytest.mark.parametrize(
    ("add_file", "name", "reason"),
    [
        (add_truncated, "f/m.jpg", "truncated"),
        (add_empty, "f/z.jpg", "not an image"),
        (add_dangling_link, "f/d.jpg", "No such file"),
        (add_link_out, "f/l.jpg", "a link to outside its folder"),
        (add_subfolder, "f/x.jpg", "Is a directory"),
        (add_pipe, "f/q.jpg", "a device or a pipe"),
        (add_too_large, "f/large.png", "more than 80,000,000 pixels"),
        (add_empty_with_non_utf8_name, r"f/m\xfcller.jpg", "not an image"),
    ],
)
def test_an_invalid_file_in_a_folder_is_named_and_the_others_are_processed(folder, predict, add_file, name, reason):
    add_file(folder)
    status, output, errors = predict("f")
    assert status == 1
    (error,) = errors
    assert error.startswith(f"wing-jax: {name}: ")
    assert reason in error
    assert output.splitlines()[-1] == "5 pictures, 5 faces, 1 could not be read; all in out/predictions.csv"
    valid = [f"p{number}" for number in range(1, 6)]
    for ending in (".png", ".json", ".pts"):
        assert names(ending) == [f"{stem}{ending}" for stem in valid]
    assert [row["image"] for row in rows()] == [f"{stem}.jpg" for stem in valid]
    assert not names(".new")


def test_files_given_by_name_behave_as_in_a_folder(folder, predict):
    add_truncated(folder)
    add_empty(folder)
    (folder.parent / "void").mkdir()
    status, output, errors = predict("f/p1.jpg", "f/m.jpg", "missing.jpg", "void", "f/z.jpg", "f/p2.jpg")
    assert status == 1
    assert [line.split(": ")[1] for line in errors] == ["void", "f/m.jpg", "missing.jpg", "f/z.jpg"]
    assert "2 pictures, 2 faces, 4 could not be read;" in output
    assert names(".png") == ["p1.png", "p2.png"]


def test_an_unreadable_file_is_named(folder, predict, monkeypatch):
    original = os.open

    def reject_p3(path, *arguments, **keywords):
        if str(path).endswith("p3.jpg"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", reject_p3)
    status, output, errors = predict("f")
    assert (status, len(errors)) == (1, 1)
    assert "f/p3.jpg: cannot read this image (Permission denied)" in errors[0]
    assert "4 pictures, 4 faces, 1 could not be read" in output


def test_without_errors_the_status_is_0_and_hidden_files_are_skipped(folder, predict):
    (folder / "._p1.jpg").write_bytes(b"\0\5\026\7\0\2\0\0Mac OS X        ")
    photo(folder / ".ipynb_checkpoints" / "p1-checkpoint.jpg")
    (folder / "clip.mov").touch()
    status, output, errors = predict("f")
    assert (status, errors) == (0, [])
    assert "f: skipped 1 other file (1 .mov; pass videos by name)\n" in output
    assert "5 pictures, 5 faces; all in out/predictions.csv" in output


def test_a_single_invalid_input_is_one_line_and_status_2(folder, predict):
    add_empty(folder)
    (folder.parent / "void").mkdir()
    for name, reason in (("f/z.jpg", "not an image"), ("gone.jpg", "No such file"), ("void", "no picture in this")):
        status, output, errors = predict(name)
        assert (status, len(errors)) == (2, 1)
        assert errors[0].startswith(f"wing-jax: {name}: ")
        assert reason in errors[0]
        assert SUMMARY not in output
    assert not Path("out").exists()


def test_if_all_inputs_fail_the_status_is_2_and_an_earlier_table_is_not_replaced(folder, predict):
    predict("f/p1.jpg")
    before = Path("out/predictions.csv").read_bytes()
    add_empty(folder)
    status, output, errors = predict("f/z.jpg", "gone.jpg", "f/p1.jpg/x.jpg")
    assert (status, len(errors)) == (2, 3)
    assert output.splitlines()[-1] == "0 pictures, 0 faces, 3 could not be read"
    assert Path("out/predictions.csv").read_bytes() == before


def test_a_photo_that_the_detector_rejects_does_not_affect_its_batch(folder, predict, request):
    shapes = []

    def find(image):
        shapes.append(image.shape)
        if image.shape == (1, 1, 3):
            raise InputError("the detector takes no such picture")
        return [[5, 5, 30, 30]], [0.9]

    box = ShapeInBox(center=(0.0, 0.0), side=0.4)
    picky = Detector(name="picky", find=find, five_point_box=box, score_threshold=0.5)
    register_detector(lambda: picky, name="picky")
    request.addfinalizer(lambda: DETECTORS.remove("picky"))
    photo(folder / "p0.jpg", height=1, width=1)
    status, output, errors = predict("f", detector="picky")
    assert status == 1
    assert errors == ["wing-jax: f/p0.jpg: the detector takes no such picture"]
    assert "5 pictures, " in output
    assert "1 could not be processed" in output
    assert names(".png") == [f"p{number}.png" for number in range(1, 6)]
    assert shapes == [(1, 1, 3), (1, 1, 3), *[(40, 50, 3)] * 5]  # all together, then one by one


def test_photos_of_unusual_sizes_do_not_affect_the_others(folder, predict):
    for name, height, width in (("a", 1, 1), ("b", 1, 3000), ("c", 3000, 2), ("d", 2, 2)):
        photo(folder / f"{name}.jpg", height=height, width=width)
    status, output, errors = predict("f", detector="libfacedetection")
    assert (status, errors) == (0, [])
    assert "9 pictures, " in output
    status, output, errors = predict("f")  # the complete picture is the box
    assert status == 1
    assert [line.split(": ")[1] for line in errors] == ["f/a.jpg", "f/b.jpg", "f/c.jpg", "f/d.jpg"]
    assert "5 pictures, 5 faces, 4 could not be processed" in output


def test_a_box_outside_of_one_picture_does_not_affect_the_others(folder, predict):
    photo(folder / "small.jpg", height=20, width=20)
    status, _, errors = predict("f", "--box", "25", "10", "45", "30", "--box", "0", "0", "10", "10")
    assert status == 1
    assert errors == [
        "wing-jax: f/small.jpg: the box 25 10 45 30 is outside the image of 20 x 20 pixels: pass x0 y0 x1 y1 in pixels "
        "of this image"
    ]
    assert len(rows()) == 10
    for box in (["20", "10", "10", "30"], ["0", "0", "nan", "9"], ["0", "0", "inf", "9"]):  # invalid for every picture
        status, output, errors = predict("f", "--box", *box)
        assert (status, len(errors)) == (2, 1)
        assert "is empty: pass x0 y0 x1 y1" in errors[0]
        assert SUMMARY not in output


def test_a_result_that_cannot_be_written_does_not_affect_other_photos(folder, predict):
    for name in ("p2.png", "p3.json", "p4.pts"):
        Path("out", name, "in_the_way").mkdir(parents=True)
    status, output, errors = predict("f")
    assert status == 1
    assert [line.split(": ")[1:3] for line in errors] == [
        ["f/p2.jpg", "out/p2.png"],
        ["f/p3.jpg", "out/p3.json"],
        ["f/p4.jpg", "out/p4.pts"],
    ]
    assert "2 pictures, 2 faces, 3 could not be processed" in output
    assert [row["image"] for row in rows()] == ["p1.jpg", "p5.jpg"]
    assert not names(".new")


@pytest.mark.slow
def test_an_invalid_video_does_not_stop_the_run(folder, predict):
    with VideoWriter("good.mp4", rate=25) as writer:
        for _ in range(3):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    Path("bad.mp4").write_bytes(b"no video")
    add_empty(folder)
    status, output, errors = predict("bad.mp4", "f", "good.mp4", "gone.mov", detector="libfacedetection")
    assert status == 1
    assert [line.split(": ")[1] for line in errors] == ["f/z.jpg", "bad.mp4", "gone.mov"]
    assert output.splitlines()[-1] == "3 of 9 inputs failed"
    assert Path("out/good.csv").exists()
    status, _, errors = predict("bad.mp4", "gone.mov", detector="libfacedetection")
    assert (status, len(errors)) == (2, 2)


def test_an_unreadable_video_does_not_replace_earlier_results(folder, predict):
    with VideoWriter("v.mp4", rate=25) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert predict("v.mp4", detector="libfacedetection")[0] == 0
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    content = Path("v.mp4").read_bytes()
    frames_start = content.index(b"mdat") + 4
    Path("out/v.csv").write_bytes(b"earlier")
    before[Path("out/v.csv")] = b"earlier"
    for name in ("v.mp4", "new.mp4"):
        Path(name).write_bytes(content[:frames_start] + bytes(len(content) - frames_start))  # the header is valid
        status, _, (error,) = predict(name, detector="libfacedetection")
        assert (status, f"{name}: no frame of this video" in error) == (2, True)
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


def test_options_that_are_invalid_for_videos_are_rejected_before_any_photo(folder, predict):
    with VideoWriter("good.mp4", rate=25) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    status, _, errors = predict("f", "good.mp4")
    assert (status, len(errors)) == (2, 1)
    assert not Path("out").exists()


def test_photos_with_the_same_stem_all_get_results(folder, predict):
    for parent, name in (("f", "p1.png"), ("f", "P2.JPG"), ("f", "team.jpg"), ("f", "team_1.jpg"), ("g", "p1.jpg")):
        photo(folder.parent / parent / name)
    boxes = ("--box", "0", "0", "20", "20", "--box", "10", "10", "30", "30")
    status, output, errors = predict("f", "g", "f/team.jpg", *boxes)
    assert (status, errors) == (0, [])
    assert "processed only once, although named twice or by a link: f/team.jpg" in output
    assert "10 pictures, 20 faces" in output
    printed = [line.split(" -> ")[1] for line in output.splitlines() if " -> " in line]
    assert sorted(printed) == sorted(f"out/{name}" for name in names(".png"))
    assert len(names(".png")) == len(names(".json")) == 10
    assert len(names(".pts")) == 20
    assert {"p1.png.png", "p1.jpg.png", "team_1.jpg_1.pts", "team_1.pts", "team_2.pts"} <= set(os.listdir("out"))
    images = [row["image"] for row in rows()][::2]
    assert len(set(images)) == 10
    assert {"f/p1.jpg", "g/p1.jpg", "p1.png", "team.jpg"} <= set(images)
    assert json.loads(Path("out/p1.jpg.json").read_text())["image"] == "g/p1.jpg"


UNUSUAL_NAMES = [
    b"m\xfcller.jpg",  # Latin-1
    b"\x83e\x83X\x83g.jpg",  # Shift-JIS
    b"clip [dQw4w9WgXcQ].jpg",
    b":dog: [b] [red].jpg",
    b"a\nb\x1b[31m.jpg",
    b"a\rb.jpg",
    b'say "x", y.jpg',
    b"-100%d.jpg",
    b"a.b.c.JPG",
    b"trailing. .jpg",
    b"..jpg",
    b"e" * 251 + b".jpg",
    "\u00e9".encode() * 125 + b".jpg",
    "narrow\u202fspace\u00a0\u3000.jpg".encode(),
]


def test_photos_with_unusual_names_get_results_and_a_printable_output(folder, predict, tmp_path):
    unusual = [os.fsdecode(name) for name in UNUSUAL_NAMES]
    for number, name in enumerate(unusual):
        photo(tmp_path / "odd" / name, seed=number)
    status, output, errors = predict("odd", "odd/..jpg")
    assert (status, errors) == (0, [])
    assert "".join(character for character in output if character not in "\n\u202f\u00a0\u3000").isprintable()
    output.encode()
    assert r"odd/m\xfcller.jpg: 1 face -> out/m\xfcller.png" in output
    assert "odd/clip [dQw4w9WgXcQ].jpg: 1 face -> out/clip [dQw4w9WgXcQ].png" in output
    assert "odd/:dog: [b] [red].jpg: 1 face -> out/:dog: [b] [red].png" in output
    assert f"{len(unusual)} pictures" in output
    for ending in (".png", ".json", ".pts"):
        assert len([name for name in os.listdir("out") if name.endswith(ending)]) == len(unusual)
    assert sorted(row["image"] for row in rows()) == sorted(unusual)
    tables = [json.loads(path.read_text()) for path in Path("out").iterdir() if path.name.endswith(".json")]
    assert sorted(table["image"] for table in tables) == sorted(unusual)
    assert b"\nm\xfcller.jpg,1," in Path("out/predictions.csv").read_bytes()


def test_a_name_that_the_terminal_cannot_encode_is_not_an_error(folder, model, monkeypatch):
    photo(folder / "\u5199\u771f.jpg")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit) as exit_error:
        main(["predict", str(model), "f/\u5199\u771f.jpg", "gone\u5199.jpg", "--output", "out", "--detector", "none"])
    assert exit_error.value.code == 1
    output, errors = (stream.buffer.getvalue() for stream in (out, err) if not stream.flush())
    assert rb"f/\u5199\u771f.jpg: 1 face -> out/\u5199\u771f.png" in output
    assert rb"wing-jax: gone\u5199.jpg: cannot read this image" in errors
    assert Path("out/\u5199\u771f.json").exists()


FACE = FaceRecord(number=1, box=np.zeros(4, np.float32), points=np.zeros((5, 2), np.float32))


def test_a_full_disk_stops_the_run_and_other_write_errors_do_not():
    for code, stops in ((errno.ENOSPC, True), (errno.EROFS, True), (errno.ENAMETOOLONG, False), (errno.EISDIR, False)):
        tally, error = Tally(), InputError("out/p1.png: cannot be written")
        error.__cause__ = OSError(code, os.strerror(code))
        if stops:
            with pytest.raises(InputError):
                tally.fail(error, read=True)
        else:
            tally.fail(error, read=True)
        assert tally.undone == (not stops)


class FullDisk:
    """A file on a disk that is full after half of a row."""

    def __init__(self, file):
        self._file, self._room = file, 30

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, content):
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part, self._room = content[: self._room], 0
        return self._file.write(part)


def test_the_table_contains_only_complete_rows(tmp_path):
    path = tmp_path / "predictions.csv"
    with FaceTable(path, MTFL_5, of=("image",)) as table:
        table.write(("a.jpg",), [FACE])
        before = path.read_bytes()  # rows are on the disk at once
        assert before.count(b"\n") == 2
        table._file = FullDisk(table._file)
        with pytest.raises(InputError, match=r"predictions\.csv: cannot write here \(No space left"):
            table.write(("b.jpg",), [FACE])
    assert path.read_bytes() == before


def test_results_are_written_completely_or_not_at_all(tmp_path, monkeypatch):
    """An earlier result is not changed if the new one cannot be written."""
    image = np.zeros((9, 9, 3), np.uint8)
    write_photo(tmp_path / "p1", image, [FACE], MTFL_5, name="p1.jpg")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["p1.json", "p1.png", "p1.pts"]
    original = Path.write_bytes

    def write_half(path, content):
        original(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    moved = FaceRecord(number=1, box=FACE.box, points=FACE.points + 4)
    with pytest.raises(InputError, match="No space left"):
        write_photo(tmp_path / "p1", image, [moved], MTFL_5, name="p1.jpg")
    with pytest.raises(OSError, match="No space left"):
        write_pts(tmp_path / "p1.pts", moved.points)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_result_does_not_overwrite_the_target_of_a_link(folder, predict):
    Path("out").mkdir()
    Path("out/p1.png").symlink_to(folder / "p1.jpg")
    before = (folder / "p1.jpg").read_bytes()
    assert predict("f/p1.jpg")[0] == 0
    assert (folder / "p1.jpg").read_bytes() == before
    assert not Path("out/p1.png").is_symlink()


def test_overlay_and_points_belong_to_the_right_photo(folder, predict, model):
    photo(folder / "p1.png", seed=99, height=44)
    predict("f")
    for name, stem in (("p1.jpg", "p1"), ("p1.png", "p1.png")):
        image = read_image(folder / name)
        expected = Localizer.load(model).predict(image, [[0, 0, image.shape[1] - 1, image.shape[0] - 1]])[0]
        np.testing.assert_allclose(read_pts(Path(f"out/{stem}.pts")), expected, atol=1e-3)
        assert read_image(Path(f"out/{stem}.png")).shape == image.shape


def test_a_picture_too_wide_for_png_is_an_input_error(tmp_path, capfd):
    with pytest.raises(InputError, match=r"wide\.png: cannot write this image: the format does not support"):
        write_image(tmp_path / "wide.png", np.zeros((1, 1_048_576, 3), np.uint8))
    assert not list(tmp_path.iterdir())
