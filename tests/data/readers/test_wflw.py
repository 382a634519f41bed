"""WFLW: written files are read, and each fault is reported with file and line."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.faces import SmallFace
from tests.support.writers.wflw import FLAGS, LISTS, line, write_wflw
from wing_jax.data.readers.wflw import read_wflw
from wing_jax.errors import InputError

ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
SMALL = np.float32([[i, i / 2] for i in range(98)])
GOOD = line(SmallFace(np.zeros((2, 2, 3), np.uint8), SMALL, np.float32([1, 2, 90, 50])), "010000", "a/b.jpg")


@pytest.fixture
def listing(tmp_path):
    write_wflw(tmp_path)
    return tmp_path / LISTS / "list_98pt_rect_attr_train.txt"


def refusal(root, split="train") -> str:
    with pytest.raises(InputError) as caught:
        read_wflw(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_second_line(listing, change):
    """Apply `change` to the fields of the second line."""
    lines = listing.read_text().splitlines()
    fields = lines[1].split(" ")
    change(fields)
    lines[1] = " ".join(fields)
    listing.write_text("\n".join(lines))


@pytest.mark.parametrize(("split", "flags"), [("train", FLAGS[:3]), ("test", FLAGS[3:])])
def test_written_files_are_read(tmp_path, split, flags):
    faces = write_wflw(tmp_path)[split]
    read = read_wflw(tmp_path, split)
    assert (read.name, read.scheme.name, read.box_convention, len(read)) == ("WFLW", "wflw98", "wflw", len(faces))
    np.testing.assert_allclose(read.points, [face.points for face in faces], atol=1e-6)
    np.testing.assert_array_equal(read.boxes, np.round([face.box for face in faces]))
    assert read.visible.all()
    assert read.visibility is None
    assert tuple(read.attributes) == ATTRIBUTES
    for index, attribute in enumerate(ATTRIBUTES):
        np.testing.assert_array_equal(read.attributes[attribute], [face[index] == "1" for face in flags])
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


def test_the_faces_of_one_photo_share_its_name(tmp_path):
    write_wflw(tmp_path)
    photos = read_wflw(tmp_path, "train").photos
    assert photos == ("wflw/0--Parade/0_Parade_0.png",) * 2 + ("wflw/2--Parade/2_Parade_2.png",)


def test_real_faces_in_the_published_form(tmp_path, data_root):
    source = data_root / "formats" / "mmpose_tests_data" / "wflw"
    content = json.loads((source / "test_wflw.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    points = np.float64([annotation["keypoints"] for annotation in content["annotations"]]).reshape(-1, 98, 3)[..., :2]
    boxes = np.concatenate([points.min(1), points.max(1)], axis=1)
    lines = []
    for annotation, face, box in zip(content["annotations"], points, boxes, strict=True):
        numbers = [*(f"{value:.6f}" for value in face.ravel()), *(f"{value:.0f}" for value in box)]
        lines.append(" ".join([*numbers, *"000000", names[annotation["image_id"]]]))
    (tmp_path / LISTS).mkdir(parents=True)
    (tmp_path / LISTS / "list_98pt_rect_attr_test.txt").write_text("\n".join(lines))
    (tmp_path / "WFLW_images").symlink_to(source)
    read = read_wflw(tmp_path, "test")
    np.testing.assert_allclose(read.points, points, rtol=1e-6)
    assert len(set(read.photos)) == 2
    for index, photo in enumerate(read.photos):
        height, width, _ = cv2.imread(str(source / photo.removeprefix("wflw/"))).shape
        assert read.picture(index).shape == (height, width, 3)
        assert (read.points[index] < (width, height)).all()
    # MMPose's boxes of WFLW are 1.2 times the tight box of the points, as the reader's docstring says.
    published = np.float64([annotation["bbox"] for annotation in content["annotations"]])[:, 2]
    extent = boxes[:, 2] - boxes[:, 0]
    np.testing.assert_allclose(published[[0, 1, 3]], 1.2 * extent[[0, 1, 3]], rtol=1e-5)


FAULTS = {
    "a number less": (lambda fields: fields.pop(3), "got 206"),
    "no attributes": (lambda fields: fields.__delitem__(slice(200, 206)), "got 201"),
    "NaN": (lambda fields: fields.__setitem__(7, "nan"), "is not finite"),
    "infinite box": (lambda fields: fields.__setitem__(197, "-inf"), "is not finite"),
    "text": (lambda fields: fields.__setitem__(0, "x"), "is not 98 pairs"),
    "flag of 2": (lambda fields: fields.__setitem__(202, "2"), "'0 1 2 0 1 1' are not all 0 or 1"),
    "box upside down": (lambda fields: fields.__setitem__(199, "0"), "(x0 y0 x1 y1) is empty"),
    "absolute path": (lambda fields: fields.__setitem__(206, "/etc/a.jpg"), "points outside the data folder"),
    "../ path": (lambda fields: fields.__setitem__(206, "..\\..\\a.jpg"), "points outside the data folder"),
    "a drive": (lambda fields: fields.__setitem__(206, "C:\\a.jpg"), "points outside the data folder"),
    "no name": (lambda fields: fields.pop(), "got 206"),
}


@pytest.mark.parametrize(("change", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_one_face(tmp_path, listing, change, reason):
    change_second_line(listing, change)
    message = refusal(tmp_path)
    assert message.startswith(f"{listing}:2: ")
    assert reason in message
    faults = []
    assert len(read_wflw(tmp_path, "train", faults=faults)) == 2
    assert faults == [message]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the list is empty"), (b"\xfe\xfe\x00\x80", "cannot read this list"), (None, "cannot read this list")],
)
def test_a_fault_of_the_list(tmp_path, listing, content, reason):
    listing.unlink() if content is None else listing.write_bytes(content)
    message = refusal(tmp_path)
    assert message.startswith(str(listing))
    assert reason in message


def test_a_truncated_list_is_refused_at_its_last_line(tmp_path, listing):
    listing.write_bytes(listing.read_bytes()[:-300])
    assert refusal(tmp_path).startswith(f"{listing}:3: ")


def test_an_unknown_split_is_refused(tmp_path):
    assert refusal(tmp_path, "val") == f"{tmp_path}: WFLW has no split 'val': use one of train, test"


def test_a_missing_picture_is_named_when_it_is_read(tmp_path):
    write_wflw(tmp_path)
    missing = tmp_path / "WFLW_images/2--Parade/2_Parade_2.png"
    missing.unlink()
    read = read_wflw(tmp_path, "train")
    with pytest.raises(InputError, match=r"2_Parade_2\.png: cannot read this image"):
        read.picture(2)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\n\n \n"),
        lambda text: text.replace(b"/", b"\\"),
        lambda text: text.replace(b" ", b"\t"),
    ],
    ids=["CRLF", "BOM", "blank lines", "backslashes", "tabs"],
)
def test_harmless_variants_are_read(tmp_path, listing, change):
    before = read_wflw(tmp_path, "train")
    listing.write_bytes(change(listing.read_bytes()))
    after = read_wflw(tmp_path, "train")
    np.testing.assert_array_equal(after.points, before.points)
    assert (after.photos, after.pictures) == (before.photos, before.pictures)


PLACES = st.integers(0, 206)
WORDS = st.one_of(st.sampled_from(["nan", "1e999", "-3", "2", "", "../x", "\0", "1 2"]), st.text(max_size=6))


@settings(max_examples=50)
@given(st.one_of(st.text(), st.lists(st.tuples(PLACES, WORDS), max_size=3)))
def test_any_text_gives_finite_points_or_an_input_error(change):
    fields = GOOD.split(" ")
    if isinstance(change, list):
        for place, word in change:
            fields[place] = word
    text = change if isinstance(change, str) else f"{GOOD}\n{' '.join(fields)}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LISTS / "list_98pt_rect_attr_test.txt"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            read, message = read_wflw(folder, "test"), ""
        except InputError as error:
            read, message = None, str(error)
    assert "\n" not in message
    if read is not None:
        assert read.points.shape[1:] == (98, 2)
        assert read.points.dtype == np.float32
        assert np.isfinite(read.points).all()
