"""`FaceSet.from_arrays`: the accepted arguments, the resulting sets, and errors that name the argument and the face."""

import pickle
import re

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from wing_jax.data.face_crops import crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import write_image
from wing_jax.data.packed import pack, read_packed
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68, Scheme

POINTS = np.array([[20, 30], [60, 30], [40, 50], [25, 70], [55, 70]], np.float32)
HEIGHT, WIDTH = 100, 80


def images_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def points_of(count: int) -> np.ndarray:
    return POINTS + np.float32(np.arange(count) % 10)[:, None, None]


def make_faces(count: int = 4, **changes) -> FaceSet:
    arguments = {"images": images_of(count), "points": points_of(count), "scheme": "mtfl5", **changes}
    return FaceSet.from_arrays(**arguments)


def write_files(folder, count: int) -> list:
    for index, image in enumerate(images_of(count)):
        write_image(folder / f"{index}.png", image)
    return [folder / f"{index}.png" for index in range(count)]


def test_images_may_be_an_array_a_list_pil_jax_or_paths(tmp_path):
    expected, images = make_faces(), images_of(4)
    assert expected.boxes[1].tolist() == [21, 31, 61, 71]
    assert (expected.box_convention, expected.name, expected.scheme.name) == ("landmarks", "faces", "mtfl5")
    assert expected.visible.all()
    paths = write_files(tmp_path, 4)
    mixed = [images[0], paths[1], PIL.Image.fromarray(images[2]), jnp.asarray(images[3])]
    by_pil = [PIL.Image.fromarray(image) for image in images]
    for argument in ([*images], by_pil, jnp.asarray(images), paths, [str(path) for path in paths], mixed):
        faces = make_faces(images=argument)
        for index in range(4):
            np.testing.assert_array_equal(faces.picture(index), images[index])
        np.testing.assert_array_equal(faces.points, expected.points)
        np.testing.assert_array_equal(crop_faces(faces, size=32).images, crop_faces(expected, size=32).images)
    assert make_faces(images=paths).photos == ("0.png", "1.png", "2.png", "3.png")


def test_images_of_any_size():
    images = [np.full((90 + 10 * index, 85, 3), index, np.uint8) for index in range(3)]
    faces = make_faces(3, images=images)
    assert [faces.picture(index).shape for index in range(3)] == [image.shape for image in images]
    assert crop_faces(faces, size=16).images.shape == (3, 16, 16, 3)


def test_points_without_a_position_do_not_count():
    points = points_of(2)
    points[1, 2] = np.nan
    faces = make_faces(2, points=points)
    assert faces.visible.tolist() == [[True] * 5, [True, True, False, True, True]]
    assert np.isfinite(faces.points).all()
    assert faces.boxes[1].tolist() == [21, 31, 61, 71]
    masked = np.ma.masked_array(points_of(2), np.isnan(points))
    assert make_faces(2, points=masked) == faces
    visible = np.ones((2, 5), int)
    visible[0, 4] = 0
    both = make_faces(2, points=points, visible=visible)
    assert both.visible.tolist() == [[True, True, True, True, False], [True, True, False, True, True]]
    np.testing.assert_array_equal(both.boxes, faces.boxes)


def test_custom_boxes_and_a_custom_scheme(tmp_path):
    scheme = Scheme.make("two", ["left", "right"], mirrored=[(0, 1)], normalization=(0, 1))
    boxes = [(10, 20, 70, 80)] * 3
    faces = make_faces(3, points=points_of(3)[:, :2].tolist(), scheme=scheme, boxes=boxes)
    assert faces.boxes.tolist() == [list(box) for box in boxes]
    assert faces.box_convention == "given"
    assert make_faces(3, points=points_of(3)[:, :2], scheme=scheme.save(tmp_path / "two.toml"), boxes=boxes) == faces


def test_groups_are_labels_attributes_and_subsets():
    faces = make_faces(
        groups={"light": ["dark", "dark", "bright", "bright"], "glasses": np.array([0, 1, 1, 0], bool),
                "fold": np.arange(4), "subset": ("a", "b", "a", "b")}
    )  # fmt: skip
    assert faces.groups == {"light": ("dark", "dark", "bright", "bright"), "fold": ("0", "1", "2", "3")}
    assert faces.attributes["glasses"].tolist() == [False, True, True, False]
    assert faces.subsets == ("a", "b", "a", "b")
    assert faces.take([3, 0]).groups["light"] == ("bright", "dark")
    assert make_faces().subsets == ("faces",) * 4


def test_the_same_image_twice_is_one_photo(tmp_path):
    paths = write_files(tmp_path, 2)
    (tmp_path / "more").mkdir()
    duplicates = [*paths, tmp_path / "more" / ".." / "0.png", str(paths[1])]
    assert make_faces(images=duplicates).photos == ("0.png", "1.png", "0.png", "1.png")
    image = images_of(1)[0]
    assert make_faces(3, images=[image, image.copy(), image]).photos == ("faces/0", "faces/1", "faces/0")
    assert make_faces(3, photos=["a", "b", "a"]).photos == ("a", "b", "a")
    assert make_faces(2, photos=np.array([7, 8])).photos == ("7", "8")
    copied = make_faces(4, images=[make_faces(2).source(index % 2) for index in range(4)])
    assert copied.photos[:2] == copied.photos[2:]


def test_a_set_can_be_split_packed_pickled_and_compared(tmp_path):
    faces = make_faces(40, groups={"fold": np.arange(40) % 3}, name="mine")
    rest, held_out = faces.split(0.2)
    assert len(rest) + len(held_out) == 40
    assert not {*rest.photos} & {*held_out.photos}
    from_list = make_faces(3, images=[*images_of(3)])
    for original in (faces, from_list):
        copy = pickle.loads(pickle.dumps(original))
        assert copy == original
        assert hash(copy) == hash(original)
    assert make_faces(3, images=[*images_of(3)]) != make_faces(3, images=[*images_of(3)][::-1])
    assert "\n" not in repr(faces)
    assert "scheme=<Scheme mtfl5: 5 points>" in repr(faces)
    pack({"train": faces}, tmp_path / "packed", size=32, quality=0, source="a test")
    packed = read_packed(tmp_path / "packed", "train")
    assert packed.groups == faces.groups
    assert packed.photos == faces.photos
    np.testing.assert_array_equal(packed.picture(5), crop_faces(faces, size=32).images[5])


OUTSIDE = points_of(4)
OUTSIDE[2, :, 0] += 300
FAR_POINT = points_of(4)
FAR_POINT[3, 1] = np.inf
NO_POSITION = points_of(4)
NO_POSITION[1] = np.nan
EMPTY_BOX = np.tile(np.float32([10, 20, 70, 80]), (4, 1))
EMPTY_BOX[2, 2] = 5


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": []}, "images: the list is empty"),
        ({"images": "faces.png"}, "images must be a list"),
        ({"images": images_of(1)[0]}, "for one image [image]"),
        ({"images": images_of(4) / np.float32(255)}, "images[0] must be RGB uint8 [height, width, 3], not float32"),
        ({"images": images_of(4) / np.float32(255)}, "(255 * image).round().clip(0, 255).astype(np.uint8)"),
        ({"images": [*images_of(3), None]}, "images[3] is None"),
        ({"images": [*images_of(3), np.zeros((9, 9), np.uint8)]}, "images[3] must be RGB uint8"),
        ({"images": [*images_of(3), 7]}, "images[3] must be RGB uint8"),
        ({"images": [*images_of(3), ""]}, "images[3] is an empty path"),
        ({"images": [*images_of(3), "nowhere.png"]}, "images[3]: nowhere.png: no such file"),
        ({"images": images_of(3)}, "points: 4 faces, and images: 3"),
        ({"points": POINTS}, "points must be [4, 5, 2], not [5, 2]"),
        ({"points": POINTS, "images": images_of(1)}, "for one face pass points[None]"),
        ({"points": points_of(4).reshape(4, 10)}, "pass points.reshape(4, -1, 2)"),
        ({"points": points_of(4).transpose(0, 2, 1)}, "pass points.transpose(0, 2, 1)"),
        ({"points": np.ones((4, 5, 3))}, "omit the third number, points[..., :2]"),
        ({"points": np.ones((4, 68, 2))}, "68 per face, but scheme 'mtfl5' has 5: pass scheme='ibug68'"),
        ({"points": np.ones((4, 6, 2))}, "make a scheme for them with Scheme.make"),
        ({"points": [POINTS, POINTS, POINTS[:4], POINTS]}, "points[2] is [4, 2], but points[0] is [5, 2]"),
        ({"points": [[(1, 2), (3,)]]}, "points[0] is not an array [5, 2]"),
        ({"points": None}, "points must be numbers [4, 5, 2]"),
        ({"points": [["a"] * 2] * 5}, "points must be numbers [4, 5, 2]"),
        ({"points": points_of(4) > 3}, "points must be numbers [4, 5, 2], not bool"),
        ({"points": FAR_POINT}, "points[3]: point 1 at inf"),
        ({"points": NO_POSITION}, "points[1]: no point of this face has a position"),
        ({"points": points_of(4) / 100}, "points[0]: the face is 0.4 x 0.4 pixels large: pass pixels"),
        ({"points": points_of(4) / 100, "boxes": EMPTY_BOX[[0] * 4] / 100}, "pass pixels of each face's own image"),
        ({"points": OUTSIDE}, "face 2 of images and points: "),
        ({"points": OUTSIDE[[2] * 4], "boxes": EMPTY_BOX[[0] * 4]}, "points[0]: no point is inside its box"),
        ({"boxes": EMPTY_BOX}, "boxes[2]: 10 20 5 80 is not a box x0 y0 x1 y1"),
        ({"boxes": EMPTY_BOX[:3]}, "boxes: 3, and images: 4"),
        ({"boxes": "tight"}, "boxes are a str"),
        ({"boxes": EMPTY_BOX[[0] * 4] + [0, 0, 4000, 0]}, "face 0 of images and points: its box"),
        ({"visible": np.ones((4, 4), bool)}, "visible must be [4, 5], like points, not [4, 4]"),
        ({"visible": np.full((4, 5), 2)}, "visible must be booleans, not int64"),
        ({"visible": np.arange(4)[:, None] < np.full(5, 3)}, "visible[3]: no point of this face is visible"),
        ({"scheme": "mtfl"}, "scheme 'mtfl': pass a .toml file that describes it, or one of mtfl5"),
        ({"scheme": None}, "scheme None: pass a .toml file"),
        ({"groups": ["a"]}, "groups: must be a dictionary"),
        ({"groups": {"light": ["a"]}}, "groups['light']: 1 labels for 4 faces"),
        ({"groups": {"light": "abcd"}}, "groups['light']: must be a list of 4 labels"),
        ({"groups": {"yaw": [0.5, 1, 2, 3]}}, "groups['yaw']: label 0 is 0.5: pass text"),
        ({"groups": {1: ["a"] * 4}}, "groups: a group's name must be text, not 1"),
        ({"photos": ["a"]}, "photos: 1 labels for 4 faces"),
        ({"photos": [None] * 4}, "photos: label 0 is None"),
        ({"name": ""}, "name: must be a non-empty string"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_arguments_are_named(changes, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)) as caught:
        make_faces(**changes)
    assert "\n" not in str(caught.value)


def test_a_face_in_a_corner_and_68_points_are_accepted():
    points = np.random.default_rng(1).uniform(2, 60, (2, 68, 2))
    assert make_faces(2, points=points, scheme=IBUG_68).points.dtype == np.float32
