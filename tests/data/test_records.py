"""Sets of faces: gathered one by one, indexed, and split by photo."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.images import write_image
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5
from wing_jax.types import Visibility


def refusal(function, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def faces_of(photos: list[str]) -> FaceSet:
    count = len(photos)
    return FaceSet(
        name="example",
        scheme=MTFL_5,
        pictures=np.zeros((count, 2, 2, 3), np.uint8),
        points=np.arange(count * 10, dtype=np.float32).reshape(count, 5, 2),
        visible=np.ones((count, 5), bool),
        boxes=np.zeros((count, 4), np.float32),
        box_convention="none",
        photos=tuple(photos),
        subsets=tuple(str(i) for i in range(count)),
    )


@settings(max_examples=20)
@given(st.lists(st.integers(0, 40), max_size=60), st.floats(0.2, 0.8), st.randoms())
def test_split_is_a_partition_by_photo_that_does_not_depend_on_the_order(numbers, fraction, random):
    photos = [f"photo {number}" for number in (*numbers, *range(100, 130))]
    rest, held_out = faces_of(photos).split(fraction)
    assert not set(rest.photos) & set(held_out.photos)
    assert sorted(rest.photos + held_out.photos) == sorted(photos)
    assert sorted(rest.subsets + held_out.subsets, key=int) == [str(i) for i in range(len(photos))]
    random.shuffle(photos)
    assert set(faces_of(photos).split(fraction)[1].photos) == set(held_out.photos)


def test_split_holds_out_about_the_requested_share_and_grows_with_it():
    faces = faces_of([f"photo {i}" for i in range(4000)])
    small, large = (faces.split(share)[1].photos for share in (0.05, 0.2))
    assert abs(len(small) - 200) < 45
    assert abs(len(large) - 800) < 80
    assert set(small) < set(large)


def test_split_rejects_an_empty_part():
    assert "2 faces are too few to hold out 5%" in refusal(faces_of(["a", "b"]).split, 0.05)
    assert "9 faces are too few to hold out 100%" in refusal(faces_of(["a"] * 9).split, 1.0)
    assert "2 faces are too few to hold out 0%" in refusal(faces_of(["a", "b"]).split, 0.0)


def test_take_selects_every_field_in_the_requested_order():
    faces = dataclasses.replace(faces_of(["a", "b", "c"]), poses=("1", "2", "3"))
    as_files = dataclasses.replace(faces, pictures=(Path("a.png"), Path("b.png"), Path("c.png")))
    selected = faces.take(np.array([2, 1, 1]))
    np.testing.assert_array_equal(selected.points[:, 0, 0], [20, 10, 10])
    assert selected.photos == ("c", "b", "b")
    assert selected.poses == ("3", "2", "2")
    assert selected.pictures.shape == (3, 2, 2, 3)
    assert as_files.take(np.array([2, 0])).pictures == (Path("c.png"), Path("a.png"))


def face(number: int, **changes) -> Face:
    points = np.arange(10, dtype=np.float32).reshape(5, 2) + number
    fields = {
        "location": f"list.txt:{number}",
        "picture": Path(f"{number}.png"),
        "points": points,
        "photo": f"{number}",
    }
    return Face(**(fields | {"subset": "s"} | changes))


def gather_faces(*faces, faults=None) -> FaceSet:
    def maker(result):
        def make():
            if isinstance(result, Exception):
                raise result
            return result

        return make

    makers = [maker(result) for result in faces]
    return build_face_set(makers, name="example", scheme=MTFL_5, box_convention="mine", faults=faults)


def test_faces_are_gathered_with_all_annotations():
    points = face(3).points.copy()
    points[2] = np.nan
    visibility = np.int8([1, 2, 3, 0, 1])
    faces = gather_faces(
        face(1, box=np.float32([0, 0, 9, 9]), attributes={"male": True}, angles=(30.0, 0.0, -5.0)),
        face(3, points=points, visibility=visibility, attributes={"smiling": True}),
    )
    np.testing.assert_array_equal(faces.visible, [[True] * 5, [True, True, False, True, True]])
    assert np.isfinite(faces.points).all()
    np.testing.assert_array_equal(faces.boxes, [[0, 0, 9, 9], [3, 4, 11, 12]])
    np.testing.assert_array_equal(faces.visibility, [[0] * 5, visibility])
    np.testing.assert_array_equal(faces.attributes["male"], [True, False])
    np.testing.assert_array_equal(faces.attributes["smiling"], [False, True])
    np.testing.assert_array_equal(faces.angles, [[30, 0, -5], [np.nan] * 3])
    assert faces.poses is None
    selected = faces.take(np.array([1]))
    np.testing.assert_array_equal(selected.visibility, [visibility])
    np.testing.assert_array_equal(selected.attributes["smiling"], [True])
    assert np.isnan(selected.angles).all()


def test_missing_annotations_stay_missing():
    faces = gather_faces(face(1, pose="3 frontal"), face(2, pose="2 left"))
    assert faces.visibility is None
    assert faces.angles is None
    assert faces.attributes == {}
    assert faces.poses == ("3 frontal", "2 left")
    assert gather_faces(face(1, visibility=Visibility.VISIBLE)).visibility.tolist() == [[1] * 5]


FAULTS = {
    "list.txt:9: 4 points, but mtfl5 has 5": {"points": np.zeros((4, 2), np.float32)},
    "list.txt:9: no point of this face has a position": {"points": np.full((5, 2), np.nan, np.float32)},
    "list.txt:9: the box 5 5 5 9 (x0 y0 x1 y1) is empty": {"box": np.float32([5, 5, 5, 9])},
    "list.txt:9: the box 5 9 8 5 (x0 y0 x1 y1) is empty": {"box": np.float32([5, 9, 8, 5])},
    "list.txt:9: the box nan 5 8 9 (x0 y0 x1 y1) is empty": {"box": np.float32([np.nan, 5, 8, 9])},
}


@pytest.mark.parametrize("complaint", FAULTS)
def test_an_invalid_face_is_an_error_or_is_listed(complaint):
    invalid = face(9, **FAULTS[complaint])
    assert refusal(gather_faces, face(1), invalid, face(2)).startswith(complaint)
    faults: list[str] = []
    assert gather_faces(face(1), invalid, face(2), faults=faults).photos == ("1", "2")
    assert len(faults) == 1
    assert faults[0].startswith(complaint)


def test_a_set_without_a_face_is_rejected():
    assert refusal(gather_faces) == "example: no face remains: the data set is empty"
    assert refusal(gather_faces, InputError("a.pts: bad"), faults=[]) == "example: no face remains: a.pts: bad"
    with pytest.raises(KeyError):  # a bug in the reader is not a fault of the data
        gather_faces(KeyError("x"), faults=[])


def test_a_picture_comes_from_memory_or_from_its_file(tmp_path):
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    write_image(tmp_path / "a.png", image)
    in_memory = faces_of(["a"])
    as_file = dataclasses.replace(in_memory, pictures=(tmp_path / "a.png",))
    np.testing.assert_array_equal(as_file.picture(0), image)
    assert as_file.picture_name(0) == str(tmp_path / "a.png")
    assert in_memory.picture(0).shape == (2, 2, 3)
    assert in_memory.picture_name(0) == "example face 0"
