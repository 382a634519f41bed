"""`wing-jax data`: each action as a user runs it, on valid and corrupted data sets written by the test."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.paths import CONFIGS
from tests.support.writers.cofw import write_cofw
from tests.support.writers.lapa import write_lapa
from tests.support.writers.mtfl import write_mtfl
from tests.support.writers.points_folder import write_points_folder
from tests.support.writers.w300 import write_w300
from wing_jax.cli import main
from wing_jax.data.boxes import shape_in_box
from wing_jax.data.images import read_image
from wing_jax.data.packed import read_packed
from wing_jax.data.readers.synthetic import synthetic_faces
from wing_jax.data.readers.w300 import read_w300


@pytest.fixture(autouse=True)
def working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def w300(tmp_path):
    write_w300(tmp_path / "300w")
    return tmp_path / "300w"


def output_of(capsys, *words: object) -> str:
    """Run an action; return its standard output."""
    main(["data", *map(str, words)])
    return capsys.readouterr().out


def error_of(capsys, *words: object) -> str:
    """Run an action that must fail; return its error."""
    with pytest.raises(SystemExit) as exit_error:
        main(["data", *map(str, words)])
    assert exit_error.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("wing-jax: ")
    return error


def row(table: str, name: str) -> list[str]:
    """Return the cells of the row that begins with `name`."""
    lines = (line.strip("│ ").split("│") for line in table.splitlines())
    return next([cell.strip() for cell in cells] for cells in lines if cells[0].strip() == name)


def test_check_counts_every_split(capsys, w300):
    table = output_of(capsys, "check", w300)
    assert "300-W: 68 points (ibug68), 'landmarks' boxes" in table
    faces = read_w300(w300, "train")
    assert row(table, "train")[1:3] == [str(len(faces)), str(len(set(faces.photos)))]
    assert row(table, "test")[1] == "2"
    assert row(table, "train")[5:] == ["0", "0", "0", "0"]
    assert "poses, train: not computed, because there are fewer than 20 faces" in table


def test_check_lists_all_faults_and_exits_with_status_1(capsys, w300):
    train, test = read_w300(w300, "train"), read_w300(w300, "test")
    test.source(0).write_bytes(train.source(0).read_bytes())  # the same photo in both splits
    train.source(1).write_bytes(b"")
    points = train.source(2).with_suffix(".pts")
    points.write_text(points.read_text().replace("\n}", " x\n}"))
    with pytest.raises(SystemExit) as exit_error:
        main(["data", "check", str(w300)])
    assert exit_error.value.code == 1
    table = capsys.readouterr().out
    assert row(table, "train")[5] == "2"
    assert row(table, "train")[8] == row(table, "test")[8] == "1"
    assert "missing or broken: 2" in table
    assert f"train: {train.source(1)}: not an image" in table
    assert f"train: {points}:" in table
    assert f"the same file: train: {train.source(0)} = test: {test.source(0)}" in table


def test_check_lists_faces_that_another_set_has_too(capsys, w300, tmp_path):
    write_w300(tmp_path / "again")
    table = output_of(capsys, "check", w300, "--against", tmp_path / "again", "--max_listed", "1")
    assert "train and 300-W, train: 3 faces in both" in table
    assert "test and 300-W, train: 0 faces in both" in table
    line = next(line for line in table.splitlines() if line.startswith("  1.000: "))
    first, second = line.removeprefix("  1.000: ").split(" = ")
    assert Path(first).relative_to(w300) == Path(second).relative_to(tmp_path / "again")


def test_check_of_annotated_poses_and_computed_boxes(capsys, tmp_path):
    write_mtfl(tmp_path / "mtfl")
    table = output_of(capsys, "check", tmp_path / "mtfl", "--boxes", "landmarks")
    assert "poses, train: " in table
    assert "'landmarks' boxes" in table


def test_check_of_a_folder_of_points_files_needs_a_scheme(capsys, tmp_path):
    write_points_folder(tmp_path / "mine")
    assert "needs a scheme: pass a .toml file" in error_of(capsys, "check", tmp_path / "mine")
    assert row(output_of(capsys, "check", tmp_path / "mine", "--scheme", "ibug68"), "all")[1] == "5"
    assert "scheme 'mine': pass a .toml file" in error_of(capsys, "check", tmp_path / "mine", "--scheme", "mine")


def test_show_draws_points_boxes_and_numbers(capsys, w300):
    assert "3 of 3 faces: sheet.png" in output_of(capsys, "show", w300, "--output", "sheet.png", "--columns", "2")
    sheet = read_image("sheet.png")
    assert sheet.shape[1] > 2 * 360
    without = output_of(capsys, "show", w300, "--output", "plain.png", "--columns", "2", "--no_numbers")
    assert "plain.png" in without
    assert (read_image("plain.png") != sheet).any()
    assert "1 of 2 faces" in output_of(capsys, "show", w300, "--split", "test", "--faces", "1", "--output", "a/b.png")
    assert "no split 'val'" in error_of(capsys, "show", w300, "--split", "val")


@pytest.mark.slow
def test_stats_prints_attributes_and_hsm_counts(capsys, tmp_path):
    from wing_jax.data.load import load_faces
    from wing_jax.data.packed import pack

    faces = load_faces("synthetic", "train", count=30)
    pack({"train": faces}, tmp_path / "packed", size=32, quality=80, source="")
    table = output_of(capsys, "stats", tmp_path / "packed", "--output", "poses.png")
    assert "30 faces; the pose axis is principal axis" in table
    assert "correlation of the coefficient with the annotated yaw" in table
    assert cv2.imread("poses.png").shape[0] > 300


def test_stats_of_a_named_set_need_no_folder(capsys):
    table = output_of(capsys, "stats", "--data", "synthetic", "--faces", "30", "--output", "poses.png")
    assert "30 faces; the pose axis is principal axis" in table
    assert "| all | 30 |" in table
    assert Path("poses.png").is_file()
    assert "pass its folder or file, or --data NAME" in error_of(capsys, "stats")
    assert "no data set is called 'w301'" in error_of(capsys, "stats", "--data", "w301")


@pytest.mark.slow
def test_stats_of_shapes_without_images(capsys, tmp_path):
    random = np.random.default_rng(0)
    points = random.uniform(10, 90, (40, 2, 21)).astype(np.float32)
    np.save(tmp_path / "AFLW_GT_pts21.npy", points)
    np.save(tmp_path / "AFLW_GT_crop_yaws.npy", random.uniform(-60, 60, 40))
    assert "40 faces; the pose axis is principal axis" in output_of(capsys, "stats", tmp_path, "--data", "aflw-shapes")
    assert Path("runs/poses.png").is_file()


def test_the_folder_is_the_first_argument_or_root(capsys, w300):
    """--root works as in the commands that take a data set by its name, and so does --split."""
    by_path = output_of(capsys, "check", w300, "--split", "test")
    assert by_path == output_of(capsys, "check", "--root", w300, "--data", "w300", "--split", "test")
    assert "train" not in [line.strip("│ ").split("│")[0].strip() for line in by_path.splitlines()]
    assert "and --root elsewhere: pass one of them" in error_of(capsys, "check", w300, "--root", "elsewhere")
    assert "test 2 faces of 32 x 32" in output_of(capsys, "pack", w300, "out", "--split", "test", "--size", "32")


def test_occluded_points_can_be_ignored(capsys, tmp_path):
    write_cofw(tmp_path)
    output = output_of(capsys, "show", tmp_path, "--output", "kept.png")
    assert (
        output_of(capsys, "show", tmp_path, "--output", "ignored.png", "--occluded", "ignore").split(":")[0]
        == output.split(":")[0]
    )
    assert (read_image("kept.png") != read_image("ignored.png")).any()


def test_pack_then_load(capsys, w300):
    assert "train 3, test 2 faces of 48 x 48 pixels" in output_of(capsys, "pack", w300, "out", "--size", "48")
    packed = read_packed("out", "train")
    original = read_w300(w300, "train")
    assert packed.photos == original.photos
    eyes = np.linalg.norm(original.points[:, 36] - original.points[:, 45], axis=1)
    packed_eyes = np.linalg.norm(packed.points[:, 36] - packed.points[:, 45], axis=1)
    sides = (original.boxes[:, 2:] - original.boxes[:, :2]).max(1)
    packed_sides = (packed.boxes[:, 2:] - packed.boxes[:, :2]).max(1)
    np.testing.assert_allclose(packed_eyes / packed_sides, eyes / sides, rtol=1e-4)
    assert "not empty" in error_of(capsys, "pack", w300, "out")


def test_pack_takes_its_size_from_a_config(capsys, w300):
    config = CONFIGS / "w300.py"
    printed = output_of(capsys, "pack", w300, "sized", "--config", config, "--quality", "50")
    shape = shape_in_box(read_w300(w300, "train"))
    size = max(round(64 * 2 / 1.2 * 1.25), round(128 * 2 / (1.12 * shape.side) * 1.25))
    assert f"{size} x {size} pixels" in printed
    assert read_packed("sized", "train").picture(0).shape == (size, size, 3)
    assert "cannot read this config" in error_of(capsys, "pack", w300, "other", "--config", "none.py")


def test_render_then_load(capsys):
    words = ("render", "school", "--faces", "3", "--test_faces", "2", "--size", "64", "--quality", "0", "--seed", "4")
    assert "school: train 3, test 2 faces of 64 x 64 pixels" in output_of(capsys, *words)
    rendered, packed = synthetic_faces(3, seed=4, size=64, landmarks="2d"), read_packed("school", "train")
    np.testing.assert_array_equal(packed.visibility, rendered.visibility)
    np.testing.assert_allclose(packed.angles, rendered.angles)
    sides = [(faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1)[:, None, None] for faces in (packed, rendered)]
    packed_points, points = (faces.points - faces.boxes[:, None, :2] for faces in (packed, rendered))
    np.testing.assert_allclose(packed_points / sides[0], points / sides[1], atol=1e-4)
    assert read_packed("school", "test").photos != packed.photos
    assert "school: not empty: pass a new folder" in error_of(capsys, *words)
    assert "faces=0 must be greater than 0" in error_of(capsys, "render", "none", "--faces", "0")
    assert "size=8 must be between 32 and 8,192" in error_of(capsys, "render", "none", "--size", "8")
    assert not Path("none").exists()


def test_packed_sets_have_the_splits_that_were_packed(capsys, tmp_path):
    write_points_folder(tmp_path / "mine")
    output_of(capsys, "pack", tmp_path / "mine" / "train", "mine-packed", "--scheme", "ibug68", "--size", "32")
    table = output_of(capsys, "check", "mine-packed")
    assert row(table, "all")[1] == "3"
    assert row(table, "all")[8] == "0"
    write_lapa(tmp_path / "lapa")
    output_of(capsys, "pack", tmp_path / "lapa", "lapa-packed", "--size", "32")
    assert row(output_of(capsys, "check", "lapa-packed"), "val")[1] == "1"
    assert "1 of 1 faces" in output_of(capsys, "show", "lapa-packed", "--split", "val", "--output", "val.png")


def test_a_split_that_cannot_be_read_fails_the_check(capsys, tmp_path):
    """It is there, so it is a fault, not a missing split; other commands refuse the data set."""
    write_lapa(tmp_path / "lapa")
    for path in tmp_path.rglob("val/**/*.txt"):
        path.write_text("106\n")
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", "lapa"])
    assert stopped.value.code == 1
    output = capsys.readouterr()
    assert "split 'val': " in output.out
    assert "missing" not in output.err
    assert "split 'val': " in error_of(capsys, "pack", "lapa", "packed", "--size", "32")


def test_missing_splits_are_reported(capsys, w300):
    main(["data", "check", str(w300)])
    assert "missing: split 'private': " in capsys.readouterr().err


def test_pack_rejects_a_set_with_faults(capsys, w300):
    points = read_w300(w300, "train").source(2).with_suffix(".pts")
    points.write_text("")
    assert "1 faults in train" in error_of(capsys, "pack", w300, "out")
    assert "quality=101" in error_of(capsys, "pack", w300, "out", "--quality", "101")


def test_formats_are_listed(capsys):
    output = output_of(capsys, "formats")
    assert "WFLW, 98 points" in output
    assert "dlib's imglab XML" in output


@pytest.mark.parametrize(("words", "status"), [([], 2), (["fly"], 2), (["--help"], 0)])
def test_usage(capsys, words, status):
    with pytest.raises(SystemExit) as exit_error:
        main(["data", *words])
    assert exit_error.value.code == status
    printed = capsys.readouterr()
    assert "usage: wing-jax data ACTION [PATH]" in (printed.out if status == 0 else printed.err)


def test_check_finds_one_picture_under_two_names(capsys, tmp_path):
    write_points_folder(tmp_path / "faces")
    folder = tmp_path / "faces" / "train"
    for ending in (".png", ".pts"):
        (folder / "a" / f"copy{ending}").write_bytes((folder / "a" / f"0{ending}").read_bytes())
    table = output_of(capsys, "check", folder, "--scheme", "ibug68")
    assert "one picture under two names: training may use one and validation the other: 1\n" in table
    assert f"all: {folder}/a/0.png = {folder}/a/copy.png" in table
