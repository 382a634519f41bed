"""`wing-jax predict` on photos, folders and videos; batches of photos give the same as single photos."""

import csv
import io
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from rich.console import Console

from tests.support.tiny_model import save_tiny_model
from tests.support.writers.videos import write_video
from wing_jax.cli import main, predict_photos
from wing_jax.cli.predict_inputs import gather_inputs
from wing_jax.cli.predict_names import plan_photos
from wing_jax.cli.predict_options import PredictOptions
from wing_jax.cli.predict_tally import Tally
from wing_jax.cli.predict_video import follow, follow_frames
from wing_jax.data.images import read_image, write_image
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_file import read_pts
from wing_jax.inference import video_writer
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.video import Video, VideoWriter, Window
from wing_jax.text import printable


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "five")


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for number in range(11):
        image = random.integers(0, 256, (5 + number, 8, 3), dtype=np.uint8).repeat(9, 0).repeat(9, 1)
        write_image(tmp_path / "photos" / f"{number:02d}.{('png', 'PNG', 'bmp')[number % 3]}", image)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_folder_gives_the_same_as_its_single_photos(capsys, model, folder, tmp_path):
    main(["predict", str(model), str(folder), "--detector", "none", "--output", str(tmp_path / "out")])
    output = capsys.readouterr().out
    assert output.count(": 1 face") == 11
    assert "11 pictures, 11 faces; all in" in output
    localizer = Localizer.load(model)
    for path in gather_inputs([str(folder)]).photos:
        image = read_image(path)
        expected = localizer.predict(image, [[0, 0, image.shape[1] - 1, image.shape[0] - 1]])
        (face,) = json.loads((tmp_path / "out" / f"{path.stem}.json").read_text())["faces"]
        np.testing.assert_allclose(face["points"], expected[0], atol=1e-3)
        assert read_image(tmp_path / "out" / f"{path.stem}.png").shape == image.shape


def test_photos_are_read_in_order_and_in_batches(folder, tmp_path):
    paths = gather_inputs([str(folder)]).photos
    assert [path.stem for path in paths] == [f"{number:02d}" for number in range(11)]
    plan = plan_photos(paths, tmp_path / "out")
    for limits, sizes in [
        ({"most_photos": 5}, [6, 5]),
        ({"most_bytes": 1}, [2, 2, 2, 2, 2, 1]),
        ({"most_photos": 64}, [11]),
    ]:
        with ThreadPoolExecutor(2) as pool:
            batches = list(predict_photos.photo_batches(plan, pool, Tally(), at_once=2, **limits))
        assert [len(images) for _, images in batches] == sizes
        assert [photo.path for batch, _ in batches for photo in batch] == list(paths)
        for photo, image in ((p, i) for batch, images in batches for p, i in zip(batch, images, strict=True)):
            np.testing.assert_array_equal(image, read_image(photo.path))


@pytest.fixture(scope="module")
def faces():
    """Synthetic faces that detectors find."""
    return load_faces("synthetic", "test", count=3)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_faces_are_found_in_photos(capsys, model, faces, tmp_path):
    write_image(tmp_path / "photos" / "one.png", faces.picture(0))
    write_image(tmp_path / "photos" / "two.png", np.concatenate([faces.picture(1), faces.picture(2)], axis=1))
    write_image(tmp_path / "photos" / "void.png", np.zeros((60, 90, 3), np.uint8))
    main(["predict", str(model), str(tmp_path / "photos"), "--output", str(tmp_path / "out")])
    output = capsys.readouterr().out
    assert "void.png: no face found ->" in output
    assert "3 pictures, 3 faces, no face found in 1;" in output
    expected = FaceLandmarker.load(model)(read_image(tmp_path / "photos" / "two.png"))
    results = json.loads((tmp_path / "out" / "two.json").read_text())["faces"]
    rows = table(tmp_path / "out" / "predictions.csv")
    assert [(row["image"], row["face_id"]) for row in rows] == [("one.png", "1"), ("two.png", "1"), ("two.png", "2")]
    for i, face in enumerate(results):
        np.testing.assert_allclose(face["box"], expected.boxes[i], atol=1e-3)
        np.testing.assert_allclose(face["points"], expected.points[i], atol=1e-3)
        assert face["score"] == pytest.approx(float(expected.scores[i]), abs=1e-4)
        row = rows[1 + i]
        np.testing.assert_allclose([float(row[f"x_{p}"]) for p in range(5)], expected.points[i, :, 0], atol=1e-3)
        np.testing.assert_allclose([float(row[f"y_{p}"]) for p in range(5)], expected.points[i, :, 1], atol=1e-3)
        np.testing.assert_allclose(
            [float(row[side]) for side in ("left", "top", "right", "bottom")], face["box"], atol=1e-3
        )
        np.testing.assert_allclose(read_pts(tmp_path / "out" / f"two_{i + 1}.pts"), expected.points[i], atol=1e-3)
    assert json.loads((tmp_path / "out" / "void.json").read_text())["faces"] == []
    assert not list((tmp_path / "out").glob("void*.pts"))


@pytest.mark.slow
def test_small_faces_are_reported(capsys, model, faces, tmp_path):
    write_image(tmp_path / "small.png", cv2.resize(faces.picture(0), (60, 60), interpolation=cv2.INTER_AREA))
    main(["predict", str(model), str(tmp_path / "small.png"), "--output", str(tmp_path / "out")])
    assert "1 face, 1 below 40 pixels: too small for reliable landmarks" in capsys.readouterr().out


@pytest.fixture
def video(tmp_path, faces):
    """Twelve frames: a face moves to the right; the last three have no face."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, rate=25.0) as writer:
        for number in range(12):
            frame = np.zeros((200, 260, 3), np.uint8)
            if number < 9:
                frame[4:196, 4 + 5 * number : 196 + 5 * number] = faces.picture(0)
            writer.write(frame)
    return path


@pytest.mark.slow
def test_a_video_gets_an_overlay_and_a_row_per_face_and_frame(capsys, model, video, tmp_path):
    main(["predict", str(model), str(video), "--output", str(tmp_path / "out"), "--detect_every", "4", "--no_smooth"])
    output = capsys.readouterr().out
    assert "clip.mp4: 12 frames, 1 face" in output
    rows = table(tmp_path / "out" / "clip.csv")
    assert [int(row["frame"]) for row in rows][:9] == list(range(9))
    assert {row["face_id"] for row in rows} == {"1"}
    assert [float(row["timestamp"]) for row in rows[:3]] == pytest.approx([0, 0.04, 0.08])
    with Video(tmp_path / "out" / "clip.mp4") as overlay:
        frames = list(overlay)
    assert len(frames) == 12
    assert frames[0].image.shape == (200, 260, 3)


@pytest.mark.slow
def test_a_video_can_be_stopped_early_and_mixed_with_photos(capsys, model, video, faces, tmp_path):
    write_image(tmp_path / "one.png", faces.picture(0))
    options = ["--output", str(tmp_path / "out"), "--max_frames", "5"]
    main(["predict", str(model), str(video), str(tmp_path / "one.png"), *options])
    assert "clip.mp4: 5 frames" in capsys.readouterr().out
    assert (tmp_path / "out" / "one.png").exists()


@pytest.mark.slow
def test_a_truncated_video_is_reported(capsys, model, faces, tmp_path):
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (260, 200))
    for _ in range(12):
        writer.write(cv2.resize(faces.picture(0), (260, 200)))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    main(["predict", str(model), str(path), "--output", str(tmp_path / "out")])
    match = re.search(r"cut\.avi: (\d+) frames, (0\.\d) of 0\.5 s: the rest cannot be read", capsys.readouterr().out)
    assert match
    assert 5 <= int(match[1]) <= 8
    assert 0.2 <= float(match[2]) <= 0.4


TIMES = [0, 47, 100, 133, 180, 480, 500, 2500]  # milliseconds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phone.mp4", "browser.webm"])
def test_a_video_of_variable_rate_keeps_its_times(capsys, model, faces, tmp_path, name):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    images = np.stack([faces.picture(0)] * len(TIMES))
    write_video(tmp_path / name, images, codec=codec, milliseconds=TIMES, rate=1000)
    main(["predict", str(model), str(tmp_path / name), "--output", str(tmp_path / "out")])
    output = capsys.readouterr().out
    assert f"{name}: 8 frames, 1 face, " in output
    stem = name.split(".")[0]
    assert [row["timestamp"] for row in table(tmp_path / "out" / f"{stem}.csv")] == [f"{t / 1000:.3f}" for t in TIMES]
    with Video(tmp_path / "out" / f"{stem}.mp4") as overlay:
        assert [1000 * frame.seconds for frame in overlay] == pytest.approx(TIMES, abs=1)


def follow_video(source, stem, model, **options):
    """Track a video and write `stem`.mp4 and .csv; return the printed text."""
    output, console = make_console()
    follow(source, Localizer.load(model), PredictOptions(model=str(model), **options), console, stem=stem)
    return output.getvalue()


def make_console():
    """Return the text stream of a console, and the console."""
    output = io.StringIO()
    return output, Console(file=output, markup=False, emoji=False, highlight=False, soft_wrap=True, force_terminal=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"x [id] :dog:", b"[bold]x", b"a.b:c", b"m\xfcller %d", b"new\nline", b"a" * 240])
def test_a_video_and_its_results_may_have_any_name(model, video, tmp_path, name):
    source = tmp_path / f"{os.fsdecode(name)}.mp4"
    stem = tmp_path / "out" / os.fsdecode(name)
    video.rename(source)
    output = follow_video(source, stem, model, max_frames=2)
    assert f"{printable(source.name)}: 2 frames" in output
    if len(name) < 30:
        assert output.count(printable(stem.name)) > 3  # three times in that line, and in the progress bar
    assert {os.fsencode(path) for path in (tmp_path / "out").iterdir()} == {
        os.fsencode(f"{stem}.mp4"),
        os.fsencode(f"{stem}.csv"),
    }


def test_corrupted_pieces_of_a_video_are_counted(model, faces, tmp_path):
    path = write_video(tmp_path / "a.mov", np.stack([faces.picture(0)] * 4), codec="png", pixels="rgb24")
    content = bytearray(path.read_bytes())
    start = content.index(b"\x89PNG", content.index(b"\x89PNG") + 9)
    content[start : start + 60] = bytes(60)
    path.write_bytes(content)
    assert "a.mov: 3 frames, 1 corrupted piece(s) skipped, 1 face" in follow_video(path, tmp_path / "out" / "a", model)


def test_an_overlay_that_no_browser_plays_is_reported(model, video, tmp_path, monkeypatch):
    assert "browsers" not in follow_video(video, tmp_path / "out" / "a", model, max_frames=2)
    monkeypatch.setattr(video_writer, "ENCODERS", {"mpeg4": {}})
    assert "a.mp4 (browsers do not play it" in follow_video(video, tmp_path / "out" / "a", model, max_frames=2)


def test_a_killed_run_leaves_the_rows_written_so_far(model, video, tmp_path):
    class Killed(Video):
        def __iter__(self):
            for number, frame in enumerate(super().__iter__()):
                if number == 3:
                    lines = (
                        (tmp_path / "out" / "a.csv").read_text().splitlines()
                    )  # the state after a kill at this frame
                    assert [line.split(",")[0] for line in lines] == ["frame", "0", "1", "2"]
                    raise KeyboardInterrupt
                yield frame

    options, (_, console) = PredictOptions(model=str(model)), make_console()
    with Killed(video) as frames, pytest.raises(KeyboardInterrupt):
        follow_frames(frames, Localizer.load(model), options, console, stem=tmp_path / "out" / "a")


def test_a_camera_runs_until_its_window_is_closed(model, video, tmp_path):
    shown = []

    class Screen(Window):
        def __init__(self):
            pass

        def show(self, image):
            shown.append(image)
            return len(shown) < 4

    options, (output, console) = PredictOptions(model=str(model)), make_console()
    stem = tmp_path / "out" / "camera0"
    with Video(video) as frames:
        follow_frames(frames, Localizer.load(model), options, console, stem=stem, window=Screen())
    assert "4 frames" in output.getvalue()
    assert len(shown) == 4
    assert (tmp_path / "out" / "camera0.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box", "1", "2", "30", "40"], "remove them for videos and cameras"),
        (["--detector", "none"], "remove them for videos and cameras"),
        (["--detect_every", "0"], "detect_every=0"),
    ],
)
def test_options_that_are_invalid_for_videos(capsys, model, video, tmp_path, options, message):
    with pytest.raises(SystemExit):
        main(["predict", str(model), str(video), "--output", str(tmp_path / "out"), *options])
    assert message in capsys.readouterr().err


def test_existing_inputs_are_not_overwritten(model, faces, tmp_path, capsys):
    photo, annotation = tmp_path / "in" / "one.png", tmp_path / "in" / "one.pts"
    write_image(photo, faces.picture(0))
    annotation.write_text("mine")
    before = photo.read_bytes()
    for output in (tmp_path / "in", tmp_path / "in" / ".." / "in"):
        with pytest.raises(SystemExit):
            main(["predict", str(model), str(photo), "--output", str(output)])
        assert "contains the input one.png: choose another folder" in capsys.readouterr().err
    assert (photo.read_bytes(), annotation.read_text()) == (before, "mine")
