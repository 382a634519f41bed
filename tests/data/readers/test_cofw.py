"""COFW and COFW68: files written like those of Matlab are read, and each fault is reported with its file."""

import json
import pickle
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.cofw import occluded, write_cofw, write_cofw68, write_mat73
from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.data.readers.cofw import read_cofw, read_cofw68
from wing_jax.errors import InputError
from wing_jax.schemes import COFW_29

VISIBLE, OCCLUDED = 1, 2


def refusal(root, read=read_cofw, split="train") -> str:
    with pytest.raises(InputError) as caught:
        read(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    write_cofw(tmp_path)
    return tmp_path / "COFW_train_color.mat"


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_written_files_are_read(tmp_path, split, gray):
    faces = write_cofw(tmp_path, gray=gray)[split]
    read = read_cofw(tmp_path, split)
    assert (read.name, read.scheme.name, read.box_convention, len(read)) == ("COFW", "cofw29", "cofw", len(faces))
    np.testing.assert_array_equal(read.points, [face.points for face in faces])
    np.testing.assert_allclose(read.boxes, [face.box for face in faces], atol=1e-5)
    assert read.visible.all()
    states = [OCCLUDED if flag else VISIBLE for flag in occluded(29)]
    np.testing.assert_array_equal(read.visibility, [states] * len(faces))
    assert read.photos == tuple(f"cofw/{split} {i + 1}" for i in range(len(faces)))
    assert set(read.subsets) == {"lfpw" if split == "train" else "cofw"}
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


def test_the_color_file_is_preferred(tmp_path):
    faces = write_cofw(tmp_path)["train"]
    write_cofw(tmp_path, gray=True, seed=1)
    np.testing.assert_array_equal(read_cofw(tmp_path, "train").points, [face.points for face in faces])


def test_only_the_first_training_faces_are_of_lfpw(path):
    write_mat73(path, "train", 849 * small_faces(COFW_29, 1), gray=849 * [True])
    assert read_cofw(path.parent, "train").subsets == (*845 * ["lfpw"], *4 * ["cofw"])


def test_pictures_can_be_read_by_threads_and_sent_to_processes(tmp_path):
    faces = write_cofw(tmp_path)["train"]
    read = read_cofw(tmp_path, "train")
    with ThreadPoolExecutor(4) as pool:
        for index, picture in enumerate(pool.map(read.picture, [0, 1, 2] * 4)):
            np.testing.assert_array_equal(picture, faces[index % 3].image)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(read.source(1))).read(), faces[1].image)


def test_a_cell_along_the_other_axis_is_read(path):
    expected = read_cofw(path.parent, "train")
    images = [expected.picture(i) for i in range(3)]
    with h5py.File(path, "r+") as file:
        references = file["IsTr"][()].T
        del file["IsTr"]
        file.create_dataset("IsTr", data=references, dtype=h5py.ref_dtype)
    after = read_cofw(path.parent, "train")
    for index in range(3):
        np.testing.assert_array_equal(after.picture(index), images[index])


def test_real_faces_in_the_published_form(tmp_path, data_root):
    source = data_root / "formats" / "mmpose_tests_data" / "cofw"
    content = json.loads(
        (source / "test_cofw.json").read_text()
    )  # converted by subtracting 1 from the points, not from the boxes
    faces, keypoints = [], []
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        pixels = cv2.imread(str(source / image["file_name"]))[:, :, ::-1]
        left, top, width, height = np.float64(annotation["bbox"]) - (1, 1, 0, 0)
        keypoints.append(np.float64(annotation["keypoints"]).reshape(29, 3))
        faces.append(SmallFace(pixels, keypoints[-1][:, :2], np.float64([left, top, left + width, top + height])))
    write_mat73(tmp_path / "COFW_test_color.mat", "test", faces, gray=[False, False])
    with h5py.File(tmp_path / "COFW_test_color.mat", "r+") as file:
        file["phisT"][58:] = np.transpose([2 - annotation[:, 2] for annotation in keypoints])
    read = read_cofw(tmp_path, "test")
    np.testing.assert_allclose(read.points, [annotation[:, :2] for annotation in keypoints], rtol=1e-6)
    np.testing.assert_array_equal(read.boxes[0], [37, 101, 142, 281])
    assert [int((read.visibility == OCCLUDED).sum(1)[i]) for i in range(2)] == [
        int((annotation[:, 2] == 1).sum()) for annotation in keypoints
    ]
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


def replace_by_link(file, name):
    file["kept"] = file.pop(name)
    file[name] = h5py.SoftLink("/kept")


def replace(file, name, values, **keywords):
    del file[name]
    file.create_dataset(name, data=values, **keywords)


def copy_outside(file) -> Path:
    """Copy `file` outside of the data, where a hostile file might lead."""
    copy = Path(file.filename).parent.parent / "outside.mat"
    if not copy.exists():
        file.flush()
        copy.write_bytes(Path(file.filename).read_bytes())
    return copy


def link_outside(file):
    copy = copy_outside(file)
    del file["phisTr"]
    file["phisTr"] = h5py.ExternalLink(str(copy), "phisTr")


def store_outside(file):
    values = file["phisTr"][()]
    raw = Path(file.filename).parent.parent / "raw"
    raw.write_bytes(values.tobytes())
    del file["phisTr"]
    file.create_dataset("phisTr", values.shape, values.dtype, external=[(str(raw), 0, values.nbytes)])


def make_virtual(file):
    copy, shape = copy_outside(file), file["phisTr"].shape
    layout = h5py.VirtualLayout(shape, file["phisTr"].dtype)
    layout[...] = h5py.VirtualSource(str(copy), "phisTr", shape)
    del file["phisTr"]
    file.create_virtual_dataset("phisTr", layout)


def write_bomb(file, name, shape) -> h5py.Dataset:
    """Write compressed zeros that unpack to a hundred times the declared size."""
    values = file.create_dataset(name, shape, np.uint8, chunks=shape, compression="gzip")
    values.id.write_direct_chunk((0,) * len(shape), zlib.compress(bytes(100 * values.size)))
    return values


OF_THE_FILE = {
    "a link outside": (link_outside, "phisTr is a link"),
    "a link within": (lambda file: replace_by_link(file, "phisTr"), "phisTr is a link"),
    "points stored outside": (store_outside, "phisTr is stored in another file"),
    "points of another file": (make_virtual, "phisTr is stored in another file"),
    "points that unpack to too much": (
        lambda file: (file.pop("phisTr"), write_bomb(file, "phisTr", (87, 3))),
        "a chunk of /phisTr unpacks to more than 261 bytes",
    ),
    "an unusual filter": (
        lambda file: replace(file, "phisTr", np.ones((87, 3)), compression="lzf"),
        "expected only deflate",
    ),
    "no points": (lambda file: file.pop("phisTr"), "not as published (KeyError"),
    "no cell": (lambda file: file.pop("IsTr"), "not as published (KeyError"),
    "68 points": (
        lambda file: replace(file, "phisTr", np.ones((204, 3))),
        "expected numbers of shape (87, 3), got float64 of (204, 3)",
    ),
    "boxes of two faces": (
        lambda file: replace(file, "bboxesTr", np.ones((4, 2))),
        "expected numbers of shape (4, 3), got float64 of (4, 2)",
    ),
    "text": (
        lambda file: replace(file, "bboxesTr", np.full((4, 3), b"12")),
        "bboxesTr: expected numbers of shape (4, 3), got |S2 of (4, 3)",
    ),
    "a group": (lambda file: (file.pop("phisTr"), file.create_group("phisTr")), "/phisTr is not an array"),
    "numbers as cell": (lambda file: replace(file, "IsTr", np.ones((1, 3))), "IsTr is not a cell of images"),
    "a square cell": (
        lambda file: replace(file, "IsTr", np.tile(file["IsTr"][()], (2, 1)), dtype=h5py.ref_dtype),
        "IsTr is not a cell of images, but object (2, 3)",
    ),
    "an absurd number of faces": (
        lambda file: (file.pop("IsTr"), file.create_dataset("IsTr", (1, 10**15), h5py.ref_dtype, chunks=(1, 100))),
        "IsTr is not a cell of images, but object (1, 1000000000000000)",
    ),
}


@pytest.mark.parametrize(("change", "reason"), OF_THE_FILE.values(), ids=OF_THE_FILE)
def test_a_fault_of_the_file(path, change, reason):
    with h5py.File(path, "r+") as file:
        change(file)
    message = refusal(path.parent)
    assert message.startswith(f"{path}: ")
    assert reason in message


def test_compressed_values_are_read(path):
    expected = read_cofw(path.parent, "train")
    images = [expected.picture(index) for index in range(3)]
    with h5py.File(path, "r+") as file:
        for name in ("phisTr", "bboxesTr", *(f"#refs#/image{index}" for index in range(3))):
            values = file[name][()]
            replace(file, name, values, compression="gzip", shuffle=True, chunks=tuple(min(7, n) for n in values.shape))
        replace(
            file, "IsTr", np.array([[file[f"#refs#/image{index}"].ref for index in range(3)]]), dtype=h5py.ref_dtype
        )
    after = read_cofw(path.parent, "train")
    np.testing.assert_array_equal(after.points, expected.points)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(after.picture(index), image)


def test_an_uncompressed_chunk_is_read(path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
    with h5py.File(path, "r+") as file:
        dataset = file.create_dataset("#refs#/other", noise.shape, np.uint8, chunks=noise.shape, compression="gzip")
        dataset.id.write_direct_chunk((0, 0, 0), noise.tobytes(), filter_mask=1)  # as HDF5 marks a skipped filter
        file["IsTr"][0, 1] = dataset.ref
    np.testing.assert_array_equal(read_cofw(path.parent, "train").picture(1), noise.T)


@pytest.mark.parametrize("attack", ["outside", "too large"])
def test_a_picture_of_another_file_or_beyond_its_size_is_refused(path, attack):
    secret = path.parent.parent / "secret"
    secret.write_bytes(bytes(range(256)) * 3)
    with h5py.File(path, "r+") as file:
        if attack == "outside":
            dataset = file.create_dataset("#refs#/other", (3, 16, 16), np.uint8, external=[(str(secret), 0, 768)])
        else:
            dataset = write_bomb(file, "#refs#/other", (3, 16, 16))
        file["IsTr"][0, 1] = dataset.ref
    faces = read_cofw(path.parent, "train")
    with pytest.raises(
        InputError, match="is stored in another file" if attack == "outside" else "unpacks to more than 768"
    ):
        faces.picture(1)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file".ljust(600), "half"], ids=["empty", "5.0", "half"])
def test_a_broken_file_is_refused(path, content):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    assert refusal(path.parent).startswith(f"{path}: cannot read this file as Matlab 7.3 (")


def test_a_missing_file_or_split_is_refused(tmp_path):
    missing = f"{tmp_path}: neither COFW_train_color.mat nor COFW_train.mat here: copy it from COFW"
    assert refusal(tmp_path) == missing
    assert refusal(tmp_path, split="val") == f"{tmp_path}: COFW has no split 'val': use one of train, test"
    assert refusal(tmp_path, read_cofw68, "train").startswith(f"{tmp_path}: COFW68 has no split 'train'")
    assert refusal(tmp_path, read_cofw68, "test").startswith(f"{tmp_path}: no test_annotations/1_points.mat here")


@pytest.mark.parametrize(
    ("field", "row", "value", "reason"),
    [
        ("phisTr", 5, np.nan, "a number is not finite"),
        ("phisTr", 40, -np.inf, "a number is not finite"),
        ("bboxesTr", 0, 1e300, "a number is not finite"),
        ("phisTr", 86, 2, "an occlusion flag is neither 0 nor 1"),
        ("bboxesTr", 2, -10, "(x0 y0 x1 y1) is empty"),
        ("bboxesTr", 3, 0, "(x0 y0 x1 y1) is empty"),
    ],
)
def test_a_fault_of_one_face(path, field, row, value, reason):
    with h5py.File(path, "r+") as file:
        file[field][row, 1] = value
    message = refusal(path.parent)
    assert message.startswith(f"{path}: face 2: ")
    assert reason in message
    faults = []
    assert read_cofw(path.parent, "train", faults=faults).photos == ("cofw/train 1", "cofw/train 3")
    assert faults == [message]


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((3, 9, 9)), "face 2 is float64 (3, 9, 9), not a picture"),
        (np.zeros((4, 9, 9), np.uint8), "face 2 is uint8 (4, 9, 9), not a picture"),
        (np.zeros(9, np.uint8), "face 2 is uint8 (9,), not a picture"),
        (np.zeros((3, 0, 9), np.uint8), "face 2 has (3, 0, 9) pixels"),
        ((3, 10**6, 10**6), "face 2 has (3, 1000000, 1000000) pixels"),
        (None, "not as published (ValueError"),
    ],
)
def test_a_broken_picture_is_named_when_it_is_read(path, pixels, reason):
    with h5py.File(path, "r+") as file:
        if isinstance(pixels, tuple):
            dataset = file.create_dataset("#refs#/huge", pixels, np.uint8, chunks=(1, 9, 9))
        else:
            dataset = None if pixels is None else file.create_dataset("#refs#/odd", data=pixels)
        file["IsTr"][0, 1] = h5py.Reference() if dataset is None else dataset.ref
    read = read_cofw(path.parent, "train")
    with pytest.raises(InputError) as caught:
        read.picture(1)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert reason in str(caught.value)
    assert read.picture(2).shape == (80, 96, 3)


def test_a_picture_of_a_removed_file_is_refused(path):
    read = read_cofw(path.parent, "train")
    path.unlink()
    with pytest.raises(InputError, match=r"COFW_train_color\.mat: cannot read"):
        read.picture(0)


@pytest.mark.parametrize("inner", ["", "COFW68_Data"])
def test_cofw68_is_read(tmp_path, inner):
    faces = write_cofw68(tmp_path)["test"]
    read = read_cofw68(tmp_path if not inner else tmp_path / inner, "test")
    assert (read.name, read.scheme.name, read.box_convention) == ("COFW68", "ibug68", "cofw68")
    np.testing.assert_array_equal(read.points, [face.points for face in faces])
    np.testing.assert_allclose(read.boxes, [face.box for face in faces], atol=1e-5)
    np.testing.assert_array_equal(read.visibility, [[OCCLUDED if flag else VISIBLE for flag in occluded(68)]] * 2)
    assert read.photos == ("cofw/test 1", "cofw/test 2")
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


def test_cofw68_finds_the_pictures_at_the_root(tmp_path):
    faces = write_cofw68(tmp_path)["test"]
    (tmp_path / "COFW68_Data" / "COFW_test_color.mat").rename(tmp_path / "COFW_test.mat")
    np.testing.assert_array_equal(read_cofw68(tmp_path, "test").picture(1), faces[1].image)
    (tmp_path / "COFW_test.mat").unlink()
    assert "neither COFW_test_color.mat nor COFW_test.mat here" in refusal(tmp_path, read_cofw68, "test")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read this file (No such file"),
        (b"", "not as published ("),
        ({"Points": np.ones((68, 2))}, "not as published (KeyError"),
        ({"Points": np.ones((2, 68)), "Occ": np.zeros(68)}, "expected numbers of shape (68, 2), got (2, 68)"),
        ({"Points": np.ones((68, 2)), "Occ": np.zeros(29)}, "expected numbers of shape (68,), got (29,)"),
        ({"Points": np.full((68, 2), np.nan), "Occ": np.zeros(68)}, "a number is not finite"),
        ({"Points": np.ones((68, 2)), "Occ": np.full(68, 0.5)}, "an occlusion flag is neither 0 nor 1"),
        ({"Points": "text", "Occ": np.zeros(68)}, "expected numbers, got"),
    ],
)
def test_a_fault_of_one_face_of_cofw68(tmp_path, content, reason):
    write_cofw68(tmp_path)
    path = tmp_path / "COFW68_Data" / "test_annotations" / "2_points.mat"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        scipy.io.savemat(path, content)
    message = refusal(tmp_path, read_cofw68, "test")
    assert message.startswith(f"{path}: ")
    assert reason in message
    faults = []
    assert read_cofw68(tmp_path, "test", faults=faults).photos == ("cofw/test 1",)
    assert faults == [message]


@pytest.mark.parametrize("boxes", [None, np.ones((3, 4)), np.ones((4, 2))])
def test_a_fault_of_the_boxes_of_cofw68(tmp_path, boxes):
    write_cofw68(tmp_path)
    path = tmp_path / "COFW68_Data" / "cofw68_test_bboxes.mat"
    path.unlink() if boxes is None else scipy.io.savemat(path, {"bboxes": boxes})
    assert refusal(tmp_path, read_cofw68, "test").startswith(f"{path}: ")


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4), st.floats(0.2, 1.5))
def test_flipped_and_missing_bytes_give_finite_points_or_an_input_error(changes, fraction):
    with tempfile.TemporaryDirectory() as folder:
        write_cofw(Path(folder))
        path = Path(folder) / "COFW_test_color.mat"
        content = bytearray(path.read_bytes())
        for place, change in changes:
            content[int(place * len(content))] ^= change
        path.write_bytes(content[: int(min(1, fraction) * len(content))])
        try:
            read, message = read_cofw(folder, "test", faults=[]), ""
            pictures = [read.picture(i) for i in range(len(read))]
        except InputError as error:
            read, pictures, message = None, [], str(error)
    assert "\n" not in message
    if read is not None:
        assert read.points.shape[1:] == (29, 2)
        assert np.isfinite(read.points).all()
        assert all(picture.shape[2] == 3 and picture.dtype == np.uint8 for picture in pictures)
