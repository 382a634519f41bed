"""Packed data sets: the square crop of each face is encoded once, so that training starts in seconds.

A packed folder has a `manifest.json` (scheme, counts, source, checksums) and for each split a `SPLIT.npz` (the
annotation, in crop pixels) and shards `SPLIT-00000-of-00002.array_record` (ArrayRecord,
https://github.com/google/array_record) with the crops as JPEG or raw RGB bytes. The crop is the face crop of training
(`wing_jax.data.face_crops`), of MARGIN times the larger box side; `crop_to_image` in the .npz transforms its pixels to
those of the original picture.
"""

import functools
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from wing_jax.data.face_crops import MARGIN, crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import Embedded, decode_image
from wing_jax.data.limits import LARGEST_COORDINATE
from wing_jax.data.picture_sizes import encoded_size
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.runtime.extras import require
from wing_jax.runtime.locks import exclusive_access
from wing_jax.schemes import SCHEMES, Scheme
from wing_jax.text import LONGEST_NAME, cut, quoted, reason
from wing_jax.types import Image

MANIFEST = "manifest.json"
FORMAT = "wing_jax packed faces"
VERSION = 1
FACES_PER_SHARD = 4096
LARGEST_SHARD = 1 << 36  # bytes; raw crops are large


def pack(
    splits: Mapping[str, FaceSet],
    folder: str | Path,
    *,
    size: int,
    quality: int,
    source: str,
    workers: int = 2,
    faces_per_shard: int = FACES_PER_SHARD,
) -> dict:
    """Write the faces of `splits` to `folder` as crops of `size` pixels, and return the manifest.

    `quality` is that of JPEG, 1 to 100, or 0 for raw bytes, which are faster to read but 15 to 25 times larger.
    `source` describes in the manifest what was packed; a file has at most `faces_per_shard` crops.

    Raises:
      InputError: `folder` is not empty (hidden files are ignored and kept), another process packs into it, or a picture
        cannot be read; no file is then written.
    """
    folder = Path(folder)
    with exclusive_access(folder, verb="packs", hint="pass another folder"):
        return _pack(
            splits, folder, size=size, quality=quality, source=source, workers=workers, faces_per_shard=faces_per_shard
        )


def check_new(folder: Path) -> None:
    """Check that `pack` can write to `folder`.

    Raises:
      InputError: it is a file, or not empty.
    """
    if folder.exists() and (not folder.is_dir() or files.find_files(folder, "*")):
        raise InputError(f"{folder}: not empty: pass a new folder to pack into")


def _pack(splits: Mapping[str, FaceSet], folder: Path, **options: Any) -> dict:
    check_new(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by an interrupted run
    partial.mkdir(parents=True)
    try:
        manifest = _write(splits, partial, **options)
        if folder.exists() and any(folder.iterdir()):  # hidden files, which are kept
            # the manifest last, because it marks the folder as complete
            for path in sorted(partial.iterdir(), key=lambda path: path.name == MANIFEST):
                path.rename(folder / path.name)
            partial.rmdir()
        else:
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _write(
    splits: Mapping[str, FaceSet],
    folder: Path,
    *,
    size: int,
    quality: int,
    source: str,
    workers: int,
    faces_per_shard: int,
) -> dict:
    first = next(iter(splits.values()))
    counts = {}
    for split, faces in splits.items():
        annotation, crops = _crop(faces, size=size, workers=workers)
        np.savez_compressed(folder / f"{split}.npz", allow_pickle=False, **annotation)
        records = [_encode(crop, quality) for crop in crops]
        _write_shards(folder, split, records, raw=quality == 0, most=faces_per_shard)
        counts[split] = len(faces)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": first.name,
        "scheme": first.scheme.to_table(),
        "box_convention": first.box_convention,
        "source": source,
        "counts": counts,
        "crop": {"size": size, "margin": MARGIN, "encoding": f"JPEG {quality}" if quality else "raw"},
        "files": {path.name: _hash(path.read_bytes()) for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


@register_reader(
    name="packed",
    title="packed by wing-jax data pack",
    patterns=(MANIFEST,),
    find_splits=lambda root: tuple(read_manifest(root)["counts"]),
)
def read_packed(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` of the packed folder `root`; its pictures are the crops, decoded when requested.

    For a set that was packed without splits, `split` is ignored. So is `faults`, which all readers accept: a packed set
    is complete or rejected.

    Raises:
      InputError: a file is missing, or differs from what `pack` wrote (by its checksum).
    """
    root = Path(root)
    manifest = read_manifest(root)
    if list(manifest["counts"]) == ["all"]:  # your own data: each split was packed separately
        split = "all"
    if split not in manifest["counts"]:
        raise InputError(f"{root}: has no split {quoted(split)}: it has {cut(', '.join(manifest['counts']))}")
    count, size = manifest["counts"][split], manifest["crop"]["size"]
    names = sorted(name for name in manifest["files"] if _belongs_to(split, name))
    for name in names:
        _verify_checksum(root / name, manifest["files"][name])
    fields = _load_fields(root / f"{split}.npz")
    shards = [root / name for name in names if name.endswith(".array_record")]
    records = [record for shard in shards for record in _read_records(shard)]
    if len(records) != count or len(fields["points"]) != count:
        raise InputError(f"{root}: {len(records)} crops, but the manifest says {count}: pack the data again")
    scheme = _parse_scheme(manifest["scheme"])
    _check_fields(fields, count, scheme.points, path=root / f"{split}.npz")
    raw = manifest["crop"]["encoding"] == "raw"
    attributes = {name.removeprefix("attribute "): fields[name] for name in fields if name.startswith("attribute ")}
    groups = {name.removeprefix("group "): tuple(fields[name].tolist()) for name in fields if name.startswith("group ")}

    def picture(index: int) -> Embedded:
        name = f"{root}: {split} face {index} ({fields['names'][index]})"
        return Embedded(name, functools.partial(_decode, records[index], name=name, raw=raw, size=size))

    return FaceSet(
        name=manifest["name"],
        scheme=scheme,
        pictures=tuple(picture(index) for index in range(count)),
        points=fields["points"],
        visible=fields["visible"],
        boxes=fields["boxes"],
        box_convention=manifest["box_convention"],
        photos=tuple(fields["photos"].tolist()),
        subsets=tuple(fields["subsets"].tolist()),
        visibility=fields.get("visibility"),
        attributes=attributes,
        groups=groups,
        poses=tuple(fields["poses"].tolist()) if "poses" in fields else None,
        angles=fields.get("angles"),
        cropped=True,
    )


def _load_fields(path: Path) -> dict[str, np.ndarray]:
    try:
        files.check_archive_size(archive := io.BytesIO(files.read_bytes(path)))
        with np.load(archive, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except files.BROKEN_ARCHIVE as error:
        raise InputError(f"{path}: corrupt ({reason(error)}): pack the data again") from error


def _check_fields(fields: dict[str, np.ndarray], count: int, points: int, *, path: Path) -> None:
    """Raise InputError if an array is missing, has another shape than `count` faces need, or has impossible values."""
    shapes = {
        "points": (count, points, 2), "visible": (count, points), "boxes": (count, 4), "visibility": (count, points),
        "angles": (count, 3),
    }  # fmt: skip
    for name in ("points", "visible", "boxes", "photos", "subsets", "names"):
        if name not in fields:
            raise InputError(f"{path}: has no {name!r}: pack the data again")
    for name, values in fields.items():
        expected = shapes.get(name, values.shape if name in ("crop_to_image", "frames") else (count,))
        if values.shape != expected:
            raise InputError(f"{path}: {name!r} is {list(values.shape)}, not {list(expected)}: pack the data again")
    for name in ("points", "boxes"):
        with np.errstate(invalid="ignore"):
            if fields[name].dtype.kind != "f" or not (np.abs(fields[name]) < LARGEST_COORDINATE).all():
                raise InputError(f"{path}: {name!r} has values beyond any picture: pack the data again")


def read_manifest(root: str | Path) -> dict:
    """Read the manifest of the packed folder `root`.

    Raises:
      InputError: there is no manifest, or it is invalid.
    """
    path = Path(root) / MANIFEST
    try:
        manifest = json.loads(files.read_text(path))
        _check_manifest(manifest)
    except OSError as error:
        raise InputError(
            f"{path}: cannot read it ({error.strerror}): pass a folder made by wing-jax data pack"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest of this version ({reason(error)}): pack the data again") from error
    return manifest


def _check_manifest(manifest: dict) -> None:
    """Raise ValueError, KeyError, TypeError or AttributeError if `_write` could not have written the manifest."""
    if manifest["format"] != FORMAT or manifest["version"] != VERSION:
        raise ValueError(f"format {quoted(manifest['format'])} version {quoted(manifest['version'])}")
    _parse_scheme(manifest["scheme"])
    for name, kind in (("name", str), ("box_convention", str), ("counts", dict), ("crop", dict), ("files", dict)):
        if not isinstance(manifest[name], kind):
            raise TypeError(f"{name} is not a {kind.__name__}")
    for name in ("name", "box_convention"):
        if len(manifest[name]) > LONGEST_NAME:
            raise ValueError(f"{name} of {len(manifest[name]):,} characters")
    numbers = [manifest["crop"]["size"], *manifest["counts"].values()]
    if not numbers[1:] or not all(type(number) is int and 0 < number < 1 << 32 for number in numbers):
        raise ValueError(f"counts {quoted(manifest['counts'])}, crop size {quoted(numbers[0])}")
    if outside := [name for name in manifest["files"] if Path(name).name != name]:
        raise ValueError(f"a file called {quoted(outside[0])}")


def _parse_scheme(table: dict) -> Scheme:
    """Return the scheme of a manifest: a published one by its name, or a custom one from its table."""
    return SCHEMES.get(table["name"]) or Scheme.from_table(table)


def _crop(faces: FaceSet, *, size: int, workers: int) -> tuple[dict[str, np.ndarray], UInt8[np.ndarray, "n s s 3"]]:
    face_crops = crop_faces(faces, size=size, workers=workers)
    annotation = {
        "points": face_crops.points,
        "visible": faces.visible,
        "boxes": face_crops.boxes,
        "crop_to_image": face_crops.crop_to_image,
        "photos": np.array(faces.photos),
        "subsets": np.array(faces.subsets),
        "names": np.array([Path(faces.picture_name(index)).name for index in range(len(faces))]),
        **{f"attribute {name}": values for name, values in faces.attributes.items()},
        **{f"group {name}": np.array(labels) for name, labels in faces.groups.items()},
    }
    optional = {"visibility": faces.visibility, "angles": faces.angles}
    optional["poses"] = None if faces.poses is None else np.array(faces.poses)
    pixels = np.asarray(face_crops.images)
    return annotation | {name: values for name, values in optional.items() if values is not None}, pixels


def _encode(crop: Image, quality: int) -> bytes:
    if not quality:
        return crop.tobytes()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return cv2.imencode(".jpg", crop[:, :, ::-1], options)[1].tobytes()


def _decode(record: bytes, *, name: str, raw: bool, size: int) -> Image:
    if raw and len(record) == 3 * size**2:
        return np.frombuffer(record, np.uint8).reshape(size, size, 3)
    image = None if raw or encoded_size(record) != (size, size) else decode_image(record, name=name)
    if image is None or image.shape != (size, size, 3):
        raise InputError(f"{name}: expected a crop of {size:,} x {size:,} pixels: pack the data again")
    return image


def _write_shards(folder: Path, split: str, records: list[bytes], *, raw: bool, most: int) -> None:
    module = _array_record()
    shards = -(-len(records) // most)
    options = "group_size:64,uncompressed" if raw else "group_size:64"  # stores what JPEGs have in common once
    with files.plain_path(folder) as plain:
        for shard in range(shards):
            path = plain / f"{split}-{shard:05}-of-{shards:05}.array_record"
            writer = module.ArrayRecordWriter(str(path), options)
            for record in records[shard * most : (shard + 1) * most]:
                writer.write(record)
            writer.close()


def _read_records(path: Path) -> list[bytes]:
    with files.plain_path(path.parent) as folder:
        reader = _array_record().ArrayRecordReader(str(folder / path.name))
        try:
            return list(reader.read_all())
        finally:
            reader.close()


def _array_record():
    return require("array_record.python.array_record_module", extra="tfdata", purpose="reading or writing packed data")


def _belongs_to(split: str, name: str) -> bool:
    return name == f"{split}.npz" or name.startswith(f"{split}-")


def _verify_checksum(path: Path, digest: str) -> None:
    try:
        content = files.read_bytes(path, largest=LARGEST_SHARD)
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror}): pack the data again") from error
    if _hash(content) != digest:
        raise InputError(f"{path}: changed since it was packed (its checksum differs): copy it or pack the data again")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
