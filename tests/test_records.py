"""Sets of faces: picking, and splitting by photo."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax.data.images import write_image
from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def faces_of(photos: list[str]) -> FaceSet:
    count = len(photos)
    return FaceSet(
        name="made up",
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


def test_split_holds_out_about_the_share_asked_for_and_grows_with_it():
    faces = faces_of([f"photo {i}" for i in range(4000)])
    small, large = (faces.split(share)[1].photos for share in (0.05, 0.2))
    assert abs(len(small) - 200) < 45
    assert abs(len(large) - 800) < 80
    assert set(small) < set(large)


def test_split_refuses_what_leaves_one_side_empty():
    assert "2 faces are too few to hold out 5%" in refusal(faces_of(["a", "b"]).split, 0.05)
    assert "9 faces are too few to hold out 100%" in refusal(faces_of(["a"] * 9).split, 1.0)
    assert "2 faces are too few to hold out 0%" in refusal(faces_of(["a", "b"]).split, 0.0)


def test_take_picks_every_field_in_the_order_asked_for():
    faces = dataclasses.replace(faces_of(["a", "b", "c"]), poses=("1", "2", "3"))
    as_files = dataclasses.replace(faces, pictures=(Path("a.png"), Path("b.png"), Path("c.png")))
    taken = faces.take(np.array([2, 1, 1]))
    np.testing.assert_array_equal(taken.points[:, 0, 0], [20, 10, 10])
    assert taken.photos == ("c", "b", "b")
    assert taken.poses == ("3", "2", "2")
    assert taken.pictures.shape == (3, 2, 2, 3)
    assert as_files.take(np.array([2, 0])).pictures == (Path("c.png"), Path("a.png"))


def test_a_picture_comes_from_memory_or_from_its_file(tmp_path):
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    write_image(tmp_path / "a.png", image)
    in_memory = faces_of(["a"])
    as_file = dataclasses.replace(in_memory, pictures=(tmp_path / "a.png",))
    np.testing.assert_array_equal(as_file.picture(0), image)
    assert as_file.picture_name(0) == str(tmp_path / "a.png")
    assert in_memory.picture(0).shape == (2, 2, 3)
    assert in_memory.picture_name(0) == "made up face 0"
