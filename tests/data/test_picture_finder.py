"""Pictures named in lists are found for any spelling of the name, and never outside of the data's folders."""

import os
import shutil
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wing_jax.data.picture_finder import (
    PictureFinder,
    Spellings,
    find_picture_beside,
    find_picture_named,
    finder_below,
    finder_of_list,
    folders_of_list,
)
from wing_jax.errors import InputError

ODD = (
    "Screenshot at 3.21.04\u202fPM.jpg", "Sn\u00edmek v\u00a013.05.jpg", "\u5199\u771f\u3000\u9854.jpg",
    "fam\U0001f468\u200d\U0001f469.jpg", "soft\u00adhyphen.jpg", "bidi\u200f\u202emark.jpg", "a:b.jpg", "C:a.jpg",
    "100% [x] 'y'.jpg", "tag\ufe0f.jpg",
)  # fmt: skip


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def refusal(finder: PictureFinder, name: str) -> str:
    with pytest.raises(InputError) as caught:
        finder.find(name, location="l:1")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("l:1: ")
    return str(caught.value)


@pytest.mark.parametrize("name", ["a/b.jpg", "a\\b.jpg", "./a/b.jpg", "a//b.jpg", "a/c/../b.jpg", ".\\a\\b.jpg"])
def test_names_below_the_folder(name):
    path, photo = finder_below("/data").find(name, location="l:1")
    assert path == Path("/data/a/b.jpg")
    assert photo == "a/b.jpg"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("/etc/passwd", "points outside the data folder"),
        ("\\etc\\passwd", "points outside the data folder"),
        ("C:\\a.jpg", "points outside the data folder"),
        ("C:a.jpg", "points outside the data folder"),
        ("\\\\server\\share\\a.jpg", "points outside the data folder"),
        ("../a.jpg", "points outside the data folder"),
        ("a/../../b.jpg", "points outside the data folder"),
        ("a\\..\\..\\b.jpg", "points outside the data folder"),
        ("/", "points outside the data folder"),
        (".", "points outside the data folder"),
        ("", "name is missing"),
        ("  ", "name is missing"),
        ("a\nb.jpg", "is not a file name"),
        ("a\0b.jpg", "is not a file name"),
        ("a\u2028b.jpg", "is not a file name"),
        ("a\ud800.jpg", "is not a file name"),
        ("238 236 237 " * 3000, "36000 characters, is not a file name: write the pixels to a file"),
    ],
)
@pytest.mark.parametrize("finder", [finder_below("/data"), finder_of_list("/data/sets/l.csv")], ids=["set", "list"])
def test_names_that_lead_out_of_the_folders(finder, name, complaint):
    message = refusal(finder, name)
    assert complaint in message
    assert len(message) < 400
    if "points outside" in complaint:
        assert f"the data folder {finder.inside[0]}: " in message
        assert ("pass --images FOLDER (--data.images FOLDER)" in message) is finder.named


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "/", "\\", "a", "C:", "~"])).map("".join))
def test_no_name_leads_out(name):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "set")
        root.mkdir()
        for finder in (
            finder_below(root),
            finder_of_list(root / "l.csv"),
            finder_of_list("l.csv", images=str(root)),
        ):
            try:
                path, _ = finder.find(name, location="l:1")
            except InputError:
                continue
            folders = [os.path.abspath(inside) for inside in finder.inside]
            assert any(os.path.normpath(path).startswith(f"{inside}/") for inside in folders)


@pytest.mark.parametrize("name", ODD)
def test_ordinary_names_of_files_are_found(tmp_path, name):
    assert finder_of_list(tmp_path / "l.csv").find(touch(tmp_path / name).name, location="")[0] == tmp_path / name


def test_a_name_may_really_contain_a_backslash(tmp_path):
    touch(tmp_path / "a" / "b.jpg")
    assert finder_of_list(tmp_path / "l.csv").find("a\\b.jpg", location="")[0] == tmp_path / "a" / "b.jpg"
    touch(tmp_path / "a\\b.jpg")
    assert finder_of_list(tmp_path / "l.csv").find("a\\b.jpg", location="")[0] == tmp_path / "a\\b.jpg"


@pytest.mark.parametrize(
    ("listing", "name", "picture", "photo"),
    [
        ("l.csv", "x.jpg", "x.jpg", "x.jpg"),
        ("l.csv", "x.jpg", "images/x.jpg", "x.jpg"),
        ("lists/l.csv", "x.jpg", "images/x.jpg", "x.jpg"),
        ("here/l.csv", "../images/a/x.jpg", "images/a/x.jpg", "a/x.jpg"),
        ("here/l.csv", "images/x.jpg", "images/x.jpg", "images/x.jpg"),
        ("annotations/l.csv", "images/x.jpg", "images/x.jpg", "images/x.jpg"),
        ("annotations/l.csv", "../images/x.jpg", "images/x.jpg", "x.jpg"),
        ("annotations/l.csv", "../photos/x.jpg", "photos/x.jpg", "photos/x.jpg"),
        ("Annotations/l.csv", "photos/x.jpg", "photos/x.jpg", "photos/x.jpg"),
        ("annotations/instances_train2017.json", "x.jpg", "train2017/x.jpg", "x.jpg"),
        ("annotations/person_keypoints_val2017.json", "x.jpg", "images/val2017/x.jpg", "x.jpg"),
    ],
)
def test_locations_of_lists_and_pictures(tmp_path, monkeypatch, listing, name, picture, photo):
    touch(tmp_path / picture)
    touch(tmp_path / listing)
    assert finder_of_list(tmp_path / listing).find(name, location="") == (tmp_path / picture, photo)
    absolute = str(tmp_path / picture)
    assert finder_of_list(tmp_path / listing).find(absolute, location="")[0] == tmp_path / picture
    monkeypatch.chdir((tmp_path / listing).parent)
    path, _ = finder_of_list(Path(listing).name).find(name, location="")
    assert path.samefile(tmp_path / picture)


@pytest.mark.parametrize("name", ["../secret/x.jpg", "../x.jpg", "images/../../secret/x.jpg"])
def test_other_folders_beside_a_list_are_not_searched(tmp_path, name):
    touch(tmp_path / "secret" / "x.jpg")
    touch(tmp_path / "x.jpg")
    assert "points outside" in refusal(finder_of_list(tmp_path / "here" / "l.csv"), name)
    assert folders_of_list(tmp_path / "here" / "l.csv") == (tmp_path / "here", tmp_path / "images")


@pytest.mark.parametrize(
    "name",
    [
        "x.jpg", "photos/x.jpg", "../photos/x.jpg", "/home/me/photos/x.jpg", "C:\\Users\\me\\x.jpg", "train/x.jpg",
        "..\\..\\x.jpg", "a/../x.jpg", "\\\\server\\share\\x.jpg",
    ],
)  # fmt: skip
def test_the_folder_of_pictures_can_be_set(tmp_path, name):
    touch(tmp_path / "photos" / "x.jpg")
    finder = finder_of_list(tmp_path / "lists" / "l.csv", images=str(tmp_path / "photos"))
    assert finder.find(name, location="") == (tmp_path / "photos" / "x.jpg", "x.jpg")


def test_the_longest_part_of_a_name_is_tried_first_and_duplicates_are_rejected(tmp_path):
    touch(tmp_path / "photos" / "a" / "x.jpg")
    touch(tmp_path / "photos" / "x.jpg")
    finder = finder_of_list(tmp_path / "l.csv", images=str(tmp_path / "photos"))
    assert finder.find("/home/a/x.jpg", location="")[0] == tmp_path / "photos" / "a" / "x.jpg"
    assert finder.find("/home/b/x.jpg", location="")[0] == tmp_path / "photos" / "x.jpg"
    assert finder.find("b/x.jpg", location="")[0] == tmp_path / "photos" / "x.jpg"
    assert "'/home/c/x.jpg' and 'home/b/x.jpg' would both be " in refusal(finder, "/home/c/x.jpg")
    assert finder.find("/home/b/missing.jpg", location="")[0] == tmp_path / "photos" / "home" / "b" / "missing.jpg"
    with pytest.raises(InputError, match="no such folder: pass the folder of the list's pictures"):
        finder_of_list(tmp_path / "l.csv", images=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (unicodedata.normalize("NFC", "Jos\u00e9.jpg"), unicodedata.normalize("NFD", "Jos\u00e9.jpg")),
        (unicodedata.normalize("NFD", "Jos\u00e9.jpg"), unicodedata.normalize("NFC", "Jos\u00e9.jpg")),
        ("\u304c/\u304c.jpg", unicodedata.normalize("NFD", "\u304c/\u304c.jpg")),
        ("m\u00fcller.jpg", os.fsdecode("m\u00fcller.jpg".encode("latin-1"))),
        ("IMG_1.JPG", "img_1.jpg"),
        ("a/IMG_1.jpg", "A/IMG_1.Jpg"),
    ],
)
def test_other_spellings_of_a_name_are_found(tmp_path, name, file):
    touch(tmp_path / file)
    if not os.path.lexists(tmp_path / name):  # a file system may treat both as the same
        path, photo = finder_of_list(tmp_path / "l.csv").find(name, location="")
        assert path.samefile(tmp_path / file)
        assert photo == unicodedata.normalize("NFC", name)
        assert (
            finder_of_list("l.csv", images=str(tmp_path)).find(f"/b/{name}", location="")[0].samefile(tmp_path / file)
        )


def test_ambiguous_spellings_are_not_resolved(tmp_path):
    touch(tmp_path / "A.JPG")
    touch(tmp_path / "a.JPG")
    if len(os.listdir(tmp_path)) == 2:
        assert not finder_of_list(tmp_path / "l.csv").find("a.jpg", location="")[0].exists()


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    folders: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: (folders.append(str(path)), listdir(path))[1])
    finder = finder_of_list(tmp_path / "l.csv", images=str(tmp_path))
    for number in range(50):
        touch(tmp_path / f"x{number}.JPG")
    for number in range(50):
        assert finder.find(f"X{number}.jpg", location="")[0].exists()
        finder.find(f"missing{number}.jpg", location="")
    assert folders == [str(tmp_path)]


@pytest.mark.parametrize("picture", ["a.jpg", "a.JPG", "a.Jpeg", "a.webp", "a.TIF", "a.avif", "A.png", "a.jfif"])
def test_the_picture_beside_an_annotation(tmp_path, picture):
    touch(tmp_path / f"._{picture}")
    touch(tmp_path / picture)
    assert find_picture_beside(tmp_path / "a.pts", Spellings()).samefile(tmp_path / picture)
    assert find_picture_named(tmp_path / "a.jpg", Spellings()).samefile(tmp_path / picture)


def test_the_picture_beside_an_annotation_in_another_form_of_unicode(tmp_path):
    touch(tmp_path / unicodedata.normalize("NFD", "Jos\u00e9.jpg"))
    assert find_picture_beside(tmp_path / unicodedata.normalize("NFC", "Jos\u00e9.pts"), Spellings()).exists()
    with pytest.raises(InputError, match=r"b\.pts: no picture of that name beside it"):
        find_picture_beside(tmp_path / "b.pts", Spellings())
    long = touch(tmp_path / f"{'n' * 251}.pts")
    with pytest.raises(InputError, match="no picture of that name beside it"):
        find_picture_beside(long, Spellings())
    shutil.copy(long, long.with_suffix(".jpg"))
    assert find_picture_beside(long, Spellings()) == long.with_suffix(".jpg")
