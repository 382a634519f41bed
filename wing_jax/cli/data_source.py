"""The data set that an action of `wing-jax data` is about."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated, Literal

import tyro

from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import draws_faces, find_reader, load_faces, splits_of
from wing_jax.errors import InputError
from wing_jax.text import quoted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The data set in DIR, and how to read it."""

    root: Annotated[str, tyro.conf.Positional]  # folder, or an .xml, .json or .csv file
    format: str = "auto"  # a name that wing-jax data formats lists; auto: detected by the files
    images: str = ""  # folder of the pictures that a list (COCO, imglab, CSV) names; empty: where the list tells
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    boxes: str = "given"  # or by another rule of `wing_jax.data.boxes`
    # Pictures of another size than their annotation file says: report or refuse them, or move points and boxes.
    picture_size: Literal["check", "rescale"] = "check"


DRAWN = 500  # faces, where no number is asked for


def faces_to_draw(data: str, faces: int, *, usual: int = DRAWN) -> int:
    """How many faces to draw of the data set `data`: `faces`, or `usual` where that is 0; 0 of one that is taken whole.

    Raises:
      InputError: a number is asked for of another data set, which is always taken whole.
    """
    if draws_faces(data):
        return faces or usual
    if faces:
        raise InputError(f"faces={faces} is a number of faces to draw, and {quoted(data)} is taken whole: leave it out")
    return 0


def splits_in(options: Source) -> Iterator[tuple[str, FaceSet, list[str]]]:
    """(name, faces, faults) of the splits that are there."""
    name, _ = find_reader(options.format, options.root)
    complaints: list[str] = []
    found = False
    for split in splits_of(name, options.root):
        faults: list[str] = []
        try:
            faces = load_faces(
                name,
                split,
                root=options.root,
                images=options.images,
                scheme=options.scheme,
                boxes=options.boxes,
                picture_size=options.picture_size,
                faults=faults,
            )
        except InputError as error:
            complaints.append(f"split {quoted(split)}: {error}")
            continue
        found = True
        yield split, faces, faults
    if not found:
        raise InputError(complaints[0])
    for complaint in complaints:
        print(f"not there, or not readable: {complaint}", file=sys.stderr)
