"""Pictures whose size differs from the annotation file: they are reported or rejected, or their points converted."""

import contextlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from tests.support.dots import center_of_dot, picture_of_dots
from tests.support.writers.aflw_sqlite import write_aflw_sqlite
from wing_jax.cli import main
from wing_jax.config import DataConfig
from wing_jax.config_files import config_of
from wing_jax.data.check import check_split
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.images import read_image
from wing_jax.data.load import load_faces
from wing_jax.data.picture_sizes import (
    ORIENTATION,
    encoded_size,
    find_size_mismatches,
    parse_size,
    read_header,
    rescale_faces,
    rotate_points,
)
from wing_jax.data.readers.aflw_sqlite import read_aflw_sqlite
from wing_jax.data.readers.coco import read_coco
from wing_jax.data.readers.imglab import read_imglab
from wing_jax.data.readers.points_table import read_points_csv
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5

PLACES = np.float32([[62.3, 50.2], [118.7, 52.1], [90.2, 90.4], [66.6, 121.9], [116.1, 119.3]])
WIDTH, HEIGHT = 240, 170  # of the annotated pictures


def save(path: Path, image: PIL.Image.Image, *, orientation: int = 1) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))


def annotate(
    folder: Path, *, orientations=(1,), scale=(1.0, 1.0), size=(WIDTH, HEIGHT), written_size=None, ending=".png"
) -> Path:
    """Write a COCO file and pictures with dots, each with an EXIF orientation, and return the path of the file.

    The stored pictures are annotated and then resized by `scale`. The file states `written_size`, or the size at which
    they were annotated.
    """
    images, annotations = [], []
    for number, orientation in enumerate(orientations, 1):
        places = PLACES + number
        image = PIL.Image.fromarray(picture_of_dots(size[1], size[0], *places, sigma=4))
        image = image.resize((round(size[0] * scale[0]), round(size[1] * scale[1])), PIL.Image.Resampling.BOX)
        save(folder / f"{number}{ending}", image, orientation=orientation)
        width, height = written_size or size
        images.append({"id": number, "file_name": f"{number}{ending}", "width": width, "height": height})
        low, high = places.min(0), places.max(0)
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "keypoints": [value for x, y in places.tolist() for value in (x, y, 2)],
                "bbox": [*low.tolist(), *(high - low).tolist()],
            }
        )
    path = folder / "faces.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path


def assert_points_are_on_the_dots(faces, *, reach: float = 14) -> None:
    for index in range(len(faces)):
        image = faces.picture(index)
        for place in faces.points[index]:
            np.testing.assert_allclose(center_of_dot(image, place, reach=reach), place, atol=0.35)
        np.testing.assert_allclose(
            faces.boxes[index], [*faces.points[index].min(0), *faces.points[index].max(0)], atol=1e-2
        )


@pytest.mark.parametrize("scale", [(1.5, 1.5), (0.5, 0.5), (2.0, 1.0), (0.75, 1.2)])
def test_points_follow_a_resized_picture(tmp_path, scale):
    faces = read_coco(annotate(tmp_path, orientations=(1, 1), scale=scale), scheme=MTFL_5)
    moved = rescale_faces(faces)
    np.testing.assert_allclose(moved.points[0], (faces.points[0] + 0.5) * scale - 0.5, atol=1e-3)
    assert_points_are_on_the_dots(moved, reach=8 if min(scale) < 1 else 14)
    assert moved.picture_sizes.tolist() == [[round(WIDTH * scale[0]), round(HEIGHT * scale[1])]] * 2
    assert check_split(moved, []).misfits == ()


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_agrees_with_reading(tmp_path, orientation, ending):
    path = tmp_path / f"a{ending}"
    save(path, PIL.Image.fromarray(picture_of_dots(40, 64, (20, 20), sigma=4)), orientation=orientation)
    header = read_header(path)
    assert header.size == read_image(path).shape[1::-1]
    assert header.orientation == orientation
    assert header.swapped == (orientation > 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_rotate_like_the_picture_in_pillow(orientation):
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 8), np.uint8))
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    rotated = np.asarray(PIL.ImageOps.exif_transpose(image))
    points = np.array([(x, y) for y in range(5) for x in range(8)], float)
    places = rotate_points(points, size=(8, 5), orientation=orientation).astype(int)
    np.testing.assert_array_equal(rotated[places[:, 1], places[:, 0]], np.asarray(image).ravel())


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_points_annotated_without_exif_follow_the_rotation(tmp_path, orientation, ending, scale):
    path = annotate(tmp_path, orientations=(orientation, 1), scale=(scale, scale), ending=ending)
    faces = read_coco(path, scheme=MTFL_5)
    check = check_split(faces, [])
    assert len(check.misfits) == (1 if scale == 1 else 2)
    assert (
        f"1{ending}: is {round(170 * scale)} x {round(240 * scale)} pixels, but its annotation file says 240 x 170: "
        in (check.misfits[0])
    )
    assert ("width and height swapped" in check.misfits[0]) == (scale == 1)
    assert_points_are_on_the_dots(rescale_faces(faces))


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_pictures_whose_size_does_not_show_a_rotation_follow_the_others(tmp_path, orientation):
    """A square picture, or one rotated by 180 degrees, in a set whose tool ignored the EXIF rotation."""
    (tmp_path / "square").mkdir()
    square = read_coco(annotate(tmp_path / "square", orientations=(orientation,), size=(200, 200)), scheme=MTFL_5)
    np.testing.assert_array_equal(rescale_faces(square).points, square.points)  # nothing shows that it was ignored
    path = annotate(tmp_path, orientations=(6, orientation), size=(240, 170))
    content = json.loads(path.read_text())
    image = PIL.Image.fromarray(picture_of_dots(200, 200, *(PLACES + 2), sigma=4))
    save(tmp_path / "2.png", image, orientation=orientation)
    content["images"][1].update(width=200, height=200)
    path.write_text(json.dumps(content))
    faces = read_coco(path, scheme=MTFL_5)
    misfits = check_split(faces, []).misfits
    assert len(misfits) == 2
    assert "2.png: has an EXIF rotation, which its size does not show" in misfits[1]
    assert_points_are_on_the_dots(rescale_faces(faces))


def test_a_set_annotated_both_ways_is_rejected_if_unclear(tmp_path):
    path = annotate(tmp_path, orientations=(6, 6, 3))
    content = json.loads(path.read_text())
    content["images"][1].update(width=HEIGHT, height=WIDTH)
    path.write_text(json.dumps(content))
    faces = read_coco(path, scheme=MTFL_5)
    with pytest.raises(InputError, match=r"3\.png: is 240 x 170 pixels.*both with and without"):
        rescale_faces(faces)
    faults: list[str] = []
    assert len(rescale_faces(faces, faults=faults)) == 2
    assert len(faults) == 1


def test_swapped_sides_without_exif_are_rejected(tmp_path):
    faces = read_coco(annotate(tmp_path, written_size=(HEIGHT, WIDTH)), scheme=MTFL_5)
    assert "width and height swapped" in check_split(faces, []).misfits[0]
    with pytest.raises(InputError, match="no EXIF rotation that would swap them") as caught:
        rescale_faces(faces)
    assert "\n" not in str(caught.value)
    faults: list[str] = []
    with pytest.raises(InputError, match="no face remains"):
        rescale_faces(faces, faults=faults)
    assert faults == [str(caught.value)]


def test_a_rotated_and_stretched_picture_is_rejected(tmp_path):
    faces = read_coco(annotate(tmp_path, orientations=(6,), scale=(1.0, 3.0)), scheme=MTFL_5)
    with pytest.raises(InputError, match="both rotated by EXIF and stretched"):
        rescale_faces(faces)


def test_points_without_a_position_stay_without(tmp_path):
    path = annotate(tmp_path, scale=(1.5, 1.5))
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"][3:6] = [0, 0, 0]
    path.write_text(json.dumps(content))
    moved = rescale_faces(read_coco(path, scheme=MTFL_5))
    assert moved.visible.tolist() == [[True, False, True, True, True]]
    np.testing.assert_array_equal(moved.points[0, 1], [0, 0])


def test_rounding_is_no_difference(tmp_path):
    for size in ((WIDTH + 1, HEIGHT - 1), (WIDTH, HEIGHT)):
        faces = read_coco(annotate(tmp_path, written_size=size), scheme=MTFL_5)
        assert check_split(faces, []).misfits == ()
        np.testing.assert_array_equal(rescale_faces(faces).points, faces.points)
    assert check_split(read_coco(annotate(tmp_path, written_size=(WIDTH + 2, HEIGHT)), scheme=MTFL_5), []).misfits != ()


def test_cropping_rejects_and_reports_the_number(tmp_path):
    faces = read_coco(annotate(tmp_path, orientations=(1, 1, 1), scale=(1.5, 1.5)), scheme=MTFL_5)
    assert [path.name for path in find_size_mismatches(faces)] == ["1.png", "2.png", "3.png"]
    with pytest.raises(InputError) as caught:
        crop_faces(faces, size=32, workers=1)
    assert str(caught.value) == (
        f"{tmp_path / '1.png'}: is 360 x 255 pixels, but its annotation file says 240 x 170: resized? "
        "to convert its points pass --picture_size rescale (for training --data.picture_size rescale) "
        "(2 more pictures are not of the annotated size)"
    )
    path = str(tmp_path / "faces.json")
    moved = load_faces("coco", "", root=path, scheme="mtfl5", picture_size="rescale")
    assert crop_faces(moved, size=32).size == 32


def test_an_unreadable_picture_is_reported_once(tmp_path):
    path = annotate(tmp_path, orientations=(1, 1), scale=(1.5, 1.5))
    (tmp_path / "2.png").write_bytes(b"no picture")
    faults: list[str] = []
    faces = load_faces("coco", "", root=str(path), scheme="mtfl5", picture_size="rescale", faults=faults)
    assert faults == []
    check = check_split(faces, faults)
    assert len(check.faults) == 1
    assert check.misfits == ()


def test_a_set_without_sizes_cannot_be_rescaled():
    with pytest.raises(InputError, match="do not state the sizes of the pictures"):
        load_faces("synthetic", "train", count=2, picture_size="rescale")


INVALID = [0, -640, "wide", None, "", True, [640], {}, 1e12, 1e400, float("nan"), -1e400, 10**400, "1e999", 0.2]


@pytest.mark.parametrize("value", INVALID, ids=[str(value)[:9] for value in INVALID])
def test_invalid_sizes_are_ignored(tmp_path, value):
    assert parse_size(value, 480) is None
    assert parse_size(480, value) is None
    path = annotate(tmp_path)
    content = json.loads(path.read_text())
    content["images"][0]["width"] = value
    path.write_text(json.dumps(content))
    faces = read_coco(path, scheme=MTFL_5)
    assert faces.picture_sizes is None
    assert check_split(faces, []).misfits == ()


def test_sizes_of_several_types_are_read():
    assert parse_size("640", 480.0) == (640, 480)
    assert parse_size(640.0, "480.0") == (640, 480)


def test_imglab_states_the_size_of_an_image(tmp_path):
    annotate(tmp_path, orientations=(1, 1))
    box = "<box left='60' top='50' width='60' height='80'><part name='0' x='90' y='90'/></box>"
    path = tmp_path / "faces.xml"
    path.write_text(
        f"<dataset><images><image file='1.png' width='480' height='340'>{box}{box}</image>"
        f"<image file='2.png'>{box}</image></images></dataset>"
    )
    faces = read_imglab(path, scheme=MTFL_5)
    assert faces.picture_sizes.tolist() == [[480, 340], [480, 340], [0, 0]]
    assert len(check_split(faces, []).misfits) == 1  # one line per picture
    np.testing.assert_allclose(rescale_faces(faces).points[:, 0], [[44.75, 44.75], [44.75, 44.75], [90, 90]])


def test_a_table_states_the_size_of_an_image(tmp_path):
    annotate(tmp_path)
    points = ",".join(f"{axis}{i}" for i in range(5) for axis in "xy")
    row = ",".join(str(value) for value in PLACES.ravel())
    path = tmp_path / "faces.csv"
    for names in ("image_width,image_height", "width,height", "Width,Height"):
        path.write_text(f"image,{names},{points}\n1.png,480,340,{row}\n")
        assert read_points_csv(path, scheme=MTFL_5).picture_sizes.tolist() == [[480, 340]]
    for cells in (",", "0,0", "x,y"):
        path.write_text(f"image,width,height,{points}\n1.png,{cells},{row}\n")
        assert read_points_csv(path, scheme=MTFL_5).picture_sizes is None
    path.write_text(f"image,left,top,width,height,{points}\n1.png,60,50,50,70,{row}\n")  # a box
    assert read_points_csv(path, scheme=MTFL_5).picture_sizes is None


@pytest.mark.parametrize("column", ["width", "widht"])
def test_aflw_states_the_size_of_an_image(tmp_path, column):
    write_aflw_sqlite(tmp_path)
    faces = read_aflw_sqlite(tmp_path, "train")
    assert check_split(faces, []).misfits == ()
    with contextlib.closing(sqlite3.connect(tmp_path / "aflw.sqlite")) as database, database:
        columns = {name for _, name, *_ in database.execute("PRAGMA table_info(FaceImages)")}
        if column not in columns:
            database.execute(f"ALTER TABLE FaceImages RENAME COLUMN {({'width', 'widht'} & columns).pop()} TO {column}")
        database.execute(f"UPDATE FaceImages SET {column} = 900, height = 700")
    faces = read_aflw_sqlite(tmp_path, "train")
    assert faces.picture_sizes.tolist() == [[900, 700]] * len(faces)
    assert "its annotation file says 900 x 700" in check_split(faces, []).misfits[0]
    with contextlib.closing(sqlite3.connect(tmp_path / "aflw.sqlite")) as database, database:
        database.execute("ALTER TABLE FaceImages DROP COLUMN height")
    assert read_aflw_sqlite(tmp_path, "train").picture_sizes is None


def test_sizes_stay_with_their_faces(tmp_path):
    faces = read_coco(annotate(tmp_path, orientations=(1, 1, 1)), scheme=MTFL_5)
    faces.picture_sizes[:] = [[1, 2], [3, 4], [5, 6]]
    part = faces.take(np.array([2, 0]))
    assert part.picture_sizes.tolist() == [[5, 6], [1, 2]]
    assert [origin.rsplit(" ", 1)[1] for origin in part.origins] == ["3", "1"]


def test_the_option_reaches_every_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(annotate(tmp_path, orientations=(1, 6), scale=(1.5, 1.5)))
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", path, "--scheme", "mtfl5"])
    assert stopped.value.code == 1
    assert "annotations that do not fit their pictures: 2" in capsys.readouterr().out
    main(["data", "check", path, "--scheme", "mtfl5", "--picture_size", "rescale"])
    main(["data", "show", path, "--scheme", "mtfl5", "--output", "shown.png"])
    assert "2 of these pictures are not of the size" in capsys.readouterr().err
    main(["data", "show", path, "--scheme", "mtfl5", "--output", "shown.png", "--picture_size", "rescale"])
    assert "another size" not in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["data", "pack", path, "packed", "--scheme", "mtfl5"])
    assert stopped.value.code == 2
    assert "(1 more pictures are not of the annotated size)" in capsys.readouterr().err
    main(["data", "pack", path, "packed", "--scheme", "mtfl5", "--picture_size", "rescale"])
    assert_points_are_on_the_dots_of_crops(load_faces("packed", "train", root=str(tmp_path / "packed")))


def assert_points_are_on_the_dots_of_crops(faces) -> None:
    for index in range(len(faces)):
        for place in faces.points[index]:
            np.testing.assert_allclose(center_of_dot(faces.picture(index), place, reach=20), place, atol=0.8)


def test_a_config_accepts_the_option():
    data = DataConfig(name="coco", picture_size="rescale")
    assert data.picture_size == "rescale"
    table = {"name": "x", "data": {"name": "coco", "picture_size": "guess"}}
    with pytest.raises(InputError, match="picture_size"):
        config_of(table, location="a config")


def test_the_size_of_encoded_bytes_is_read(tmp_path):
    save(tmp_path / "a.png", PIL.Image.fromarray(picture_of_dots(40, 64, (20, 20), sigma=4)))
    assert encoded_size((tmp_path / "a.png").read_bytes()) == (64, 40)
    assert encoded_size(b"no picture") is None
