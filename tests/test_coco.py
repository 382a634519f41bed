"""COCO keypoint JSON: what a tool wrote is read, and each kind of damage is named by annotation."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writers.coco import write_coco

from wing_jax.data.coco import read_coco
from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_19, COFW_29, IBUG_68, LAPA_106, MTFL_5, WFLW_98


@pytest.fixture
def small(tmp_path):
    """The file of three faces of five points, and its content."""
    write_coco(tmp_path, scheme=MTFL_5)
    path = tmp_path / "annotations" / "train.json"
    return path, json.loads(path.read_text())


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_was_written_is_read(tmp_path, split):
    faces = write_coco(tmp_path)[split]
    read = read_coco(tmp_path / "annotations" / f"{split}.json", scheme=IBUG_68)
    assert (read.name, read.box_convention, len(read)) == (split, "coco", len(faces))
    np.testing.assert_array_equal(read.points, [face.points for face in faces])
    np.testing.assert_allclose(read.boxes, [face.box for face in faces], atol=1e-4)
    assert read.visible.all()
    np.testing.assert_array_equal(read.visibility, [[2 if i % 3 == 0 else 1 for i in range(68)]] * len(faces))
    np.testing.assert_array_equal(read.attributes["occluded"], np.arange(len(faces)) == 1)
    assert list(read.attributes) == ["occluded"]
    assert read.photos == tuple(f"{split}_{i + 1}.png" for i in range(len(faces)))
    for index, face in enumerate(faces):
        np.testing.assert_array_equal(read.picture(index), face.image)


@pytest.mark.parametrize(
    ("folder", "file", "scheme", "count", "states"),
    [
        ("300w", "test_300w", IBUG_68, 2, None),
        ("300wlp", "test_300wlp", IBUG_68, 2, (136, 0)),
        ("300vw", "anno_300vw", IBUG_68, 3, None),
        ("aflw", "test_aflw", AFLW_19, 2, None),
        ("cofw", "test_cofw", COFW_29, 2, (43, 15)),
        ("lapa", "test_lapa", LAPA_106, 2, (212, 0)),
        ("wflw", "test_wflw", WFLW_98, 4, None),
    ],
)
def test_files_of_mmpose(data_root, folder, file, scheme, count, states):
    read = read_coco(data_root / "formats" / "mmpose_tests_data" / folder / f"{file}.json", scheme=scheme)
    assert len(read) == count
    assert read.visible.all()
    counts = None if read.visibility is None else tuple((read.visibility == state).sum() for state in (1, 2))
    assert counts == states
    height, width, _ = read.picture(0).shape
    assert (read.points[0] > 0).all()
    assert (read.points[0] < (width, height)).all()


def test_the_first_numbers_of_a_real_file(data_root):
    read = read_coco(data_root / "formats" / "mmpose_tests_data" / "300w" / "test_300w.json", scheme=IBUG_68)
    np.testing.assert_allclose(read.points[0, :2], [[268.0, 398.882], [285.21, 470.547]], rtol=1e-6)
    np.testing.assert_allclose(read.boxes[0], [223.7298, 217.3791, 754.9722, 788.83], rtol=1e-6)
    assert read.photos[0] == "indoor_029.png"


@pytest.mark.parametrize(("state", "visibility"), [(1, None), (2, 1)])
def test_a_file_that_writes_1_throughout_says_nothing_of_visibility(tmp_path, state, visibility):
    write_coco(tmp_path, scheme=MTFL_5, state=state)
    read = read_coco(tmp_path / "annotations" / "train.json", scheme=MTFL_5)
    assert read.visible.all()
    assert read.visibility is None if visibility is None else (read.visibility == visibility).all()


def test_points_that_are_not_labelled_have_no_position_whatever_their_numbers(small):
    path, content = small
    content["annotations"][0]["keypoints"][3:6] = [1e9, float("nan"), 0]
    del content["annotations"][0]["bbox"]
    path.write_text(json.dumps(content))
    read = read_coco(path, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible[0], [True, False, True, True, True])
    assert read.visibility is not None
    assert read.visibility[0, 1] == 0
    rest = read.points[0, [0, 2, 3, 4]]
    np.testing.assert_array_equal(read.boxes[0], [*rest.min(0), *rest.max(0)])


def test_what_is_no_face_with_landmarks_is_left_out(small):
    path, content = small
    good = content["annotations"][0]
    content["annotations"] += [
        {**good, "id": 1, "iscrowd": 1},
        {"id": 2, "image_id": 1, "bbox": [1, 2, 3, 4]},
        {**good, "id": 3, "keypoints": []},
        {**good, "id": 4, "keypoints": [0] * 51},
    ]
    path.write_text(json.dumps(content))
    assert len(read_coco(path, scheme=MTFL_5)) == 3


def test_keypoints_named_by_the_category_are_put_in_the_order_of_the_scheme(small):
    path, content = small
    before = read_coco(path, scheme=MTFL_5)
    order = [4, 2, 0, 1, 3]
    content["categories"][0]["keypoints"] = [MTFL_5.names[i].title().replace(" ", "_") for i in order]
    for annotation in content["annotations"]:
        triples = np.reshape(annotation["keypoints"], (5, 3))
        annotation["keypoints"] = triples[order].ravel().tolist()
    path.write_text(json.dumps(content))
    after = read_coco(path, scheme=MTFL_5)
    np.testing.assert_array_equal(after.points, before.points)
    np.testing.assert_array_equal(after.visibility, before.visibility)


def test_harmless_variants_are_read(small):
    path, content = small
    before = read_coco(path, scheme=MTFL_5)
    for image in content["images"]:
        image["file_name"] = f".\\{image['file_name']}"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content, indent=1).replace("\n", "\r\n\r\n").encode())
    after = read_coco(path, scheme=MTFL_5)
    np.testing.assert_array_equal(after.points, before.points)
    assert after.photos == before.photos
    np.testing.assert_array_equal(after.picture(2), before.picture(2))


BROKEN = {  # of the second annotation (id 20) or its image: what it gets, and what the message says
    "too few": ({"keypoints": [1, 2, 2] * 4}, "12 numbers in 'keypoints' where 5 points of mtfl5 have 15"),
    "no triples": ({"keypoints": [1] * 14}, "14 numbers"),
    "no list": ({"keypoints": "1 2 2"}, "no list of numbers"),
    "text": ({"keypoints": ["one", 2, 2] * 5}, '"one" is not a finite number'),
    "true": ({"keypoints": [True, 2, 2] * 5}, "true is not a finite number"),
    "null": ({"keypoints": [1, None, 2] * 5}, "null is not a finite number"),
    "nested": ({"keypoints": [1, [[2]], 2] * 5}, "a list or object is not a finite number"),
    "NaN": ({"keypoints": [float("nan"), 2, 2] * 5}, "NaN is not a finite number"),
    "infinite": ({"keypoints": [1, float("inf"), 2] * 5}, "Infinity is not a finite number"),
    "huge": ({"keypoints": [10**400, 2, 2] * 5}, "is not a finite number"),
    "state": ({"keypoints": [1, 2, 3] * 5}, "visibility 3 is not 0, 1 or 2"),
    "state text": ({"keypoints": [1, 2, "two"] * 5}, "visibility 'two' is not 0, 1 or 2"),
    "box upside down": ({"bbox": [50, 60, 10, -5]}, "the box 50 60 60 55 (x0 y0 x1 y1) is empty"),
    "box without extent": ({"bbox": [0, 0, 0, 0]}, "is empty"),
    "box of three": ({"bbox": [1, 2, 3]}, "'bbox' is not [x, y, width, height]"),
    "box of text": ({"bbox": [1, 2, 3, "four"]}, '"four" is not a finite number'),
    "box too large": ({"bbox": [3e38, 2, 3e38, 4]}, "is empty"),
    "no image": ({"image_id": 99}, "no image with a file_name has its image_id 99"),
    "odd image": ({"image_id": [1]}, "no image with a file_name"),
}
NAMES = {
    "absolute": "/face.png",
    "up": "../../face.png",
    "drive": "C:\\face.png",
    "empty": "",
    "null": None,
    "lone": "\ud800",
}


def refusal(path: Path, content: object, **keywords) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_coco(path, scheme=MTFL_5, **keywords)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_annotation_is_refused_by_its_id_or_listed(small, change, said):
    path, content = small
    content["annotations"][1].update(change)
    message = refusal(path, content)
    assert message.startswith(": annotation 20: ")
    assert said in message
    faults: list[str] = []
    read = read_coco(path, scheme=MTFL_5, faults=faults)
    assert read.photos == ("train_1.png", "train_3.png")
    assert faults == [f"{path}{message}"]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_leads_elsewhere_is_refused_or_listed(small, name):
    path, content = small
    content["images"][1]["file_name"] = name
    assert refusal(path, content).startswith(": annotation 20: ")
    faults: list[str] = []
    assert len(read_coco(path, scheme=MTFL_5, faults=faults)) == 2
    assert len(faults) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ":1: not JSON"),
        ('{"images": [', ":1: not JSON, or cut short"),
        ("[" * 100_000, "cannot read this JSON file"),
        ("[" + "9" * 5000 + "]", "cannot read this JSON file"),
        ([], "no list of objects 'images'"),
        ({"images": []}, "no list of objects 'annotations'"),
        ({"images": {}, "annotations": []}, "no list of objects 'images'"),
        ({"images": [], "annotations": [3]}, "no list of objects 'annotations'"),
        ({"images": [], "annotations": []}, "none of 0 annotations has labelled keypoints"),
        ({"images": [{"file_name": "a.png"}], "annotations": []}, "entry 0 of 'images' has no id"),
        ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "entry 1 of 'images' has no id of its own"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, said):
    for keywords in ({}, {"faults": []}):
        assert said in refusal(tmp_path / "faces.json", content, **keywords)


def test_what_cannot_be_read_is_refused(tmp_path, small):
    (tmp_path / "utf16.json").write_bytes(b"\xff\xfe\x00\xd8")
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "utf16.json"):
        with pytest.raises(InputError, match="cannot read this JSON file"):
            read_coco(path, scheme=MTFL_5)
    path, _ = small
    (tmp_path / "images" / "train_2.png").unlink()
    read = read_coco(path, scheme=MTFL_5)
    with pytest.raises(InputError, match=r"train_2\.png: cannot read this image"):
        read.picture(1)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=15) | st.dictionaries(st.sampled_from(["id", "keypoints", "a"]), inner),
    max_leaves=20,
)
ANNOTATION = {"id": 5, "image_id": 1, "keypoints": [1, 2, 2] * 5, "bbox": [0, 0, 9, 9], "category_id": 1}
TRIPLES = st.lists(st.integers(0, 2) | st.floats(), min_size=15, max_size=15)


@settings(max_examples=50)
@given(
    key=st.sampled_from([*ANNOTATION, "iscrowd", "attributes", "file_name", "images", "annotations", "categories"]),
    value=VALUES | TRIPLES,
    cut=st.none() | st.integers(0, 300),
    tail=st.just("") | st.text(max_size=9),
)
def test_any_content_gives_finite_points_or_an_input_error(key, value, cut, tail):
    image = {"id": 1, "file_name": "a.png", **({key: value} if key == "file_name" else {})}
    content = {"images": [image], "annotations": [{**ANNOTATION, key: value}, ANNOTATION]}
    if key in ("images", "annotations", "categories"):
        content[key] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.json"
        path.write_bytes((json.dumps(content)[:cut] + tail).encode(errors="surrogatepass"))
        try:
            read = read_coco(path, scheme=MTFL_5)
        except InputError:
            return
    assert read.points.shape[1:] == (5, 2)
    assert read.points.dtype == np.float32
    assert np.isfinite(read.points).all()
    assert np.isfinite(read.boxes).all()
