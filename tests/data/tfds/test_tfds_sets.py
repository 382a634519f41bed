"""Data sets of TFDS: files written by TFDS with its features are read as faces, or rejected."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.writers.tfds_sets import ATTRIBUTES, example, faces_of, prepare
from wing_jax.data.readers.mtfl import box_of_five_points
from wing_jax.data.tfds.sets import NAMES, read_tfds
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68, MTFL_5


@pytest.fixture(scope="module")
def written():
    return {
        "the300w_lp": {"train": faces_of(IBUG_68, 3, 1)},
        "aflw2k3d": {"train": faces_of(IBUG_68, 2, 2)},
        "celeb_a": {split: faces_of(MTFL_5, 2, seed) for seed, split in enumerate(("train", "validation", "test"))},
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("tfds")
    for name, splits in written.items():
        examples = {split: [example(name, face, i) for i, face in enumerate(faces)] for split, faces in splits.items()}
        prepare(name, examples, folder)
    return folder


def find_order(faces, written):
    """Return for each written face the index of the read one: TFDS shuffles when it writes."""
    distances = [[np.abs(points - face.points).max() for points in faces.points] for face in written]
    order = np.argmin(distances, 1).tolist()
    assert sorted(order) == list(range(len(written)))
    return order


@pytest.mark.parametrize(("name", "split"), [("the300w_lp", "train"), ("aflw2k3d", "test")])
def test_68_points_are_pixels_from_zero(prepared, written, name, split):
    faces = read_tfds(name, split, root=str(prepared))
    order = find_order(faces, written[name]["train"])
    assert faces.scheme is IBUG_68
    assert faces.box_convention == "landmarks"
    assert faces.visible.all()
    for index, face in zip(order, written[name]["train"], strict=True):
        np.testing.assert_allclose(faces.points[index], face.points, atol=1e-3)
        np.testing.assert_allclose(faces.boxes[index], [*face.points.min(0), *face.points.max(0)], atol=1e-3)
        assert np.abs(faces.picture(index).astype(int) - face.image).mean() < 4  # JPEG


def test_300w_lp_has_angles_and_photos(prepared, written):
    faces = read_tfds("the300w_lp", "train", root=str(prepared))
    np.testing.assert_allclose(faces.angles, np.tile(np.float32([30, 10, 5]), (3, 1)), rtol=1e-5)
    first, second, third = (faces.photos[index] for index in find_order(faces, written["the300w_lp"]["train"]))
    assert first == second != third
    assert read_tfds("aflw2k3d", "test", root=str(prepared)).angles is None


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_celeb_a_is_read_in_its_three_splits(prepared, written, split):
    faces = read_tfds("celeb_a", split, root=str(prepared))
    assert faces.scheme is MTFL_5
    assert len(faces.attributes) == 40
    assert len(set(faces.photos)) == 2
    rounded = [np.rint(face.points) for face in written["celeb_a"][split]]
    for position, index in enumerate(find_order(faces, written["celeb_a"][split])):
        np.testing.assert_array_equal(faces.points[index], rounded[position])
        np.testing.assert_array_equal(faces.boxes[index], box_of_five_points(rounded[position][None])[0])
        assert [name for name, info in faces.attributes.items() if info[index]] == [ATTRIBUTES[position]]
        assert faces.picture(index).shape == (218, 178, 3)


@pytest.mark.parametrize(
    ("name", "split"), [("the300w_lp", "test"), ("aflw2k3d", "train"), ("celeb_a", "val"), ("celeb_a", "train[:1]")]
)
def test_an_unknown_split_is_refused(prepared, name, split):
    assert f"has no split {split!r}: it has" in refusal(name, split, prepared)


def refusal(name: str, split: str, root) -> str:
    with pytest.raises(InputError) as caught:
        read_tfds(name, split, root=str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_data_set_is_refused_with_the_command(tmp_path, name):
    message = refusal(name, "train" if name != "aflw2k3d" else "test", tmp_path)
    assert message.startswith(f"{tmp_path}: no prepared TFDS data set {name!r}")
    assert f"import build; build({name!r}, data_dir={str(tmp_path)!r}" in message
    assert ("manual_dir" in message) == name.startswith("wing_")


def test_the_default_folder_is_that_of_tfds(monkeypatch, prepared, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(read_tfds("aflw2k3d", "test")) == 2
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "tensorflow_datasets"))):
        read_tfds("aflw2k3d", "test")


def test_without_tfds_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert refusal("celeb_a", "test", "anywhere").endswith('tensorflow-datasets: pip install "wing-jax[tfdata]"')


DAMAGE = {
    "no record file": lambda folder: shard(folder).unlink(),
    "an empty record file": lambda folder: shard(folder).write_bytes(b""),
    "a truncated record": lambda folder: shard(folder).write_bytes(shard(folder).read_bytes()[:-9]),
    "an altered record": lambda folder: flip(shard(folder), 5000),
    "no features.json": lambda folder: (folder / "features.json").unlink(),
    "features.json is not JSON": lambda folder: (folder / "features.json").write_text("{"),
    "features.json lacks the points": lambda folder: rename(folder / "features.json", "landmarks_68_3d_xy", "else"),
    "points of another shape": lambda folder: rename(folder / "features.json", '"68"', '"67"'),
    "dataset_info.json is not JSON": lambda folder: (folder / "dataset_info.json").write_text("\0"),
    "dataset_info.json has no split": lambda folder: (folder / "dataset_info.json").write_text(without_splits(folder)),
    "a record declares 64 GiB": lambda folder: shard(folder).write_bytes(head(1 << 36) + bytes(1000)),
}


def shard(folder):
    return next(folder.glob("*.tfrecord*"))


def head(length: int) -> bytes:
    """Make the header of a record of `length` bytes, with its correct checksum (masked CRC-32C)."""
    content, digest = length.to_bytes(8, "little"), 0xFFFFFFFF
    for byte in content:
        digest ^= byte
        for _ in range(8):
            digest = digest >> 1 ^ (0x82F63B78 if digest & 1 else 0)
    digest ^= 0xFFFFFFFF
    return content + (((digest >> 15 | digest << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def test_the_head_of_a_record_is_as_tensorflow_writes_it(prepared):
    content = shard(prepared / "aflw2k3d" / "1.0.0").read_bytes()
    assert content[:12] == head(int.from_bytes(content[:8], "little"))


def flip(path, index: int) -> None:
    content = bytearray(path.read_bytes())
    content[index % len(content)] ^= 0x55
    path.write_bytes(content)


def rename(path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def without_splits(folder) -> str:
    info = json.loads((folder / "dataset_info.json").read_text())
    return json.dumps({key: value for key, value in info.items() if key != "splits"})


@pytest.fixture
def copy(prepared, tmp_path):
    shutil.copytree(prepared / "aflw2k3d", tmp_path / "aflw2k3d")
    return tmp_path / "aflw2k3d" / "1.0.0"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_refused(copy, damage):
    damage(copy)
    assert str(copy.parents[1]) in refusal("aflw2k3d", "test", copy.parents[1])


@pytest.mark.slow
@settings(max_examples=12)
@given(index=st.integers(0, 10**6), length=st.integers(0, 10**5) | st.none())
def test_any_damage_to_a_record_file_is_refused(prepared, tmp_path_factory, index, length):
    folder = tmp_path_factory.mktemp("fuzz") / "aflw2k3d"
    shutil.copytree(prepared / "aflw2k3d", folder)
    path = shard(folder / "1.0.0")
    flip(path, index) if length is None else path.write_bytes(path.read_bytes()[: length % path.stat().st_size])
    refusal("aflw2k3d", "test", folder.parent)


IMAGE = "tensorflow_datasets.core.features.image_feature.Image"


@pytest.mark.parametrize(
    "forge",
    [
        lambda text: text.replace(IMAGE, "wing_jax_evil.Image"),
        lambda text: text.replace(f'"pythonClassName": "{IMAGE}"', '"python_class_name": "wing_jax_evil.Image"'),
        lambda text: '{"type": "wing_jax_evil.Image", "content": {}}',
        lambda text: json.dumps(
            {
                "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
                "jsonFeature": {"json": '{"image": {"type": "wing_jax_evil.Image", "content": {}}}'},
            }
        ),
    ],
    ids=["by its name", "by protobuf's other name", "as TFDS wrote once", "in JSON within JSON"],
)
def test_no_module_named_by_the_data_is_imported(copy, tmp_path, monkeypatch, forge):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "wing_jax_evil.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()"
    )
    monkeypatch.syspath_prepend(tmp_path / "code")
    features = copy / "features.json"
    features.write_text(forge(features.read_text()))
    assert "'wing_jax_evil.Image' is not a class of TFDS" in refusal("aflw2k3d", "test", tmp_path)
    assert not list((tmp_path / "code").glob("*.ran"))


@pytest.mark.parametrize("attack", ["template", "name", "link", "feature"])
def test_no_file_outside_the_folder_is_read(copy, tmp_path, attack):
    outside = tmp_path / "outside" / shard(copy).name
    outside.parent.mkdir()
    shutil.move(shard(copy), outside)
    match attack:
        case "template":
            rename(copy / "dataset_info.json", '"{DATASET}-', '"../../outside/{DATASET}-')
        case "name":
            rename(copy / "dataset_info.json", '"name": "aflw2k3d"', '"name": "../../outside/aflw2k3d"')
        case "link":
            (copy / outside.name).symlink_to(outside)
        case _:
            rename(copy / "features.json", '"image": {\n                "image"', '"../../outside/a": {"image"')
    assert re.search("outside (the|its) folder", refusal("aflw2k3d", "test", tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38])
def test_a_face_with_a_number_that_is_not_finite_is_refused_or_listed(tmp_path, number):
    good, bad = (example("aflw2k3d", face, 0) for face in faces_of(IBUG_68, 2, 5))
    bad["landmarks_68_3d_xy_normalized"][7, 1] = number
    prepare("aflw2k3d", {"train": [good, bad]}, tmp_path)
    message = refusal("aflw2k3d", "test", tmp_path)
    assert re.match(
        r"aflw2k3d/aflw2k3d-train.tfrecord-00000-of-00001__\d: a number of this face is not finite", message
    )
    faults: list[str] = []
    assert len(read_tfds("aflw2k3d", "test", root=str(tmp_path), faults=faults)) == 1
    assert faults == [message]


def test_a_broken_picture_is_refused_when_it_is_read(tmp_path):
    values = example("aflw2k3d", faces_of(IBUG_68, 1, 5)[0], 0)
    prepare("aflw2k3d", {"train": [values | {"image": values["image"][:-40]}]}, tmp_path)
    faces = read_tfds("aflw2k3d", "test", root=str(tmp_path))
    with pytest.raises(InputError, match=r"aflw2k3d/.*__0: the image file is truncated"):
        faces.picture(0)
