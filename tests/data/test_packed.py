"""Packed data sets: what is read back, what training gets, and every kind of corruption."""

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from array_record.python import array_record_module
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces
from wing_jax.data.packed import pack, read_packed
from wing_jax.data.readers.w300 import read_w300
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68
from wing_jax.text import printable

SIZE = 96


@pytest.fixture(scope="module")
def faces():
    drawn = load_faces("synthetic", "train", count=6)
    return dataclasses.replace(
        drawn,
        attributes={"smiling": np.array([True, False] * 3)},
        visibility=np.random.default_rng(0).integers(0, 4, (6, 68)).astype(np.int8),
        angles=np.arange(18, dtype=np.float32).reshape(6, 3),
    )


@pytest.fixture
def folder(faces, tmp_path):
    """Four faces to train, two to test."""
    splits = {"train": faces.take(np.arange(4)), "test": faces.take(np.arange(4, 6))}
    pack(splits, tmp_path / "packed", size=SIZE, quality=90, source="drawn")
    return tmp_path / "packed"


def refusal(*arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        read_packed(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_annotation_is_read_back_exactly(folder, faces):
    for split, indices in (("train", np.arange(4)), ("test", np.arange(4, 6))):
        original, packed = faces.take(indices), read_packed(folder, split)
        face_crops = crop_faces(original, size=SIZE)
        np.testing.assert_array_equal(packed.points, face_crops.points)
        np.testing.assert_array_equal(packed.boxes, face_crops.boxes)
        np.testing.assert_array_equal(packed.visible, original.visible)
        np.testing.assert_array_equal(packed.visibility, original.visibility)
        np.testing.assert_array_equal(packed.angles, original.angles)
        np.testing.assert_array_equal(packed.attributes["smiling"], original.attributes["smiling"])
        assert packed.photos == original.photos
        assert packed.subsets == original.subsets
        assert packed.poses == original.poses
        assert packed.scheme is IBUG_68
        assert packed.box_convention == original.box_convention


def test_the_pictures_are_the_face_crops(folder, faces):
    face_crops = crop_faces(faces.take(np.arange(4)), size=SIZE)
    packed = read_packed(folder, "train")
    for index in range(4):
        difference = packed.picture(index).astype(int) - face_crops.images[index]
        assert np.sqrt((difference**2).mean()) < 6  # JPEG


def test_raw_crops_are_exact(faces, tmp_path):
    pack({"train": faces}, tmp_path / "raw", size=SIZE, quality=0, source="drawn")
    packed = read_packed(tmp_path / "raw", "train")
    np.testing.assert_array_equal(
        np.stack([packed.picture(index) for index in range(6)]), crop_faces(faces, size=SIZE).images
    )


@pytest.mark.parametrize("odd", ["x [v2] %d {a} é#", "a\\b*?", os.fsdecode(b"m\xfcller"), "a:b\nc "], ids=ascii)
def test_the_folder_may_have_any_name(faces, tmp_path, odd):
    pack({"train": faces}, tmp_path / odd, size=SIZE, quality=0, source=odd)
    packed = read_packed(tmp_path / odd, "train")
    np.testing.assert_array_equal(packed.points, crop_faces(faces, size=SIZE).points)
    assert packed.picture(5).shape == (SIZE, SIZE, 3)
    assert [path.name for path in tmp_path.iterdir()] == [odd]
    (shard,) = (tmp_path / odd).glob("*.array_record")
    shard.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        read_packed(tmp_path / odd, "train")
    assert str(caught.value).startswith(printable(str(shard)))


def test_transforms_lead_back_to_the_picture(folder, faces):
    with np.load(folder / "train.npz") as fields:
        image_points = (
            fields["points"] @ fields["crop_to_image"][:, :, :2].transpose(0, 2, 1)
            + fields["crop_to_image"][:, None, :, 2]
        )
    np.testing.assert_allclose(image_points, faces.points[:4], atol=1e-3)


def test_a_face_crop_of_a_packed_face_is_the_same(folder, faces):
    """Points of face crops from the packed set and from the picture agree to a fraction of a pixel."""
    direct, packed = crop_faces(faces.take(np.arange(4)), size=64), crop_faces(read_packed(folder, "train"), size=64)
    np.testing.assert_allclose(packed.points, direct.points, atol=1.2)
    shift = packed.points - direct.points  # only a constant shift, by the rounding of the square
    np.testing.assert_allclose(shift, shift.mean(1, keepdims=True) * np.ones_like(shift), atol=0.6)


def test_a_point_outside_the_crop_is_kept(faces, tmp_path):
    boxes = faces.boxes.copy()
    boxes[2, :2] += 0.75 * (boxes[2, 2:] - boxes[2, :2])  # a corner of the face, as from a bad detector
    pack({"train": dataclasses.replace(faces, boxes=boxes)}, tmp_path / "odd", size=48, quality=80, source="")
    packed = read_packed(tmp_path / "odd", "train")
    assert (packed.points[2] < -10).any()
    assert crop_faces(packed, size=32).points[2].min() < -6


def test_many_faces_fill_several_shards_in_order(faces, tmp_path):
    pack({"train": faces}, tmp_path / "shards", size=32, quality=0, source="drawn", faces_per_shard=4)
    assert len(list((tmp_path / "shards").glob("train-*-of-00002.array_record"))) == 2
    packed = read_packed(tmp_path / "shards", "train")
    np.testing.assert_array_equal(packed.picture(5), crop_faces(faces, size=32).images[5])


def test_a_packed_set_is_loaded_by_name(folder):
    assert len(load_faces("packed", "test", root=str(folder))) == 2
    with pytest.raises(InputError, match="needs a root: pass its folder"):
        load_faces("packed", "train")


def test_a_custom_scheme_is_stored(faces, tmp_path):
    mine = dataclasses.replace(IBUG_68, name="mine68")
    pack({"train": dataclasses.replace(faces, scheme=mine)}, tmp_path / "mine", size=32, quality=80, source="")
    assert read_packed(tmp_path / "mine", "train").scheme == mine


def test_the_manifest_describes_the_set(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == {"train": 4, "test": 2}
    assert manifest["crop"] == {"size": SIZE, "margin": 2.0, "encoding": "JPEG 90"}
    assert manifest["source"] == "drawn"
    assert len(manifest["files"]) == 4


def corrupt(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: cannot read it"),
        (
            lambda folder: (folder / "manifest.json").write_text("{"),
            "manifest.json: not a manifest of this version",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text("[]"),
            "manifest.json: not a manifest of this version",
        ),
        (lambda folder: (folder / "manifest.json").write_text('{"format": "x", "version": 1}'), "format 'x'"),
        (lambda folder: (folder / "train.npz").unlink(), "train.npz: cannot read it"),
        (lambda folder: corrupt(folder / "train.npz"), "train.npz: changed since it was packed"),
        (lambda folder: corrupt(next(folder.glob("train-*"))), "changed since it was packed"),
        (lambda folder: next(folder.glob("train-*")).write_bytes(b""), "changed since it was packed"),
        (lambda folder: next(folder.glob("train-*")).unlink(), "cannot read it"),
    ],
)
def test_corruption_is_reported_in_one_line(folder, damage, complaint):
    damage(folder)
    assert complaint in refusal(folder, "train")


CHANGES = {
    "counts": [3, {}, {"train": "many"}, {"train": -1}, {"train": 10**30}, None],
    "crop": [3, {"size": "big"}, {}, {"size": 0}],
    "files": [[], {"../../etc/passwd": ""}, {"/etc/passwd": ""}, None],
    "scheme": ["ibug68", {}, {"name": "mine"}, None],
    "name": [3],
    "version": [2],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in CHANGES.items() for value in values])
def test_an_invalid_manifest_is_rejected(folder, key, value):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {key: value}))
    assert "manifest.json: not a manifest of this version" in refusal(folder, "train")


@settings(max_examples=50)
@given(st.text(max_size=60), st.integers(0, 2000), st.integers(0, 40))
def test_any_manifest_without_files_is_rejected_in_one_line(text, place, removed):
    manifest = json.dumps({"format": "wing_jax packed faces", "version": 1, "name": "x", "scheme": {"name": "mtfl5"},
                        "box_convention": "x", "counts": {"train": 1}, "crop": {"size": 9, "encoding": "raw"},
                        "files": {"train.npz": "0"}})  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        for content in (text, manifest[: place % len(manifest)] + text + manifest[place % len(manifest) + removed :]):
            (Path(name) / "manifest.json").write_text(content, encoding="utf-8", errors="replace")
            refusal(Path(name), "train")  # its files are missing, whatever the manifest says


def test_packing_that_fails_leaves_no_files(faces, tmp_path):
    pictures = (*(faces.source(index) for index in range(5)), tmp_path / "none.jpg")
    with pytest.raises(InputError, match=r"none\.jpg"):
        pack({"train": dataclasses.replace(faces, pictures=pictures)}, tmp_path / "out", size=32, quality=80, source="")
    assert list(tmp_path.iterdir()) == []


def test_missing_splits_and_folders(folder, faces, tmp_path):
    assert "has no split 'val': it has train, test" in refusal(folder, "val")
    assert "pass a folder made by wing-jax data pack" in refusal(tmp_path / "none", "train")
    with pytest.raises(InputError, match="not empty"):
        pack({"train": faces}, folder, size=32, quality=80, source="")


def test_hidden_files_in_the_folder_are_ignored_and_kept(faces, tmp_path):
    out = tmp_path / "out"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "config").write_text("kept")
    (out / ".DS_Store").write_text("kept")
    pack({"train": faces}, out, size=32, quality=80, source="")
    assert (out / ".git" / "config").read_text() == (out / ".DS_Store").read_text() == "kept"
    assert len(read_packed(out, "train")) == len(faces)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_array_record_the_message_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    assert 'packed data needs array-record: pip install "wing-jax[tfdata]"' in refusal(folder, "train")


def read_records(folder):
    reader = array_record_module.ArrayRecordReader(str(next(folder.glob("*.array_record"))))
    yield from reader.read_all()
    reader.close()


def test_real_faces(data_root, tmp_path):
    faces = read_w300(data_root / "300w", "test").take(np.arange(0, 554, 100))
    pack({"test": faces}, tmp_path / "w300", size=224, quality=80, source="300-W")
    packed = read_packed(tmp_path / "w300", "test")
    assert packed.picture_name(0).startswith(f"{tmp_path / 'w300'}: test face 0 (")
    sides = (packed.boxes[:, 2:] - packed.boxes[:, :2]).max(1)
    np.testing.assert_allclose(sides, 112, rtol=0.01)
    assert sum(len(record) for record in read_records(tmp_path / "w300")) < 6 * 16_000


def change_packed(folder, **changes):
    """Replace arrays of `train.npz` or values of the manifest, and update the checksums."""
    manifest = json.loads((folder / "manifest.json").read_text())
    path = folder / "train.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays |= {name: value for name, value in changes.items() if name in arrays}
    np.savez(path, **arrays)
    manifest["files"]["train.npz"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["crop"] |= {name: value for name, value in changes.items() if name in manifest["crop"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"points": np.zeros((4, 5, 2), np.float32)}, "'points' is [4, 5, 2], not [4, 68, 2]"),
        ({"boxes": np.zeros((3, 4), np.float32)}, "'boxes' is [3, 4], not [4, 4]"),
        ({"photos": np.array(["a"])}, "'photos' is [1], not [4]"),
        ({"points": np.full((4, 68, 2), 1e30, np.float32)}, "'points' has values beyond any picture"),
        ({"boxes": np.full((4, 4), np.nan, np.float32)}, "'boxes' has values beyond any picture"),
        ({"points": np.zeros((4, 68, 2), "U3")}, "'points' has values beyond any picture"),
    ],
)
def test_invalid_arrays_are_rejected(folder, changes, complaint):
    change_packed(folder, **changes)
    assert complaint in refusal(folder, "train")


def test_crops_of_another_size_than_in_the_manifest_are_rejected(folder, faces, tmp_path):
    change_packed(folder, size=SIZE * 2)
    packed = read_packed(folder, "train")
    with pytest.raises(InputError, match="expected a crop of 192 x 192 pixels"):
        packed.picture(0)
    pack({"train": faces.take(np.arange(2))}, tmp_path / "raw", size=SIZE, quality=0, source="drawn")
    change_packed(tmp_path / "raw", size=2**31)
    with pytest.raises(InputError, match="expected a crop of 2,147,483,648 x 2,147,483,648 pixels"):
        read_packed(tmp_path / "raw", "train").picture(0)
