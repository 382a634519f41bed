"""MERL-RAV in its layouts, and Menpo 2017."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.faces import small_faces
from tests.support.writers.merl_rav import HIDDEN, NAMES, SELF_HIDDEN, signed_pts, write_merl_rav
from wing_jax.data.images import write_image
from wing_jax.data.readers.menpo import read_menpo
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68
from wing_jax.types import Visibility


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", ["organized", "published", "poses in the root"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_written_files_are_read(tmp_path, split, layout):
    written = write_merl_rav(tmp_path, organized=layout != "published")[split]
    root = tmp_path / "merl_rav_organized" if layout == "poses in the root" else tmp_path
    read = read_menpo(root, split)
    by_photo = dict(zip(NAMES[split], written, strict=True))
    names = sorted(by_photo, key=lambda name: (["left", "frontal", "righthalf"].index(name.split("/")[0]), name))
    faces = [by_photo[name] for name in names]
    assert read.name == "MERL-RAV"
    assert read.subsets == tuple(name.split("/")[0] for name in names)
    assert read.photos == tuple(f"aflw/{name.split('/')[2][:10]}" for name in names)
    assert read.poses is not None
    assert sorted(read.poses) == list(read.poses)
    visible = np.ones(68, bool)
    visible[SELF_HIDDEN] = False
    np.testing.assert_array_equal(read.visible, np.tile(visible, (len(faces), 1)))
    np.testing.assert_allclose(read.points[:, visible], [face.points[visible] for face in faces], atol=1e-5)
    visibility = np.full(68, Visibility.VISIBLE)
    visibility[SELF_HIDDEN], visibility[HIDDEN] = Visibility.SELF_OCCLUDED, Visibility.OCCLUDED
    np.testing.assert_array_equal(read.visibility, np.tile(visibility, (len(faces), 1)))
    for i, face in enumerate(faces):
        np.testing.assert_allclose(read.boxes[i, :2], face.points[visible].min(0), atol=1e-5)
        assert np.abs(read.picture(i).astype(int) - face.image).mean() < 6


GOOD = signed_pts(np.full((68, 2), 30.25))
LAST = "30.25 30.25\n}"
DAMAGE = {
    "67 points": (GOOD.replace(LAST, "}").replace("68", "67"), ": 67 points, but 68"),
    "NaN": (GOOD.replace(LAST, "nan 1\n}"), ":71: 'nan 1' is not finite"),
    "inf": (GOOD.replace(LAST, "-inf -1\n}"), ":71: '-inf -1' is not finite"),
    "text": (GOOD.replace(LAST, "hidden 1\n}"), ":71: 'hidden 1' is not two numbers"),
    "three numbers": (GOOD.replace(LAST, "1 2 0\n}"), ":71: '1 2 0' is not two numbers"),
    "other count": (GOOD.replace("68", "21"), ": 68 points, but 21 in the header"),
    "empty": ("", "between a line '{' and a line '}'"),
    "truncated": (GOOD[:200], "between a line '{' and a line '}'"),
    "all hidden": ("{\n" + "-1 -1\n" * 68 + "}", "no point of this face has a position"),
}


@pytest.mark.parametrize(("content", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_a_fault_of_one_face_stops_or_is_gathered(tmp_path, content, expected):
    write_merl_rav(tmp_path)
    file = tmp_path / "merl_rav_organized" / f"{NAMES['train'][0]}.pts"
    file.write_text(content)
    message = refusal(read_menpo, tmp_path, "train")
    assert message.startswith(str(file))
    assert expected in message
    faults = []
    assert len(read_menpo(tmp_path, "train", faults=faults)) == 2
    assert faults == [message]


@pytest.mark.parametrize("variant", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, GOOD.replace("\n", "\n\n")])
def test_harmless_variants_are_read(tmp_path, variant):
    write_merl_rav(tmp_path)
    file = tmp_path / "merl_rav_organized" / f"{NAMES['test'][0]}.pts"
    file.write_text(variant, newline="", encoding="utf-8")
    read = read_menpo(tmp_path, "test")
    points = read.points[read.subsets.index("righthalf")]
    np.testing.assert_array_equal(points[~np.isin(np.arange(68), np.arange(9, 17))], 29.25)


def test_missing_photos_are_named(tmp_path):
    write_merl_rav(tmp_path, organized=False)
    (tmp_path / "aflw/flickr/0/image00012.jpg").unlink()
    assert "no image00012.jpg in" in refusal(read_menpo, tmp_path, "train")
    faults = []
    assert len(read_menpo(tmp_path, "train", faults=faults)) == 2
    assert faults[0].startswith(str(tmp_path / "merl_rav_labels" / "left/trainset/labels/image00012.pts"))
    organized = tmp_path / "other"
    write_merl_rav(organized)
    photo = organized / "merl_rav_organized" / f"{NAMES['test'][0]}.jpg"
    photo.unlink()
    read = read_menpo(organized, "test")
    assert str(photo) in refusal(read.picture, read.subsets.index("righthalf"))


def write_menpo(folder: Path) -> list:
    """Write three near-frontal faces in two folders, with `.pts` files that count from 1."""
    faces = small_faces(IBUG_68, 3)
    folders = (folder / "train", folder / "train", folder / "train" / "semifrontal")
    for i, (parent, face) in enumerate(zip(folders, faces, strict=True)):
        parent.mkdir(parents=True, exist_ok=True)
        write_image(parent / f"aflw__face_{i}.png", face.image)
        rows = "\n".join(f"{x + 1!r} {y + 1!r}" for x, y in face.points.tolist())
        (parent / f"aflw__face_{i}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    return faces


def test_menpo_2017(tmp_path):
    written = write_menpo(tmp_path)
    read = read_menpo(tmp_path, "train")
    assert read.name == "Menpo 2017"
    assert read.visibility is None
    np.testing.assert_allclose(read.points, [face.points for face in written], atol=1e-5)
    assert read.photos == tuple(f"menpo/aflw__face_{i}" for i in range(3))
    for i, face in enumerate(written):
        np.testing.assert_array_equal(read.picture(i), face.image)
    message = refusal(read_menpo, tmp_path, "test")
    assert message.startswith(f"{tmp_path}: no .pts file for 'test'")


def test_a_profile_has_another_scheme(tmp_path):
    write_menpo(tmp_path)
    file = tmp_path / "train" / "profile.pts"
    file.write_text("version: 1\nn_points: 39\n{\n" + "1 2\n" * 39 + "}\n")
    message = refusal(read_menpo, tmp_path, "train")
    assert message.startswith(f"{file}: 39 points")
    assert "a profile face with another scheme" in message
    faults = []
    assert len(read_menpo(tmp_path, "train", faults=faults)) == 3
    assert faults == [message]


def test_other_counts_and_missing_pictures_of_menpo_are_faults(tmp_path):
    write_menpo(tmp_path)
    (tmp_path / "train" / "five.pts").write_text("{\n" + "1 2\n" * 5 + "}\n")
    (tmp_path / "train" / "aflw__face_0.png").rename(tmp_path / "train" / "five.png")
    faults = []
    assert len(read_menpo(tmp_path, "train", faults=faults)) == 2
    assert ["no picture of that name" in fault for fault in faults] == [True, False]
    assert faults[1].startswith(f"{tmp_path / 'train' / 'five.pts'}: 5 points, but")


LINES = GOOD.splitlines(keepends=True)


@settings(max_examples=50)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.tuples(st.integers(0, len(LINES) - 1), st.text(max_size=12)).map(
            lambda change: "".join([*LINES[: change[0]], change[1], *LINES[change[0] + 1 :]])
        ),
    )
)
def test_any_text_gives_finite_points_or_an_input_error(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frontal" / "trainset" / "image00001.pts"
        file.parent.mkdir(parents=True)
        file.write_bytes(text.encode(errors="surrogatepass"))
        message = ""
        try:
            read = read_menpo(folder, "train")
        except InputError as error:
            message = str(error)
        if message:
            assert str(file) in message
            return
        assert read.points.shape == (1, 68, 2)
        assert read.points.dtype == np.float32
        assert np.isfinite(read.points).all()
