"""Landmark schemes: the tables against themselves and against real faces; conversions; custom schemes."""

import dataclasses
import itertools
import json
import pickle
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.schemes import TABLE
from wing_jax.data.readers.aflw_shapes import read_aflw_shapes
from wing_jax.data.readers.mtfl import read_mtfl
from wing_jax.data.readers.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.geometry import fit_similarity, transform
from wing_jax.schemes import (
    CONVERSIONS,
    SCHEMES,
    Scheme,
    find_scheme,
    get_conversion,
    get_scheme,
)

pytestmark = pytest.mark.slow

EVERY = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
WITH_MANY_FACES = pytest.mark.parametrize("name", ["ibug68", "mtfl5", "aflw19", "aflw21"])


@EVERY
def test_flip_is_an_involution_without_repeats(scheme):
    assert scheme.flip.shape == (scheme.points,)
    np.testing.assert_array_equal(scheme.flip[scheme.flip], np.arange(scheme.points))
    points = [point for pair in scheme.mirrored for point in pair]
    assert len(points) == len(set(points))


@EVERY
def test_eyes_mirror_each_other(scheme):
    assert sorted(scheme.flip[list(scheme.left_eye)]) == sorted(scheme.right_eye)
    assert scheme.flip[scheme.left_outer] == scheme.right_outer
    for side, outer, eye in (
        ("left", scheme.left_outer, scheme.left_eye),
        ("right", scheme.right_outer, scheme.right_eye),
    ):
        assert outer in eye or scheme.names[outer] == f"{side} eye outer corner"


@EVERY
def test_names_are_unique_and_mirror_each_other(scheme):
    assert len(set(scheme.names)) == scheme.points
    sides = {"left": "right", "right": "left"}
    for left, right in scheme.mirrored:
        if not any(part in scheme.names[left] for part in ("jaw", "nos", "lip")):  # parts that run through the middle
            swapped = " ".join(sides.get(word, word) for word in scheme.names[left].split())
            assert sorted(swapped.split()[:2]) == sorted(scheme.names[right].split()[:2])


@EVERY
def test_lines_join_points_of_the_scheme(scheme):
    assert {point for line in scheme.lines for point in line} <= set(range(scheme.points))


@EVERY
def test_lines_are_mirrored_onto_lines(scheme):
    edges = {frozenset(pair) for line in scheme.lines for pair in itertools.pairwise(line)}
    assert {frozenset(int(scheme.flip[point]) for point in edge) for edge in edges} == edges


def test_a_scheme_is_found_by_name_and_an_unknown_one_is_refused():
    assert get_scheme("mtfl5").points == 5
    with pytest.raises(ValueError, match=r"unknown landmark scheme 'ibug': use one of mtfl5, aflw19"):
        get_scheme("ibug")


def normalize(shapes: np.ndarray) -> np.ndarray:
    """Center each shape and scale it to unit root mean square radius."""
    centered = shapes - shapes.mean(1, keepdims=True)
    return centered / np.sqrt((centered**2).sum(-1).mean(-1))[:, None, None]


@pytest.fixture(scope="module")
def frontal(data_root):
    """Read real frontal faces: shapes [n, points, 2] by scheme name."""
    w300 = read_w300(data_root / "300w", "train")
    mtfl = read_mtfl(data_root / "mtfl", "train")
    points, visible, _, yaw = read_aflw_shapes(data_root / "aflw_shapes")
    shown = visible.all(1) & (np.abs(yaw) < 10)
    without_ears = [i for i in range(21) if i not in (12, 16)]
    return {
        "ibug68": w300.points,
        "mtfl5": mtfl.points[np.array(mtfl.poses) == "3 frontal"],
        "aflw21": points[shown],
        "aflw19": points[visible[:, without_ears].all(1) & (np.abs(yaw) < 10)][:, without_ears],
    }


@WITH_MANY_FACES
def test_the_mean_of_flipped_real_faces_is_the_mean_face(name, frontal):
    scheme = SCHEMES[name]
    shapes = normalize(frontal[scheme.name])
    assert len(shapes) > 100
    mean = shapes.mean(0)
    flipped = (shapes * (-1, 1)).mean(0)[scheme.flip]
    distance = np.linalg.norm(flipped - mean, axis=-1).max()
    assert distance < 0.1
    for left, right in scheme.mirrored:  # each pair is needed: without it the face is distorted
        distorted = scheme.flip
        distorted[[left, right]] = left, right
        assert np.linalg.norm((shapes * (-1, 1)).mean(0)[distorted] - mean, axis=-1).max() > 2 * distance


@WITH_MANY_FACES
def test_the_left_eye_is_left_of_the_right_and_above_the_middle_on_real_faces(name, frontal):
    scheme = SCHEMES[name]
    shapes = frontal[scheme.name]
    left, right = (shapes[:, list(eye)].mean(1) for eye in (scheme.left_eye, scheme.right_eye))
    assert (left[:, 0] < right[:, 0]).mean() > 0.99
    outer = shapes[:, scheme.right_outer, 0] - shapes[:, scheme.left_outer, 0]
    assert (outer >= (right - left)[:, 0] - 1e-3).mean() > 0.99
    assert (((left + right) / 2)[:, 1] < shapes.mean(1)[:, 1]).mean() > 0.97


SAMPLES = {"cofw29": "cofw/test_cofw", "wflw98": "wflw/test_wflw", "lapa106": "lapa/test_lapa"}


def sample_faces(data_root, name) -> np.ndarray:
    """Read the faces of `name` from mmpose's test data without any of our readers."""
    path = data_root / "formats" / "mmpose_tests_data" / f"{SAMPLES[name]}.json"
    faces = [face["keypoints"] for face in json.loads(path.read_text())["annotations"]]
    return np.array(faces, np.float32).reshape(len(faces), -1, 3)[..., :2]


def annotation_error(source: np.ndarray, target: np.ndarray) -> float:
    """Return the root mean square distance after the best similarity, as a fraction of the target's radius."""
    fitted = np.asarray(transform(fit_similarity(source, target), source))
    return float(np.sqrt(((fitted - target) ** 2).sum(-1).mean() / ((target - target.mean(0)) ** 2).sum(-1).mean()))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_flipped_real_face_is_nearly_the_face_itself(name, data_root):
    scheme = SCHEMES[name]
    for face in sample_faces(data_root, name):
        mirrored = face * np.float32([-1, 1])
        correct = annotation_error(mirrored[scheme.flip], face)
        assert correct < 0.4  # a turned head differs from its mirror image, but less than from any distorted one
        jaw = {i for i, point in enumerate(scheme.names) if "jaw" in point}
        for left, right in scheme.mirrored:
            distorted = scheme.flip
            distorted[[left, right]] = left, right
            if left not in jaw and "nos" not in scheme.names[left]:
                assert annotation_error(mirrored[distorted], face) > correct
        left, right = (face[list(eye)].mean(0) for eye in (scheme.left_eye, scheme.right_eye))
        assert left[0] < right[0]
        assert max(left[1], right[1]) < face[:, 1].mean()


PAIRS = [(start, end) for start in SCHEMES for end in SCHEMES if start != end]


def conversions():
    for start, end in PAIRS:
        try:
            yield get_conversion(SCHEMES[start], SCHEMES[end])
        except ValueError:
            continue


def by_name(conversion):
    return f"{conversion.source.name}-{conversion.target.name}"


EVERY_CONVERSION = pytest.mark.parametrize("conversion", tuple(conversions()), ids=by_name)


def test_the_conversions_that_users_ask_for_exist():
    names = {by_name(conversion) for conversion in conversions()}
    assert set(map("-".join, CONVERSIONS)) <= names
    expected = {"wflw98-ibug68", "lapa106-ibug68", "wflw98-cofw29", "wflw98-aflw19", "wflw98-mtfl5", "ibug68-cofw29"}
    assert expected | {"ibug68-aflw19", "ibug68-mtfl5", "aflw21-aflw19", "aflw21-mtfl5", "cofw29-mtfl5"} <= names
    with pytest.raises(
        ValueError, match="no conversion from 'mtfl5' to 'ibug68': the available steps are wflw98 -> ibug68"
    ):
        get_conversion(SCHEMES["mtfl5"], SCHEMES["ibug68"])


@EVERY_CONVERSION
def test_a_conversion_takes_means_and_says_what_it_approximates(conversion):
    sums = conversion.weights.sum(1)
    np.testing.assert_allclose(sums, conversion.available, atol=1e-6)
    assert conversion.approximates
    # The middle of a mouth or an eye must be computed from mouth and eye points.
    for row, name in zip(conversion.weights, conversion.target.names, strict=True):
        for part in ("brow", "eye", "chin"):
            if part in name and row.any():
                sources = [conversion.source.names[i] for i in np.flatnonzero(row)]
                related = {"eye": ("eye", "pupil"), "chin": ("chin", "jaw"), "brow": ("brow",)}[part]
                assert all(any(word in source for word in related) for source in sources), (name, sources)


@EVERY_CONVERSION
@settings(max_examples=5)
@given(data=st.data())
def test_converting_and_flipping_commute(conversion, data):
    shape = (conversion.source.points, 2)
    points = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32)))
    visible = data.draw(arrays.arrays(bool, shape[:1]))
    mirror = np.float32([-1, 1])
    flipped_first = conversion.points((points * mirror)[conversion.source.flip])
    converted_first = (conversion.points(points) * mirror)[conversion.target.flip]
    np.testing.assert_allclose(flipped_first, converted_first, atol=1e-4)
    flipped = conversion.visible(visible[conversion.source.flip])
    np.testing.assert_array_equal(flipped, conversion.visible(visible)[conversion.target.flip])


def test_unavailable_points_do_not_count():
    conversion = get_conversion(SCHEMES["ibug68"], SCHEMES["cofw29"])
    assert [conversion.target.names[i] for i in np.flatnonzero(~conversion.available)] == [
        "left brow bottom",
        "right brow bottom",
    ]
    visible = np.ones(68, bool)
    visible[37] = False  # one of the two points whose mean is the left lid
    result = conversion.visible(visible)
    assert not result[[5, 7, 12, 16]].any()
    assert result.sum() == 25


def test_a_scheme_converts_to_itself_exactly():
    points = np.random.default_rng(0).normal(size=(3, 19, 2)).astype(np.float32)
    np.testing.assert_array_equal(get_conversion(SCHEMES["aflw19"], SCHEMES["aflw19"]).points(points), points)


@pytest.mark.parametrize("name", ["wflw98", "lapa106"])
def test_real_faces_converted_to_68_points_are_shaped_like_300w(name, data_root, frontal):
    """Each is closer to a linear model of real 300-W faces than with an eye or lip shifted by one point."""
    shapes = normalize(frontal["ibug68"]).reshape(-1, 136)
    axes = np.linalg.svd(shapes - shapes.mean(0), full_matrices=False)[2][:25]

    def distance(face):
        face = np.asarray(transform(fit_similarity(face, shapes.mean(0).reshape(68, 2)), face)).reshape(-1)
        face = face - shapes.mean(0)
        return np.linalg.norm(face - axes.T @ (axes @ face))

    for face in get_conversion(SCHEMES[name], SCHEMES["ibug68"]).points(sample_faces(data_root, name)):
        for start, stop in ((36, 42), (42, 48), (48, 60), (60, 68)):
            shifted = face.copy()
            shifted[start:stop] = np.roll(face[start:stop], 1, axis=0)
            assert distance(face) < distance(shifted)


# Custom schemes


def write_scheme(tmp_path, text) -> Path:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("text", [TABLE, "\ufeff" + TABLE, TABLE.replace("\n", "\r\n")], ids=["plain", "BOM", "CRLF"])
def test_a_scheme_is_read_from_toml(tmp_path, text):
    scheme = Scheme.read(write_scheme(tmp_path, text))
    assert scheme.names == ("left eye", "right eye", "nose", "chin")
    assert scheme.flip.tolist() == [1, 0, 2, 3]
    assert scheme.lines == ((0, 2, 1), (2, 3))
    assert (scheme.left_eye, scheme.right_eye, scheme.left_outer, scheme.right_outer) == ((0,), (1,), 0, 1)
    numbered = Scheme.read(
        write_scheme(tmp_path, 'name = "n"\npoints = 3\nnormalization = [0, 1]\neyes = [[0], [1, 2]]')
    )
    assert numbered.names == ("point 1", "point 2", "point 3")
    assert numbered.right_eye == (1, 2)


@EVERY
def test_a_scheme_survives_conversion_to_a_table_and_back(scheme):
    renamed = dataclasses.replace(scheme, name="mine")
    assert Scheme.from_table(json.loads(json.dumps(renamed.to_table()))) == renamed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name", "nam"), "unknown key 'nam'"),
        (('"mine4"', '""'), "name: name the scheme"),
        (('"mine4"', '"ibug68"'), "is a published scheme"),
        (('["left eye", "right eye", "nose", "chin"]', "1"), "points: list the names of the points in order"),
        (('"chin"]', f'"{"x" * 101}"]'), "of up to 100 characters), or pass their number"),
        (('["left eye", "right eye", "nose", "chin"]', f"[{'1, ' * 10_001}]"), "(2 to 10,000 names of up to 100"),
        ((TABLE.split('"')[1], "n" * 101), "name: name the scheme with up to 100 characters"),
        (('"nose", "chin"]', '"nose", "nose"]'), "points: 'nose' is listed twice"),
        (('["left eye", "right eye"]]', '["left eye", "rigth eye"]]'), "mirrored: unknown point 'rigth eye'"),
        (
            ('mirrored = [["left eye", "right eye"]]', 'mirrored = [["left eye"]]'),
            "expected a list of 2 points, got ['left eye']",
        ),
        (('mirrored = [["left eye", "right eye"]]', "mirrored = [[0, 1], [1, 2]]"), "'right eye' is in two pairs"),
        (('mirrored = [["left eye", "right eye"]]', "mirrored = 3"), "mirrored: expected a list"),
        (('mirrored = [["left eye", "right eye"]]', ""), "mirrored: 'left eye' and 'right eye' are in no pair: add"),
        (('normalization = ["left eye", "right eye"]', ""), "normalization: missing: name the two points"),
        (('normalization = ["left eye", "right eye"]', "normalization = [2, 2]"), "names one point twice"),
        (("[2, 3]", "[2, 4]"), "lines: unknown point 4: use the names in `points`, or 0 to 3"),
        (("[2, 3]", "[]"), "lines: expected a list of points, got []"),
        (('about = "for a test"', "eyes = [[0]]"), "eyes: expected two lists: the points of the left eye"),
        (('about = "for a test"', "about = "), "not valid TOML"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_error_of_an_invalid_scheme_names_the_file_and_the_key(tmp_path, change, message):
    path = write_scheme(tmp_path, TABLE.replace(*change))
    with pytest.raises(InputError) as caught:
        Scheme.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sides_are_swapped_everywhere_in_a_name_to_find_unpaired_points():
    outer = ("left eye left corner", "right eye right corner")
    with pytest.raises(InputError, match="'left eye left corner' and 'right eye right corner' are in no pair"):
        Scheme.make("corners", [*outer, "nose"], normalization=outer)
    same_corner = ("left eye left corner", "right eye left corner")  # not each other's mirror image
    assert Scheme.make("corners", [*same_corner, "nose"], normalization=same_corner).mirrored == ()


def test_a_scheme_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read this scheme"):
        Scheme.read(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(InputError, match="cannot read this scheme"):
        Scheme.read(tmp_path / "latin.toml")


MINE = {"mirrored": [("left eye", "right eye")], "normalization": ("left eye", 1)}
NAMES = ["left eye", "right eye", "nose", "chin"]


def test_a_scheme_made_in_python_equals_the_one_read_from_its_file(tmp_path):
    scheme = Scheme.make("mine4", NAMES, **MINE, lines=[[0, 2, 1], ("nose", 3)], about="for a test")
    assert scheme == Scheme.read(write_scheme(tmp_path, TABLE))
    assert repr(scheme) == "<Scheme mine4: 4 points>"
    assert pickle.loads(pickle.dumps(scheme)) == scheme
    assert len({scheme, Scheme.make("mine4", NAMES, **MINE), Scheme.read(tmp_path / "mine.toml")}) == 2
    odd = Scheme.make('a "b"', ["\x7f é\n", "\\"], normalization=(1, 0), about="\t")
    assert Scheme.read(odd.save(tmp_path / "new" / "odd.toml")) == odd
    assert find_scheme(tmp_path / "new" / "odd.toml") == odd
    assert find_scheme(odd) is odd


def test_two_eyes_of_one_point_each_are_the_default_normalization():
    scheme = Scheme.make("mine", 3, eyes=([2], [np.int64(1)]))
    assert (scheme.left_outer, scheme.right_outer) == (2, 1)
    with pytest.raises(InputError, match="normalization: missing: name the two points"):
        Scheme.make("mine", 4, eyes=([0, 1], [2, 3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "ibug68"}, "name: 'ibug68' is a published scheme"),
        ({"points": 1}, "points: list the names of the points in order"),
        ({"points": ["a", "a"]}, "points: 'a' is listed twice"),
        ({"mirrored": [("left eye", "mouth")]}, "mirrored: unknown point 'mouth'"),
        ({"mirrored": [(0, 1), (1, 2)]}, "mirrored: 'right eye' is in two pairs"),
        ({"normalization": (0, 0)}, "names one point twice"),
        ({"normalization": 3}, "normalization: expected a list of 2 points, got 3"),
        ({"eyes": 3}, "eyes: expected a list"),
        ({"lines": [0, 1]}, "lines: expected a list of points, got 0"),
    ],
)
def test_the_error_of_an_invalid_scheme_made_in_python_names_the_argument(changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Scheme.make(**{"name": "mine", "points": NAMES, **MINE, **changes})


@pytest.mark.parametrize("value", ["ibug", "", 5, None])
def test_a_value_that_is_not_a_scheme_is_refused(value):
    with pytest.raises(InputError, match=r"pass a \.toml file that describes it, or one of mtfl5"):
        find_scheme(value)


@settings(max_examples=60)
@given(st.text(max_size=80), st.integers(0, len(TABLE)), st.integers(0, 30))
def test_any_text_is_a_scheme_or_refused_in_one_line(text, place, removed):
    with tempfile.TemporaryDirectory() as folder:
        for content in (text, TABLE[:place] + text + TABLE[place + removed :]):
            path = Path(folder) / "mine.toml"
            path.write_text(content, encoding="utf-8", errors="replace")
            message = ""
            try:
                scheme = Scheme.read(path)
            except InputError as error:
                message = str(error)
            assert "\n" not in message
            if not message:
                np.testing.assert_array_equal(scheme.flip[scheme.flip], np.arange(scheme.points))


def test_either_spelling_of_normalization_is_read(tmp_path):
    british = write_scheme(tmp_path, TABLE.replace("normalization", "normalisation"))
    spelled = Scheme.read(british)
    assert spelled == Scheme.read(write_scheme(tmp_path, TABLE))
