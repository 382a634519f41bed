"""The inputs of `wing-jax predict`, and the names of its results: each unique, and short enough for the file system."""

import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from wing_jax.cli.predict_inputs import gather_inputs
from wing_jax.cli.predict_names import plan_photos, plan_videos
from wing_jax.data.images import write_image
from wing_jax.errors import InputError
from wing_jax.inference.face_files import check_output_folder

OUT = Path("out")


def photo(path):
    write_image(path.with_suffix(".png"), np.zeros((20, 20, 3), np.uint8))
    path.with_suffix(".png").rename(path)
    return path


def plan_stems(*names):
    """Return the planned stems, relative to the output folder."""
    return [photo.stem.relative_to(OUT).as_posix() for photo in plan_photos([Path(name) for name in names], OUT)]


def result_names(stem, faces=12):
    """Return the names of all possible results of a photo, as a file system that ignores case and accents sees them."""
    names = [f"{stem}.png", f"{stem}.json", f"{stem}.pts", *(f"{stem}_{n}.pts" for n in range(1, faces))]
    return {unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()) for name in names}


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["f/a.jpg", "f/b.JPG", "f/c.d.e.jpeg"], ["a", "b", "c.d.e"]),
        (["f/p1.jpg", "f/p1.png"], ["p1", "p1.png"]),
        (["a/p1.jpg", "b/p1.jpg", "c/p1.jpg", "d/p1.jpg"], ["p1", "p1.jpg", "p1.jpg-2", "p1.jpg-3"]),
        (["f/team.jpg", "f/team_1.jpg"], ["team", "team_1.jpg"]),
        (["f/team_1.jpg", "f/team.jpg"], ["team_1", "team.jpg"]),
        (["f/team_1.jpg", "f/team_2.jpg", "f/team_x.jpg", "f/team_01.jpg"], ["team_1", "team_2", "team_x", "team_01"]),
        (["f/team_1_2.jpg", "f/team_1.jpg", "f/team.jpg"], ["team_1_2", "team_1.jpg", "team"]),
        (["f/p1.jpg", "f/p1.jpg.png", "g/p1.jpg"], ["p1", "p1.jpg", "p1.jpg-2"]),
        (["f/p1.jpg", "f/p1.jpg_1.png", "g/p1.jpg"], ["p1", "p1.jpg_1", "p1.jpg-2"]),
        (["f/A.jpg", "f/a.JPG"], ["A", "a.JPG"]),
        (["f/stra\u00dfe.jpg", "f/STRASSE.jpg"], ["stra\u00dfe", "STRASSE.jpg"]),
        (["f/caf\u00e9.jpg", "f/cafe\u0301.jpg"], ["caf\u00e9", "cafe\u0301.jpg"]),
        (["f/CAFE\u0301_3.jpg", "f/caf\u00e9.jpg"], ["CAFE\u0301_3", "caf\u00e9.jpg"]),
        (["f/predictions.jpg"], ["predictions"]),
        (["f/.jpg", "f/..jpg", "f/...jpg", "f/a..jpg", "f/a .jpg"], [".jpg", "..jpg", "...jpg", "a.", "a "]),
        (["-x.jpg", "100%d.jpg", "a [id].jpg", ":dog:.jpg"], ["-x", "100%d", "a [id]", ":dog:"]),
        (["f/a\nb.jpg", "f/a_1\n.jpg", "f/a\n_1.jpg", "f/a\n.jpg"], ["a\nb", "a_1\n", "a\n_1", "a\n.jpg"]),
    ],
)
def test_no_two_results_have_the_same_name(names, stems):
    assert plan_stems(*names) == stems
    names_by_photo = [result_names(stem) for stem in plan_stems(*names)]
    assert len(set().union(*names_by_photo)) == sum(map(len, names_by_photo))


@pytest.mark.slow
def test_thousands_of_equal_names_give_unique_stems_that_are_always_the_same():
    names = [f"{folder}/{name}.jpg" for folder in range(2000) for name in ("a", "b", "a_1")]
    assert plan_stems(*names) == plan_stems(*names)
    assert len(set(plan_stems(*names))) == len(names)


@pytest.mark.parametrize("stem", ["x" * 251, "\u00e9" * 125, "\U0001f600" * 62, "m\udcfc" * 125])
def test_a_name_of_the_maximum_length_is_shortened(tmp_path, stem):
    similar = f"{stem[:-1]}{'y' * len(os.fsencode(stem[-1]))}"
    paths = [Path(f"{name}.jpg") for name in (stem, similar)]
    assert all(251 < len(os.fsencode(path.name)) <= 255 for path in paths)
    first, second = (photo.stem for photo in plan_photos(paths, tmp_path / "not" / "there"))
    assert first != second
    for planned_stem in (first, second):
        assert re.search(r"-[0-9a-f]{8}$", planned_stem.name)
        (tmp_path / f"{planned_stem.name}_99999.pts.new").touch()
        planned_stem.name.encode(errors="surrogateescape").decode(
            errors="strict" if "\udcfc" not in stem else "replace"
        )
    assert plan_photos([Path(f"{'x' * 200}.jpg")], tmp_path)[0].stem.name == "x" * 200


def test_the_tables_list_photos_of_the_same_name_by_their_paths():
    names = ["a/p1.jpg", "b/p1.jpg", "b/p2.jpg", "b/p1.png"]
    assert [photo.name for photo in plan_photos(list(map(Path, names)), OUT)] == [*names[:2], "p2.jpg", "p1.png"]


def test_videos_of_the_same_name_and_one_named_like_the_table_of_photos():
    sources = [Path("a/clip.mp4"), Path("b/clip.mov"), Path("predictions.mp4"), Path("camera0.avi"), 0]
    stems = ["clip", "clip.mov", "predictions", "camera0", "camera0-2"]
    assert plan_videos(sources, OUT, photos=False) == [OUT / stem for stem in stems]
    stems[2] = "predictions.mp4"
    assert plan_videos(sources, OUT, photos=True) == [OUT / stem for stem in stems]
    numbered = [Path("clip.mp4"), Path("clip_1.mp4")]  # only results of photos are numbered
    assert plan_videos(numbered, OUT, photos=True) == [OUT / "clip", OUT / "clip_1"]


def test_results_are_not_written_among_inputs(tmp_path):
    paths = [photo(tmp_path / "f" / f"{name}.png") for name in "abcdef"]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.png").symlink_to(paths[0])
    check_output_folder(paths, tmp_path / "out", name="it")
    for folder in (tmp_path / "f", tmp_path / "out" / ".." / "f"):
        with pytest.raises(InputError, match=r"contains the input a\.png, b\.png, c\.png, d\.png and 2 more: choose"):
            check_output_folder(paths, folder, name="it")
    for folder in ("f", "links"):  # the folder of the file, and that of the link
        with pytest.raises(InputError, match=r"contains the input a\.png"):
            check_output_folder(
                [tmp_path / "links" / "a.png", tmp_path / "missing" / "b.png"], tmp_path / folder, name="it"
            )


def test_a_folder_gives_its_pictures_and_a_note_on_the_rest(tmp_path):
    folder = tmp_path / "f"
    for name in ("b.JPG", "a.jpg", "c.Jpeg", "d.PNG", ".hidden.jpg", "._a.jpg", ".cache/x.jpg", "sub/y.jpg"):
        photo(folder / name)
    for name in ("clip.mov", "walk.MOV", "x.heic", "notes", ".DS_Store"):
        (folder / name).touch()
    inputs = gather_inputs([str(folder)])
    assert [path.name for path in inputs.photos] == ["a.jpg", "b.JPG", "c.Jpeg", "d.PNG"]
    assert inputs.notes == (
        f"{folder}: skipped 4 other files (2 .mov, 1 without ending, 1 .heic; pass videos by name) and 1 "
        "subfolder (pass subfolders by name)",
    )
    assert not inputs.faults
    hidden = gather_inputs([str(folder / ".hidden.jpg"), str(folder / ".cache")])  # named by the user
    assert [path.name for path in hidden.photos] == [".hidden.jpg", "x.jpg"]


def test_each_folder_without_pictures_is_an_error(tmp_path):
    photo(tmp_path / "good" / "a.png")
    for name in ("empty", "hidden", "deep/2023/01", "deep/.x", "other"):
        (tmp_path / name).mkdir(parents=True)
    photo(tmp_path / "hidden" / "._a.jpg")
    photo(tmp_path / "deep" / "2023" / "01" / "a.jpg")
    photo(tmp_path / "deep" / ".x" / "a.jpg")
    (tmp_path / "other" / "clip.mov").touch()
    (tmp_path / "clip.mp4").mkdir()  # a folder, not a video
    names = ["empty", "hidden", "deep", "other", "clip.mp4", "good"]
    inputs = gather_inputs([*(str(tmp_path / name) for name in names), ""])
    assert [path.name for path in inputs.photos] == ["a.png"]
    assert not inputs.videos
    messages = [str(fault).removeprefix(str(tmp_path)) for fault in inputs.faults]
    assert messages[0].startswith("/empty: no picture in this folder: pictures must end in .jpg ")
    assert messages[1].startswith("/hidden: no picture in this folder: ")
    assert messages[2] == f"/deep: no picture in this folder itself: pass its subfolders: {tmp_path}/deep/2023/01"
    assert "(only 1 other file (1 .mov; pass videos by name)): pictures" in messages[3]
    assert messages[4].startswith("/clip.mp4: no picture in this folder")
    assert messages[5].startswith("an empty name")


def test_an_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    def raise_permission_error(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", raise_permission_error)
    inputs = gather_inputs([str(tmp_path)])
    assert [str(fault) for fault in inputs.faults] == [
        f"{tmp_path}: cannot read this folder (Permission denied): fix its permissions"
    ]


def test_links_out_of_a_folder_are_errors_unless_allowed(tmp_path, monkeypatch):
    folder, private = tmp_path / "f", photo(tmp_path / "private.png")
    photo(folder / "a.png")
    (folder / "link.png").symlink_to(private)
    (folder / "loop.png").symlink_to("loop.png")
    inputs = gather_inputs([str(folder)])
    assert [path.name for path in inputs.photos] == ["a.png", "loop.png"]
    assert "link.png: a link to outside its folder" in str(inputs.faults[0])
    assert gather_inputs([str(folder / "link.png")]).photos == (folder / "link.png",)  # named by the user
    monkeypatch.setenv("WING_JAX_FOLLOW_LINKS", "1")
    assert len(gather_inputs([str(folder)]).photos) == 3


def test_a_file_given_twice_is_processed_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "f" / "a.png")
    (tmp_path / "f" / "b.png").symlink_to("a.png")
    for name in ("a.mp4", "a.MOV"):
        (tmp_path / name).touch()
    inputs = gather_inputs(["f/a.png", "f", "./f/a.png", str(tmp_path / "f" / "a.png"), "a.mp4", "./a.mp4", "a.MOV"])
    assert inputs.photos == (Path("f/a.png"),)
    assert inputs.videos == (Path("a.mp4"), Path("a.MOV"))
    (note,) = inputs.notes
    assert note.startswith("processed only once, although named twice or by a link: f/a.png, f/b.png, f/a.png, ")
    assert note.endswith("and 1 more")
