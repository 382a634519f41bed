"""One door to every data set."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

from wing_jax.data import registry
from wing_jax.data.boxes import with_boxes
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import is_overlay
from wing_jax.data.packed import read_manifest
from wing_jax.data.picture_finder import folders_of_list
from wing_jax.data.picture_sizes import rescaled
from wing_jax.data.tfds.sets import NAMES as TFDS_NAMES
from wing_jax.data.tfds.sets import SPLITS as TFDS_SPLITS
from wing_jax.data.tfds.sets import read_tfds
from wing_jax.errors import InputError
from wing_jax.runtime.files import refuse_way_out, refuse_ways_out
from wing_jax.schemes import SCHEMES, Scheme, find_scheme, get_conversion
from wing_jax.text import quoted
from wing_jax.types import Visibility

WHOLE = ("", "all", "train", "test")  # what a file or folder of its own may be called as a split: it is taken whole
TEST_SEED = 10_000_019  # the synthetic test faces are never among the training faces of any usual seed


def load_faces(
    name: str,
    split: str,
    *,
    root: str = "",
    images: str = "",
    scheme: str = "",
    boxes: str = "given",
    occluded: str = "keep",
    picture_size: str = "check",
    count: int = 0,
    seed: int = 0,
    faults: list[str] | None = None,
) -> FaceSet:
    """The `split` of data set `name`: "synthetic" (`count` faces), a TFDS set, or one of `registry.FORMATS`.

    `root` is the data set's folder (or file, where the format is one); where it is empty it is looked for below the
    environment variable WING_JAX_DATA, then in `../shared/data`. `images` is the folder of the pictures that a list of
    your own names (coco, imglab, csv), where they lie elsewhere than the list says. `scheme` is a TOML file or the name
    of a published scheme: the one your own data are annotated in, and for published sets the one to convert their
    points to. `boxes` is a key of `boxes.RULES`. `occluded`="ignore" leaves points that are annotated as occluded
    out of losses and metrics, "keep" keeps those that have a position. `picture_size` says what becomes of faces whose
    pictures have another size than their annotation file says: "check" leaves them to be refused when they are cut,
    "rescale" moves their points and boxes (`picture_sizes.rescaled`). `faults` as in `records.gather`.

    Raises:
      InputError: the data set is not found or not as published.
    """
    detector = name == "w300" and boxes == "detector"
    if images and not (name in registry.FORMATS and registry.FORMATS[name].names_pictures):
        lists = ", ".join(kind for kind, form in registry.FORMATS.items() if form.names_pictures)
        raise InputError(
            f"images={images}: names the folder of pictures for lists ({lists}), not for {quoted(name)}: leave it"
        )
    faces = _read(
        name, split, root=root, images=images, scheme=scheme, count=count, seed=seed, detector=detector, faults=faults
    )
    if picture_size == "rescale":
        faces = rescaled(faces, faults=faults)
    if occluded == "ignore":
        faces = ignore_occluded(faces)
    if scheme and faces.scheme.name != (wanted := find_scheme(scheme)).name:
        faces = converted(faces, wanted)
    return with_boxes(faces, boxes)


def _read(
    name: str,
    split: str,
    *,
    root: str,
    images: str,
    scheme: str,
    count: int,
    seed: int,
    detector: bool,
    faults: list[str] | None,
) -> FaceSet:
    if name == "synthetic":
        from wing_jax.data.readers.synthetic import synthetic_faces  # who reads faces need not know how to draw them

        if split not in ("train", "test"):
            raise InputError(f"the synthetic faces have no split {quoted(split)}: they have train, test")
        return synthetic_faces(count, seed=seed if split == "train" else TEST_SEED + seed)
    if name in TFDS_NAMES:
        if root and Path(root).is_dir():
            refuse_ways_out(root)
        return read_tfds(name, split, root=root, faults=faults)
    kind = registry.FORMATS[name]
    if not kind.splits:
        if split not in WHOLE:
            raise InputError(f"{kind.title} has no split {quoted(split)}: a file or folder is taken whole (all)")
        if not root:
            raise InputError(f"data of the format {quoted(name)} need their root: give the folder or file")
        if not scheme:
            raise InputError(
                f"data of the format {quoted(name)} need their scheme: give a .toml file, or one of "
                f"{', '.join(SCHEMES)}"
            )
        if Path(root).is_dir():
            refuse_ways_out(root)
        read = functools.partial(kind.read, images=images) if images else kind.read
        folders = folders_of_list(root, images=images) if kind.names_pictures else (Path(root),)
        return _with_pictures_below(read(root, scheme=find_scheme(scheme), faults=faults), folders)
    if split not in kind.splits and name != "packed":
        raise InputError(f"{kind.title} has no split {quoted(split)}: it has {', '.join(kind.splits)}")
    if not root and not kind.folder:
        raise InputError(f"data of the format {quoted(name)} need their root: give the folder")
    folder = Path(root) if root else find_data(kind.folder)
    refuse_ways_out(folder)
    read = functools.partial(kind.read, detector=True) if detector else kind.read
    if name == "mtfl" and split == "test" and (folder.parent / "mtfl_boxes").is_dir():
        read = functools.partial(read, boxes=folder.parent / "mtfl_boxes")
    return read(folder, split, faults=faults)


def _with_pictures_below(faces: FaceSet, folders: Sequence[Path]) -> FaceSet:
    """`faces`, listed in a folder or a file. Raises InputError where a picture lies, by a link, elsewhere than below
    that folder, or those in which the file's pictures may be; or is what `wing-jax predict` drew points into."""
    inside = [Path(os.path.realpath(folder)) for folder in folders]
    for picture in faces.pictures:
        if isinstance(picture, Path):
            refuse_way_out(picture, *inside)
            if is_overlay(picture):
                raise InputError(
                    f"{picture}: wing-jax predict drew the points into this picture: put the photo in its place, or "
                    "give --images FOLDER for a list"
                )
    return faces


def splits_of(name: str, root: str | Path) -> tuple[str, ...]:
    """The splits that data set `name` may have below `root`; ("all",) where each is a file or folder of its own.

    Raises:
      InputError: `root` is no packed folder, for "packed".
    """
    if name == "packed":
        return tuple(read_manifest(root)["counts"])
    if name in TFDS_NAMES:
        return TFDS_SPLITS.get(name, ("train", "test", "private"))
    return registry.FORMATS[name].splits or ("all",)


def converted(faces: FaceSet, scheme: Scheme) -> FaceSet:
    """`faces` with the points of `scheme` told from their own, as far as they can be.

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
    """`faces` of which points annotated as occluded do not count.

    Raises:
      InputError: the data set does not say which points are occluded.
    """
    if faces.visibility is None:
        raise InputError(f"{faces.name}: does not say which points are occluded: leave data.occluded at 'keep'")
    occluded = (faces.visibility == Visibility.OCCLUDED) | (faces.visibility == Visibility.SELF_OCCLUDED)
    return dataclasses.replace(faces, visible=faces.visible & ~occluded)


def find_data(folder: str) -> Path:
    """The data set's folder below WING_JAX_DATA or `../shared/data`.

    Raises:
      InputError: it is in neither place.
    """
    places = [Path(place) for place in (os.environ.get("WING_JAX_DATA"), "../shared/data") if place]
    for place in places:
        if (place / folder).is_dir():
            return place / folder
    looked = " nor ".join(str(place / folder) for place in places)
    raise InputError(f"no data in {looked}: give --data.root FOLDER or set WING_JAX_DATA")
