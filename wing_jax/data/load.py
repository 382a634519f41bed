"""Load the faces of any data set."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wing_jax.choices import Occluded, PictureSize
from wing_jax.data.boxes import with_boxes
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import is_overlay
from wing_jax.data.picture_finder import folders_of_list
from wing_jax.data.picture_sizes import rescale_faces
from wing_jax.data.registry import AUTO, READERS, Reader, detect, list_readers
from wing_jax.errors import InputError
from wing_jax.runtime.files import reject_outside_link, reject_outside_links
from wing_jax.runtime.parameters import check_choice
from wing_jax.schemes import SCHEMES, Scheme, SchemeLike, find_scheme, get_conversion
from wing_jax.text import quoted
from wing_jax.types import Visibility

UNSPLIT_NAMES = ("", "all", "train", "test")  # split names that mean all faces of a data set without splits


def load_faces(
    name: str,
    split: str = "train",
    *,
    root: str | Path = "",
    images: str | Path = "",
    scheme: SchemeLike = "",
    boxes: str = "given",
    occluded: Occluded = "keep",
    picture_size: PictureSize = "check",
    count: int = 0,
    seed: int = 0,
    faults: list[str] | None = None,
) -> FaceSet:
    """Load the annotated faces of a published data set or of your own data.

    >>> faces = load_faces("synthetic", "test", count=2)
    >>> len(faces), faces.points.shape, faces.picture(0).shape
    (2, (2, 68, 2), (192, 192, 3))

    Pictures are read when they are requested. `FaceSet.from_arrays` makes a set from data in memory.

    Args:
      name: the name of the data set, one that `wing-jax data formats` lists, such as "w300"; "auto" detects it from
        the files below `root`. Any package can add data sets with `wing_jax.register_reader`.
      split: the split of the data set; your own annotation file or folder has only one ("all").
      root: the folder of the data set (or its file); empty: a folder below the environment variable WING_JAX_DATA or
        in `../shared/data`.
      images: the folder of the pictures that your own list (coco, imglab, csv) names, if it differs from the list's.
      scheme: the name of a published scheme, a TOML file, or a `wing_jax.Scheme`: the scheme of your own annotation;
        for published sets the scheme to convert their points to.
      boxes: the rule for the boxes, a key of `wing_jax.data.boxes.RULES`.
      occluded: "keep" uses points that are annotated as occluded if they have a position, "ignore" excludes them from
        losses and metrics.
      picture_size: what to do if a picture does not have the size that its annotation file states: "check"
        raises an error when the face is cropped, "rescale" converts points and boxes.
      count: the number of faces to render; only for "synthetic", 0 for all others.
      seed: the random seed of the rendered faces; only for "synthetic".
      faults: a list to append the message of each invalid face to; the face is skipped. None: the first invalid
        face is an error.

    Returns:
      The faces, with coordinates in pixels of their own pictures.

    Raises:
      InputError: the name is unknown, or the files are missing or differ from the published ones.
    """
    check_choice("occluded", occluded, Occluded)
    check_choice("picture_size", picture_size, PictureSize)
    name, reader = find_reader(name, root)
    target_scheme = find_scheme(scheme) if scheme else None
    options = {"images": str(images), "count": count, "detector": boxes == "detector"}
    if images and "images" not in reader.parameters:
        lists = ", ".join(kind for kind, other in list_readers([]) if other.names_pictures)
        raise InputError(
            f"images={images}: only annotation files ({lists}) take a folder of images, not {quoted(name)}: omit it, "
            "or pass the file's format as data"
        )
    if count and "count" not in reader.parameters:
        raise InputError(f"count={count}: is only for synthetic faces: omit it for {quoted(name)}")
    reader_options = {option: value for option, value in options.items() if value} | {"seed": seed, "faults": faults}
    faces = _read(name, reader, split, root=root, scheme=target_scheme, options=reader_options)
    if picture_size == "rescale":
        faces = rescale_faces(faces, faults=faults)
    if occluded == "ignore":
        faces = ignore_occluded(faces)
    if target_scheme is not None and faces.scheme.name != target_scheme.name:
        faces = convert_points(faces, target_scheme)
    return with_boxes(faces, boxes)


def find_reader(name: str, root: str | Path) -> tuple[str, Reader]:
    """Return (the name, the reader) of the data set `name`; "auto" detects it from the files below `root`.

    Raises:
      InputError: there is no such data set.
    """
    if name == AUTO:
        if not root:
            raise InputError("name 'auto' detects the data set from its files: pass root, a folder or file")
        name = detect(root)
    if name not in READERS and (os.sep in name or Path(name).exists()):
        raise InputError(f"{quoted(name)} is a path, not the name of a data set: pass it as root, with the name 'auto'")
    return name, READERS[name]


def draws_faces(name: str) -> bool:
    """Return whether the faces of the data set `name` are rendered from a seed, in any number.

    Raises:
      InputError: there is no such data set.
    """
    return "count" in READERS[name].parameters


def _read(
    name: str, reader: Reader, split: str, *, root: str | Path, scheme: Scheme | None, options: dict[str, Any]
) -> FaceSet:
    unsplit = not reader.splits  # your own folder or file
    if unsplit and split not in UNSPLIT_NAMES:
        raise InputError(
            f"{reader.title} has no split {quoted(split)}: your own file or folder has only the split 'all'"
        )
    if not unsplit and reader.find_splits is None and split not in reader.splits:
        raise InputError(f"{reader.title} has no split {quoted(split)}: it has {', '.join(reader.splits)}")
    if not (root or reader.folder or reader.root_optional):
        raise InputError(f"data {quoted(name)} needs a root: pass its folder{' or file' if unsplit else ''}")
    if "scheme" in reader.parameters and scheme is None:
        raise InputError(f"data {quoted(name)} needs a scheme: pass a .toml file, or one of {', '.join(SCHEMES)}")
    path = root if root or reader.root_optional else find_data(reader.folder)
    if path and Path(path).is_dir():
        reject_outside_links(path)
    options = {**options, "split": split, "scheme": scheme, "root": str(path) if reader.root_optional else Path(path)}
    if reader.root_optional and "count" in reader.parameters:
        options.setdefault("count", 0)
    faces = reader.read(**{option: value for option, value in options.items() if option in reader.parameters})
    if not isinstance(faces, FaceSet):
        raise InputError(
            f"the reader of {quoted(name)} returns a {type(faces).__name__}, not a FaceSet: make one with "
            "FaceSet.from_arrays"
        )
    if not unsplit:
        return faces
    folders = folders_of_list(path, images=options.get("images", "")) if reader.names_pictures else (Path(path),)
    _check_pictures(faces, folders)
    return faces


def _check_pictures(faces: FaceSet, folders: Sequence[Path]) -> None:
    """Raise InputError if a picture is outside of `folders` through a link, or is an overlay of `wing-jax predict`."""
    inside = [Path(os.path.realpath(folder)) for folder in folders]
    for picture in faces.pictures:
        if isinstance(picture, Path):
            reject_outside_link(picture, *inside)
            if is_overlay(picture):
                raise InputError(
                    f"{picture}: wing-jax predict drew the points into this picture: replace it with the photo, or "
                    "if an annotation file names it, pass the folder of the photos as images"
                )


def find_splits(name: str, root: str | Path) -> tuple[str, ...]:
    """Return the splits that data set `name` may have below `root`; ("all",) for your own file or folder.

    Raises:
      InputError: there is no such data set, or its splits cannot be read from `root`.
    """
    _, reader = find_reader(name, root)
    return reader.find_splits(str(root)) if reader.find_splits else reader.splits or ("all",)


def convert_points(faces: FaceSet, scheme: Scheme) -> FaceSet:
    """Convert the points of `faces` to `scheme`; points that cannot be computed do not count.

    Raises:
      InputError: there is no conversion.
    """
    try:
        conversion = get_conversion(faces.scheme, scheme)
    except ValueError as error:
        raise InputError(f"{faces.name}: {error}") from error
    return dataclasses.replace(
        faces,
        name=f"{faces.name} as {scheme.name}",
        scheme=scheme,
        points=conversion.points(faces.points),
        visible=conversion.visible(faces.visible),
        visibility=None,
    )


def ignore_occluded(faces: FaceSet) -> FaceSet:
    """Return `faces` with points annotated as occluded excluded from `visible`.

    Raises:
      InputError: the data set has no annotation of occluded points.
    """
    if faces.visibility is None:
        raise InputError(f"{faces.name}: has no annotation of occluded points: use occluded='keep'")
    occluded = (faces.visibility == Visibility.OCCLUDED) | (faces.visibility == Visibility.SELF_OCCLUDED)
    return dataclasses.replace(faces, visible=faces.visible & ~occluded)


def find_data(folder: str) -> Path:
    """Return the data set's folder below WING_JAX_DATA or `../shared/data`.

    Raises:
      InputError: it is in neither of them.
    """
    parents = [Path(parent) for parent in (os.environ.get("WING_JAX_DATA"), "../shared/data") if parent]
    for parent in parents:
        if (parent / folder).is_dir():
            return parent / folder
    missing = " or ".join(str(parent / folder) for parent in parents)
    raise InputError(
        f"no data in {missing}: pass the data set's folder as root (--root FOLDER), or set WING_JAX_DATA to the folder "
        f"that contains {folder}/"
    )
