"""`wing-jax predict` where something cannot be done: it is named, the others are done, and the status says so."""

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
from wing_jax.inference.detectors import Detector, register_detector
from wing_jax.inference.face_files import FaceTable, FoundFace, write_photo
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.video import VideoWriter
from wing_jax.schemes import MTFL_5

SUM = "pictures, "


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "five")


def photo(path, *, seed=0, height=40, width=50):
    """A picture with random pixels, whatever its name ends in."""
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
    """Runs the command on whole pictures; answers its status, standard output and the lines of standard error."""

    def run(*words, detector="none"):
        status = 0
        try:
            main(["predict", str(model), *map(str, words), "--output", "out", "--detector", detector])
        except SystemExit as left:
            status = left.code
        said = capsys.readouterr()
        return status, said.out, said.err.splitlines()

    return run


def rows():
    with Path("out/predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def names(ending):
    return sorted(path.name for path in Path("out").glob(f"*{ending}"))


def cut(folder):
    whole = (folder / "p1.jpg").read_bytes()
    (folder / "m.jpg").write_bytes(whole[: len(whole) // 3])


def empty(folder):
    (folder / "z.jpg").touch()


def dangling(folder):
    (folder / "d.jpg").symlink_to("nowhere.jpg")


def leads_out(folder):
    photo(folder.parent / "private.jpg")
    (folder / "l.jpg").symlink_to(folder.parent / "private.jpg")


def subfolder(folder):
    photo(folder / "x.jpg" / "inside.jpg")


def pipe(folder):
    os.mkfifo(folder / "q.jpg")


def too_large(folder):
    header = b"P6 20000 20000 255\n"
    (folder / "large.png").write_bytes(header)


def not_utf8_and_broken(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/m\xfcller.jpg")).touch()


@pytest.mark.parametrize(
    ("spoil", "name", "reason"),
    [
        (cut, "f/m.jpg", "truncated"),
        (empty, "f/z.jpg", "not an image"),
        (dangling, "f/d.jpg", "No such file"),
        (leads_out, "f/l.jpg", "a link that leads out of its folder"),
        (subfolder, "f/x.jpg", "Is a directory"),
        (pipe, "f/q.jpg", "a device or a pipe"),
        (too_large, "f/large.png", "more than 80,000,000 pixels"),
        (not_utf8_and_broken, r"f/m\xfcller.jpg", "not an image"),
    ],
)
def test_one_bad_file_in_a_folder_is_named_and_the_others_are_done(folder, predict, spoil, name, reason):
    spoil(folder)
    status, said, complaints = predict("f")
    assert status == 1
    (complaint,) = complaints
    assert complaint.startswith(f"wing-jax: {name}: ")
    assert reason in complaint
    assert said.splitlines()[-1] == "5 pictures, 5 faces, 1 could not be read; all in out/predictions.csv"
    good = [f"p{number}" for number in range(1, 6)]
    for ending in (".png", ".json", ".pts"):
        assert names(ending) == [f"{stem}{ending}" for stem in good]
    assert [row["image"] for row in rows()] == [f"{stem}.jpg" for stem in good]
    assert not names(".new")


def test_files_named_one_by_one_fare_as_in_a_folder(folder, predict):
    cut(folder)
    empty(folder)
    (folder.parent / "void").mkdir()
    status, said, complaints = predict("f/p1.jpg", "f/m.jpg", "missing.jpg", "void", "f/z.jpg", "f/p2.jpg")
    assert status == 1
    assert [line.split(": ")[1] for line in complaints] == ["void", "f/m.jpg", "missing.jpg", "f/z.jpg"]
    assert "2 pictures, 2 faces, 4 could not be read;" in said
    assert names(".png") == ["p1.png", "p2.png"]


def test_an_unreadable_file_is_named(folder, predict, monkeypatch):
    opened = os.open

    def guarded(path, *arguments, **keywords):
        if str(path).endswith("p3.jpg"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", guarded)
    status, said, complaints = predict("f")
    assert (status, len(complaints)) == (1, 1)
    assert "f/p3.jpg: cannot read this image (Permission denied)" in complaints[0]
    assert "4 pictures, 4 faces, 1 could not be read" in said


def test_all_good_is_status_0_and_hidden_files_are_passed_over(folder, predict):
    (folder / "._p1.jpg").write_bytes(b"\0\5\026\7\0\2\0\0Mac OS X        ")
    photo(folder / ".ipynb_checkpoints" / "p1-checkpoint.jpg")
    (folder / "clip.mov").touch()
    status, said, complaints = predict("f")
    assert (status, complaints) == (0, [])
    assert "f: passed over 1 other file (1 .mov; videos are given by name)\n" in said
    assert "5 pictures, 5 faces; all in out/predictions.csv" in said


def test_a_single_bad_input_is_one_line_and_status_2(folder, predict):
    empty(folder)
    (folder.parent / "void").mkdir()
    for name, reason in (("f/z.jpg", "not an image"), ("gone.jpg", "No such file"), ("void", "no picture in this")):
        status, said, complaints = predict(name)
        assert (status, len(complaints)) == (2, 1)
        assert complaints[0].startswith(f"wing-jax: {name}: ")
        assert reason in complaints[0]
        assert SUM not in said
    assert not Path("out").exists()


def test_where_none_can_be_done_the_status_is_2_and_an_earlier_table_stays(folder, predict):
    predict("f/p1.jpg")
    before = Path("out/predictions.csv").read_bytes()
    empty(folder)
    status, said, complaints = predict("f/z.jpg", "gone.jpg", "f/p1.jpg/x.jpg")
    assert (status, len(complaints)) == (2, 3)
    assert said.splitlines()[-1] == "0 pictures, 0 faces, 3 could not be read"
    assert Path("out/predictions.csv").read_bytes() == before


def test_a_photo_that_cannot_be_located_is_found_among_its_group(folder, predict):
    looks = []

    def find(image):
        looks.append(image.shape)
        if image.shape == (1, 1, 3):
            raise InputError("the detector takes no such picture")
        return [[5, 5, 30, 30]], [0.9]

    box = ShapeInBox(center=(0.0, 0.0), side=0.4)
    picky = Detector(name="picky", find=find, five_point_box=box, score_threshold=0.5)
    register_detector(lambda: picky, name="picky")
    photo(folder / "p0.jpg", height=1, width=1)
    status, said, complaints = predict("f", detector="picky")
    assert status == 1
    assert complaints == ["wing-jax: f/p0.jpg: the detector takes no such picture"]
    assert "5 pictures, " in said
    assert "1 could not be done" in said
    assert names(".png") == [f"p{number}.png" for number in range(1, 6)]
    assert looks == [(1, 1, 3), (1, 1, 3), *[(40, 50, 3)] * 5]  # all together, then one by one


def test_odd_sizes_are_no_fault_of_the_others(folder, predict):
    for name, height, width in (("a", 1, 1), ("b", 1, 3000), ("c", 3000, 2), ("d", 2, 2)):
        photo(folder / f"{name}.jpg", height=height, width=width)
    status, said, complaints = predict("f", detector="libfacedetection")
    assert (status, complaints) == (0, [])
    assert "9 pictures, " in said
    status, said, complaints = predict("f")  # the whole picture as the box
    assert status == 1
    assert [line.split(": ")[1] for line in complaints] == ["f/a.jpg", "f/b.jpg", "f/c.jpg", "f/d.jpg"]
    assert "5 pictures, 5 faces, 4 could not be done" in said


def test_a_box_outside_one_of_the_pictures_is_its_fault_alone(folder, predict):
    photo(folder / "small.jpg", height=20, width=20)
    status, _, complaints = predict("f", "--box", "25", "10", "45", "30", "--box", "0", "0", "10", "10")
    assert status == 1
    assert complaints == ["wing-jax: f/small.jpg: the box 25 10 45 30 lies outside the image of 20 x 20 pixels"]
    assert len(rows()) == 10
    for box in (["20", "10", "10", "30"], ["0", "0", "nan", "9"], ["0", "0", "inf", "9"]):  # no picture's fault
        status, said, complaints = predict("f", "--box", *box)
        assert (status, len(complaints)) == (2, 1)
        assert "is empty: give x0 y0 x1 y1" in complaints[0]
        assert SUM not in said


def test_a_result_that_cannot_be_written_is_its_photos_fault_alone(folder, predict):
    for name in ("p2.png", "p3.json", "p4.pts"):
        Path("out", name, "in_the_way").mkdir(parents=True)
    status, said, complaints = predict("f")
    assert status == 1
    assert [line.split(": ")[1:3] for line in complaints] == [
        ["f/p2.jpg", "out/p2.png"],
        ["f/p3.jpg", "out/p3.json"],
        ["f/p4.jpg", "out/p4.pts"],
    ]
    assert "2 pictures, 2 faces, 3 could not be done" in said
    assert [row["image"] for row in rows()] == ["p1.jpg", "p5.jpg"]
    assert not names(".new")


def test_a_bad_video_does_not_end_the_run(folder, predict):
    with VideoWriter("good.mp4", rate=25) as writer:
        for _ in range(3):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    Path("bad.mp4").write_bytes(b"no video")
    empty(folder)
    status, said, complaints = predict("bad.mp4", "f", "good.mp4", "gone.mov", detector="libfacedetection")
    assert status == 1
    assert [line.split(": ")[1] for line in complaints] == ["f/z.jpg", "bad.mp4", "gone.mov"]
    assert said.splitlines()[-1] == "3 of 9 inputs could not be done"
    assert Path("out/good.csv").exists()
    status, _, complaints = predict("bad.mp4", "gone.mov", detector="libfacedetection")
    assert (status, len(complaints)) == (2, 2)


def test_an_unreadable_video_leaves_an_earlier_runs_results(folder, predict):
    with VideoWriter("v.mp4", rate=25) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert predict("v.mp4", detector="libfacedetection")[0] == 0
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    content = Path("v.mp4").read_bytes()
    pictures = content.index(b"mdat") + 4
    Path("out/v.csv").write_bytes(b"earlier")
    before[Path("out/v.csv")] = b"earlier"
    for name in ("v.mp4", "new.mp4"):
        Path(name).write_bytes(content[:pictures] + bytes(len(content) - pictures))  # its header is whole
        status, _, (complaint,) = predict(name, detector="libfacedetection")
        assert (status, f"{name}: not one frame" in complaint) == (2, True)
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


def test_options_that_fit_no_video_are_refused_before_the_photos_are_done(folder, predict):
    with VideoWriter("good.mp4", rate=25) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    status, _, complaints = predict("f", "good.mp4")
    assert (status, len(complaints)) == (2, 1)
    assert not Path("out").exists()


def test_photos_of_one_stem_all_get_their_results(folder, predict):
    for place, name in (("f", "p1.png"), ("f", "P2.JPG"), ("f", "team.jpg"), ("f", "team_1.jpg"), ("g", "p1.jpg")):
        photo(folder.parent / place / name)
    boxes = ("--box", "0", "0", "20", "20", "--box", "10", "10", "30", "30")
    status, said, complaints = predict("f", "g", "f/team.jpg", *boxes)
    assert (status, complaints) == (0, [])
    assert "done once, though given twice or by a link: f/team.jpg" in said
    assert "10 pictures, 20 faces" in said
    printed = [line.split(" -> ")[1] for line in said.splitlines() if " -> " in line]
    assert sorted(printed) == sorted(f"out/{name}" for name in names(".png"))
    assert len(names(".png")) == len(names(".json")) == 10
    assert len(names(".pts")) == 20
    assert {"p1.png.png", "p1.jpg.png", "team_1.jpg_1.pts", "team_1.pts", "team_2.pts"} <= set(os.listdir("out"))
    called = [row["image"] for row in rows()][::2]
    assert len(set(called)) == 10
    assert {"f/p1.jpg", "g/p1.jpg", "p1.png", "team.jpg"} <= set(called)
    assert json.loads(Path("out/p1.jpg.json").read_text())["image"] == "g/p1.jpg"


ODD = [
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


def test_photos_of_odd_names_get_results_and_what_is_printed_can_be(folder, predict, tmp_path):
    odd = [os.fsdecode(name) for name in ODD]
    for number, name in enumerate(odd):
        photo(tmp_path / "odd" / name, seed=number)
    status, said, complaints = predict("odd", "odd/..jpg")
    assert (status, complaints) == (0, [])
    assert "".join(character for character in said if character not in "\n\u202f\u00a0\u3000").isprintable()
    said.encode()
    assert r"odd/m\xfcller.jpg: 1 face(s) -> out/m\xfcller.png" in said
    assert "odd/clip [dQw4w9WgXcQ].jpg: 1 face(s) -> out/clip [dQw4w9WgXcQ].png" in said
    assert "odd/:dog: [b] [red].jpg: 1 face(s) -> out/:dog: [b] [red].png" in said
    assert f"{len(odd)} pictures" in said
    for ending in (".png", ".json", ".pts"):
        assert len([name for name in os.listdir("out") if name.endswith(ending)]) == len(odd)
    assert sorted(row["image"] for row in rows()) == sorted(odd)
    tables = [json.loads(path.read_text()) for path in Path("out").iterdir() if path.name.endswith(".json")]
    assert sorted(table["image"] for table in tables) == sorted(odd)
    assert b"\nm\xfcller.jpg,1," in Path("out/predictions.csv").read_bytes()


def test_a_name_that_the_terminals_encoding_lacks_is_no_error(folder, model, monkeypatch):
    photo(folder / "\u5199\u771f.jpg")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit) as left:
        main(["predict", str(model), "f/\u5199\u771f.jpg", "gone\u5199.jpg", "--output", "out", "--detector", "none"])
    assert left.value.code == 1
    said, complaints = (stream.buffer.getvalue() for stream in (out, err) if not stream.flush())
    assert rb"f/\u5199\u771f.jpg: 1 face(s) -> out/\u5199\u771f.png" in said
    assert rb"wing-jax: gone\u5199.jpg: cannot read this image" in complaints
    assert Path("out/\u5199\u771f.json").exists()


FACE = FoundFace(number=1, box=np.zeros(4, np.float32), points=np.zeros((5, 2), np.float32))


def test_a_disk_without_room_ends_the_run_and_other_errors_of_writing_do_not():
    for code, ends in ((errno.ENOSPC, True), (errno.EROFS, True), (errno.ENAMETOOLONG, False), (errno.EISDIR, False)):
        tally, error = Tally(), InputError("out/p1.png: cannot be written")
        error.__cause__ = OSError(code, os.strerror(code))
        if ends:
            with pytest.raises(InputError):
                tally.fail(error, read=True)
        else:
            tally.fail(error, read=True)
        assert tally.undone == (not ends)


class Full:
    """A disk that takes half of the row, and then no more."""

    def __init__(self, file):
        self._file, self._room = file, 30

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, content):
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, self._room = content[: self._room], 0
        return self._file.write(taken)


def test_the_table_holds_no_half_row(tmp_path):
    path = tmp_path / "predictions.csv"
    with FaceTable(path, MTFL_5, of=("image",)) as table:
        table.write(("a.jpg",), [FACE])
        whole = path.read_bytes()  # there as soon as it is written
        assert whole.count(b"\n") == 2
        table._file = Full(table._file)
        with pytest.raises(InputError, match=r"predictions\.csv: cannot write here \(No space left"):
            table.write(("b.jpg",), [FACE])
    assert path.read_bytes() == whole


def test_results_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """What is there stays, whole, where its successor cannot be written."""
    image = np.zeros((9, 9, 3), np.uint8)
    write_photo(tmp_path / "p1", image, [FACE], MTFL_5, name="p1.jpg")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["p1.json", "p1.png", "p1.pts"]
    kept = Path.write_bytes

    def half(path, content):
        kept(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    other = FoundFace(number=1, box=FACE.box, points=FACE.points + 4)
    with pytest.raises(InputError, match="No space left"):
        write_photo(tmp_path / "p1", image, [other], MTFL_5, name="p1.jpg")
    with pytest.raises(OSError, match="No space left"):
        write_pts(tmp_path / "p1.pts", other.points)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_link_among_the_results_does_not_lead_to_an_original(folder, predict):
    Path("out").mkdir()
    Path("out/p1.png").symlink_to(folder / "p1.jpg")
    before = (folder / "p1.jpg").read_bytes()
    assert predict("f/p1.jpg")[0] == 0
    assert (folder / "p1.jpg").read_bytes() == before
    assert not Path("out/p1.png").is_symlink()


def test_the_overlay_and_points_are_the_photos_own(folder, predict, model):
    photo(folder / "p1.png", seed=99, height=44)
    predict("f")
    for name, stem in (("p1.jpg", "p1"), ("p1.png", "p1.png")):
        image = read_image(folder / name)
        expected = Localizer.load(model).predict(image, [[0, 0, image.shape[1] - 1, image.shape[0] - 1]])[0]
        np.testing.assert_allclose(read_pts(Path(f"out/{stem}.pts")), expected, atol=1e-3)
        assert read_image(Path(f"out/{stem}.png")).shape == image.shape


def test_a_picture_that_png_does_not_take_is_one_line(tmp_path, capfd):
    with pytest.raises(InputError, match=r"wide\.png: cannot write this image: the format does not support"):
        write_image(tmp_path / "wide.png", np.zeros((1, 1_048_576, 3), np.uint8))
    assert not list(tmp_path.iterdir())
