"""The readers of 300-W and MTFL: the published counts on real data, and every kind of fault on small folders."""

import re

import numpy as np
import pytest
import scipy.io

from tests.support.paths import CONFIGS
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.images import write_image
from wing_jax.data.load import find_data, load_faces
from wing_jax.data.readers.mtfl import POSES, box_of_five_points, read_mtfl
from wing_jax.data.readers.points_file import read_pts, write_pts
from wing_jax.data.readers.synthetic import synthetic_faces
from wing_jax.data.readers.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68, MTFL_5


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def counts(names) -> dict[str, int]:
    return dict(zip(*(column.tolist() for column in np.unique(np.array(names), return_counts=True)), strict=True))


# 300-W


@pytest.fixture
def w300(tmp_path):
    """Three faces of two photos in `afw`, one in `helen/testset` and one in `ibug`, all of 200 x 180 pixels."""
    shape = np.random.default_rng(0).uniform(40, 140, (68, 2)).astype(np.float32)
    for name in ("afw/17_1", "afw/17_2", "afw/18_1", "helen/testset/9_1", "ibug/image_003_1"):
        write_image(tmp_path / f"{name}.jpg", np.full((180, 200, 3), 90, np.uint8))
        write_pts(tmp_path / f"{name}.pts", shape)
    return tmp_path


@pytest.mark.slow
def test_300w_as_published(data_root):
    train, test = (read_w300(data_root / "300w", split) for split in ("train", "test"))
    assert counts(train.subsets) == {"afw": 337, "helen": 870, "lfpw": 805}
    assert counts(test.subsets) == {"helen": 330, "lfpw": 224}
    assert train.points.shape == (2012, 68, 2)
    assert test.points.shape == (554, 68, 2)
    for faces in (train, test):
        np.testing.assert_array_equal(faces.boxes[:, :2], faces.points.min(1))
        np.testing.assert_array_equal(faces.boxes[:, 2:], faces.points.max(1))
        assert faces.visible.all()
        assert faces.scheme is IBUG_68
        assert all(picture.exists() for picture in faces.pictures)
    assert counts([photo.split("/")[0] for photo in set(train.photos)]) == {"afw": 185, "helen": 783, "lfpw": 805}


def test_300w_points_are_on_their_face(data_root):
    """The iris is darker than the skin between the brows, which detects shifted names or origins."""
    faces = read_w300(data_root / "300w", "test").take(np.arange(0, 554, 14))
    darker = []
    for index in range(len(faces)):
        image, points = faces.picture(index).mean(-1), faces.points[index]
        pupils = [points[list(eye)].mean(0) for eye in (IBUG_68.left_eye, IBUG_68.right_eye)]
        (x, y), (left, right) = points[27], (pupil.round().astype(int) for pupil in pupils)
        darker.append(image[round(y), round(x)] > (image[left[1], left[0]] + image[right[1], right[0]]) / 2)
    assert np.mean(darker) > 0.85


def test_300w_small(w300):
    train, test = read_w300(w300, "train"), read_w300(w300, "test")
    assert train.photos == ("afw/17", "afw/17", "afw/18")
    assert train.subsets == ("afw",) * 3
    assert test.photos == ("helen/9", "ibug/image_003")
    assert test.subsets == ("helen", "challenging")
    assert train.picture(1).shape == (180, 200, 3)
    assert train.picture_name(1).endswith("17_2.jpg")


def test_300w_is_found_from_within_its_own_folder(w300, monkeypatch):
    monkeypatch.chdir(w300)
    assert read_w300(".", "test").photos == ("helen/9", "ibug/image_003")


def test_300w_refuses_a_missing_and_an_empty_folder(tmp_path):
    missing = refusal(read_w300, tmp_path / "nowhere", "train")
    assert missing == f"{tmp_path / 'nowhere'}: no such folder: pass the folder that contains afw/, helen/ and lfpw/"
    assert "no .pts file in afw, helen/trainset, lfpw/trainset" in refusal(read_w300, tmp_path, "train")


def test_300w_refuses_points_without_their_picture(w300):
    (w300 / "afw/17_2.jpg").unlink()
    assert refusal(read_w300, w300, "train").startswith(f"{w300 / 'afw/17_2.pts'}: no picture of that name beside it")


def write_published_boxes(root, part, names) -> dict[str, np.ndarray]:
    """Write a .mat file like those of iBUG; return its boxes by picture."""
    cell = np.empty((1, len(names)), object)
    boxes = {name: np.arange(4.0) * 20 + 10 * number + 5 for number, name in enumerate(names)}
    for number, name in enumerate(names):
        content = {"imgName": f"{name}.jpg", "bb_detector": boxes[name], "bb_ground_truth": np.arange(4.0)}
        cell[0, number] = content
    (root / "Bounding Boxes").mkdir(exist_ok=True)
    scipy.io.savemat(root / "Bounding Boxes" / f"bounding_boxes_{part}.mat", {"bounding_boxes": cell})
    return boxes


def test_300w_uses_the_boxes_of_the_detector(w300):
    boxes = write_published_boxes(w300, "afw", ["17_2", "18_1", "17_1"])
    faces = load_faces("w300", "train", root=str(w300), boxes="detector")
    np.testing.assert_array_equal(faces.boxes, [boxes[name] - 1 for name in ("17_1", "17_2", "18_1")])
    assert faces.box_convention == "300w-detector"
    assert load_faces("w300", "train", root=str(w300)).box_convention == "landmarks"


def test_300w_refuses_missing_and_broken_detector_boxes(w300):
    file = w300 / "Bounding Boxes" / "bounding_boxes_afw.mat"
    assert refusal(read_w300, w300, "train", detector=True).startswith(f"{file}: cannot read")
    write_published_boxes(w300, "afw", ["17_2", "18_1"])
    assert "17_1.pts: no published bounding box" in refusal(read_w300, w300, "train", detector=True)
    file.write_bytes(file.read_bytes()[:300])
    assert refusal(read_w300, w300, "train", detector=True).startswith(f"{file}: not as published")
    scipy.io.savemat(file, {"bounding_boxes": np.zeros((1, 3))})
    assert refusal(read_w300, w300, "train", detector=True).startswith(f"{file}: not as published")
    assert "only for 300-W" in refusal(load_faces, "synthetic", "train", count=1, boxes="detector")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda text: text.replace("n_points: 68", "n_points: 67").replace("{\n", "{", 1),
            "expected the points between",
        ),
        (lambda text: re.sub(r"\n[^\n]+\n}", "\n}", text).replace("68", "67"), "67 points, but 68 in the scheme"),
        (lambda text: re.sub(r"{\n\S+", "{\nnan", text), "is not finite"),
        (lambda text: re.sub(r"{\n\S+", "{\nx", text), "is not two numbers"),
    ],
    ids=["brace", "67 points", "NaN", "text"],
)
def test_300w_refuses_a_damaged_points_file(w300, damage, expected):
    file = w300 / "afw/17_2.pts"
    file.write_text(damage(file.read_text()))
    message = refusal(read_w300, w300, "train")
    assert message.startswith(str(file))
    assert expected in message


@pytest.mark.parametrize("position", [(-80, 30), (30, -80), (280, 90), (90, 270), (9e6, 9e6)])
def test_a_point_far_outside_its_picture_is_refused(w300, position):
    points = read_pts(w300 / "afw/17_2.pts")
    points[7] = position
    write_pts(w300 / "afw/17_2.pts", points)
    message = refusal(crop_faces, read_w300(w300, "train"), size=32)
    assert message.startswith(f"{w300 / 'afw/17_2.jpg'}: point 8 of its annotation is ")
    assert message.endswith("pixels outside the picture of 200 x 180: correct or remove the annotation")


def test_a_shape_mostly_outside_its_picture_is_refused_and_a_face_cut_by_the_edge_is_not(w300):
    points = read_pts(w300 / "afw/17_2.pts")
    middle = np.median(points[:, 0])
    write_pts(w300 / "afw/17_2.pts", points + np.float32([199 - middle - 8, 0]))
    points[:, 0] = 100 + (points[:, 0] - middle) / 5
    write_pts(w300 / "afw/18_1.pts", points + np.float32([199 - 100 - 1, 0]))
    faces = read_w300(w300, "train")
    assert (faces.points[1:, :, 0] > 199.5).any(1).all()
    assert len(crop_faces(faces, size=32).images) == 3
    write_pts(w300 / "afw/18_1.pts", points + np.float32([199 - 100 + 4, 0]))
    assert "18_1.jpg: point" in refusal(crop_faces, read_w300(w300, "train"), size=32)


@pytest.mark.slow
def test_real_faces_are_not_refused_for_points_outside(data_root):
    for faces in (read_w300(data_root / "300w", "test"), read_mtfl(data_root / "mtfl", "test")):
        assert len(crop_faces(faces.take(np.arange(0, len(faces), 50)), size=16).images) > 10


def test_a_truncated_picture_is_named(w300):
    file = w300 / "afw/18_1.jpg"
    file.write_bytes(file.read_bytes()[:-40])
    assert refusal(crop_faces, read_w300(w300, "train"), size=32).startswith(f"{file}: the image file is truncated")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["folder", "empty", "67 points", "NaN", "outside", "truncated"])
def test_the_command_line_says_one_line_and_exits_with_status_2(w300, damage, capsys, monkeypatch, tmp_path_factory):
    from wing_jax.cli import main

    root, points = w300, read_pts(w300 / "afw/17_1.pts")
    if damage == "folder":
        root, name = w300 / "nowhere", "nowhere"
    elif damage == "empty":
        root, name = tmp_path_factory.mktemp("empty"), "empty"
    elif damage == "truncated":
        (w300 / "afw/17_1.jpg").write_bytes((w300 / "afw/17_1.jpg").read_bytes()[:-30])
        name = "17_1.jpg"
    else:
        changed = {"67 points": points[1:], "NaN": points * np.nan, "outside": points + 500}[damage]
        write_pts(w300 / "afw/17_1.pts", changed)
        name = "17_1"
    output = tmp_path_factory.mktemp("runs")
    config = CONFIGS / "w300.py"
    words = ["train", str(config), "--data.root", str(root), "--data.validation", "0.3", "--devices", "1"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--output", str(output)])
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert message.startswith("wing-jax: ")
    assert message.count("\n") == 1
    assert name in message


# MTFL


def mtfl_line(name: str, points: np.ndarray, pose: int) -> str:
    return f" {name} {' '.join(f'{value:.2f}' for value in points.T.ravel())} 1 2 2 {pose}\n"


@pytest.fixture
def mtfl(tmp_path):
    faces = np.random.default_rng(0).uniform(20, 80, (3, 5, 2)).round(2)
    names = ("a\\x one.jpg", "a\\two.jpg", "b/three.jpg")
    for split in ("training", "testing"):
        lines = [mtfl_line(name, points, pose) for name, points, pose in zip(names, faces, (1, 3, 5), strict=True)]
        (tmp_path / f"{split}.txt").write_text("".join(lines) + "\n")
    (tmp_path / "AFLW_boundingbox.txt").write_text("".join(f"{i}\t{i + 90}\t{i + 1}\t{i + 91}\n" for i in range(3)))
    (tmp_path / "AFLW_image_list.txt").write_text("".join(f"{name}\n" for name in reversed(names)))
    return tmp_path, faces


@pytest.mark.slow
def test_mtfl_as_published(data_root):
    train, test = (read_mtfl(data_root / "mtfl", split) for split in ("train", "test"))
    assert list(counts(train.poses).values()) == [136, 1113, 7445, 1111, 195]
    assert list(counts(test.poses).values()) == [193, 450, 1825, 401, 126]
    assert tuple(counts(train.poses)) == POSES
    assert counts(train.subsets) == {"lfw_5590": 4151, "net_7876": 5849}
    assert test.points.shape == (2995, 5, 2)
    for faces in (train, test):
        assert all(picture.exists() for picture in faces.pictures)
        left_eye, right_eye, nose = (faces.points[:, i, 0] for i in range(3))
        place = (nose - (left_eye + right_eye) / 2) / np.maximum(np.ptp(faces.points[..., 1], axis=1), 1)
        by_pose = [np.median(place[np.array(faces.poses) == pose]) for pose in POSES]
        assert by_pose == sorted(by_pose)  # the nose goes from image left to image right
        assert by_pose[0] < -0.2 < 0.2 < by_pose[-1]


@pytest.mark.slow
def test_the_box_rule_agrees_with_the_published_boxes_in_its_medians(data_root):
    published = read_mtfl(data_root / "mtfl", "test", boxes=data_root / "mtfl_boxes")
    by_rule = box_of_five_points(published.points)

    def side_and_center(boxes):
        return (boxes[:, 2:] - boxes[:, :2]).max(1), (boxes[:, 2:] + boxes[:, :2]) / 2

    (side, center), (rule_side, rule_center) = side_and_center(published.boxes), side_and_center(by_rule)
    assert abs(np.median(rule_side / side) - 1) < 0.02
    assert np.abs(np.median((rule_center - center) / side[:, None], 0)).max() < 0.02


def test_mtfl_small(mtfl):
    root, points = mtfl
    train = read_mtfl(root, "train")
    np.testing.assert_allclose(train.points, points - 1, atol=1e-5)  # the files count from 1
    assert train.scheme is MTFL_5
    assert train.photos == ("a/x one.jpg", "a/two.jpg", "b/three.jpg")
    assert train.poses == (POSES[0], POSES[2], POSES[4])
    np.testing.assert_array_equal(train.boxes, box_of_five_points(train.points))
    test = read_mtfl(root, "test", boxes=root)
    np.testing.assert_array_equal(test.boxes, [[i, i + 1, i + 90, i + 91] for i in (2, 1, 0)])


def test_the_box_rule_by_hand():
    points = np.float32([[[0, 0], [100, 0], [50, 20], [20, 50], [80, 50]]])
    middle = np.array([50, 24]) - (0.025 * 171, 0.026 * 171)
    np.testing.assert_allclose(box_of_five_points(points), [[*(middle - 85.5), *(middle + 85.5)]], atol=1e-3)


@pytest.mark.parametrize(
    "line",
    [
        "a.jpg 1 2 3 4 5 6 7 8 9 10 1 1 1\n",  # no pose
        "a.jpg 1 2 3 4 5 6 7 8 9 ten 1 1 1 3\n",
        "a.jpg 1 2 3 4 5 6 7 8 9 nan 1 1 1 3\n",
        "a.jpg 1 2 3 4 5 6 7 8 9 1e60 1 1 1 3\n",
        "a.jpg 1 2 3 4 5 6 7 8 9 10 1 1 1 6\n",
        "a.jpg 1 2 3 4 5 6 7 8 9 10 1 1 1 front\n",
        "words\n",
    ],
)
def test_mtfl_names_the_bad_line(mtfl, line):
    root, _ = mtfl
    listing = root / "training.txt"
    listing.write_text(listing.read_text() + line)
    assert refusal(read_mtfl, root, "train").startswith(f"{listing}:5: ")


def test_mtfl_refuses_missing_and_empty_lists_and_pictures(mtfl, tmp_path):
    root, _ = mtfl
    assert refusal(read_mtfl, root / "nowhere", "train").startswith(f"{root / 'nowhere' / 'training.txt'}: cannot read")
    (root / "testing.txt").write_text("\n")
    assert "the list is empty" in refusal(read_mtfl, root, "test")
    message = refusal(crop_faces, read_mtfl(root, "train"), size=16)
    assert message.startswith(f"{root / 'a/x one.jpg'}: cannot read this image (No such file or directory)")


@pytest.mark.parametrize("row", ["1 2 3", "a b c d", "nan 5 1 5", "5 1 1 5", "1 5 5 5", "1 inf 1 5"])
def test_mtfl_names_the_bad_box(mtfl, row):
    root, _ = mtfl
    (root / "AFLW_boundingbox.txt").write_text(f"1 2 1 2\n{row}\n1 2 1 2\n")
    message = refusal(read_mtfl, root, "test", boxes=root)
    assert message.startswith(f"{root / 'AFLW_boundingbox.txt'}:2: ")
    assert repr(row) in message


def test_mtfl_refuses_missing_boxes(mtfl):
    root, _ = mtfl
    (root / "AFLW_image_list.txt").write_text("a\\two.jpg\nb/other.jpg\nb/three.jpg\n")
    assert refusal(read_mtfl, root, "test", boxes=root).endswith(
        "testing.txt:1: AFLW_boundingbox.txt has no box for 'x one.jpg': copy both box files again"
    )
    (root / "AFLW_image_list.txt").write_text("a\\two.jpg\n")
    assert "3 boxes but 1 names" in refusal(read_mtfl, root, "test", boxes=root)
    assert "cannot read this list" in refusal(read_mtfl, root, "test", boxes=root / "nowhere")


def test_data_are_found_below_the_environment_variable_or_both_folders_are_named(w300, tmp_path, monkeypatch):
    monkeypatch.setenv("WING_JAX_DATA", str(tmp_path.parent))
    assert find_data(tmp_path.name) == tmp_path
    message = refusal(find_data, "no-such-data")
    assert f"no data in {tmp_path.parent / 'no-such-data'} or ../shared/data/no-such-data" in message
    assert len(load_faces("w300", "train", root=str(w300))) == 3


def test_load_faces_uses_the_published_mtfl_boxes_beside_the_set(mtfl, tmp_path):
    root, _ = mtfl
    beside = tmp_path / "mtfl_boxes"
    beside.mkdir()
    (tmp_path / "mtfl").mkdir()
    for name in ("training.txt", "testing.txt"):
        (root / name).rename(tmp_path / "mtfl" / name)
    for name in ("AFLW_boundingbox.txt", "AFLW_image_list.txt"):
        (root / name).rename(beside / name)
    assert load_faces("mtfl", "test", root=str(tmp_path / "mtfl")).boxes[0, 0] == 2
    train = load_faces("mtfl", "train", root=str(tmp_path / "mtfl"))
    np.testing.assert_array_equal(train.boxes, box_of_five_points(train.points))


def test_the_synthetic_faces_need_a_number():
    assert "needs at least one face, got 0" in refusal(load_faces, "synthetic", "train")
    assert "needs at least one face, got 0" in refusal(load_faces, "synthetic_2d", "train")


def test_synthetic_faces_with_points_along_the_outline():
    solid, outline = (load_faces(name, "train", count=4, seed=2) for name in ("synthetic", "synthetic_2d"))
    np.testing.assert_array_equal(outline.pictures, solid.pictures)
    np.testing.assert_array_equal(outline.points[:, 27:], solid.points[:, 27:])
    assert np.abs(outline.points - solid.points)[:, :17].max() > 5
    np.testing.assert_allclose(outline.boxes[:, :2], outline.points.min(1))
    assert load_faces("synthetic_2d", "test", count=1, seed=2).photos != outline.photos[:1]


def test_compressed_synthetic_faces_are_the_same_faces():
    raw, compressed = (synthetic_faces(3, seed=2, size=96, compress=compress) for compress in (False, True))
    np.testing.assert_array_equal(compressed.points, raw.points)
    for index in range(3):
        difference = np.abs(compressed.picture(index).astype(int) - raw.picture(index))
        assert difference.mean() < 3
