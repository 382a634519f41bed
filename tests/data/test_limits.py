"""Annotations that do not fit their pictures: `data check` reports them and training rejects them."""

import dataclasses
import json
import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest

from tests.support.dots import picture_of_dots
from tests.support.writers.coco import write_coco
from tests.support.writers.mtfl import write_mtfl
from tests.support.writers.points_folder import write_points_folder
from wing_jax.cli import main
from wing_jax.data import face_crops
from wing_jax.data.boxes import valid_boxes
from wing_jax.data.check import check_split, shared_faces
from wing_jax.data.face_crops import annotation_fault, crop_face, crop_faces, crop_squares
from wing_jax.data.images import resize_square
from wing_jax.data.limits import LARGEST_BOX, box_fault, points_fault
from wing_jax.data.load import load_faces
from wing_jax.data.readers.coco import read_coco
from wing_jax.data.readers.imglab import read_imglab
from wing_jax.data.readers.points_folder import read_points_folder
from wing_jax.data.readers.points_table import read_points_csv
from wing_jax.errors import InputError
from wing_jax.inference.checks import check_boxes
from wing_jax.inference.detectors import Detector, ShapeInBox, detect_faces
from wing_jax.report.faces import annotation_sheet
from wing_jax.schemes import MTFL_5

BAD = {  # COCO's x y w h, and the message, for a picture of about 200 x 200
    "thousands of times": ([-1e6, -1e6, 2e6, 2e6], "times as large as the picture"),
    "eleven times": ([-1000, -1000, 2250, 2250], "times as large as the picture"),
    "outside": ([5000, 5000, 60, 60], "is outside the picture"),
    "left of the picture": ([-90, 20, 60, 60], "is outside the picture"),
    "half a pixel": ([20, 20, 0.5, 0.5], "is smaller than 2 pixels"),
}


@pytest.fixture
def coco(tmp_path):
    """A COCO file of three faces of five points, and a function that changes its second box."""
    write_coco(tmp_path, scheme=MTFL_5)
    path = tmp_path / "annotations" / "train.json"

    def change_box(box):
        content = json.loads(path.read_text())
        content["annotations"][1]["bbox"] = box
        path.write_text(json.dumps(content))
        return path

    return change_box


@pytest.mark.parametrize(("box", "complaint"), BAD.values(), ids=BAD)
def test_check_reports_what_cropping_rejects(coco, box, complaint):
    path = coco(box)
    faces = read_coco(path, scheme=MTFL_5)
    with pytest.raises(InputError) as caught:
        crop_faces(faces, size=32)
    message = str(caught.value)
    assert complaint in message
    assert message.startswith(f"{faces.picture_name(1)}: its box {box[0]:.7g} ")
    assert message.endswith(f"({path}: annotation 20)")
    check = check_split(faces, [])
    assert check.misfits == (message,)
    assert check.faults == ()


def test_check_ends_with_status_1_and_every_command_with_one_line(coco, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = coco([-1e6, -1e6, 2e6, 2e6])
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(path), "--scheme", "mtfl5"])
    assert stopped.value.code == 1
    output = capsys.readouterr().out
    assert "annotations that do not fit their pictures: 1" in output
    with pytest.raises(SystemExit) as stopped:
        main(["data", "pack", str(path), "packed", "--scheme", "mtfl5"])
    assert stopped.value.code == 2
    assert "times as large as the picture" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


def test_a_box_of_up_to_ten_times_its_picture_is_cropped(coco):
    path = coco([-300, -300, 700, 700])
    faces = read_coco(path, scheme=MTFL_5)
    assert check_split(faces, []).misfits == ()
    crop_faces(faces, size=32)


def full_square(image, box):
    """Return the complete square with repeated edges."""
    left, top, side = crop_squares(box[None])[0].tolist()
    rows = np.clip(np.arange(top, top + side), 0, len(image) - 1)
    columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
    return image[rows[:, None], columns]


def random_boxes(random, count, *, widest, sides=(2, 50)):
    for _ in range(count):
        height, width = random.integers(*sides, 2)
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        half = random.uniform(1, widest * max(height, width), 2) / 2
        middle = random.uniform(-0.3, 1.3, 2) * (width, height)
        yield image, np.concatenate([middle - half, middle + half]).astype(np.float32), int(random.integers(4, 60))


def test_ordinary_boxes_are_cropped_exactly_as_from_the_full_square():
    for image, box, size in random_boxes(np.random.default_rng(0), 100, widest=1):
        np.testing.assert_array_equal(crop_face(image, box, size=size)[0], resize_square(full_square(image, box), size))


def wide_boxes(random, count):
    """Yield pictures of a few rows, wide enough to be averaged along these first, and boxes of a part of them."""
    for _ in range(count):
        height, width = int(random.integers(2, 5)), int(random.integers(face_crops.WIDE + 1, face_crops.WIDE + 4000))
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        middle, half = random.uniform(0, (width, height)), random.uniform(300, 600, 2)
        yield image, np.concatenate([middle - half, middle + half]).astype(np.float32), int(random.integers(4, 60))


@pytest.mark.slow
def test_large_boxes_are_averaged_like_the_full_square():
    random, cases = np.random.default_rng(1), 0
    for image, box, size in (*random_boxes(random, 80, widest=10, sides=(60, 200)), *wide_boxes(random, 12)):
        side, (height, width, _) = crop_squares(box[None])[0, 2], image.shape
        if side**2 <= max(face_crops.LARGEST_SQUARE * height * width, face_crops.SMALL_SQUARE):
            continue
        cases += 1
        face_crop, transform = crop_face(image, box, size=size)
        averages = cv2.resize(full_square(image, box), (size, size), interpolation=cv2.INTER_AREA)
        assert np.abs(face_crop.astype(int) - averages).max() <= 1
        middle = transform[:, :2] @ np.full(2, (size - 1) / 2) + transform[:, 2]
        np.testing.assert_allclose(middle, (box[:2] + box[2:]) / 2, atol=0.51)
    assert cases > 50


def test_a_dot_is_found_in_a_face_crop_of_a_large_box():
    place = (141.3, 80.7)
    face_crop, transform = crop_face(
        picture_of_dots(200, 300, place, sigma=12), np.float32([-500, -300, 700, 500]), size=160
    )
    rows, columns = np.mgrid[:160, :160]
    weight = face_crop[..., 0].astype(np.float64)
    center = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(transform[:, :2] @ center + transform[:, 2], place, atol=0.5)


@pytest.mark.parametrize("shape", [(900, 1200), (3, 1_000_000), (1_000_000, 3)])
@pytest.mark.parametrize("times", [1.0, 2.0, 9.9])
def test_cropping_takes_a_few_times_the_memory_of_its_picture(shape, times):
    image = np.zeros((*shape, 3), np.uint8)
    half = times * max(shape) / 2
    middle = np.array([shape[1], shape[0]]) / 2
    box = np.concatenate([middle - half, middle + half]).astype(np.float32)
    tracemalloc.start()
    crop_face(image, box, size=128)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 9 * image.nbytes + (64 << 20)


@pytest.mark.slow
def test_cropping_works_if_the_square_does_not_fit_into_memory(tmp_path):
    pytest.importorskip("resource")
    script = (
        "import resource, numpy as np; from wing_jax.data.face_crops import crop_face\n"
        "import pathlib; size = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 29),) * 2)\n"
        "print(crop_face(np.zeros((2000, 3000, 3), np.uint8), np.float32([-9e3, -9e3, 2e4, 2e4]), size=64)[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(64, 64, 3)", done.stderr


def test_huge_boxes_are_rejected_before_they_overflow():
    for large in (1e30, np.inf, np.nan):
        with pytest.raises(InputError, match="beyond any picture"):
            crop_squares(np.float32([[0, 0, large, large]]))
    boxes = np.float32([[0, 0, 30, 30], [-3e38, -3e38, 3e38, 3e38], [0, 0, 1e30, 30], [-np.inf, 0, 30, 30]])
    assert valid_boxes(boxes, width=40, height=40).tolist() == [True, False, False, False]
    assert valid_boxes(np.float32([[-200, -200, 199, 199], [-200, -200, 201, 201]]), width=40, height=40).tolist() == [
        True,
        False,
    ]


def test_a_box_passed_to_a_model_is_checked_against_its_picture():
    image = np.zeros((40, 60, 3), np.uint8)
    with pytest.raises(InputError) as caught:
        check_boxes([[-20000, -20000, 20000, 20000]], image)
    assert str(caught.value) == (
        "the box -20000 -20000 20000 20000 is 667 times as large as the image of 60 x 40 pixels: pass the box "
        "of a face, at most 10 times as large"
    )
    assert len(check_boxes([[-200, -200, 300, 300]], image)) == 1


def test_impossible_boxes_of_a_detector_are_dropped():
    def find(image):
        return np.float32([[-1e6, -1e6, 1e6, 1e6], [5, 5, 30, 30], [0, 0, 1e30, 1e30]]), np.float32([1, 0.9, 0.8])

    detector = Detector(
        name="made", find=find, five_point_box=ShapeInBox(center=(0.0, 0.0), side=1.0), score_threshold=0.5
    )
    boxes, _ = detector(np.zeros((40, 60, 3), np.uint8))
    np.testing.assert_array_equal(boxes, [[5, 5, 30, 30]])


def test_detect_rejects_annotations_that_do_not_fit(coco):
    faces = read_coco(coco([-1e6, -1e6, 2e6, 2e6]), scheme=MTFL_5)
    detector = Detector(
        name="none",
        find=lambda image: (np.zeros((0, 4), np.float32), np.zeros(0, np.float32)),
        five_point_box=ShapeInBox(center=(0.0, 0.0), side=1.0),
        score_threshold=0.0,
    )
    with pytest.raises(InputError, match="times as large as the picture"):
        detect_faces(detector, faces)


def test_boxes_by_rule_are_checked_against_the_picture_too(coco):
    path = coco([-350, -350, 820, 820])
    crop_faces(load_faces("coco", "", root=str(path), scheme="mtfl5"), size=32)
    enlarged = load_faces("coco", "", root=str(path), scheme="mtfl5", boxes="enlarged")
    with pytest.raises(InputError, match="times as large as the picture"):
        crop_faces(enlarged, size=32)


def test_packed_crops_are_not_checked(coco):
    faces = dataclasses.replace(read_coco(coco([-1e6, -1e6, 2e6, 2e6]), scheme=MTFL_5), cropped=True)
    assert [annotation_fault(faces, index, width=9, height=9) for index in range(3)] == [""] * 3


def test_limits_at_their_boundaries():
    low = -100 * LARGEST_BOX / 2
    assert box_fault(np.float32([low, low, -low, -low]), width=100, height=60) == ""
    assert "times as large" in box_fault(np.float32([low, low, -low + 1, -low + 1]), width=100, height=60)
    assert "smaller than 2 pixels" in box_fault(np.float32([5, 5, np.nan, 20]), width=100, height=60)
    assert box_fault(np.float32([5, 5, 5, 20]), width=100, height=60) == ""  # points on one line
    visible = np.ones(3, bool)
    huge = np.float32([[10, 10], [20, 20], [9e7, 20]])
    assert points_fault(huge, visible, width=100, height=60).startswith("point 3 of its annotation is 89999900 pixels")


def test_a_coordinate_beyond_any_picture_is_a_fault(tmp_path):
    """`gather`, which every reader calls, rejects it before a rule for boxes overflows."""
    faults: list[str] = []
    write_coco(tmp_path, scheme=MTFL_5)
    path = tmp_path / "annotations" / "train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"][:2] = [1e30, 5]
    content["annotations"][1]["bbox"] = [0, 0, 1e30, 1e30]
    path.write_text(json.dumps(content))
    faces = load_faces("coco", "", root=str(path), scheme="mtfl5", boxes="square", faults=faults)
    assert len(faces) == 1
    assert faults == [
        f"{path}: annotation 10: point 1 at 1e+30 5 is beyond any picture: correct it",
        f"{path}: annotation 20: the box 0 0 1e+30 1e+30 (x0 y0 x1 y1) extends beyond any picture: correct it",
    ]
    with pytest.raises(InputError, match="annotation 10: point 1 at"):
        read_coco(path, scheme=MTFL_5)


def test_other_readers_report_it_too(tmp_path):
    table = tmp_path / "faces.csv"
    table.write_text("image,x0,y0,x1,y1,x2,y2,x3,y3,x4,y4\na.png,1e30,2,3,4,5,6,7,8,9,10\n")
    with pytest.raises(InputError, match=r"faces\.csv:2: point 1 at 1e\+30 2 is beyond any picture"):
        read_points_csv(table, scheme=MTFL_5)
    (tmp_path / "a.xml").write_text(
        "<dataset><images><image file='a.png'><box left='1' top='1' width='9' height='9'>"
        "<part name='0' x='1' y='-1e30'/></box></image></images></dataset>"
    )
    with pytest.raises(InputError, match=r"point 1 at 1 -1e\+30 is beyond any picture"):
        read_imglab(tmp_path / "a.xml", scheme=MTFL_5)
    write_points_folder(tmp_path / "folder", scheme=MTFL_5)
    path = sorted((tmp_path / "folder").rglob("*.pts"))[0]
    lines = path.read_text().splitlines()
    lines[lines.index("{") + 1] = "1e30 4"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"\.pts: point 1 at 1e\+30 3 is beyond any picture"):
        read_points_folder(path.parent, scheme=MTFL_5)


def test_mtfl_reports_a_point_beyond_any_picture(tmp_path):
    write_mtfl(tmp_path)
    path = tmp_path / "training.txt"
    lines = path.read_text().splitlines()
    words = lines[0].split()
    words[1] = "1e38"
    path.write_text("\n".join([" ".join(words), *lines[1:]]) + "\n")
    with pytest.raises(InputError, match="is beyond any picture"):
        load_faces("mtfl", "train", root=str(tmp_path))


def test_a_sheet_shows_faces_with_impossible_boxes_and_points(coco):
    for box in ([-1e6, -1e6, 2e6, 2e6], [9e6, 9e6, 60, 60]):
        faces = read_coco(coco(box), scheme=MTFL_5)
        faces.points[0, 0] = 9e7
        sheet = annotation_sheet(faces)
        assert sheet.shape[1] < 2000
    tile = annotation_sheet(faces.take(np.array([1])), numbers=False)[20:340, 20:340]
    assert tile.std() > 10  # the picture is visible


def test_a_sheet_shows_a_picture_of_one_pixel(coco):
    faces = read_coco(coco([10, 10, 30, 30]), scheme=MTFL_5).take([0])
    small = dataclasses.replace(faces, pictures=np.zeros((1, 1, 1, 3), np.uint8))
    assert annotation_sheet(small).shape[1] > 300


def test_faces_whose_points_do_not_fit_match_no_others():
    faces = load_faces("synthetic", "train", count=3)
    assert len(shared_faces(faces, faces)) == 3
    faces.points[1] *= 1e5
    assert len(shared_faces(faces, faces)) == 2
