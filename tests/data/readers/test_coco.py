"""COCO keypoint JSON: files of tools are read, and each fault is reported with its annotation."""

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.paths import CONFIGS
from tests.support.writers.coco import write_coco
from wing_jax.cli import main
from wing_jax.config_files import load_config
from wing_jax.data.check import check_split
from wing_jax.data.load import load_faces
from wing_jax.data.readers.coco import read_coco
from wing_jax.errors import InputError
from wing_jax.from_config.train import training_data
from wing_jax.schemes import AFLW_19, COFW_29, IBUG_68, LAPA_106, MTFL_5, WFLW_98, Scheme


@pytest.fixture
def small(tmp_path):
    """Write a file of three faces of five points; return its path and content."""
    write_coco(tmp_path, scheme=MTFL_5)
    path = tmp_path / "annotations" / "train.json"
    return path, json.loads(path.read_text())


@pytest.mark.parametrize("split", ["train", "test"])
def test_written_files_are_read(tmp_path, split):
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
def test_visibility_is_unknown_if_all_states_are_1(tmp_path, state, visibility):
    write_coco(tmp_path, scheme=MTFL_5, state=state)
    read = read_coco(tmp_path / "annotations" / "train.json", scheme=MTFL_5)
    assert read.visible.all()
    assert read.visibility is None if visibility is None else (read.visibility == visibility).all()


def test_points_that_are_not_labeled_have_no_position_whatever_their_numbers(small):
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


def test_annotations_without_landmarks_are_skipped(small):
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


BROKEN = {  # changes of the second annotation (id 20), and the message
    "too few": ({"keypoints": [1, 2, 2] * 4}, "12 numbers in 'keypoints', expected 15 for 5 points of mtfl5"),
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


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_annotation_is_refused_by_its_id_or_listed(small, change, expected):
    path, content = small
    content["annotations"][1].update(change)
    message = refusal(path, content)
    assert message.startswith(": annotation 20: ")
    assert expected in message
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
    ("content", "expected"),
    [
        ("", ":1: not JSON"),
        ('{"images": [', ":1: not JSON, or truncated"),
        ("[" * 100_000, "cannot read this JSON file"),
        ("[" + "9" * 5000 + "]", "cannot read this JSON file"),
        ([], "no list of objects 'images'"),
        ({"images": []}, "no list of objects 'annotations'"),
        ({"images": {}, "annotations": []}, "no list of objects 'images'"),
        ({"images": [], "annotations": [3]}, "no list of objects 'annotations'"),
        ({"images": [], "annotations": []}, "none of 0 annotations has labeled keypoints"),
        ({"images": [{"file_name": "a.png"}], "annotations": []}, "entry 0 of 'images' has no unique id"),
        ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "entry 1 of 'images' has no unique id"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, expected):
    for keywords in ({}, {"faults": []}):
        assert expected in refusal(tmp_path / "faces.json", content, **keywords)


def test_unreadable_files_are_refused(tmp_path, small):
    (tmp_path / "utf16.json").write_bytes(b"\xff\xfe\x00\xd8")
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "utf16.json"):
        with pytest.raises(InputError, match="cannot read this JSON file"):
            read_coco(path, scheme=MTFL_5)
    path, _ = small
    (tmp_path / "images" / "train_2.png").unlink()
    read = read_coco(path, scheme=MTFL_5)
    with pytest.raises(InputError, match=r"train_2\.png: cannot read this image"):
        read.picture(1)


# Folders of pictures


def move_listing(small, listing: str, pattern: str, pictures: str = "images") -> tuple[Path, dict]:
    """Move the file `small` to `listing`, its pictures to the folder `pictures`; name these by `pattern` in the list.

    All paths are below the folder of `small`.
    """
    path, content = small
    root = path.parents[1]
    if pictures != "images":
        (root / "images").rename(root / pictures)
    for image in content["images"]:
        image["file_name"] = pattern.format(name=image["file_name"], root=root)
    (root / listing).parent.mkdir(exist_ok=True)
    (root / listing).write_text(json.dumps(content))
    return root / listing, content


@pytest.mark.parametrize(
    ("listing", "pattern", "pictures"),
    [
        ("annotations/a.json", "../images/{name}", "images"),
        ("annotations/a.json", "..\\images\\{name}", "images"),
        ("annotations/a.json", "images/{name}", "images"),
        ("annotations/a.json", "{root}/images/{name}", "images"),
        ("annotations/a.json", "photos/{name}", "photos"),
        ("annotations/face_train2017.json", "{name}", "train2017"),
        ("here/a.json", "../images/{name}", "images"),
    ],
)
def test_pictures_are_found_from_the_list_or_the_root_of_the_set(small, listing, pattern, pictures):
    before = read_coco(small[0], scheme=MTFL_5).picture(1)
    path, _ = move_listing(small, listing, pattern, pictures)
    read = load_faces("coco", "all", root=str(path), scheme="mtfl5")
    np.testing.assert_array_equal(read.picture(1), before)
    assert not check_split(read, []).faults


def test_the_folder_of_pictures_can_be_given_to_all_commands(small, monkeypatch, capsys):
    path, _ = move_listing(small, "lists/a.json", "/home/me/shots/{name}", "elsewhere")
    assert "points outside the data folder" in refusal(path, path.read_text())
    images = str(path.parents[1] / "elsewhere")
    read = load_faces("coco", "all", root=str(path), images=images, scheme="mtfl5")
    assert read.photos == ("train_1.png", "train_2.png", "train_3.png")
    assert read.picture(2).ndim == 3
    monkeypatch.chdir(path.parents[1])
    main(["data", "check", "lists/a.json", "--images", "elsewhere", "--scheme", "mtfl5"])
    assert "missing or broken" not in capsys.readouterr().out
    config = load_config(CONFIGS / "own.py")
    data = dataclasses.replace(config.data, name="coco", root="lists/a.json", images="elsewhere", scheme="mtfl5")
    read = training_data(dataclasses.replace(config, data=dataclasses.replace(data, validation=0.5)))
    assert len(read.train.images) + len(read.validation.images) == 3
    with pytest.raises(
        InputError, match=r"images=elsewhere: only annotation files \(coco, csv, imglab\) take a folder of images"
    ):
        load_faces("pts", "all", root=".", images="elsewhere", scheme="mtfl5")


def test_a_link_in_the_folder_of_pictures_that_leads_out_is_refused(small):
    path, _ = move_listing(small, "lists/a.json", "{name}", "elsewhere")
    folder = path.parents[1] / "elsewhere"
    (folder / "train_1.png").rename(path.parents[1] / "secret.png")
    (folder / "train_1.png").symlink_to(path.parents[1] / "secret.png")
    with pytest.raises(InputError, match="outside its folder"):
        load_faces("coco", "all", root=str(path), images=str(folder), scheme="mtfl5")


# Names of keypoints, and copies of photos


def rename_keypoints(small, names: list[str], order: list[int]) -> Path:
    """Write the file with `names` in its category and its keypoints in `order`."""
    path, content = small
    content["categories"][0]["keypoints"] = names
    for annotation in content["annotations"]:
        annotation["keypoints"] = np.reshape(annotation["keypoints"], (5, 3))[order].ravel().tolist()
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def faces_file(tmp_path):
    """Like `small`, with left points on the left."""
    write_coco(tmp_path, scheme=MTFL_5, state=2)
    path = tmp_path / "annotations" / "train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"] = [20, 20, 2, 40, 20, 2, 31, 30, 2, 22, 40, 2, 38, 41, 2]
    path.write_text(json.dumps(content))
    return path, content


@pytest.mark.parametrize(
    "names",
    [
        ["nose", "right_eye", "left_eye", "mouth_right", "mouth_left"],
        ["Nose Tip", "RightEye", "LeftEye", "RightMouthCorner", "LeftMouthCorner"],
        ["nose", "righteye", "lefteye", "rightmouth", "leftmouth"],
        ["n", "re", "le", "rmc", "lmc"],
        ["nose-tip", "r_eye", "l_eye", "right lip corner", "corner of the mouth left"],
        ["point_3", "point_2", "point_1", "point_5", "point_4"],
    ],
)
def test_other_spellings_of_names_define_the_order(faces_file, names):
    before = read_coco(faces_file[0], scheme=MTFL_5)
    after = read_coco(rename_keypoints(faces_file, names, [2, 1, 0, 4, 3]), scheme=MTFL_5)
    np.testing.assert_array_equal(after.points, before.points)


@pytest.mark.parametrize(
    "names",
    [["0", "1", "2", "3", "4"], ["kp_1", "kp_2", "kp_3", "kp_4", "kp_5"], [], [""] * 5, [None] * 5],
    ids=["0", "kp_1", "none", "empty", "null"],
)
def test_names_that_are_numbers_keep_the_order_of_the_file(faces_file, names):
    before = read_coco(faces_file[0], scheme=MTFL_5)
    np.testing.assert_array_equal(
        read_coco(rename_keypoints(faces_file, names, [0, 1, 2, 3, 4]), scheme=MTFL_5).points, before.points
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["nose", "right_eye", "left_eye", "right_ear", "mouth_left"],
            "cannot match its names 'right_ear' to 'right mouth",
        ),
        (["a", "b", "c", "d", "e"], "cannot match its names 'a', 'b', 'c', 'd', 'e' to 'left eye', "),
        (["nose", "nose tip", "left_eye", "mouth_right", "mouth_left"], "cannot match its names 'nose' to 'right eye'"),
        (["nose", "left_eye", "right_eye"], "names 3 keypoints, but its annotations have 5"),
    ],
)
def test_names_that_do_not_define_the_order_are_refused(faces_file, names, expected):
    path = rename_keypoints(faces_file, names, [0, 1, 2, 3, 4])
    message = refusal(path, path.read_text())
    assert message.startswith(": category 1: ")
    assert expected in message
    assert "remove them from the file to use its order" in message


@pytest.mark.parametrize("odd", ["an object of names", "one text", "one category"])
def test_names_that_are_not_a_list_are_refused(faces_file, odd):
    names = ["nose", "right_eye", "left_eye", "mouth_right", "mouth_left"]
    path, content = faces_file
    category = content["categories"][0]
    category["keypoints"] = {"an object of names": dict(enumerate(names)), "one text": ",".join(names)}.get(odd, names)
    content["categories"] = category if odd == "one category" else [category]
    assert f"is not a list of {'objects' if odd == 'one category' else 'names'}" in refusal(path, json.dumps(content))


@pytest.mark.parametrize("number", [None, 0, "x"])
def test_categories_without_names_use_the_names_of_the_only_other_category(faces_file, number):
    before = read_coco(faces_file[0], scheme=MTFL_5)
    path = rename_keypoints(faces_file, ["nose", "right_eye", "left_eye", "mouth_right", "mouth_left"], [2, 1, 0, 4, 3])
    content = json.loads(path.read_text())
    content["annotations"][1]["category_id"] = number
    path.write_text(json.dumps(content))
    np.testing.assert_array_equal(read_coco(path, scheme=MTFL_5).points, before.points)
    second = {**content["categories"][0], "id": 99, "keypoints": ["le", "re", "nose", "lm", "rm"]}
    content["categories"].append(second)
    assert "has no keypoint names, and those of the other categories have several orders" in refusal(
        path, json.dumps(content)
    )


def test_names_that_mean_the_persons_left_are_refused(faces_file):
    names = ["right_eye", "left_eye", "nose", "mouth_right", "mouth_left"]  # the names of MediaPipe and YuNet
    path = rename_keypoints(faces_file, names, [0, 1, 2, 3, 4])
    message = refusal(path, path.read_text())
    assert "in 3 of 3 faces 'left eye' is to the right of 'right eye'" in message
    assert "swap left and right in the keypoint names of the file" in message


def test_a_custom_scheme_may_mean_the_persons_left(faces_file, tmp_path):
    (tmp_path / "own.toml").write_text(
        'name = "own"\npoints = ["right eye", "left eye", "nose", "mouth right", "mouth left"]\n'
        'mirrored = [["right eye", "left eye"], ["mouth right", "mouth left"]]\n'
        'normalization = ["right eye", "left eye"]\n'
    )
    names = ["right_eye", "left_eye", "nose", "mouth_right", "mouth_left"]
    path = rename_keypoints(faces_file, names, [0, 1, 2, 3, 4])
    assert len(read_coco(path, scheme=Scheme.read(tmp_path / "own.toml"))) == 3


@pytest.mark.parametrize("with_name", [True, False])
def test_copies_made_by_roboflow_are_one_photo(small, with_name):
    path, content = small
    images, annotations = [], []
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        for copy in ("0a1b2c3d", "4e5f6a7b", "8c9d0e1f"):
            name = f"{image['file_name'][:-4]}_png.rf.{copy}.jpg"
            number = len(images) + 1
            extra = {"extra": {"name": image["file_name"]}} if with_name else {}
            images.append({**image, "id": number, "file_name": name, **extra})
            annotations.append({**annotation, "id": number, "image_id": number})
    path.write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    read = read_coco(path, scheme=MTFL_5)
    assert read.photos == tuple(f"train_{number}.png" for number in (1, 2, 3) for _ in range(3))
    first, second = read.split(0.5)
    assert not set(first.photos) & set(second.photos)


# Whole bodies


def whole_body(path: Path, **annotation) -> Path:
    """Write a file of one person whose face has 68 points."""
    body = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [5, 5, 300, 300], "num_keypoints": 1}
    images = [{"id": 1, "file_name": "a.png"}]
    categories = [{"id": 1, "name": "person", "keypoints": [str(number) for number in range(17)]}]
    content = {"images": images, "categories": categories, "annotations": [{**body, **annotation}]}
    path.write_text(json.dumps(content))
    return path


FACE = np.stack([np.arange(68) + 100.0, np.arange(68) % 17 * 3 + 100, np.full(68, 2)], 1)
BODY = [0] * 48 + [120, 110, 2]


def test_the_faces_of_coco_wholebody_are_read(tmp_path):
    about = {"face_box": [95, 95, 80, 60], "face_valid": True, "face_kpts": FACE.ravel().tolist()}
    read = read_coco(whole_body(tmp_path / "w.json", keypoints=BODY, **about), scheme=IBUG_68)
    np.testing.assert_array_equal(read.points[0], FACE[:, :2])
    np.testing.assert_array_equal(read.boxes, [[95, 95, 175, 155]])
    for change in ({"face_valid": False}, {"face_kpts": [0] * 204}, {"iscrowd": 1}, {"face_kpts": None}):
        path = whole_body(tmp_path / "w.json", keypoints=BODY, **(about | change))
        with pytest.raises(InputError, match=r"none of 1 annotations has labeled|51 numbers"):
            read_coco(path, scheme=IBUG_68)
    path = whole_body(tmp_path / "w.json", keypoints=BODY, **about)
    expected = r"68 points of ibug68 \('face_kpts' of COCO-WholeBody\), but mtfl5 has 5: pass ibug68 as the scheme"
    with pytest.raises(InputError, match=expected):
        read_coco(path, scheme=MTFL_5)


@pytest.mark.parametrize(("total", "first"), [(133, 23), (136, 26)])
def test_the_faces_in_merged_bodies_are_read(tmp_path, total, first):
    keypoints = np.full((total, 3), 7.0)
    keypoints[:, 2], keypoints[first : first + 68] = 2, FACE
    read = read_coco(whole_body(tmp_path / "w.json", keypoints=keypoints.ravel().tolist()), scheme=IBUG_68)
    np.testing.assert_array_equal(read.points[0], FACE[:, :2])
    np.testing.assert_array_equal(read.boxes[0], [*FACE[:, :2].min(0), *FACE[:, :2].max(0)])
    with pytest.raises(InputError, match=f"{total} points of .*, but mtfl5 has 5: pass ibug68"):
        read_coco(tmp_path / "w.json", scheme=MTFL_5)
    keypoints[first : first + 68] = 0
    with pytest.raises(InputError, match="none of 1 annotations has labeled"):
        read_coco(whole_body(tmp_path / "w.json", keypoints=keypoints.ravel().tolist()), scheme=IBUG_68)


# Values


@pytest.mark.parametrize("pair", [(-1, -1), (None, None), (float("nan"), float("nan")), ("", "")])
def test_labeled_points_with_missing_coordinates_have_no_position(small, pair):
    path, content = small
    content["annotations"][0]["keypoints"][3:5] = pair
    content["annotations"][1]["keypoints"][3:5] = -1, 5
    path.write_text(json.dumps(content))
    read = read_coco(path, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible[0], [True, False, True, True, True])
    np.testing.assert_array_equal(read.points[1, 1], [-1, 5])


@pytest.mark.parametrize(
    ("states", "visibility"),
    [
        ([0.0, 0.2, 0.5, 0.9, 1.0], [0, 2, 1, 1, 1]),
        ([0, 1e-6, 1, 1, 1], [0, 2, 1, 1, 1]),
        ([False, True, True, True, True], [0, 1, 1, 1, 1]),
        (["0", "1", "2", "2", "2"], [0, 2, 1, 1, 1]),
    ],
)
def test_visibility_may_be_a_probability(small, states, visibility):
    path, content = small
    for annotation in content["annotations"]:
        annotation["keypoints"][2::3] = states
    path.write_text(json.dumps(content))
    read = read_coco(path, scheme=MTFL_5)
    np.testing.assert_array_equal(read.visible[0], np.array(visibility) > 0)
    np.testing.assert_array_equal(read.visibility[0], visibility)


def test_probabilities_that_are_all_1_are_unknown_and_mixed_numbers_are_refused(small):
    path, content = small
    content["annotations"] = content["annotations"][:1]
    content["annotations"][0]["keypoints"][2::3] = [1.0] * 5
    path.write_text(json.dumps(content))
    assert read_coco(path, scheme=MTFL_5).visibility is None
    content["annotations"][0]["keypoints"][2::3] = [0.5, 2, 1, 1, 1]
    assert "visibility 0.5 is not 0, 1 or 2, and other values of the file are not probabilities" in refusal(
        path, content
    )
    content["annotations"][0]["keypoints"][2::3] = [0.5, -0.5, 1, 1, 1]
    assert "visibility 0.5 is not 0, 1 or 2" in refusal(path, content)


def test_numbers_as_text_ids_of_two_kinds_and_grouped_points_are_read(small):
    path, content = small
    before = read_coco(path, scheme=MTFL_5)
    for annotation in content["annotations"]:
        annotation["keypoints"] = np.reshape(annotation["keypoints"], (5, 3)).astype(str).tolist()
        annotation["bbox"] = [str(number) for number in annotation["bbox"]]
        annotation["image_id"] = str(annotation["image_id"])
    path.write_text(json.dumps(content))
    after = read_coco(path, scheme=MTFL_5)
    np.testing.assert_array_equal(after.points, before.points)
    np.testing.assert_array_equal(after.visibility, before.visibility)
    np.testing.assert_array_equal(after.boxes, before.boxes)
    assert after.photos == before.photos


def test_the_output_of_predict_for_one_photo_is_refused(tmp_path):
    content = {"scheme": "mtfl5", "coordinates": "x, y", "faces": []}
    assert "the output of wing-jax predict for one picture, not a COCO file" in refusal(tmp_path / "a.json", content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=15) | st.dictionaries(st.sampled_from(["id", "keypoints", "a"]), inner),
    max_leaves=20,
)
ANNOTATION = {"id": 5, "image_id": 1, "keypoints": [1, 2, 2] * 5, "bbox": [0, 0, 9, 9], "category_id": 1}
TRIPLES = st.lists(st.integers(0, 2) | st.floats(), min_size=15, max_size=15)


@pytest.mark.slow
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


def test_boxes_of_two_corners_are_refused(faces_file):
    path, content = faces_file
    for annotation in content["annotations"]:
        annotation["bbox"] = [18, 18, 24, 26]  # x, y, width, height
    path.write_text(json.dumps(content))
    assert len(read_coco(path, scheme=MTFL_5)) == 3
    for annotation in content["annotations"]:
        annotation["bbox"] = [18, 18, 42, 44]
    assert "the boxes of 3 of 3 faces seem to be [x0, y0, x1, y1]" in refusal(path, json.dumps(content))


def test_a_file_in_utf16_is_read(faces_file):
    path, content = faces_file
    path.write_bytes(json.dumps(content).encode("utf-16"))
    assert len(read_coco(path, scheme=MTFL_5)) == 3


@pytest.mark.parametrize("scale", [0.01, 0.5])
def test_points_in_other_units_than_their_boxes_are_refused(faces_file, scale):
    path, content = faces_file
    for annotation in content["annotations"]:
        annotation["bbox"] = [18, 18, 24, 26]
        annotation["keypoints"][::3] = [scale * x for x in annotation["keypoints"][::3]]
    path.write_text(json.dumps(content))
    if scale == 0.5:  # one of five points is still in the box
        assert len(read_coco(path, scheme=MTFL_5)) == 3
        return
    faults: list[str] = []
    with pytest.raises(InputError, match="no point is inside its box, as in 3 of 3 faces") as caught:
        read_coco(path, scheme=MTFL_5, faults=faults)
    assert "annotation" in str(caught.value)
