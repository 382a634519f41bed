"""One door to every data set."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wing_jax.data.boxes import with_boxes
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import is_overlay
from wing_jax.data.picture_finder import folders_of_list
from wing_jax.data.picture_sizes import rescaled
from wing_jax.data.registry import AUTO, READERS, Reader, detect, listed
from wing_jax.errors import InputError
from wing_jax.runtime.files import refuse_way_out, refuse_ways_out
from wing_jax.schemes import SCHEMES, Scheme, SchemeLike, find_scheme, get_conversion
from wing_jax.text import quoted
from wing_jax.types import Visibility

WHOLE = ("", "all", "train", "test")  # what a file or folder of its own may be called as a split: it is taken whole


def load_faces(
    name: str,
    split: str = "train",
    *,
    root: str | Path = "",
    images: str | Path = "",
    scheme: SchemeLike = "",
    boxes: str = "given",
    occluded: str = "keep",
    picture_size: str = "check",
    count: int = 0,
    seed: int = 0,
    faults: list[str] | None = None,
) -> FaceSet:
    """The annotated faces of a data set, as it was published, or as you annotated them.

    >>> faces = load_faces("synthetic", "test", count=2)
    >>> len(faces), faces.points.shape, faces.picture(0).shape
    (2, (2, 68, 2), (192, 192, 3))

    Pictures are read when they are asked for. Faces that you hold in memory make a set by `FaceSet.from_arrays`.

    Args:
      name: of the data set, one of those that `wing-jax data formats` lists ("w300"); "auto": detected by the files
        below `root`. Any package can add to them by `wing_jax.register_reader`.
      split: of the data set; an annotation file or folder of your own is taken whole ("all").
      root: the data set's folder (or file, where it is one); empty: looked for below the environment variable
        WING_JAX_DATA, then in `../shared/data`.
      images: the folder of the pictures that a list of your own names (coco, imglab, csv), where they lie elsewhere
        than the list says.
      scheme: the name of a published scheme, a TOML file, or a `wing_jax.Scheme`: the one your own data are annotated
        in; for published sets the one to convert their points to.
      boxes: by which rule, a key of `wing_jax.data.boxes.RULES`.
      occluded: "keep" keeps points that are annotated as occluded where they have a position, "ignore" leaves them out
        of losses and metrics.
      picture_size: what becomes of faces whose pictures have another size than their annotation file says: "check"
        leaves them to be refused when they are cut, "rescale" moves their points and boxes.
      count: how many faces to draw, for "synthetic"; data sets that are not drawn are taken whole (0).
      seed: of the faces that are drawn.
      faults: a list that takes the message of each face that is not as it must be, which is then left out; None: the
        first one is raised.

    Returns:
      The faces, coordinates in pixels of their own pictures.

    Raises:
      InputError: there is no such data set, it is not found, or it is not as published.
    """
    name, reader = find_reader(name, root)
    wanted = find_scheme(scheme) if scheme else None
    options = {"images": str(images), "count": count, "detector": boxes == "detector"}
    if images and "images" not in reader.parameters:
        lists = ", ".join(kind for kind, other in listed([]) if other.names_pictures)
        raise InputError(
            f"images={images}: names the folder of pictures for lists ({lists}), not for {quoted(name)}: leave it"
        )
    if count and "count" not in reader.parameters:
        raise InputError(f"count={count}: is a number of faces to draw, and {quoted(name)} is taken whole: leave it")
    given = {option: value for option, value in options.items() if value} | {"seed": seed, "faults": faults}
    faces = _read(name, reader, split, root=root, scheme=wanted, options=given)
    if picture_size == "rescale":
        faces = rescaled(faces, faults=faults)
    if occluded == "ignore":
        faces = ignore_occluded(faces)
    if wanted is not None and faces.scheme.name != wanted.name:
        faces = converted(faces, wanted)
    return with_boxes(faces, boxes)


def find_reader(name: str, root: str | Path) -> tuple[str, Reader]:
    """(the name, the reader) of the data set `name`, which "auto" says is to be detected by the files below `root`.

    Raises:
      InputError: there is none.
    """
    if name == AUTO:
        if not root:
            raise InputError("data 'auto' are detected by their files: give their root, a folder or file")
        name = detect(root)
    if name not in READERS and (os.sep in name or Path(name).exists()):
        raise InputError(f"{quoted(name)} is a place, not the name of a data set: give it as root, and the name 'auto'")
    return name, READERS[name]


def draws_faces(name: str) -> bool:
    """Whether the data set `name` is drawn, as many faces as are asked for, by a seed; others are taken whole.

    Raises:
      InputError: there is no such data set.
    """
    return "count" in READERS[name].parameters


def _read(
    name: str, reader: Reader, split: str, *, root: str | Path, scheme: Scheme | None, options: dict[str, Any]
) -> FaceSet:
    own = not reader.splits  # one's own folder or file, which is taken whole
    if own and split not in WHOLE:
        raise InputError(f"{reader.title} has no split {quoted(split)}: a file or folder is taken whole (all)")
    if not own and reader.splits_of is None and split not in reader.splits:
        raise InputError(f"{reader.title} has no split {quoted(split)}: it has {', '.join(reader.splits)}")
    if not (root or reader.folder or reader.rootless):
        raise InputError(f"data {quoted(name)} need their root: give the folder{' or file' if own else ''}")
    if "scheme" in reader.parameters and scheme is None:
        raise InputError(f"data {quoted(name)} need their scheme: give a .toml file, or one of {', '.join(SCHEMES)}")
    place = root if root or reader.rootless else find_data(reader.folder)
    if place and Path(place).is_dir():
        refuse_ways_out(place)
    options = {**options, "split": split, "scheme": scheme, "root": str(place) if reader.rootless else Path(place)}
    if reader.rootless and "count" in reader.parameters:
        options.setdefault("count", 0)
    faces = reader.read(**{option: value for option, value in options.items() if option in reader.parameters})
    if not isinstance(faces, FaceSet):
        raise InputError(
            f"the reader of {quoted(name)} gives a {type(faces).__name__}, not a FaceSet: make one by "
            "FaceSet.from_arrays"
        )
    if not own:
        return faces
    folders = folders_of_list(place, images=options.get("images", "")) if reader.names_pictures else (Path(place),)
    return _with_pictures_below(faces, folders)


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
      InputError: there is no such data set, or `root` is no folder of one that tells its splits.
    """
    _, reader = find_reader(name, root)
    return reader.splits_of(str(root)) if reader.splits_of else reader.splits or ("all",)


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
