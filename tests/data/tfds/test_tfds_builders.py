"""Our TFDS builders: each data set is built from its published files, loaded by TFDS, and read back unchanged."""

import dataclasses
import functools
import os
import shutil
import sys

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from tests.support.writers.aflw import write_aflw
from tests.support.writers.cofw import write_cofw
from tests.support.writers.mtfl import write_mtfl
from tests.support.writers.w300 import write_w300
from tests.support.writers.wflw import LISTS, write_wflw
from wing_jax.data.readers import aflw, cofw, mtfl, w300, wflw
from wing_jax.data.tfds import builders
from wing_jax.data.tfds.builders import build
from wing_jax.data.tfds.sets import BUILT, read_tfds
from wing_jax.errors import InputError
from wing_jax.text import printable

SETS = {
    "wing_w300": (functools.partial(write_w300, private=True), w300.read_w300),
    "wing_wflw": (write_wflw, wflw.read_wflw),
    "wing_aflw": (write_aflw, functools.partial(aflw.read_aflw, training_faces=3)),
    "wing_cofw": (write_cofw, cofw.read_cofw),
    "wing_mtfl": (write_mtfl, mtfl.read_mtfl),
}
TRAINING = f"{LISTS}/list_98pt_rect_attr_train.txt"


@pytest.fixture(autouse=True)
def _small_training_set(monkeypatch):
    """The published list of AFLW has 20,000 training faces; ours has three."""
    monkeypatch.setattr(builders.WingAflw, "read", staticmethod(SETS["wing_aflw"][1]))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Write each data set; return its folder and faces by name."""
    sources_by_name = {}
    for name, (write, _) in SETS.items():
        folder = tmp_path_factory.mktemp(name)
        sources_by_name[name] = folder, write(folder)
    return sources_by_name


def assert_same(built, read) -> None:
    """Compare every field of two face sets."""
    for field in ("name", "box_convention", "photos", "subsets", "poses"):
        assert getattr(built, field) == getattr(read, field), field
    assert built.scheme is read.scheme
    for field in ("points", "visible", "boxes", "visibility", "angles"):
        np.testing.assert_array_equal(getattr(built, field), getattr(read, field), field, strict=True)
    assert built.attributes.keys() == read.attributes.keys()
    for name, values in read.attributes.items():
        np.testing.assert_array_equal(built.attributes[name], values)
    for index in range(len(read)):
        np.testing.assert_array_equal(built.picture(index), read.picture(index))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_built_data_sets_equal_the_original(tmp_path, sources, name):
    folder, written = sources[name]
    build(name, data_dir=str(tmp_path), manual_dir=str(folder))
    for split, faces in written.items():
        built = read_tfds(name, split, root=str(tmp_path))
        assert_same(built, SETS[name][1](folder, split))
        np.testing.assert_allclose(built.points, [face.points for face in faces], atol=1e-4)
    assert SETS.keys() == set(BUILT)


def test_tfds_loads_it_like_any_other(tmp_path, sources):
    folder, written = sources["wing_w300"]
    options = {"download_config": tfds.download.DownloadConfig(manual_dir=str(folder))}
    loaded, info = tfds.load("wing_w300", data_dir=str(tmp_path), download_and_prepare_kwargs=options, with_info=True)
    assert {split: split_info.num_examples for split, split_info in info.splits.items()} == {
        "train": 3,
        "test": 2,
        "private": 2,
    }
    assert "300 faces in-the-wild" in info.citation
    for split, faces in written.items():
        for example in tfds.as_numpy(loaded[split]):
            face = faces[example["index"]]
            np.testing.assert_allclose(example["points"], face.points, atol=1e-4)
            assert np.abs(example["image"].astype(int) - face.image).mean() < 4
            assert example["attributes"]["challenging"] == (example["subset"] == b"challenging")


def test_300_w_without_its_private_test_has_two_splits(tmp_path):
    write_w300(tmp_path / "source")
    build("wing_w300", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "source"))
    message = read_refusal("wing_w300", "private", tmp_path / "data")
    assert message.endswith("has no split 'private': it has train, test")


def test_published_boxes_of_mtfl_are_used_if_available(tmp_path, sources):
    shutil.copytree(sources["wing_mtfl"][0], tmp_path / "source")
    (tmp_path / "source" / "AFLW_boundingbox.txt").write_text("1 50 2 60\n3 70 4 80\n")
    (tmp_path / "source" / "AFLW_image_list.txt").write_text("AFLW/0002-image60465.jpg\nAFLW/0001-image20056.jpg\n")
    build("wing_mtfl", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "source"))
    boxes = read_tfds("wing_mtfl", "test", root=str(tmp_path / "data")).boxes
    np.testing.assert_array_equal(boxes, np.float32([[3, 4, 70, 80], [1, 2, 50, 60]]))


def test_missing_points_angles_and_embedded_pictures_are_kept(tmp_path, sources, monkeypatch):
    read = cofw.read_cofw(sources["wing_cofw"][0], "train")
    visible = np.arange(3 * 29).reshape(3, 29) % 4 > 0
    points = np.where(visible[..., None], read.points, 0).astype(np.float32)
    angles = np.float32([[1.5, -2, 3], [np.nan] * 3, [-90, 0, 0.25]])
    altered = dataclasses.replace(read, visible=visible, points=points, angles=angles)
    monkeypatch.setattr(builders.WingCofw, "read", lambda root, split: altered)
    build("wing_cofw", data_dir=str(tmp_path), manual_dir=str(sources["wing_cofw"][0]))
    assert_same(read_tfds("wing_cofw", "test", root=str(tmp_path)), altered)


def edit(name: str, old: str, new: str):
    def damage(folder) -> None:
        assert old in (folder / name).read_text()
        (folder / name).write_text((folder / name).read_text().replace(old, new, 1))

    return damage


def cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-30])


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def nan_in_list(folder) -> None:
    content = scipy.io.loadmat(folder / "AFLWinfo_release.mat")
    content["data"][0, 0] = np.nan
    scipy.io.savemat(folder / "AFLWinfo_release.mat", {k: v for k, v in content.items() if k[0] != "_"})


BAD = {
    "no folder": ("wing_wflw", shutil.rmtree, "does not exist or is empty"),
    "an empty folder": ("wing_cofw", lambda folder: [path.unlink() for path in folder.iterdir()], "is empty"),
    "a list is missing": ("wing_mtfl", remove("testing.txt"), "testing.txt: cannot read"),
    "a picture is missing": ("wing_mtfl", remove("lfw_5590/Abba_0001.jpg"), "Abba_0001.jpg: cannot read this image"),
    "a picture is truncated": ("wing_w300", cut("ibug/image_003_1.png"), "image_003_1.png: the image file is trunc"),
    "not a number": ("wing_w300", edit("afw/134212_2.pts", "}", "nan 1\n}"), "134212_2.pts:72: 'nan 1' is not finite"),
    "67 points": ("wing_w300", edit("afw/134212_1.pts", "68", "67"), "134212_1.pts: 68 points, but 67 in the header"),
    "text for a number": ("wing_wflw", edit(TRAINING, ".", "O"), "list_98pt_rect_attr_train.txt:1"),
    "a path out of the folder": ("wing_mtfl", edit("training.txt", "lfw_5590", "..\\.."), "training.txt:1: '..\\.."),
    "NaN in a .mat": ("wing_aflw", nan_in_list, "AFLWinfo_release.mat: face 1"),
    "a truncated .mat": ("wing_aflw", cut("AFLWinfo_release.mat"), "AFLWinfo_release.mat"),
    "a truncated HDF5 file": ("wing_cofw", cut("COFW_test_color.mat"), "COFW_test_color.mat"),
}


@pytest.mark.parametrize(("name", "damage", "expected"), BAD.values(), ids=BAD)
def test_bad_input_stops_the_build_with_one_line(tmp_path, sources, name, damage, expected):
    shutil.copytree(sources[name][0], tmp_path / "source")
    damage(tmp_path / "source")
    with pytest.raises(InputError) as caught:
        build(name, data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "source"))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "no prepared TFDS data set" in read_refusal(
        name, "train", tmp_path / "data"
    )  # no incomplete data set remains


def read_refusal(name: str, split: str, root) -> str:
    with pytest.raises(InputError) as caught:
        read_tfds(name, split, root=str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_metadata_of_another_program_is_refused(tmp_path, sources):
    build("wing_mtfl", data_dir=str(tmp_path), manual_dir=str(sources["wing_mtfl"][0]))
    for content in (
        "{}",
        '{"scheme": "of my own", "splits": {}}',
        "[",
        "[1]",
        '{"scheme": "mtfl5", "splits": {"train": {}}}',
    ):
        (tmp_path / "wing_mtfl/1.0.0/metadata.json").write_text(content)
        assert str(tmp_path / "wing_mtfl") in read_refusal("wing_mtfl", "train", tmp_path)


def test_a_package_that_tfds_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "importlib_resources", None)  # TFDS 4.9.10 needs it and does not require it
    with pytest.raises(InputError, match=r"^TFDS needs importlib_resources .* pip install importlib_resources$"):
        build("aflw2k3d", data_dir=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x [v2] %d {a} é#", "a\\b*?", os.fsdecode(b"m\xfcller")], ids=ascii)
def test_folders_of_any_name_are_built_and_read(tmp_path, sources, name):
    folder, data = tmp_path / name / "source", tmp_path / name / "data"
    shutil.copytree(sources["wing_cofw"][0], folder)
    build("wing_cofw", data_dir=str(data), manual_dir=str(folder))
    assert len(read_tfds("wing_cofw", "train", root=str(data))) == len(cofw.read_cofw(folder, "train"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(InputError) as caught:
        read_tfds("wing_cofw", "none", root=str(data))
    assert str(caught.value).startswith(printable(str(data)))
